"""Fields of parsed JSON, of any type: texts, finite numbers, boxes as xyxy (machinery of the readers of JSON)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

Box = tuple[float, float, float, float]

_NUMBERS = (int, float)
_MOST = 1e9
"""No coordinate is beyond that, in pixels."""


class Fault(Exception):
    """An object that is left out: the kind of its problem, and what is wrong; nothing: the kind is told once."""

    def __init__(self, kind: str, what: str = "") -> None:
        super().__init__(kind, what)
        self.kind, self.what = kind, what


def text_of(value: Any) -> str:
    """A text, or a number as one; empty for all else."""
    if isinstance(value, str):
        return value.strip()
    return str(value) if isinstance(value, int) and not isinstance(value, bool) and abs(value) < 1e15 else ""


def dict_of(value: Any) -> dict[str, Any]:
    """A dict, empty for all else."""
    return value if isinstance(value, dict) else {}


def name_of(value: Any) -> str:
    """The name of a class.

    Raises:
        Fault: it is none.
    """
    name = text_of(value)
    if not name:
        raise Fault("object without class", f"its class is {str(value)[:40]!r}")
    return name


def numbers(*values: Any) -> tuple[float, ...]:
    """Finite numbers, those in texts too.

    Raises:
        Fault: one is none.
    """
    return tuple(
        [float(value) if type(value) in _NUMBERS and -_MOST <= value <= _MOST else _number(value) for value in values]
    )


def _number(value: Any) -> float:
    """A number that is written as a text."""
    try:
        number = float(value) if isinstance(value, str) else math.nan
    except ValueError:
        number = math.nan
    if not -_MOST <= number <= _MOST:
        raise Fault("box without numbers", f"{str(value)[:40]!r} is no finite number")
    return number


def size_of(width: Any, height: Any) -> tuple[int, int] | None:
    """Width and height where both are said."""
    try:
        w, h = numbers(width, height)
    except Fault:
        return None
    return (int(w), int(h)) if w >= 0 and h >= 0 else None


def corner_box(x: Any, y: Any, width: Any, height: Any) -> Box:
    """A box from its upper left corner and its size."""
    left, top, w, h = numbers(x, y, width, height)
    return left, top, left + w, top + h


def list_box(raw: Any) -> Box:
    """A box from a list of x, y, width and height."""
    if not isinstance(raw, list) or len(raw) != 4:
        raise Fault("box without numbers", f"{str(raw)[:40]!r} is not x, y, width, height")
    return corner_box(*raw)


def centre_box(x: Any, y: Any, width: Any, height: Any) -> Box:
    """A box from its centre and its size."""
    cx, cy, w, h = numbers(x, y, width, height)
    return cx - w / 2, cy - h / 2, cx + w / 2, cy + h / 2


def ends_box(x1: Any, y1: Any, x2: Any, y2: Any) -> Box:
    """A box from two corners."""
    left, top, right, bottom = numbers(x1, y1, x2, y2)
    return left, top, right, bottom


def points_of(raw: Any, least: int = 3) -> list[tuple[float, float]]:
    """Points: of pairs, of dicts with x and y, or of numbers in a row."""
    if not isinstance(raw, list):
        raise Fault("box without numbers", f"its points are {str(raw)[:40]!r}")
    if raw and not isinstance(raw[0], list | dict):
        raw = [raw[k : k + 2] for k in range(0, len(raw), 2)]
    found = []
    for point in raw:
        pair = [point.get("x"), point.get("y")] if isinstance(point, dict) else point
        if not isinstance(pair, list) or len(pair) < 2:
            raise Fault("box without numbers", f"a point is {str(point)[:40]!r}")
        x, y = numbers(pair[0], pair[1])
        found.append((x, y))
    if len(found) < least:
        raise Fault("box without numbers", f"it has {len(found)} points; expected {least} or more")
    return found


def hull(points: Sequence[tuple[float, float]]) -> Box:
    """The smallest box around points."""
    if not points:
        raise Fault("box without numbers", "it has no points")
    xs, ys = zip(*points, strict=True)
    return min(xs), min(ys), max(xs), max(ys)


def rotated_box(box: Box, degrees: float, around: tuple[float, float] | None = None) -> Box:
    """The hull of a box that is turned clockwise, around its centre where nothing else is said.

    >>> [round(v, 6) for v in rotated_box((0, 0, 4, 2), 90)]
    [1.0, -1.0, 3.0, 3.0]
    """
    x1, y1, x2, y2 = box
    cx, cy = around or ((x1 + x2) / 2, (y1 + y2) / 2)
    cos, sin = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
    corners = [(x - cx, y - cy) for x in (x1, x2) for y in (y1, y2)]
    return hull([(cx + x * cos - y * sin, cy + x * sin + y * cos) for x, y in corners])
