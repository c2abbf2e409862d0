"""What every tracker does with boxes at each step: check them, stop them at a cut, lose them at the image's edge."""

from __future__ import annotations

import numpy as np
from jaxtyping import Bool, Float32, Float64, Int64

from labelwise.types import LabelwiseError

INSIDE = 0.5
"""Least share of a box's area that must lie in the image."""


def check_boxes(offsets: np.ndarray, boxes: np.ndarray, width_px: np.ndarray, height_px: np.ndarray, k: int) -> None:
    """Refuses boxes that cannot be followed; names the row."""
    if boxes.ndim != 2 or boxes.shape[1] != 4:
        raise LabelwiseError(f"boxes: expected shape (n, 4), got {boxes.shape}")
    if len(offsets) != len(width_px) + 1 or len(height_px) != len(width_px):
        raise LabelwiseError(
            f"offsets: {len(offsets)} for {len(width_px)} widths and {len(height_px)} heights; expected one per image "
            "and one more; pass the columns of one pool"
        )
    if offsets[0] != 0 or offsets[-1] != len(boxes) or (np.diff(offsets) < 0).any():
        raise LabelwiseError(f"offsets: must rise from 0 to the number of boxes ({len(boxes)}), not to {offsets[-1]}")
    bad = np.flatnonzero(~np.isfinite(boxes).all(axis=1))
    if len(bad):
        raise LabelwiseError(f"boxes: row {bad[0]} is not finite: {boxes[bad[0]].tolist()}; look at the model")
    bad = np.flatnonzero((boxes[:, 2:] < boxes[:, :2]).any(axis=1))
    if len(bad):
        raise LabelwiseError(f"boxes: row {bad[0]} is {boxes[bad[0]].tolist()}; expected x1 <= x2 and y1 <= y2")
    if k < 1:
        raise LabelwiseError(f"frames: expected at least 1, got {k}")


def remaining(joined: Bool[np.ndarray, " images"], pair: Int64[np.ndarray, " n"], first: int) -> Bool[np.ndarray, " n"]:
    """Which boxes have a frame to go to: the pair that they cross, named by its earlier image, is of one shot.

    `first` is the first image of the clip: there is no pair before it.
    """
    on: np.ndarray = (pair >= first) & joined[np.maximum(pair, 0)]
    return on


def place(
    box: Float64[np.ndarray, "n 4"], size: Float64[np.ndarray, "n 2"]
) -> tuple[Float32[np.ndarray, "n 4"], Bool[np.ndarray, " n"]]:
    """The boxes clipped to their images, and which are still there: centre and half of the area inside."""
    clipped = np.clip(box, 0, np.tile(size, 2)).astype(np.float32)
    centre = (box[:, :2] + box[:, 2:]) / 2
    area = (box[:, 2:] - box[:, :2]).prod(axis=1)
    left = (clipped[:, 2:].astype(np.float64) - clipped[:, :2]).prod(axis=1)
    inside = ((centre >= 0) & (centre < size)).all(axis=1) & (left >= INSIDE * area - 1e-3)
    return clipped, inside
