"""Makes a balanced data set long-tailed: half of the classes lose most of their images (for study).

The thesis reserves a balanced initial set first, and thins out the rest: of n_y images of class y, n_y * IF stay, where
IF is the imbalance factor, for half of the classes. `reserve_per_class` is that initial set, so a thinned class keeps
it and n_y * IF images besides, and balanced first labels can always be drawn.

Source: 001, section 4.5.1, "Long-Tailed Datasets".
Differs from the paper: it does not say whether n_y counts the reserved images; here it does ("the original number of
training samples"), as far as there are so many. Which half of the classes is not said either: drawn, or given.
Fails when: labels are wrong, or the data set is small: n_y * IF is rounded to whole images.

>>> import numpy as np
>>> labels = np.array([0, 0, 0, 0, 1, 1, 1, 1])
>>> rows = keep(labels, 2, factor=0.25, classes=[1], rng=np.random.default_rng(0), reserve_per_class=1)
>>> rows[:4].tolist(), len(rows)  # of class 1 stay 1 (reserved) + 4 * 0.25
([0, 1, 2, 3], 6)
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from jaxtyping import Int64

from labelwise.data._frames import taken
from labelwise.types import Boxes, LabelwiseError, Pool, Rects


def keep(
    labels: Int64[np.ndarray, " n"],
    n_classes: int,
    *,
    factor: float,
    rng: np.random.Generator,
    classes: Sequence[int] | None = None,
    reserve_per_class: int = 0,
) -> Int64[np.ndarray, " kept"]:
    """Rows that stay, sorted.

    With the same generator state and the same reserve, the rows of a smaller factor are among those of a larger one.

    Args:
        labels: class of every row, 0 to n_classes - 1.
        n_classes: number of classes.
        factor: imbalance factor IF, 0 to 1: the share of a thinned class that stays beside the reserve.
        rng: draws the classes and the rows.
        classes: the classes to thin out; None: half of them (rounded down), at random.
        reserve_per_class: rows of every class that stay in any case (all, where a class has fewer).
    """
    if not 0 <= factor <= 1:
        raise LabelwiseError(f"long_tail: factor is {factor}; expected 0 to 1")
    if reserve_per_class < 0:
        raise LabelwiseError(f"long_tail: reserve_per_class is {reserve_per_class}; expected 0 or more")
    bad = np.flatnonzero((labels < 0) | (labels >= n_classes))
    if len(bad):
        raise LabelwiseError(f"long_tail: row {bad[0]} has label {labels[bad[0]]}; expected 0 to {n_classes - 1}")
    drawn = rng.choice(n_classes, n_classes // 2, replace=False) if classes is None else np.asarray(classes, np.int64)
    unknown = [int(c) for c in drawn if not 0 <= c < n_classes]
    if unknown or len(set(drawn.tolist())) < len(drawn):
        raise LabelwiseError(f"long_tail: classes {drawn.tolist()}; expected each once, 0 to {n_classes - 1}")
    stays = np.ones(len(labels), bool)
    for c in np.sort(drawn):
        rows = rng.permutation(np.flatnonzero(labels == c))
        stays[rows[reserve_per_class + round(factor * len(rows)) :]] = False
    return np.flatnonzero(stays).astype(np.int64)


def subset(pool: Pool, rows: Int64[np.ndarray, " kept"]) -> Pool:
    """The images of a pool that are named, in this order, with all that belongs to them.

    `problems` stay all: they tell of the data set, not of an image alone. Rows of a pool of videos must rise: the order
    of its images is the order of time.
    """
    rows = np.asarray(rows, np.int64)
    bad = np.flatnonzero((rows < 0) | (rows >= len(pool)))
    if len(bad):
        raise LabelwiseError(f"subset of {pool.root}: row {rows[bad[0]]}; expected 0 to {len(pool) - 1}")
    back = np.flatnonzero(np.diff(rows) <= 0)
    if pool.clips is not None and len(back):
        raise LabelwiseError(
            f"subset of {pool.root}: row {rows[int(back[0]) + 1]} comes after row {rows[int(back[0])]}; expected "
            "rising rows, because the images are frames of videos in order of time. Sort them"
        )
    truth, crowd = pool.truth, pool.crowd
    if truth is not None:
        image, box = _ragged(truth.offsets, rows)
        truth = Boxes.from_rows(image, truth.xyxy[box], truth.labels[box], len(rows))
    if crowd is not None:
        image, box = _ragged(crowd.offsets, rows)
        crowd = Rects.from_rows(image, crowd.xyxy[box], len(rows))
    return replace(
        pool,
        names=tuple(pool.names[i] for i in rows.tolist()),
        width_px=pool.width_px[rows],
        height_px=pool.height_px[rows],
        truth=truth,
        crowd=crowd,
        pixels=None if pool.pixels is None else pool.pixels[rows],
        clips=None if pool.clips is None else pool.clips.take(rows),
        frames=None if pool.frames is None else taken(pool.frames, rows),
        complete=None if pool.complete is None else pool.complete[rows],
    )


def _ragged(offsets: np.ndarray, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(new image, old box) of every box of the images `rows`."""
    count = np.diff(offsets)[rows]
    image = np.repeat(np.arange(len(rows)), count)
    within = np.arange(len(image)) - np.repeat(np.cumsum(count) - count, count)
    return image, np.repeat(offsets[:-1][rows], count) + within
