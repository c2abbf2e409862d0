"""Boxes in tables (CSV or TSV, also called .txt), a row per box, as TensorFlow, Open Images, Kaggle, keras-retinanet,
GTSRB, AutoML and the VGG Image Annotator write them.

Columns are found by their names (`_headers.py`; case, blanks and underscores do not count): an image (a path, or a name
without suffix), a box as corners, as start and size, as centre and size, or in one cell (`[x, y, width, height]`, a
polygon, JSON), and where there is one a class. Without a header: `path, x1, y1, x2, y2, class`, or AutoML's columns.
Boxes are pixels, or shares of the image where no usual value is above 1. Ids become names where the folder has a list
of them (`classes.csv`, `class-descriptions-boxable.csv`, `classes.txt`). The split of a row is that of its column
`split`, of the table's name or folder (`test_labels.csv`), or of the image's folder.

A row with an image and no box says that the image was looked at and has none. An image that no row names was not
looked at. `IsGroupOf` and `iscrowd` boxes become `Pool.crowd`.

| kind of problem | handling |
|---|---|
| broken row (no image in it, a cell that is no box) | left out |
| box without class | left out |
| no column of classes | every box is an "object" |
| columns alike (both may be the image, or the class) | the first by usual names is read |
| polygon (also circles, ellipses) | its hull box is used |
| image in two tables (one of a split, one of all) | the table of the split counts |
| missing image, ambiguous image | left out, told once per table |
"""

from __future__ import annotations

import statistics
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from labelwise.data import _cells, _headers, _texts, entries, image_reader, listing, tiny_imagenet
from labelwise.data._class_lists import names_by_id
from labelwise.data._headers import Columns
from labelwise.data._named_images import NamedImages
from labelwise.data.entries import Entry, Object, Parsed
from labelwise.types import LabelwiseError, Pool, Problem

LOOKS_FOR = "a .csv or .tsv with columns such as filename, class, xmin, ymin, xmax, ymax"
ONE_CLASS = "object"
"""The class of boxes in a table that has no column for it."""

_SHARE = 1.05
_PROBES = 50


class _Row(NamedTuple):
    """`boxes`: xyxy with their classes; none: the image was looked at."""

    line: int
    image: str
    split: str
    boxes: list[tuple[_cells.Box, str]]
    crowd: bool
    size_px: tuple[int, int] | None


def detect(root: Path) -> bool:
    """Whether there is a table of boxes that is no part of Tiny ImageNet."""
    return bool(tables(root)) and not tiny_imagenet.detect(root)


def splits(root: Path) -> tuple[str, ...]:
    """Names of the splits."""
    return entries.splits(_parsed(root))


def read(root: Path, split: str | None = None) -> Pool:
    """Images and boxes of a split."""
    if not detect(root):
        raise LabelwiseError(f"{root}: no table of boxes here; expected {LOOKS_FOR}.")
    return entries.pool(listing.below(root).root, _parsed(root), split)


def tables(root: Path) -> dict[str, Columns]:
    """Every table of boxes below a folder (or the file itself), and what its columns mean."""
    return listing.kept(("tables of boxes", root), lambda: _tables(root))


def _tables(root: Path) -> dict[str, Columns]:
    below = listing.below(root)
    found = {}
    every = [*below.of(*_headers.SUFFIXES), *_texts.lists(below)] if root.is_dir() else [root.name]
    for name in every:
        if listing.suffix_of(name) in (*_headers.SUFFIXES, ".txt") and not _headers.is_submission(name):
            columns = _headers.columns_of(_headers.first_rows(below.root / name))
            if columns is not None and columns.form:
                found[name] = columns
    said = {name: columns for name, columns in found.items() if not _headers.is_prediction(columns)}
    return said or found


def _parsed(root: Path) -> Parsed:
    return listing.kept(("boxes of tables", root), lambda: _parse(root))


def _parse(root: Path) -> Parsed:
    below = listing.below(root)
    found, images = Parsed(), NamedImages(below)
    classes = names_by_id(below, found.sources)
    rows: dict[str, list[tuple[str, _Row]]] = {}
    shares: dict[str, bool] = {}
    for file, columns in tables(root).items():
        found.sources.add(file)
        if columns.unclear:
            what = f"{', '.join(map(repr, columns.unclear))} may mean the same as a column that is read"
            found.problems.append(Problem("columns alike", file, what, "not read"))
        if columns.label < 0 and columns.form != "shape":
            what = f"no column of classes among {', '.join(columns.names) or 'its columns'}"
            found.problems.append(Problem("no column of classes", file, what[:300], f'every box is an "{ONE_CLASS}"'))
        listed = list(_rows(below.root / file, file, columns, images, found.problems))
        shares[file] = _is_share(listed)
        if columns.form == "text" and not _headers.plain(columns.names[columns.box[0]]).endswith("xywh"):
            listed = _ordered(below.root, file, columns, listed, images, found.problems)
        rows[file] = [(_split(images, file, row), row) for row in listed]
    _join(below.root, found, images, rows, shares, classes)
    found.add_images(below.images)
    found.problems += images.problems()
    return found


def _split(images: NamedImages, file: str, row: _Row) -> str:
    return images.split(row.split or _headers.split_of(file))


def _join(
    root: Path,
    found: Parsed,
    images: NamedImages,
    rows: dict[str, list[tuple[str, _Row]]],
    shares: dict[str, bool],
    classes: dict[str, str],
) -> None:
    """The rows of all tables as entries of images; a table of all images counts after those of splits."""
    with_boxes = [file for file, listed in rows.items() if any(row.boxes for _, row in listed)]
    found.shares = bool(with_boxes) and all(shares[file] for file in with_boxes)
    of_split: set[str] = set()
    placed: set[tuple[str, str]] = set()
    used: set[str] = set()
    for file in sorted(rows, key=lambda name: not any(split for split, _ in rows[name])):
        repeated: set[str] = set()
        for split, row in rows[file]:
            name = images.find(row.image, file, row.line, split)
            if name is None:
                continue
            if not split and name in of_split:
                repeated.add(name)
                continue
            of_split |= {name} if split else set()
            if (name, split) not in placed:
                placed.add((name, split))
                found.add(name, split or None)
            entry = found.entries.setdefault(name, Entry())
            entry.size_px = row.size_px or entry.size_px
            for box, label in row.boxes:
                called = classes.get(label, label)
                used.add(called)
                if shares[file] and not found.shares:
                    box = _in_pixels(root / name, box)
                entry.objects.append(Object(box, called, f"{file}:{row.line}", row.crowd))
        if repeated:
            what = f"{len(repeated)} of its images stand in the table of a split too, such as {min(repeated)}"
            found.problems.append(Problem("image in two tables", file, what, "these rows are not read", len(repeated)))
    found.classes = _classes(used, classes)


def _classes(used: set[str], named: dict[str, str]) -> list[str] | None:
    """The classes in the order of their numbers, then those that the list of classes lacks (numbers are left out)."""
    listed = list(dict.fromkeys(named.values())) if all(key.isdigit() for key in named) else []
    if not used & set(listed):
        return None
    return listed + sorted(name for name in used - set(listed) if not name.isdigit())


def _in_pixels(path: Path, box: _cells.Box) -> _cells.Box:
    try:
        width, height = image_reader.probe(path)[:2]
    except LabelwiseError:  # told by `clean.pool`
        return box
    return box[0] * width, box[1] * height, box[2] * width, box[3] * height


def _rows(path: Path, file: str, at: Columns, images: NamedImages, problems: list[Problem]) -> Iterator[_Row]:
    """The rows of a table. What is no row is told."""
    hulls: Counter[str] = Counter()
    least = max(at.image, at.split, *(at.box if at.form != "points" else ()))
    for line, cells in _headers.rows_of(path, at):
        where = f"{file}:{line}"
        if at.image >= len(cells) or not cells[at.image]:
            problems.append(Problem("broken row", where, "it names no image", "left out"))
            continue
        cut = at.form != "points" and len(cells) <= max(at.box)  # an image without a box has its cells, empty
        cells += [""] * (1 + least - len(cells))
        label = ONE_CLASS if at.label < 0 else cells[at.label] if at.label < len(cells) else ""
        boxes = _boxes(cells, at, label, hulls)
        if boxes is None or (cut and not boxes):
            problems.append(Problem("broken row", where, f"no box in {' '.join(cells)[:200]!r}", "left out"))
            continue
        if boxes and not all(name for _, name in boxes):
            problems.append(Problem("box without class", where, "its class is empty or not clear", "left out"))
            boxes = [(box, name) for box, name in boxes if name]
            if not boxes:
                continue
        said = cells[at.split].casefold() if at.split >= 0 else ""
        crowd = 0 <= at.crowd < len(cells) and cells[at.crowd].casefold() in ("1", "true", "1.0", "yes")
        size = None
        if at.size is not None and max(at.size) < len(cells):
            width, height = (_headers.number(cells[i]) for i in at.size)
            size = (int(width), int(height)) if 0 <= width < 1e9 and 0 <= height < 1e9 else None
        yield _Row(line, cells[at.image], "" if said == "unassigned" else said, boxes, crowd, size)
    for name, n in hulls.items():
        kind = "polygon" if name in ("polygon", "polyline") else name
        problems.append(Problem(kind, file, f"{n} of its shapes", "the hull box is used", n))


def _boxes(cells: list[str], at: Columns, label: str, hulls: Counter[str]) -> list[tuple[_cells.Box, str]] | None:
    """The boxes of a row, xyxy (in cells as they are written: x, y, width, height); None: it is broken."""
    if at.form == "shape":
        box, name = _cells.shape(cells[at.box[0]])
        if box is None:
            return [] if not name and cells[at.box[0]] in ("", "{}") else None
        hulls.update([name] if name != "rect" else [])
        return [(box, _cells.name_of(cells[at.attributes]) if 0 <= at.attributes < len(cells) else "")]
    if at.form == "text":
        found = _cells.boxes(cells[at.box[0]])
        if found is not None:
            hulls.update(["polygon"] * found[1])
        return None if found is None else [((x, y, x + w, y + h), label) for x, y, w, h in found[0]]
    said = [cells[i] for i in at.box if i < len(cells)]
    if not any(said):
        return []
    if at.form == "points":
        xs, ys = ([_headers.number(cell) for cell in said[i::2] if cell] for i in (0, 1))
        return [((min(xs), min(ys), max(xs), max(ys)), label)] if xs and ys else None
    a, b, c, d = map(_headers.number, said)
    if at.form == "corners":
        return [((a, b, c, d), label)]
    x, y = (a, b) if at.form == "start" else (a - c / 2, b - d / 2)
    return [((x, y, x + c, y + d), label)]


def _is_share(rows: list[_Row]) -> bool:
    """Whether the boxes of a table are shares of the image: the usual one ends at 1 or before."""
    ends = [max(box[2], box[3]) for row in rows for box, _ in row.boxes]
    ends = [end for end in ends if abs(end) < float("inf")]
    return bool(ends) and statistics.median(ends) <= _SHARE


def _ordered(
    root: Path, file: str, at: Columns, rows: list[_Row], images: NamedImages, problems: list[Problem]
) -> list[_Row]:
    """Boxes of one cell as corners, where some of them end outside the image as x, y, width and height."""
    outside = corners = n = 0
    for row in rows[:: max(1, len(rows) // _PROBES)]:
        name = images.find(row.image, file, row.line, _split(images, file, row)) if row.boxes else None
        size = row.size_px
        if name is not None and size is None:
            try:
                size = image_reader.probe(root / name)[:2]
            except LabelwiseError:
                continue
        if size is None:
            continue
        for (x1, y1, x2, y2), _ in row.boxes:
            n += 1
            outside += x2 > size[0] + 1 or y2 > size[1] + 1
            corners += x2 - x1 > x1 and y2 - y1 > y1 and x2 - x1 <= size[0] + 1 and y2 - y1 <= size[1] + 1
    if _headers.plain(at.names[at.box[0]]) not in ("bboxxyxy", "bboxpascalvoc", "boxesstring") and (
        not outside or outside < n / 10 or corners < n
    ):
        return rows
    what = "its boxes are read as x1, y1, x2, y2: as x, y, width, height they would lie outside the images"
    problems.append(Problem("boxes as corners", file, what, "read so"))
    return [
        row._replace(boxes=[((x1, y1, x2 - x1, y2 - y1), name) for (x1, y1, x2, y2), name in row.boxes]) for row in rows
    ]
