"""The file that describes a YOLO data set: data.yaml, darknet's obj.data, or lists of images called after splits."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple

from labelwise.data import split_names, text_files
from labelwise.data._yolo_classes import Classes, of_file, of_value
from labelwise.data.listing import Listing, suffix_of
from labelwise.data.resolve import Resolver
from labelwise.types import LabelwiseError, Problem

STAND_INS = "labelwise_stand_ins"
"""The key of data.yaml that lists splits which are there for trainers alone: they are another one again."""

_USUAL = ("data.yaml", "data.yml", "dataset.yaml", "dataset.yml")
_NO_PLACES = ("path", "names", "nc", "download", STAND_INS)
_MOST_TRIED = 50
_DARKNET = re.compile(rb"^\s*(train|valid|names)\s*=", re.MULTILINE)
_YAML = re.compile(rb"\b(names|nc)\b")


class Config(NamedTuple):
    """What the file says.

    Fields:
        file: relative to the root; empty where lists of images alone tell the splits.
        places: what stands for each split: folders, lists, images.
        path: the folder that places count from, as written.
        names: what the class names are, as written; None: not said.
        n_classes: `nc`. n_keypoints: how many numbers key points have by `kpt_shape`, 0 where it is not said.
    """

    file: str
    places: dict[str, list[str]]
    path: str = ""
    names: Any = None
    n_classes: int | None = None
    n_keypoints: int = 0

    @property
    def folder(self) -> str:
        return self.file.rpartition("/")[0]


def at_root(listing: Listing, root: Path) -> Config | None:
    """The file at the root, or the root where that is the file.

    Raises:
        LabelwiseError: data.yaml is broken.
    """
    names = [root.name] if root.is_file() else [name for name in listing.files if "/" not in name]
    return next(_configs(listing, names), None)


def deeper(listing: Listing) -> Iterator[Config]:
    """The files in subfolders, the least deep first."""
    names = [name for name in listing.of(".yaml", ".yml", ".data") if "/" in name]
    return _configs(listing, sorted(names, key=lambda name: (name.count("/"), name))[:_MOST_TRIED])


def further(listing: Listing, chosen: Config) -> list[str]:
    """Files beside the chosen one that describe a data set as well."""
    beside = [name for name in listing.of(".yaml", ".yml", ".data") if name.rpartition("/")[0] == chosen.folder]
    return [one.file for one in _configs(listing, beside[:_MOST_TRIED]) if one.file != chosen.file and one.places]


def lists(listing: Listing) -> Config | None:
    """Lists of images whose names are those of splits: train.txt."""
    found: dict[str, str] = {}
    for name in sorted(listing.of(".txt"), key=lambda name: (name.count("/"), name)):
        stem = PurePosixPath(name).stem
        if name.count("/") <= 2 and split_names.is_split(stem) and stem not in found:
            head = text_files.head(listing.root / name)
            first = head.decode("utf-8", "replace").strip("\ufeff \r\n").splitlines()[:1]
            if first and suffix_of(first[0].strip().replace("\\", "/")) in _image_suffixes(listing):
                found[stem] = name
    return Config("", {split: [name] for split, name in found.items()}) if found else None


def classes(listing: Listing, config: Config) -> Classes | None:
    """The classes by the file; None: it does not name them."""
    said = config.names
    if isinstance(said, str) and suffix_of(said.replace("\\", "/")) in (".names", ".txt", ".data"):
        found = Resolver(listing).find(said, (config.folder, ""), config.file)
        return of_file(listing, found) if found is not None else None
    if said is None or said == [] or said == {}:
        return None
    named = of_value(said, config.file)
    n = config.n_classes
    if n is not None and n != len(named.number):
        what = f"nc is {n}, but {len(named.number)} classes are named"
        told = Problem("class count differs", config.file, what, "the names count")
        return named._replace(problems=(told, *named.problems))
    return named


def _image_suffixes(listing: Listing) -> set[str]:
    return {suffix_of(name) for name in listing.images}


def _configs(listing: Listing, names: list[str]) -> Iterator[Config]:
    for name in sorted(names, key=lambda name: (name.count("/"), _rank(name), name)):
        suffix = suffix_of(name)
        if suffix in (".yaml", ".yml"):
            found = _of_yaml(listing, name)
        else:
            found = _of_darknet(listing, name) if suffix == ".data" else None
        if found is not None:
            yield found


def _rank(name: str) -> int:
    file = name.rpartition("/")[2].lower()
    return _USUAL.index(file) if file in _USUAL else len(_USUAL)


def _of_yaml(listing: Listing, name: str) -> Config | None:
    path = listing.root / name
    try:
        raw = text_files.content(path)
        if not _YAML.search(raw.replace(b"\0", b"")):  # UTF-16
            return None
        content = text_files.yaml_of(path)
    except LabelwiseError:
        if name in _USUAL:
            raise
        return None  # any other file may be none of our business
    if not isinstance(content, dict) or not ({"names", "nc"} & set(map(str, content))):
        return None
    places: dict[str, list[str]] = {}
    skipped = content.get(STAND_INS)
    for key, value in content.items():
        if (
            not isinstance(key, str)
            or key.lower() in _NO_PLACES
            or key in (skipped if isinstance(skipped, list) else ())
        ):
            continue
        said = [one for one in (value if isinstance(value, list) else [value]) if isinstance(one, str) and one.strip()]
        if said and (split_names.is_split(key) or _is_folder(listing, name, content.get("path"), said[0])):
            places[key] = said
    if not places and _rank(name) == len(_USUAL):
        return None
    n = content.get("nc")
    n = n if isinstance(n, int) and not isinstance(n, bool) else None
    path_said = content.get("path")
    given = path_said if isinstance(path_said, str) else ""
    return Config(name, places, given, content.get("names"), n, _keypoints(content.get("kpt_shape")))


def _is_folder(listing: Listing, file: str, base: Any, value: str) -> bool:
    folder = PurePosixPath(file).parent / (base if isinstance(base, str) else "")
    return any(
        (PurePosixPath(one) / value).as_posix() in listing.folders for one in (folder, PurePosixPath(file).parent)
    )


def _keypoints(shape: Any) -> int:
    if not isinstance(shape, list) or len(shape) != 2 or not all(isinstance(one, int) for one in shape):
        return 0
    return shape[0] * shape[1] if 0 < shape[0] < 10_000 and shape[1] in (2, 3) else 0


def _of_darknet(listing: Listing, name: str) -> Config | None:
    if not _DARKNET.search(text_files.head(listing.root / name)):
        return None
    pairs = [line.split("=", 1) for line in text_files.lines(listing.root / name) if "=" in line]
    said = {key.strip(): value.strip() for key, value in pairs}
    places = {key: [value] for key, value in said.items() if split_names.is_split(key) and value}
    n = int(said["classes"]) if said.get("classes", "").isdecimal() and len(said["classes"]) < 9 else None
    return Config(name, places, "", said.get("names") or None, n)
