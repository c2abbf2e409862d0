"""From what annotation files say of single images to a `Pool`: the second half of every reader that is not columnar.

A reader parses its files into `Parsed`, with all splits at once so that their classes agree; `splits` and `pool` do the
rest. What is wrong with rows (boxes without area, outside the image, twice, corners in the wrong order, numbers that
are none, EXIF) is found by `clean.pool`, for all formats alike.

| kind of problem | handling |
|---|---|
| image without labels | nobody has looked at it: `Pool.complete` is False there |
| missing image | left out, with its boxes |
| unknown class id (a class that the list of classes lacks) | the box is left out |
| class names alike (they differ by case or blanks) | kept apart |
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import numpy as np

from labelwise.data import clean, split_names
from labelwise.types import LabelwiseError, Pool, Problem

ALL = "all"
"""The split of images that no split is named for, in a data set that has splits."""


class Object(NamedTuple):
    """A box, xyxy in continuous pixels from the upper left corner (or in shares of the image: `Parsed.shares`)."""

    box: tuple[float, float, float, float]
    name: str
    where: str
    """The file and the line or number of the object, relative to the root: `labels/a.txt:3`."""
    crowd: bool = False


@dataclass(slots=True)
class Entry:
    """What is said of one image. `size_px`: width and height, None where the file is silent."""

    objects: list[Object] = field(default_factory=list)
    size_px: tuple[int, int] | None = None


@dataclass(slots=True)
class Parsed:
    """A data set as its files say it.

    Fields:
        splits: names of the images by split, relative to the root; the split "" is of those that have none. An image
            may be in several, and needs no entry.
        entries: what is said of an image, by its name.
        classes: names in their order; None: all names of objects, sorted.
        sources: files that were read, images apart, relative to the root.
        shares: boxes are shares of width and height.
    """

    splits: dict[str, list[str]] = field(default_factory=dict)
    entries: dict[str, Entry] = field(default_factory=dict)
    classes: list[str] | None = None
    problems: list[Problem] = field(default_factory=list)
    sources: set[str] = field(default_factory=set)
    shares: bool = False

    def entry(self, image: str, split: str | None = None) -> Entry:
        """The entry of an image, made where there is none; the image joins `split` (None: that of its path)."""
        if image not in self.entries:
            self.entries[image] = Entry()
            self.add(image, split)
        return self.entries[image]

    def add(self, image: str, split: str | None = None) -> None:
        """An image of a split (None: that of its path)."""
        self.splits.setdefault(split_names.of_path(image) if split is None else split, []).append(image)

    def classes_of_objects(self) -> None:
        """The classes are those of the objects that count, numbers by their size; a crowd has no class in a pool."""
        used = {one.name for entry in self.entries.values() for one in entry.objects if not one.crowd}
        named = sorted(used, key=lambda name: (int(name) if name.isdecimal() else -1, name)) or ["object"]
        for entry in self.entries.values():
            entry.objects = [one if one.name in used else one._replace(name=named[0]) for one in entry.objects]
        self.classes = named

    def add_images(self, images: Sequence[str]) -> None:
        """Images that no entry has named yet."""
        there = {name for names in self.splits.values() for name in names}
        for image in images:
            if image not in there:
                self.add(image)


def splits(parsed: Parsed) -> tuple[str, ...]:
    """Names of the splits; none where no image has one."""
    named = split_names.in_order({name for name in parsed.splits if name})
    return (*named, ALL) if named and parsed.splits.get("") else tuple(named)


def pool(root: Path, parsed: Parsed, split: str | None = None) -> Pool:
    """The images of a split, checked."""
    named = splits(parsed)
    chosen = clean.choose(root, named, split)
    inside = parsed.splits.get(chosen or "", []) or (parsed.splits.get("", []) if chosen == ALL else [])
    names = list(dict.fromkeys(inside))
    if not names:
        first = next(iter(parsed.problems), None)
        why = f" First problem: {first.where}: {first.what}." if first is not None else ""
        raise LabelwiseError(f"{root}: no image of {chosen or 'this data set'} is there.{why}")
    problems = list(parsed.problems)
    classes = parsed.classes
    if classes is None:
        classes = sorted({one.name for entry in parsed.entries.values() for one in entry.objects})
    problems += classes_alike(root, classes)
    number = {name: i for i, name in enumerate(classes)}
    rows: list[tuple[int, tuple[float, float, float, float], int, bool]] = []
    where: list[str] = []
    said = np.full((len(names), 2), -1, np.int64)
    complete = np.ones(len(names), np.bool_)
    for i, name in enumerate(names):
        entry = parsed.entries.get(name)
        if entry is None:
            complete[i] = False
            continue
        if entry.size_px is not None:
            said[i] = entry.size_px
        for one in entry.objects:
            if one.name not in number:
                what = f"{one.name!r} is not in the list of classes"
                problems.append(Problem("unknown class id", one.where, what, "left out"))
                continue
            rows.append((i, one.box, number[one.name], one.crowd))
            where.append(one.where)
    if not complete.all():
        bare = np.flatnonzero(~complete)
        what = f"{len(bare)} of {len(names)} images have no annotation"
        problems.append(Problem("image without labels", names[bare[0]], what, "nobody has looked at them", len(bare)))
    found = clean.Rows.of(rows, where)
    return clean.pool(
        root,
        classes,
        names,
        found,
        problems,
        said_px=said,
        normalised=parsed.shares,
        complete=complete,
        sources=frozenset(parsed.sources),
    )


def classes_alike(root: Path, classes: Sequence[str]) -> list[Problem]:
    """Classes whose names differ by case or blanks alone."""
    plain: dict[str, list[str]] = {}
    for name in classes:
        plain.setdefault(" ".join(name.casefold().split()), []).append(name)
    return [
        Problem("class names alike", str(root.name), ", ".join(map(repr, same)), "kept apart; give them one name")
        for same in plain.values()
        if len(same) > 1
    ]
