"""A label of another class than its object's, one doubt per label: the chance of the likeliest other class.

Unit: probability, 0 to 1: of the detections that overlap the label by IoU 0.5 or more, the largest product of IoU,
confidence and the share of the likeliest class that is not the label's; 0 where the label's class is likelier.

Source: U. Tkachenko, A. Thyagarajan and J. Mueller, "ObjectLab: automated diagnosis of mislabeled images in object
detection data" (arXiv 2309.00832), section 3, swapped labels.
Differs from the paper: the whole distribution of a detection counts, where the paper has the similarity of the nearest
box of another class above confidence 0.95.
Fails when: the detector confuses two classes itself: all labels of these are doubtful.

A detection on the label, confidence 0.9, gives its class 0.3:

>>> labels = Boxes(np.array([0, 1]), np.array([[0, 0, 2, 2]], np.float32), np.array([0]))
>>> found = Detections(np.array([0, 1]), np.array([[0, 0, 2, 2]], np.float32),
...     np.array([[0.3, 0.7]], np.float32), np.full(1, 0.9, np.float32), np.zeros((1, 0), np.float32))
>>> doubt(labels, found).round(3).tolist()
[0.63]
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Float64

from labelwise.review._nearest import overlaps
from labelwise.types import Boxes, Detections

OF = "labels"
SAME_BOX = 0.5
"""IoU from which a detection is of the label's object."""


def doubt(labels: Boxes, found: Detections) -> Float64[np.ndarray, " labels"]:
    """Of every label how probably its object is of another class."""
    a, b, iou = overlaps(labels, found)
    near = iou >= SAME_BOX
    a, b, iou = a[near], b[near], iou[near]
    rows = np.arange(len(a))
    others = found.probs[b].astype(np.float64)
    own = others[rows, labels.labels[a]]
    others[rows, labels.labels[a]] = 0
    worst, likeliest = np.zeros(len(labels)), others.max(axis=1, initial=0.0)
    np.maximum.at(worst, a, np.where(likeliest > own, iou * found.scores[b] * likeliest, 0.0))
    return worst
