"""Boxes that stand in one cell of a table: as a list of numbers, as a polygon, as JSON."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from typing import Any, TypeGuard

from labelwise.data._headers import number, plain

Box = tuple[float, float, float, float]
_MOST_BOXES = 100_000
_NAMES = ("class", "name", "label", "type", "category", "object", "species")


def boxes(cell: str) -> tuple[list[Box], bool] | None:
    """The boxes of a cell (x, y, width and height, or the hull of a polygon), and whether it was one; None: no boxes.

    >>> boxes("[1, 2, 3, 4]"), boxes("")
    (([(1.0, 2.0, 3.0, 4.0)], False), ([], False))
    >>> boxes("[(1, 2), (5, 2), (5, 9)]"), boxes("[{'x': 1, 'y': 2, 'width': 3, 'height': 4}]")
    (([(1.0, 2.0, 4.0, 7.0)], True), ([(1.0, 2.0, 3.0, 4.0)], False))
    """
    inside = cell.strip().strip("[](){}").strip()
    if not inside:
        return [], False
    if ";" in inside and not set("[](){}'\":,") & set(inside):  # a box after another: 1 2 3 4;5 6 7 8
        several = [one.split() for one in inside.split(";")]
        if all(len(one) == 4 for one in several):
            return [(number(a), number(b), number(c), number(d)) for a, b, c, d in several], False
    if inside.casefold() in ("no_box", "nobox"):
        return [], False
    parts = re.split(r"[,;\s]+", inside)
    if len(parts) == 4 and not set("[](){}'\":") & set(inside):
        x, y, width, height = map(number, parts)
        return [(x, y, width, height)], False
    value = _value(cell)
    if not isinstance(value, list) or len(value) > _MOST_BOXES:
        return None
    if len(value) == 1 and isinstance(value[0], list) and value[0] and isinstance(value[0][0], list):
        value = value[0]
    if len(value) > 2 and all(_numbers(one, 2) for one in value):
        xs, ys = [float(one[0]) for one in value], [float(one[1]) for one in value]
        return [(min(xs), min(ys), max(xs) - min(xs), max(ys) - min(ys))], True
    found = [_box(one) for one in value]
    return None if None in found else ([one for one in found if one is not None], False)


def shape(cell: str) -> tuple[Box | None, str]:
    """The box of a shape of the VGG Image Annotator (xyxy), and the name of the shape; None: it has none.

    >>> shape('{"name":"rect","x":1,"y":2,"width":3,"height":4}')
    ((1.0, 2.0, 4.0, 6.0), 'rect')
    """
    value = _value(cell)
    if not isinstance(value, dict) or not value:
        return None, ""
    name = str(value.get("name", ""))[:40]
    if name in ("polygon", "polyline"):
        xs, ys = value.get("all_points_x"), value.get("all_points_y")
        if _numbers(xs) and _numbers(ys) and min(len(xs), len(ys)) > 1:
            return (float(min(xs)), float(min(ys)), float(max(xs)), float(max(ys))), name
        return None, name
    keys = {
        "rect": ("x", "y", "width", "height"),
        "circle": ("cx", "cy", "r", "r"),
        "ellipse": ("cx", "cy", "rx", "ry"),
    }
    said = [_float(value.get(key)) for key in keys.get(name, ())]
    if len(said) != 4:
        return None, name
    x, y, width, height = said
    return ((x, y, x + width, y + height) if name == "rect" else (x - width, y - height, x + width, y + height)), name


def name_of(cell: str) -> str:
    """The class in the attributes of a shape: the only one, or that under a usual name; empty where it is not clear.

    >>> name_of('{"name":"cat"}'), name_of('{"kind":{"cat":true,"dog":false}}'), name_of('{"a":"1","b":"2"}')
    ('cat', 'cat', '')
    """
    value = _value(cell)
    if not isinstance(value, dict):
        return ""
    usual = [key for word in _NAMES for key in value if plain(str(key)) in (word, f"{word}name")]
    key = next(iter(usual), next(iter(value), None) if len(value) == 1 else None)
    said = value.get(key)
    if isinstance(said, dict):
        chosen = [name for name, yes in said.items() if yes is True or yes == "true"]
        said = chosen[0] if len(chosen) == 1 else ""
    return str(said).strip() if isinstance(said, str | int) else ""


def _value(cell: str) -> Any:
    """What a cell says in JSON, or as Python writes it."""
    for said in (cell, cell.replace("(", "[").replace(")", "]").replace("'", '"')):
        try:
            return json.loads(said)
        except (ValueError, RecursionError):
            continue
    return None


def _numbers(value: Any, count: int | None = None) -> TypeGuard[list[float]]:
    if not isinstance(value, list) or (count is not None and len(value) != count):
        return False
    return all(isinstance(one, int | float) and _float(one) == one for one in value)


def _float(value: Any) -> float:
    try:
        return float(value)
    except (TypeError, ValueError, OverflowError):
        return float("nan")


def _box(value: Any) -> Box | None:
    said: Sequence[Any] = value if isinstance(value, list) else ()
    if isinstance(value, dict):
        keys = {plain(str(key)): one for key, one in value.items()}
        said = [keys.get(long, keys.get(long[0])) for long in ("x", "y", "width", "height")]
    if len(said) != 4 or any(one is None or isinstance(one, bool | list | dict) for one in said):
        return None
    x, y, width, height = map(_float, said)
    return x, y, width, height
