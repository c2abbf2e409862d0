"""What may be asked about: boxes, images or regions, each with the detections that speak for it.

Boxes are the detections that are still open (002, Eq. 1). Images are those that are not wholly covered. Regions are the
windows that cover the open detections at each scale (003, Algorithm 1).
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from jaxtyping import Float32, Int64

from labelwise.context import Context
from labelwise.labels.candidates import candidates
from labelwise.labels.windows import windows
from labelwise.store import files
from labelwise.types import Detections, Labels, Pool, image_of

NOWHERE = np.float32(-1)
"""Corner of a candidate that is no rectangle."""


@dataclass(frozen=True, eq=False)
class Candidates:
    """`members[offsets[i]:offsets[i + 1]]` are the detections of candidate i, numbered through `parts`.

    `row` is the number of a candidate box among all detections of the round, -1 for images and regions; `scale` is the
    number of a region's scale.
    """

    parts: tuple[Detections, ...]
    image: Int64[np.ndarray, " n"]
    row: Int64[np.ndarray, " n"]
    scale: Int64[np.ndarray, " n"]
    xyxy: Float32[np.ndarray, "n 4"]
    offsets: Int64[np.ndarray, " n+1"]
    members: Int64[np.ndarray, " m"]

    def __len__(self) -> int:
        return len(self.image)

    @cached_property
    def owner(self) -> Int64[np.ndarray, " m"]:
        """The candidate of every member."""
        return image_of(self.offsets)

    def column(self, name: str) -> np.ndarray:
        """A column of all detections, part after part."""
        return np.concatenate([np.asarray(getattr(part, name)) for part in self.parts])

    def mix(self, n_classes: int) -> Float32[np.ndarray, "n C"]:
        """Share of every class among the detections of a candidate; all 0 where it has none."""
        label = self.column("labels")[self.members]
        counts = np.bincount(self.owner * n_classes + label, minlength=len(self) * n_classes).reshape(-1, n_classes)
        shares: np.ndarray = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
        return shares.astype(np.float32)


def covered(known: Labels, pool: Pool) -> np.ndarray:
    """Whether the whole image is covered, bool [images]: nothing is left to ask there."""
    owner, rects = image_of(known.coverage.offsets), known.coverage.xyxy
    whole = (rects[:, 0] <= 0) & (rects[:, 1] <= 0)
    whole &= (rects[:, 2] >= pool.width_px[owner]) & (rects[:, 3] >= pool.height_px[owner])
    return np.bincount(owner[whole], minlength=len(pool)) > 0


def predictions(scale: float) -> str:
    """The folder of the predictions at a magnification."""
    return "predictions" if scale == 1 else f"predictions-{scale:g}"


def gather(context: Context, round: int, columns: Collection[str]) -> Candidates:
    """The candidates of a round; `columns` names the optional columns of the detections that are read."""
    unit, pool = context.run.query.unit, context.pool
    known = context.project.ledger.labels(pool)
    if unit == "region":
        return _regions(context, round, known, columns)
    found = files.read_detections(context.file(round, predictions(1)), columns=columns)
    rows = np.flatnonzero(candidates(found, known, threshold=context.run.query.threshold))
    boxes = found.take(rows)
    if unit == "box":
        every = np.arange(len(rows) + 1)
        return Candidates((boxes,), boxes.image, rows, np.zeros(len(rows), np.int64), boxes.boxes, every, every[:-1])
    image = np.flatnonzero(~covered(known, pool))
    counts = np.diff(boxes.offsets)[image]
    members = np.flatnonzero(np.isin(boxes.image, image))
    offsets = np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)
    nothing = np.full(len(image), -1)
    xyxy = np.full((len(image), 4), NOWHERE)
    return Candidates((boxes,), image, nothing, np.zeros(len(image), np.int64), xyxy, offsets, members)


def _regions(context: Context, round: int, known: Labels, columns: Collection[str]) -> Candidates:
    """Windows as large as the image at scale 1, over the open detections at every scale."""
    run, pool = context.run, context.pool
    size = np.stack([pool.width_px, pool.height_px], axis=1).astype(np.float64)
    base = run.data.image_size_px / size.max(axis=1, keepdims=True)
    window_px = np.maximum(1, np.round(size * base)).astype(np.int64)
    parts, image, number, xyxy, counts, members = [], [], [], [], [], []
    before = 0
    for k, scale in enumerate(run.query.scales):
        found = files.read_detections(context.file(round, predictions(scale)), columns=columns)
        boxes = found.take(candidates(found, known, threshold=run.query.threshold))
        to_scaled = np.maximum(1, np.round(size * base * scale)) / size
        size_px = np.round(size * to_scaled).astype(np.int64)
        scaled = boxes.boxes * np.tile(to_scaled, 2)[boxes.image].astype(np.float32)
        scaled = np.minimum(scaled, np.tile(size_px, 2)[boxes.image].astype(np.float32))  # rounding sticks out
        made = windows(boxes.offsets, scaled, size_px, window_px)
        original = made.xyxy / np.tile(to_scaled, 2)[made.image]
        xyxy.append(_snapped(original, size[made.image]))
        parts.append(boxes)
        image.append(made.image)
        number.append(np.full(len(made.image), k))
        counts.append(np.diff(made.offsets))
        members.append(made.members + before)
        before += len(boxes)
    offsets = np.concatenate([[0], np.cumsum(np.concatenate(counts))]).astype(np.int64)
    where, n = np.concatenate(image), len(offsets) - 1
    columns_of = np.full(n, -1), np.concatenate(number), np.concatenate(xyxy), offsets, np.concatenate(members)
    return Candidates(tuple(parts), where, *columns_of)


def _snapped(xyxy: np.ndarray, size: np.ndarray) -> Float32[np.ndarray, "n 4"]:
    """Inside the image, and at its border where it is less than a pixel away: a region that is the image, wholly is."""
    low = np.where(xyxy[:, :2] < 1, 0, xyxy[:, :2])
    high = np.where(xyxy[:, 2:] > size - 1, size, xyxy[:, 2:])
    return np.concatenate([low, high], axis=1).astype(np.float32)
