"""One JSON per image: labelme, AnyLabeling, Supervisely, VoTT assets, SuperAnnotate, V7 Darwin, BDD100K, Cityscapes.

The files of one tool are read, that of most files. The image of a file is the one beside it that has its name, else the
one that it names. Pixels count from 0 and corners are continuous, as the tools write them.

| kind of problem | handling |
|---|---|
| broken annotation (a file that is no JSON, or of another shape) | the file is left out |
| broken entry, box without numbers, object without class | the object is left out |
| polygon, rotated box, ellipse, mask | the hull box is used; told once, with the count |
| no box (point, line) | left out; told once, with the count |
| picture of a mask (in a folder such as `masks_human`, named by no file) | left out; told once |
| missing image | left out, with its boxes |
| image listed twice | boxes of both are kept |
| unknown class (Supervisely's `meta.json` lacks it) | added behind the listed ones |
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from labelwise.data import _image_tools as image_tools
from labelwise.data import _json_fields as json_fields
from labelwise.data import _json_kind as json_kind
from labelwise.data import _said as said_by
from labelwise.data import entries, listing
from labelwise.types import LabelwiseError, Pool

LOOKS_FOR = "a JSON per image, as labelme, Supervisely, VoTT, SuperAnnotate, V7, BDD100K or Cityscapes write it"

_SHARED = {"supervisely": "meta.json", "superannotate": "classes.json"}


def detect(root: Path) -> bool:
    """Whether there are JSON files of such a tool, and no export of VoTT, which says the same."""
    if not root.is_dir():
        return False
    tool, _ = _files(root)
    return bool(tool) and not (tool == "vott_asset" and json_kind.found(*_jsons(root), ("vott",))[0])


def splits(root: Path) -> tuple[str, ...]:
    """Names of the splits: folders that are called so."""
    return entries.splits(_parsed(root))


def read(root: Path, split: str | None = None) -> Pool:
    """Images and boxes of a split."""
    found = _parsed(root)
    if not found.sources:
        raise LabelwiseError(f"{root}: no JSON files of images here; expected {LOOKS_FOR}.")
    return entries.pool(listing.below(root).root, found, split)


def _jsons(root: Path) -> tuple[listing.Listing, tuple[str, ...]]:
    below = listing.below(root)
    return below, below.of(".json")


def _files(root: Path) -> tuple[str, list[str]]:
    return listing.kept(
        ("JSON per image", root),
        lambda: json_kind.found(*_jsons(root), json_kind.PER_IMAGE) if root.is_dir() else ("", []),
    )


def _parsed(root: Path) -> entries.Parsed:
    return listing.kept(("json_per_image", root), lambda: _parse(root))


def _parse(root: Path) -> entries.Parsed:
    tool, files = _files(root)
    below, notes, sources = listing.below(root), said_by.Notes(), set(files)
    if tool in _SHARED:
        _read_classes(below, _SHARED[tool], notes, sources)

    def said() -> Iterator[tuple[str, said_by.Said]]:
        for file, content in said_by.contents(below, files, dict, notes):
            for one in image_tools.PARSERS[tool](content, file, notes):
                yield file, one

    return said_by.parsed(below, said(), notes, sources, by_file=False, alone=False)


def _read_classes(below: listing.Listing, name: str, notes: said_by.Notes, sources: set[str]) -> None:
    """The classes that a project lists, in their order."""
    files = [file for file in below.of(".json") if file.rpartition("/")[2] == name]
    sources.update(files)
    for _, content in said_by.contents(below, files, object, notes):
        raw = content.get("classes") if isinstance(content, dict) else content
        classes = [one for one in (raw if isinstance(raw, list) else []) if isinstance(one, dict)]
        notes.lists(json_fields.text_of(one.get("title", one.get("name"))) for one in classes)
