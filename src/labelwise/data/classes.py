"""Classification by folders: the folder that an image lies in is its class.

`root/train/cat/1.jpg` and `root/test/cat/2.jpg` (also val, valid, validation), or `root/cat/1.jpg` without splits.
Images may lie deeper: the first folder below the split counts. Classes: `classes.txt` at the root (one per line) where
there is one, else the folders of all splits together, sorted, so that all splits agree.

What is recognised unasked: splits with two class folders or more each, or class folders that `classes.txt` names.
`root/cat/1.jpg` alone looks the same as a bare folder of images by camera or by day, and is one unless
`format = "classes"` says otherwise.

| kind of problem | handling |
|---|---|
| class without images | the class is kept |
| image without class (beside the class folders) | left out |
| unknown class (a folder that `classes.txt` does not name) | left out, with its images |
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from labelwise.data import clean, image_reader
from labelwise.types import LabelwiseError, Pool, Problem

ONE_CLASS_PER_IMAGE = True
LOOKS_FOR = 'train/CLASS/ and test/CLASS/ with images in them (CLASS/ alone: say format = "classes")'

_SPLITS = ("train", "val", "valid", "validation", "test")


def detect(root: Path) -> bool:
    """Whether images lie in class folders, by split or as `classes.txt` says."""
    if not root.is_dir() or (root / "wnids.txt").exists():  # that is Tiny ImageNet
        return False
    places = [root / name for name in splits(root)]
    if not places:
        listed = set(_list_names(root))
        return bool(listed) and any(p.name in listed and _holds_image(p) for p in _folders(root))
    return all(
        sum(_holds_image(folder) for folder in _folders(place)) >= 2
        and not any(image_reader.is_image(path) for path in place.iterdir())
        for place in places
    )


def splits(root: Path) -> tuple[str, ...]:
    """Subfolders with the name of a split. Among folders of other names, one without folders in it is a class."""
    folders = [folder for folder in _folders(root) if folder.name in _SPLITS]
    if len(folders) < len(_folders(root)):
        folders = [folder for folder in folders if _folders(folder)]  # not `train` beside `car` and `plane`
    return tuple(sorted((folder.name for folder in folders), key=_SPLITS.index))


def read(root: Path, split: str | None = None) -> Pool:
    """Every image below the class folders of a split, with its class."""
    split = clean.choose(root, splits(root), split)
    place = root if split is None else root / split
    classes = _classes(root)
    if not classes:
        raise LabelwiseError(
            f"{place}: no class folder here; expected {LOOKS_FOR}. Sort the images into one folder per class."
        )
    number = {name: i for i, name in enumerate(classes)}
    problems = [
        Problem("image without class", clean.relative(path, root), f"lies beside the folders of {place}", "left out")
        for path in sorted(place.iterdir())
        if image_reader.is_image(path)
    ]
    names: list[str] = []
    labels: list[int] = []
    for folder in _folders(place):
        found = clean.images_under(folder)
        if folder.name not in number:
            where, what = clean.relative(folder, root), f"{folder.name!r} is not in classes.txt"
            problems.append(Problem("unknown class", where, what, f"left out, with its {len(found)} images"))
            continue
        names += [clean.relative(path, root) for path in found]
        labels += [number[folder.name]] * len(found)
    for i in np.flatnonzero(np.bincount(np.array(labels, np.int64), minlength=len(classes)) == 0).tolist():
        where = clean.relative(place / classes[i], root)
        problems.append(Problem("class without images", where, "no image of this class", "the class is kept"))
    if not names:
        raise LabelwiseError(f"{place}: no image in any of its class folders; expected {LOOKS_FOR}.")
    n = len(names)
    whole = np.tile(np.array([0.0, 0.0, 1.0, 1.0]), (n, 1))
    rows = clean.Rows(np.arange(n), whole, np.array(labels, np.int64), np.zeros(n, bool), names.__getitem__)
    return clean.pool(root, classes, names, rows, problems, normalised=True)


def _classes(root: Path) -> list[str]:
    places = [root / name for name in splits(root)] or [root]
    return _list_names(root) or sorted({folder.name for place in places for folder in _folders(place)})


def _list_names(root: Path) -> list[str]:
    path = root / "classes.txt"
    lines = path.read_text(encoding="utf-8").splitlines() if path.is_file() else []
    return [line.strip() for line in lines if line.strip()]


def _folders(place: Path) -> list[Path]:
    if not place.is_dir():
        return []
    return sorted(p for p in place.iterdir() if p.is_dir() and not p.name.startswith("."))


def _holds_image(folder: Path) -> bool:
    """Whether there is an image in the folder or below; stops at the first."""
    inside = list(folder.iterdir())
    if any(image_reader.is_image(path) for path in inside):
        return True
    return any(_holds_image(path) for path in inside if path.is_dir() and not path.name.startswith("."))
