"""How many questions people may have open at once, so that a budget is met and not overspent.

Many people answer at the same time, and what an answer yields is known afterwards. Where a query can cost at most one
unit (any query of a budget in queries, a box query of a budget in boxes, an image query of a budget in images: the
unit's `AT_MOST_ONE`) as many are open as the budget has left: it cannot be overspent. Elsewhere the dearest answer so
far stands for each open one, and while there is none, one query is asked at a time.

Fails when: a later answer costs more than every one before it; then the budget is overspent, by at most the difference
times the number of open queries (the simulated oracle, too, overspends by the rest of its last image).
"""

from __future__ import annotations

from math import floor, isfinite

from labelwise.types import LabelwiseError

MOST_OPEN = 256
"""Open queries at a time: enough for a large team, few enough that a region just covered is not asked in vain."""


def room(left: float, n_open: int, dearest: float | None) -> int:
    """How many more queries may be opened now.

    Args:
        left: what is left of the budget of the round.
        n_open: queries that are open already.
        dearest: the largest cost of an answer so far, in what the budget counts; 1 where none can cost more; None where
            there is none.

    10 boxes are left. Box queries: 10 may be open, 4 are. Image queries that held up to 3 boxes: 10 / 3, so 3.

    >>> room(10, 4, 1), room(10, 0, 3), room(10, 0, None)
    (6, 3, 1)
    """
    if not isfinite(left) or n_open < 0:
        raise LabelwiseError(f"people: {left} left and {n_open} queries open; expected a number, and 0 or more")
    if left <= 1e-9:
        return 0
    dear = left if dearest is None else max(dearest, 1.0)
    return max(0, min(MOST_OPEN, max(1, floor(left / dear + 1e-9))) - n_open)
