"""What the columns of a table mean, by their header or, without one, by their first rows."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

from labelwise.data import image_reader, split_names, text_files
from labelwise.data.listing import suffix_of

SUFFIXES = (".csv", ".tsv")

_IMAGE = (
    "filename imagefilename imagefile imgfile imagename imgname filepath imagepath imgpath path relativepath image img "
    "file imageid imgid frame fname patientid uri imageuri gcsfilepath imageurl url key id"
)
_CLASS = (
    "classname labelname categoryname class label category objectclass objectname objectlabel object cls name species "
    "breed tag annotationtag target classid labelid categoryid"
)
_CROWD = "isgroupof iscrowd crowd difficult"
_SPLIT = "split set subset mluse partition"
_BOX = (
    "bbox boundingbox bboxes boundingboxes bboxcoco bboxxywh bboxxyxy bboxpascalvoc box boxes boxesstring "
    "annotations geometry"
)
_SHAPE = "regionshapeattributes"
_ATTRIBUTES = "regionattributes"
_BEFORE = ("", "bbox", "box", "roi", "rect", "bb")
_LOW = ("{}min", "min{}", "{}1", "{}tl", "{}start", "start{}", "topleft{}", "{}topleft", "upperleft{}", "{}upperleft",
        "upperleftcorner{}")  # fmt: skip
_HIGH = ("{}max", "max{}", "{}2", "{}br", "{}end", "end{}", "bottomright{}", "{}bottomright", "lowerright{}",
         "{}lowerright", "lowerrightcorner{}")  # fmt: skip
_MIDDLE = ("{}center", "center{}", "c{}", "{}c", "{}mid", "mid{}")
_NO_DOUBT = ("id", "name", "frame", "classid", "labelid", "categoryid", "target", "url", "imageurl", "imageid")
_PREDICTED = ("confidence", "score", "conf", "probability")
AUTOML_SETS = ("train", "training", "validation", "validate", "test", "unassigned")


@dataclass(frozen=True, slots=True)
class Columns:
    """Where a table says what, by the number of the column.

    Fields:
        first_line: the first line of data.
        image, label, split, crowd: of the image, the class, the split, what is to be ignored.
        form: what `box` holds: "corners" (x1 y1 x2 y2), "start" (x y width height), "middle" (centre, width, height),
            "text" (all in one cell, "[x, y, width, height]"), "shape" (JSON of the VGG Image Annotator),
            "points" (x and y in turn, empty ones are no points), "" (no box).
        size: width and height of the image.
        unclear: further columns that may mean the same as the one that is read.
    """

    first_line: int = 2
    image: int = -1
    label: int = -1
    split: int = -1
    crowd: int = -1
    attributes: int = -1
    box: tuple[int, ...] = ()
    form: str = ""
    size: tuple[int, int] | None = None
    names: tuple[str, ...] = ()
    unclear: tuple[str, ...] = field(default=())


def plain(name: str) -> str:
    """A header without what people write differently.

    >>> plain("Roi.X1"), plain(" Image_ID")
    ('roix1', 'imageid')
    """
    return "".join(c for c in name.casefold() if c.isalnum())


def first_rows(path: Path, n: int = 40) -> list[list[str]]:
    """The first rows of a table, from its head alone; none where it is no text."""
    raw = text_files.head(path, 1 << 16)
    if not raw or (b"\0" in raw and not raw.startswith((b"\xff\xfe", b"\xfe\xff"))):
        return []
    said = text_files.decode(raw if len(raw) < 1 << 16 else raw.rpartition(b"\n")[0])
    separator = max(",;\t", key=said.split("\n", 1)[0].count)
    rows: list[list[str]] = []
    try:
        for row in csv.reader(io.StringIO(said, newline=""), delimiter=separator):
            if any(cell.strip() for cell in row):
                rows.append([cell.strip() for cell in row])
            if len(rows) == n:
                break
    except csv.Error:
        pass
    return rows


def columns_of(rows: Sequence[Sequence[str]]) -> Columns | None:
    """What the columns of a table mean; None: it names no images."""
    if not rows:
        return None
    images = [i for i in range(len(rows[0])) if all(i < len(row) and is_image(row[i]) for row in rows[1:])]
    inside = images[0] if len(rows) > 1 and images and not is_image(rows[0][images[0]]) else -1
    return _by_header([plain(name) for name in rows[0]], rows[0], inside) or _by_rows(rows)


def number(cell: str) -> float:
    """A number, NaN where it is none."""
    try:
        return float(cell)
    except ValueError:
        try:
            return float(cell.replace(",", "."))
        except ValueError:
            return float("nan")


def is_number(cell: str) -> bool:
    """Whether a cell holds a finite number."""
    return abs(number(cell)) < float("inf")


def split_of(file: str) -> str:
    """The split that a table is of, by its folders or a part of its name; empty where there is none.

    >>> [split_of(f) for f in ("train/_annotations.csv", "data/test_labels.csv", "oidv6-train-annotations-bbox.csv")]
    ['train', 'test', 'train']
    >>> split_of("labels_train_test.csv"), split_of("my/labels.csv")
    ('', '')
    """
    stem = re.sub(r"\.[^.]*$", "", file.rpartition("/")[2])
    words = {word for word in re.split(r"[^A-Za-z0-9]+", stem) if split_names.is_split(word)}
    return words.pop() if len(words) == 1 else split_names.of_path(file)


@cache
def _spelled(places: tuple[str, ...], axis: str) -> tuple[str, ...]:
    return tuple(before + place.format(axis) for before in _BEFORE for place in places)


def _by_header(keys: list[str], names: Sequence[str], inside: int) -> Columns | None:
    """`inside`: the column whose cells are names of images."""
    at = {key: i for i, key in reversed(list(enumerate(keys))) if key}
    image = _all(at, _IMAGE)
    if _SHAPE in at and image:
        shape, attributes = at[_SHAPE], at.get(_ATTRIBUTES, -1)
        return Columns(2, image[0], attributes=attributes, box=(shape,), form="shape", names=tuple(names))
    form, box = _geometry(at)
    image = [i for i in image if i not in box] or ([inside] if inside >= 0 and inside not in box else [])
    if not image:
        return None
    label = [i for i in _all(at, _CLASS) if i not in (image[0], *box)]
    free = [i for i in range(len(keys)) if i != image[0]]
    label = label or (free if len(free) == 1 and not form else [])
    others = [names[i] for i in (*image[1:], *label[1:]) if keys[i] not in _NO_DOUBT]
    side = [next((at[k] for k in (f"image{s}", f"img{s}", s, s[0]) if k in at), -1) for s in ("width", "height")]
    size = (side[0], side[1]) if min(side) >= 0 and not set(side) & set(box) else None
    split, crowd = _all(at, _SPLIT), _all(at, _CROWD)
    return Columns(
        2,
        image[0],
        label[0] if label else -1,
        split[0] if split else -1,
        crowd[0] if crowd else -1,
        box=tuple(box),
        form=form,
        size=size,
        names=tuple(names),
        unclear=tuple(others),
    )


def is_prediction(columns: Columns) -> bool:
    """Whether a table says how sure a model was of its boxes (Open Images says that too, of what people said)."""
    names = {plain(name) for name in columns.names}
    return bool(names & set(_PREDICTED)) and "isgroupof" not in names


def is_submission(file: str) -> bool:
    """Whether a table is a form for answers, as competitions give one: what it says of images is made up."""
    return "submission" in file.rpartition("/")[2].lower()


def _all(at: dict[str, int], words: str) -> list[int]:
    return [at[word] for word in words.split() if word in at]


def _geometry(at: dict[str, int]) -> tuple[str, list[int]]:
    """The form of the boxes of a table and their columns."""

    def one(places: tuple[str, ...], axis: str, *more: str) -> int:
        return next((at[key] for key in (*_spelled(places, axis), *more) if key in at), -1)

    low = [one(_LOW, "x", "left"), one(_LOW, "y", "top")]
    high = [one(_HIGH, "x", "right"), one(_HIGH, "y", "bottom")]
    if "x0" in at and "y0" in at:
        low, high = [at["x0"], at["y0"]], [at.get("x1", -1), at.get("y1", -1)]
    if min(*low, *high) >= 0:
        return "corners", low + high
    sides = [
        next(
            (at[key] for key in (s[0], f"bbox{s[0]}", f"bbox{s}", f"box{s}", f"b{s[0]}", f"roi{s}", s) if key in at), -1
        )
        for s in ("width", "height")
    ]
    for form, start in (
        ("start", low),
        ("middle", [one(_MIDDLE, "x"), one(_MIDDLE, "y")]),
        ("start", [one(("{}",), "x"), one(("{}",), "y")]),
    ):
        if min(*start, *sides) >= 0:
            return form, start + sides
    text = _all(at, _BOX)
    return ("text", text[:1]) if text else ("", [])


def _by_rows(rows: Sequence[Sequence[str]]) -> Columns | None:
    """A table without a header: paths, x1, y1, x2, y2 and a class; or AutoML's set, path, label and four corners."""
    full = [row for row in rows if sum(map(bool, row)) > 2] or list(rows)
    row = full[0]
    for columns in (_automl(row), _in_a_row(row)):
        if columns is not None and all(_fits(columns, one) for one in full):
            return columns
    return None


def _automl(row: Sequence[str]) -> Columns | None:
    named = row[0].casefold() in AUTOML_SETS
    width = len(row) - named
    if width not in (6, 8, 9, 10) or not is_image(row[named]) or (width == 6 and not named):
        return None
    columns = tuple(range(named + 2, len(row)))[:8]
    return Columns(1, int(named), named + 1, 0 if named else -1, box=columns[: len(columns) & ~1], form="points")


def _in_a_row(row: Sequence[str]) -> Columns | None:
    """`path, x1, y1, x2, y2, class`, the class before the box too, or none; SKU-110K: width and height follow."""
    if len(row) not in (5, 6, 8) or not is_image(row[0]):
        return None
    if len(row) == 8 and (is_number(row[5]) or not all(map(is_number, row[6:]))):
        return None
    start = 2 if len(row) == 6 and row[1] and not is_number(row[1]) else 1
    label = -1 if len(row) == 5 else 1 if start == 2 else 5
    size = (6, 7) if len(row) == 8 else None
    return Columns(1, 0, label, box=tuple(range(start, start + 4)), form="corners", size=size)


def _fits(columns: Columns, row: Sequence[str]) -> bool:
    if len(row) <= max(columns.image, 0) or not is_image(row[columns.image]):
        return False
    cells = [row[i] for i in columns.box if i < len(row)]
    return all(is_number(cell) for cell in cells if cell)


def is_image(cell: str) -> bool:
    """Whether a cell holds the name of an image file."""
    return suffix_of(cell) in image_reader.SUFFIXES


def rows_of(path: Path, columns: Columns) -> Iterator[tuple[int, list[str]]]:
    """(line, cells) of the rows of data of a table."""
    rows = text_files.table_of(path)
    if columns.first_line > 1:
        next(rows, None)
    return rows
