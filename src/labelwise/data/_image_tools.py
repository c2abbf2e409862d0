"""JSON of tools that write one file per image: what a file says (machinery of `json_per_image`)."""

from __future__ import annotations

import base64
import binascii
import math
import posixpath
import struct
import zlib
from collections.abc import Callable, Iterator
from typing import Any

from labelwise.data._json_fields import (
    Box,
    Fault,
    corner_box,
    dict_of,
    ends_box,
    hull,
    list_box,
    name_of,
    numbers,
    points_of,
    size_of,
    text_of,
)
from labelwise.data._said import Notes, Said, entries_of, objects, polygon_box

Parser = Callable[[dict[str, Any], str, Notes], Iterator[Said]]


def labelme(content: dict[str, Any], file: str, notes: Notes) -> Iterator[Said]:
    """Shapes of labelme, AnyLabeling and X-AnyLabeling; `imageData` is not looked at."""

    def make(shape: dict[str, Any], where: str) -> tuple[str, Box]:
        name, points, kind = name_of(shape.get("label")), shape.get("points"), shape.get("shape_type")
        if kind in ("point", "points", "line", "linestrip"):
            raise Fault("no box")
        if kind == "circle":
            (cx, cy), (x, y) = points_of(points, 2)[:2]
            radius = math.hypot(x - cx, y - cy)
            notes.count("ellipse", where)
            return name, (cx - radius, cy - radius, cx + radius, cy + radius)
        box = hull(points_of(points, 2))
        if kind == "mask":  # its corners are pixels, both within
            notes.count("mask", where)
            return name, (box[0], box[1], box[2] + 1, box[3] + 1)
        if kind == "rotation":
            notes.count("rotated box", where)
        elif kind != "rectangle" and len(points_of(points, 2)) > 2:
            notes.count("polygon", where)
        return name, box

    size = size_of(content.get("imageWidth"), content.get("imageHeight"))
    found = objects(content.get("shapes"), f"{file}: shapes", notes, make)
    yield Said(text_of(content.get("imagePath")), file, found, size, twin=_twin(file))


def supervisely(content: dict[str, Any], file: str, notes: Notes) -> Iterator[Said]:
    """Objects of Supervisely: `ann/a.jpg.json` beside `img/a.jpg`."""

    def make(one: dict[str, Any], where: str) -> tuple[str, Box]:
        name, kind = name_of(one.get("classTitle")), one.get("geometryType")
        points = dict_of(one.get("points")).get("exterior")
        if kind == "bitmap" or "bitmap" in one:
            box = _bitmap(dict_of(one.get("bitmap")))
            notes.count("mask", where)
            return name, box
        if kind == "rectangle":
            return name, ends_box(*(v for point in points_of(points, 2)[:2] for v in point))
        if kind == "polygon" or (kind is None and points):
            return name, polygon_box(points, where, notes)
        raise Fault("no box")

    size = dict_of(content.get("size"))
    found = objects(content.get("objects"), f"{file}: objects", notes, make)
    yield Said(_twin(file), file, found, size_of(size.get("width"), size.get("height")), twin=_twin(_twin(file)))


def _bitmap(raw: dict[str, Any]) -> Box:
    """The box of a mask: its origin, and the size that the header of its packed PNG tells."""
    origin, data = raw.get("origin"), raw.get("data")
    if not isinstance(origin, list) or len(origin) != 2 or not isinstance(data, str):
        raise Fault("box without numbers", f"its bitmap is {str(raw)[:40]!r}")
    try:
        packed = base64.b64decode(data[:400], validate=False)
        head = zlib.decompressobj().decompress(packed, 24)
        width, height = struct.unpack(">II", head[16:24])
    except (binascii.Error, ValueError, zlib.error, struct.error):
        raise Fault("box without numbers", "its bitmap is no packed PNG") from None
    return corner_box(origin[0], origin[1], width, height)


def vott_asset(content: dict[str, Any], file: str, notes: Notes) -> Iterator[Said]:
    """An asset of VoTT: `<id>-asset.json`, or a member of its export."""
    asset = dict_of(content.get("asset"))

    def make(one: dict[str, Any], where: str) -> tuple[str, Box]:
        tags = one.get("tags")
        if isinstance(tags, list) and len(tags) > 1:
            notes.count("several classes", where)
        name = name_of(tags[0] if isinstance(tags, list) and tags else None)
        raw = one.get("boundingBox")
        if not isinstance(raw, dict):
            return name, polygon_box(one.get("points"), where, notes)
        box = corner_box(raw.get("left"), raw.get("top"), raw.get("width"), raw.get("height"))
        if one.get("type") == "POLYGON":
            notes.count("polygon", where)
        return name, box

    found = objects(content.get("regions"), f"{file}: regions", notes, make)
    size = dict_of(asset.get("size"))
    state = asset.get("state")
    yield Said(
        text_of(asset.get("name")) or text_of(asset.get("path")),
        file,
        found,
        size_of(size.get("width"), size.get("height")),
        seen=bool(found) or state != 0,
    )


def superannotate(content: dict[str, Any], file: str, notes: Notes) -> Iterator[Said]:
    """Instances of SuperAnnotate: `a.jpg___objects.json` or `a.jpg.json`."""
    about = dict_of(content.get("metadata"))

    def make(one: dict[str, Any], where: str) -> tuple[str, Box]:
        name, kind, points = name_of(one.get("className")), one.get("type"), one.get("points")
        if kind == "bbox":
            at = dict_of(points)
            return name, ends_box(at.get("x1"), at.get("y1"), at.get("x2"), at.get("y2"))
        if kind == "rbbox":
            at = dict_of(points)
            box = hull(points_of([v for k in "1234" for v in (at.get("x" + k), at.get("y" + k))]))
            notes.count("rotated box", where)
            return name, box
        if kind == "polygon":
            return name, polygon_box(points, where, notes)
        if kind == "ellipse":
            cx, cy, rx, ry = numbers(one.get("cx"), one.get("cy"), one.get("rx"), one.get("ry"))
            notes.count("ellipse", where)
            return name, (cx - rx, cy - ry, cx + rx, cy + ry)
        raise Fault("no box")

    found = objects(content.get("instances"), f"{file}: instances", notes, make)
    size = size_of(about.get("width"), about.get("height"))
    seen = bool(found) or about.get("status") != "NotStarted"
    twin = _twin(file).removesuffix("___objects").removesuffix("___pixel")
    yield Said(text_of(about.get("name")) or twin, file, found, size, seen=seen)


def darwin(content: dict[str, Any], file: str, notes: Notes) -> Iterator[Said]:
    """Annotations of V7 Darwin, versions 1 and 2."""
    item = dict_of(content.get("item") or content.get("image"))
    slots = item.get("slots")
    slot = dict_of(slots[0]) if isinstance(slots, list) and slots else item

    def make(one: dict[str, Any], where: str) -> tuple[str, Box]:
        name, box = name_of(one.get("name")), one.get("bounding_box")
        polygon = one.get("polygon")
        if isinstance(box, dict):
            made = corner_box(box.get("x"), box.get("y"), box.get("w"), box.get("h"))
            if isinstance(polygon, dict):
                notes.count("polygon", where)
            return name, made
        if isinstance(polygon, dict):
            paths = polygon.get("paths") or [polygon.get("path")]
            return name, polygon_box(paths, where, notes, rings=True)
        raise Fault("no box")

    found = objects(content.get("annotations"), f"{file}: annotations", notes, make)
    name = text_of(slot.get("file_name")) or text_of(item.get("name")) or text_of(item.get("original_filename"))
    yield Said(name, file, found, size_of(slot.get("width"), slot.get("height")), twin=_twin(file))


def bdd_frame(content: dict[str, Any], file: str, notes: Notes) -> Iterator[Said]:
    """BDD100K with one file per image; of a clip the first frame."""
    frames = [frame for _, frame in entries_of(content.get("frames"), f"{file}: frames", notes)]
    if len(frames) > 1:
        notes.count("several frames", file)
    found = objects(frames[0].get("objects") if frames else None, f"{file}: objects", notes, scalabel_object(notes))
    yield Said(text_of(content.get("name")), file, found, stem=True, twin=_twin(file))


def scalabel_object(notes: Notes) -> Callable[[dict[str, Any], str], tuple[str, Box]]:
    """Class and box of an object of BDD100K and Scalabel."""

    def make(one: dict[str, Any], where: str) -> tuple[str, Box]:
        box = one.get("box2d")
        if not isinstance(box, dict):
            raise Fault("no box")
        return name_of(one.get("category")), ends_box(box.get("x1"), box.get("y1"), box.get("x2"), box.get("y2"))

    return make


def cityscapes(content: dict[str, Any], file: str, notes: Notes) -> Iterator[Said]:
    """Cityscapes (polygons) and CityPersons (`bbox`): `x_gtFine_polygons.json` of `x_leftImg8bit.png`."""

    def make(one: dict[str, Any], where: str) -> tuple[str, Box]:
        name = name_of(one.get("label"))
        if "bbox" in one:
            return name, list_box(one["bbox"])
        return name, polygon_box(one.get("polygon"), where, notes)

    found = objects(content.get("objects"), f"{file}: objects", notes, make)
    scene = _twin(file).split("_gt")[0]
    size = size_of(content.get("imgWidth"), content.get("imgHeight"))
    yield Said(f"{scene}_leftImg8bit", file, found, size, stem=True, twin=scene)


def segment_anything(content: dict[str, Any], file: str, notes: Notes) -> Iterator[Said]:
    """Masks of Segment Anything, which have a box and no class."""
    about = dict_of(content.get("image"))

    def make(one: dict[str, Any], where: str) -> tuple[str, Box]:
        box = list_box(one.get("bbox"))
        notes.count("object without class", where)
        return "object", box

    found = objects(content.get("annotations"), f"{file}: annotations", notes, make)
    size = size_of(about.get("width"), about.get("height"))
    yield Said(text_of(about.get("file_name")), file, found, size, twin=_twin(file))


def _twin(file: str) -> str:
    """The path of an image beside its file: without the suffix.

    >>> _twin("ann/a.jpg.json"), _twin("ann/a.json")
    ('a.jpg', 'a')
    """
    return posixpath.splitext(posixpath.basename(file))[0]


PARSERS: dict[str, Parser] = {
    "labelme": labelme,
    "supervisely": supervisely,
    "vott_asset": vott_asset,
    "superannotate": superannotate,
    "darwin": darwin,
    "bdd_frame": bdd_frame,
    "cityscapes": cityscapes,
    "segment_anything": segment_anything,
}
