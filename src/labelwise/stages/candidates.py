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

from labelwise import files
from labelwise.files.round_files import again
from labelwise.project.context import Context
from labelwise.targets.open_detections import candidates
from labelwise.types import Boxes, Detections, ImageOutputs, Labels, LabelwiseError, Pool, Rects, image_of
from labelwise.units._windows import windows

PSEUDO = "pseudo_labels.parquet"
"""Of a round with a teacher: the images that it lent a class, and which."""

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


def covered(known: Labels, pool: Pool) -> np.ndarray:
    """Whether the whole image is covered, bool [images]: nothing is left to ask there."""
    owner, rects = image_of(known.coverage.offsets), known.coverage.xyxy
    whole = (rects[:, 0] <= 0) & (rects[:, 1] <= 0)
    whole &= (rects[:, 2] >= pool.width_px[owner]) & (rects[:, 3] >= pool.height_px[owner])
    return np.bincount(owner[whole], minlength=len(pool)) > 0


def predictions(scale: float) -> str:
    """The folder of the predictions at a magnification."""
    return "predictions" if scale == 1 else f"predictions-{scale:g}"


def image_outputs(context: Context, round: int) -> ImageOutputs:
    """What the model said of whole images, at scale 1."""
    found = files.read_detections(context.file(round, predictions(1)), columns=["per_image"])
    said = found.of_images(len(context.pool)).per_image
    if said is None:
        path = context.file(round, predictions(1))
        raise LabelwiseError(f"{path} holds no outputs of whole images; {again(path)}")
    return said


def in_shards(context: Context, round: int, columns: Collection[str]) -> Iterator[Candidates]:
    """The candidates of a round, shard by shard of the pool; `columns` names the optional columns of the detections.

    Memory is bounded by a shard. Images and rows are numbered through the whole pool.
    """
    run, known = context.run, context.known()
    scales = run.query.scales if run.query.unit == "region" else (1.0,)
    streams = [files.stream_detections(context.file(round, predictions(s)), columns) for s in scales]
    done = covered(known, context.pool)
    info = context.project.ledger.stage_done(round, "predict") or {}
    number_of = {name: number for number, name in enumerate(context.pool.names)}
    done[[number_of[name] for name, _ in info.get("skipped", [])]] = True  # nobody can look at what cannot be read
    done = done if run.labels.teacher is None else _or_lent(context, round, done)
    rows_before = 0
    least = 0.0 if run.classifies else run.query.threshold  # a class of an image is a candidate however unsure it is
    for shards in zip(*streams, strict=True):
        first, found = shards[0]
        part = slice(first, first + found.n_images)
        here = _slice(known, part)
        keep = [candidates(one, here, threshold=least) for _, one in shards]
        boxes = tuple(one.take(rows) for (_, one), rows in zip(shards, keep, strict=True))
        if run.query.unit == "box":
            yield _boxes(boxes[0], first, np.flatnonzero(keep[0]) + rows_before)
        elif run.query.unit == "image":
            yield _images(boxes[0], first, np.flatnonzero(~done[part]))
        else:
            size = np.stack([context.pool.width_px[part], context.pool.height_px[part]], axis=1).astype(np.float64)
            yield _regions(boxes, first, size, run.data.image_size_px, scales)
        rows_before += len(found)


def _or_lent(context: Context, round: int, done: np.ndarray) -> np.ndarray:
    """With the images whose class the teacher lent to the model that asks: "we run the auxiliary model on the remaining
    images" (001, section 3.5). Where these are fewer than the budget, all may be asked.
    """
    path, budget = context.file(round - 1, PSEUDO), context.run.budget
    lent = np.zeros(len(done), bool)
    if path.exists():
        lent[files.read_table(path)["image"]] = True
    least = budget.per_round[round - 1] if budget.unit in ("images", "boxes", "queries") else 1
    return done | lent if (~(done | lent)).sum() >= least else done


def gather(context: Context, round: int, columns: Collection[str]) -> Candidates:
    """`in_shards` as one."""
    shards = list(in_shards(context, round, columns))
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


def _slice(known: Labels, images: slice) -> Labels:
    """What is known of a range of images, numbered from its first."""

    def rects(table: Rects | Boxes) -> tuple[np.ndarray, slice]:
        offsets = table.offsets[images.start : images.stop + 1]
        return offsets - offsets[0], slice(int(offsets[0]), int(offsets[-1]))

    offsets, rows = rects(known.annotations)
    annotations = Boxes(offsets, known.annotations.xyxy[rows], known.annotations.labels[rows])
    (covers, covered_rows), (marks, marked_rows) = rects(known.coverage), rects(known.background)
    coverage = Rects(covers, known.coverage.xyxy[covered_rows])
    return Labels(annotations, coverage, Rects(marks, known.background.xyxy[marked_rows]), known.answered[images])


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
