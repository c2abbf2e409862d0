"""Boxes of an image as a segment of the table: checks and reductions per image (machinery, not a method)."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from labelwise.types import LabelwiseError


def check_offsets(offsets: np.ndarray, n: int) -> int:
    """The number of images; refuses offsets that do not cut `n` boxes into images, in order."""
    if offsets.ndim != 1 or len(offsets) == 0 or not np.issubdtype(offsets.dtype, np.integer):
        raise LabelwiseError(f"offsets: expected images + 1 whole numbers, got {offsets.dtype} {offsets.shape}")
    if offsets[0] != 0 or offsets[-1] != n:
        raise LabelwiseError(f"offsets: run from {offsets[0]} to {offsets[-1]}; expected 0 to {n}, the number of boxes")
    bad = np.flatnonzero(offsets[1:] < offsets[:-1])
    if len(bad):
        raise LabelwiseError(
            f"offsets: image {bad[0]} ends at {offsets[bad[0] + 1]}, before its start {offsets[bad[0]]}; "
            "sort the boxes by image"
        )
    return len(offsets) - 1


def per_image(reduce: np.ufunc, values: np.ndarray, offsets: np.ndarray, empty: float) -> np.ndarray:
    """Reduces the last axis of `values` image by image in float64; `empty` where an image has no box.

    `reduceat` alone is wrong there: it returns the next image's first value for an empty segment.
    """
    out = np.full((*values.shape[:-1], len(offsets) - 1), empty, np.float64)
    filled = offsets[1:] > offsets[:-1]
    if filled.any():
        out[..., filled] = reduce.reduceat(values.astype(np.float64, copy=False), offsets[:-1][filled], axis=-1)
    return out


def counted(name: str, errors: str, *, fp: np.ndarray, fn: np.ndarray) -> np.ndarray:
    """The errors that count, per image: "fp", "fn" or "both"."""
    if errors not in ("fp", "fn", "both"):
        raise LabelwiseError(f'{name}: errors is {errors!r}; expected "fp", "fn" or "both"')
    if fp.shape != fn.shape:
        raise LabelwiseError(f"{name}: {len(fp)} counts of false positives and {len(fn)} of misses")
    for kind, counts in (("fp", fp), ("fn", fn)):
        bad = np.flatnonzero(~(np.isfinite(counts) & (counts >= 0) & (counts == np.floor(counts))))
        if len(bad):
            raise LabelwiseError(f"{name}: {kind} of image {bad[0]} is {counts[bad[0]]}; expected a number from 0")
    chosen: np.ndarray = (fp if errors == "fp" else fn if errors == "fn" else fp + fn).astype(np.float64)
    return chosen


def worst_row(value: np.ndarray, offsets: np.ndarray) -> np.ndarray:
    """The row of the largest value of each image, the first among equals; -1 where it has no box.

    >>> worst_row(np.array([1.0, 3.0, 2.0]), np.array([0, 2, 2, 3])).tolist()
    [1, -1, 2]
    """
    image = np.repeat(np.arange(len(offsets) - 1), np.diff(offsets))
    order = np.lexsort((np.arange(len(value)), -value, image))
    found = np.full(len(offsets) - 1, -1, np.int64)
    filled = offsets[1:] > offsets[:-1]
    found[filled] = order[offsets[:-1][filled]]
    return found


def in_words(row: np.ndarray, said: Sequence[str], offsets: np.ndarray) -> list[str]:
    """Per image what is said of its worst box, and that it is the worst of several; `said` skips images without one.

    >>> in_words(np.array([-1, 0]), ["Unsure."], np.array([0, 0, 3]))
    ['The model finds nothing here.', 'Unsure. That is the most doubtful of 3 boxes here.']
    """
    rest, found = iter(said), []
    for one, count in zip(row.tolist(), np.diff(offsets).tolist(), strict=True):
        text = "The model finds nothing here." if one < 0 else next(rest)
        found.append(f"{text} That is the most doubtful of {count} boxes here." if count > 1 else text)
    return found
