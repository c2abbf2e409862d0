"""COCO: the asked images alone, each query a box with attributes (see `_shapes`), for tools that keep `attributes`.

An image that nobody asked about is not in the file: COCO cannot tell "looked at and empty" from "not looked at".

Fails when: the tool drops `attributes` of annotations (then nothing comes back, and the import says so).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from labelwise.exchange._geometry import is_number
from labelwise.exchange._questions import REGION, size_of
from labelwise.exchange._reader import has_key, parse
from labelwise.exchange._shapes import CANNOT_CARRY as CANNOT_CARRY
from labelwise.exchange._shapes import Shape, answers, refuse_classes, shapes
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
        where = f"annotation {row.get('id', '?')} (entry {k})" if isinstance(row, dict) else f"annotation entry {k}"
        shape = _shape(row, images, categories, sizes, where)
        if isinstance(shape, Shape):
            given.append(shape)
        else:
            doubts.append(Problem("broken annotation", where, shape, "refused"))
    found, problems = answers(given, queries, pool, project=project, who=who, unfinished=unfinished)
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
            what = f"{str(row)[:80]}; expected id (a whole number) and {key}"
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
        return f"{str(row)[:80]}; expected an object"
    image, category, box = row.get("image_id"), row.get("category_id"), row.get("bbox")
    attributes = row.get("attributes") or {}
    if not isinstance(image, int) or image not in images:
        return f"image_id {str(image)[:40]} is not in images"
    if not isinstance(category, int) or category not in categories:
        return f"category_id {str(category)[:40]} is not in categories"
    if not isinstance(attributes, dict):
        return f"attributes is {str(attributes)[:80]}; expected an object"
    if isinstance(box, list) and len(box) == 4 and all(map(is_number, box)):
        box = [box[0], box[1], box[0] + box[2], box[1] + box[3]]
    query, answer, fix = (str(attributes.get(key) or "") for key in ("query", "answer", "fix_class"))
    return Shape(images[image], categories[category], box, query, answer or "new", fix, where, sizes.get(image))
