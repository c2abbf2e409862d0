"""Boxes of the candidate images: checks, and the classes that an image shows (machinery, not a method)."""

from __future__ import annotations

import numpy as np

from labelwise.types import LabelwiseError

TOLERANCE = 1e-3
"""How far a row of class probabilities may sum from 1 (half precision reaches about 5e-4)."""


def check_boxes(
    n: int, box_offsets: np.ndarray, box_probs: np.ndarray, box_scores: np.ndarray, counts: np.ndarray
) -> None:
    """Refuses boxes that do not belong to `n` candidates and the classes of `counts` (row or class named)."""
    if box_offsets.shape != (n + 1,) or not np.issubdtype(box_offsets.dtype, np.integer):
        raise LabelwiseError(
            f"box_offsets: expected ({n + 1},) whole numbers, got {box_offsets.dtype} {box_offsets.shape}"
        )
    bad = np.flatnonzero(np.diff(box_offsets) < 0)
    if len(bad) or box_offsets[0] != 0 or box_offsets[-1] != len(box_probs):
        where = f"row {bad[0]} ends before it starts" if len(bad) else f"{box_offsets[0]} to {box_offsets[-1]}"
        raise LabelwiseError(
            f"box_offsets: {where}; expected 0 to {len(box_probs)}, never falling: sort boxes by image"
        )
    if counts.ndim != 1 or box_probs.ndim != 2 or box_probs.shape[1] != len(counts) or len(counts) == 0:
        raise LabelwiseError(
            f"box_probs: expected one column for each class of counts, got {box_probs.shape} and {counts.shape}"
        )
    if box_scores.shape != (len(box_probs),):
        raise LabelwiseError(f"box_scores: expected shape ({len(box_probs)},), got {box_scores.shape}")
    bad = np.flatnonzero(~((counts >= 0) & np.isfinite(counts)))
    if len(bad):
        raise LabelwiseError(f"counts: class {bad[0]} is {counts[bad[0]]}; expected a number of boxes >= 0")
    bad = np.flatnonzero(~((box_scores >= 0) & (box_scores <= 1 + 1e-5)))
    if len(bad):
        raise LabelwiseError(f"box_scores: row {bad[0]} is {box_scores[bad[0]]}; expected a number in [0, 1]")
    good = np.abs(box_probs.sum(axis=1, dtype=np.float64) - 1) <= TOLERANCE
    bad = np.flatnonzero(~(good & (box_probs >= 0).all(axis=1)))
    if len(bad):
        raise LabelwiseError(f"box_probs: row {bad[0]} is not a distribution; expected numbers >= 0 that sum to 1")


def presence(rows: np.ndarray, box_offsets: np.ndarray, box_probs: np.ndarray, box_scores: np.ndarray) -> np.ndarray:
    """Largest confidence of every class in these candidates [rows, C]; 0 where no box is of the class.

    A box is of its most probable class; equal probabilities: the lower class.
    """
    out = np.zeros((len(rows), box_probs.shape[1]))
    boxes, owner = boxes_of(rows, box_offsets)
    np.maximum.at(out, (owner, box_probs.argmax(axis=1)[boxes]), box_scores[boxes])
    return out


def boxes_of(rows: np.ndarray, box_offsets: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The boxes of these candidates, candidate by candidate, and for each box the place of its candidate in `rows`."""
    sizes = np.diff(box_offsets)[rows]
    owner = np.repeat(np.arange(len(rows)), sizes)
    within = np.arange(len(owner)) - np.repeat(np.cumsum(sizes) - sizes, sizes)
    return box_offsets[rows][owner] + within, owner
