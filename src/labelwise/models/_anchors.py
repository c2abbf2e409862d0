"""Anchors of a padded batch, and from scored boxes to the candidates of every image.

Suppression is class-agnostic: one object gives one candidate that keeps its class distribution (DESIGN section 7).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor, nn
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.ops import batched_nms

from labelwise.types import LabelwiseError


class Anchors(nn.Module):
    """torchvision's anchors, kept per size of the batch; every level has the same shapes at its own base size."""

    def __init__(self, sizes: Sequence[int], per_octave: int, ratios: Sequence[float]) -> None:
        super().__init__()
        scaled = tuple(tuple(int(size * 2 ** (i / per_octave)) for i in range(per_octave)) for size in sizes)
        self.generator = AnchorGenerator(scaled, (tuple(ratios),) * len(scaled))
        self.per_location = per_octave * len(ratios)
        self._kept: dict[tuple[object, ...], Tensor] = {}

    def forward(
        self, image_size: tuple[int, int], grids: Sequence[tuple[int, int]], like: Tensor
    ) -> Float[Tensor, "a 4"]:
        """All levels one after the other; within a level row by row, all anchors of a location together."""
        key = (image_size, tuple(grids), like.device)
        if key not in self._kept:
            if len(self._kept) >= 32:  # batches of ever new sizes
                self._kept.clear()
            self.generator.set_cell_anchors(torch.float32, like.device)
            strides = [
                [torch.tensor(side // cells, device=like.device) for side, cells in zip(image_size, grid, strict=True)]
                for grid in grids
            ]
            self._kept[key] = torch.cat(self.generator.grid_anchors([list(grid) for grid in grids], strides))
        return self._kept[key]


def flatten_levels(maps: Sequence[Float[Tensor, "b _ _ _"]], width: int) -> Float[Tensor, "b a w"]:
    """Predictions of all levels as rows of `width` numbers, in the order of `Anchors`; float32 at least."""
    rows = [m.permute(0, 2, 3, 1).reshape(len(m), -1, width) for m in maps]
    return full(torch.cat(rows, dim=1))


def full(x: Float[Tensor, "*_"]) -> Float[Tensor, "*_"]:
    """Half precision to float32; what is finer stays."""
    return x.to(torch.promote_types(x.dtype, torch.float32))


def last(layer: Callable[[Tensor], Any], x: Tensor) -> Any:
    """What a last layer says, in float32 under autocast too: bf16 has so few numbers that confidences would be ties."""
    if not torch.is_autocast_enabled(x.device.type):
        return layer(x)
    with torch.autocast(x.device.type, enabled=False):
        return layer(full(x))


def dropout(kind: type[nn.Dropout] | type[nn.Dropout2d], share: float) -> nn.Module:
    """That layer, or none at all for a share of 0, so that nothing is drawn."""
    if not 0 <= share < 1:
        raise LabelwiseError(f"dropout = {share}: expected 0 <= dropout < 1")
    return kind(share) if share else nn.Identity()


def clip(boxes: Float[Tensor, "n 4"], image: Int64[Tensor, " n"], sizes: Float[Tensor, "b 2"]) -> Float[Tensor, "n 4"]:
    """Boxes cut to their image."""
    return boxes.clamp(min=0).minimum(sizes.flip(1).repeat(1, 2)[image])


def has_area(boxes: Float[Tensor, "n 4"], smallest: float = 1e-2) -> Bool[Tensor, " n"]:
    """True where both sides are at least `smallest` pixels."""
    return (boxes[:, 2:] - boxes[:, :2]).amin(1).ge(smallest)


def tightness(boxes: Float[Tensor, "n 4"], origins: Float[Tensor, "n 4"]) -> Float[Tensor, " n"]:
    """IoU of every box with the proposal or anchor that it came from, row by row, in 0..1 (localisation tightness).

    A box that took over the right half of its 4 x 4 origin and as much beside it, 8 / (16 + 16 - 8):

    >>> tightness(torch.tensor([[2.0, 0, 6, 4]]), torch.tensor([[0.0, 0, 4, 4]])).item()
    0.3333333432674408
    """
    sides = torch.minimum(boxes[:, 2:], origins[:, 2:]) - torch.maximum(boxes[:, :2], origins[:, :2])
    shared = sides.clamp(min=0).prod(1)
    areas = [(b[:, 2:] - b[:, :2]).prod(1) for b in (boxes, origins)]
    return (shared / (areas[0] + areas[1] - shared)).clamp(0, 1)


def best_of(
    boxes: Float[Tensor, "n 4"],
    scores: Float[Tensor, " n"],
    image: Int64[Tensor, " n"],
    *,
    nms_iou: float,
    most: int,
    group: Int64[Tensor, " n"] | None = None,
) -> Int64[Tensor, " m"]:
    """Rows that survive suppression, at most `most` per image: images in order, within one by falling score.

    Boxes suppress each other only within an image, or, where `group` is given, within a group of it.
    """
    kept: Tensor = batched_nms(boxes, scores, image if group is None else group, nms_iou)
    kept = kept[image[kept].argsort(stable=True)]
    owner = image[kept]
    rank = torch.arange(len(kept), device=kept.device) - torch.searchsorted(owner, owner)
    return kept[rank < most]


def per_image(
    columns: dict[str, Tensor], image: Int64[Tensor, " n"], whole: dict[str, Tensor]
) -> list[dict[str, Tensor]]:
    """Columns of all images, sorted by image, and what is one row per image (`whole`), as one dict per image."""
    n_images = len(next(iter(whole.values())))
    counts = torch.bincount(image, minlength=n_images).tolist()
    split: dict[str, Sequence[Tensor]] = {name: torch.split(column, counts) for name, column in columns.items()}
    return [{name: parts[i] for name, parts in (split | whole).items()} for i in range(n_images)]
