"""One XML file of the kind of Pascal VOC: what it says of its image, number by number as it stands there."""

from __future__ import annotations

import math
import re
import xml.etree.ElementTree as ET
from dataclasses import dataclass, field
from typing import NamedTuple

from labelwise.types import Problem

_BEGINS = re.compile(rb"\s*(?:<[?!][^>]*>\s*)*<(?:[\w.-]+:)?annotation[\s>/]")

_MOST_PX = 10_000_000
_CORNERS = ("xmin", "ymin", "xmax", "ymax")
_ROTATED = ("robndbox", "rotated_box", "bndbox")
_YES = ("1", "true", "True")


class Shape(NamedTuple):
    """An object: `box` xyxy as written; `kind`: empty, or polygon or rotated box, of which `box` is the hull."""

    box: tuple[float, float, float, float]
    name: str
    number: int
    kind: str
    difficult: bool


@dataclass(slots=True)
class File:
    """What an XML file says; `filename`, `folder` and `path` are how it names its image, as written."""

    name: str
    filename: str = ""
    folder: str = ""
    path: str = ""
    size_px: tuple[int, int] | None = None
    shapes: list[Shape] = field(default_factory=list)
    tracked: bool = False
    """It is a frame of a video, as ImageNet VID writes them: its objects have track ids."""


def is_one(head: bytes) -> bool:
    """Whether a file that begins so is of this kind.

    >>> is_one(b'<?xml version="1.0"?>\\n<annotation>'), is_one(b"<annotations>")
    (True, False)
    """
    return _BEGINS.match(head.lstrip(b"\xef\xbb\xbf\xff\xfe").replace(b"\0", b"")) is not None


def parse(root: ET.Element, name: str, problems: list[Problem]) -> File:
    """What the elements below an `<annotation>` say; `name`: the file, for messages."""
    filename, folder, path = (root.findtext(tag) or "" for tag in ("filename", "folder", "path"))
    file = File(name, filename, folder, path, _size(root))
    for number, element in enumerate(root.iter("object"), start=1):
        parts = _parts(element)
        file.tracked = file.tracked or "trackid" in parts
        label = _text(parts, "name") or (element.findtext("possibleresult/name") or "").strip() or _text(parts, "label")
        if _text(parts, "deleted") in _YES:
            what = f"{label!r} is marked as deleted"
            problems.append(Problem("deleted object", f"{name}: object {number}", what, "left out"))
        elif not label:
            where = f"{name}: object {number}"
            problems.append(Problem("object without class", where, "it has no name", "left out"))
        elif (found := _shape(parts)) is None:
            said = [element.findtext(f"bndbox/{key}", "") for key in _CORNERS]
            what = f"bndbox is {', '.join(map(repr, said))}; expected numbers {', '.join(_CORNERS)}"
            problems.append(Problem("box without numbers", f"{name}: object {number}", what[:200], "left out"))
        else:
            file.shapes.append(Shape(found[0], label, number, found[1], _text(parts, "difficult") in _YES))
    return file


def _parts(element: ET.Element) -> dict[str, ET.Element]:
    """Elements in an element by tag, the first of each."""
    return {child.tag: child for child in reversed(element)}


def _text(parts: dict[str, ET.Element], tag: str) -> str:
    return (parts[tag].text or "").strip() if tag in parts else ""


def _size(root: ET.Element) -> tuple[int, int] | None:
    for place, width, height in (("size", "width", "height"), ("imagesize", "ncols", "nrows")):
        inside = root.find(place)
        if inside is not None:
            w, h = _number(inside.findtext(width)), _number(inside.findtext(height))
            if w is not None and h is not None and 0 <= min(w, h) <= max(w, h) <= _MOST_PX:
                return int(w), int(h)
    return None


def _shape(parts: dict[str, ET.Element]) -> tuple[tuple[float, float, float, float], str] | None:
    """The box of an object (or the hull of its shape) and what it is."""
    if "bndbox" in parts:
        corner = _parts(parts["bndbox"])
        x1, y1, x2, y2 = (_number(corner[key].text if key in corner else None) for key in _CORNERS)
        if x1 is not None and y1 is not None and x2 is not None and y2 is not None:
            return (x1, y1, x2, y2), ""
    for tag in _ROTATED:
        inside = parts.get(tag)
        if inside is not None and (box := _turned(inside) or _hull(inside)) is not None:
            return box, "rotated box"
    for tag in ("polygon", "segmentation", "points", "polyline"):
        inside = parts.get(tag)
        if inside is not None and (box := _hull(inside)) is not None:
            return box, "polygon"
    return None


def _turned(element: ET.Element) -> tuple[float, float, float, float] | None:
    """Hull of centre, sides and angle: in radians, or in degrees where it is more than a turn."""
    cx, cy, w, h, angle = (_number(element.findtext(key)) for key in ("cx", "cy", "w", "h", "angle"))
    if cx is None or cy is None or w is None or h is None:
        return None
    return turned_hull(cx, cy, w, h, angle or 0.0)


def turned_hull(cx: float, cy: float, w: float, h: float, angle: float) -> tuple[float, float, float, float] | None:
    """The box around a rectangle that is turned about its centre; None: the angle is none.

    >>> turned_hull(10, 10, 8, 4, 0.0), [round(v, 6) for v in turned_hull(10, 10, 8, 4, math.pi / 2)]
    ((6.0, 8.0, 14.0, 12.0), [8.0, 6.0, 12.0, 14.0])
    """
    if not math.isfinite(angle):
        return None
    angle = math.radians(angle) if abs(angle) > 2 * math.pi + 0.01 else angle
    c, s = abs(math.cos(angle)), abs(math.sin(angle))
    half_w, half_h = (w * c + h * s) / 2, (w * s + h * c) / 2
    return cx - half_w, cy - half_h, cx + half_w, cy + half_h


def _hull(element: ET.Element) -> tuple[float, float, float, float] | None:
    """Hull of points: x1, y1, x2, y2, ... or x_left_top, ...; or elements with x and y; or texts `x,y`."""
    points: list[tuple[float | None, float | None]] = []
    by_tag = {child.tag: child.text for child in element if isinstance(child.tag, str)}
    points += [
        (_number(text), _number(by_tag["y" + tag[1:]]))
        for tag, text in by_tag.items()
        if tag.startswith("x") and "y" + tag[1:] in by_tag
    ]
    for child in element:
        if child.find("x") is not None:
            points.append((_number(child.findtext("x")), _number(child.findtext("y"))))
        elif len(parts := (child.text or "").split(",")) == 2:
            points.append((_number(parts[0]), _number(parts[1])))
    numbers = [(x, y) for x, y in points if x is not None and y is not None]
    if len(numbers) < 2 or len(numbers) < len(points):
        return None
    xs, ys = zip(*numbers, strict=True)
    return min(xs), min(ys), max(xs), max(ys)


def _number(text: str | None) -> float | None:
    """A finite number.

    >>> _number(" 3.5 "), _number("1_0"), _number("nan"), _number("")
    (3.5, None, None, None)
    """
    try:
        value = float(text) if text and "_" not in text else math.nan
    except ValueError:
        return None
    return value if math.isfinite(value) else None
