"""Overlaps of ragged boxes: all pairs within an image at once, without a loop over images (machinery, not a policy).

Areas are computed in float64, so that boxes with whole-pixel corners meet a threshold exactly.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from jaxtyping import Float, Float64, Int64

from labelwise.types.boxes import Rects
from labelwise.types.columns import image_of

PAIRS = 1 << 18
"""Pairs held in memory at a time by `highest`."""


def pairs(
    offsets_a: Int64[np.ndarray, " images+1"], offsets_b: Int64[np.ndarray, " images+1"]
) -> tuple[Int64[np.ndarray, " p"], Int64[np.ndarray, " p"]]:
    """Rows (a, b) of all pairs that lie in the same image, sorted by a, then b.

    >>> a, b = pairs(np.array([0, 1, 3]), np.array([0, 2, 3]))  # images with 1 and 2 rows of a, 2 and 1 rows of b
    >>> a.tolist(), b.tolist()
    ([0, 0, 1, 2], [0, 1, 2, 2])
    """
    image = image_of(offsets_a)
    return _expand(np.arange(len(image)), offsets_b[image], np.diff(offsets_b)[image])


def _expand(rows: np.ndarray, first: np.ndarray, count: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Every row beside each of the `count` numbers from its `first` on."""
    ends = np.cumsum(count)
    total = int(ends[-1]) if len(ends) else 0
    return np.repeat(rows, count), np.arange(total) + np.repeat(first - (ends - count), count)


def iou_pairs(a: Float[np.ndarray, "p 4"], b: Float[np.ndarray, "p 4"]) -> Float64[np.ndarray, " p"]:
    """IoU of a[i] and b[i] (no "+1"); 0 where a box has no area.

    >>> iou_pairs(np.array([[0.0, 0, 2, 2]]), np.array([[1.0, 0, 3, 2]])).round(4).tolist()  # 2 / (4 + 4 - 2)
    [0.3333]
    """
    both = _intersection(a, b)
    return _ratio(both, _area(a) + _area(b) - both)


def share_pairs(a: Float[np.ndarray, "p 4"], b: Float[np.ndarray, "p 4"]) -> Float64[np.ndarray, " p"]:
    """Share of the area of a[i] that lies inside b[i]; 0 where a has no area.

    >>> share_pairs(np.array([[0.0, 0, 2, 2]]), np.array([[1.0, 0, 9, 9]])).tolist()
    [0.5]
    """
    return _ratio(_intersection(a, b), _area(a))


def highest(
    offsets: Int64[np.ndarray, " images+1"],
    boxes: Float[np.ndarray, "n 4"],
    others: Rects,
    measure: Callable[[np.ndarray, np.ndarray], np.ndarray],
) -> Float64[np.ndarray, " n"]:
    """Per box, the highest `measure(box, other)` among the others of its image; 0 where there is none."""
    image = image_of(offsets)
    first, count = others.offsets[image], np.diff(others.offsets)[image]
    out = np.zeros(len(boxes))
    rows = np.flatnonzero(count)
    block = np.cumsum(count[rows]) // PAIRS
    for part in np.split(rows, np.flatnonzero(np.diff(block)) + 1):
        a, b = _expand(part, first[part], count[part])
        if len(a):
            starts = np.cumsum(count[part]) - count[part]
            out[part] = np.maximum.reduceat(measure(boxes[a], others.xyxy[b]), starts)
    return out


def _area(boxes: np.ndarray) -> np.ndarray:
    x1, y1, x2, y2 = boxes.T.astype(np.float64)
    area: np.ndarray = np.maximum(x2 - x1, 0) * np.maximum(y2 - y1, 0)
    return area


def _intersection(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    low, high = np.maximum(a[:, :2], b[:, :2]), np.minimum(a[:, 2:], b[:, 2:])
    return _area(np.concatenate([low, high], axis=1))


def _ratio(part: np.ndarray, whole: np.ndarray) -> np.ndarray:
    ratio: np.ndarray = np.divide(part, whole, out=np.zeros(len(part)), where=(whole > 0) & (part > 0))
    return ratio
