"""Region candidates: fixed windows that together contain every box that fits one, picked greedily (machinery).

The origins are whole pixels, x in 0..W-w and y in 0..H-h. Again and again the window that contains most of the boxes
not yet covered is picked (a box counts only if it lies completely inside) and its boxes are covered, until no window
contains an uncovered box. Equally many: the lowest x, then the lowest y, which is the scan order of Algorithm 1.

Source: 003, section 4.2, Algorithm 1.
Differs from the paper: the result is the same, the search is not. The paper scans all pixels. The origins that contain
one box are themselves a rectangle, [ceil(x2) - w, floor(x1)] x [ceil(y2) - h, floor(y1)] cut to 0..W-w and 0..H-h; the
first of the deepest points of these rectangles has the lower end of one of them as x, and of one as y. Only
these corners are counted, all at once, by a product of two 0/1 matrices. The paper runs until every object is
enclosed; a box that is larger than the window or sticks out of the image never is, and is reported as uncovered.
Fails when: an image has many thousands of boxes (at worst time n^3 and memory n^2). A box that sticks out of the image
must be cut to it first: no window reaches beyond the border.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float32, Int64

from labelwise.types import LabelwiseError, Rects, image_of, offsets_of

BLOCK = 1 << 16
"""Numbers of one matrix of a batch of images: with its temporaries it stays in a core's cache."""

LARGEST = 1 << 24
"""Largest width or height in pixels: up to here float32 holds every whole number."""

NOWHERE = 1 << 30
"""An origin that no window has; pads the images of a batch that have fewer boxes."""


@dataclass(frozen=True, slots=True, eq=False)
class Windows:
    """The windows of a pool, sorted by image, those of one image in the order in which the greedy picked them.

    Attributes:
        image: image of every window.
        xyxy: the window, in pixels of the scaled image.
        offsets: the members of window i are `members[offsets[i]:offsets[i + 1]]`.
        members: rows of the boxes that lie completely inside the window, rising; a box may be in several windows.
        new: how many of them no earlier window of the image contained.
        uncovered: how many boxes of the pool lie in no window.
    """

    image: Int64[np.ndarray, " r"]
    xyxy: Float32[np.ndarray, "r 4"]
    offsets: Int64[np.ndarray, " r+1"]
    members: Int64[np.ndarray, " M"]
    new: Int64[np.ndarray, " r"]
    uncovered: int


def windows(
    offsets: Int64[np.ndarray, " I+1"],
    boxes: Float32[np.ndarray, "n 4"],
    size_px: Int64[np.ndarray, "I 2"],
    window_px: Int64[np.ndarray, "I 2"],
) -> Windows:
    """The region candidates of every image.

    Args:
        offsets: the boxes of image i are the rows `offsets[i]:offsets[i + 1]`.
        boxes: xyxy in pixels of the scaled images.
        size_px: width and height of every scaled image.
        window_px: width and height of its windows; larger than the image means as large as the image.

    Raises:
        LabelwiseError: a box that is not finite or has x2 < x1 (row named), a size outside 1..2^24 (image named).

    An image of 8 x 4, windows of 4 x 4. The first two boxes fit a window at x = 0, the third only the one at x = 4:

    >>> boxes = np.array([[0, 0, 2, 2], [2, 0, 4, 2], [5, 0, 8, 4]], np.float32)
    >>> found = windows(np.array([0, 3]), boxes, np.array([[8, 4]]), np.array([[4, 4]]))
    >>> found.xyxy.tolist(), found.members.tolist(), found.new.tolist()
    ([[0.0, 0.0, 4.0, 4.0], [4.0, 0.0, 8.0, 4.0]], [0, 1, 2], [2, 1])
    """
    _check(offsets, boxes, size_px, window_px)
    image, size = image_of(offsets), np.minimum(window_px, size_px)
    low, high = _origins(boxes, size[image], (size_px - size)[image])
    rows = np.flatnonzero((low <= high).all(axis=1))  # the boxes that some window contains
    uncovered, is_open = len(boxes) - len(rows), np.ones(len(rows), bool)
    picked: list[tuple[np.ndarray, np.ndarray, np.ndarray]] = []  # per round: image, origin, new of its windows
    inside_of, members = [np.zeros(0, np.int64)], [np.zeros(0, np.int64)]
    known = 0
    while len(rows):  # one round: the next window of every image that still has an open box
        images, count = np.unique(image[rows], return_counts=True)
        group = np.repeat(np.arange(len(count)), count)
        origin, depth = _deepest(group[is_open], low[rows[is_open]], high[rows[is_open]])
        at = origin[group]
        inside = ((low[rows] <= at) & (at <= high[rows])).all(axis=1)
        picked.append((images, origin, depth))
        inside_of.append(group[inside] + known)
        members.append(rows[inside])
        known += len(count)
        is_open &= ~inside
        stays = (np.bincount(group, weights=is_open) > 0)[group]
        rows, is_open = rows[stays], is_open[stays]
    return _by_image(picked, np.concatenate(inside_of), np.concatenate(members), size, uncovered)


def _by_image(
    picked: list[tuple[np.ndarray, np.ndarray, np.ndarray]],
    inside_of: np.ndarray,
    members: np.ndarray,
    size: np.ndarray,
    uncovered: int,
) -> Windows:
    """The windows sorted by image instead of by round, and their members with them."""
    none = (np.zeros(0, np.int64), np.zeros((0, 2), np.int64), np.zeros(0, np.int64))
    image, origin, new = (np.concatenate(column) for column in zip(none, *picked, strict=True))
    order = np.argsort(image, kind="stable")
    place = np.empty_like(order)
    place[order] = np.arange(len(order))
    inside_of = place[inside_of]
    by_window = np.argsort(inside_of, kind="stable")  # the members of one window keep their order: rising rows
    low = origin[order]
    xyxy = np.concatenate([low, low + size[image[order]]], axis=1).astype(np.float32)
    offsets = offsets_of(inside_of[by_window], len(order))
    return Windows(image[order], xyxy, offsets, members[by_window], new[order], uncovered)


def _origins(boxes: np.ndarray, size: np.ndarray, last: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Lowest and highest origin (x, y) of the windows that contain a box; lowest > highest where there is none.

    x2 <= x + w holds for a whole x just when ceil(x2) <= x + w: rounding before the subtraction keeps it exact.
    """
    top_left, bottom_right = np.floor(boxes[:, :2].astype(np.float64)), np.ceil(boxes[:, 2:].astype(np.float64))
    low = np.clip(bottom_right - size, 0, NOWHERE).astype(np.int64)
    high = np.clip(np.minimum(top_left, last), -1, None).astype(np.int64)
    return low, high


def _deepest(group: np.ndarray, low: np.ndarray, high: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Per group of rectangles (sorted): the first of the points that lie in most of them, and in how many it lies."""
    count = np.bincount(group)
    first = np.cumsum(count) - count
    origin, depth = np.empty((len(count), 2), np.int64), np.empty(len(count), np.int64)
    for part, m in _batches(count):
        row = np.arange(m)
        padded = row >= count[part, None]
        row = np.where(padded, 0, first[part, None] + row)
        at, contains = [], []
        for axis in (0, 1):
            lo = np.where(padded, NOWHERE, low[row, axis]).astype(np.int32)
            hi = np.where(padded, -1, high[row, axis]).astype(np.int32)
            at.append(_distinct(lo))
            ends = at[axis][:, :, None]
            contains.append(((lo[:, None] <= ends) & (ends <= hi[:, None])).astype(np.float32))
        depths = contains[0] @ contains[1].transpose(0, 2, 1)  # counts are whole numbers: float32 is exact
        flat = depths.reshape(len(part), -1)
        best = flat.argmax(axis=1)  # the first one: lowest x, then lowest y
        each = np.arange(len(part))
        x, y = np.divmod(best, depths.shape[2])
        origin[part, 0], origin[part, 1] = at[0][each, x], at[1][each, y]
        depth[part] = flat[each, best]
    return origin, depth


def _batches(count: np.ndarray) -> Iterator[tuple[np.ndarray, int]]:
    """Groups of about as many rows each, and the most rows of a group, so that little is padded."""
    order, start = np.argsort(-count, kind="stable"), 0
    while start < len(order):
        m = int(count[order[start]])
        part = order[start : start + max(1, BLOCK // m**2)]
        start += len(part)
        yield part, m


def _distinct(values: np.ndarray) -> np.ndarray:
    """The distinct numbers of every row, rising, padded with NOWHERE."""
    values = np.sort(values, axis=1)
    values[:, 1:][values[:, 1:] == values[:, :-1]] = NOWHERE
    values.sort(axis=1)
    distinct: np.ndarray = values[:, : int((values < NOWHERE).sum(axis=1).max())]
    return distinct


def _check(offsets: np.ndarray, boxes: np.ndarray, size_px: np.ndarray, window_px: np.ndarray) -> None:
    Rects(offsets, boxes)  # shapes, types, finite, rising offsets
    bad = np.flatnonzero((boxes[:, 2:] < boxes[:, :2]).any(axis=1))
    if len(bad):
        raise LabelwiseError(f"boxes: row {bad[0]} is {boxes[bad[0]].tolist()}; expected x1 <= x2 and y1 <= y2")
    for name, size in (("size_px", size_px), ("window_px", window_px)):
        if size.shape != (len(offsets) - 1, 2) or not np.issubdtype(size.dtype, np.integer):
            raise LabelwiseError(
                f"{name}: expected whole numbers of shape ({len(offsets) - 1}, 2), width and height of every image; "
                f"got {size.dtype} {size.shape}"
            )
        bad = np.flatnonzero(((size < 1) | (size > LARGEST)).any(axis=1))
        if len(bad):
            raise LabelwiseError(f"{name}: image {bad[0]} is {size[bad[0]].tolist()}; expected 1 to {LARGEST} pixels")
