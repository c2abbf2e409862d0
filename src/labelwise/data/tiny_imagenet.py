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

from labelwise.data import clean, listing, text_files
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
    wnids = list(dict.fromkeys(text_files.text(home / "wnids.txt").split()))
    number = {wnid: i for i, wnid in enumerate(wnids)}
    problems: list[Problem] = []
    names, labels = [], []
    for name, wnid in _train(root, home, number) if split == "train" else _val(root, home, problems):
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
    sources = frozenset(name for name in listing.below(root).of(".txt") if name.startswith(_prefix(root, home)))
    return clean.pool(root, _classes(home, wnids), names, rows, problems, normalised=True, sources=sources)


def _prefix(root: Path, home: Path) -> str:
    """How names of files in the data set's own folder begin."""
    return "" if home == root else home.relative_to(root).as_posix() + "/"


def _homes(root: Path) -> list[Path]:
    """The folders that hold a data set: `root`, or folders in it."""
    if not root.is_dir():
        return []
    found = [f for f in (root, *sorted(root.glob("*/"))) if (f / "wnids.txt").is_file() and (f / "train").is_dir()]
    return found[:1] if found[:1] == [root] else found


def _train(root: Path, home: Path, number: dict[str, int]) -> list[tuple[str, str]]:
    start = (home.relative_to(root) / "train").as_posix() + "/"
    found = [name for name in listing.below(root).images if name.startswith(start)]
    listed = [(name, wnid) for name in found if (wnid := name[len(start) :].partition("/")[0]) in number]
    return sorted(listed, key=lambda pair: number[pair[1]])


def _val(root: Path, home: Path, problems: list[Problem]) -> list[tuple[str, str]]:
    annotations = home / "val" / "val_annotations.txt"
    if not annotations.is_file():
        raise LabelwiseError(
            f"{annotations}: no such file; expected lines of image name and WordNet id, tab-separated."
        )
    found: dict[str, str] = {}
    for i, line in enumerate(text_files.lines(annotations), start=1):
        parts = line.split("\t")
        if not line:
            continue
        where = f"{clean.relative(annotations, root)}:{i}"
        name = clean.relative(home / "val" / "images" / parts[0].replace("\0", ""), root)
        if len(parts) < 2 or not parts[0]:
            what = f"{line[:80]!r}; expected image name and WordNet id, tab-separated"
            problems.append(Problem("broken row", where, what, "left out"))
        elif name in found:
            problems.append(Problem("image listed twice", where, name, "the first line counts"))
        else:
            found[name] = parts[1].strip()
    if not found:
        why = "".join(f" {problem.where}: {problem.what}." for problem in problems[:1])
        raise LabelwiseError(f"{annotations}: names no image.{why}")
    return list(found.items())


def _classes(home: Path, wnids: list[str]) -> tuple[str, ...]:
    """The first word of every id, such as "goldfish" of "goldfish, Carassius auratus"."""
    path = home / "words.txt"
    lines = text_files.lines(path) if path.is_file() else []
    words = {key: text.split(",")[0].strip() for key, _, text in (line.partition("\t") for line in lines)}
    short = [words.get(wnid, wnid) for wnid in wnids]
    shared = Counter(short)
    return tuple(name if shared[name] == 1 else f"{name} ({wnid})" for name, wnid in zip(short, wnids, strict=True))
