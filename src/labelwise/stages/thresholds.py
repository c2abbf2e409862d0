"""The upper thresholds of the classes, where a run wants any: by what was answered, or by the number of objects."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float64

from labelwise.project.round import Round
from labelwise.stages import mixed_questions
from labelwise.targets.class_thresholds import class_thresholds, compare_with_answers
from labelwise.targets.count_thresholds import Recent, count_thresholds, objects_per_image

PRECISION = 0.8
"""How often pseudo labels shall be right, unless `labels.precision` says otherwise."""


def upper_thresholds(now: Round) -> Float64[np.ndarray, " C"] | None:
    """The upper threshold of every class; None if the run does not want it.

    With "counts" it is of this round's predictions on the images that can be read and were not wholly looked over.
    """
    rule = now.run.labels
    if rule.class_thresholds is None:
        return None
    found = _of_answers(now) if rule.class_thresholds == "answers" else _of_counts(now)
    now.info["class_thresholds"] = [None if np.isnan(value) else round(float(value), 4) for value in found]
    return found


def recent(now: Round) -> Recent | None:
    """What an online teacher's thresholds follow from; None where they do not change with it."""
    if now.run.labels.class_thresholds != "counts" or not now.covered.any():
        return None
    return Recent(objects_per_image(now.known, now.covered, len(now.pool.classes)))


def _of_counts(now: Round) -> Float64[np.ndarray, " C"]:
    n_classes, other = len(now.pool.classes), ~now.covered & now.pool.available
    if not now.number or now.proposed or not now.covered.any() or not other.any():
        return np.full(n_classes, np.nan)
    parts = [(np.zeros(0, np.float32), np.zeros(0, np.int64))]
    for first, found in now.shards((), images=other):
        rows = other[first + found.image]
        parts.append((found.scores[rows], found.labels[rows]))
    scores, labels = (np.concatenate(columns) for columns in zip(*parts, strict=True))
    per_image = objects_per_image(now.known, now.covered, n_classes)
    return count_thresholds(scores, labels, int(other.sum()), per_image)


def _of_answers(now: Round) -> Float64[np.ndarray, " C"]:
    run, pool = now.run, now.pool
    parts = []
    for number in range(1, now.number + 1):
        if Round(now.context, number).proposed:  # the confidence of another
            continue
        asked = [q for q in now.ledger.queries(number) if q.box is not None and q.label is not None]
        asked = [q for q in asked if q.image in pool.number_of and mixed_questions.says_of_the_model(q)]
        if asked:
            image = np.array([pool.number_of[q.image] for q in asked])
            boxes = np.array([q.box for q in asked], np.float32)
            label = np.array([q.label for q in asked], np.int64)
            found = Round(now.context, number).detections_in(np.isin(np.arange(len(pool)), image))
            parts.append(compare_with_answers(image, boxes, label, now.known, found))
    confidence, label, right = (
        (np.concatenate(columns) for columns in zip(*parts, strict=True))
        if parts
        else (np.zeros(0, np.float32), np.zeros(0, np.int64), np.zeros(0, bool))
    )
    now.info["answered_boxes"] = len(right)
    return class_thresholds(confidence, label, right, len(pool.classes), precision=run.labels.precision or PRECISION)
