"""How difficult every class is for the detector, by what it finds of the labelled objects; unit: none, 0 to 1.

An object's quality is p^ξ · IoU^(1 - ξ) of the detection that serves it best, p being the probability of the object's
class; 0 where no detection overlaps it. A class' difficulty is 1 minus the mean quality of its objects.

Source: Yang, Huang, Crowley, Plug and Play Active Learning for Object Detection, CVPR 2024 (arXiv 2211.11612), section
3.3; ξ = 0.6 is that of the authors' code.
Differs from the paper: it is measured once, on the round's detections in the wholly labelled images, not as a moving
average over positive anchors while training; so that any detector has it.
Fails when: few objects of a class are labelled, and the model has learnt these by heart: the class then looks easy.

Worked by hand: the object of class 0 is found with p = 1 and IoU 1, that of class 1 is missed, class 2 has none.

>>> box = np.array([[0, 0, 2, 2], [5, 5, 6, 6]], np.float32)
>>> probs = np.array([[1, 0, 0]], np.float32)
>>> found = Detections(np.array([0, 1]), box[:1], probs, probs[:, 0], probs[:, :0])
>>> difficulty(found, np.array([0, 2]), box, np.array([0, 1])).tolist()
[0.0, 1.0, 1.0]
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Float, Float64, Int, Int64

from labelwise.types import Detections, LabelwiseError
from labelwise.types.overlap import iou_pairs, pairs


def difficulty(
    found: Detections,
    offsets: Int64[np.ndarray, " images+1"],
    objects: Float[np.ndarray, "m 4"],
    classes: Int[np.ndarray, " m"],
    *,
    xi: float = 0.6,
) -> Float64[np.ndarray, " C"]:
    """1 minus the mean quality of each class' objects; 1 where it has none.

    Args:
        found: the detections.
        offsets: where every image's objects begin; of images that do not count there are none.
        objects: corners of the labelled objects, in pixels.
        classes: their classes.
        xi: weight of the probability against that of the overlap, in [0, 1].

    Raises:
        LabelwiseError: `xi` outside [0, 1].
    """
    if not 0 <= xi <= 1:
        raise LabelwiseError(f"difficulty: xi is {xi}; expected a number in [0, 1]")
    quality = np.zeros(len(objects))
    which, at = pairs(offsets, found.offsets)
    iou = iou_pairs(objects[which], found.boxes[at])
    own = found.probs[at, found.labels[at]].astype(np.float64)
    share = found.probs[at, classes[which]] / np.maximum(own, np.finfo(np.float64).tiny)
    p = np.clip(found.scores[at] * share, 0, 1)
    np.maximum.at(quality, which, np.where(iou > 0, p**xi * iou ** (1 - xi), 0))
    n = found.probs.shape[1]
    count = np.bincount(classes, minlength=n)
    mean: Float64[np.ndarray, " C"] = np.bincount(classes, quality, n) / np.maximum(count, 1)
    return 1 - mean
