"""The annotations of one COCO file, as columns, and what is wrong with them, one by one.

They are taken in blocks: a block whose boxes are all four finite numbers becomes an array at once, the others go row
by row. Polygons are cut out of the text before it is parsed (they are nine tenths of a large file) and are read only
where an annotation has no box.
"""

from __future__ import annotations

import gc
import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from labelwise.data import _coco_columns as columns
from labelwise.data import _coco_region as region
from labelwise.data import text_files
from labelwise.types import LabelwiseError

KEYS = ("images", "annotations", "categories")

_CUT = "segmentation at"
_NO_ROW = -1
_ROWS = 1024
_SEGMENTATION = re.compile(r'"segmentation"\s*:\s*(\[\s*[\[\d][^"{}]*\])')


def read(root: Path, path: str) -> columns.Columns:
    """A file, relative to the root.

    Raises:
        LabelwiseError: it is no JSON, or has no list of images.
    """
    with _no_collection():
        content, text = _parse(root / path)
        made = columns.Columns(path)
        if not isinstance(content, dict):
            raise LabelwiseError(f"{root / path}: expected an object with the lists {', '.join(KEYS)}.")
        for key in KEYS:
            if content.get(key) is not None and not isinstance(content[key], list):
                raise LabelwiseError(
                    f"{root / path}: {key} is {columns.shown(content[key])}; "
                    f"expected an object with the lists {', '.join(KEYS)}."
                )
        if content.get("images") is None:
            raise LabelwiseError(f"{root / path}: no list `images`, so that no box has an image. Export it anew.")
        info = content.get("info")
        info = info if isinstance(info, dict) else {}
        made.folder = str(info.get("labelwise_images") or "")
        made.labelled, made.videos = content.get("annotations") is not None, content.get("videos")
        columns.add_images(made, content["images"], info.get("labelwise_looked_at") == "part" or not made.labelled)
        columns.add_categories(made, content.get("categories") or [])
        Annotations(made, text).add(content.get("annotations") or [])
    return made


@contextmanager
def _no_collection() -> Iterator[None]:
    """Without garbage collection, which looks through millions of new objects again and again."""
    had = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if had:
            gc.enable()


def _parse(path: Path) -> tuple[Any, str]:
    """What the file holds, without polygons; and its text, in which they are."""
    text = text_files.text(path)
    try:
        short = _SEGMENTATION.sub(_cut, text)
        return text_files.json_from(short, path), text
    except LabelwiseError:
        return text_files.json_from(text, path), text  # the error names the line of the file itself


def _cut(found: re.Match[str]) -> str:
    """Where the polygons are, in their place; what lies within a text (its quotes are `\\"`) stays."""
    start = found.start()
    return found.group() if found.string[start - 1 : start] == "\\" else f'"{_CUT}":{found.start(1)}'


class Annotations:
    """Turns the annotations of a file into its columns."""

    def __init__(self, made: columns.Columns, text: str) -> None:
        self.made, self.text = made, text
        self.images = {key: i for i, key in enumerate(made.ids) if key is not None}
        self.categories = {one.id: i for i, one in enumerate(made.categories) if one.id is not None}
        self.told: dict[str, list[str]] = {}

    def add(self, annotations: list[Any]) -> None:
        made = self.made
        parts = [self._block(annotations[k : k + _ROWS], k) for k in range(0, len(annotations), _ROWS)]
        if parts:
            image, category, xyxy, crowd, ids = zip(*parts, strict=True)
            made.image, made.category = np.concatenate(image), np.concatenate(category)
            made.xyxy, made.crowd = np.concatenate(xyxy), np.concatenate(crowd)
            made.labels = [one for part in ids for one in part]
        for k in np.unique(made.category).tolist():
            made.categories[k].used = True
        for kind, places in self.told.items():
            what = f"{len(places)} annotation{'s' if len(places) > 1 else ''} {_TOLD[kind][0]}"
            made.tell(kind, places[0], what, _TOLD[kind][1], len(places))

    def _block(self, block: list[Any], start: int) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, list[Any]]:
        """Columns of a block: at once where every row is as it should be."""
        try:
            image = np.array([self.images[one["image_id"]] for one in block], np.int64)
            category = np.array([self.categories[one["category_id"]] for one in block], np.int64)
            xywh = np.array([one["bbox"] for one in block])
            crowd = np.array([one.get("iscrowd", 0) for one in block])
            turned = any(one["attributes"].get("rotation") for one in block if "attributes" in one)
            regular = xywh.shape == (len(block), 4) and xywh.dtype.kind in "if" and crowd.dtype.kind in "iub"
            if regular and not turned and crowd.ndim == 1 and bool(np.isfinite(xywh).all()):
                xyxy = xywh.astype(np.float64)
                xyxy[:, 2:] += xyxy[:, :2]
                return (
                    image,
                    category,
                    xyxy,
                    crowd != 0,
                    [one.get("id", f"(entry {k})") for k, one in enumerate(block, start)],
                )
        except (KeyError, TypeError, AttributeError, ValueError, OverflowError):
            pass
        rows = [row for k, one in enumerate(block, start) if (row := self._row(one, k)) is not None]
        images, categories, boxes, crowds, ids = map(list, zip(*rows, strict=True)) if rows else ([], [], [], [], [])
        xyxy = np.array(boxes, np.float64).reshape(-1, 4)
        return np.array(images, np.int64), np.array(categories, np.int64), xyxy, np.array(crowds, bool), ids

    def _row(self, one: Any, k: int) -> tuple[int, int, region.Box, bool, Any] | None:
        """Image, category, box, crowd and id of an annotation; None where it is left out, which is told."""
        if not isinstance(one, dict):
            self.made.tell(
                "malformed annotation", f"annotations[{k}]", f"{columns.shown(one)} is no object", "left out"
            )
            return None
        label = one.get("id", f"(entry {k})")
        where = f"annotation id {columns.shown(label)}"
        image, category = self._refer(self.images, one, "image_id"), self._refer(self.categories, one, "category_id")
        if image == _NO_ROW:
            what = f"image_id {columns.shown(one.get('image_id'))} is not in images"
            self.made.tell("label without image", where, what, "left out")
            return None
        if category == _NO_ROW:
            what = f"category_id {columns.shown(one.get('category_id'))} is not in categories"
            self.made.tell("unknown class id", where, what, "left out")
            return None
        box = self._box(one, where)
        return None if box is None else (image, category, box, self._crowd(one), label)

    def _refer(self, known: dict[Any, int], one: dict[str, Any], name: str) -> int:
        """The entry that an id means; "7" and 7 are one where only one of them is there."""
        key = columns.plain_id(one.get(name))
        if key is None:
            return _NO_ROW
        if key in known:
            return known[key]
        if isinstance(key, int):
            other: Any = str(key) if abs(key) < columns.MOST_PX**2 else None
        else:
            other = columns.plain_id(columns.text_number(key))
        return known.get(other, _NO_ROW)

    def _box(self, one: dict[str, Any], where: str) -> region.Box | None:
        said = one.get("bbox")
        values = said if isinstance(said, list) else []
        if values and any(isinstance(v, str) for v in values):
            values = [columns.text_number(v) if isinstance(v, str) else v for v in values]
            if all(map(region.is_number, values)):
                self.told.setdefault("numbers as text", []).append(where)
        if len(values) in (4, 5, 8) and all(map(region.is_number, values)):
            return self._numbers(one, [float(v) for v in values], where)
        box = self._around(one)
        if box is not None:
            self.told.setdefault("polygon", []).append(where)
            return box
        if said in (None, []):
            self.made.tell("annotation without box", where, "has neither bbox nor segmentation", "left out")
        else:
            what = f"bbox is {columns.shown(said)}; expected four numbers [x, y, width, height]"
            self.made.tell("box without numbers", where, what, "left out")
        return None

    def _numbers(self, one: dict[str, Any], values: list[float], where: str) -> region.Box:
        """The box of 4, 5 or 8 numbers."""
        attributes = one.get("attributes")
        degrees = attributes.get("rotation") if isinstance(attributes, dict) else None
        if len(values) == 4:
            x, y, w, h = values
            if not isinstance(degrees, int | float) or not region.is_number(degrees) or degrees % 180 == 0:
                return x, y, x + w, y + h
            box = region.of_turned(x + w / 2, y + h / 2, w, h, degrees)
        elif len(values) == 5:
            box = self._around(one) or region.of_turned(*values)
        else:
            box = region.of_corners(values)
        self.told.setdefault("rotated box", []).append(where)
        return box

    def _around(self, one: dict[str, Any]) -> region.Box | None:
        """The box around the segmentation."""
        said, at = one.get("segmentation"), one.get(_CUT)
        if said is None and isinstance(at, int) and 0 <= at < len(self.text):
            try:
                said = json.JSONDecoder().raw_decode(self.text, at)[0]
            except (ValueError, RecursionError):
                return None
        return region.around(said)

    @staticmethod
    def _crowd(one: dict[str, Any]) -> bool:
        said = one.get("iscrowd", 0)
        return bool(said) if not isinstance(said, str) else said.strip().lower() in ("1", "true", "yes")


_TOLD = {
    "numbers as text": ("with numbers as text", "read as numbers"),
    "polygon": ("with a segmentation and no box", "the box around it is used"),
    "rotated box": ("with a rotated box", "the upright box around it is used"),
}
