"""The image files that a COCO file means, and the classes of several COCO files."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from labelwise.data import _coco_columns as columns
from labelwise.data import _coco_files as files
from labelwise.data import _coco_rows as rows
from labelwise.data import listing, split_names
from labelwise.data.resolve import Resolver
from labelwise.types import LabelwiseError, Problem

_SAME = ("val", "valid", "validation")


class Part(NamedTuple):
    """A COCO file with the image file of each of its images, relative to the root (None: it is not there).

    `numbers` are those of its images that count, None: all.
    """

    made: columns.Columns
    names: list[str | None]
    problems: list[Problem]
    numbers: list[int] | None = None

    def of_split(self, split: str) -> Part:
        """The images whose own path says this split (empty: none)."""
        own = [
            split_names.of_path(name or said[0].replace("\\", "/"))
            for name, said in zip(self.names, self.made.references, strict=True)
        ]
        return self._replace(numbers=[i for i, one in enumerate(own) if one == split])

    @property
    def chosen(self) -> list[int]:
        """Numbers of its images that count."""
        return list(range(len(self.names))) if self.numbers is None else self.numbers


def part(root: Path, found: files.Found) -> Part:
    """A file, read and with its images found.

    Raises:
        LabelwiseError: it cannot be read.
    """
    made = listing.kept(("coco part", root, found), lambda: _part(root, found))
    if isinstance(made, LabelwiseError):
        raise made
    return made


def _part(root: Path, found: files.Found) -> Part | LabelwiseError:
    below = listing.below(root)
    try:
        made = rows.read(below.root, found.path)
    except LabelwiseError as error:
        return error
    resolver = Resolver(below, below.images)
    names = _find(made, resolver, _folders(below, found, made.folder, root.is_file()), found.split)
    problems = resolver.problems()
    ambiguous = {problem.where for problem in problems if problem.kind == "ambiguous image"}
    for i, name in enumerate(names):
        if name is None and (where := _where(made, i)) not in ambiguous:
            what = f"{made.references[i][0]} is not there"
            problems.append(Problem("missing image", where, what, "the image is left out, with its boxes"))
    return Part(made, names, problems)


def _where(made: columns.Columns, i: int) -> str:
    return f"{made.path}: images[{i}]" if made.ids[i] is None else f"{made.path}: image id {columns.shown(made.ids[i])}"


def _find(made: columns.Columns, resolver: Resolver, folders: Sequence[str], split: str) -> list[str | None]:
    """The image files. What is found in one folder is looked for there first the next time."""
    there = frozenset(resolver.files)
    home = [folder for folder in folders if folder in ("", made.folder)] or [""]
    own_splits = [one for one in _spellings(split) if split_names.is_split(one)] or [""]
    found: list[str | None] = []
    last: str | None = None
    for i, said in enumerate(made.references):
        if last is not None and (name := last + said[0]) in there:
            found.append(name)
            continue
        where = _where(made, i)
        name_or_none = None
        for reference in said:
            # a path that leads upwards counts from the data set itself
            places = [*home, *folders] if reference.startswith("../") else folders
            name_or_none = next(
                (one for own in own_splits if (one := resolver.find(reference, places, where, own))), None
            ) or (resolver.find_stem(reference, folders) if not listing.suffix_of(reference) else None)
            if name_or_none is not None:
                break
        found.append(name_or_none)
        if name_or_none is not None and (name_or_none == said[0] or name_or_none.endswith(f"/{said[0]}")):
            last = name_or_none[: -len(said[0])]
    return found


def _folders(below: listing.Listing, found: files.Found, said: str, alone: bool) -> list[str]:
    """The places that a path in a file may count from, the likeliest first."""
    home, parent = found.home, found.path.rpartition("/")[0]
    bases = [home, *([""] if home else []), *([".."] if alone else [])]
    known = {folder.casefold() for folder in below.folders}
    places = []
    for base in bases:
        at = f"{base}/" if base else ""
        for split in _spellings(found.split) if found.split else ():
            places += [f"{at}images/{split}", f"{at}{split}", f"{at}{split}/images", f"{at}{split}/data"]
            places += [f"{at}data/{split}", f"{at}JPEGImages/{split}"]
        places += [parent, f"{at}images", f"{at}data", base, f"{at}JPEGImages"]
    upwards = [place for place in places if place.startswith("..") and (below.root / place).is_dir()]
    inside = [place for place in places if place.casefold() in known]
    return list(dict.fromkeys([*([said] if said else []), *inside, *upwards])) or [""]


def _spellings(split: str) -> list[str]:
    """A split as folders may call it: with its year or without, val or valid."""
    plain = split.rstrip("0123456789").rstrip("-_")
    found = [split, *([plain] if plain and plain != split else [])]
    return found + [other for other in _SAME if plain in _SAME and other not in found]


class Classes(NamedTuple):
    """The classes of all files, by name, in the order of the first; `number` of each category of a file."""

    names: list[str]
    number: dict[str, np.ndarray]
    problems: list[Problem]


def classes(parts: Sequence[Part]) -> Classes:
    """One list of classes for all files.

    Left out is a category that nothing but others' super category: no box has it, others name it, and it has none
    itself (the project's name in Roboflow's exports).
    """
    used = {one.name for part in parts for one in part.made.categories if one.used or not one.top}
    number: dict[str, int] = {}
    of_file, problems = {}, []
    above: set[str] = set()
    for made in (part.made for part in parts):
        same: dict[str, list[str]] = {}
        for one in made.categories:
            if one.name in used:
                number.setdefault(one.name, len(number))
            elif one.name not in above:
                above.add(one.name)
                what = f"{one.name!r} (id {columns.shown(one.id)}) is the super category of others, and no box has it"
                problems.append(Problem("unused super category", made.path, what, "left out of the classes"))
            if one.used or not one.top:
                same.setdefault(one.name, []).append(columns.shown(one.id))
        for name, ids in same.items():
            if len(ids) > 1:
                what = f"the ids {' and '.join(ids)} are both {name!r}"
                problems.append(Problem("two categories of one name", made.path, what, "read as one class"))
        of_file[made.path] = np.array([number.get(one.name, -1) for one in made.categories], np.int64)
    return Classes(list(number), of_file, problems)
