"""Which label file belongs to which image.

1. where trainers look: `labels/` in the place of the last `images/`, or beside the image;
2. the only one whose path is the same but for folders such as `images`, `Labels`, `annotations`;
3. the only one of its name, where no other image and no other split is called so.
"""

from __future__ import annotations

import posixpath
import unicodedata
from collections import defaultdict
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

from labelwise.data import split_names
from labelwise.types import Problem

_OF_IMAGES = frozenset(
    ("images", "image", "imgs", "img", "pics", "pictures", "photos", "jpegimages", "obj_train_data", "data")
)
_OF_LABELS = frozenset(
    ("labels", "label", "annotations", "annotation", "annots", "txt", "txts", "yolo", "yolo_labels", "labels_yolo")
)


class Pairs(NamedTuple):
    """`label_of` an image; `unused`: label files of no image."""

    label_of: dict[str, str]
    unused: tuple[str, ...]
    problems: tuple[Problem, ...]


def pair(root: Path, images: Sequence[str], texts: Sequence[str]) -> Pairs:
    """Finds the label file of every image, and tells what several files claim."""
    there = frozenset(texts)
    label_of: dict[str, str] = {}
    several: list[str] = []
    for image in images:
        found = [
            name for name in _places(image) if name in there or (name.startswith("../") and (root / name).is_file())
        ]
        if found:
            label_of[image] = found[0]
        if len(found) > 1:
            several.append(image)
    doubts: list[str] = []
    for way in (_key, _stem):
        doubts += _alike(images, texts, label_of, way)
    problems = [*_shared(label_of)]
    doubts = [image for image in dict.fromkeys(doubts) if image not in label_of]
    for kind, found, what, handling in (
        ("several label files", several, "has a label file in labels/ and one beside it", "that in labels/ is read"),
        (
            "ambiguous label",
            doubts,
            "several label files or images have this name",
            "left out: nobody has looked at it",
        ),
    ):
        if found:
            problems.append(Problem(kind, found[0], what, handling, len(found)))
    used = set(label_of.values())
    return Pairs(label_of, tuple(name for name in texts if name not in used), tuple(problems))


def _alike(
    images: Sequence[str], texts: Sequence[str], label_of: dict[str, str], way: Callable[[str], str]
) -> list[str]:
    """Adds the label files that alone are like their images in one way; gives the images that several are like."""
    claimed = set(label_of.values())
    rest = [image for image in images if image not in label_of]
    free: dict[str, list[str]] = defaultdict(list)
    for name in texts:
        if name not in claimed:
            free[way(name)].append(name)
    if not free or not rest:
        return []
    alike: dict[str, set[str]] = defaultdict(set)
    for image in images:
        alike[way(image)].add(posixpath.splitext(image)[0])
    doubts = []
    for image in rest:
        fit = [name for name in free.get(way(image), ()) if _one_split(image, name)]
        if len(fit) == 1 and len(alike[way(image)]) == 1:
            label_of[image] = fit[0]
        elif fit:
            doubts.append(image)
    return doubts


def in_label_folder(name: str) -> bool:
    """Whether a file lies in a folder of labels."""
    return any(part.lower() in _OF_LABELS for part in name.split("/")[:-1])


def _shared(label_of: dict[str, str]) -> list[Problem]:
    """One text for several images: a.jpg and a.png."""
    images: dict[str, list[str]] = defaultdict(list)
    for image, name in label_of.items():
        images[name].append(image)
    shared = [(name, of) for name, of in images.items() if len(of) > 1]
    if not shared:
        return []
    name, of = shared[0]
    what = f"is that of {' and '.join(of[:3])}"
    return [Problem("label file of several images", name, what, "its boxes are read for each of them", len(shared))]


def _places(image: str) -> list[str]:
    """Where trainers look for the labels of an image."""
    stem = posixpath.splitext(image)[0] + ".txt"
    parts = stem.split("/")
    for at in range(len(parts) - 2, -1, -1):
        if parts[at].lower() == "images":
            labels = {"images": "labels", "Images": "Labels", "IMAGES": "LABELS"}.get(parts[at], "labels")
            return ["/".join((*parts[:at], labels, *parts[at + 1 :])), stem]
    return [stem]


def _key(name: str) -> str:
    """A path without the folders that only tell images from labels."""
    *folders, file = _letters(posixpath.splitext(name)[0]).split("/")
    kept = [
        {"valid": "val", "validation": "val"}.get(part, part) for part in folders if part not in _OF_IMAGES | _OF_LABELS
    ]
    return "/".join((*kept, file))


def _stem(name: str) -> str:
    return _letters(posixpath.splitext(name.rpartition("/")[2])[0])


def _letters(name: str) -> str:
    return unicodedata.normalize("NFC", name).casefold()


def _one_split(image: str, name: str) -> bool:
    """Whether no split is named for one of them, or the same for both."""
    first, second = ({"valid": "val", "validation": "val"}.get(s, s) for s in map(_split, (image, name)))
    return not first or not second or first == second


def _split(name: str) -> str:
    return split_names.of_path(name).lower()
