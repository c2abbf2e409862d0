"""The shapes of CVAT's XML files as boxes."""

from __future__ import annotations

import math
import xml.etree.ElementTree as ET
from collections import defaultdict
from collections.abc import Callable

from labelwise.data._voc_xml import turned_hull
from labelwise.types import Problem

Box = tuple[float, float, float, float]


class Tally:
    """What was met and where first; told once for each kind, with its count."""

    def __init__(self) -> None:
        self._where: dict[tuple[str, str, str], list[str]] = defaultdict(list)

    def note(self, kind: str, where: str, what: str, handling: str) -> None:
        """One more of a kind."""
        self._where[kind, what, handling].append(where)

    def problems(self) -> list[Problem]:
        """One for each kind."""
        return [
            Problem(kind, where[0], what, handling, len(where)) for (kind, what, handling), where in self._where.items()
        ]


def box_of(element: ET.Element, where: str, tally: Tally) -> Box | None:
    """The box of a shape in continuous pixels, or its hull; None: it has none, which is noted."""
    tag = element.tag
    if tag not in _READ:
        tally.note(tag, where, f"a {tag} has no box", "left out")
        return None
    box = _READ[tag](element)
    if box is None:
        tally.note("box without numbers", where, f"a {tag} whose numbers are missing or broken", "left out")
        return None
    if element.tag != "box":
        tally.note(tag, where, f"a shape that is a {tag}", "its hull box is used")
    elif (number(element, "rotation") or 0.0) % 360 != 0:
        tally.note("rotated box", where, "a box that is turned", "its hull box is used")
    return box


def number(element: ET.Element, key: str) -> float | None:
    """A finite number that an attribute holds."""
    return _float(element.get(key))


def whole(text: str | None, most: int = 10**9) -> int | None:
    """A whole number from 0.

    >>> whole("7"), whole("-1"), whole("7.5"), whole("9" * 5000)
    (7, None, None, None)
    """
    said = (text or "").strip()
    return int(said) if said.isascii() and said.isdigit() and len(said) <= 10 and int(said) <= most else None


def _float(text: str | None) -> float | None:
    try:
        value = float(text) if text and "_" not in text else math.nan
    except ValueError:
        return None
    return value if math.isfinite(value) else None


def _rectangle(element: ET.Element) -> Box | None:
    x1, y1, x2, y2 = (number(element, key) for key in ("xtl", "ytl", "xbr", "ybr"))
    if x1 is None or y1 is None or x2 is None or y2 is None:
        return None
    return _turned((x1, y1, x2, y2), element)


def _turned(box: Box, element: ET.Element) -> Box | None:
    x1, y1, x2, y2 = box
    degrees = (number(element, "rotation") or 0.0) % 360
    if not degrees:
        return box
    return turned_hull((x1 + x2) / 2, (y1 + y2) / 2, abs(x2 - x1), abs(y2 - y1), math.radians(degrees))


def _points(element: ET.Element) -> Box | None:
    pairs = [part.split(",") for part in (element.get("points") or "").split(";") if part.strip()]
    numbers = [[_float(one) for one in pair] for pair in pairs]
    xs, ys = ([pair[k] for pair in numbers if len(pair) == 2 and pair[k] is not None] for k in (0, 1))
    if len(xs) < 2 or len(xs) < len(pairs) or len(ys) < len(pairs):
        return None
    return _hull(xs, ys)


def _cuboid(element: ET.Element) -> Box | None:
    corners = [f"{side}{k}" for side in ("tl", "bl", "tr", "br") for k in (1, 2)]
    xs, ys = ([number(element, f"{axis}{corner}") for corner in corners] for axis in "xy")
    return None if None in xs or None in ys else _hull(xs, ys)


def _ellipse(element: ET.Element) -> Box | None:
    cx, cy, rx, ry = (number(element, key) for key in ("cx", "cy", "rx", "ry"))
    if cx is None or cy is None or rx is None or ry is None:
        return None
    angle = math.radians((number(element, "rotation") or 0.0) % 360)
    half_w = math.hypot(rx * math.cos(angle), ry * math.sin(angle))
    half_h = math.hypot(rx * math.sin(angle), ry * math.cos(angle))
    return cx - half_w, cy - half_h, cx + half_w, cy + half_h


def _mask(element: ET.Element) -> Box | None:
    left, top, width, height = (number(element, key) for key in ("left", "top", "width", "height"))
    if left is None or top is None or width is None or height is None:
        return None
    return left, top, left + width, top + height


def _hull(xs: list[float | None], ys: list[float | None]) -> Box:
    x, y = ([one for one in values if one is not None] for values in (xs, ys))
    return min(x), min(y), max(x), max(y)


_READ: dict[str, Callable[[ET.Element], Box | None]] = {
    "box": _rectangle,
    "polygon": _points,
    "cuboid": _cuboid,
    "ellipse": _ellipse,
    "mask": _mask,
}
