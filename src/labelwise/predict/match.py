"""Which detection of a view is the counterpart of a box on the untouched image: the one of highest IoU.

Source: 000 section 3.1 (Eq. 2), after CALD: the boxes of the untouched image are mapped onto the view, and every one
looks there for the detection of highest IoU, of whatever class. Several boxes may share a counterpart.
Differs from the paper: a box that overlaps nothing has no counterpart (the published code then takes detection 0).
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Float, Float32, Int64

from labelwise.types.overlap import iou_matrix

PAIRS = 1 << 18
"""Pairs of boxes looked at together: small enough for the cache of one core."""


def onto_view(boxes: Float32[np.ndarray, "n 4"], affine: Float[np.ndarray, "n 2 3"]) -> Float32[np.ndarray, "n 4"]:
    """Boxes mapped by an own affine each: the axis-aligned hull of the mapped box.

    >>> mirror = np.array([[[-1, 0, 100], [0, 1, 0]]], np.float32)
    >>> onto_view(np.array([[10, 20, 30, 40]], np.float32), mirror).tolist()
    [[70.0, 20.0, 90.0, 40.0]]
    """
    centre = (boxes[:, :2] + boxes[:, 2:]) / 2
    half = (boxes[:, 2:] - boxes[:, :2]) / 2
    centre = np.einsum("nij,nj->ni", affine[:, :, :2], centre) + affine[:, :, 2]
    half = np.einsum("nij,nj->ni", np.abs(affine[:, :, :2]), half)
    return np.concatenate([centre - half, centre + half], axis=1).astype(np.float32)


def onto_image(boxes: Float32[np.ndarray, "n 4"], affine: Float[np.ndarray, "n 2 3"]) -> Float32[np.ndarray, "n 4"]:
    """The inverse of `onto_view`: the box whose hull on the view is this one; without area where there is none.

    So a turned view does not enlarge a box twice. It has none where the view turns by about 45 degrees (the hull then
    tells one side alone), or where the box on the view is narrower than any hull.

    >>> mirror = np.array([[[-1, 0, 100], [0, 1, 0]]], np.float32)
    >>> onto_image(np.array([[70, 20, 90, 40]], np.float32), mirror).tolist()
    [[10.0, 20.0, 30.0, 40.0]]
    """
    linear, shift = affine[:, :, :2].astype(np.float64), affine[:, :, 2].astype(np.float64)
    centre, half = (boxes[:, :2] + boxes[:, 2:]) / 2 - shift, (boxes[:, 2:] - boxes[:, :2]) / 2
    area, hull = _determinant(linear), _determinant(np.abs(linear))
    possible = (area != 0) & (np.abs(hull) > 0.1 * np.abs(area))
    linear = np.where(possible[:, None, None], linear, np.eye(2))
    centre = np.linalg.solve(linear, centre[:, :, None])[:, :, 0]
    half = np.linalg.solve(np.abs(linear), half[:, :, None])[:, :, 0]
    half = np.where(possible[:, None] & (half > 0).all(axis=1, keepdims=True), half, 0)
    return np.concatenate([centre - half, centre + half], axis=1).astype(np.float32)


def _determinant(matrix: Float[np.ndarray, "n 2 2"]) -> Float[np.ndarray, " n"]:
    found: np.ndarray = matrix[:, 0, 0] * matrix[:, 1, 1] - matrix[:, 0, 1] * matrix[:, 1, 0]
    return found


def match(
    boxes: Float32[np.ndarray, "n 4"],
    offsets: Int64[np.ndarray, " images1"],
    view_boxes: Float32[np.ndarray, "m 4"],
    view_offsets: Int64[np.ndarray, " images1"],
) -> tuple[Float32[np.ndarray, " n"], Int64[np.ndarray, " n"]]:
    """IoU with the best detection of the view in the same image, and its row (-1, IoU 0: nothing overlaps).

    Both tables are sorted by image; equal IoU: the lower row. Exact in whatever order and number images come.

    >>> box = np.array([[0, 0, 10, 10], [50, 50, 60, 60]], np.float32)
    >>> seen = np.array([[20, 20, 30, 30], [0, 0, 10, 5]], np.float32)
    >>> iou, row = match(box, np.array([0, 2]), seen, np.array([0, 2]))
    >>> iou.tolist(), row.tolist()
    ([0.5, 0.0], [1, -1])
    """
    iou = np.zeros(len(boxes), np.float32)
    row = np.full(len(boxes), -1, np.int64)
    n_boxes, n_seen = np.diff(offsets), np.diff(view_offsets)
    images = np.flatnonzero((n_boxes > 0) & (n_seen > 0))
    images = images[np.lexsort((n_boxes[images], n_seen[images]))]  # alike numbers side by side: little padding
    start = 0
    while start < len(images):
        widest = np.maximum.accumulate(n_boxes[images[start:]]) * n_seen[images[start:]]
        block = max(1, int(np.searchsorted(widest * np.arange(1, len(widest) + 1), PAIRS, side="right")))
        chunk = images[start : start + block]
        at, mine = _padded(offsets[:-1][chunk], n_boxes[chunk])
        seen_at, theirs = _padded(view_offsets[:-1][chunk], n_seen[chunk])
        overlap = iou_matrix(boxes[at], view_boxes[seen_at])
        overlap[~np.broadcast_to(theirs[:, None, :], overlap.shape)] = 0
        best = overlap.argmax(axis=2)
        best_iou = np.take_along_axis(overlap, best[:, :, None], axis=2)[:, :, 0]
        iou[at[mine]] = best_iou[mine]
        row[at[mine]] = np.where(best_iou > 0, np.take_along_axis(seen_at, best, axis=1), -1)[mine]
        start += block
    return iou, row


def _padded(first: np.ndarray, count: np.ndarray) -> tuple[Int64[np.ndarray, "b k"], np.ndarray]:
    """Row numbers of some images as a table, padded with each image's first row, and which entries are real."""
    slot = np.arange(count.max())
    real = slot < count[:, None]
    return first[:, None] + np.where(real, slot, 0), real
