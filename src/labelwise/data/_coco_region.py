"""The box around what a COCO annotation draws: polygon, run lengths, turned rectangle."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

Box = tuple[float, float, float, float]

_MOST_PX = 2**31


def around(segmentation: Any) -> Box | None:
    """Box (xyxy) around polygons or run lengths; None where they are neither, or empty.

    >>> around([[1, 2, 8, 2, 8, 5]]), around({"size": [4, 5], "counts": [5, 2, 2, 1, 10]}), around("x")
    ((1.0, 2.0, 8.0, 5.0), (1.0, 1.0, 3.0, 3.0), None)
    """
    if isinstance(segmentation, dict):
        return _of_runs(segmentation)
    if not isinstance(segmentation, list):
        return None
    parts = [segmentation] if segmentation and is_number(segmentation[0]) else segmentation
    boxes = [box for part in parts if (box := _of_polygon(part)) is not None]
    if not boxes:
        return None
    x1, y1, x2, y2 = zip(*boxes, strict=True)
    return min(x1), min(y1), max(x2), max(y2)


def is_number(value: Any) -> bool:
    """Whether it is a number that a float holds, and finite."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return False
    return abs(value) < 1e300  # false of NaN too


def of_corners(values: Sequence[float]) -> Box:
    """Box around points x, y, x, y, ..."""
    x, y = values[0::2], values[1::2]
    return float(min(x)), float(min(y)), float(max(x)), float(max(y))


def of_turned(cx: float, cy: float, width: float, height: float, degrees: float) -> Box:
    """Box around a rectangle turned about its centre.

    >>> [round(v, 6) for v in of_turned(10, 10, 8, 4, 90)]
    [8.0, 6.0, 12.0, 14.0]
    """
    turn = math.radians(degrees % 360)
    c, s = abs(math.cos(turn)), abs(math.sin(turn))
    w, h = abs(width) * c + abs(height) * s, abs(width) * s + abs(height) * c
    return cx - w / 2, cy - h / 2, cx + w / 2, cy + h / 2


def _of_polygon(part: Any) -> Box | None:
    if isinstance(part, dict):
        return _of_runs(part)
    if not isinstance(part, list) or len(part) < 2 or len(part) % 2 or not all(map(is_number, part)):
        return None
    return of_corners(part)


def _of_runs(said: dict[str, Any]) -> Box | None:
    """Runs of a mask, column by column: nothing, object, nothing, ..."""
    size, counts = said.get("size"), said.get("counts")
    if not isinstance(size, list) or len(size) != 2 or not all(isinstance(v, int) and 0 < v < _MOST_PX for v in size):
        return None
    if isinstance(counts, str):
        counts = _runs_of_text(counts)
    if not isinstance(counts, list) or not all(isinstance(v, int) and 0 <= v <= size[0] * size[1] for v in counts):
        return None
    ends = np.cumsum(np.array(counts, np.float64))
    if not len(ends) or ends[-1] > size[0] * size[1]:
        return None
    ends = ends.astype(np.int64)
    first, last = ends[0:-1:2], ends[1::2] - 1
    first, last = first[: len(last)][last >= first], last[last >= first]
    if not len(first):
        return None
    height = size[0]
    x1, x2, y1, y2 = first // height, last // height, first % height, last % height
    several = x1 != x2
    y1, y2 = np.where(several, 0, y1), np.where(several, height - 1, y2)
    return float(x1.min()), float(y1.min()), float(x2.max() + 1), float(y2.max() + 1)


def _runs_of_text(text: str) -> list[int] | None:
    """Run lengths of COCO's text form: five bits a character, from the third on differences to the last but one."""
    runs: list[int] = []
    value, shift = 0, 0
    for letter in text:
        bits = ord(letter) - 48
        if not 0 <= bits < 64 or shift > 60:
            return None
        value |= (bits & 31) << shift
        shift += 5
        if bits & 32:
            continue
        if bits & 16:
            value -= 1 << shift
        runs.append(value + (runs[-2] if len(runs) > 2 else 0))
        value, shift = 0, 0
    return runs if not shift else None
