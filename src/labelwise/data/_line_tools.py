"""JSON lines of tools: what a line says of its image (machinery of `json_lines`)."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any

from labelwise.data._json_fields import (
    Box,
    corner_box,
    dict_of,
    ends_box,
    list_box,
    name_of,
    size_of,
    text_of,
)
from labelwise.data._list_tools import labelbox_object
from labelwise.data._said import Notes, Said, objects, polygon_box

Lines = Iterable[tuple[str, dict[str, Any]]]
Parser = Callable[[Lines, Notes], Iterator[Said]]

_CLASSES = ("categories", "category", "labels", "label", "classes", "class", "class_name", "category_name", "name")
_NUMBERS = ("category_id", "category_ids", "class_id", "label_id")
_BOXES = ("bbox", "bboxes", "boxes", "bounding_box")
_BODIES = ("fbox", "vbox", "hbox")
_ML_USE = {"training": "train", "validation": "val", "test": "test"}


def huggingface(lines: Lines, notes: Notes) -> Iterator[Said]:
    """`metadata.jsonl` of a Hugging Face `imagefolder`: boxes are x, y, width, height."""

    def make(one: dict[str, Any], where: str) -> tuple[str, Box]:
        name, box = one.get("name"), one.get("box")
        if isinstance(name, int) and not isinstance(name, bool):
            notes.count("class of a number", where)
        return name_of(name), list_box(box)

    for place, row in lines:
        raw = row.get("objects", row if any(key in row for key in _BOXES) else None)
        size = size_of(row.get("width"), row.get("height"))
        found = objects(_rows(raw, place, notes), f"{place}: objects", notes, make)
        yield Said(text_of(row.get("file_name")), place, found, size, seen=raw is not None)


def _rows(raw: Any, place: str, notes: Notes) -> Any:
    """Objects as a list of name and box: of columns or of rows."""
    if isinstance(raw, list):
        return [{"name": _first(one, _CLASSES + _NUMBERS), "box": _first(one, _BOXES)} if isinstance(one, dict) else one
                for one in raw]  # fmt: skip
    if not isinstance(raw, dict):
        return raw
    boxes, names = _first(raw, _BOXES), _first(raw, _CLASSES + _NUMBERS)
    if boxes is None:
        return None if not raw else [raw]
    if not isinstance(boxes, list):
        return boxes
    if boxes and isinstance(boxes[0], int | float):  # one box alone
        boxes, names = [boxes], names if isinstance(names, list | None) else [names]
    if names is None and boxes:
        notes.count("object without class", place)
        names = ["object"] * len(boxes)
    if not isinstance(names, list) or len(names) != len(boxes):
        if boxes:
            notes.tell("broken entry", place, f"{len(boxes)} boxes, and not as many classes: {str(names)[:40]!r}")
        return []
    return [{"name": name, "box": box} for name, box in zip(names, boxes, strict=True)]


def _first(one: dict[str, Any], keys: tuple[str, ...]) -> Any:
    return next((one[key] for key in keys if one.get(key) is not None), None)


def vertex(lines: Lines, notes: Notes) -> Iterator[Said]:
    """Vertex AI: boxes are shares; a share of 0 may be absent."""

    def make(one: dict[str, Any], where: str) -> tuple[str, Box]:
        box = ends_box(one.get("xMin", 0), one.get("yMin", 0), one.get("xMax"), one.get("yMax"))
        return name_of(one.get("displayName")), box

    for place, row in lines:
        use = dict_of(row.get("dataItemResourceLabels")).get("aiplatform.googleapis.com/ml_use")
        raw = row.get("boundingBoxAnnotations")
        found = objects(raw, f"{place}: boundingBoxAnnotations", notes, make)
        split = _ML_USE.get(text_of(use).lower())
        yield Said(text_of(row.get("imageGcsUri")), place, found, split=split, seen=raw is not None)


def azure(lines: Lines, notes: Notes) -> Iterator[Said]:
    """Azure ML: boxes are shares."""

    def make(one: dict[str, Any], where: str) -> tuple[str, Box]:
        if "polygon" in one:
            return name_of(one.get("label")), polygon_box(one["polygon"], where, notes, rings=True)
        box = ends_box(one.get("topX"), one.get("topY"), one.get("bottomX"), one.get("bottomY"))
        return name_of(one.get("label")), box

    for place, row in lines:
        about = dict_of(row.get("image_details"))
        raw = row.get("label")
        found = objects(raw, f"{place}: label", notes, make)
        reference = text_of(row.get("image_url"))
        yield Said(reference, place, found, size_of(about.get("width"), about.get("height")), seen=raw is not None)


def sagemaker(lines: Lines, notes: Notes) -> Iterator[Said]:
    """SageMaker Ground Truth and Rekognition: the label is the first field with annotations."""
    for place, row in lines:
        key = next((key for key, value in row.items() if "annotations" in dict_of(value)), "")
        label, about = dict_of(row.get(key)), dict_of(row.get(f"{key}-metadata"))
        names = dict_of(about.get("class-map"))

        def make(one: dict[str, Any], where: str, names: dict[str, Any] = names) -> tuple[str, Box]:
            number = text_of(one.get("class_id"))
            if number in names:
                name = name_of(names[number])
            else:
                name = name_of(number)
                notes.count("class of a number", where)
            return name, corner_box(one.get("left"), one.get("top"), one.get("width"), one.get("height"))

        sizes = label.get("image_size")
        size = dict_of(sizes[0]) if isinstance(sizes, list) and sizes else {}
        found = objects(label.get("annotations"), f"{place}: {key[:40]}", notes, make)
        reference = text_of(row.get("source-ref"))
        yield Said(reference, place, found, size_of(size.get("width"), size.get("height")), seen=bool(key))


def labelbox_lines(lines: Lines, notes: Notes) -> Iterator[Said]:
    """Labelbox since 2023: the labels of the first project that has any; of several the last."""
    for place, row in lines:
        about, media = dict_of(row.get("data_row")), dict_of(row.get("media_attributes"))
        projects = [dict_of(project).get("labels") for project in dict_of(row.get("projects")).values()]
        labels = [one for raw in projects if isinstance(raw, list) for one in raw if isinstance(one, dict)]
        if len(labels) > 1:
            notes.count("several annotations", place)
        drawn = dict_of(labels[-1].get("annotations")) if labels else {}
        found = objects(drawn.get("objects"), f"{place}: objects", notes, labelbox_object(notes))
        names = [text_of(about.get(key)) for key in ("external_id", "global_key", "row_data")]
        reference = next(filter(None, names), "")
        size = size_of(media.get("width"), media.get("height"))
        yield Said(reference, place, found, size, twin="", seen=bool(labels))


def crowdhuman(lines: Lines, notes: Notes) -> Iterator[Said]:
    """CrowdHuman's `.odgt`: whole bodies (`fbox`, else what is seen of them); a `mask` is a region to ignore."""

    def make(one: dict[str, Any], where: str) -> tuple[str, Box]:
        return name_of("person" if one.get("tag") == "mask" else one.get("tag")), list_box(_first(one, _BODIES))

    for place, row in lines:
        raw = row.get("gtboxes")
        if isinstance(raw, list):
            raw = [{**one, "crowd": _ignored(one)} if isinstance(one, dict) else one for one in raw]
        yield Said(text_of(row.get("ID")), place, objects(raw, f"{place}: gtboxes", notes, make), stem=True)


def _ignored(one: dict[str, Any]) -> bool:
    return one.get("tag") == "mask" or dict_of(one.get("extra")).get("ignore") in (1, True)


PARSERS: dict[str, Parser] = {
    "huggingface": huggingface,
    "vertex": vertex,
    "azure": azure,
    "sagemaker": sagemaker,
    "crowdhuman": crowdhuman,
    "labelbox_lines": labelbox_lines,
}
SHARES = frozenset({"vertex", "azure"})
