"""What the folders of a data set of images alone mean: classes, videos frame by frame, or nothing.

They look alike. The splits are folders with their names; wrappers (folders that hold all others) do not count. Then:

* frames: the images of every folder are numbered in even steps and of one size, and the folder's name speaks of a video
  or has a number (`clip_a`, `seq0013`, but not `cat` or `7`);
* classes: at least two folders in a split, no image beside them, and at most a few whose names speak of days, cameras,
  batches or masks;
* else a bare folder.

Fails when: frames lie in folders with names such as `left` and `right` (told as classes), or all classes are called
`batch_1` and the like (told as a bare folder).
"""

from __future__ import annotations

import os
import re
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

import numpy as np

from labelwise.data import image_reader, listing, split_names
from labelwise.data.listing import Listing
from labelwise.types import LabelwiseError, Problem

_OF_CLIPS = frozenset(
    ("clip", "clips", "video", "vid", "seq", "sequence", "scene", "shot", "cam", "camera", "take", "film", "movie")
)
_OF_NOTHING = frozenset(
    ("day", "week", "month", "batch", "part", "set", "site", "cam", "camera", "dcim", "raw", "data", "photos", "image")
) | {"images", "img", "imgs", "jpegimages", "mask", "masks", "label", "labels", "annotations", "depth", "rgb"}


@dataclass(frozen=True, slots=True)
class Place:
    """A split's folder (relative to the root), its images by the folder in it, and those beside these folders."""

    folder: str
    groups: dict[str, list[str]] = field(default_factory=dict)
    beside: list[str] = field(default_factory=list)

    @property
    def images(self) -> list[str]:
        """All of them."""
        return sorted([*self.beside, *(name for names in self.groups.values() for name in names)])


@dataclass(frozen=True, slots=True)
class Layout:
    """`kind`: frames, classes or folder. `places` by split; "" where there are none, and for images of no split."""

    kind: str
    places: dict[str, Place]

    @property
    def groups(self) -> list[str]:
        """Names of the folders within the places."""
        return list(dict.fromkeys(name for place in self.places.values() for name in place.groups))


def layout(root: Path) -> Layout:
    """How the images below a folder lie."""
    return listing.kept(("layout of images", root), lambda: _layout(root))


def subfolders(folder: Path) -> list[str]:
    """Names of the folders in a folder, also of empty ones, sorted; hidden ones are none."""
    try:
        with os.scandir(folder) as inside:
            return sorted(one.name for one in inside if not one.name.startswith(".") and one.is_dir())
    except OSError:
        return []


def lacking(root: Path) -> list[Problem]:
    """The images that would be read if an extra were installed."""
    names = listing.below(root).of(*sorted(image_reader.EXTRA - image_reader.SUFFIXES))
    if not names:
        return []
    what = f'{len(names)} HEIC {"image needs" if len(names) == 1 else "images need"} pip install "labelwise[heic]"'
    return [Problem("image not read", names[0], what, "left out", len(names))]


def _layout(root: Path) -> Layout:
    if not root.is_dir():
        return Layout("", {})
    below = listing.below(root)
    home = _home(below.images)
    places = {"": _place(home, below.images)}
    tops = places[""].groups
    splits = [name for name in tops if split_names.is_split(name)]
    if len(splits) == 1 < len(tops):  # not `train` beside `car` and `plane`
        splits = [name for name in splits if _place(_join(home, name), tops[name]).groups]
    if splits:
        rest = places[""].beside + [one for name in tops if name not in splits for one in tops[name]]
        places = {name: _place(_join(home, name), tops[name]) for name in split_names.in_order(set(splits))}
        places |= {"": _place(home, rest)} if rest else {}
    return Layout(_kind(below, places), places)


def _home(images: tuple[str, ...]) -> str:
    """The deepest folder that holds all images and no split, and in which none lies without a folder."""
    if not images:
        return ""
    first, last = images[0].split("/"), images[-1].split("/")  # sorted: what these share all share
    shared = []
    for a, b in zip(first[:-1], last[:-1], strict=False):
        if a != b or split_names.is_split(a):
            break
        shared.append(a)
    while shared and any(name.count("/") <= len(shared) for name in images):
        shared.pop()
    return "/".join(shared)


def _join(home: str, name: str) -> str:
    return f"{home}/{name}" if home else name


def _place(folder: str, images: list[str] | tuple[str, ...]) -> Place:
    place, start = Place(folder), len(folder) + 1 if folder else 0
    for name in images:
        group, inside, _ = name[start:].partition("/")
        if inside:
            place.groups.setdefault(group, []).append(name)
        else:
            place.beside.append(name)
    return place


def _kind(below: Listing, places: dict[str, Place]) -> str:
    every = [place for place in places.values() if place.groups]
    holding = [(place, name) for place in every for name in place.groups]
    if not holding or any(place.beside for place in every):
        return "folder"
    folders = {name for place in places.values() for name in _inside(below, place.folder)}
    if len(folders) == len({name for _, name in holding}) and all(_is_clip(below, p, name) for p, name in holding):
        return "frames"
    names = {name for _, name in holding}
    vague = sum(bool(words(name) & _OF_NOTHING) for name in names)
    several = any(len(place.groups) > 1 for place in every)
    return "classes" if several and 2 * vague < len(names) else "folder"


def _inside(below: Listing, folder: str) -> set[str]:
    start = len(folder) + 1 if folder else 0
    return {
        name[start:].partition("/")[0]
        for name in below.folders
        if name and (not folder or name.startswith(f"{folder}/"))
    }


def _is_clip(below: Listing, place: Place, name: str) -> bool:
    """Whether the images of a folder look like the frames of a video."""
    files = place.groups[name]
    numbered = re.search(r"\d\d|[a-z][-_ ]?\d+$", name.lower()) is not None
    if not numbered and not words(name) & _OF_CLIPS:
        return False
    numbers = [re.findall(r"\d+", PurePosixPath(file).stem) for file in files]
    depth = files[0].count("/")
    if len(files) < 2 or not all(numbers) or any(file.count("/") != depth for file in files):
        return False
    steps = np.diff(np.sort(np.array([int(digits[-1][-15:]) for digits in numbers])))
    (step, times), *_ = Counter(steps.tolist()).most_common(1)
    if step == 0 or times < 0.8 * len(steps):
        return False
    try:
        first, last = (image_reader.probe(below.root / file)[:2] for file in (files[0], files[-1]))
    except LabelwiseError:
        return True
    return first == last


def words(name: str) -> set[str]:
    """The words in the name of a folder; a date is a `day`."""
    found = set(re.findall(r"[a-z]+", name.lower()))
    return found | ({"day"} if re.search(r"\d{4}", name) and not found else set())
