"""Box voting over views: a pseudo box is the mean of a detection's box and of its matches, weighted by confidence.

Every augmented view is a second look at the same object; the errors of its box are partly others, so that the mean lies
closer to the object than one look.

Source: Gidaris and Komodakis, Object detection via a multi-region and semantic segmentation-aware CNN model, ICCV 2015,
section 4.2: boxes of IoU 0.5 or more vote, weighted by their confidence.
Differs from the paper: what votes are not the boxes that suppression removed but the matches under the views, one per
view (the detection of highest IoU, whatever its class: see `predict/match.py`).
Fails when: a view moves all boxes alike (a turned view's hulls are too large where objects are round), or two objects
lie so close that the match is the neighbour.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from jaxtyping import Float, Float32, Int64

from labelwise.types import Detections, LabelwiseError

LEAST_IOU = 0.5
"""From which IoU with the detection on a match votes."""


def with_votes(
    found: Detections, width_px: Int64[np.ndarray, " images"], height_px: Int64[np.ndarray, " images"]
) -> Detections:
    """The detections with voted boxes, which lie in their images; all else stays.

    Raises:
        LabelwiseError: predictions without the boxes of the views.
    """
    views = found.views
    if views is None or views.boxes is None:
        raise LabelwiseError(
            "labels.vote needs the boxes that were found under the views, which these predictions lack; it holds from "
            "the next round on that predicts with it. Until then set labels.vote = false"
        )
    size = np.stack([width_px, height_px], axis=1)[found.image]
    return replace(found, boxes=mean_boxes(found.boxes, found.scores, views.boxes, views.scores, views.iou, size))


def mean_boxes(
    boxes: Float32[np.ndarray, "n 4"],
    scores: Float[np.ndarray, " n"],
    view_boxes: Float32[np.ndarray, "V n 4"],
    view_scores: Float[np.ndarray, "V n"],
    view_iou: Float[np.ndarray, "V n"],
    size_px: Int64[np.ndarray, "n 2"],
) -> Float32[np.ndarray, "n 4"]:
    """The weighted mean of every box and of its matches of IoU >= 0.5 that have an area, all cut to the image.

    A box for which nothing votes is only cut. `size_px`: width and height of the image of every box.

    A box of confidence 0.75, a match of 0.25 that is 4 px lower, and one that overlaps too little to vote:

    >>> box = np.array([[0, 0, 20, 16]], np.float32)
    >>> matches = np.array([[[0, 4, 20, 20]], [[0, 12, 20, 28]]], np.float32)
    >>> seen, iou = np.array([[0.25], [0.9]]), np.array([[0.6], [0.14]])
    >>> mean_boxes(box, np.array([0.75]), matches, seen, iou, np.array([[100, 100]])).tolist()
    [[0.0, 1.0, 20.0, 17.0]]
    """
    edge = np.tile(size_px, 2)
    own, seen = np.clip(boxes.astype(np.float64), 0, edge), np.clip(view_boxes.astype(np.float64), 0, edge)
    votes = (view_iou >= LEAST_IOU) & (seen[..., 2:] > seen[..., :2]).all(axis=-1)
    weight = np.where(votes, view_scores.astype(np.float64), 0)
    total = scores + weight.sum(axis=0)
    share = weight / np.where(total > 0, total, 1)
    moved = own + (share[..., None] * (seen - own)).sum(axis=0)
    out: np.ndarray = np.clip(moved, 0, edge).astype(np.float32)
    return out
