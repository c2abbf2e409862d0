"""Checks of the scores' inputs, and the blocks in which large tables are read (machinery, not a method)."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from labelwise.types import LabelwiseError

TOLERANCE = 1e-3
"""How far a row's sum may be from 1 (half precision reaches about 5e-4); rows are not normalised."""

ROUNDING = 1e-5
"""How far above 1 a confidence or an IoU may be that was computed in float32."""

BLOCK = 1 << 17
"""Numbers per block: with its temporaries a block stays in a core's cache."""


def blocks(n: int, columns: int) -> Iterator[slice]:
    """Slices that cover `n` rows, about `BLOCK` numbers each."""
    step = max(1, BLOCK // max(1, columns))
    return (slice(start, min(start + step, n)) for start in range(0, n, step))


def check_shape(name: str, array: np.ndarray, shape: tuple[int | None, ...]) -> None:
    """Refuses an array that does not have this shape (None: any length)."""
    if array.ndim != len(shape) or any(s is not None and s != a for s, a in zip(shape, array.shape, strict=True)):
        expected = ", ".join("_" if s is None else str(s) for s in shape)
        raise LabelwiseError(f"{name}: expected shape ({expected}), got {array.shape}; pass arrays with the same rows")


def check_distribution(name: str, block: np.ndarray, first: int, used: np.ndarray | None = None) -> np.ndarray:
    """Sums of the rows of one block; refuses a row that is not a distribution.

    Args:
        name: what the error calls the array.
        block: rows of the array.
        first: row number of the block's first row in the whole array.
        used: rows that matter; the others may hold anything.
    """
    sums: np.ndarray = np.einsum(
        "nc,c->n", block, np.ones(block.shape[1], block.dtype)
    )  # not a BLAS: one order of sums
    good = np.abs(sums - 1) <= TOLERANCE  # False for NaN
    if block.size and not block.min() >= 0:
        good &= (block >= 0).all(axis=1)
    bad = np.flatnonzero(~good if used is None else ~good & used)
    if len(bad):
        values = np.array2string(block[bad[0]], precision=4, threshold=8)
        raise LabelwiseError(
            f"{name}: row {first + bad[0]} is not a distribution: {values} sums to {sums[bad[0]]:.6g}; expected "
            "numbers >= 0 that sum to 1. Normalise the rows over the foreground classes"
        )
    return sums


def check_unit(name: str, values: np.ndarray) -> None:
    """Refuses a confidence or an IoU outside [0, 1]; the last axis of `values` is the row."""
    inside = (values >= 0) & (values <= 1 + ROUNDING)  # False for NaN
    if not inside.all():
        at = tuple(int(i) for i in np.argwhere(~inside)[0])
        view = f" of view {at[0]}" if len(at) == 2 else ""
        raise LabelwiseError(f"{name}: row {at[-1]}{view} is {values[at]}; expected a number in [0, 1]")
