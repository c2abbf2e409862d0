"""The table of candidates, and what it is made of (machinery)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from jaxtyping import Float32, Float64, Int64

from labelwise.types import Detections, image_of

NOWHERE = np.float32(-1)
"""Corner of a candidate that is no rectangle."""


@dataclass(frozen=True, eq=False)
class Shard:
    """Some images of the pool, numbered from `first` on, and the detections there that are still open.

    Attributes:
        parts: the open detections at each of `scales`.
        rows: of those of the first part, their numbers among all detections of the round.
        images: those that are not wholly covered, numbered from 0.
        size_px: width and height of every image.
        image_size_px: the longest side at which the model sees an image, at scale 1.
    """

    parts: tuple[Detections, ...]
    first: int
    rows: Int64[np.ndarray, " n"]
    images: Int64[np.ndarray, " k"]
    size_px: Float64[np.ndarray, "images 2"]
    image_size_px: int
    scales: Sequence[float] = (1.0,)


@dataclass(frozen=True, eq=False)
class Candidates:
    """`members[offsets[i]:offsets[i + 1]]` are the detections of candidate i, numbered through `parts`.

    `row` is the number of a candidate box among all detections of the round, -1 for images and regions; `scale` is the
    number of a region's scale. `parts` hold the images of the pool from number `first` on. `numbers`: of every row of
    the parts, one after the other, the number of that detection, the same wherever it is a member; the stages fill it
    in.
    """

    parts: tuple[Detections, ...]
    image: Int64[np.ndarray, " n"]
    row: Int64[np.ndarray, " n"]
    scale: Int64[np.ndarray, " n"]
    xyxy: Float32[np.ndarray, "n 4"]
    offsets: Int64[np.ndarray, " n+1"]
    members: Int64[np.ndarray, " m"]
    first: int = 0
    numbers: Int64[np.ndarray, " p"] | None = None

    def __len__(self) -> int:
        return len(self.image)

    @cached_property
    def owner(self) -> Int64[np.ndarray, " m"]:
        """The candidate of every member."""
        return image_of(self.offsets)

    def column(self, name: str) -> np.ndarray:
        """A column of all detections, part after part."""
        return np.concatenate([np.asarray(getattr(part, name)) for part in self.parts])

    def members_of(self, rows: Int64[np.ndarray, " k"]) -> tuple[Int64[np.ndarray, " k+1"], Int64[np.ndarray, " m"]]:
        """Offsets and numbers of the detections of some candidates."""
        count = np.diff(self.offsets)[rows]
        offsets = np.concatenate([[0], np.cumsum(count)]).astype(np.int64)
        at = np.arange(offsets[-1]) + np.repeat(self.offsets[rows] - offsets[:-1], count)
        return offsets, self.members[at]

    def mix(self, n_classes: int) -> Float32[np.ndarray, "n C"]:
        """Share of every class among the detections of a candidate; all 0 where it has none."""
        label = self.column("labels")[self.members]
        counts = np.bincount(self.owner * n_classes + label, minlength=len(self) * n_classes).reshape(-1, n_classes)
        shares: np.ndarray = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
        return shares.astype(np.float32)


def whole_images(shard: Shard) -> Candidates:
    """Each image that is not wholly covered, with its open detections."""
    (boxes,), image = shard.parts, shard.images
    offsets = np.concatenate([[0], np.cumsum(np.diff(boxes.offsets)[image])]).astype(np.int64)
    members = np.flatnonzero(np.isin(boxes.image, image))
    n = len(image)
    columns = np.full(n, -1), np.zeros(n, np.int64), np.full((n, 4), NOWHERE), offsets, members
    return Candidates((boxes,), image + shard.first, *columns, shard.first)
