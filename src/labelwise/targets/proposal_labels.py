"""What proposals learn from targets: each is an object of a class, background, or ignored.

As an anchor of a trained detector: a proposal is the object that it overlaps most if the IoU is at least 0.5, and has
that box's weights; of two equal overlaps the first counts. Below 0.3 it is background, if at least half of it lies in
the entry's `negatives` and less than half in an `ignore` rectangle. Everything else is ignored, as is a proposal whose
box has no weight. Where an image has several entries (crops of it), a proposal is an object if it is in any of them,
else background if it is in any.

Source: 000, section 3.2 (Eq. 7), as `models/_weighted` reads it for anchors.
Differs from the paper: between 0.3 and 0.5 nothing is learned, as a proposal there shows a part of an object.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float64, Int64

from labelwise.types import Rects, Targets, image_of, offsets_of
from labelwise.types.overlap import highest, iou_pairs, nearest, pairs, share_pairs

OBJECT_IOU, BACKGROUND_IOU = 0.5, 0.3
INSIDE = 0.5
"""Share of a proposal that must lie in a rectangle."""


@dataclass(frozen=True, slots=True, eq=False)
class Lesson:
    """`rows` of the table of all proposals; `box` the row of the targets that each is, -1 of background."""

    rows: Int64[np.ndarray, " m"]
    box: Int64[np.ndarray, " m"]


def match(targets: Targets, proposals: Rects, marks: Rects | None = None) -> Lesson:
    """What the proposals of the entries' images learn.

    Args:
        targets: of a round.
        proposals: of all images of the pool.
        marks: of all images of the pool, the boxes that were asked about and are no object. Smaller objects may lie in
            one: of a rectangle of `negatives` that is a mark only a proposal of IoU >= 0.5 with it learns.
    """
    counts = np.diff(proposals.offsets)[targets.images]
    offsets = np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)
    rows = np.arange(offsets[-1]) + np.repeat(proposals.offsets[targets.images] - offsets[:-1], counts)
    here = proposals.xyxy[rows]
    box, overlap = nearest(offsets, here, Rects(targets.offsets, targets.boxes))
    usable = np.append((targets.w_cls > 0) | (targets.w_box > 0), False)[box]
    positive = (overlap >= OBJECT_IOU) & usable
    negatives, rejected = targets.negatives, np.zeros(len(rows), np.bool_)
    if marks is not None:
        own = _of_images(marks, targets.images)
        negatives = _without(negatives, own)
        rejected = highest(offsets, here, own, iou_pairs) >= OBJECT_IOU
    background = (overlap < BACKGROUND_IOU) & (_inside(offsets, here, negatives) | rejected)
    background &= ~_inside(offsets, here, targets.ignore)
    return _once(rows, np.where(positive, box, -1), overlap, positive, background)


def _of_images(rects: Rects, images: Int64[np.ndarray, " m"]) -> Rects:
    """The rectangles of these images, in their order."""
    counts = np.diff(rects.offsets)[images]
    offsets = np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)
    return Rects(offsets, rects.xyxy[np.arange(offsets[-1]) + np.repeat(rects.offsets[images] - offsets[:-1], counts)])


def _without(rects: Rects, others: Rects) -> Rects:
    """The rectangles that are none of the others in the same entry."""
    a, b = pairs(rects.offsets, others.offsets)
    kept = np.ones(len(rects.xyxy), np.bool_)
    kept[a[(rects.xyxy[a] == others.xyxy[b]).all(axis=1)]] = False
    return Rects(offsets_of(image_of(rects.offsets)[kept], len(rects.offsets) - 1), rects.xyxy[kept])


def _inside(offsets: np.ndarray, here: np.ndarray, rects: Rects) -> Bool[np.ndarray, " n"]:
    """Whether at least half of a proposal lies in one of the rectangles of its entry."""
    share: Float64[np.ndarray, " n"] = highest(offsets, here, rects, share_pairs)
    inside: np.ndarray = share >= INSIDE
    return inside


def _once(
    rows: np.ndarray, box: np.ndarray, overlap: np.ndarray, positive: np.ndarray, background: np.ndarray
) -> Lesson:
    """Every proposal once: as an object, by its highest overlap, before background."""
    order = np.lexsort((-overlap, ~positive, rows))
    order = order[(positive | background)[order]]
    first = order[np.unique(rows[order], return_index=True)[1]]
    return Lesson(rows[first], box[first])
