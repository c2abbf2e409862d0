"""SimOTA: which box every cell of YOLOX learns from, by what the model says at the moment.

A cell is a candidate of a box if its centre lies in the box or within 2.5 cells of the box's centre. A candidate costs
the binary cross entropy of its confidence in every class, plus 3 times -log of the IoU of its predicted box. A box
takes its k cheapest candidates, k being the sum of its ten highest IoUs, at least 1; those whose centre lies both in
the box and near its centre come first. A cell that several boxes take is of the one that it costs least.

The weights of boxes play no part, but for those whose two weights are both 0: what they take is ignored, as is a cell
whose predicted box overlaps one of them by IoU 0.5. Every other cell is a negative, unless its predicted box lies
outside the image's `negatives` or inside its `ignore` rectangles.

Source: Ge et al., YOLOX, arXiv 2107.08430, section 2.1, SimOTA; radius, weight and ten IoUs as in the authors' code.
Differs from the paper: of a cell that several boxes take, the authors' code asks all boxes of the image, not these
alone.
Fails when: predictions are far off, as in the first steps of a training from scratch: k is then 1.
"""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor
from torch.nn import functional

from labelwise.models import _weighted
from labelwise.models._weighted import IGNORED, NEGATIVE, Truth

RADIUS_CELLS = 2.5
IOUS = 10
LOCALISATION = 3.0
"""Weight of the localisation in the cost, lambda."""
FAR = 1e5
"""What a candidate costs more whose centre is not both in the box and near its centre."""
MUTED_IOU = 0.5


@torch.no_grad()
def assign(
    predicted: Float[Tensor, "b a 4"],
    objectness: Float[Tensor, "b a"],
    classes: Float[Tensor, "b a c"],
    grid: Float[Tensor, "a 3"],
    truth: Truth,
) -> Int64[Tensor, "b a"]:
    """For every cell of every image: the row of `truth` that it learns from, `NEGATIVE` or `IGNORED`.

    `predicted`: the boxes that the cells say. `objectness`, `classes`: logits. `grid`: left, top and stride of a cell.
    """
    n_images, n_cells = objectness.shape
    rows = torch.full((n_images * n_cells,), NEGATIVE, device=objectness.device)
    if len(truth.boxes):
        counts = torch.tensor(truth.first, device=rows.device).diff()
        image = torch.repeat_interleave(torch.arange(n_images, device=rows.device), counts)
        sure, possible = near(truth.boxes, grid)
        box, cell = possible.nonzero(as_tuple=True)
        at = image[box] * n_cells + cell
        overlap = iou_of_pairs(truth.boxes[box], predicted.flatten(0, 1)[at])
        cost = _confidence_cost(objectness.flatten(), classes.flatten(0, 1), at, truth.labels[box])
        cost = cost - LOCALISATION * overlap.clamp(min=1e-8).log() + FAR * ~sure[box, cell]
        taken = _cheapest(overlap, cost, box, cell, possible.shape)
        box, at, cost = box[taken], at[taken], cost[taken]
        order = cost.argsort(stable=True)
        order = order[at[order].argsort(stable=True)]
        first = torch.ones_like(order, dtype=torch.bool)
        first[1:] = at[order].diff() > 0
        rows[at[order[first]]] = box[order[first]]
    return torch.stack([_settled(mine, predicted[i], truth, i) for i, mine in enumerate(rows.view(n_images, n_cells))])


def near(boxes: Float[Tensor, "k 4"], grid: Float[Tensor, "a 3"]) -> tuple[Bool[Tensor, "k a"], Bool[Tensor, "k a"]]:
    """Of every box the cells whose centre lies in it and near its centre, and those for which one of the two holds."""
    stride = grid[:, 2]
    x, y = grid[:, 0] + stride / 2, grid[:, 1] + stride / 2
    x1, y1, x2, y2 = (column[:, None] for column in boxes.unbind(1))
    inside = (x > x1) & (x < x2) & (y > y1) & (y < y2)
    reach = RADIUS_CELLS * stride
    centred = ((x - (x1 + x2) / 2).abs() < reach) & ((y - (y1 + y2) / 2).abs() < reach)
    return inside & centred, inside | centred


def iou_of_pairs(a: Float[Tensor, "n 4"], b: Float[Tensor, "n 4"]) -> Float[Tensor, " n"]:
    """Intersection over union row by row; differentiable. One of the two must have an area.

    >>> iou_of_pairs(torch.tensor([[0.0, 0, 2, 2]]), torch.tensor([[1.0, 0, 3, 2]])).item()
    0.3333333432674408
    """
    sides = torch.minimum(a[:, 2:], b[:, 2:]) - torch.maximum(a[:, :2], b[:, :2])
    shared = sides.clamp(min=0).prod(1)
    areas = (a[:, 2:] - a[:, :2]).prod(1) + (b[:, 2:] - b[:, :2]).prod(1)
    return shared / (areas - shared)


def _confidence_cost(
    objectness: Float[Tensor, " m"], classes: Float[Tensor, "m c"], at: Int64[Tensor, " p"], label: Int64[Tensor, " p"]
) -> Float[Tensor, " p"]:
    """Binary cross entropy of the root of objectness times class, summed over the classes, cells `at` of a class."""
    found, place = torch.unique(at, return_inverse=True)
    confidence = (classes[found].sigmoid() * objectness[found].sigmoid()[:, None]).sqrt()
    none = functional.binary_cross_entropy(confidence, torch.zeros_like(confidence), reduction="none")
    said = confidence[place, label]
    one = functional.binary_cross_entropy(said, torch.ones_like(said), reduction="none")
    return none.sum(1)[place] - none[place, label] + one


def _cheapest(
    overlap: Float[Tensor, " p"],
    cost: Float[Tensor, " p"],
    box: Int64[Tensor, " p"],
    cell: Int64[Tensor, " p"],
    shape: tuple[int, ...],
) -> Bool[Tensor, " p"]:
    """Which of the pairs of box and cell are among the k cheapest of their box."""
    most = min(IOUS, shape[1])
    table = overlap.new_zeros(shape).index_put((box, cell), overlap)
    k = table.topk(most, dim=1).values.sum(1).int().clamp(min=1)
    table = cost.new_full(shape, torch.inf).index_put((box, cell), cost)
    column = table.topk(most, dim=1, largest=False).indices
    taken = torch.zeros(shape, dtype=torch.bool, device=box.device)
    taken.scatter_(1, column, torch.arange(most, device=box.device) < k[:, None])
    return taken[box, cell]


def _settled(
    rows: Int64[Tensor, " a"], predicted: Float[Tensor, "a 4"], truth: Truth, image: int
) -> Int64[Tensor, " a"]:
    """The rows of one image, with what is ignored."""
    first, last = truth.first[image : image + 2]
    muted = (truth.w_cls == 0) & (truth.w_box == 0)
    if muted[first:last].any():
        rows = torch.where((rows >= 0) & muted[rows.clamp(min=0)], IGNORED, rows)
        over = _weighted.iou(truth.boxes[first:last][muted[first:last]], predicted).amax(0) >= MUTED_IOU
        rows = torch.where((rows == NEGATIVE) & over, IGNORED, rows)
    return _weighted.outside(rows, predicted, truth, image)
