"""Labels beside detections: their overlaps, and what a detection says of a class (machinery)."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float64, Int64

from labelwise.types import Boxes, Detections, LabelwiseError
from labelwise.types.overlap import iou_pairs, pairs


def overlaps(
    labels: Boxes, found: Detections
) -> tuple[Int64[np.ndarray, " p"], Int64[np.ndarray, " p"], Float64[np.ndarray, " p"]]:
    """All pairs (row of labels, row of detections) of an image that overlap, with their IoU.

    Raises:
        LabelwiseError: they are of different numbers of images, or a label's class has no column in `probs`.
    """
    if len(labels.offsets) != len(found.offsets):
        images = len(labels.offsets) - 1, len(found.offsets) - 1
        raise LabelwiseError(f"review: labels of {images[0]} images, detections of {images[1]}; expected the same pool")
    if len(labels) and len(found) and labels.labels.max() >= found.probs.shape[1]:
        most = found.probs.shape[1] - 1
        raise LabelwiseError(f"review: a label of class {labels.labels.max()}; the detections know classes 0 to {most}")
    a, b = pairs(labels.offsets, found.offsets)
    iou = iou_pairs(labels.xyxy[a], found.boxes[b])
    some = iou > 0
    return a[some], b[some], iou[some]


def chance(found: Detections, rows: np.ndarray, classes: np.ndarray) -> Float64[np.ndarray, " k"]:
    """Probability that a detection is an object of a class: its confidence times the class's share."""
    said: np.ndarray = found.scores[rows].astype(np.float64) * found.probs[rows, classes]
    return said
