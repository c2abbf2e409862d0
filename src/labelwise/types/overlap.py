"""Overlaps of boxes, here alone: rows of pairs, all pairs of an image, the highest of each box (machinery, no policy).

IoU is without "+1", and 0 where a box has no area. Of pairs it is computed in float64, so that boxes with whole-pixel
corners meet a threshold exactly; a matrix is in the type of its boxes, and half as large for float32.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
from jaxtyping import Float, Float64, Int64

from labelwise.types.boxes import Rects
from labelwise.types.columns import image_of

PAIRS = 1 << 18
"""Pairs held in memory at a time by `highest` and `nearest`."""


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
    """IoU of a[i] and b[i], in float64.

    >>> iou_pairs(np.array([[0.0, 0, 2, 2]]), np.array([[1.0, 0, 3, 2]])).round(4).tolist()  # 2 / (4 + 4 - 2)
    [0.3333]
    """
    return _iou(a.astype(np.float64), b.astype(np.float64))


def iou_matrix(a: Float[np.ndarray, "*some k 4"], b: Float[np.ndarray, "*some l 4"]) -> Float[np.ndarray, "*some k l"]:
    """IoU of every box of `a` with every box of `b`, in their type: of one image, or of several at once.

    >>> iou_matrix(np.array([[0.0, 0, 2, 2]]), np.array([[0.0, 0, 2, 1], [5, 5, 6, 6]])).tolist()  # 2 / 4, apart
    [[0.5, 0.0]]
    """
    return _iou(a[..., :, None, :], b[..., None, :, :])


def share_pairs(a: Float[np.ndarray, "p 4"], b: Float[np.ndarray, "p 4"]) -> Float64[np.ndarray, " p"]:
    """Share of the area of a[i] that lies inside b[i]; 0 where a has no area.

    >>> share_pairs(np.array([[0.0, 0, 2, 2]]), np.array([[1.0, 0, 9, 9]])).tolist()
    [0.5]
    """
    a = a.astype(np.float64)
    return _ratio(_shared(a, b.astype(np.float64)), _area(a))


def _blocks(offsets_a: np.ndarray, offsets_b: np.ndarray) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """All `pairs` (a, b) in blocks of about `PAIRS`, each with its rows of a; rows without a pair are left out."""
    image = image_of(offsets_a)
    first, count = offsets_b[image], np.diff(offsets_b)[image]
    rows = np.flatnonzero(count)
    block = np.cumsum(count[rows]) // PAIRS
    for part in np.split(rows, np.flatnonzero(np.diff(block)) + 1):
        if len(part):
            yield part, *_expand(part, first[part], count[part])


def highest(
    offsets: Int64[np.ndarray, " images+1"],
    boxes: Float[np.ndarray, "n 4"],
    others: Rects,
    measure: Callable[[np.ndarray, np.ndarray], np.ndarray],
) -> Float64[np.ndarray, " n"]:
    """Per box, the highest `measure(box, other)` among the others of its image; 0 where there is none."""
    out = np.zeros(len(boxes))
    for part, a, b in _blocks(offsets, others.offsets):
        starts = np.flatnonzero(np.diff(a, prepend=-1))
        out[part] = np.maximum.reduceat(measure(boxes[a], others.xyxy[b]), starts)
    return out


def nearest(
    offsets: Int64[np.ndarray, " images+1"], boxes: Float[np.ndarray, "n 4"], others: Rects
) -> tuple[Int64[np.ndarray, " n"], Float64[np.ndarray, " n"]]:
    """Per box, the row of the other box of its image with the highest IoU, and that IoU; -1 and 0 where none overlaps.

    Of equal IoU the first counts.

    >>> others = Rects(np.array([0, 2]), np.array([[5.0, 5, 6, 6], [0, 0, 2, 1]], np.float32))
    >>> row, iou = nearest(np.array([0, 2]), np.array([[0.0, 0, 2, 2], [8, 8, 9, 9]]), others)
    >>> row.tolist(), iou.tolist()
    ([1, -1], [0.5, 0.0])
    """
    row, overlap = np.full(len(boxes), -1), np.zeros(len(boxes))
    for _, a, b in _blocks(offsets, others.offsets):
        iou = iou_pairs(boxes[a], others.xyxy[b])
        order = np.lexsort((b, -iou, a))
        first = order[np.unique(a[order], return_index=True)[1]]
        some = first[iou[first] > 0]
        row[a[some]], overlap[a[some]] = b[some], iou[some]
    return row, overlap


def _iou(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """IoU of boxes `[..., 4]` whose leading axes broadcast."""
    shared = _shared(a, b)
    return _ratio(shared, _area(a) + _area(b) - shared)


def _area(boxes: np.ndarray) -> np.ndarray:
    width, height = boxes[..., 2] - boxes[..., 0], boxes[..., 3] - boxes[..., 1]
    area: np.ndarray = width.clip(min=0) * height.clip(min=0)
    return area


def _shared(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Area of the intersection."""
    width = np.minimum(a[..., 2], b[..., 2]) - np.maximum(a[..., 0], b[..., 0])
    height = np.minimum(a[..., 3], b[..., 3]) - np.maximum(a[..., 1], b[..., 1])
    area: np.ndarray = width.clip(min=0) * height.clip(min=0)
    return area


def _ratio(part: np.ndarray, whole: np.ndarray) -> np.ndarray:
    """Part / whole, written over `part`: blocks of pairs stay in the cache."""
    np.divide(part, whole, out=part, where=whole > 0)
    return part
