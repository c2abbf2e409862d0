"""Class balance by frequency: a(b) = u(b) · exp(-p(l) / σ), the highest first; l is the predicted class of b.

Source: 000, section 3.1, Eq. 1; σ = 1 (section 4.1). p is estimated from the pseudo labels
(`labelwise.targets.frequency`).
Differs from the paper: a class that was never predicted has p = 0 and so factor 1, which the paper leaves open.
Fails when: p is far from uniform but all p are small against σ: with σ = 1 the factor lies in [1/e, 1], and at most
e-fold differences of u are turned round. Lower σ balances more.

Equal a: the lower row first. A budget above the number of rows returns all rows.

Worked by hand: p = (1, 0), σ = 1. Row 0, class 0: 1 · e^-1 = 0.3679; row 1, class 1: 0.5 · e^0 = 0.5. Row 1 wins.

>>> u, label, p = np.array([1.0, 0.5]), np.array([0, 1]), np.array([1.0, 0.0])
>>> rows, reasons = select(u, label, p, 2, explain=True)
>>> rows.tolist(), reasons["score"].round(4).tolist()
([1, 0], [0.5, 0.3679])
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float, Int, Int64

from labelwise.select._order import best, check
from labelwise.select._product import dots
from labelwise.types import LabelwiseError, phrases

PREFIX_STABLE = True
"""The first picks are the same for every budget."""

IN_PARTS = True
"""The picks among all rows are those among the picks of parts of them."""


def select(
    scores: Float[np.ndarray, " n"],
    labels: Int[np.ndarray, " n"] | Float[np.ndarray, "n C"],
    frequency: Float[np.ndarray, " C"],
    budget: int,
    *,
    sigma: float = 1.0,
    explain: bool = False,
) -> Int64[np.ndarray, " k"] | tuple[Int64[np.ndarray, " k"], dict[str, np.ndarray]]:
    """At most `budget` rows, best first; with `explain` also the parts of each pick's score.

    Args:
        scores: informativeness u(b) >= 0.
        labels: predicted class of a box; of an image or region the share of every class among its boxes (all 0: none).
        frequency: p(l), a distribution over the classes, or all 0 while nothing is known.
        budget: how many rows to pick.
        sigma: σ of Eq. 1, > 0; smaller favours rare classes more.
        explain: return the parts of the score too.

    Raises:
        LabelwiseError: a score that is negative or not finite (row named), a label without a frequency (row named),
            p outside [0, 1] or summing to more than 1 (class named), sigma <= 0, a negative budget.
    """
    k = check(scores, budget)
    _check(scores, labels, frequency, sigma)
    of_class = np.exp(-frequency.astype(np.float64) / sigma)
    factor = of_class[labels] if labels.ndim == 1 else np.where(labels.any(axis=1), dots(labels, of_class), 1.0)
    weighted = scores * factor
    rows = best(weighted, k)
    if not explain:
        return rows
    return rows, {
        "score": weighted[rows],
        "informativeness": scores[rows].astype(np.float64),
        "frequency": (frequency[labels[rows]] if labels.ndim == 1 else dots(labels[rows], frequency)).astype(
            np.float64
        ),
        "factor": factor[rows],
    }


def explain(
    labels: Int[np.ndarray, " k"] | Float[np.ndarray, "k C"],
    frequency: Float[np.ndarray, " C"],
    classes: Sequence[str],
) -> list[str]:
    """Whether its class is rare among what the model finds."""
    return phrases.rarity(labels, frequency, classes, "what the model finds")


def _check(scores: np.ndarray, labels: np.ndarray, frequency: np.ndarray, sigma: float) -> None:
    if not (sigma > 0 and np.isfinite(sigma)):
        raise LabelwiseError(f"balance_frequency: sigma is {sigma}; expected a number > 0 (1 in the paper)")
    if labels.ndim == 2:
        _check_mix(labels, (len(scores), len(frequency)))
    elif labels.shape != scores.shape or not np.issubdtype(labels.dtype, np.integer):
        raise LabelwiseError(f"labels: expected {scores.shape} whole numbers, got {labels.dtype} {labels.shape}")
    if frequency.ndim != 1:
        raise LabelwiseError(f"frequency: expected shape (C,), got {frequency.shape}")
    bad = np.flatnonzero(scores < 0)
    if len(bad):
        raise LabelwiseError(f"scores: row {bad[0]} is {scores[bad[0]]}; a score to be weighted must be >= 0")
    bad = np.flatnonzero((labels < 0) | (labels >= len(frequency))) if labels.ndim == 1 else np.zeros(0, int)
    if len(bad):
        raise LabelwiseError(f"labels: row {bad[0]} is class {labels[bad[0]]}; expected 0 to {len(frequency) - 1}")
    bad = np.flatnonzero(~((frequency >= 0) & (frequency <= 1)))
    if len(bad):
        raise LabelwiseError(f"frequency: class {bad[0]} is {frequency[bad[0]]}; expected a number in [0, 1]")
    if frequency.sum() > 1 + 1e-3:
        raise LabelwiseError(f"frequency: sums to {frequency.sum():.6g}; expected a distribution (or all 0)")


def _check_mix(mix: np.ndarray, shape: tuple[int, int]) -> None:
    if mix.shape != shape:
        raise LabelwiseError(f"labels: expected the share of every class {shape}, got {mix.shape}")
    total = mix.sum(axis=1)
    bad = np.flatnonzero(~((mix >= 0).all(axis=1) & ((np.abs(total - 1) < 1e-3) | (total == 0))))
    if len(bad):
        raise LabelwiseError(f"labels: row {bad[0]} is {mix[bad[0]]}; expected shares that sum to 1, or all 0")
