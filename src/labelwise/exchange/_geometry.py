"""Boxes of files and of images: what is a number, what fits an image, what is the same box, what lies in a region."""

from __future__ import annotations

import math
from collections.abc import Sequence

from labelwise.units import IN_REGION

BoxTuple = tuple[float, float, float, float]

SAME_PX = 0.02
"""Up to which difference a box is the one that was sent: tools write pixels with two decimals."""
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
