"""An object without a label, one doubt per detection: confidence times the part of the box that no label explains.

Unit: probability, 0 to 1. A detection that overlaps a label by IoU 0.5 or more is explained.

Source: U. Tkachenko, A. Thyagarajan and J. Mueller, "ObjectLab: automated diagnosis of mislabeled images in object
detection data" (arXiv 2309.00832), section 3, overlooked boxes.
Differs from the paper: confidence and overlap are multiplied where the paper takes the similarity to the nearest label
of confidences above 0.95, of boxes that overlap none, with distances in pixels; here a weak detector's order counts,
too, and the size of the image does not.
Fails when: the detector finds objects that nobody meant to label (they come first), or not at all.

Two detections of confidence 0.9: one on a label, one that overlaps it by IoU 2 / 6.

>>> labels = Boxes(np.array([0, 1]), np.array([[0, 0, 2, 2]], np.float32), np.array([0]))
>>> found = Detections(np.array([0, 2]), np.array([[0, 0, 2, 2], [1, 0, 3, 2]], np.float32),
...     np.ones((2, 1), np.float32), np.full(2, 0.9, np.float32), np.zeros((2, 0), np.float32))
>>> doubt(labels, found).round(3).tolist()
[0.0, 0.6]
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Float64

from labelwise.review._nearest import overlaps
from labelwise.types import Boxes, Detections

OF = "detections"
"""What a doubt is about: a detection, or a label."""
EXPLAINED = 0.5
"""IoU with a label from which a detection is that label's object."""


def doubt(labels: Boxes, found: Detections) -> Float64[np.ndarray, " detections"]:
    """Of every detection how probably it is an object that has no label."""
    _, b, iou = overlaps(labels, found)
    best = np.zeros(len(found))
    np.maximum.at(best, b, iou)
    missing: np.ndarray = np.where(best < EXPLAINED, found.scores.astype(np.float64) * (1 - best), 0.0)
    return missing
