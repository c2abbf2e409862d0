"""Lack of confidence, weighted for rare classes, (1 - s) / p(l); unit: none, 0 to about 1 / p of the rarest class.

l is the predicted class of the detection, p(l) its share of the ground-truth boxes that are labelled so far.

Source: 003, section 4.3, Eq. 3 and 4 (the mean over a region: `aggregate = "mean"`).
Differs from the paper: p is smoothed (Laplace), p(c) = (count of c + smoothing) / (sum of counts + C * smoothing),
because a class without any label has p = 0, which the paper leaves open. The paper's text says that the uncertainty is
"multiplied by the ground-truth probability"; its Eq. 4 divides by it, and only that favours rare classes as it intends.
Fails when: the classes are very unequal: a class 1000 times rarer gets 1000 times the score, so that a sure detection
of it (s = 0.99) outranks every unsure one of the common class, and so do false positives that merely bear its name.

Worked by hand, counts (7, 1), so p = (8/10, 2/10). Row 0, class 0: 0.5 / 0.8 = 0.625. Row 1, class 1: 0.25 / 0.2 =
1.25.

>>> score(np.array([0.5, 0.75], np.float32), np.array([0, 1]), np.array([7, 1])).tolist()
[0.625, 1.25]
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float, Float64, Int

from labelwise.score._rows import check_shape, check_unit
from labelwise.types import LabelwiseError, phrases


def score(
    scores: Float[np.ndarray, " n"],
    labels: Int[np.ndarray, " n"],
    counts: Int[np.ndarray, " C"],
    *,
    smoothing: float = 1.0,
) -> Float64[np.ndarray, " n"]:
    """(1 - s) / p(l) per detection.

    Args:
        scores: confidence s.
        labels: predicted class.
        counts: ground-truth boxes of every class that are labelled so far.
        smoothing: boxes added to every class; 0 is the paper's form.

    Raises:
        LabelwiseError: a confidence outside [0, 1] or a label that is not a class (row named), a count that is negative
            (class named), a negative smoothing, a predicted class without labels when smoothing is 0 (row named).
    """
    check_shape("scores", scores, (None,))
    check_unit("scores", scores)
    check_shape("labels", labels, scores.shape)
    check_shape("counts", counts, (None,))
    _check(labels, counts, smoothing)
    uncertainty = np.maximum(1 - scores.astype(np.float64), 0)
    smoothed = counts.astype(np.float64) + smoothing
    out: np.ndarray = uncertainty * smoothed.sum() / smoothed[labels]
    return out


def explain(
    scores: Float[np.ndarray, " n"],
    labels: Int[np.ndarray, " n"],
    counts: Int[np.ndarray, " C"],
    classes: Sequence[str],
) -> list[str]:
    """How sure the model is, and whether its class is rare."""
    sure, rare = phrases.confidence(scores, labels, classes), phrases.rarity(labels, counts, classes)
    return [f"{a} {b}".strip() for a, b in zip(sure, rare, strict=True)]


def _check(labels: np.ndarray, counts: np.ndarray, smoothing: float) -> None:
    if not (smoothing >= 0 and np.isfinite(smoothing)):
        raise LabelwiseError(f"rare_confidence: smoothing is {smoothing}; expected a number >= 0 (1 by default)")
    bad = np.flatnonzero(~((counts >= 0) & np.isfinite(counts)))
    if len(bad):
        raise LabelwiseError(f"counts: class {bad[0]} is {counts[bad[0]]}; expected a number of boxes >= 0")
    if not np.issubdtype(labels.dtype, np.integer):
        raise LabelwiseError(
            f"labels: expected whole numbers, got {labels.dtype}; pass the predicted class of every row"
        )
    bad = np.flatnonzero((labels < 0) | (labels >= len(counts)))
    if len(bad):
        raise LabelwiseError(f"labels: row {bad[0]} is class {labels[bad[0]]}; expected 0 to {len(counts) - 1}")
    bad = np.flatnonzero(counts[labels] + smoothing == 0)
    if len(bad):
        raise LabelwiseError(
            f"rare_confidence: row {bad[0]} is class {labels[bad[0]]}, which has no labels; with "
            "smoothing = 0 its weight would be infinite. Set smoothing above 0"
        )
