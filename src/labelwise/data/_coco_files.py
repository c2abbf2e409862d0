"""Which JSON files below a folder are COCO, and of which split each is by its name."""

from __future__ import annotations

import mmap
import re
from collections import defaultdict
from pathlib import Path, PurePosixPath
from typing import NamedTuple

from labelwise.data import listing, split_names, text_files
from labelwise.types import Problem

_ROBOFLOW = "_annotations.coco"
_PREFIX = re.compile(
    r"(instances|person_keypoints|keypoints|captions|panoptic|stuff|densepose|image_info|lvis(?:_v[\d.]+)?)_(?=.)"
)
_SIDE = ("keypoints", "stuff", "densepose", "image_info", "panoptic", "captions")
"""What else COCO says of images, in files beside those of the objects; the first is the likeliest to have boxes."""
_GENERAL = re.compile(r"all|annotations?|coco|data|dataset|export|images|instances|labels?|output|results?|")
_SAMPLE = 3


class Found(NamedTuple):
    """A file, relative to the root. `split` is empty where its name says none: then the paths of its images do."""

    path: str
    split: str

    @property
    def home(self) -> str:
        """The folder that holds it, or the one above where that is called `annotations`."""
        parent = self.path.rpartition("/")[0]
        above, _, own = parent.rpartition("/")
        return above if own.lower() in ("annotations", "annotation", "labels") else parent


class Files(NamedTuple):
    """`read` by split, and what is told of the `others`."""

    read: dict[str, list[Found]]
    others: list[tuple[str, Problem]]
    """Of which split a file is that is not read, and what is told of it."""
    sources: frozenset[str]


def any_below(root: Path) -> bool:
    """Whether there is a COCO file."""
    if root.is_file():
        return root.suffix.lower() == ".json" and _is_coco(root)
    return root.is_dir() and bool(_below(root))


def of(root: Path) -> Files:
    """The COCO files, by split."""
    return listing.kept(("coco files", root), lambda: _of(root))


def _of(root: Path) -> Files:
    names = [root.name] if root.is_file() and any_below(root) else _below(root) if root.is_dir() else []
    groups: dict[str, list[Found]] = defaultdict(list)
    for name in names:
        split = _split(name, alone=len(names) == 1)
        groups[split].append(Found(name, split))
    others: list[tuple[str, Problem]] = []
    read = {}
    for split in [*split_names.in_order(set(groups) - {""}), *([""] if "" in groups else [])]:
        read[split] = _chosen(split, groups[split], others)
    return Files(read, others, frozenset(names))


def _chosen(split: str, files: list[Found], others: list[tuple[str, Problem]]) -> list[Found]:
    """Those of a split that say where objects are."""
    rank = [next((k for k, word in enumerate(_SIDE, 1) if word in _stem(file.path).lower()), 0) for file in files]
    kept = [file for file, k in zip(files, rank, strict=True) if k == min(rank)]
    for file in files:
        if file not in kept:
            what = f"{kept[0].path} says where the objects are"
            others.append((split, Problem("second annotation file", file.path, what, "not read")))
    if len(kept) > 1:
        what = f"{len(kept)} files: {', '.join(file.path for file in kept[:4])}" + (", ..." if len(kept) > 4 else "")
        others.append((split, Problem("several annotation files", split or "(no split)", what, "read as one")))
    return kept


def _stem(name: str) -> str:
    return PurePosixPath(name).stem


def _split(name: str, alone: bool) -> str:
    """The split of a file.

    >>> names = "annotations/instances_train2017.json", "valid/_annotations.coco.json", "my_train_2.json", "labels.json"
    >>> [_split(name, False) for name in (*names, "night_1.json", "train/labels.json")]
    ['train2017', 'valid', 'train', '', 'night', 'train']
    """
    stem = _stem(name)
    known = _PREFIX.match(stem)
    if known is not None:
        return stem[known.end() :]
    parent = name.rpartition("/")[0].rpartition("/")[2]
    if stem == _ROBOFLOW and parent:
        return parent
    words = [stem, *re.split(r"[^A-Za-z0-9]+", stem)]
    said = next((word for word in words if split_names.is_split(word)), "") or split_names.of_path(name)
    if said or alone:
        return said
    plain = re.sub(r"[-_. ]*\d+$", "", stem)
    words = re.split(r"[^a-z0-9]+", plain.lower())
    return "" if not plain or all(map(_GENERAL.fullmatch, words)) else plain


def _below(root: Path) -> list[str]:
    """COCO files of a folder. Where a folder holds a JSON file per image, a few of them tell for all."""
    return listing.kept(("coco below", root), lambda: _search(root))


def _search(root: Path) -> list[str]:
    folders: dict[str, list[str]] = defaultdict(list)
    for name in listing.below(root).of(".json"):
        folders[name.rpartition("/")[0]].append(name)
    found = []
    for names in folders.values():
        sample = names if len(names) <= 10 * _SAMPLE else _sample(root, names)
        yes = {name: _is_coco(root / name) for name in sample}
        if len(sample) < len(names) and any(yes.values()):
            yes |= {name: _is_coco(root / name) for name in names if name not in yes}
        found += [name for name in names if yes.get(name)]
    return found


def _sample(root: Path, names: list[str]) -> list[str]:
    """A few of many files: the first, the largest, and those that are named like a file of COCO."""
    named = [name for name in names if _PREFIX.match(_stem(name)) or "coco" in _stem(name).lower()]
    return list(dict.fromkeys([*names[:_SAMPLE], max(names, key=lambda name: _size(root / name)), *named]))


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return 0


def _is_coco(path: Path) -> bool:
    """Whether it is an object with `images` and `annotations` or `categories`, or the list of the latter two; or is
    named as COCO's own files are, so that a broken one is told.
    """
    if path.name.startswith("instances_") or path.stem == _ROBOFLOW:
        return True
    head = text_files.head(path, 64)
    wide = {b"\xff\xfe": "utf-16-le", b"\xfe\xff": "utf-16-be"}.get(head[:2], "ascii")
    if head.replace(b"\0", b"").lstrip(b"\xef\xbb\xbf\xff\xfe \t\r\n")[:1] not in (b"{", b""):
        return False
    try:
        with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
            at = {key: content.find(f'"{key}"'.encode(wide)) for key in ("images", "annotations", "categories")}
            if at["images"] >= 0:
                return max(at["annotations"], at["categories"]) >= 0
            if min(at["annotations"], at["categories"]) < 0:
                return False
            listed = content[at["categories"] : at["categories"] + 400].replace(b"\0", b"")
            return re.match(rb'"categories"\s*:\s*\[', listed) is not None
    except (OSError, ValueError):  # ValueError: it is empty
        return False
