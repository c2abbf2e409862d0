"""Tiny ImageNet as it is distributed (unpacked): `train/WNID/images/*.JPEG`, `val/images` with `val_annotations.txt`.

200 classes of 500 training images and 50 validation images, 64x64. `wnids.txt` gives the classes and their order,
`words.txt` their names: the first word of a WordNet id counts, with the id where two classes share it. The split
`test` has no public labels and is left out. The boxes of `*_boxes.txt` are not read.

Differs from the paper (001, section 4.5.1): it counts 90,000 training and 10,000 test images; the distribution has
100,000 and 10,000 (val).
"""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np

from labelwise.data import clean
from labelwise.types import LabelwiseError, Pool, Problem

ONE_CLASS_PER_IMAGE = True
LOOKS_FOR = "wnids.txt beside train/ and val/val_annotations.txt (Tiny ImageNet, also one folder deeper)"


def detect(root: Path) -> bool:
    """Whether there is a Tiny ImageNet, here or one folder deeper."""
    return bool(_homes(root))


def splits(root: Path) -> tuple[str, ...]:
    """The splits that have labels."""
    homes = _homes(root)
    return tuple(name for name in ("train", "val") if homes and (homes[0] / name).is_dir())


def read(root: Path, split: str | None = None) -> Pool:
    """Images of a split with their class."""
    homes = _homes(root)
    if len(homes) != 1:
        raise LabelwiseError(f"{root}: {len(homes)} data sets here; expected one: {LOOKS_FOR}.")
    home = homes[0]
    if split == "test":
        raise LabelwiseError(f"{home}: the test split of Tiny ImageNet has no labels. Test on val.")
    split = clean.choose(root, splits(root), split)
    if split is None:
        raise LabelwiseError(f"{home}: neither train/ nor val/ here; expected {LOOKS_FOR}. Unpack the data set again.")
    wnids = (home / "wnids.txt").read_text(encoding="utf-8").split()
    number = {wnid: i for i, wnid in enumerate(wnids)}
    problems: list[Problem] = []
    names, labels = [], []
    for path, wnid in _train(home, number) if split == "train" else _val(home):
        name = clean.relative(path, root)
        if wnid not in number:
            problems.append(Problem("unknown class id", name, f"{wnid!r} is not in wnids.txt", "left out"))
            continue
        names.append(name)
        labels.append(number[wnid])
    found = np.bincount(np.array(labels, np.int64), minlength=len(wnids))
    for i in np.flatnonzero(found == 0).tolist():
        what = f"no image of {wnids[i]}"
        problems.append(Problem("class without images", f"{split}/{wnids[i]}", what, "the class is kept"))
    n = len(names)
    whole = np.tile(np.array([0.0, 0.0, 1.0, 1.0]), (n, 1))
    rows = clean.Rows(np.arange(n), whole, np.array(labels, np.int64), np.zeros(n, bool), names.__getitem__)
    return clean.pool(root, _classes(home, wnids), names, rows, problems, normalised=True)


def _homes(root: Path) -> list[Path]:
    """The folders that hold a data set: `root`, or folders in it."""
    if not root.is_dir():
        return []
    found = [f for f in (root, *sorted(root.glob("*/"))) if (f / "wnids.txt").is_file() and (f / "train").is_dir()]
    return found[:1] if found[:1] == [root] else found


def _train(home: Path, number: dict[str, int]) -> list[tuple[Path, str]]:
    return [(path, wnid) for wnid in number for path in clean.images_under(home / "train" / wnid)]


def _val(home: Path) -> list[tuple[Path, str]]:
    listing = home / "val" / "val_annotations.txt"
    if not listing.is_file():
        raise LabelwiseError(f"{listing}: no such file; expected lines of image name and WordNet id, tab-separated.")
    found = []
    for i, line in enumerate(listing.read_text(encoding="utf-8").splitlines(), start=1):
        parts = line.split("\t")
        if not line.strip():
            continue
        if len(parts) < 2:
            raise LabelwiseError(f"{listing}:{i}: {line!r}; expected image name and WordNet id, tab-separated.")
        found.append((home / "val" / "images" / parts[0], parts[1].strip()))
    return found


def _classes(home: Path, wnids: list[str]) -> tuple[str, ...]:
    """The first word of every id, such as "goldfish" of "goldfish, Carassius auratus"."""
    path = home / "words.txt"
    lines = path.read_text(encoding="utf-8").splitlines() if path.is_file() else []
    words = {key: text.split(",")[0].strip() for key, _, text in (line.partition("\t") for line in lines)}
    short = [words.get(wnid, wnid) for wnid in wnids]
    shared = Counter(short)
    return tuple(name if shared[name] == 1 else f"{name} ({wnid})" for name, wnid in zip(short, wnids, strict=True))
