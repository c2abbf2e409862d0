"""Which classes are rare, by their ground truth in the training pool."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np


def rare_classes(class_counts: Sequence[int] | np.ndarray, *, share: float = 0.5) -> list[int]:
    """Numbers of the rare classes, given the boxes per class in the *training pool's* ground truth.

    Rare is a class whose share of these boxes lies below `share` of uniform: below 1/(2C) with 0.5. If no class is that
    rare, the rarest third counts (at least one class; of equal counts the lower class number).

    >>> rare_classes([90, 8, 2]), rare_classes([34, 33, 33])  # below 1/6: 1 and 2; none: the rarest
    ([1, 2], [1])
    """
    counts = np.asarray(class_counts, np.float64)
    rare = np.flatnonzero(counts < share * counts.mean())
    if not len(rare):
        rare = np.argsort(counts, kind="stable")[: max(1, len(counts) // 3)]
    return [int(c) for c in rare]
