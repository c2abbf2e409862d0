"""Scale-aware choice: the scales take turns, each gives its candidate of highest score.

Source: 003, section 4.4, Algorithm 2.
Differs from the paper: the budget is a number of candidates; the paper's, a number of boxes, is kept by the loop, which
asks in this order until the answers have used it up. The order of the scales is left open there: here it rises. A
scale that has no candidates left is skipped.
Fails when: one scale has hardly anything worth asking; it still gets its turn until it is empty.

Equal scores within a scale: the lower row first. A budget above the number of rows returns all rows.

Worked by hand: scale 1 has the rows 0 and 1, scale 2 has row 2. Turn one takes 1 (0.9 > 0.8) and 2, turn two takes 0.

>>> select(np.array([0.8, 0.9, 0.1]), np.array([1.0, 1.0, 2.0]), 3).tolist()
[1, 2, 0]
>>> rows, reasons = select(np.array([0.8, 0.9]), np.array([1, 2]), 1, explain=True)
>>> reasons["score"].tolist(), reasons["scale"].tolist()
([0.8], [1.0])
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Float, Float64, Int, Int64

from labelwise.select._order import check, significant
from labelwise.types import LabelwiseError

PREFIX_STABLE = True
"""The first picks are the same for every budget."""

IN_PARTS = True
"""The picks among all rows are those among the picks of parts of them."""


def select(
    scores: Float[np.ndarray, " n"],
    scale: Float[np.ndarray, " n"] | Int[np.ndarray, " n"],
    budget: int,
    *,
    explain: bool = False,
) -> Int64[np.ndarray, " k"] | tuple[Int64[np.ndarray, " k"], dict[str, np.ndarray]]:
    """At most `budget` rows, in the order in which they are to be asked.

    Args:
        scores: informativeness.
        scale: the scale of the image that the candidate was found in; equal numbers are one scale.
        budget: how many rows to pick.
        explain: return the score and the scale of each pick too.

    Raises:
        LabelwiseError: a score or a scale that is not finite (row named), a negative budget.
    """
    k = check(scores, budget)
    if scale.shape != scores.shape or not np.issubdtype(scale.dtype, np.number):
        raise LabelwiseError(f"scale: expected {scores.shape} numbers, got {scale.dtype} {scale.shape}")
    bad = np.flatnonzero(~np.isfinite(scale))
    if len(bad):
        raise LabelwiseError(
            f"scale: row {bad[0]} is {scale[bad[0]]}; expected the scale of its image, a finite number"
        )
    order = np.lexsort((-significant(scores), scale))  # stable: equal scores keep the order of the rows
    count = np.unique(scale, return_counts=True)[1]
    turn = np.arange(len(order)) - np.repeat(np.cumsum(count) - count, count)
    rows = order[np.argsort(turn, kind="stable")][:k].astype(np.int64, copy=False)
    if not explain:
        return rows
    return rows, {"score": scores[rows].astype(np.float64), "scale": scale[rows].astype(np.float64)}


def explain(scale: Float64[np.ndarray, " k"]) -> list[str]:
    """Whose turn it was."""
    return [f"The scales take turns; this is of scale {n + 1:g}." for n in scale.tolist()]
