"""Class-balanced program: the most informative rows whose expected classes fill the target; unit: that of the score.

Least -z·scores + λ‖Ω - Pᵀz‖ over all choices z of `budget` rows: Pᵀz are the expected picks per class, Ω is the
target. With scores = entropy it is Entropy-CB, with those of `vaal` or `bald` VAAL-CB and BALD-CB.

Source: 001, section 4.4.1, Eq. 4.8 and 4.9; Ω by `labelwise.select._balance_target.target` (Eq. 4.3-4.5);
`pseudo_labels` is "Entropy L1 Pseudo Label" of Fig. 4.4 and 4.7.
Differs from the paper: no branch and bound (Gurobi). The LP relaxation is solved to its optimum, its few fractional
rows are rounded and improved by 1-1 swaps; the gap to the LP bound is reported, and the true one is no larger. With
pseudo labels and "l1" or "l2" the optimum is found without LP. Other norms than "l1" are ours: "l2" is λ times the
*squared* L2 norm, bounded by its Lagrange dual; "wasserstein" is for classes in an order (ages, grades): the L1 norm of
the cumulative sums, which is the earth mover's distance where Ω sums to the budget (with the 0/1 distance of unordered
classes that is half the L1 norm).
Fails when: P is not calibrated, as it is all that is known of the classes; or Ω sums to so much more than the budget
that no class can be over-filled: then the L1 term is ΣΩ - budget for every choice, and the picks are those of `top`
(`solve(...).balance_constant` says so).

Equal rows (score and P): the lower row. Equal P and another score: the higher score. Budget above the number of rows:
all rows. Picks by falling score.

Worked by hand: rows 0 and 1 are of class 0 for sure, row 2 of class 1; Ω = (1, 1), budget 2, λ = 1. Rows 0 and 1:
-1.7 + |1 - 2| + |1 - 0| = 0.3; rows 0 and 2: -1.1 + 0 = -1.1, the least.

>>> u, p = np.array([0.9, 0.8, 0.2]), np.array([[1.0, 0.0], [1.0, 0.0], [0.0, 1.0]])
>>> select(u, p, np.array([1.0, 1.0]), 2, lam=1.0).tolist()
[0, 2]
>>> found = solve(u, p, np.array([1.0, 1.0]), 2, lam=1.0)
>>> round(found.objective, 6), round(found.bound, 6), found.balance_constant
(-1.1, -1.1, False)
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from jaxtyping import Float, Float64, Int, Int64

from labelwise.select import _program
from labelwise.select._order import best, check
from labelwise.types import LabelwiseError, phrases

PREFIX_STABLE = False
"""How many are wanted decides which are picked."""

TOLERANCE = 1e-3
"""How far a row of class probabilities may sum from 1 (half precision reaches about 5e-4)."""

ALONE = 1e6
"""λ over the spread of the scores from which on the balance decides alone: the solver hardly sees the scores."""

Norm = Literal["l1", "l2", "wasserstein"]


@dataclass(frozen=True, slots=True, eq=False)
class Solution:
    """A choice of rows and how good it is.

    `objective` = -`score_term` + λ·`balance_term`; no choice has one below `bound`; `gap` = (objective - bound) /
    |bound|. `fill` is Pᵀz. `balance_constant`: every choice has the same balance term. `deciding`: "score" where the
    picks are those of `top`, "balance" where scores are all equal or vanish beside λ. `note` says this in words.
    """

    rows: Int64[np.ndarray, " k"]
    objective: float
    bound: float
    gap: float
    score_term: float
    balance_term: float
    fill: Float64[np.ndarray, " C"]
    balance_constant: bool
    deciding: Literal["score", "balance", "both"]
    note: str


def select(
    scores: Float[np.ndarray, " n"],
    probs: Float[np.ndarray, "n C"],
    target: Float[np.ndarray, " C"],
    budget: int,
    *,
    lam: float = 1.0,
    norm: Norm = "l1",
    pseudo_labels: bool = False,
    explain: bool = False,
) -> Int64[np.ndarray, " k"] | tuple[Int64[np.ndarray, " k"], dict[str, np.ndarray]]:
    """At most `budget` rows by falling score: informative as a set, and near the target in their expected classes.

    Args:
        scores: informativeness; higher is more.
        probs: class distribution of every row.
        target: Ω, picks wanted per class.
        budget: how many rows to pick.
        lam: λ >= 0, weight of the balance (001: 0.6 for 10 classes, 2 for 100 in the authors' code).
        norm: how the distance to the target is measured.
        pseudo_labels: take each row's most probable class as certain.
        explain: return too, per pick, "score" and "balance" (by how much λ‖·‖ would grow without it), and for the whole
            choice "objective", "bound" and "gap".

    Raises:
        LabelwiseError: a score that is not finite, a row that is not a distribution (named), a target or lam that is
            negative or not finite, an unknown norm, a negative budget.
    """
    found = solve(scores, probs, target, budget, lam=lam, norm=norm, pseudo_labels=pseudo_labels)
    rows = found.rows
    if not explain:
        return rows
    used, omega = _norm_as_columns(
        _hard(probs[rows]) if pseudo_labels else probs[rows].astype(np.float64), target, norm
    )
    residual = omega - used.sum(axis=0)
    balance = _sizes(residual + used, norm) - _sizes(residual, norm)
    whole = {name: np.full(len(rows), getattr(found, name)) for name in ("objective", "bound", "gap")}
    return rows, {"score": scores[rows].astype(np.float64), "balance": lam * balance, **whole}


def explain(probs: Float[np.ndarray, "k C"], counts: Int[np.ndarray, " C"], classes: Sequence[str]) -> list[str]:
    """Whether its likeliest class is rare among the labels."""
    return phrases.rarity(probs.argmax(axis=1), counts, classes)


def solve(
    scores: Float[np.ndarray, " n"],
    probs: Float[np.ndarray, "n C"],
    target: Float[np.ndarray, " C"],
    budget: int,
    *,
    lam: float = 1.0,
    norm: Norm = "l1",
    pseudo_labels: bool = False,
) -> Solution:
    """The choice of `select`, with its objective, the bound and what decided it."""
    k = check(scores, budget)
    _check(scores, probs, target, lam, norm)
    p = probs.astype(np.float32) if probs.dtype == np.float16 else probs
    omega, s = target.astype(np.float64), scores.astype(np.float64)
    columns, wanted = _norm_as_columns(_hard(p) if pseudo_labels else p, omega, norm)
    top = np.sort(best(s, k))
    constant = k in (0, len(s)) or (norm == "l1" and _is_constant(columns, columns[top], omega, k))
    rows, bound, exact = top, -math.inf, True
    if lam > 0 and not constant:
        spread = float(np.ptp(s))
        if pseudo_labels and norm != "wasserstein":
            rows = _program.separable(s, p.argmax(axis=1), omega, k, lam, norm == "l2")
        else:
            unit, low = max(spread, lam), float(s.min())
            program = _program.Program((s - low) / unit, columns, wanted, k, lam / unit, low / unit, norm == "l2")
            rows, bound, exact = _program.solve(program)
            bound *= unit
    terms = [_terms(s, columns, wanted, found, norm) for found in (top, rows)]
    values = [-score + lam * balance for score, balance, _ in terms]
    chosen = int(values[1] < values[0] - 1e-12 * abs(values[0]))
    bound = values[chosen] if exact else min(bound, values[chosen])
    deciding = "score" if not chosen else "balance" if lam > ALONE * np.ptp(s) else "both"
    rows = (top, rows)[chosen]
    fill = terms[chosen][2]
    return Solution(
        rows=rows[best(s[rows], k)],
        objective=values[chosen],
        bound=bound,
        gap=(values[chosen] - bound) / max(abs(bound), 1e-12) if values[chosen] > bound else 0.0,
        score_term=terms[chosen][0],
        balance_term=terms[chosen][1],
        fill=np.diff(fill, prepend=0.0) if norm == "wasserstein" else fill,
        balance_constant=bool(constant),
        deciding=deciding,  # type: ignore[arg-type]
        note=_note(deciding, bool(constant), lam, float(omega.sum()), k, len(s)),
    )


def _note(deciding: str, constant: bool, lam: float, wanted: float, k: int, n: int) -> str:
    if k in (0, n):
        return "the budget leaves no choice"
    if constant:
        return (
            f"the balance term is the same for every choice: the target sums to {wanted:g}, the budget is {k}. "
            "The picks are the highest scores; give a target that sums to the budget"
        )
    if deciding == "score":
        return f"lam = {lam:g} changes nothing: the picks are the highest scores"
    if deciding == "balance":
        return f"lam = {lam:g} is so large beside the scores' spread that the balance decides alone"
    return "score and balance both count"


def _hard(p: np.ndarray) -> np.ndarray:
    """One-hot of the most probable class; equal probabilities: the lower class."""
    out = np.zeros(p.shape, np.float32)
    out[np.arange(len(p)), p.argmax(axis=1)] = 1
    return out


def _norm_as_columns(p: np.ndarray, target: np.ndarray, norm: Norm) -> tuple[np.ndarray, np.ndarray]:
    """P and Ω such that the norm is a plain one: cumulative sums for "wasserstein"."""
    if norm == "wasserstein":
        return np.cumsum(p, axis=1, dtype=np.float64), np.cumsum(target, dtype=np.float64)
    return p, target.astype(np.float64)


def _sizes(residual: np.ndarray, norm: Norm) -> np.ndarray:
    sizes: np.ndarray = (residual**2 if norm == "l2" else np.abs(residual)).sum(axis=-1)
    return sizes


def _terms(
    s: np.ndarray, columns: np.ndarray, wanted: np.ndarray, rows: np.ndarray, norm: Norm
) -> tuple[float, float, np.ndarray]:
    """Sum of the scores, distance to the target, and Pᵀz."""
    fill: np.ndarray = columns[rows].sum(axis=0, dtype=np.float64)
    return math.fsum(s[rows]), float(_sizes(wanted - fill, norm)), fill


def _is_constant(p: np.ndarray, of_top: np.ndarray, target: np.ndarray, k: int) -> bool:
    """Whether no class can be over-filled, or none under-filled: then the L1 term is |ΣΩ - k|."""
    fill, slack = of_top.sum(axis=0, dtype=np.float64), TOLERANCE * 1e-3 * k
    for sign in (1, -1):
        if (sign * fill <= sign * target + slack).all():  # else the highest scores show the contrary
            extreme = (np.partition(sign * p[:, c], -k)[-k:].sum(dtype=np.float64) for c in range(p.shape[1]))
            if all(most <= sign * target[c] + slack for c, most in enumerate(extreme)):
                return True
    return False


def _check(scores: np.ndarray, probs: np.ndarray, target: np.ndarray, lam: float, norm: str) -> None:
    if norm not in ("l1", "l2", "wasserstein"):
        raise LabelwiseError(f"balance_program: norm is {norm!r}; expected l1, l2 or wasserstein")
    check_balance("balance_program", len(scores), probs, target, lam)


def check_balance(method: str, n: int, probs: np.ndarray, target: np.ndarray, lam: float) -> None:
    """Refuses class distributions, a target or a λ that cannot be balanced with (row or class named)."""
    if not (lam >= 0 and math.isfinite(lam)):
        raise LabelwiseError(f"{method}: lam is {lam}; expected a finite number >= 0")
    if probs.ndim != 2 or len(probs) != n or not np.issubdtype(probs.dtype, np.floating):
        raise LabelwiseError(
            f"probs: expected real numbers of shape ({n}, C), a row for each candidate; got {probs.dtype} {probs.shape}"
        )
    if target.shape != probs.shape[1:] or not len(target):
        raise LabelwiseError(f"target: expected a number per class, shape ({probs.shape[1]},), got {target.shape}")
    bad = np.flatnonzero(~((target >= 0) & np.isfinite(target)))
    if len(bad):
        raise LabelwiseError(f"target: class {bad[0]} is {target[bad[0]]}; expected a finite number of picks >= 0")
    sums = probs.sum(axis=1, dtype=np.float64 if probs.dtype == np.float16 else None)
    good = np.abs(sums - 1) <= TOLERANCE  # False for NaN
    if probs.size and not probs.min() >= 0:
        good &= (probs >= 0).all(axis=1)
    bad = np.flatnonzero(~good)
    if len(bad):
        values = np.array2string(probs[bad[0]], precision=4, threshold=8)
        raise LabelwiseError(
            f"probs: row {bad[0]} is not a distribution: {values} sums to {sums[bad[0]]:.6g}; expected numbers >= 0 "
            "that sum to 1. Normalise the rows over the foreground classes"
        )
