"""How many rows of each class to pick, how balanced a choice is, and which λ to take (machinery, not a method).

Source: 001, section 4.3.3, Eq. 4.3-4.5 (the target Ω); section 4.5.1, Eq. 4.10 (L1 score) and the rule for λ; section
4.4.1 and Fig. 4.4 (what λ changes).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Float64, Int

from labelwise.select._order import check
from labelwise.select.balance_program import Norm, Solution, solve
from labelwise.types import LabelwiseError

MOST_DOUBLINGS = 5
"""A grid at whose end the distance still falls goes on with the double of its last λ, so often at most."""
TOLERANCE = 0.01
"""A distance to the target within this share of the whole range counts as "does not diminish further"."""


def target(counts: Int[np.ndarray, " C"] | Float[np.ndarray, " C"], budget: int) -> Float64[np.ndarray, " C"]:
    """Ω(c): an equal share of all labels after this round, less what the class has; never below 0.

    Eq. 4.4 has max((c·b + b0) / C - n_i, 0) in round c. b0 + (c - 1)·b are labelled before it, Σ n_i here, so that the
    share is (Σ n_i + budget) / C whatever the budgets of the rounds before.

    Where a class has more than its share, Ω sums to more than the budget.

    Worked by hand: 4 labels and a budget of 2 make 2 for each of 3 classes.

    >>> target(np.array([3, 1, 0]), 2).tolist()
    [0.0, 1.0, 2.0]

    Raises:
        LabelwiseError: a count that is negative or not finite (class named), no class, a negative budget.
    """
    _check_counts(counts)
    check(np.zeros(0), budget)
    wide = counts.astype(np.float64)
    share = (wide.sum() + budget) / len(wide)
    wanted: np.ndarray = np.maximum(share - wide, 0)
    return wanted


def l1_score(counts: Int[np.ndarray, " C"] | Float[np.ndarray, " C"]) -> float:
    """L1 distance of the picks per class to the uniform ones over its largest value, 2b(C - 1) / C; 0 to 1.

    Without picks, or with one class, 0.

    Worked by hand: 3 and 1 of 4 picks: |3 - 2| + |1 - 2| = 2; the largest is 2 · 4 · 1 / 2 = 4.

    >>> l1_score(np.array([3, 1])), l1_score(np.array([0, 4]))
    (0.5, 1.0)

    Raises:
        LabelwiseError: a count that is negative or not finite (class named), or no class.
    """
    _check_counts(counts)
    wide = counts.astype(np.float64)
    picks, classes = wide.sum(), len(wide)
    largest = 2 * picks * (classes - 1) / classes
    return float(np.abs(wide - picks / classes).sum() / largest) if largest > 0 else 0.0


@dataclass(frozen=True, slots=True, eq=False)
class Lambdas:
    """What each λ does (Fig. 4.4), and the one to take. Entries of the arrays belong to `lams`, which rise.

    `informativeness`: sum of the picks' scores. `distance`: ‖Ω - Pᵀz‖. `l1`: the L1 score of Pᵀz. `gap`: relative, to
    the LP bound. `top` and `pseudo` are the figure's horizontal lines, (informativeness, distance, l1) of the highest
    scores and of the program with pseudo labels and the proposed λ. `note` says what decides at the proposed λ, if it
    is one term alone (for one, where every choice has the same balance). `still_falling`: the distance falls up to the
    last λ, after `MOST_DOUBLINGS` doublings of the grid's last one; then the proposed one is not the end of it.
    """

    lams: Float64[np.ndarray, " m"]
    informativeness: Float64[np.ndarray, " m"]
    distance: Float64[np.ndarray, " m"]
    l1: Float64[np.ndarray, " m"]
    gap: Float64[np.ndarray, " m"]
    proposed: float
    top: tuple[float, float, float]
    pseudo: tuple[float, float, float]
    note: str
    still_falling: bool


def propose_lambda(
    scores: Float[np.ndarray, " n"],
    probs: Float[np.ndarray, "n C"],
    target: Float[np.ndarray, " C"],
    budget: int,
    *,
    lams: Sequence[float] = (0.1, 0.2, 0.4, 0.6, 0.8, 1.0, 1.5, 2.0, 2.5, 3.0),
    norm: Norm = "l1",
    tolerance: float = TOLERANCE,
) -> Lambdas:
    """Solves the program for every λ; proposes the smallest after which the distance does not diminish further. Where
    it still does at the end of the grid, the grid is extended.

    Rounding makes the distance waver, so "does not diminish" means: by no more than `tolerance` times the difference of
    the highest scores' distance and the least one.

    Worked by hand: one row of class 1, scores 0.9, 0.8, 0.2. Taking it costs 0.6 and brings the distance from 2 to 0,
    which pays from λ = 0.3 on.

    >>> u, p = np.array([0.9, 0.8, 0.2]), np.array([[1.0, 0.0], [1.0, 0.0], [0.0, 1.0]])
    >>> found = propose_lambda(u, p, np.array([1.0, 1.0]), 2, lams=(0.1, 0.2, 0.4, 0.8))
    >>> found.distance.round(6).tolist(), found.proposed
    ([2.0, 2.0, 0.0, 0.0], 0.4)

    Raises:
        LabelwiseError: no λ, or whatever `balance_program.solve` refuses.
    """
    if not len(lams):
        raise LabelwiseError("propose_lambda: lams is empty; expected at least one number >= 0")
    plain = solve(scores, probs, target, budget, lam=0.0, norm=norm)
    rising = np.unique(np.asarray(lams, np.float64))
    found = [solve(scores, probs, target, budget, lam=float(lam), norm=norm) for lam in rising]
    for _ in range(MOST_DOUBLINGS):
        if not _falls(plain, found, tolerance):
            break
        rising = np.append(rising, 2 * rising[-1])
        found.append(solve(scores, probs, target, budget, lam=float(rising[-1]), norm=norm))
    distance = np.array([f.balance_term for f in found])
    range_ = max(plain.balance_term - distance.min(), 0.0)
    best = int(np.argmax(distance <= distance.min() + tolerance * range_))
    proposed = float(rising[best])
    hard = solve(scores, probs, target, budget, lam=proposed, norm=norm, pseudo_labels=True)
    fill = probs[hard.rows].sum(axis=0, dtype=np.float64)
    of_hard = solve(scores[hard.rows], probs[hard.rows], target, len(hard.rows), lam=proposed, norm=norm)
    return Lambdas(
        lams=rising,
        informativeness=np.array([f.score_term for f in found]),
        distance=distance,
        l1=np.array([l1_score(f.fill) for f in found]),
        gap=np.array([f.gap for f in found]),
        proposed=proposed,
        top=(plain.score_term, plain.balance_term, l1_score(plain.fill)),
        pseudo=(hard.score_term, of_hard.balance_term, l1_score(fill)),
        note=found[best].note,
        still_falling=_falls(plain, found, tolerance),
    )


def _falls(plain: Solution, found: Sequence[Solution], tolerance: float) -> bool:
    """Whether the last λ is the only one whose distance is the least, within the tolerance; one λ alone: from λ = 0."""
    distance = np.array([plain.balance_term, *(f.balance_term for f in found)])
    range_ = max(plain.balance_term - float(distance.min()), 0.0)
    return bool((distance[:-1] > distance[-1] + tolerance * range_).all())


def _check_counts(counts: np.ndarray) -> None:
    if counts.ndim != 1 or not len(counts):
        raise LabelwiseError(f"counts: expected a number per class, shape (C,), got {counts.shape}")
    bad = np.flatnonzero(~((counts >= 0) & np.isfinite(counts)))
    if len(bad):
        raise LabelwiseError(f"counts: class {bad[0]} is {counts[bad[0]]}; expected a number >= 0")
