"""JSON of tools that write one file for all images: what a file says (machinery of `json_list`)."""

from __future__ import annotations

import posixpath
from collections.abc import Callable, Iterator
from typing import Any

from labelwise.data import split_names
from labelwise.data._image_tools import scalabel_object, vott_asset
from labelwise.data._json_fields import (
    Box,
    Fault,
    centre_box,
    corner_box,
    dict_of,
    ends_box,
    hull,
    list_box,
    name_of,
    numbers,
    points_of,
    rotated_box,
    size_of,
    text_of,
)
from labelwise.data._said import Notes, Said, entries_of, objects, polygon_box

Parser = Callable[[Any, str, Notes], Iterator[Said]]


def vott(content: Any, file: str, notes: Notes) -> Iterator[Said]:
    """An export of VoTT; tags that are listed are the classes."""
    tags = content.get("tags")
    notes.lists(tag.get("name") for tag in (tags if isinstance(tags, list) else []) if isinstance(tag, dict))
    for place, asset in entries_of(content.get("assets"), f"{file}: assets", notes):
        if "asset" in asset:
            yield from vott_asset(asset, place, notes)


def createml(content: Any, file: str, notes: Notes) -> Iterator[Said]:
    """CreateML: coordinates are centre and size in pixels."""

    def make(one: dict[str, Any], where: str) -> tuple[str, Box]:
        name, box = name_of(one.get("label")), one.get("coordinates")
        if not isinstance(box, dict):
            raise Fault("no box")
        return name, centre_box(box.get("x"), box.get("y"), box.get("width"), box.get("height"))

    for place, entry in entries_of(content, file, notes):
        reference = next((text_of(entry[k]) for k in ("image", "imagefilename", "image_filename") if k in entry), "")
        key = next((k for k in ("annotations", "annotation") if k in entry), None)
        yield Said(reference, place, objects(entry.get(key or ""), place, notes, make), seen=key is not None)


def datumaro(content: Any, file: str, notes: Notes) -> Iterator[Said]:
    """Datumaro; the file is the split, and `default` is none."""
    labels = dict_of(dict_of(content.get("categories")).get("label")).get("labels")
    names = [text_of(dict_of(label).get("name")) for label in (labels if isinstance(labels, list) else [])]
    notes.lists(names)
    subset = posixpath.splitext(posixpath.basename(file))[0]

    def make(one: dict[str, Any], where: str) -> tuple[str, Box]:
        kind, number, box = one.get("type"), one.get("label_id"), one.get("bbox")
        if kind not in ("bbox", "polygon", "ellipse", "rotated_bbox", "mask"):
            raise Fault("no box")
        if not isinstance(number, int) or not 0 <= number < len(names) or not names[number]:
            raise Fault("unknown class id", f"label_id {str(number)[:20]} is not in the categories")
        if kind in ("bbox", "mask"):
            if kind == "mask" and not box:
                raise Fault("mask without box")
            angle = dict_of(one.get("attributes")).get("rotation")
            return names[number], _turned(list_box(box), angle, where, notes)
        if kind == "rotated_bbox":
            shape = one.get("shape", one.get("points"))
            cx, cy, w, h, angle = numbers(*(shape if isinstance(shape, list) and len(shape) == 5 else [None]))
            return names[number], _turned(centre_box(cx, cy, w, h), angle, where, notes)
        if kind == "polygon":
            return names[number], polygon_box(one.get("points"), where, notes)
        box = hull(points_of(one.get("points"), 2))
        notes.count("ellipse", where)
        return names[number], box

    for place, item in entries_of(content.get("items"), f"{file}: items", notes):
        media = dict_of(item.get("image") or item.get("media"))
        size = media.get("size")
        height, width = size if isinstance(size, list) and len(size) == 2 else (None, None)
        found = objects(item.get("annotations"), f"{place} annotations", notes, make)
        path, own = text_of(media.get("path")), text_of(item.get("id"))
        split = "" if subset == "default" else subset
        yield Said(path or own, place, found, size_of(width, height), split, stem=not path)


def _turned(box: Box, degrees: Any, where: str, notes: Notes) -> Box:
    """A box, turned clockwise around its centre where an angle is said."""
    (angle,) = numbers(degrees or 0)
    if angle % 360 == 0:
        return box
    notes.count("rotated box", where)
    return rotated_box(box, angle)


def bdd(content: Any, file: str, notes: Notes) -> Iterator[Said]:
    """BDD100K and Scalabel: a list of images, or `frames` with a configuration."""
    if isinstance(content, dict):
        categories = dict_of(content.get("config")).get("categories")
        notes.lists(c.get("name") for c in (categories if isinstance(categories, list) else []) if isinstance(c, dict))
        content = content.get("frames")
    make = scalabel_object(notes)
    for place, entry in entries_of(content, file, notes):
        size = dict_of(entry.get("size"))
        found = objects(entry.get("labels"), f"{place} labels", notes, make)
        name = text_of(entry.get("name"))
        stem = not posixpath.splitext(name)[1]
        yield Said(name, place, found, size_of(size.get("width"), size.get("height")), stem=stem)


def tt100k(content: Any, file: str, notes: Notes) -> Iterator[Said]:
    """Tsinghua-Tencent 100K: `imgs` by their id, each with its path and objects; `types` are the classes in use."""

    def make(one: dict[str, Any], where: str) -> tuple[str, Box]:
        box = dict_of(one.get("bbox"))
        return name_of(one.get("category")), ends_box(*(box.get(key) for key in ("xmin", "ymin", "xmax", "ymax")))

    for place, entry in entries_of(content.get("imgs"), f"{file}: imgs", notes):
        yield Said(text_of(entry.get("path")), place, objects(entry.get("objects"), f"{place} objects", notes, make))


def edge_impulse(content: Any, file: str, notes: Notes) -> Iterator[Said]:
    """Edge Impulse: `bounding_boxes.labels` beside the images."""

    def make(one: dict[str, Any], where: str) -> tuple[str, Box]:
        box = corner_box(one.get("x"), one.get("y"), one.get("width"), one.get("height"))
        return name_of(one.get("label")), box

    yield from _by_name(content.get("boundingBoxes"), file, notes, make)


def _by_name(
    raw: Any, file: str, notes: Notes, make: Callable[[dict[str, Any], str], tuple[str, Box]], *, stem: bool = False
) -> Iterator[Said]:
    """Lists of objects by the names of their images; nothing in place of a list: nobody has looked."""
    if not isinstance(raw, dict):
        notes.tell("broken annotation", file, f"{str(raw)[:40]!r}; expected images by name", "the file is left out")
        return
    for name, listed in raw.items():
        place = f"{file}: {name[:80]}"
        listed = listed.get("detections") if isinstance(listed, dict) else listed
        yield Said(name, place, objects(listed, place, notes, make), stem=stem, seen=listed is not None)


def cloud_annotations(content: Any, file: str, notes: Notes) -> Iterator[Said]:
    """IBM Cloud Annotations: `_annotations.json`; boxes are shares."""

    def make(one: dict[str, Any], where: str) -> tuple[str, Box]:
        return name_of(one.get("label")), ends_box(one.get("x"), one.get("y"), one.get("x2"), one.get("y2"))

    labels = content.get("labels")
    notes.lists(labels if isinstance(labels, list) else [])
    yield from _by_name(content.get("annotations"), file, notes, make)


def fiftyone_labels(content: Any, file: str, notes: Notes) -> Iterator[Said]:
    """FiftyOneImageDetectionDataset: `labels.json` beside `data/`; boxes are shares."""
    classes = content.get("classes")
    classes = [text_of(name) for name in classes] if isinstance(classes, list) else []
    notes.lists(classes)

    def make(one: dict[str, Any], where: str) -> tuple[str, Box]:
        label = one.get("label")
        if isinstance(label, int) and not isinstance(label, bool) and 0 <= label < len(classes):
            label = classes[label]
        return name_of(label), list_box(one.get("bounding_box"))

    yield from _by_name(content.get("labels"), file, notes, make, stem=True)


def fiftyone(content: Any, file: str, notes: Notes) -> Iterator[Said]:
    """FiftyOneDataset: `samples.json`; boxes are shares, tags such as `train` are the splits."""
    samples = list(entries_of(content.get("samples"), f"{file}: samples", notes))
    chosen = _field([sample for _, sample in samples], file, notes)

    def make(one: dict[str, Any], where: str) -> tuple[str, Box]:
        return name_of(one.get("label")), list_box(one.get("bounding_box"))

    for place, sample in samples:
        raw = dict_of(sample.get(chosen))
        about, tags = dict_of(sample.get("metadata")), sample.get("tags")
        named = [tag for tag in (tags if isinstance(tags, list) else []) if isinstance(tag, str)]
        yield Said(
            text_of(sample.get("filepath")),
            place,
            objects(raw.get("detections"), f"{place} {chosen}", notes, make),
            size_of(about.get("width"), about.get("height")),
            next((tag for tag in named if split_names.is_split(tag)), None),
            seen=bool(raw),
        )


def _field(samples: list[dict[str, Any]], file: str, notes: Notes) -> str:
    """The field of the samples that holds what people have drawn: `ground_truth`, else one without confidences."""
    fields: dict[str, bool] = {}
    for sample in samples:
        for name, value in sample.items():
            if isinstance(value, dict) and value.get("_cls", "Detections") == "Detections" and "detections" in value:
                raw = value["detections"]
                sure = not any(
                    isinstance(one, dict) and one.get("confidence") is not None
                    for one in (raw if isinstance(raw, list) else [])
                )
                fields[name] = fields.get(name, True) and sure
    ranked = sorted(fields, key=lambda name: (name != "ground_truth", not fields[name]))
    for name in ranked[1:]:
        notes.tell("second field of boxes", f"{file}: {name}", f"{ranked[0]} has boxes too", f"{ranked[0]} is read")
    return ranked[0] if ranked else ""


def labelbox(content: Any, file: str, notes: Notes) -> Iterator[Said]:
    """Labelbox, the export that was in use until 2023."""
    for place, row in entries_of(content, file, notes):
        label = row.get("Label")
        found = objects(dict_of(label).get("objects"), f"{place} objects", notes, labelbox_object(notes))
        path = text_of(row.get("External ID")) or text_of(row.get("Labeled Data"))
        yield Said(path, place, found, seen="objects" in dict_of(label))


def labelbox_object(notes: Notes) -> Callable[[dict[str, Any], str], tuple[str, Box]]:
    """Class and box of an object of Labelbox, of either export."""

    def make(one: dict[str, Any], where: str) -> tuple[str, Box]:
        name = name_of(one.get("name") or one.get("title") or one.get("value"))
        box = one.get("bounding_box") or one.get("bbox")
        if isinstance(box, dict):
            return name, corner_box(box.get("left"), box.get("top"), box.get("width"), box.get("height"))
        if not one.get("polygon"):
            raise Fault("mask without box" if "mask" in one or "instanceURI" in one else "no box")
        return name, polygon_box(one["polygon"], where, notes)

    return make


def scale(content: Any, file: str, notes: Notes) -> Iterator[Said]:
    """Tasks of Scale: the response holds boxes and polygons."""

    def make(one: dict[str, Any], where: str) -> tuple[str, Box]:
        name = name_of(one.get("label"))
        if one.get("type") == "polygon" or "vertices" in one:
            return name, polygon_box(one.get("vertices"), where, notes)
        return name, corner_box(one.get("left"), one.get("top"), one.get("width"), one.get("height"))

    for place, task in entries_of(content, file, notes):
        response = dict_of(task.get("response"))
        found = objects(response.get("annotations"), f"{place} annotations", notes, make)
        path = text_of(dict_of(task.get("params")).get("attachment")) or text_of(task.get("attachment"))
        yield Said(path, place, found, seen="annotations" in response)
