"""What may be asked about: boxes, images or regions, each with the detections that speak for it.

Boxes are the detections that are still open (002, Eq. 1). Images are those that are not wholly covered. Regions are the
windows that cover the open detections at each scale (003, Algorithm 1).
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from jaxtyping import Float32, Int64

from labelwise.project.round import Round
from labelwise.targets.open_detections import candidates
from labelwise.types import Detections, image_of
from labelwise.units._windows import windows

NOWHERE = np.float32(-1)
"""Corner of a candidate that is no rectangle."""


@dataclass(frozen=True, eq=False)
class Candidates:
    """`members[offsets[i]:offsets[i + 1]]` are the detections of candidate i, numbered through `parts`.

    `row` is the number of a candidate box among all detections of the round, -1 for images and regions; `scale` is the
    number of a region's scale. `parts` hold the images of the pool from number `first` on.
    """

    parts: tuple[Detections, ...]
    image: Int64[np.ndarray, " n"]
    row: Int64[np.ndarray, " n"]
    scale: Int64[np.ndarray, " n"]
    xyxy: Float32[np.ndarray, "n 4"]
    offsets: Int64[np.ndarray, " n+1"]
    members: Int64[np.ndarray, " m"]
    first: int = 0

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


def in_shards(now: Round, columns: Collection[str]) -> Iterator[Candidates]:
    """The candidates of a round, shard by shard of the pool; `columns` names the optional columns of the detections.

    Memory is bounded by a shard. Images and rows are numbered through the whole pool.
    """
    run, known, pool = now.run, now.known, now.pool
    scales = run.query.scales if run.query.unit == "region" else (1.0,)
    done = _done(now)
    rows_before = 0
    least = 0.0 if run.classifies else run.query.threshold  # a class of an image is a candidate however unsure it is
    for shards in zip(*(now.shards(columns, scale) for scale in scales), strict=True):
        first, found = shards[0]
        part = slice(first, first + found.n_images)
        here = known.of_images(part)
        keep = [candidates(one, here, threshold=least) for _, one in shards]
        boxes = tuple(one.take(rows) for (_, one), rows in zip(shards, keep, strict=True))
        if run.query.unit == "box":
            yield _boxes(boxes[0], first, np.flatnonzero(keep[0]) + rows_before)
        elif run.query.unit == "image":
            yield _images(boxes[0], first, np.flatnonzero(~done[part]))
        else:
            size = np.stack([pool.width_px[part], pool.height_px[part]], axis=1).astype(np.float64)
            yield _regions(boxes, first, size, run.data.image_size_px, scales)
        rows_before += len(found)


def _done(now: Round) -> np.ndarray:
    """The images that are not asked about, bool [images]: wholly labelled, or unreadable when they were predicted.

    With the images whose class the teacher lent to the model that asks: "we run the auxiliary model on the remaining
    images" (001, section 3.5). Where these are fewer than the budget, all may be asked.
    """
    done, number_of = now.covered.copy(), now.pool.number_of
    predict = now.ledger.stage_done(now.number, "predict") or {}
    done[[number_of[name] for name, _ in predict.get("skipped", [])]] = True
    if now.run.labels.teacher is None:
        return done
    lent = np.zeros(len(done), bool)
    lent[now.before.pseudo_labels["image"]] = True
    least = now.budget if now.budget_unit in ("images", "boxes", "queries") else 1
    return done | lent if (~(done | lent)).sum() >= least else done


def gather(now: Round, columns: Collection[str]) -> Candidates:
    """`in_shards` as one."""
    shards = list(in_shards(now, columns))
    starts = np.cumsum([0, *(sum(map(len, shard.parts)) for shard in shards)])
    counts = np.concatenate([np.diff(shard.offsets) for shard in shards])

    def joined(name: str) -> np.ndarray:
        return np.concatenate([getattr(shard, name) for shard in shards])

    return Candidates(
        parts=tuple(part for shard in shards for part in shard.parts),
        image=joined("image"),
        row=joined("row"),
        scale=joined("scale"),
        xyxy=joined("xyxy"),
        offsets=np.concatenate([[0], np.cumsum(counts)]).astype(np.int64),
        members=np.concatenate([shard.members + start for shard, start in zip(shards, starts[:-1], strict=True)]),
    )


def _boxes(boxes: Detections, first: int, rows: np.ndarray) -> Candidates:
    every = np.arange(len(boxes) + 1)
    nothing = np.zeros(len(boxes), np.int64)
    return Candidates((boxes,), boxes.image + first, rows, nothing, boxes.boxes, every, every[:-1], first)


def _images(boxes: Detections, first: int, image: np.ndarray) -> Candidates:
    offsets = np.concatenate([[0], np.cumsum(np.diff(boxes.offsets)[image])]).astype(np.int64)
    members = np.flatnonzero(np.isin(boxes.image, image))
    n = len(image)
    xyxy = np.full((n, 4), NOWHERE)
    return Candidates((boxes,), image + first, np.full(n, -1), np.zeros(n, np.int64), xyxy, offsets, members, first)


def _regions(
    parts: tuple[Detections, ...], first: int, size: np.ndarray, image_size_px: int, scales: Sequence[float]
) -> Candidates:
    """Windows as large as the image at scale 1, over the open detections at every scale."""
    base = image_size_px / size.max(axis=1, keepdims=True)
    window_px = np.maximum(1, np.round(size * base)).astype(np.int64)
    image, number, xyxy, counts, members = [], [], [], [], []
    before = 0
    for k, (boxes, scale) in enumerate(zip(parts, scales, strict=True)):
        to_scaled = np.maximum(1, np.round(size * base * scale)) / size
        size_px = np.round(size * to_scaled).astype(np.int64)
        scaled = boxes.boxes * np.tile(to_scaled, 2)[boxes.image].astype(np.float32)
        scaled = np.minimum(scaled, np.tile(size_px, 2)[boxes.image].astype(np.float32))  # rounding sticks out
        made = windows(boxes.offsets, scaled, size_px, window_px)
        original = made.xyxy / np.tile(to_scaled, 2)[made.image]
        xyxy.append(_snapped(original, size[made.image]))
        image.append(made.image + first)
        number.append(np.full(len(made.image), k))
        counts.append(np.diff(made.offsets))
        members.append(made.members + before)
        before += len(boxes)
    offsets = np.concatenate([[0], np.cumsum(np.concatenate(counts))]).astype(np.int64)
    where, n = np.concatenate(image), len(offsets) - 1
    columns_of = np.full(n, -1), np.concatenate(number), np.concatenate(xyxy), offsets, np.concatenate(members)
    return Candidates(parts, where, *columns_of, first)


def _snapped(xyxy: np.ndarray, size: np.ndarray) -> Float32[np.ndarray, "n 4"]:
    """Inside the image, and at its border where it is less than a pixel away: a region that is the image, wholly is."""
    low = np.where(xyxy[:, :2] < 1, 0, xyxy[:, :2])
    high = np.where(xyxy[:, 2:] > size - 1, size, xyxy[:, 2:])
    return np.concatenate([low, high], axis=1).astype(np.float32)
