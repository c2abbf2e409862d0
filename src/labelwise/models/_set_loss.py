"""The set-prediction loss of DETR and its kin, weighted, for partly labelled images.

Every object is matched to one query (by the library's own matcher). A matched query's losses carry the object's `w_cls`
and `w_box`. An unmatched query is pushed to background with weight 1, except where nobody looked: it counts nothing if
less than half of its box lies in one of the image's `negatives`, if half of it lies in one of `ignore`, if it overlaps
an object of weight 0 (IoU >= 0.5), or if it is the one that would be matched to such an object: that is neither an
object nor background. One that overlaps a box of the image's `doubt` weighs less (`_weighted.sureness`).

Source: 000, Eq. 7 (weights of matched predictions); the set-prediction loss is DETR's.
Differs from the paper: 000 has no set prediction; what its anchors do, here the queries do. Sums are divided by the
objects of the batch whose weight is above 0 (`models/_weighted` says why), the cross-entropy by the class weights of
the queries that count; with several processes each divides by its own.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import cast

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor
from torch.nn import functional
from torchvision.ops import box_convert, generalized_box_iou_loss

from labelwise.models._weighted import iou, mostly_inside, sureness
from labelwise.types import LabelwiseError

Labels = Mapping[str, Tensor]
"""Of one image, boxes as (centre x, centre y, width, height) and rectangles as xyxy, all as shares of the image:
`class_labels`, `boxes`, `w_cls`, `w_box` [n]; `muted`, `muted_labels` (objects of weight 0); `negatives`, `ignore`;
`doubt` (xyxy), `doubt_scores`."""
Pairs = Sequence[tuple[Tensor, Tensor]]
"""Per image the matched queries, and the object of each."""
Matcher = Callable[[dict[str, Tensor], list[dict[str, Tensor]]], Pairs]

SAME_BOX = 0.5
FAR = 1e3


@dataclass(frozen=True, slots=True)
class FineOutput:
    """What a layer of D-FINE says of a box's four edges: logits of the bins of each edge's shift from a reference box
    (centre x, centre y, width, height), and what the last layer, its teacher, says of the same queries.
    """

    edges: Float[Tensor, "b q e"]
    reference: Float[Tensor, "b q 4"]
    teacher_edges: Float[Tensor, "b q e"]
    teacher_logits: Float[Tensor, "b q c"]


@dataclass(frozen=True, slots=True)
class LayerOutput:
    """What one layer says: logits per query and boxes as (centre x, centre y, width, height), shares of the image."""

    logits: Float[Tensor, "b q c"]
    boxes: Float[Tensor, "b q 4"]
    fine: FineOutput | None = None

    def match(self, labels: Sequence[Labels], matcher: Matcher) -> Pairs:
        """The library's assignment of objects to queries."""
        wanted = [{"class_labels": t["class_labels"], "boxes": t["boxes"]} for t in labels]
        found = matcher({"logits": self.logits, "pred_boxes": self.boxes}, wanted)
        return [(query.to(self.logits.device), thing.to(self.logits.device)) for query, thing in found]


def check(given: Sequence[Labels]) -> None:
    """Refuses labels whose weights do not fit, before anything is matched."""
    for i, label in enumerate(given):
        n = len(label["class_labels"])
        both = [label[name] for name in ("w_cls", "w_box") if name in label]
        bad = [w for w in both if w.shape != (n,) or not bool(((w >= 0) & torch.isfinite(w)).all())]
        if bad:
            raise LabelwiseError(
                f"labels of image {i} of the batch: weights {bad[0].tolist()}; expected {n} numbers >= 0"
            )
        if len(both) == 2 and bool(((both[0] == 0) & (both[1] == 0)).any()):
            raise LabelwiseError(
                f"labels of image {i} of the batch: an object of weight 0 belongs into `muted`, not into `boxes`; make "
                "the labels with labelwise.adapters.transformers.labels"
            )


def corners(boxes: Float[Tensor, "*n 4"]) -> Float[Tensor, "*n 4"]:
    """(centre x, centre y, width, height) as xyxy."""
    return cast(Tensor, box_convert(boxes, "cxcywh", "xyxy"))


def weights(labels: Sequence[Labels], name: str) -> list[Float[Tensor, " n"]]:
    """`w_cls` or `w_box` per image; 1 where there is none."""
    return [t[name] if name in t else torch.ones_like(t["class_labels"], dtype=torch.float32) for t in labels]


def endless(rects: Float[Tensor, "r 4"]) -> Float[Tensor, "r 4"]:
    """Rectangles that reach the image's border continue outside it, since predicted boxes stick out."""
    low = torch.where(rects[:, :2] <= 1e-4, -FAR, rects[:, :2])
    return torch.cat([low, torch.where(rects[:, 2:] >= 1 - 1e-4, FAR, rects[:, 2:])], dim=1)


def nobody_looked(boxes: Float[Tensor, "q 4"], label: Labels) -> Bool[Tensor, " q"]:
    """Which xyxy boxes lie where nothing may be called background.

    The left half of the image was looked at; a box in it, and one in the other half:

    >>> boxes = torch.tensor([[0.1, 0.1, 0.4, 0.9], [0.6, 0.1, 0.9, 0.9]])
    >>> nobody_looked(boxes, {"negatives": torch.tensor([[0.0, 0.0, 0.5, 1.0]])}).tolist()
    [False, True]
    """
    out = torch.zeros(len(boxes), dtype=torch.bool, device=boxes.device)
    if "negatives" in label:
        out |= ~mostly_inside(boxes, endless(label["negatives"]))
    if "ignore" in label:
        out |= mostly_inside(boxes, endless(label["ignore"]))
    if len(label.get("muted", ())):
        out |= (iou(boxes, corners(label["muted"])) >= SAME_BOX).any(dim=1)
    return out


def counted(
    said: LayerOutput, labels: Sequence[Labels], pairs: Pairs, matcher: Matcher | None, group: int | None = None
) -> Float[Tensor, "b q"]:
    """What every query's classification counts. `group`: these are denoising queries, made of `group` objects (padded)
    in turn: each, also a negative one, counts what its object does; `matcher` is then None.
    """
    b, q = said.logits.shape[:2]
    use = torch.ones((b, q), device=said.logits.device)
    for i, (label, w_cls, (query, thing)) in enumerate(zip(labels, weights(labels, "w_cls"), pairs, strict=True)):
        free = torch.ones(q, dtype=torch.bool, device=use.device)
        free[query] = False
        out = nobody_looked(corners(said.boxes[i].detach().float()), label)
        if matcher is not None and len(label.get("muted", ())) and bool(free.any()):
            rest = free.nonzero()[:, 0]
            alone = {"logits": said.logits[i : i + 1, rest], "pred_boxes": said.boxes[i : i + 1, rest]}
            muted = {"class_labels": label["muted_labels"], "boxes": label["muted"]}
            out[rest[matcher(alone, [muted])[0][0].to(rest.device)]] = True
        if group is not None and len(w_cls):
            member = torch.arange(q, device=use.device) % group
            use[i] = torch.where(member < len(w_cls), w_cls[member.clamp(max=len(w_cls) - 1)], use[i])
        use[i, free & out] = 0
        if len(label.get("doubt", ())):
            sure = sureness(corners(said.boxes[i].detach().float()), label["doubt"], label["doubt_scores"])
            use[i] = torch.where(free, use[i] * sure, use[i])
        use[i, query] = w_cls[thing].to(use.dtype)
    return use


def chosen_classes(said: LayerOutput, labels: Sequence[Labels], pairs: Pairs, background: int) -> Int64[Tensor, "b q"]:
    """The class that every query should say."""
    classes = torch.full(said.logits.shape[:2], background, dtype=torch.int64, device=said.logits.device)
    for i, (label, (query, thing)) in enumerate(zip(labels, pairs, strict=True)):
        classes[i, query] = label["class_labels"][thing].to(classes.dtype)
    return classes


def cross_entropy(
    said: LayerOutput, classes: Int64[Tensor, "b q"], use: Float[Tensor, "b q"], class_weight: Float[Tensor, " c"]
) -> Float[Tensor, ""]:
    """Softmax over the classes and "no object": weighted mean over the queries that count (DETR).

    Two queries say both classes equally, ln 2 each. The first is an object of weight 0.5, the second background (class
    weight 0.1): (0.5 ln 2 + 0.1 ln 2) / (1 + 0.1).

    >>> said = LayerOutput(torch.zeros(1, 2, 2), torch.zeros(1, 2, 4))
    >>> loss = cross_entropy(said, torch.tensor([[0, 1]]), torch.tensor([[0.5, 1.0]]), torch.tensor([1.0, 0.1]))
    >>> round(float(loss), 4), round((0.5 + 0.1) * 0.6931 / 1.1, 4)
    (0.3781, 0.3781)
    """
    cost = functional.cross_entropy(said.logits.transpose(1, 2), classes, class_weight, reduction="none")
    total = (class_weight[classes] * (use > 0)).sum()
    return (cost * use).sum() / torch.where(total > 0, total, torch.ones_like(total))


def varifocal(
    said: LayerOutput,
    labels: Sequence[Labels],
    pairs: Pairs,
    use: Float[Tensor, "b q"],
    *,
    alpha: float,
    gamma: float,
    n_objects: float,
) -> Float[Tensor, ""]:
    """Sigmoid per class towards the IoU with the matched object, over the number of objects (RT-DETR)."""
    wanted = torch.zeros_like(said.logits)
    is_class = torch.zeros_like(said.logits)
    for i, (label, (query, thing)) in enumerate(zip(labels, pairs, strict=True)):
        mine, theirs = corners(said.boxes[i, query].detach()), corners(label["boxes"][thing])
        overlap = iou(mine, theirs).diagonal().to(wanted.dtype) if len(query) else wanted.new_zeros(0)
        wanted[i, query, label["class_labels"][thing]] = overlap
        is_class[i, query, label["class_labels"][thing]] = 1
    weight = alpha * said.logits.detach().sigmoid().pow(gamma) * (1 - is_class) + wanted
    cost = functional.binary_cross_entropy_with_logits(said.logits, wanted, weight, reduction="none")
    return (cost.sum(2) * use).sum() / n_objects


def box_losses(
    said: LayerOutput, labels: Sequence[Labels], pairs: Pairs, n_objects: float
) -> tuple[Float[Tensor, ""], Float[Tensor, ""]]:
    """L1 and generalised IoU of the matched boxes, weighted by `w_box`, over the number of objects."""
    mine = torch.cat([said.boxes[i, query] for i, (query, _) in enumerate(pairs)])
    theirs = torch.cat([t["boxes"][thing] for t, (_, thing) in zip(labels, pairs, strict=True)]).to(mine.dtype)
    w_box = torch.cat([w[thing] for w, (_, thing) in zip(weights(labels, "w_box"), pairs, strict=True)])
    l1 = functional.l1_loss(mine, theirs, reduction="none").sum(1)
    giou = generalized_box_iou_loss(corners(mine), corners(theirs), reduction="none")
    return (l1 * w_box).sum() / n_objects, (giou * w_box).sum() / n_objects


def number_of(labels: Sequence[Labels], name: str) -> float:
    """How many objects have a weight above 0, at least 1: what a loss is divided by."""
    return max(1.0, float(sum((w > 0).sum() for w in weights(labels, name))))
