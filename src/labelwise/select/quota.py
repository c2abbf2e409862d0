"""Class quota: every class has its share of the picks, a rare class a larger one; within a class the highest score.

The share of a class is proportional to (count + 1)^-power, its count being how many boxes of it are labelled so far. A
class that has fewer candidates than its share gives all of them; the rest is shared by the other classes in the same
proportion. Whole numbers by largest remainder; equal remainders: the class of larger weight, then the lower number.

Source: a common baseline, in a form of our own: the class-balanced criterion of MUS-CDB and the minority quota of
DivProto are quotas as well.
Differs from the paper: DivProto's quota is one for all minority classes; here each class's share follows its count.
Fails when: the predicted classes of a young detector are wrong: the quota of a rare class then goes to its false
positives. A mix counts as its largest class only, so that a rare object beside a common one is not seen.

The picks of the classes are mixed, by (rank in the class + 0.5) / quota, so that any first part of them keeps the
proportion of the quotas; equal: the larger weight, then the lower number. Equal scores: the lower row first.

Worked by hand, two picks: counts (0, 3) give the weights 1 and 1/4, shares 1.6 and 0.4. Class 0 has row 1 only, so the
other pick is left to class 1: row 2 (0.9 > 0.8). Both stand at 0.5 / 1, and class 0 is rarer.

>>> select(np.array([0.8, 0.1, 0.9]), np.array([1, 0, 1]), np.array([0, 3]), 2).tolist()
[1, 2]
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float, Int, Int64

from labelwise.select._order import check, significant
from labelwise.types import LabelwiseError, phrases

PREFIX_STABLE = False
"""How many are wanted decides which are picked."""


def select(
    scores: Float[np.ndarray, " n"],
    labels: Int[np.ndarray, " n"] | Float[np.ndarray, "n C"],
    counts: Int[np.ndarray, " C"],
    budget: int,
    *,
    power: float = 1.0,
    explain: bool = False,
) -> Int64[np.ndarray, " k"] | tuple[Int64[np.ndarray, " k"], dict[str, np.ndarray]]:
    """At most `budget` rows, in the order in which they are to be asked.

    Args:
        scores: informativeness.
        labels: predicted class; or a class mix per row (of an image or region), which counts as its largest class. Rows
            that are all zeros hold no object and are picked after all others.
        counts: labelled boxes of every class.
        budget: how many rows to pick.
        power: how much rare classes are favoured; 0 is the same quota for every class.
        explain: return the score, the class (-1: none) and its quota for each pick too.

    Raises:
        LabelwiseError: a score that is not finite or a label that is not a class (row named), a negative count (class
            named), a negative power or budget.
    """
    k = check(scores, budget)
    _check(scores, labels, counts, power)
    classes = len(counts)
    label = labels if labels.ndim == 1 else _largest(labels)
    available = np.bincount(label, minlength=classes + 1)  # the last one: rows without an object
    log_weights = -power * np.log1p(counts.astype(np.float64))
    quota = np.append(_share(min(k, len(scores) - int(available[-1])), log_weights, available[:-1]), 0)
    quota[-1] = k - quota.sum()
    order = np.lexsort((-significant(scores), label))
    rank = np.arange(len(order)) - np.repeat(np.cumsum(available) - available, available)
    picked = rank < quota[label[order]]
    rows: np.ndarray = order[picked]
    of: np.ndarray = label[rows]
    mixed = np.lexsort((of, -np.append(log_weights, 0)[of], (rank[picked] + 0.5) / quota[of], of == classes))
    rows, of = rows[mixed].astype(np.int64, copy=False), of[mixed]
    if not explain:
        return rows
    return rows, {
        "score": scores[rows].astype(np.float64),
        "class": np.where(of == classes, -1, of),
        "quota": quota[of].astype(np.float64),
    }


def explain(
    labels: Int[np.ndarray, " k"] | Float[np.ndarray, "k C"],
    counts: Int[np.ndarray, " C"],
    classes: Sequence[str],
) -> list[str]:
    """Whether its class is rare among the labels."""
    return phrases.rarity(labels, counts, classes)


def _share(k: int, log_weights: np.ndarray, available: np.ndarray) -> np.ndarray:
    """`k` picks shared by weight, none above what is available; `k` is at most the sum of that.

    The weights are relative to the largest one that still counts, so that a high power cannot make all of them 0.
    """
    quota, is_open = np.zeros(len(available), np.int64), available > 0
    while is_open.any():
        left = k - int(quota.sum())
        weights = np.where(is_open, np.exp(np.minimum(log_weights - log_weights[is_open].max(), 0)), 0)
        share = (left * weights / weights.sum()).round(9)  # 1/3 * 3 is 1
        full = is_open & (share >= available)
        if not full.any():
            break
        quota[full] = available[full]
        is_open &= ~full
    if not is_open.any():
        return quota
    whole = np.floor(share).astype(np.int64)
    quota += whole
    first = np.lexsort((-log_weights, -(share - whole).round(9)))  # stable: the lower class of two equal ones
    quota[first[: k - int(quota.sum())]] += 1
    return quota


def _largest(mix: np.ndarray) -> np.ndarray:
    """The class of the largest part of every row, the lower one if two are equal; C where all are zero."""
    if mix.shape[1] == 0:
        return np.zeros(len(mix), np.int64)
    label: np.ndarray = np.where((mix > 0).any(axis=1), mix.argmax(axis=1), mix.shape[1])
    return label


def _check(scores: np.ndarray, labels: np.ndarray, counts: np.ndarray, power: float) -> None:
    if not (power >= 0 and np.isfinite(power)):
        raise LabelwiseError(f"quota: power is {power}; expected a number >= 0 (1 by default, 0 for equal quotas)")
    if counts.ndim != 1:
        raise LabelwiseError(f"counts: expected shape (C,), got {counts.shape}")
    bad = np.flatnonzero(~((counts >= 0) & np.isfinite(counts)))
    if len(bad):
        raise LabelwiseError(f"counts: class {bad[0]} is {counts[bad[0]]}; expected a number of boxes >= 0")
    if labels.ndim == 2:
        if labels.shape != (len(scores), len(counts)):
            raise LabelwiseError(
                f"labels: expected a class mix of shape {(len(scores), len(counts))}, got {labels.shape}; "
                "pass one row per candidate and one column per class"
            )
        bad = np.flatnonzero(~((labels >= 0) & np.isfinite(labels)).all(axis=1))
        if len(bad):
            raise LabelwiseError(f"labels: row {bad[0]} is {labels[bad[0]].tolist()}; expected finite numbers >= 0")
        return
    if labels.shape != scores.shape or not np.issubdtype(labels.dtype, np.integer):
        raise LabelwiseError(f"labels: expected {scores.shape} whole numbers, got {labels.dtype} {labels.shape}")
    bad = np.flatnonzero((labels < 0) | (labels >= len(counts)))
    if len(bad):
        raise LabelwiseError(f"labels: row {bad[0]} is class {labels[bad[0]]}; expected 0 to {len(counts) - 1}")
