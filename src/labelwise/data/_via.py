"""VIA, the VGG Image Annotator: projects and exports of versions 1, 2 and 3 (machinery of `json_list`).

The class is the attribute of regions that most of them have; of several the one with the usual name for a class.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Iterator
from typing import Any

from labelwise.data._json_fields import (
    Box,
    Fault,
    corner_box,
    dict_of,
    name_of,
    numbers,
    text_of,
)
from labelwise.data._said import Notes, Said, entries_of, objects, polygon_box

_USUAL = (
    "label",
    "class",
    "name",
    "type",
    "category",
    "object",
    "class_name",
    "classname",
    "label_name",
    "object_name",
)
_KINDS = {2: "rect", 3: "circle", 4: "ellipse", 7: "polygon"}


def via(content: Any, file: str, notes: Notes) -> Iterator[Said]:
    """A project of VIA 2, or an export of VIA 1 or 2."""
    entries = [
        (place, entry, _regions(entry.get("regions")))
        for place, entry in entries_of(content.get("_via_img_metadata", content), file, notes)
    ]
    every = [one for _, _, raw in entries if isinstance(raw, list) for one in raw if isinstance(one, dict)]
    chosen = _attribute([dict_of(one.get("region_attributes")) for one in every], file, notes)

    def make(one: dict[str, Any], where: str) -> tuple[str, Box]:
        said = dict_of(one.get("region_attributes")).get(chosen)
        return _value(said, where, notes) if chosen else "object", _box(
            dict_of(one.get("shape_attributes")), where, notes
        )

    for place, entry, raw in entries:
        if "filename" in entry:
            yield Said(text_of(entry["filename"]), place, objects(raw, f"{place} regions", notes, make))
        elif "regions" in entry:
            notes.tell("broken entry", place, "it has no filename")


def via3(content: Any, file: str, notes: Notes) -> Iterator[Said]:
    """A project of VIA 3 with images: every view is a file, shapes are numbers behind their kind."""
    files = {key: entry for key, entry in dict_of(content.get("file")).items() if isinstance(entry, dict)}
    attributes = {key: dict_of(entry) for key, entry in dict_of(content.get("attribute")).items()}
    names = {key: text_of(entry.get("aname")) or key for key, entry in attributes.items()}
    options = {names[key]: dict_of(entry.get("options")) for key, entry in attributes.items()}
    by_view: dict[str, list[dict[str, Any]]] = {}
    for place, one in entries_of(content.get("metadata"), f"{file}: metadata", notes):
        values = {names.get(key, key): value for key, value in dict_of(one.get("av")).items()}
        told = {key: options.get(key, {}).get(str(value)[:80], value) for key, value in values.items()}
        by_view.setdefault(text_of(one.get("vid")), []).append({"place": place, "xy": one.get("xy"), "said": told})
    chosen = _attribute([one["said"] for found in by_view.values() for one in found if one["xy"]], file, notes)

    def make(one: dict[str, Any], where: str) -> tuple[str, Box]:
        kind, *rest = one["xy"] if isinstance(one["xy"], list) and one["xy"] else [None]
        name = _value(one["said"].get(chosen), where, notes) if chosen else "object"
        if kind == 7:
            return name, polygon_box(rest, where, notes)
        if not isinstance(kind, int) or kind not in _KINDS:
            raise Fault("no box")
        keys = {2: ("x", "y", "width", "height"), 3: ("cx", "cy", "r"), 4: ("cx", "cy", "rx", "ry")}[kind]
        return name, _box({"name": _KINDS[kind], **dict(zip(keys, rest, strict=False))}, where, notes)

    views = dict_of(content.get("view"))
    for key in by_view.keys() - views.keys():
        for one in by_view[key]:
            notes.tell("label without image", one["place"], f"there is no view {key[:40]!r}")
    for key, view in views.items():
        members = dict_of(view).get("fid_list")
        entry = files.get(text_of(members[0]) if isinstance(members, list) and members else "", {})
        place = f"{file}: view[{key[:80]}]"
        found = objects(by_view.get(key, []), place, notes, make)
        yield Said(text_of(entry.get("src")) or text_of(entry.get("fname")), place, found)


def _regions(raw: Any) -> Any:
    """VIA 1 numbers the regions, later versions list them."""
    return list(raw.values()) if isinstance(raw, dict) else raw


def _attribute(every: Iterable[dict[str, Any]], file: str, notes: Notes) -> str:
    """The attribute that is the class; empty where regions have none at all."""
    every = list(every)
    count = Counter(key for one in every for key, value in one.items() if value not in ("", None, {}, []))
    if not count:
        if every:
            notes.count("object without class", file)
        return ""
    ranked = sorted(count, key=lambda key: (-count[key], _rank(key), key))
    most = [key for key in ranked if 2 * count[key] > count[ranked[0]]]
    chosen = min(most, key=lambda key: (_rank(key), -count[key]))
    if len(ranked) > 1:
        others = ", ".join(map(repr, (key[:40] for key in ranked if key != chosen)))
        notes.tell("several attributes", file, f"regions have {chosen!r}, {others}", f"{chosen!r} is the class")
    return chosen


def _rank(key: str) -> int:
    plain = key.strip().lower().replace(" ", "_")
    return _USUAL.index(plain) if plain in _USUAL else len(_USUAL)


def _value(value: Any, where: str, notes: Notes) -> str:
    """The class: a text, or of a checkbox the first that is ticked."""
    if isinstance(value, dict):
        ticked = [key for key, yes in value.items() if yes]
        if len(ticked) > 1:
            notes.count("several classes", where)
        value = ticked[0] if ticked else ""
    return name_of(value)


def _box(shape: dict[str, Any], where: str, notes: Notes) -> Box:
    kind = shape.get("name")
    if kind == "rect":
        return corner_box(shape.get("x"), shape.get("y"), shape.get("width"), shape.get("height"))
    if kind == "polygon":
        xs, ys = shape.get("all_points_x"), shape.get("all_points_y")
        if not isinstance(xs, list) or not isinstance(ys, list) or len(xs) != len(ys):
            raise Fault("box without numbers", "its points are no two lists of one length")
        return polygon_box([list(pair) for pair in zip(xs, ys, strict=True)], where, notes)
    if kind in ("circle", "ellipse"):
        r = shape.get("r")
        cx, cy, rx, ry = numbers(shape.get("cx"), shape.get("cy"), shape.get("rx", r), shape.get("ry", r))
        notes.count("ellipse", where)
        (turn,) = numbers(shape.get("theta") or 0)  # radians
        half_width = math.hypot(rx * math.cos(turn), ry * math.sin(turn))
        half_height = math.hypot(rx * math.sin(turn), ry * math.cos(turn))
        return cx - half_width, cy - half_height, cx + half_width, cy + half_height
    raise Fault("no box")
