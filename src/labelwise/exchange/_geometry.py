"""Boxes of files and of images: what is a number, what fits an image, what is the same box, what lies in a region."""

from __future__ import annotations

import math
from collections.abc import Sequence

from labelwise.units import IN_REGION

BoxTuple = tuple[float, float, float, float]

SAME_PX = 0.02
"""Up to which difference a box is the one that was sent: tools write pixels with two decimals."""
SAME_IOU = 0.95
"""From which IoU on a box of the same class is the one that was annotated before."""
ROUNDING_PX = 0.05
"""An overhang over the image that is rounding."""
MIN_SIDE_PX = 0.01
"""A thinner box is a slip of the mouse, and none in float32."""
OUTSIDE_PX = 1.0
"""An overhang that the ledger takes; more is a mistake."""


def inside(box: Sequence[float], size: tuple[int, int]) -> BoxTuple:
    """A box cut to its image."""
    (x1, y1, x2, y2), (width, height) = map(float, box), size
    return max(x1, 0.0), max(y1, 0.0), min(x2, float(width)), min(y2, float(height))


def fits(box: Sequence[float], size: tuple[int, int]) -> bool:
    """Whether a box has an area and lies in its image, up to `OUTSIDE_PX`."""
    x1, y1, x2, y2 = box
    most = size[0] + OUTSIDE_PX, size[1] + OUTSIDE_PX
    whole = all(map(math.isfinite, box)) and min(x1, y1) >= -OUTSIDE_PX and x2 <= most[0] and y2 <= most[1]
    cut = inside(box, size)
    return whole and min(cut[2] - cut[0], cut[3] - cut[1]) >= MIN_SIDE_PX


def near(a: Sequence[float], b: Sequence[float]) -> bool:
    """Whether two boxes are one, up to the rounding of tools."""
    return max(abs(v - w) for v, w in zip(a, b, strict=True)) <= SAME_PX


def same(a: Sequence[float], b: Sequence[float]) -> bool:
    """Whether two boxes of one class are one object that was annotated once: by their corners, or IoU >= `SAME_IOU`.

    >>> same((0, 0, 100, 100), (0, 1, 100, 100)), same((0, 0, 100, 100), (0, 10, 100, 100))
    (True, False)
    """
    shared = max(min(a[2], b[2]) - max(a[0], b[0]), 0.0) * max(min(a[3], b[3]) - max(a[1], b[1]), 0.0)
    both = (a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - shared
    return near(a, b) or shared >= SAME_IOU * both > 0


def turned(box: Sequence[float], degrees: float, about: tuple[float, float]) -> BoxTuple:
    """The upright hull of a box that is turned clockwise about a point.

    >>> [round(v, 6) for v in turned((0, 0, 4, 2), 90, about=(0, 0))]
    [-2.0, 0.0, 0.0, 4.0]
    """
    cos, sin = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
    corners = [(x - about[0], y - about[1]) for x in (box[0], box[2]) for y in (box[1], box[3])]
    xs = [about[0] + x * cos - y * sin for x, y in corners]
    ys = [about[1] + x * sin + y * cos for x, y in corners]
    return min(xs), min(ys), max(xs), max(ys)


def is_number(value: object) -> bool:
    """Whether this is a finite number (True is none)."""
    if not isinstance(value, int | float) or isinstance(value, bool):
        return False
    try:
        return math.isfinite(value)
    except OverflowError:  # an integer of hundreds of digits
        return False


def crop(box: BoxTuple, region: BoxTuple) -> BoxTuple | None:
    """The part of a box that lies in a region; None unless that is more than `IN_REGION` of it.

    >>> crop((0.0, 0.0, 10.0, 10.0), (2.0, 0.0, 20.0, 20.0))  # 0.8 of it
    (2.0, 0.0, 10.0, 10.0)
    >>> crop((0.0, 0.0, 10.0, 10.0), (3.0, 0.0, 20.0, 20.0)) is None  # 0.7 of it
    True
    """
    x1, y1, x2, y2 = (max(box[0], region[0]), max(box[1], region[1]), min(box[2], region[2]), min(box[3], region[3]))
    area = (box[2] - box[0]) * (box[3] - box[1])
    return (x1, y1, x2, y2) if max(x2 - x1, 0.0) * max(y2 - y1, 0.0) > IN_REGION * area else None
