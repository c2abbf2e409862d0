"""An image of whose objects hardly any is labelled, one doubt per image: the share of what is seen without a label.

Unit: share, 0 to 1: the sum of the image's overlooked detections over the sum of all its detections' confidences, half
an object more, so that an image with little in it is no certainty. Overlooked objects are doubted one by one; here a
weak detector that finds two pale objects of thirty, both without a label, still tells of the image.

Source: U. Tkachenko, A. Thyagarajan and J. Mueller, "ObjectLab: automated diagnosis of mislabeled images in object
detection data" (arXiv 2309.00832), section 3: an image's boxes pooled.
Differs from the paper: expected objects are counted, where the paper's pool is nearly the most doubtful box. On images
from which the most frequent class was taken away the share found more of them than the sum (docs/results.md).
Fails when: the detector sees nothing there, or much that nobody meant to label.

The first image has one of two objects labelled, the second both:

>>> two = np.array([[0, 0, 2, 2], [5, 0, 7, 2]], np.float32)
>>> labels = Boxes(np.array([0, 1, 3]), two[[0, 0, 1]], np.zeros(3, np.int64))
>>> ones = np.ones((4, 1), np.float32)
>>> found = Detections(np.array([0, 2, 4]), two[[0, 1, 0, 1]], ones, np.full(4, 0.75, np.float32), ones[:, :0])
>>> doubt(labels, found).tolist()
[0.375, 0.0]
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Float64

from labelwise.review import overlooked
from labelwise.types import Boxes, Detections

OF = "images"
MORE = 0.5
"""Objects that are added to those which an image seems to have."""


def doubt(labels: Boxes, found: Detections) -> Float64[np.ndarray, " images"]:
    """Of every image which share of its objects seems to have no label."""
    without = np.bincount(found.image, overlooked.doubt(labels, found), minlength=found.n_images)
    every = np.bincount(found.image, found.scores.astype(np.float64), minlength=found.n_images)
    share: np.ndarray = without / (every + MORE)
    return share
