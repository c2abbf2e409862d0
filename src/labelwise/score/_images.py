"""Boxes of an image as a segment of the table: checks and reductions per image (machinery, not a method)."""

from __future__ import annotations

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
