"""One queue of several kinds of doubt (machinery)."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float64, Int64


def in_turn(
    doubts: Sequence[Float64[np.ndarray, " n"]],
) -> tuple[Int64[np.ndarray, " m"], Int64[np.ndarray, " m"]]:
    """Kind and row of everything that is doubtful: the worst of each kind, then the second of each, and so on.

    Doubts of different kinds are not on one scale, so each kind has its turn; what has no doubt (0) is left out. Of
    equal doubts the lower row comes first.

    >>> kind, row = in_turn([np.array([0.2, 0.9]), np.array([0.0, 0.01])])
    >>> kind.tolist(), row.tolist()
    ([0, 1, 0], [1, 1, 0])
    """
    kinds, rows, turns = [], [], []
    for number, doubt in enumerate(doubts):
        order = np.argsort(-doubt, kind="stable")
        order = order[doubt[order] > 0]
        kinds.append(np.full(len(order), number))
        rows.append(order)
        turns.append(np.arange(len(order)))
    kind, row = np.concatenate([np.zeros(0, np.int64), *kinds]), np.concatenate([np.zeros(0, np.int64), *rows])
    together = np.argsort(np.concatenate([np.zeros(0, np.int64), *turns]), kind="stable")
    return kind[together], row[together]
