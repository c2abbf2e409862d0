"""Which detections are false positives, and which objects were missed (001, section 2.3.1).

A detection is correct if it overlaps an object of its class by IoU > 0.5 and no detection of higher confidence has
found that object before (a duplicate is a false positive). Every detection speaks for the object that it overlaps most,
as PASCAL VOC evaluates. Detections in crowd regions (IoU with the region, or share of the detection inside, above 0.5)
are nobody's error.

>>> truth = Boxes.from_rows(np.array([0, 0]), np.array([[0, 0, 9, 9], [20, 0, 29, 9]]), np.array([0, 0]), 1)
>>> boxes = np.array([[0, 0, 9, 8], [0, 0, 9, 9], [50, 0, 59, 9]], np.float32)
>>> found = errors(np.array([0, 3]), boxes, np.zeros(3, int), np.array([0.9, 0.8, 0.7]), truth)
>>> found.false_positive.tolist(), found.missed.tolist()  # found, found again, nothing there; the second was missed
([False, True, True], [False, True])
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Float32, Int, Int64

from labelwise.types import Boxes, LabelwiseError, Rects
from labelwise.types.overlap import iou_pairs, pairs, share_pairs

IOU = 0.5


@dataclass(frozen=True, slots=True, eq=False)
class Errors:
    """`false_positive` per detection, `missed` per object of the ground truth."""

    false_positive: Bool[np.ndarray, " n"]
    missed: Bool[np.ndarray, " objects"]


def errors(
    offsets: Int64[np.ndarray, " images+1"],
    boxes: Float32[np.ndarray, "n 4"],
    labels: Int[np.ndarray, " n"],
    scores: Float[np.ndarray, " n"],
    truth: Boxes,
    crowd: Rects | None = None,
) -> Errors:
    """The errors on a pool; equal confidence: the lower row finds first."""
    if len(truth.offsets) != len(offsets):
        raise LabelwiseError(f"errors: detections of {len(offsets) - 1} images, truth of {len(truth.offsets) - 1}")
    a, b = pairs(offsets, truth.offsets)
    same = labels[a] == truth.labels[b]
    a, b = a[same], b[same]
    iou = iou_pairs(boxes[a], truth.xyxy[b])
    near = iou > IOU
    a, b, iou = a[near], b[near], iou[near]
    best = np.lexsort((b, -iou, a))  # of every detection its nearest object first
    a, b = a[best], b[best]
    first = np.append(True, a[1:] != a[:-1])[: len(a)]
    a, b = a[first], b[first]
    by_confidence = np.lexsort((a, -scores[a]))
    a, b = a[by_confidence], b[by_confidence]
    found, winner = np.unique(b, return_index=True)  # the first of every object is the surest
    false_positive = np.ones(len(boxes), bool)
    false_positive[a[winner]] = False
    missed = np.ones(len(truth), bool)
    missed[found] = False
    if crowd is not None:
        a, b = pairs(offsets, crowd.offsets)
        false_positive[a[share_pairs(boxes[a], crowd.xyxy[b]) > 0.5]] = False
    return Errors(false_positive, missed)
