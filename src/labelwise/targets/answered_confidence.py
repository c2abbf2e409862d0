"""How often a confidence is right, told by answers: a logistic curve of the confidence's logit (Platt scaling).

Every box question that was answered, and every detection in an image that was looked over later, says of a confidence
whether it was right: calibration data that cost nothing more. With few of them a curve that is known beforehand counts
as `STRENGTH` answers: that of slope 1 which expects as many objects as looked-over images hold (`matching`).

Source: Platt, "Probabilistic outputs for support vector machines" (1999), as scikit-learn's LogisticRegression.
Differs from the paper: the pseudo-answers of the known curve in place of Platt's targets, which lean to 1/2.
Fails when: the questions were picked by something that tells right from wrong better than the confidence does: they are
then not like other boxes of their confidence. Answers of earlier rounds tell of an earlier model.

Confidence 0.5 was right in 3 of 4 answers, and nothing is known before: the curve says 3/4 there.

>>> curve = fit(np.full(4, 0.5), np.array([True, True, True, False]), Curve(1.0, 0.0), strength=1e-6)
>>> curve.chance(np.array([0.5])).round(3).tolist()
[0.75]

Two boxes of confidence 0.5 and 0.9 shall be 1.4 objects together, as the confidence says:

>>> abs(matching(np.array([0.5, 0.9]), 1.4).offset) < 1e-6
True
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Float64

STRENGTH = 20.0
"""Answers that the curve known beforehand counts for."""
LEAST_SLOPE = 0.1
"""A surer box is never less likely right."""
NEAREST = 1e-4
"""Confidences are kept so far from 0 and 1."""
GRID = np.linspace(0.05, 0.95, 10)
"""Confidences of the pseudo-answers."""
FARTHEST = 12.0
"""Largest offset of a curve, either way."""


@dataclass(frozen=True, slots=True)
class Curve:
    """The chance of being right is the logistic function of `slope * logit(confidence) + offset`."""

    slope: float
    offset: float

    def chance(self, confidence: Float[np.ndarray, " n"]) -> Float64[np.ndarray, " n"]:
        """How likely boxes of these confidences are right."""
        found: np.ndarray = 1 / (1 + np.exp(-(self.slope * logit(confidence) + self.offset)))
        return found


def logit(confidence: Float[np.ndarray, " n"]) -> Float64[np.ndarray, " n"]:
    """The logarithm of the odds."""
    p = np.clip(confidence.astype(np.float64), NEAREST, 1 - NEAREST)
    found: np.ndarray = np.log(p / (1 - p))
    return found


def matching(confidence: Float[np.ndarray, " n"], expected: float) -> Curve:
    """The curve of slope 1 by which these boxes hold the expected number of right ones; by bisection."""
    low, high = -FARTHEST, FARTHEST
    if not len(confidence):
        return Curve(1.0, 0.0)
    for _ in range(60):
        middle = (low + high) / 2
        if Curve(1.0, middle).chance(confidence).sum() < expected:
            low = middle
        else:
            high = middle
    return Curve(1.0, (low + high) / 2)


def fit(
    confidence: Float[np.ndarray, " n"], right: Bool[np.ndarray, " n"], before: Curve, *, strength: float = STRENGTH
) -> Curve:
    """The curve of these answers, with `strength` pseudo-answers of the curve `before`."""
    if not len(confidence):
        return before
    from sklearn.linear_model import LogisticRegression

    chance, share = before.chance(GRID), strength / len(GRID)
    x = np.concatenate([logit(confidence), logit(GRID), logit(GRID)])[:, None]
    y = np.concatenate([right, np.ones(len(GRID), bool), np.zeros(len(GRID), bool)])
    weight = np.concatenate([np.ones(len(confidence)), share * chance, share * (1 - chance)])
    found = LogisticRegression(C=1e3, max_iter=1000).fit(x, y, sample_weight=weight)
    return Curve(max(float(found.coef_[0, 0]), LEAST_SLOPE), float(found.intercept_[0]))


def threshold(confidence: Float[np.ndarray, " n"], chance: Float64[np.ndarray, " n"], miss_rate: float) -> float:
    """The confidence below which so large a share of the right boxes lies, at most; 0 without boxes.

    One box in ten is right of nine at 0.1, and one at 0.9 surely: leaving out the nine misses 0.9 of 1.9.

    >>> sure = np.array([0.9] + [0.1] * 9)
    >>> threshold(sure, np.array([1.0] + [0.1] * 9), 0.5), threshold(sure, np.array([1.0] + [0.1] * 9), 0.4)
    (0.9, 0.1)
    """
    values, which = np.unique(confidence, return_inverse=True)
    below = np.cumsum(np.bincount(which, chance, len(values)))
    if not len(values):
        return 0.0
    missed = np.concatenate([[0.0], below[:-1]])
    return float(values[np.flatnonzero(missed <= miss_rate * below[-1] + 1e-12)[-1]])
