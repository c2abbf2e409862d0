"""Columnar tables: the offsets of ragged rows, and the checks that every table makes once, when it is made."""

from __future__ import annotations

from typing import Any

import numpy as np
from jaxtyping import Int64

from labelwise.errors import LabelwiseError as LabelwiseError


def check(holds: bool, message: str) -> None:
    """Refuses what does not hold, with the message."""
    if not holds:
        raise LabelwiseError(message)


def check_column(owner: str, name: str, array: np.ndarray, dtype: Any, shape: tuple[int | None, ...]) -> None:
    """Refuses a column of another type or shape (None: any length)."""
    if array.ndim != len(shape) or any(s is not None and s != a for s, a in zip(shape, array.shape, strict=True)):
        expected = tuple("_" if s is None else s for s in shape)
        raise LabelwiseError(f"{owner}.{name}: expected shape {expected}, got {array.shape}")
    if array.dtype != dtype:
        raise LabelwiseError(f"{owner}.{name}: expected {np.dtype(dtype)}, got {array.dtype}")


def check_finite(owner: str, name: str, array: np.ndarray) -> None:
    """Refuses a table with a number that is not finite; names the row."""
    finite = np.isfinite(array)
    if not finite.all():
        bad = np.flatnonzero(~finite.reshape(len(array), -1).all(axis=1))
        raise LabelwiseError(f"{owner}.{name}: row {bad[0]} is not finite ({len(bad)} such rows)")


def check_offsets(owner: str, name: str, offsets: np.ndarray, rows: int) -> None:
    """Refuses offsets that do not rise from 0 to the number of rows."""
    check_column(owner, name, offsets, np.int64, (None,))
    ok = len(offsets) >= 1 and offsets[0] == 0 and offsets[-1] == rows and bool((np.diff(offsets) >= 0).all())
    check(ok, f"{owner}.{name}: must rise from 0 to the number of rows ({rows})")


def offsets_of(image: np.ndarray, n_images: int) -> Int64[np.ndarray, " n1"]:
    """Offsets `[n_images + 1]` of rows sorted by `image` (the image number of every row)."""
    return np.searchsorted(image, np.arange(n_images + 1)).astype(np.int64)


def image_of(offsets: np.ndarray) -> Int64[np.ndarray, " n"]:
    """Image number of every row: the inverse of `offsets_of`."""
    return np.repeat(np.arange(len(offsets) - 1), np.diff(offsets)).astype(np.int64)
