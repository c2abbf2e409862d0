"""Which images each split of a YOLO data set has: by what its file says, else by the folders they lie in.

A place is a folder, a list of images, or an image. It is looked for from `path`, from the folder of the file and from
the root; then (as of another machine) below the root by the longest matching end. A folder of another split is never
taken for it. A folder outside of the root is read where the file names it and the root is not below it: its first
million files.
"""

from __future__ import annotations

import os
import posixpath
import re
from bisect import bisect_left
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path

from labelwise.data import entries, image_reader, listing, split_names, text_files
from labelwise.data._yolo_config import Config
from labelwise.data.listing import Listing, suffix_of
from labelwise.data.resolve import Resolver
from labelwise.types import LabelwiseError, Problem

_DEVICES = ("/dev", "/proc", "/sys")
_MOST_OUTSIDE = 1_000_000


@dataclass(slots=True)
class Layout:
    """Images by split, and what is told of a split and of the whole.

    `lists`: the lists of images that were read. `n_found`: how many splits have images where the file says.
    """

    splits: dict[str, list[str]] = field(default_factory=dict)
    told: dict[str, list[Problem]] = field(default_factory=dict)
    common: list[Problem] = field(default_factory=list)
    lists: set[str] = field(default_factory=set)
    n_found: int = 0


def by_config(files: Listing, config: Config) -> Layout:
    """The splits that a file names, and folders called like a split that it does not name."""
    layout = Layout()
    for split, said in config.places.items():
        place = _Places(files, config, split)
        images = list(dict.fromkeys(name for one in said for name in place.images(one)))
        told = place.problems()
        layout.n_found += bool(images)
        if not images:
            images = [name for name in files.images if split_names.of_path(name) and _same(split, name)]
            handling = (
                f"the images below {posixpath.dirname(images[0])} are read" if images else "the split is left out"
            )
            told = [one for one in told if one.kind != "ambiguous image"]
            where = f"{config.file or said[0]}: {split}"
            told.append(Problem("path not found", where, f"no image at {', '.join(said[:3])}", handling))
        if images:
            layout.splits[split] = images
            layout.told[split] = told
        else:
            layout.common += told
        layout.lists |= place.lists
    _add_rest(files, config, layout)
    return layout


def by_folders(files: Listing, labelled: set[str]) -> Layout:
    """Splits by the names of folders. Images beside them count where one of them has labels."""
    layout = Layout()
    for name in files.images:
        layout.splits.setdefault(split_names.of_path(name), []).append(name)
    rest = layout.splits.pop("", [])
    if rest and (not layout.splits or any(name in labelled for name in rest)):
        layout.splits[entries.ALL if layout.splits else ""] = rest
    elif rest:
        layout.common.append(_outside(rest))
    return layout


def _add_rest(files: Listing, config: Config, layout: Layout) -> None:
    """Images that the file names nowhere: a split of their own where their folder is called so, else told."""
    if not layout.splits:
        found = by_folders(files, set(files.images))
        layout.splits, layout.common = found.splits, layout.common + found.common
        return
    inside = {name for images in layout.splits.values() for name in images}
    rest = [name for name in files.images if name not in inside]
    named = {_plain(split) for split in layout.splits}
    by_split: dict[str, list[str]] = {}
    for name in rest:
        split = split_names.of_path(name)
        by_split.setdefault("" if _plain(split) in named or not _is_place(name, split) else split, []).append(name)
    outside = by_split.pop("", [])
    layout.splits.update(by_split)
    for split in by_split:
        what = f"{config.file or 'no list'} does not name it"
        layout.told[split] = [Problem("split not named", split, what, "read, by the name of the folder")]
    if outside:
        layout.common.append(_outside(outside))


def _outside(names: list[str]) -> Problem:
    what = f"{len(names)} {'image' if len(names) == 1 else 'images'} of no split"
    return Problem("image outside the splits", names[0], what, "left out", len(names))


def _is_place(name: str, split: str) -> bool:
    """Whether an image lies in `<split>/images` or `images/<split>`."""
    return bool(split) and "images" in name.lower().split("/")


def _plain(split: str) -> str:
    """One name for the splits that are one.

    >>> _plain("Valid"), _plain("val2017"), _plain("training")
    ('val', 'val', 'train')
    """
    plain = re.sub(r"[-_]?\d{4}$", "", split.lower())
    return {"valid": "val", "validation": "val", "dev": "val", "training": "train", "testing": "test"}.get(plain, plain)


def _same(split: str, name: str) -> bool:
    return _plain(split_names.of_path(name)) == _plain(split)


class _Places:
    """Finds what a split consists of."""

    def __init__(self, files: Listing, config: Config, split: str) -> None:
        self.files = files
        self.config = config
        self.split = split
        self.lists: set[str] = set()
        self._missing: list[tuple[str, str]] = []
        self._n_listed = 0
        given = config.path.replace("\\", "/")
        bases = (posixpath.normpath(posixpath.join(config.folder, given)), config.folder, "")
        self._bases = tuple(dict.fromkeys("" if base == "." else base for base in bases))
        fit = [one for one in files.folders if not split_names.of_path(f"{one}/x") or _same(split, f"{one}/x")]
        self._folders = Resolver(files, [one for one in fit if one])
        self._images = Resolver(files, files.images)
        self._lists = Resolver(files, [*files.of(".txt"), *files.of(".list")])

    def images(self, said: str) -> Iterator[str]:
        """The images of one place."""
        suffix = suffix_of(said.replace("\\", "/"))
        if suffix in image_reader.SUFFIXES:
            yield from self._listed([(said, f"{self.config.file}: {said}")], self._bases)
        elif suffix in (".txt", ".list"):
            found = self._lists.find(said, self._bases, self.config.file)
            if found is not None:
                self.lists.add(found)
                yield from self._list(found)
        else:
            yield from self._below(said)

    def problems(self) -> list[Problem]:
        found = [*self._folders.problems(), *self._lists.problems(), *self._images.problems()]
        doubts = {problem.where for problem in found if problem.kind == "ambiguous image"}
        missing = [(where, said) for where, said in self._missing if where not in doubts]
        if missing:
            where = ": ".join(filter(None, missing[0]))
            what = f"{len(missing)} of {self._n_listed} images that are listed are not there"
            found.append(Problem("missing image", where, what, "left out", len(missing)))
        return found

    def _list(self, name: str) -> Iterator[str]:
        try:
            lines = text_files.lines(self.files.root / name)
        except LabelwiseError as error:
            self._missing.append((name, str(error)))
            return
        rows = [(line.strip("'\""), f"{name}:{i}") for i, line in enumerate(lines, start=1) if line and line[0] != "#"]
        yield from self._listed(rows, tuple(dict.fromkeys((name.rpartition("/")[0], *self._bases))))

    def _listed(self, rows: list[tuple[str, str]], bases: tuple[str, ...]) -> Iterator[str]:
        self._n_listed += len(rows)
        for said, where in rows:
            split = split_names.of_path(said.replace("\\", "/"))
            found = self._images.find(said, bases, where, split)
            if found is None and suffix_of(said) not in image_reader.SUFFIXES:
                found = self._images.find_stem(said, bases)
            if found is not None:
                yield found
            else:
                self._missing.append((where, said))

    def _below(self, said: str) -> Iterator[str]:
        """Every image below a folder."""
        plain = said.strip().replace("\\", "/").rstrip("/")
        stripped = re.sub(r"^(\.\./)+", "", plain)  # as Roboflow writes it, for a data.yaml that is one folder deeper
        for spelled in dict.fromkeys((plain, stripped)):
            for base in self._bases:
                name = posixpath.normpath(posixpath.join(base, spelled))
                name = "" if name == "." else name
                if name in self.files.folders:
                    yield from self._inside(name)
                    return
                if name.startswith(("../", "/")) and (outer := self._outer(name)):
                    yield from outer
                    return
        found = self._folders.find(stripped, self._bases, self.config.file)
        if found is not None:
            yield from self._inside(found)

    def _inside(self, folder: str) -> Iterator[str]:
        images = listing.kept(("sorted images", self.files.root), lambda: sorted(self.files.images))
        prefix = f"{folder}/" if folder else ""
        for name in images[bisect_left(images, prefix) :]:
            if not name.startswith(prefix):
                return
            yield name

    def _outer(self, name: str) -> list[str]:
        """Images of a folder that is not below the root, unless the root is below that."""
        path = Path(os.path.normpath(self.files.root / name))
        try:
            if not path.is_dir() or _is_devices(path) or self.files.root.resolve().is_relative_to(path.resolve()):
                return []
            found = [Path(where) / name for where, name in _below(path) if image_reader.is_image(Path(name))]
            return sorted(Path(os.path.relpath(one, self.files.root)).as_posix() for one in found)
        except (OSError, ValueError):
            return []


def _is_devices(path: Path) -> bool:
    return any(path.is_relative_to(place) or path.resolve().is_relative_to(place) for place in _DEVICES)


def _below(path: Path) -> Iterator[tuple[str, str]]:
    """(folder, name) of the first files below a folder; links to folders are not followed."""
    files = ((where, name) for where, _, names in os.walk(path) for name in names)
    return islice(files, _MOST_OUTSIDE)
