"""Which detections are still open: neither annotated, nor rejected, nor in a region where everything is annotated.

Source: 002, section 3, Eq. 1 (candidates are the detections above a low threshold); DESIGN section 3.
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Bool, Float32, Int64

from labelwise.types import Detections, Labels, LabelwiseError, Rects
from labelwise.types.overlap import highest, iou_pairs, share_pairs

SAME_BOX = 0.5
"""IoU from which a detection and an annotated box (any class) or a background mark are the same thing."""

INSIDE = 0.5
"""Share of a box's own area from which it lies inside one coverage rectangle."""


def candidates(detections: Detections, known: Labels, *, threshold: float = 0.05) -> Bool[np.ndarray, " n"]:
    """The detections that may be asked as box queries: confidence >= `threshold`, and still open.

    Two boxes, nothing known but a background mark on the first:

    >>> from labelwise.types import Boxes
    >>> boxes, two = np.array([[0, 0, 4, 4], [8, 8, 9, 9]], np.float32), np.array([0, 2])
    >>> one = np.ones((2, 1), np.float32)
    >>> found = Detections(two, boxes, one, one[:, 0], one[:, :0])
    >>> mark = Rects(np.array([0, 1]), boxes[:1])
    >>> candidates(found, Labels(Boxes.empty(1), Rects.empty(1), mark, np.array([True]))).tolist()
    [False, True]
    """
    if not 0 <= threshold <= 1:
        raise LabelwiseError(f"candidates: threshold is {threshold}; expected a confidence in [0, 1]")
    may_ask: np.ndarray = detections.scores >= np.float32(threshold)
    may_ask &= unsettled(detections.offsets, detections.boxes, known)
    return may_ask


def unsettled(
    offsets: Int64[np.ndarray, " images+1"], boxes: Float32[np.ndarray, "n 4"], known: Labels
) -> Bool[np.ndarray, " n"]:
    """Boxes about which nothing is known; a box without area never is one (it can be neither asked nor trained on)."""
    images = len(offsets) - 1
    for name, table in (("annotations", known.annotations), ("coverage", known.coverage), ("marks", known.background)):
        if len(table.offsets) != images + 1:
            raise LabelwiseError(
                f"known {name} have {len(table.offsets) - 1} images, the detections {images}; both must list the pool"
            )
    annotated = Rects(known.annotations.offsets, known.annotations.xyxy)
    is_open: np.ndarray = (boxes[:, 2] > boxes[:, 0]) & (boxes[:, 3] > boxes[:, 1])
    is_open &= highest(offsets, boxes, annotated, iou_pairs) < SAME_BOX
    is_open &= highest(offsets, boxes, known.background, iou_pairs) < SAME_BOX
    is_open &= highest(offsets, boxes, known.coverage, share_pairs) < INSIDE
    return is_open
