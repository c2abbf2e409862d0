"""What the answers say of a graph's nodes: the truth of a labelled frame, clamped while the rest is estimated.

Source: our own; 001, section 2.3.2, estimates the errors of the unlabelled frames from the detections alone.
In a wholly labelled frame every detection and candidate is known: a detection that finds a label (IoU > 0.5, its class,
none surer has found it) is a true positive, another a false one; a candidate that overlaps a missed label by IoU > 0.5
is a miss, another none. In a frame of which a part is answered, detections that find a label and candidates on a missed
one are known, and nothing else. What a labelled frame tells reaches its neighbours through the links.
Seen in frames within k = 3 of labelled ones (a tenth of the frames; benchmarks/results/coherence_rules.csv): of false
alarms that stand still for 15 frames, which nothing contradicts, 61 % are found in place of 2 %, at a precision of
0.97; with a fifth labelled 85 % in place of 3 %. Errors of one frame gain next to nothing (precision 0.977 for
0.972).
Fails when: labels lie beside their objects by more than IoU 0.5 allows; the neighbours then are told wrong.

Two candidates of frame 1, which is wholly labelled: one lies on the label that no detection found.

>>> missed = Boxes.from_rows(np.array([1]), np.array([[0, 0, 10, 10]], np.float32), np.array([7]), 2)
>>> known = Known(np.array([-1], np.int8), missed, np.array([False, True]))
>>> boxes = np.array([[1, 0, 11, 10], [40, 0, 50, 10]], np.float32)
>>> graph = Graph(1, np.array([1, 1]), boxes, np.array([7, 7]), np.array([[0, 1], [0, 2]]))
>>> clamps(graph, known).tolist()
[-1, 1, 0]
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Int8

from labelwise.tracks.links import Graph
from labelwise.types import Boxes, LabelwiseError, offsets_of
from labelwise.types.overlap import iou_pairs, pairs

IOU = 0.5
"""A candidate that overlaps a missed object by more is that miss."""


@dataclass(frozen=True, slots=True, eq=False)
class Known:
    """What is known of a detector's errors.

    `detections`: of every detection 1 where it is right, 0 where it is a false positive, -1 where nobody knows.
    `missed`: the labelled objects that no detection found. `whole`: the images of which all objects are labelled.
    """

    detections: Int8[np.ndarray, " n"]
    missed: Boxes
    whole: Bool[np.ndarray, " images"]


def clamps(graph: Graph, known: Known) -> Int8[np.ndarray, " nodes"]:
    """Of every node 1 where an object is there, 0 where none is, -1 where it is to be estimated."""
    n, images = graph.n_detections, len(known.whole)
    if len(known.detections) != n or len(known.missed.offsets) != images + 1:
        raise LabelwiseError(
            f"known: of {len(known.detections)} detections and {len(known.missed.offsets) - 1} images; expected "
            f"{n} and {images}. Take all of them from one prediction"
        )
    a, b = pairs(offsets_of(graph.candidate_image, images), known.missed.offsets)
    right = graph.candidate_labels[a] == known.missed.labels[b]
    right &= iou_pairs(graph.candidate_boxes[a], known.missed.xyxy[b]) > IOU
    candidates = np.where(known.whole[graph.candidate_image], 0, -1).astype(np.int8)
    candidates[a[right]] = 1
    return np.concatenate([known.detections.astype(np.int8), candidates])
