"""A class per image in a table (CSV or TSV): columns `image` and `label` (`labels.csv`, `metadata.csv`), or a column of
0 and 1 per class (`_classes.csv` of Roboflow).

Columns are found by their names, or where there are two, or without a header, by the names of images in one of them.
Images are named by path, or without suffix (`id`). The split of a row is that of its column `split`, of the table's
name or folder, or of the image's folder. Ids of classes become names where the folder has a list of them.

| kind of problem | handling |
|---|---|
| image without class (no table names it, or its cell is empty) | left out; images of no table are told once |
| image with several classes | left out |
| image listed twice (with one class) | one is kept |
| broken row | left out |
| missing image, ambiguous image | left out, told once per table |
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from posixpath import splitext

from labelwise.data import _headers, box_table, entries, listing
from labelwise.data._class_lists import names_by_id
from labelwise.data._headers import Columns
from labelwise.data._named_images import NamedImages
from labelwise.data.entries import Entry, Object, Parsed
from labelwise.types import LabelwiseError, Pool, Problem

ONE_CLASS_PER_IMAGE = True
LOOKS_FOR = "a .csv or .tsv with columns such as filename, label"

_WHOLE = (0.0, 0.0, 1.0, 1.0)


@dataclass(frozen=True, slots=True)
class _Table:
    """`classes`: the columns of 0 and 1, with the class of each; none: the class stands in `columns.label`."""

    columns: Columns
    classes: dict[int, str]


def detect(root: Path) -> bool:
    """Whether there is a table that gives images that are there a class, and none with boxes."""
    return bool(_tables(root)) and not box_table.detect(root)


def splits(root: Path) -> tuple[str, ...]:
    """Names of the splits."""
    return entries.splits(_parsed(root))


def read(root: Path, split: str | None = None) -> Pool:
    """Images of a split with their classes."""
    if not _tables(root):
        raise LabelwiseError(f"{root}: no table of classes here; expected {LOOKS_FOR}.")
    return entries.pool(listing.below(root).root, _parsed(root), split)


def _tables(root: Path) -> dict[str, _Table]:
    return listing.kept(("tables of classes", root), lambda: _find(root))


def _find(root: Path) -> dict[str, _Table]:
    below = listing.below(root)
    if not below.images:
        return {}
    names: set[str] = set()
    found = {}
    for file in below.of(*_headers.SUFFIXES) if root.is_dir() else [root.name]:
        if listing.suffix_of(file) not in _headers.SUFFIXES or _headers.is_submission(file):
            continue
        rows = _headers.first_rows(below.root / file)
        table = _table(rows)
        if table is None:
            continue
        if not names:
            files = [name.rpartition("/")[2] for name in below.images]
            names = {part for name in files for part in (name, splitext(name)[0])}
        at = table.columns.image
        said = [row[at] for row in rows[table.columns.first_line - 1 :] if at < len(row)]
        if any(cell.replace("\\", "/").rpartition("/")[2] in names for cell in said):
            found[file] = table
    return found


def _table(rows: Sequence[Sequence[str]]) -> _Table | None:
    columns = _headers.columns_of(rows)
    if columns is None:
        plain = bool(rows) and all(len(row) == 2 and _headers.is_image(row[0]) for row in rows)
        return _Table(Columns(1, 0, 1), {}) if plain else None
    if columns.form:
        return None
    classes = {
        i: name
        for i, name in enumerate(columns.names)
        if i not in (columns.image, columns.split) and name and _is_flag([row[i] for row in rows[1:] if i < len(row)])
    }
    if len(classes) > 1 and columns.label in (-1, *classes) and len(set(classes.values())) == len(classes):
        return _Table(columns, classes)
    return _Table(columns, {}) if columns.label >= 0 else None


def _is_flag(cells: list[str]) -> bool:
    return bool(cells) and all(_headers.number(cell) in (0, 1) for cell in cells)


def _parsed(root: Path) -> Parsed:
    return listing.kept(("classes of tables", root), lambda: _parse(root))


def _parse(root: Path) -> Parsed:
    below, tables = listing.below(root), _tables(root)
    found, images = Parsed(shares=True, sources=set(tables)), NamedImages(below)
    classes = names_by_id(below, found.sources)
    left_out: set[str] = set()
    for file, table in tables.items():
        if table.columns.unclear and not table.classes:
            what = f"{', '.join(map(repr, table.columns.unclear))} may mean the same as a column that is read"
            found.problems.append(Problem("columns alike", file, what, "not read"))
        for line, image, said, chosen in _rows(below.root / file, file, table, found.problems):
            split = images.split(said or _headers.split_of(file))
            name = images.find(image, file, line, split)
            if name is not None and name not in left_out:
                where = f"{file}:{line}"
                problem = _add(found, name, split, [classes.get(label, label) for label in chosen], where)
                if problem is not None:
                    found.problems.append(problem)
                    left_out |= {name} if problem.kind != "image listed twice" else set()
    for name in left_out & set(found.entries):
        del found.entries[name]
    found.splits = {split: [n for n in names if n in found.entries] for split, names in found.splits.items()}
    rest = [name for name in below.images if name not in found.entries and name not in left_out]
    if rest:
        what = f"no table names {len(rest)} of {len(below.images)} images"
        found.problems.append(Problem("image without class", rest[0], what, "left out", len(rest)))
    found.problems += images.problems()
    return found


def _add(found: Parsed, name: str, split: str, classes: list[str], where: str) -> Problem | None:
    """The class of an image joins what is known; else the problem."""
    if not classes:
        return Problem("image without class", where, f"{name} has none", "left out")
    if len(classes) > 1:
        what = f"{name} has {len(classes)} classes: {', '.join(classes)}"
        return Problem("image with several classes", where, what[:300], "left out")
    if name not in found.entries:
        found.entries[name] = Entry([Object(_WHOLE, classes[0], where)])
        found.add(name, split or None)
        return None
    before = found.entries[name].objects[0]
    if before.name == classes[0]:
        return Problem("image listed twice", where, f"{name} stands in {before.where} too", "one is kept")
    what = f"{name}: {before.name!r} in {before.where}, {classes[0]!r} here"
    return Problem("image with several classes", where, what, "left out")


def _rows(path: Path, file: str, table: _Table, problems: list[Problem]) -> Iterator[tuple[int, str, str, list[str]]]:
    """(line, image, split, classes) of the rows of a table. What is no row is told."""
    at = table.columns
    for line, cells in _headers.rows_of(path, at):
        if at.image >= len(cells) or not cells[at.image]:
            problems.append(Problem("broken row", f"{file}:{line}", "it names no image", "left out"))
            continue
        chosen = [cells[at.label]] if 0 <= at.label < len(cells) and cells[at.label] else []
        if table.classes:
            chosen = [name for i, name in table.classes.items() if i < len(cells) and _headers.number(cells[i]) == 1]
        split = cells[at.split].casefold() if 0 <= at.split < len(cells) else ""
        yield line, cells[at.image], "" if split == "unassigned" else split, chosen
