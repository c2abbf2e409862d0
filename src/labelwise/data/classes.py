"""Classification by folders: the folder that an image lies in is its class.

`root/train/cat/1.jpg` and `root/test/cat/2.jpg` (splits by the usual names, in any case), or `root/cat/1.jpg` without
splits, also some folders deeper. Images may lie deeper: the first folder below the split counts. Classes: `classes.txt`
at the root (one per line) where there is one that names one of them, else the folders of all splits together, sorted,
so that all splits agree.

What is recognised unasked: class folders that `classes.txt` names, else what `image_folders.py` says. A bare folder of
images by camera or by day looks the same; say `format = "folder"`.

| kind of problem | handling |
|---|---|
| class without images | the class is kept |
| image without class (beside the class folders) | left out |
| unknown class (a folder that `classes.txt` does not name) | left out, with its images |
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from labelwise.data import clean, text_files
from labelwise.data.image_folders import Place, lacking, layout, subfolders
from labelwise.types import LabelwiseError, Pool, Problem

ONE_CLASS_PER_IMAGE = True
LOOKS_FOR = "CLASS/ with images in it, one for every class, also in train/ and test/"

_LIST = "classes.txt"


def detect(root: Path) -> bool:
    """Whether images lie in class folders."""
    if not root.is_dir() or (root / "wnids.txt").exists():  # that is Tiny ImageNet
        return False
    found = layout(root)
    if found.kind == "classes":
        return True
    try:
        return found.kind == "folder" and bool(set(_listed(root)) & set(found.groups))
    except LabelwiseError:
        return False


def splits(root: Path) -> tuple[str, ...]:
    """Folders with the name of a split that hold class folders."""
    return tuple(name for name, place in layout(root).places.items() if name and place.groups)


def read(root: Path, split: str | None = None) -> Pool:
    """Every image below the class folders of a split, with its class."""
    split = clean.choose(root, splits(root), split)
    places = layout(root).places
    place = places.get(split or "") or Place("")
    listed = _listed(root)
    classes = listed or sorted({name for one in places.values() for name in _folders(root, one, one is place)})
    where = root / place.folder
    if not classes:
        raise LabelwiseError(
            f"{where}: no class folder here; expected {LOOKS_FOR}. Sort the images into one folder per class."
        )
    problems = _without_class(root, place, [one for one in places.values() if not one.groups])
    number = {name: i for i, name in enumerate(classes)}
    names: list[str] = []
    labels: list[int] = []
    for name, images in sorted(place.groups.items()):
        if name not in number:
            what = f"{name!r} is not in {_LIST}"
            handling = f"left out, with its {len(images)} images"
            problems.append(Problem("unknown class", clean.relative(where / name, root), what, handling))
            continue
        names += images
        labels += [number[name]] * len(images)
    for i in np.flatnonzero(np.bincount(np.array(labels, np.int64), minlength=len(classes)) == 0).tolist():
        place_of = clean.relative(where / classes[i], root)
        problems.append(Problem("class without images", place_of, "no image of this class", "the class is kept"))
    if not names:
        raise LabelwiseError(f"{where}: no image in any of its class folders; expected {LOOKS_FOR}.")
    n = len(names)
    whole = np.tile(np.array([0.0, 0.0, 1.0, 1.0]), (n, 1))
    rows = clean.Rows(np.arange(n), whole, np.array(labels, np.int64), np.zeros(n, bool), names.__getitem__)
    sources = frozenset({_LIST} if listed else ())
    return clean.pool(root, classes, names, rows, problems, normalised=True, sources=sources)


def _without_class(root: Path, place: Place, flat: list[Place]) -> list[Problem]:
    """The images that lie beside the class folders, and whole splits that have none."""
    found = lacking(root)
    found += [
        Problem("image without class", name, f"lies beside the folders of {root / place.folder}", "left out")
        for name in place.beside
    ]
    for other in flat:
        if other is not place and other.beside:
            n, what = len(other.beside), f"{other.folder or 'the folder itself'} has no class folders"
            found.append(Problem("image without class", other.beside[0], what, f"its {n} images are left out", n))
    return found


def _folders(root: Path, place: Place, empty_too: bool) -> list[str]:
    """The classes of a split; of the one that is read also those of empty folders."""
    return [*place.groups, *(subfolders(root / place.folder) if empty_too or place.groups else ())]


def _listed(root: Path) -> list[str]:
    """The names in `classes.txt`, where it names one of the folders."""
    if not (root / _LIST).is_file():
        return []
    names = list(dict.fromkeys(name for name in text_files.lines(root / _LIST) if name))
    return names if set(names) & set(layout(root).groups) else []
