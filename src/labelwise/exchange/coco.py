"""COCO: the asked images alone, each query a box with attributes (see `_shapes`), for tools that keep `attributes`.

An image that nobody asked about is not in the file: COCO cannot tell "looked at and empty" from "not looked at".

Fails when: the tool drops `attributes` of annotations (then nothing comes back, and the import says so).
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

from labelwise.exchange._geometry import is_number
from labelwise.exchange._questions import REGION, size_of
from labelwise.exchange._reader import AnswerReader, has_key, parse, shown, text_of
from labelwise.exchange._shapes import ATTRIBUTES, NEW, Shape, answers, refuse_classes, shapes
from labelwise.exchange._shapes import CANNOT_CARRY as CANNOT_CARRY
from labelwise.types import Answer, Boxes, LabelwiseError, Pool, Problem, Query
from labelwise.types.disk import to_json


def detect(content: bytes) -> bool:
    """An object with the list `annotations`."""
    return has_key(content, "annotations")


def write(
    queries: Sequence[Query], pool: Pool, project: str, known: Boxes | None = None, one_class: bool = False
) -> dict[str, bytes]:
    """One COCO file. Categories: the classes, then `labelwise_region`; ids count from 1."""
    refuse_classes(one_class, "coco")
    made, sizes = shapes(queries, pool, known, project, "a COCO file"), size_of(pool)
    names = list(dict.fromkeys(query.image for query in queries))
    number = {name: k for k, name in enumerate(names, start=1)}
    category = {name: k for k, name in enumerate((*pool.classes, REGION), start=1)}
    annotations = []
    for k, shape in enumerate(made, start=1):
        x1, y1, x2, y2 = shape.corners
        row: dict[str, Any] = {
            "id": k,
            "image_id": number[shape.image],
            "category_id": category[shape.label],
            "iscrowd": 0,
        }
        row |= {"bbox": [x1, y1, x2 - x1, y2 - y1], "area": (x2 - x1) * (y2 - y1), "segmentation": []}
        annotations.append(row | {"attributes": shape.attributes})
    content = {
        "info": {"description": "labelwise queries", "labelwise_project": project},
        "images": [
            {"id": number[name], "file_name": name, "width": sizes[name][0], "height": sizes[name][1]} for name in names
        ],
        "categories": [{"id": k, "name": name} for name, k in category.items()],
        "annotations": annotations,
    }
    return {"queries.json": to_json(content, 1).encode()}


def read(
    content: bytes,
    queries: Sequence[Query],
    pool: Pool,
    project: str,
    *,
    who: str = "coco",
    unfinished: bool = False,
    rename: Mapping[str, str] | None = None,
    unanswered: Collection[int] | None = None,
) -> tuple[list[Answer], list[Problem]]:
    """The answers in a COCO file that came back, and all that is wrong in it."""
    raw = parse(content, "the COCO file")
    lists = ("images", "annotations", "categories")
    if not isinstance(raw, dict) or not all(isinstance(raw.get(key), list) for key in lists):
        raise LabelwiseError(f"the COCO file: expected an object with the lists {', '.join(lists)}")
    images, doubts = _names(raw["images"], "file_name", "images")
    categories, more = _names(raw["categories"], "name", "categories")
    doubts += more
    given: list[Shape] = []
    sizes = {
        row["id"]: (row["width"], row["height"])
        for row in raw["images"]
        if isinstance(row, dict) and isinstance(row.get("id"), int) and {"width", "height"} <= row.keys()
    }
    for k, row in enumerate(raw["annotations"], start=1):
        number = row.get("id", "?") if isinstance(row, dict) else "?"
        where = f"annotation {shown(number)} (entry {k})"
        shape = _shape(row, images, categories, sizes, where)
        if isinstance(shape, Shape):
            given.append(shape)
        else:
            doubts.append(Problem("broken annotation", where, shape, "refused"))
    reader = AnswerReader.of(queries, pool, project, unfinished, rename)
    found, problems = answers(given, reader, who, set(images.values()), unanswered)
    if not any(shape.query for shape in given):
        what = "no annotation has the attribute `query`: the tool dropped the attributes, or this is another file"
        doubts.append(Problem("no reference", "the COCO file", what, "refused"))
    return found, doubts + problems


def _names(rows: list[Any], key: str, where: str) -> tuple[dict[int, str], list[Problem]]:
    """Id -> name; an entry without them, or an id twice, is a problem."""
    found: dict[int, str] = {}
    problems = []
    for k, row in enumerate(rows, start=1):
        number, name = (row.get("id"), row.get(key)) if isinstance(row, dict) else (None, None)
        if not isinstance(number, int) or not isinstance(name, str):
            what = f"{shown(row)}; expected id (a whole number) and {key}"
            problems.append(Problem("broken entry", f"{where}, entry {k}", what, "refused"))
        elif number in found:
            what = f"the id {number} was used before"
            problems.append(Problem("duplicate id", f"{where}, entry {k}", what, "refused"))
        else:
            found[number] = name
    return found, problems


def _shape(
    row: Any, images: dict[int, str], categories: dict[int, str], sizes: dict[int, tuple[Any, Any]], where: str
) -> Shape | str:
    """One annotation, or what is wrong with it."""
    if not isinstance(row, dict):
        return f"{shown(row)}; expected an object"
    image, category, box = row.get("image_id"), row.get("category_id"), row.get("bbox")
    attributes = row.get("attributes") or {}
    if not isinstance(image, int) or image not in images:
        return f"image_id {shown(image)} is not in images"
    if not isinstance(attributes, dict):
        attributes, box = {}, f"attributes is {shown(attributes)}; expected an object"
    label = categories.get(category) if isinstance(category, int) else None
    if label is None:  # no class of ours: the reader says so, and does not take its image for looked over
        label = f"category_id {shown(category)}"
    if box is None:
        box = _hull(row.get("segmentation"))
    elif isinstance(box, list) and len(box) == 4 and all(map(is_number, box)):
        box = [box[0], box[1], box[0] + box[2], box[1] + box[3]]
    query, answer, fix = (text_of(attributes.get(key) or "") for key in ATTRIBUTES)
    return Shape(images[image], label, box, query, answer or NEW, fix, where, sizes.get(image))


def _hull(segmentation: Any) -> Any:
    """The corners around the polygons of an annotation without a box; None where there is none."""
    parts = segmentation if isinstance(segmentation, list) else []
    xs = [x for part in parts if isinstance(part, list) for x in part[0::2]]
    ys = [y for part in parts if isinstance(part, list) for y in part[1::2]]
    whole = bool(xs) and bool(ys) and all(map(is_number, xs + ys))
    return [min(xs), min(ys), max(xs), max(ys)] if whole else None
