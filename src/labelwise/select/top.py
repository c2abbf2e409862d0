"""Top: the rows of highest score, in falling order.

Source: 000, Table 1, row "U" (uncertainty sampling).
Fails when: the highest scores belong to near-identical rows or all to the commonest class; nothing spreads the picks.

Equal scores: the lower row first. A budget above the number of rows returns all rows.

Worked by hand: 0.9 and the first of the two 0.5.

>>> select(np.array([0.5, 0.9, 0.5]), 2).tolist()
[1, 0]
>>> rows, reasons = select(np.array([0.5, 0.9, 0.5]), 2, explain=True)
>>> reasons["score"].tolist()
[0.9, 0.5]
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Float, Float64, Int64

from labelwise.select._order import best, check

PREFIX_STABLE = True
"""The first picks are the same for every budget."""

IN_PARTS = True
"""The picks among all rows are those among the picks of parts of them."""


def select(
    scores: Float[np.ndarray, " n"], budget: int, *, explain: bool = False
) -> Int64[np.ndarray, " k"] | tuple[Int64[np.ndarray, " k"], dict[str, np.ndarray]]:
    """At most `budget` rows, best first; with `explain` also the score of each pick.

    Raises:
        LabelwiseError: a score is not finite (row named), or the budget is negative.
    """
    rows = best(scores, check(scores, budget))
    return (rows, {"score": scores[rows].astype(np.float64)}) if explain else rows


def explain(score: Float64[np.ndarray, " k"]) -> list[str]:
    """Nothing beyond what the score says."""
    return [""] * len(score)
