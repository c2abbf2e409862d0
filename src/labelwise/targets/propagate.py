"""Labelled frames lend their boxes to the frames around them: tracked pseudo labels.

Source: our own, from the temporal coherence of 001, section 2.3.2 ("nearby frames are expected to contain the same
instances in nearby locations"); the document uses it to choose frames, not to train on them.

A frame that is wholly labelled and has at least one box lends its boxes, moved by the tracks, to the neighbours that
nobody labelled; a frame within reach of several takes those of the nearest (of two as near: of the earlier). It becomes
a training image of its own, whose boxes have the weight `weight` and which is negative elsewhere.
Fails when: an object enters the picture in a neighbouring frame: there it is taken for background; keep `frames` small.

>>> known = Labels(Boxes.from_rows(np.array([0]), np.array([[0, 0, 4, 4]]), np.array([1]), 2),
...     Rects.from_rows(np.array([0]), np.array([[0, 0, 9, 9]]), 2), Rects.empty(2), np.array([True, False]))
>>> tracks = Tracks(np.array([[-1, 1]]), np.array([[[0, 0, 0, 0], [1, 0, 5, 4]]], np.float32))
>>> lent = propagate(known, tracks, np.array([0]), np.array([9, 9]), np.array([9, 9]), weight=0.5)
>>> lent.images.tolist(), lent.boxes.tolist(), lent.labels.tolist(), lent.w_cls.tolist()
([1], [[1.0, 0.0, 5.0, 4.0]], [1], [0.5])
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Bool, Int64

from labelwise.types import ORIGIN_PSEUDO, Boxes, Labels, LabelwiseError, Rects, Targets, Tracks, offsets_of


def lenders(known: Labels, whole: Bool[np.ndarray, " images"]) -> tuple[Boxes, Int64[np.ndarray, " n"]]:
    """The boxes of the frames that lend (wholly covered and not empty), and which annotations they are."""
    table = known.annotations
    rows = np.flatnonzero(whole[table.image])
    return Boxes(offsets_of(table.image[rows], len(whole)), table.xyxy[rows], table.labels[rows]), rows


def propagate(
    known: Labels,
    tracks: Tracks,
    rows: Int64[np.ndarray, " n"],
    width_px: Int64[np.ndarray, " images"],
    height_px: Int64[np.ndarray, " images"],
    *,
    weight: float = 0.5,
) -> Targets:
    """Training entries for the unlabelled neighbours.

    Args:
        known: what has been answered.
        tracks: of the boxes that are lent.
        rows: which annotations these are, one per track.
        width_px: widths of the pool's images.
        height_px: heights.
        weight: of every lent box in both losses, in (0, 1].
    """
    if not 0 < weight <= 1:
        raise LabelwiseError(f"propagate: weight is {weight}; expected a number above 0, at most 1")
    n = len(known.answered)
    table = known.annotations
    labelled = known.answered | (np.diff(table.offsets) > 0) | (np.diff(known.coverage.offsets) > 0)
    row, column = np.nonzero(tracks.image >= 0)
    to, source = tracks.image[row, column], table.image[rows[row]]
    free = ~labelled[to]
    row, column, to, source = row[free], column[free], to[free], source[free]
    nearest = np.lexsort((source, np.abs(tracks.steps[column]), to))
    lender = np.full(n, -1)
    first = np.append(True, np.diff(to[nearest]) != 0)[: len(nearest)]
    lender[to[nearest][first]] = source[nearest][first]
    keep = np.flatnonzero(lender[to] == source)
    keep = keep[np.argsort(to[keep], kind="stable")]
    images, boxes = np.unique(to[keep]), tracks.boxes[row[keep], column[keep]]
    size = np.stack([width_px[images], height_px[images]], axis=1).astype(np.float32)
    windows = np.concatenate([np.zeros_like(size), size], axis=1)
    weights = np.full(len(boxes), weight, np.float32)
    return Targets(
        images,
        offsets_of(np.searchsorted(images, to[keep]), len(images)),
        boxes,
        table.labels[rows[row[keep]]],
        weights,
        weights.copy(),
        np.full(len(boxes), ORIGIN_PSEUDO, np.int8),
        negatives=Rects(np.arange(len(images) + 1), windows),
        ignore=Rects.empty(len(images)),
        windows=windows,
    )
