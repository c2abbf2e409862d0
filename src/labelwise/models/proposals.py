"""Boxes that hold an object of whatever class: YOLOX-nano's cells, best first, near-copies suppressed.

The longer side of every image is resized to `size_px`, its aspect kept, and grey fills the right and the bottom to a
multiple of 32. Images of one shape go through the network together, and none is filled further than it needs itself,
so that what an image gets does not hang on its neighbours.

Source: Ge et al., YOLOX, arXiv 2107.08430, section 2 (letterbox, objectness).
Differs from the paper: suppression knows no classes, no threshold of confidence cuts the list, and the margin ends at
the next multiple of 32 instead of a square.
Fails when: objects are small (below about 8 px after resizing) or dense: their cells are suppressed or come late.
Measure the recall on what is labelled before you trust it (`benchmarks/proposals.py`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Float, Int64, Shaped
from torch import Tensor
from torch.nn import functional
from torchvision.ops import batched_nms, roi_align

from labelwise.errors import LabelwiseError
from labelwise.models.yolox_network import YoloxNetwork, boxes, cells

Rank = Literal["objectness", "confidence"]
CELLS = 1000
"""Cells of an image that compete, at least: the best by score."""


@dataclass(frozen=True, slots=True)
class Proposals:
    """Of a batch of images; those of image `i` are the rows `offsets[i]:offsets[i + 1]`, best first.

    boxes: xyxy in pixels of the original image, inside it, with an area.
    scores: in 0..1, falling within an image.
    """

    offsets: Int64[Tensor, " b1"]
    boxes: Float[Tensor, "n 4"]
    scores: Float[Tensor, " n"]

    def __len__(self) -> int:
        return len(self.scores)


@torch.inference_mode()
def proposals(
    model: YoloxNetwork,
    images: Sequence[Shaped[Tensor, "3 _ _"]],
    *,
    size_px: int,
    count: int,
    nms_iou: float = 0.6,
    rank: Rank = "objectness",
    original_px: Shaped[Tensor, "b 2"] | None = None,
) -> Proposals:
    """The best `count` boxes of every image; fewer where suppression leaves fewer.

    Args:
        model: in eval mode; the work is done on its device.
        images: RGB, uint8 in 0..255 or float in 0..1, of any sizes.
        size_px: the longer side as the network sees it; an image of that size is not resized.
        count: most proposals of an image.
        nms_iou: of two boxes that overlap by more than this IoU, the better stays.
        rank: what "best" goes by: "objectness", or "confidence" = objectness times the best class. On the pool of
            fod_a objectness finds as much or more at every count, and the network need not compute the classes.
        original_px: width and height of the original images, where `images` are resized copies; None = their own.

    Ties go to the cell that comes first: stride 8 first, row by row. An equal image gets equal boxes on one machine,
    up to the last bits of the convolutions, whatever batch it comes in.

    Raises:
        LabelwiseError: a number is out of range, or an image is empty.
    """
    if size_px < 1 or count < 1 or not 0 <= nms_iou <= 1:
        raise LabelwiseError(
            f"proposals: size_px = {size_px}, count = {count}, nms_iou = {nms_iou}; expected at least 1, at least 1, "
            "0 to 1"
        )
    device = next(model.parameters()).device
    own = torch.tensor([image.shape[:0:-1] for image in images]).reshape(-1, 2)
    if (own < 1).any():
        raise LabelwiseError("proposals: an image has no pixels; leave it out")
    original = (own if original_px is None else original_px.cpu()).double()
    seen = (own * (size_px / own.amax(1, keepdim=True).double())).round().long().clamp(min=1)
    grids = -(-seen // 32) * 32
    shapes, group = torch.unique(grids, dim=0, return_inverse=True)
    kept, found, score = [], [], []
    for k, (width, height) in enumerate(shapes.tolist()):  # few: one for each shape of the padded image
        rows = torch.nonzero(group == k)[:, 0]
        batch = _letterbox([images[i] for i in rows.tolist()], seen[rows], height, width, device)
        corners, best = _best(model, batch, max(CELLS, 10 * count), rank)
        scale = (original[rows] / seen[rows]).repeat(1, 2).to(device)
        limit = original[rows].repeat(1, 2).to(device)
        found.append((corners.double() * scale[:, None]).clamp_(min=0).minimum(limit[:, None]).flatten(0, 1).float())
        score.append(best.flatten())
        kept.append(rows.to(device).repeat_interleave(best.shape[1]))
    if not found:
        return Proposals(torch.zeros(1, dtype=torch.long), torch.zeros(0, 4), torch.zeros(0))
    return _suppressed(torch.cat(kept), torch.cat(found), torch.cat(score), len(images), count, nms_iou)


def _letterbox(
    images: Sequence[Tensor], seen: Int64[Tensor, "b 2"], height: int, width: int, device: torch.device
) -> Float[Tensor, "b 3 h w"]:
    """One batch in 0..1: every image resized to its `seen` width and height, at the left and top; grey elsewhere."""
    batch = torch.full((len(images), 3, height, width), 114 / 255, device=device)
    for slot, image, (w, h) in zip(batch, images, seen.tolist(), strict=True):
        pixels = image.to(device)
        pixels = pixels.float().div_(255) if pixels.dtype == torch.uint8 else pixels.float()
        if pixels.shape[1:] != (h, w):
            pixels = functional.interpolate(pixels[None], (h, w), mode="bilinear", antialias=True)[0]
        slot[:, :h, :w] = pixels
    return batch


def _best(
    model: YoloxNetwork, batch: Float[Tensor, "b 3 h w"], most: int, rank: Rank
) -> tuple[Float[Tensor, "b k 4"], Float[Tensor, "b k"]]:
    """Boxes in pixels of the batch and scores of the best cells of every image, best first; ties by cell number."""
    outputs = model(batch, classes=rank == "confidence")
    score = outputs[..., 4] * outputs[..., 5:].amax(-1) if rank == "confidence" else outputs[..., 4]
    order = score.sort(dim=1, descending=True, stable=True).indices[:, :most]
    taken = outputs[..., :5].gather(1, order[..., None].expand(-1, -1, 5))
    grid = cells(batch.shape[2], batch.shape[3], batch.device)[order]
    return boxes(taken, grid), score.gather(1, order)


def _suppressed(
    image: Int64[Tensor, " n"],
    corners: Float[Tensor, "n 4"],
    score: Float[Tensor, " n"],
    images: int,
    count: int,
    nms_iou: float,
) -> Proposals:
    """What is left of rows that are sorted by falling score within each image.

    Suppression runs in double precision: `batched_nms` moves every image to a place of its own, and in single precision
    that would change the last bits of an IoU with the number of the image in the batch.
    """
    whole = (corners[:, 2:] > corners[:, :2]).all(1) & torch.isfinite(corners).all(1)
    image, corners, score = image[whole], corners[whole], score[whole]
    left = batched_nms(corners.double(), score.double(), image, nms_iou).sort().values  # rows in their old order
    left = left[image[left].argsort(stable=True)]
    image = image[left]
    number = torch.bincount(image, minlength=images)
    first = number.cumsum(0) - number
    among = torch.arange(len(left), device=left.device) - first[image] < count
    left, number = left[among], number.clamp(max=count)
    offsets = torch.cat((number.new_zeros(1), number.cumsum(0)))
    return Proposals(offsets, corners[left], score[left])


def crops(
    images: Sequence[Shaped[Tensor, "3 _ _"]], found: Proposals, *, size_px: int, margin: float = 1.0
) -> Float[Tensor, "n 3 s s"]:
    """The part of the image in every proposal, in 0..1, squeezed into a square: what a frozen body looks at.

    Args:
        images: those that `found` is of, at their original size, RGB, uint8 in 0..255 or float in 0..1.
        found: their proposals.
        size_px: side of the square.
        margin: the part is so many times as wide and as high as the box; what lies outside the image is black.
    """
    centre, half = (found.boxes[:, :2] + found.boxes[:, 2:]) / 2, (found.boxes[:, 2:] - found.boxes[:, :2]) / 2
    parts = torch.cat((centre - margin * half, centre + margin * half), 1)
    out = []
    for image, first, last in zip(images, found.offsets[:-1].tolist(), found.offsets[1:].tolist(), strict=True):
        pixels = image[None].float().div_(255) if image.dtype == torch.uint8 else image[None].float()
        out.append(roi_align(pixels, [parts[first:last]], (size_px, size_px), aligned=True))
    return torch.cat(out) if out else torch.zeros(0, 3, size_px, size_px)
