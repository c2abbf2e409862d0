"""Which box every anchor learns from, and the weighted loss terms (000, Eq. 7).

An anchor (or proposal) that matches a box is a positive: its classification and localisation costs carry that box's
`w_cls` and `w_box`. A box whose two weights are both 0 makes its anchors ignored. An unmatched anchor is a negative of
weight 1, unless it lies outside the image's `negatives` or inside its `ignore` rectangles; with `negatives =
"background"` one that overlaps a box of the image's `doubt` weighs less. Without a word about it, no box is pseudo and
nothing is in doubt.

Source: 000 section 3.2, Eq. 7.
Differs from the paper: by what the sums are divided is a setting (see `_normalise`). `|P|` counts the positives whose
weight is above 0: a box of weight 0 supervises nothing, so it must not thin out the others.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor
from torch.nn import functional
from torchvision.models.detection._utils import BoxCoder, Matcher
from torchvision.ops import box_area

from labelwise.models._normalise import Division, amount, average_of_each, count, mean_of_each
from labelwise.types import LabelwiseError

NEGATIVE, IGNORED = -1, -2
"""`rows` of an anchor that learns from no box."""
IN_DOUBT = 0.5
"""IoU from which a negative is in doubt as a box of `doubt` is."""


@dataclass(frozen=True, slots=True)
class Truth:
    """The targets of a batch, all boxes in one table; `rows` of anchors point into it."""

    boxes: Float[Tensor, "k 4"]
    labels: Int64[Tensor, " k"]
    w_cls: Float[Tensor, " k"]
    w_box: Float[Tensor, " k"]
    pseudo: Bool[Tensor, " k"]
    first: tuple[int, ...]
    negatives: tuple[Tensor | None, ...]
    ignore: tuple[Tensor | None, ...]
    doubt: tuple[tuple[Tensor, Tensor] | None, ...]


def truth_of(targets: Sequence[Mapping[str, Tensor]], sizes: Float[Tensor, "b 2"], n_classes: int) -> Truth:
    """Collects and checks the targets of a batch.

    Raises:
        LabelwiseError: a box without area, or a label that is no class.
    """
    device = sizes.device
    counts = [len(t["boxes"]) for t in targets]
    boxes = torch.cat([t["boxes"].reshape(-1, 4).to(device) for t in targets])
    labels = torch.cat([t["labels"].to(device) for t in targets])
    ones = torch.ones(len(boxes), device=device)
    weights = [
        torch.cat([t[key].to(device) if key in t else ones[: len(t["boxes"])] for t in targets])
        for key in ("w_cls", "w_box")
    ]
    pseudo = torch.cat([t["pseudo"].to(device) if "pseudo" in t else ones[: len(t["boxes"])] == 0 for t in targets])
    first = tuple(sum(counts[:i]) for i in range(len(counts) + 1))
    bad = ~(boxes[:, 2:] > boxes[:, :2]).all(1) | (labels < 0) | (labels >= n_classes)
    if bad.any():
        row = int(bad.nonzero()[0])
        image = sum(f <= row for f in first) - 1
        raise LabelwiseError(
            f"training target of image {image} of the batch, box {row - first[image]}: got {boxes[row].tolist()} with "
            f"label {int(labels[row])}; expected x1 < x2, y1 < y2 and a label of 0 to {n_classes - 1}. Run `labelwise "
            "check`"
        )
    rects = [
        tuple(_beyond_border(t[key].to(device), s) if key in t else None for t, s in zip(targets, sizes, strict=True))
        for key in ("negatives", "ignore")
    ]
    doubt = tuple((t["doubt"].to(device), t["doubt_scores"].to(device)) if "doubt" in t else None for t in targets)
    return Truth(boxes, labels, weights[0], weights[1], pseudo, first, rects[0], rects[1], doubt)


def _beyond_border(rects: Float[Tensor, "r 4"], size: Float[Tensor, " 2"]) -> Float[Tensor, "r 4"]:
    """Rectangles that reach the image's border continue outside it, where only padding lies."""
    far, slack = 1e5, 0.5
    h, w = size
    x1, y1, x2, y2 = rects.unbind(1)
    return torch.stack(
        (
            torch.where(x1 <= slack, -far, x1),
            torch.where(y1 <= slack, -far, y1),
            torch.where(x2 >= w - slack, far, x2),
            torch.where(y2 >= h - slack, far, y2),
        ),
        dim=1,
    )


def mostly_inside(boxes: Float[Tensor, "a 4"], rects: Float[Tensor, "r 4"]) -> Bool[Tensor, " a"]:
    """True for boxes with at least half of their area inside one of the rectangles.

    The union is approximated by the single best rectangle: a box on the seam of two of them counts as outside.

    >>> boxes = torch.tensor([[0.0, 0, 4, 4], [2, 0, 6, 4]])
    >>> mostly_inside(boxes, torch.tensor([[0.0, 0, 3, 4]])).tolist()
    [True, False]
    """
    if len(rects) == 0:
        return torch.zeros(len(boxes), dtype=torch.bool, device=boxes.device)
    corner = torch.minimum(boxes[:, None, 2:], rects[None, :, 2:])
    inside = (corner - torch.maximum(boxes[:, None, :2], rects[None, :, :2])).clamp_(min=0).prod(2)
    return torch.ge(inside.amax(1), 0.5 * box_area(boxes))


def iou(a: Float[Tensor, "m 4"], b: Float[Tensor, "n 4"]) -> Float[Tensor, "m n"]:
    """Intersection over union of all pairs; coordinate by coordinate, several times faster here than torchvision's.

    >>> iou(torch.tensor([[0.0, 0, 2, 2]]), torch.tensor([[1.0, 0, 3, 2]])).item()  # 2 / (4 + 4 - 2)
    0.3333333432674408
    """
    left, top, right, bottom = (column[:, None] for column in a.unbind(1))
    x1, y1, x2, y2 = b.t().contiguous()
    width = torch.minimum(right, x2).sub_(torch.maximum(left, x1)).clamp_(min=0)
    shared = torch.minimum(bottom, y2).sub_(torch.maximum(top, y1)).clamp_(min=0).mul_(width)
    return torch.div(shared, (box_area(a)[:, None] + box_area(b)).sub_(shared))


def assign(anchors: Float[Tensor, "a 4"], truth: Truth, image: int, matcher: Matcher) -> Int64[Tensor, " a"]:
    """For every anchor of one image: the row of `truth` that it matches, `NEGATIVE` or `IGNORED`."""
    first, last = truth.first[image : image + 2]
    if first == last:
        rows = torch.full((len(anchors),), NEGATIVE, device=anchors.device)
    else:
        rows = matcher(iou(truth.boxes[first:last], anchors))
        rows = torch.where(rows >= 0, rows + first, rows)
        muted = (truth.w_cls == 0) & (truth.w_box == 0)
        rows = torch.where((rows >= 0) & muted[rows.clamp(min=0)], IGNORED, rows)
    return outside(rows, anchors, truth, image)


def outside(rows: Int64[Tensor, " a"], boxes: Float[Tensor, "a 4"], truth: Truth, image: int) -> Int64[Tensor, " a"]:
    """`rows` of one image with `IGNORED` for `NEGATIVE` where a box lies outside `negatives` or inside `ignore`."""
    negatives, ignore = truth.negatives[image], truth.ignore[image]
    if negatives is not None:
        rows = torch.where((rows == NEGATIVE) & ~mostly_inside(boxes, negatives), IGNORED, rows)
    if ignore is not None and len(ignore):
        rows = torch.where((rows == NEGATIVE) & mostly_inside(boxes, ignore), IGNORED, rows)
    return rows


def weights_of(rows: Int64[Tensor, "*a"], weight: Float[Tensor, " k"]) -> Float[Tensor, "*a"]:
    """The weight of every anchor: its box's if positive, 1 if negative, 0 if ignored."""
    plain = (rows == NEGATIVE).to(weight.dtype)
    return plain if len(weight) == 0 else torch.where(rows >= 0, weight[rows.clamp(min=0)], plain)


def negative_weights(anchors: Float[Tensor, "a 4"], truth: Truth, image: int) -> Float[Tensor, " a"]:
    """What every anchor of one image weighs as a negative: 1 - the largest confidence of the boxes in doubt there.

    The box of confidence 0.3 overlaps the first anchor by 8/10, the second by 2/10:

    >>> one = {"boxes": torch.zeros(0, 4), "labels": torch.zeros(0, dtype=torch.int64)}
    >>> one |= {"doubt": torch.tensor([[0.0, 0, 10, 8]]), "doubt_scores": torch.tensor([0.3])}
    >>> truth = truth_of([one], torch.tensor([[20.0, 20]]), 1)
    >>> negative_weights(torch.tensor([[0.0, 0, 10, 10], [0, 0, 4, 4]]), truth, 0).tolist()
    [0.699999988079071, 1.0]
    """
    doubt = truth.doubt[image]
    if doubt is None or len(doubt[0]) == 0:
        return anchors.new_ones(len(anchors))
    return sureness(anchors, *doubt)


def sureness(
    boxes: Float[Tensor, "a 4"], doubt: Float[Tensor, "d 4"], scores: Float[Tensor, " d"]
) -> Float[Tensor, " a"]:
    """How probable background is at every box, when there is at least one in doubt of that confidence."""
    near = torch.ge(iou(doubt, boxes), IN_DOUBT)
    return 1 - (near * scores[:, None].to(boxes.dtype)).amax(0)


def focal_cost(
    logits: Float[Tensor, "b a c"], rows: Int64[Tensor, "b a"], labels: Int64[Tensor, " k"]
) -> Float[Tensor, "b a"]:
    """Sigmoid focal cost (alpha 0.25, gamma 2) of every anchor, summed over the classes."""
    cost = 0.75 * logits.sigmoid().square() * functional.softplus(logits)
    image, anchor = (rows >= 0).nonzero(as_tuple=True)
    hit = (image, anchor, labels[rows[image, anchor]])
    at_hit = logits[hit]
    return cost.index_put(hit, 0.25 * (-at_hit).sigmoid().square() * functional.softplus(-at_hit)).sum(2)


@dataclass(frozen=True, slots=True)
class Sampled:
    """Anchors (or proposals) in the loss: what was said of each, its row of the truth and its image."""

    cost: Float[Tensor, " n"]
    shifts: Float[Tensor, "n 4"]
    anchors: Float[Tensor, "n 4"]
    rows: Int64[Tensor, " n"]
    image: Int64[Tensor, " n"]

    def take(self, keep: Bool[Tensor, " n"]) -> Sampled:
        return Sampled(*(x[keep] for x in (self.cost, self.shifts, self.anchors, self.rows, self.image)))

    def weights(self, truth: Truth, division: Division) -> Float[Tensor, " n"]:
        """The weight of every one's classification cost."""
        weight = weights_of(self.rows, truth.w_cls)
        if division.negatives == "hard" or not any(doubt is not None for doubt in truth.doubt):
            return weight
        for image in range(len(truth.doubt)):
            mine = ((self.image == image) & (self.rows == NEGATIVE)).nonzero()[:, 0]
            weight[mine] = negative_weights(self.anchors[mine], truth, image).to(weight.dtype)
        return weight


def sampled_losses(sampled: Sampled, truth: Truth, coder: BoxCoder, division: Division) -> tuple[Tensor, Tensor]:
    """Classification and localisation loss of sampled anchors, divided as `_normalise` says of Faster R-CNN."""
    rows = sampled.rows
    positive = rows >= 0
    hit = rows[positive]
    wanted = coder.encode_single(truth.boxes[hit], sampled.anchors[positive])
    off = functional.smooth_l1_loss(sampled.shifts[positive], wanted, beta=1 / 9, reduction="none").sum(1)
    off = off * truth.w_box[hit]
    weight = sampled.weights(truth, division)
    normalise, by_weight = division.normalise, division.negatives == "background"
    if division.pseudo == "apart":
        return _apart(sampled.cost, off, weight, truth, rows, division)
    if normalise == "paper":
        cls = mean_of_each(sampled.cost, weight, positive, by_weight=by_weight)
        return cls, off.sum() / count(truth.w_box[hit] > 0)
    all_sampled = max(1, len(rows))
    if normalise == "batch" or by_weight:
        return (sampled.cost * weight).sum() / amount(weight, weight > 0, by_weight), off.sum() / all_sampled
    return (sampled.cost * weight).sum() / all_sampled, off.sum() / all_sampled


def _apart(
    cost: Float[Tensor, " n"],
    off: Float[Tensor, " p"],
    weight: Float[Tensor, " n"],
    truth: Truth,
    rows: Int64[Tensor, " n"],
    division: Division,
) -> tuple[Tensor, Tensor]:
    """Both losses of sampled anchors with pseudo boxes apart; negatives over the negatives ("paper") or the sample."""
    positive, by_weight = rows >= 0, division.negatives == "background"
    pseudo = torch.zeros_like(positive)
    pseudo[positive] = truth.pseudo[rows[positive]]
    rest = amount(weight, (weight > 0) & ~positive if division.normalise == "paper" else weight > 0, by_weight)
    cls = average_of_each(cost, weight, positive, pseudo, rest)
    used, noisy = truth.w_box[rows[positive]] > 0, pseudo[positive]
    both = ((off * group).sum() / count(used & group) for group in (~noisy, noisy))
    return cls, sum(both, start=off.new_zeros(()))


@torch.no_grad()
def own_losses(
    sampled: Sampled, n_images: int, truth: Truth, coder: BoxCoder, division: Division
) -> Float[Tensor, " b"]:
    """Every image's own loss: the sum of both as if the image were alone in its batch, without gradient."""
    alone = (sampled.take(sampled.image == i) for i in range(n_images))
    return torch.stack([torch.stack(sampled_losses(one, truth, coder, division)).sum() for one in alone])
