"""Which boxes of several people are of one object, and the box that they make together (machinery).

Source: the boxes of a query are matched one to one, by falling IoU of at least `SAME`, the first answer's with the
second's, what comes of that with the third's, and so on; of equal IoU those of the same class first.
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Float64, Int64

from labelwise.types.columns import offsets_of
from labelwise.types.overlap import iou_pairs, pairs

SAME = 0.5
"""IoU from which two people's boxes may be of one object."""


def same_objects(
    query: Int64[np.ndarray, " b"],
    turn: Int64[np.ndarray, " b"],
    xyxy: Float64[np.ndarray, "b 4"],
    label: Int64[np.ndarray, " b"],
) -> Int64[np.ndarray, " b"]:
    """The number of every box's object, 0 to objects - 1 in the order of the first boxes.

    Args:
        query: the query of every box; rising.
        turn: whether it is of the query's first answer, 0, the second, 1, ...
        xyxy: corners in pixels.
        label: classes.

    Two people about one query: their boxes with IoU 8 / 10 are one object, the second person's other box is another.

    >>> boxes = np.array([[0.0, 0, 9, 2], [0, 0, 8, 2], [20, 20, 24, 24]])
    >>> same_objects(np.zeros(3, np.int64), np.array([0, 1, 1]), boxes, np.zeros(3, np.int64)).tolist()
    [0, 0, 1]
    """
    of_object = np.full(len(query), -1)
    sums, many, owner, first = np.zeros((0, 4)), np.zeros(0), np.zeros(0, np.int64), np.zeros(0, np.int64)
    for k in range(int(turn.max(initial=-1)) + 1):
        rows = np.flatnonzero(turn == k)
        order = np.argsort(owner, kind="stable")
        n = int(query.max()) + 1
        row, other = pairs(offsets_of(query[rows], n), offsets_of(owner[order], n))
        row, other = rows[row], order[other]
        iou = iou_pairs(xyxy[row], sums[other] / many[other, None])
        keep = np.flatnonzero(iou >= SAME)
        row, other = row[keep], other[keep]
        best = np.lexsort((other, row, label[row] != label[first[other]], -iou[keep]))
        _match(of_object, row[best], other[best], len(sums))
        hit = rows[of_object[rows] >= 0]
        sums[of_object[hit]] += xyxy[hit]
        many[of_object[hit]] += 1
        new = rows[of_object[rows] < 0]
        of_object[new] = len(sums) + np.arange(len(new))
        sums, many = np.concatenate([sums, xyxy[new]]), np.append(many, np.ones(len(new)))
        owner, first = np.append(owner, query[new]), np.append(first, new)
    _, found = np.unique(of_object, return_inverse=True)
    return found.astype(np.int64)


def _match(of_object: np.ndarray, row: np.ndarray, other: np.ndarray, objects: int) -> None:
    """Notes the pairs that a greedy choice, best first, takes: those that are the best of both sides, again."""
    taken = np.zeros(objects, np.bool_)
    while len(row):
        first_row = np.unique(row, return_index=True)[1]
        first_other = np.unique(other, return_index=True)[1]
        both = np.intersect1d(first_row, first_other, assume_unique=True)
        of_object[row[both]] = other[both]
        taken[other[both]] = True
        left = (of_object[row] < 0) & ~taken[other]
        row, other = row[left], other[left]


def mean_boxes(
    of_object: Int64[np.ndarray, " b"],
    xyxy: Float64[np.ndarray, "b 4"],
    weight: Float64[np.ndarray, " b"],
    objects: int,
) -> Float64[np.ndarray, "objects 4"]:
    """The weighted mean of every object's boxes; where all weigh nothing the plain mean, where there are none NaN.

    >>> two = np.array([[0.0, 0, 4, 4], [0, 0, 8, 8]])
    >>> mean_boxes(np.array([0, 0]), two, np.array([3.0, 1.0]), 1).tolist()
    [[0.0, 0.0, 5.0, 5.0]]
    """
    total = np.bincount(of_object, weight, minlength=objects)
    weight = np.where(total[of_object] > 0, weight, 1.0)
    total = np.bincount(of_object, weight, minlength=objects)
    corners = [np.bincount(of_object, weight * corner, minlength=objects) for corner in xyxy.T]
    with np.errstate(invalid="ignore"):
        return np.stack(corners, axis=1) / total[:, None]
