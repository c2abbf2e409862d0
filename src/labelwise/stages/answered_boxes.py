"""What the answers so far tell of the model's confidence: the thresholds by class of the label policies."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float64

from labelwise.project.round import Round
from labelwise.targets.class_thresholds import class_thresholds, compare_with_answers

PRECISION = 0.8
"""How often pseudo labels shall be right, unless `labels.precision` says otherwise."""


def thresholds(now: Round) -> Float64[np.ndarray, " C"] | None:
    """The upper threshold of every class by the boxes asked about so far; None if the run does not want it."""
    run, pool = now.run, now.pool
    if run.labels.class_thresholds is None:
        return None
    parts = []
    for number in range(1, now.number + 1):
        asked = [q for q in now.ledger.queries(number) if q.box is not None and q.label is not None]
        asked = [q for q in asked if q.image in pool.number_of]
        if asked:
            image = np.array([pool.number_of[q.image] for q in asked])
            boxes = np.array([q.box for q in asked], np.float32)
            label = np.array([q.label for q in asked], np.int64)
            parts.append(compare_with_answers(image, boxes, label, now.known, Round(now.context, number).detections()))
    confidence, label, right = (
        (np.concatenate(columns) for columns in zip(*parts, strict=True))
        if parts
        else (np.zeros(0, np.float32), np.zeros(0, np.int64), np.zeros(0, bool))
    )
    found = class_thresholds(confidence, label, right, len(pool.classes), precision=run.labels.precision or PRECISION)
    now.info["answered_boxes"] = len(right)
    now.info["class_thresholds"] = [None if np.isnan(value) else round(float(value), 4) for value in found]
    return found
