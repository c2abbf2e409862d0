"""Per class the confidence from which predictions have turned out right often enough, by what people answered.

The precision from a confidence t on is (right + 1) / (answered + 2), counted over the answered boxes of confidence >= t
(Laplace: nothing answered is 1/2). The threshold of a class is the least confidence of an answered box at which that
reaches the precision wanted. Where none does, nothing is known of boxes surer than all that were asked about: the
confidence is then taken for a probability, and the threshold is the precision itself, or what is just above the surest
answered box. A class with fewer than `least` answers takes the threshold of all classes together; with fewer than
`least` in all there is none.

Source: our own; thresholds by class that follow the model are FlexMatch's (Zhang et al., NeurIPS 2021), precision from
people's answers instead of the model's confidence is ours.
Differs from the paper: see above.
Fails when: the questions are chosen by uncertainty, as they are: answered boxes are harder than the others of their
confidence, so that the precision is underrated and thresholds are high; and the answers of earlier rounds tell of an
earlier model's confidence.

Class 0: 0.9 and 0.6 right, 0.2 wrong. From 0.9 on (1 + 1) / 3, from 0.6 on 3/4, from 0.2 on 3/5. Class 1 has too few;
of all four boxes none reaches 0.7: from 0.9 on 2/3, from 0.8 on 2/4. So it begins just above 0.9.

>>> confidence, label = np.array([0.9, 0.6, 0.2, 0.8], np.float32), np.array([0, 0, 0, 1])
>>> right = np.array([True, True, False, False])
>>> class_thresholds(confidence, label, right, 2, precision=0.7, least=3).round(3).tolist()
[0.6, 0.9]
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Bool, Float, Float64, Int64

from labelwise.types import Detections, Labels, Rects, image_of
from labelwise.types.overlap import highest, iou_pairs, pairs

LEAST = 10
"""Answers from which a class has a threshold of its own."""
SAME = 0.99
"""IoU from which two boxes are the same one, up to rounding."""
OBJECT = 0.5
"""IoU from which a box is an annotated object's, as in an answer (`units/box.py`)."""


def class_thresholds(
    confidence: Float[np.ndarray, " n"],
    label: Int64[np.ndarray, " n"],
    right: Bool[np.ndarray, " n"],
    n_classes: int,
    *,
    precision: float,
    least: int = LEAST,
) -> Float64[np.ndarray, " C"]:
    """The threshold of every class; NaN: too few answers."""
    pooled = _threshold(confidence, right, precision) if len(right) >= least else np.nan
    found = np.full(n_classes, pooled)
    for one in np.flatnonzero(np.bincount(label, minlength=n_classes) >= least):
        mine = label == one
        found[one] = _threshold(confidence[mine], right[mine], precision)
    return found


def _threshold(confidence: Float[np.ndarray, " n"], right: Bool[np.ndarray, " n"], precision: float) -> float:
    values, which = np.unique(confidence, return_inverse=True)
    n, hits = (np.bincount(which, weights, len(values))[::-1].cumsum()[::-1] for weights in (None, right))
    enough = np.flatnonzero((hits + 1) / (n + 2) >= precision - 1e-12)
    if len(enough):
        return float(values[enough[0]])
    above = float(np.nextafter(values[-1], np.float32(2), dtype=np.float32)) if len(values) else 0.0
    return min(max(precision, above), 1.0)


def compare_with_answers(
    image: Int64[np.ndarray, " n"],
    boxes: Float[np.ndarray, "n 4"],
    label: Int64[np.ndarray, " n"],
    known: Labels,
    found: Detections,
) -> tuple[Float[np.ndarray, " m"], Int64[np.ndarray, " m"], Bool[np.ndarray, " m"]]:
    """Confidence, class and whether it was right of every box that was asked about and is answered.

    Right: the annotated object that it overlaps most (IoU >= 0.5) has its class. Wrong: that one has another class, or
    somebody marked the box as background. Anything else is not answered. The confidence is that of the same box in
    `found`, the predictions that the questions were made of.
    """
    order = np.argsort(image, kind="stable")
    label, asked = label[order], Rects.from_rows(image, boxes, len(known.answered))
    owner = image_of(asked.offsets)
    row, iou = _best(asked, Rects(found.offsets, found.boxes))
    annotated, overlap = _best(asked, Rects(known.annotations.offsets, known.annotations.xyxy))
    rejected = highest(asked.offsets, asked.xyxy, known.background, iou_pairs) >= SAME
    is_object = (overlap >= OBJECT) & ~rejected
    right = np.zeros(len(owner), bool)
    right[is_object] = known.annotations.labels[annotated[is_object]] == label[is_object]
    answered = (rejected | is_object) & (iou >= SAME)
    return found.scores[row[answered]], label[answered], right[answered]


def _best(boxes: Rects, others: Rects) -> tuple[Int64[np.ndarray, " n"], Float64[np.ndarray, " n"]]:
    """Of every box the row of the other that it overlaps most, the first among equals, and their IoU; 0 and 0: none."""
    row, iou = np.zeros(len(boxes.xyxy), np.int64), np.zeros(len(boxes.xyxy))
    box, other = pairs(boxes.offsets, others.offsets)
    value = iou_pairs(boxes.xyxy[box], others.xyxy[other])
    order = np.lexsort((-other, value, box))  # the last of each box is its best
    last = order[np.diff(box[order], append=-1) != 0]
    row[box[last]], iou[box[last]] = other[last], value[last]
    return row, iou
