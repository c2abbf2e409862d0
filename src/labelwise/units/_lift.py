"""Scores of detections lifted to what holds them (machinery)."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float64, Int64


def lift_scores(
    value: Float64[np.ndarray, " m"], offsets: Int64[np.ndarray, " n+1"], how: str, rng: np.random.Generator
) -> Float64[np.ndarray, " n"]:
    """Scores of the members of each candidate as one: their mean, maximum, sum, or that of a random member.

    A candidate without members scores 0.

    >>> lift_scores(np.array([1.0, 3.0]), np.array([0, 2, 2]), "mean", np.random.default_rng(0)).tolist()
    [2.0, 0.0]
    """
    count = np.diff(offsets)
    out = np.zeros(len(count))
    some = np.flatnonzero(count)
    if how == "random":
        out[some] = value[offsets[some] + (rng.random(len(some)) * count[some]).astype(np.int64)]
    elif len(some):
        reduce = np.maximum if how == "max" else np.add
        out[some] = reduce.reduceat(value, offsets[some])
        out[some] /= count[some] if how == "mean" else 1
    return out
