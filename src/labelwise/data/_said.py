"""What annotation tools say of images, before the images are found: shapes as boxes, faults told (machinery of the
readers of JSON).

A parser of a tool yields `Said`, one per entry; `parsed` finds their images and makes `entries.Parsed` of them.
"""

from __future__ import annotations

import posixpath
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

from labelwise.data import split_names, text_files
from labelwise.data._json_fields import Box, Fault, dict_of, hull, points_of
from labelwise.data.entries import Entry, Object, Parsed
from labelwise.data.listing import Listing
from labelwise.data.resolve import Resolver
from labelwise.types import LabelwiseError, Problem

_TOLD = {
    "polygon": ("is a polygon", "its hull box is used"),
    "rotated box": ("is rotated", "its hull box is used"),
    "ellipse": ("is a circle or an ellipse", "its hull box is used"),
    "mask": ("is a mask", "its hull box is used"),
    "no box": ("is a point, a line or a class of the whole image", "left out"),
    "mask without box": ("is a mask whose place only its pixels tell", "left out"),
    "picture of a mask": ("lies in a folder of masks", "left out"),
    "several classes": ("has several classes", "the first is used"),
    "several frames": ("has several frames", "the first is read"),
    "several annotations": ("was annotated more than once", "the latest that is not cancelled is used"),
    "image listed twice": ("is named before", "boxes of both are kept"),
    "class of a number": ("is a number, and no file names it", "the number is the name of the class"),
    "object without class": ("has no class", "called 'object', as all are"),
}
_MASKS = re.compile(r"(^|/)(masks?(_[a-z]+)?|segmentation(class|object)[a-z]*|fields)/", re.IGNORECASE)
_PLACES = re.compile(r"(^|/)(annotations?|annots?|ann|labels?|jsons?|ground_truth)(?=/|$)", re.IGNORECASE)
_CROWD = ("iscrowd", "is_crowd", "isCrowd", "crowd", "difficult")
"""Fields of an object, or of its attributes, that make it a region to ignore."""
_SUFFIXES = (".jpg", ".png", ".jpeg", "")
_IMAGES = ("images", "img", "imgs", "image", "data", "JPEGImages")
_UPLOAD = re.compile(r"^[0-9a-f]{8}-(?=.)")


@dataclass(slots=True)
class Said:
    """What an entry says of its image.

    Fields:
        reference: its path or URL as written; `stem`: without its suffix; `twin`: what the image beside the file
            is called but for its suffix: where it is there, it is the one, whatever the reference says.
        where: the place of the entry, for messages: file and number.
        split: the split that the format itself names; None: that of the folders.
        seen: somebody has looked at it; else it is without labels.
    """

    reference: str
    where: str
    objects: list[Object] = field(default_factory=list)
    size_px: tuple[int, int] | None = None
    split: str | None = None
    stem: bool = False
    twin: str = ""
    seen: bool = True


@dataclass(slots=True)
class Notes:
    """What is told of the files: one by one, or once per kind with a count. `classes`: those that a file lists."""

    problems: list[Problem] = field(default_factory=list)
    classes: list[str] = field(default_factory=list)
    _count: Counter[str] = field(default_factory=Counter)
    _first: dict[str, str] = field(default_factory=dict)

    def tell(self, kind: str, where: str, what: str, handling: str = "left out") -> None:
        """A problem of its own."""
        self.problems.append(Problem(kind, where, what, handling))

    def count(self, kind: str, where: str) -> None:
        """One more of a kind that is told once."""
        self._count[kind] += 1
        self._first.setdefault(kind, where)

    def lists(self, names: Iterable[Any]) -> None:
        """Classes that a file lists."""
        there = set(self.classes)
        for name in names:
            if isinstance(name, str) and name and name not in there:
                there.add(name)
                self.classes.append(name)

    def all(self) -> list[Problem]:
        """The problems, those that are told once at the end."""
        once = [
            Problem(kind, self._first[kind], f"{n} of them; the first {_TOLD[kind][0]}", _TOLD[kind][1], n)
            for kind, n in self._count.items()
        ]
        return self.problems + once


def polygon_box(raw: Any, where: str, notes: Notes, *, rings: bool = False) -> Box:
    """The hull of a polygon, or of several (`rings`); told once."""
    if rings and not isinstance(raw, list):
        raise Fault("box without numbers", f"its polygons are {str(raw)[:40]!r}")
    box = hull([point for ring in raw for point in points_of(ring)] if rings else points_of(raw))
    notes.count("polygon", where)
    return box


def objects(raw: Any, where: str, notes: Notes, make: Callable[[dict[str, Any], str], tuple[str, Box]]) -> list[Object]:
    """The objects of an entry; `make` gives class and box of one."""
    if raw is None:
        return []
    if not isinstance(raw, list):
        notes.tell("broken entry", where, f"{str(raw)[:60]!r}; expected a list of objects")
        return []
    found = []
    for k, one in enumerate(raw):
        place = f"{where}[{k}]"
        if not isinstance(one, dict):
            notes.tell("broken entry", place, f"{str(one)[:60]!r}; expected an object with its fields")
            continue
        try:
            name, box = make(one, place)
        except Fault as fault:
            if fault.what:
                notes.tell(fault.kind, place, fault.what)
            else:
                notes.count(fault.kind, place)
            continue
        marks = {**dict_of(one.get("attributes")), **one}
        found.append(Object(box, name, place, any(marks.get(key) in (True, 1) for key in _CROWD)))
    return found


def entries_of(raw: Any, where: str, notes: Notes) -> Iterator[tuple[str, dict[str, Any]]]:
    """(place, entry) of a list or dict of entries; those that are no dict are told."""
    pairs: Iterable[tuple[Any, Any]] = ()
    if isinstance(raw, list):
        pairs = enumerate(raw)
    elif isinstance(raw, dict):
        pairs = raw.items()
    else:
        notes.tell("broken annotation", where, f"{str(raw)[:60]!r}; expected a list of entries", "the file is left out")
    for key, one in pairs:
        place = f"{where}[{str(key)[:80]}]"
        if isinstance(one, dict):
            yield place, one
        else:
            notes.tell("broken entry", place, f"{str(one)[:60]!r}; expected an object with its fields")


def contents(listing: Listing, files: Iterable[str], kind: type, notes: Notes) -> Iterator[tuple[str, Any]]:
    """(file, content) of JSON files; one that is broken or not of this type is told."""
    for file in files:
        try:
            content = text_files.json_of(listing.root / file)
        except LabelwiseError as error:
            notes.tell("broken annotation", file, str(error), "the file is left out")
            continue
        if isinstance(content, kind):
            yield file, content
        else:
            notes.tell("broken annotation", file, f"it is {str(content)[:40]!r}", "the file is left out")


def split_of_file(file: str) -> str:
    """The split that a file of many images is of: by its folder, else the first or last word of its name.

    >>> [split_of_file(f) for f in ("val/a.json", "annotations/train.json", "labels_images_test.json", "latest.json")]
    ['val', 'train', 'test', '']
    """
    words = re.split(r"[^A-Za-z0-9]+", posixpath.splitext(posixpath.basename(file))[0].strip("_"))
    named = (word for word in (words[-1], words[0]) if split_names.is_split(word))
    return split_names.of_path(file) or next(named, "")


def parsed(
    listing: Listing, said: Iterable[tuple[str, Said]], notes: Notes, sources: set[str], *, by_file: bool, alone: bool
) -> Parsed:
    """The data set that (file, what it says) make up.

    `by_file`: a file's name may tell the split; `alone`: only the images that are named belong to it.
    """
    found = Parsed(sources=sources)
    find = _Finder(listing)
    members: set[tuple[str, str]] = set()
    for file, one in said:
        of_file = split_of_file(file) if by_file else split_names.of_path(file)
        image = find(file, one, of_file)
        if image is None:
            what = f"{one.reference[:120]} is not there"
            notes.tell("missing image", one.where, what, f"left out, with its {len(one.objects)} boxes")
            continue
        split = one.split if one.split is not None else of_file or split_names.of_path(image)
        if (image, split) in members:
            notes.count("image listed twice", one.where)
        else:
            members.add((image, split))
            found.add(image, split)
        if one.seen:
            if image not in found.entries:
                found.entries[image] = Entry(one.objects, one.size_px)
            else:
                found.entries[image].objects += one.objects
    if not alone:
        masks = {name for name in listing.images if _MASKS.search(name)}
        found.add_images([name for name in listing.images if name not in masks])
        for name in sorted(masks - {image for image, _ in members}):
            notes.count("picture of a mask", name)
    if notes.classes:
        found.classes = _classes(found, notes)
    found.problems = notes.all() + find.resolver.problems()
    return found


def _classes(found: Parsed, notes: Notes) -> list[str]:
    """Classes that files list, then those that only objects have, which is told."""
    listed = set(notes.classes)
    others = Counter(one.name for entry in found.entries.values() for one in entry.objects if one.name not in listed)
    for name, n in sorted(others.items()):
        where = min(found.sources, default="")
        what = f"{name!r} is not in the list of classes"
        notes.problems.append(Problem("unknown class", where, what, "added behind the listed ones", n))
    return [*notes.classes, *sorted(others)]


class _Finder:
    """Where images lie: folders are tried from an annotation file outwards."""

    def __init__(self, listing: Listing) -> None:
        self.resolver = Resolver(listing, listing.images)
        self._there = {folder.casefold() for folder in listing.folders}
        self._folders: dict[tuple[str, ...], tuple[str, ...]] = {}

    def __call__(self, file: str, one: Said, split: str) -> str | None:
        """The image of an entry of `file`."""
        folder, name = posixpath.split(file)
        if one.twin and (image := self.resolver.find_stem(one.twin, (folder,))) is not None:
            return image
        folders = self._places(folder, split, "" if one.twin else name.split(".")[0], "")
        for reference in dict.fromkeys(filter(None, (one.reference, one.twin))):
            if one.stem or reference == one.twin:
                image = self.resolver.find_stem(reference, folders)
                if image is not None:
                    return image
            for spelled in _spellings(reference):
                for suffix in _SUFFIXES if one.stem else ("",):
                    image = self.resolver.find(spelled + suffix, folders, one.where, split)
                    if image is not None:
                        return image
        return None

    def _places(self, folder: str, *below: str) -> tuple[str, ...]:
        """Folders that are there, the likeliest first; `below`: folders within the usual ones."""
        key = (folder, *below)
        if key not in self._folders:
            found = [_PLACES.sub(rf"\1{name}", folder) for name in _IMAGES] if _PLACES.search(folder) else []
            for base in dict.fromkeys((folder, posixpath.dirname(folder), "")):
                found += [posixpath.join(base, name, inner) for name in ("", *_IMAGES) for inner in below]
            found = [place.rstrip("/") for place in found]
            self._folders[key] = tuple(dict.fromkeys([folder, *(f for f in found if f.casefold() in self._there)]))
        return self._folders[key]


def _spellings(reference: str) -> list[str]:
    """A path as written, then what it means as a URL or as a file that was uploaded to Label Studio.

    >>> _spellings("/data/upload/1/0123abcd-a.jpg")
    ['/data/upload/1/0123abcd-a.jpg', 'a.jpg']
    >>> _spellings("/data/local-files/?d=x/a.jpg"), _spellings("s3://bucket/x/a.jpg")
    (['x/a.jpg'], ['bucket/x/a.jpg', 'x/a.jpg'])
    """
    reference = reference[:4096]
    if "?d=" in reference:
        reference = reference.split("?d=", 1)[1]
    found = [reference]
    if "://" in reference and not reference.startswith("file:"):
        plain = reference.split("://", 1)[1].split("?", 1)[0]
        found = [plain, plain.split("/", 1)[-1]]
    name = posixpath.basename(found[-1])
    if _UPLOAD.match(name):
        found.append(_UPLOAD.sub("", name))
    return found
