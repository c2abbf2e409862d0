"""The objects of Pascal VOC's XML files as boxes: from which pixel they count, and several files of one image."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from posixpath import basename, splitext

from labelwise.data import entries
from labelwise.data._voc_xml import File, Shape
from labelwise.types import Problem

_ONES = 4


def first_pixel_of(files: Sequence[File], problems: list[Problem]) -> int:
    """From which pixel the boxes count: what begins at the border of an image begins there."""
    zeros: list[str] = []
    ones = 0
    for file in files:
        for one in file.shapes:
            x1, y1, x2, y2 = one.box
            if one.kind != "rotated box" and x1 < x2 and y1 < y2:
                ones += (x1 == 1) + (y1 == 1)
                zeros += [f"{file.name}: object {one.number}"] * ((0 <= x1 < 1) + (0 <= y1 < 1))
    if not zeros:
        return 1
    chosen = 1 if ones > _ONES * len(zeros) else 0
    what = f"{len(zeros)} sides of boxes lie at 0, {ones} at 1: pixels count from {chosen}"
    handling = f"read as first_pixel = {chosen}; else --first-pixel {1 - chosen}, --set data.first_pixel={1 - chosen}"
    problems.append(Problem("pixels from 0", zeros[0], what, handling, len(zeros)))
    return chosen


def entry_of(image: str, files: list[File], first_pixel: int, problems: list[Problem]) -> entries.Entry:
    """What the XML files of one image say together."""
    if len(files) > 1:
        files = sorted(files, key=lambda file: splitext(basename(file.name))[0] != splitext(basename(image))[0])
        what = f"{files[0].name} and {files[1].name} are of {image}" + (", and more" if len(files) > 2 else "")
        handling = "objects of both are read, equal ones once"
        problems.append(Problem("image annotated twice", files[1].name, what, handling, len(files) - 1))
    entry = entries.Entry(size_px=next((file.size_px for file in files if file.size_px is not None), None))
    seen: set[tuple[object, ...]] = set()
    for file in files:
        fresh = [one for one in file.shapes if (one.box, one.name, one.difficult) not in seen]
        seen |= {(one.box, one.name, one.difficult) for one in fresh} if len(files) > 1 else set()
        for one in fresh:
            where = f"{file.name}: object {one.number}"
            entry.objects.append(entries.Object(_box(one, first_pixel), one.name, where, one.difficult))
    return entry


def tell_hulls(files: Iterable[File], problems: list[Problem]) -> None:
    """Shapes that are no upright boxes, once for each kind."""
    found: dict[str, list[str]] = defaultdict(list)
    for file in files:
        for one in file.shapes:
            if one.kind:
                found[one.kind].append(f"{file.name}: object {one.number}")
    for kind, where in found.items():
        problems.append(Problem(kind, where[0], f"objects with a {kind}", "its hull box is used", len(where)))


def _box(one: Shape, first_pixel: int) -> tuple[float, float, float, float]:
    """In continuous coordinates."""
    x1, y1, x2, y2 = one.box
    if one.kind == "rotated box" or (x1 == x2 and y1 == y2):
        return one.box
    left, right = (x1 - first_pixel, x2) if x1 <= x2 else (x1, x2 - first_pixel)
    top, bottom = (y1 - first_pixel, y2) if y1 <= y2 else (y1, y2 - first_pixel)
    return left, top, right, bottom
