"""How right pseudo labels are: precision, recall and reliability per class, against objects that are known.

Precision: the share of the pseudo boxes that hit an object which nobody had annotated: of the same class, IoU >= 0.5.
Recall: the share of those objects that a pseudo box hits. Every object is hit once: pseudo boxes choose by falling
confidence, each the object of highest IoU that is left, so that a second box on one object is wrong. Reliability: the
pseudo boxes in bins of confidence, to compare the share that is right with the confidence.

Source: precision and recall as PASCAL VOC and COCO match detections; reliability diagrams of Guo et al., "On
Calibration of Modern Neural Networks", ICML 2017.
Differs from the paper: of pseudo labels instead of test detections. People's answers may take the place of ground
truth: they tell of the boxes that they touch, and of all boxes where somebody looked over an image or a region.
Fails when: answers are the source and the questions are chosen by the method: what is asked is harder than the average,
so that precision is underrated; objects at the border of a looked-over region are cut, so that a box may miss them.

A box of confidence 0.9 on the first object, one of 0.6 on the same object, one of 0.3 on nothing; object 1 is missed.

>>> box = np.array([[0, 0, 4, 4], [0, 0, 4, 3], [8, 8, 9, 9]], np.float32)
>>> pseudo = Boxes(np.array([0, 3]), box, np.array([0, 0, 0]))
>>> objects = Boxes(np.array([0, 2]), np.array([[0, 0, 4, 4], [5, 5, 7, 7]], np.float32), np.array([0, 0]))
>>> match(pseudo, np.array([0.9, 0.6, 0.3]), objects).tolist()
[0, -1, -1]
>>> found = against_objects(pseudo, np.array([0.9, 0.6, 0.3]), objects, Rects.empty(1), 1)
>>> found.precision().round(3).tolist(), found.recall().tolist(), found.expectation().round(3).tolist()
([0.333], [0.5], [1.8])
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from jaxtyping import Bool, Float, Float64, Int64

from labelwise.report.results import BINS, Calibration
from labelwise.types import Boxes, Rects
from labelwise.types.overlap import PAIRS, highest, iou_pairs, pairs, share_pairs
from labelwise.units import IN_REGION

HIT = 0.5
"""IoU from which a pseudo box hits an object; and from which it is the box that somebody marked as background."""
INSIDE = 0.5
"""Share of its own area from which a box lies in a rectangle."""
SAME_OBJECT = IN_REGION - 0.01
"""IoU from which an annotation is of a ground-truth box, as in `stages/simulation.py`."""


@dataclass(frozen=True, slots=True, eq=False)
class LaterAnswers:
    """What people said later: objects that they annotated, rectangles where they saw every object, and background.

    `questions`: how many answers that is.
    """

    objects: Boxes
    coverage: Rects
    background: Rects
    questions: int


def match(pseudo: Boxes, confidence: Float[np.ndarray, " n"], objects: Boxes) -> Int64[np.ndarray, " n"]:
    """Of every pseudo box the row of the object that it hits, -1 for none. Ties: the lower row.

    A pair is final when the object is the best one left for the box and no surer box wants it; all such pairs are
    taken at once, until none is left. That gives what choosing box after box gives.
    """
    box, thing, iou = _close_pairs(pseudo, objects, HIT)
    rank = np.empty(len(pseudo), np.int64)
    rank[np.argsort(-confidence, kind="stable")] = np.arange(len(pseudo))
    order = np.lexsort((thing, -iou, rank[box]))
    box, thing = box[order], thing[order]
    out, free = np.full(len(pseudo), -1), np.ones(len(objects), bool)
    while len(box):
        final = np.diff(box, prepend=-1) != 0
        surest = np.zeros(len(box), bool)
        surest[np.unique(thing, return_index=True)[1]] = True
        final &= surest
        out[box[final]] = thing[final]
        free[thing[final]] = False
        left = (out[box] < 0) & free[thing]
        box, thing = box[left], thing[left]
    return out


def unlabelled_objects(truth: Boxes, known: Boxes) -> Bool[np.ndarray, " t"]:
    """The objects of the ground truth that no annotation of their class lies on (IoU below 0.69)."""
    out = np.ones(len(truth), bool)
    out[_close_pairs(truth, known, SAME_OBJECT)[0]] = False
    return out


def against_objects(
    pseudo: Boxes, confidence: Float[np.ndarray, " n"], objects: Boxes, crowd: Rects, n_classes: int
) -> Calibration:
    """Every pseudo box against all objects that nobody had annotated; without those that hit nothing in a crowd."""
    hit = match(pseudo, confidence, objects)
    counts = (hit >= 0) | (highest(pseudo.offsets, pseudo.xyxy, crowd, share_pairs) < INSIDE)
    found = np.zeros(len(objects), bool)
    found[hit[hit >= 0]] = True
    return _calibration("ground truth", pseudo.labels, confidence, counts, hit >= 0, objects.labels, found, n_classes)


def against_answers(
    pseudo: Boxes, confidence: Float[np.ndarray, " n"], later: LaterAnswers, n_classes: int
) -> Calibration:
    """The pseudo boxes of which later answers tell something.

    A box that hits a later annotation of its class is right. One that overlaps (IoU >= 0.5) an annotation otherwise or
    a background mark, or lies in an area where every object was annotated, is wrong. Of others nothing is known. Recall
    counts the objects in such areas alone: elsewhere only what the model found was asked about.
    """
    hit = match(pseudo, confidence, later.objects)
    objects = Rects(later.objects.offsets, later.objects.xyxy)
    touches = [highest(pseudo.offsets, pseudo.xyxy, rects, iou_pairs) >= HIT for rects in (objects, later.background)]
    counts = touches[0] | touches[1] | (highest(pseudo.offsets, pseudo.xyxy, later.coverage, share_pairs) >= INSIDE)
    found = np.zeros(len(later.objects), bool)
    found[hit[hit >= 0]] = True
    sure = highest(objects.offsets, objects.xyxy, later.coverage, share_pairs) >= INSIDE
    labels = later.objects.labels[sure]
    return _calibration(
        "answers", pseudo.labels, confidence, counts, hit >= 0, labels, found[sure], n_classes, later.questions
    )


def _calibration(
    source: str,
    labels: Int64[np.ndarray, " n"],
    confidence: Float[np.ndarray, " n"],
    counts: Bool[np.ndarray, " n"],
    right: Bool[np.ndarray, " n"],
    object_labels: Int64[np.ndarray, " t"],
    found: Bool[np.ndarray, " t"],
    n_classes: int,
    questions: int = 0,
) -> Calibration:
    confidence = np.asarray(confidence, np.float64)
    place = labels * BINS + np.minimum((confidence * BINS).astype(np.int64), BINS - 1)

    def table(rows: np.ndarray, weights: np.ndarray | None = None) -> np.ndarray:
        chosen = None if weights is None else weights[rows]
        return np.bincount(place[rows], chosen, minlength=n_classes * BINS).reshape(n_classes, BINS)

    def per_class(values: np.ndarray) -> Float64[np.ndarray, " C"]:
        return np.bincount(values, minlength=n_classes)

    return Calibration(
        source=source,
        boxes=per_class(labels),
        checks=table(counts),
        right=table(counts & right),
        confidence=table(counts, confidence),
        objects=per_class(object_labels),
        hits=per_class(object_labels[found]),
        answers=questions,
    )


def _close_pairs(
    a: Boxes, b: Boxes, least: float
) -> tuple[Int64[np.ndarray, " p"], Int64[np.ndarray, " p"], Float64[np.ndarray, " p"]]:
    """Rows of a and b in the same image and of the same class, and their IoU, from `least` on; block by block."""
    block = np.cumsum(np.diff(a.offsets) * np.diff(b.offsets)) // PAIRS
    edges = [0, *(np.flatnonzero(np.diff(block)) + 1).tolist(), len(block)]
    parts = []
    for begin, end in pairwise(edges):
        first, second = (table.offsets[begin : end + 1] for table in (a, b))
        row_a, row_b = pairs(first - first[0], second - second[0])
        row_a, row_b = row_a + first[0], row_b + second[0]
        same = a.labels[row_a] == b.labels[row_b]
        row_a, row_b = row_a[same], row_b[same]
        iou = iou_pairs(a.xyxy[row_a], b.xyxy[row_b])
        near = iou >= least
        parts.append((row_a[near], row_b[near], iou[near]))
    left, right, value = (np.concatenate(column) for column in zip(*parts, strict=True))
    return left, right, value
