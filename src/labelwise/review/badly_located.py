"""A label beside its object, one doubt per label: the chance of a detection of its class that it does not fit.

Unit: probability, 0 to 1. Of the detections that overlap the label more than any other label, the one with the largest
product of the chance of the label's class and IoU is its object. The doubt is that chance times the share by which the
IoU falls short of what is typical, the median over the labels of the class: a loose detector makes no label doubtful.

Source: U. Tkachenko, A. Thyagarajan and J. Mueller, "ObjectLab: automated diagnosis of mislabeled images in object
detection data" (arXiv 2309.00832), section 3, badly located boxes.
Differs from the paper: a detection counts for the label that it overlaps most alone, so that neighbours do not; overlap
is compared with the typical one and weighed by the chance, where the paper takes the best similarity among boxes of
confidence above 0.5.
Fails when: half of the labels of a class are beside their objects: that is typical then.

Three labels of one class and a sure detection for each, IoU 1, 1, and 2 / 6 instead of the typical 1:

>>> boxes = np.array([[0, 0, 2, 2], [5, 0, 7, 2], [9, 0, 11, 2]], np.float32)
>>> labels = Boxes(np.array([0, 3]), boxes, np.zeros(3, np.int64))
>>> moved = boxes + np.array([[0], [0], [1]], np.float32) * np.array([1, 0, 1, 0], np.float32)
>>> ones = np.ones((3, 1), np.float32)
>>> found = Detections(np.array([0, 3]), moved, ones, np.full(3, 0.9, np.float32), ones[:, :0])
>>> doubt(labels, found).round(3).tolist()
[0.0, 0.0, 0.6]
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Float64

from labelwise.review._nearest import chance, overlaps
from labelwise.types import Boxes, Detections

OF = "labels"


def doubt(labels: Boxes, found: Detections) -> Float64[np.ndarray, " labels"]:
    """Of every label how probably its object lies elsewhere."""
    a, b, iou = overlaps(labels, found)
    own = np.lexsort((a, -iou, b))
    own = own[np.unique(b[own], return_index=True)[1]]  # of every detection the label that it overlaps most
    a, b, iou = a[own], b[own], iou[own]
    sure = chance(found, b, labels.labels[a])
    best = np.lexsort((b, -sure * iou, a))
    best = best[np.unique(a[best], return_index=True)[1]]  # of every label its object
    a, iou, sure = a[best], iou[best], sure[best]
    doubtful, kinds = np.zeros(len(labels)), labels.labels[a]
    for kind in np.unique(kinds):
        rows = kinds == kind
        typical = np.median(iou[rows])
        doubtful[a[rows]] = sure[rows] * np.maximum(typical - iou[rows], 0) / typical
    return doubtful
