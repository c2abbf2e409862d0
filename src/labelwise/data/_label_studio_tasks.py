"""Label Studio, JSON and JSON-MIN: what people have drawn into its tasks (machinery of `json_list`).

Boxes are shares of the image. Of several annotations of a task the ground truth counts, else the latest that is not
cancelled. A task without one is without labels.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from typing import Any

from labelwise.data._json_fields import (
    Box,
    Fault,
    dict_of,
    name_of,
    numbers,
    rotated_box,
    size_of,
    text_of,
)
from labelwise.data._said import Notes, Said, entries_of, objects, polygon_box

_KEYS = ("image", "img", "url", "image_url", "photo", "picture")
_FILE = re.compile(r"\.(jpe?g|jfif|png|bmp|tiff?|webp|gif|hei[cf]|avif)($|\?)", re.IGNORECASE)
_DRAWN = ("rectanglelabels", "polygonlabels", "ellipselabels", "brushlabels", "labels", "hypertextlabels")
_SHAPES = ("rectangle", "polygon", "ellipse", "brush")


def label_studio(content: Any, file: str, notes: Notes) -> Iterator[Said]:
    """Tasks with their annotations."""
    for place, task in entries_of(content, file, notes):
        raw = task.get("annotations", task.get("completions"))
        chosen = _latest([one for one in (raw if isinstance(raw, list) else []) if isinstance(one, dict)], place, notes)
        results = None if chosen is None else chosen.get("result")
        if chosen is not None and not isinstance(results, list):
            notes.tell("broken entry", place, f"its result is {str(results)[:40]!r}; expected a list")
            chosen = None
        reference = _image(dict_of(task.get("data"))) or text_of(task.get("file_upload"))
        found, size = _objects(results, f"{place} result", notes)
        yield Said(reference, place, found, size, seen=chosen is not None)


def label_studio_min(content: Any, file: str, notes: Notes) -> Iterator[Said]:
    """JSON-MIN: an entry per annotation, its regions under the names of the labels."""
    tasks: dict[str, list[tuple[str, dict[str, Any]]]] = {}
    for place, entry in entries_of(content, file, notes):
        tasks.setdefault(text_of(entry.get("id")) or place, []).append((place, entry))
    for found in tasks.values():
        entry = _latest([entry for _, entry in found], found[0][0], notes) or found[-1][1]
        place = next(place for place, one in found if one is entry)
        lists = [value for key, value in entry.items() if isinstance(value, list) and _holds_regions(key, value)]
        regions = [{"value": one, **_sizes(one)} if isinstance(one, dict) else one for value in lists for one in value]
        drawn, size = _objects(regions, place, notes)
        yield Said(_image(entry), place, drawn, size)


def _holds_regions(name: str, value: list[Any]) -> bool:
    """Whether a field of JSON-MIN holds what was drawn: by its usual name, or by what is in it."""
    return name in ("label", "bbox") or any(
        isinstance(one, dict) and any(key in one for key in ("original_width", "x", "points", *_DRAWN)) for one in value
    )


def _sizes(one: dict[str, Any]) -> dict[str, Any]:
    return {key: one.get(key) for key in ("original_width", "original_height", "image_rotation")}


def _latest(annotations: list[dict[str, Any]], place: str, notes: Notes) -> dict[str, Any] | None:
    """The annotation that counts."""
    done = [one for one in annotations if one.get("was_cancelled") is not True and one.get("skipped") is not True]
    if len(done) > 1:
        notes.count("several annotations", place)
    order = sorted(
        enumerate(done),
        key=lambda at: (
            at[1].get("ground_truth") is True,
            text_of(at[1].get("updated_at")) or text_of(at[1].get("created_at")),
            at[0],
        ),
    )
    return order[-1][1] if order else None


def _image(data: dict[str, Any]) -> str:
    """The path of a task's image: by the usual key, else the first text that ends like one."""
    named = [text_of(data.get(key)) for key in _KEYS]
    texts = [value.strip() for value in data.values() if isinstance(value, str)]
    return next((text for text in (*named, *(text for text in texts if _FILE.search(text[-4096:]))) if text), "")


def _objects(results: Any, where: str, notes: Notes) -> tuple[list[Any], tuple[int, int] | None]:
    """Objects of an annotation, and the size of the image where it is said."""
    if not isinstance(results, list):
        return [], None
    dicts = [one for one in results if isinstance(one, dict)]
    size = next(filter(None, (size_of(one.get("original_width"), one.get("original_height")) for one in dicts)), None)
    with_class = {text_of(one.get("id")) for one in dicts if _labels(one)} - {""}

    def make(one: dict[str, Any], place: str) -> tuple[str, Box]:
        names = _labels(one)
        if not names:
            raise Fault("object without class", "it has no label")
        if len(names) > 1:
            notes.count("several classes", place)
        name = name_of(names[0])
        if one.get("image_rotation") not in (0, None):
            raise Fault("rotated image", f"it was annotated turned by {str(one['image_rotation'])[:20]} degrees")
        return name, _box(dict_of(one.get("value")), size, place, notes)

    drawn: list[Any] = []
    for one in results:
        shape = isinstance(one, dict) and one.get("type") in _SHAPES
        if not isinstance(one, dict) or _labels(one) or (shape and text_of(one.get("id")) not in with_class):
            drawn.append(one)
        elif not shape:
            notes.count("no box", where)
    return objects(drawn, where, notes, make), size


def _labels(one: dict[str, Any]) -> list[Any]:
    value = dict_of(one.get("value"))
    for key in _DRAWN:
        if isinstance(value.get(key), list) and value[key]:
            return list(value[key])
    return []


def _box(value: dict[str, Any], size: tuple[int, int] | None, where: str, notes: Notes) -> Box:
    """The box of a region as shares; a turned one is measured in pixels."""
    if "points" in value:
        return _shares(polygon_box(value["points"], where, notes))
    if "rle" in value or "format" in value:
        raise Fault("mask without box")
    if "radiusX" in value:
        x, y, rx, ry = numbers(value.get("x"), value.get("y"), value.get("radiusX"), value.get("radiusY"))
        notes.count("ellipse", where)
        box, around = (x - rx, y - ry, x + rx, y + ry), (x, y)
    elif "width" in value and "height" in value:
        x, y, width, height = numbers(value.get("x"), value.get("y"), value["width"], value["height"])
        box, around = (x, y, x + width, y + height), (x, y)
    else:
        raise Fault("no box")
    (angle,) = numbers(value.get("rotation") or 0)
    if angle % 360 == 0:
        return _shares(box)
    if size is None or 0 in size:
        raise Fault("rotated box", "it is rotated, and the size of the image is not said")
    notes.count("rotated box", where)
    w, h = size
    pixels = (box[0] * w, box[1] * h, box[2] * w, box[3] * h)
    x1, y1, x2, y2 = rotated_box(pixels, angle, (around[0] * w, around[1] * h))
    return _shares((x1 / w, y1 / h, x2 / w, y2 / h))


def _shares(box: Iterable[float]) -> Box:
    x1, y1, x2, y2 = (v / 100 for v in box)
    return x1, y1, x2, y2
