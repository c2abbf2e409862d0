"""The best rows of a table by a score, exactly and with defined ties (machinery, not a method)."""

from __future__ import annotations

import operator

import numpy as np

from labelwise.types import LabelwiseError


def check(scores: np.ndarray, budget: int) -> int:
    """The number of rows to pick: the budget, at most all rows. Refuses bad scores and budgets."""
    if scores.ndim != 1:
        raise LabelwiseError(f"scores: expected shape (n,), got {scores.shape}")
    bad = np.flatnonzero(~np.isfinite(scores))
    if len(bad):
        raise LabelwiseError(
            f"scores: row {bad[0]} is {scores[bad[0]]} ({len(bad)} such rows); expected a finite number. "
            "Correct the score method: a score that cannot be computed must not be ranked"
        )
    try:
        wanted = operator.index(budget)
    except TypeError:
        raise LabelwiseError(f"budget is {budget!r}; expected a whole number of rows") from None
    if wanted < 0:
        raise LabelwiseError(f"budget is {wanted}; expected 0 or more rows")
    return min(wanted, len(scores))


def significant(values: np.ndarray) -> np.ndarray:
    """The values in float64 to 40 significant bits, about 12 digits: what only the order of a sum tells apart is equal.

    Values on a border may still part; of values that agree to 15 digits that is one pair in a thousand.
    """
    wide = np.array(values, np.float64, order="C")
    bits = wide.view(np.int64)
    bits += 1 << 11
    bits &= -1 << 12
    return wide


def best(scores: np.ndarray, k: int) -> np.ndarray:
    """The `k` rows of highest score in falling order; scores equal to 12 digits: lower row first."""
    if k == 0:
        return np.zeros(0, np.int64)
    n, scores = len(scores), significant(scores)
    rows = np.arange(n)
    if k < n // 8:  # far fewer than all: sort only the rows that reach the k-th highest score
        rows = np.flatnonzero(scores >= np.partition(scores, n - k)[n - k])
    order = np.argsort(-scores[rows], kind="stable")
    return rows[order[:k]].astype(np.int64, copy=False)
