"""One JSON of all images: VIA, VoTT, CreateML, Label Studio, Datumaro, BDD100K, FiftyOne, Labelbox, Edge Impulse,
TT100K.

COCO is another format. The files of one tool are read, that of most files; several of them are joined, and a file in
the folder of a split, or with its name (`train.json`), is of that split. What is listed without an object was looked
at; images that no file lists are without labels, as are tasks of Label Studio without a finished annotation.

| kind of problem | handling |
|---|---|
| broken annotation (a file that is no JSON, or of another shape) | the file is left out |
| broken entry, box without numbers, object without class, unknown class id, rotated image | the object is left out |
| polygon, rotated box, ellipse, mask | the hull box is used; told once, with the count |
| no box (point, line, class of the image), mask without box | left out; told once, with the count |
| several classes of an object | the first is used |
| several annotations of a task | the ground truth, else the latest that is not cancelled |
| several attributes (VIA) | the one that most regions have is the class; its name is told |
| object without class (VIA without attributes) | all are called `object` |
| second field of boxes (FiftyOne) | `ground_truth` is read, else the one without confidences |
| picture of a mask (in a folder such as `masks_human`, named by no file) | left out; told once |
| missing image | left out, with its boxes |
| image listed twice | boxes of both are kept |
| unknown class (the list of classes lacks it) | added behind the listed ones |
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from labelwise.data import _json_kind as json_kind
from labelwise.data import _label_studio_tasks as label_studio
from labelwise.data import _list_tools as list_tools
from labelwise.data import _said as said_by
from labelwise.data import _via as via
from labelwise.data import entries, listing
from labelwise.types import LabelwiseError, Pool

LOOKS_FOR = "a JSON of all images, as VIA, VoTT, CreateML, Label Studio, Datumaro, BDD100K, FiftyOne, Labelbox write it"

_PARSERS: dict[str, list_tools.Parser] = {
    "via": via.via,
    "via3": via.via3,
    "vott": list_tools.vott,
    "createml": list_tools.createml,
    "datumaro": list_tools.datumaro,
    "bdd": list_tools.bdd,
    "scalabel": list_tools.bdd,
    "cloud_annotations": list_tools.cloud_annotations,
    "edge_impulse": list_tools.edge_impulse,
    "tt100k": list_tools.tt100k,
    "fiftyone": list_tools.fiftyone,
    "fiftyone_labels": list_tools.fiftyone_labels,
    "labelbox": list_tools.labelbox,
    "scale": list_tools.scale,
    "label_studio": label_studio.label_studio,
    "label_studio_min": label_studio.label_studio_min,
}
_SHARES = ("fiftyone", "fiftyone_labels", "label_studio", "label_studio_min", "cloud_annotations")
_BESIDE = {"fiftyone": ("metadata.json", "fiftyone.yml"), "edge_impulse": ("info.labels",)}


def detect(root: Path) -> bool:
    """Whether there is a file of such a tool."""
    return bool(_files(root)[0])


def splits(root: Path) -> tuple[str, ...]:
    """Names of the splits."""
    return entries.splits(_parsed(root))


def read(root: Path, split: str | None = None) -> Pool:
    """Images and boxes of a split."""
    found = _parsed(root)
    if not found.sources:
        raise LabelwiseError(f"{root}: no JSON of all images here; expected {LOOKS_FOR}.")
    return entries.pool(listing.below(root).root, found, split)


def _files(root: Path) -> tuple[str, list[str]]:
    return listing.kept(("JSON of all images", root), lambda: _find(root))


def _find(root: Path) -> tuple[str, list[str]]:
    below = listing.below(root)
    names = below.of(".json", ".labels") if root.is_dir() else (root.name,) if root.suffix.lower() == ".json" else ()
    return json_kind.found(below, names, json_kind.LISTS)


def _parsed(root: Path) -> entries.Parsed:
    return listing.kept(("json_list", root), lambda: _parse(root))


def _parse(root: Path) -> entries.Parsed:
    tool, files = _files(root)
    below, notes, sources = listing.below(root), said_by.Notes(), set(files)
    expected = list if tool in json_kind.LISTS and json_kind.LISTS[tool][0] == "[" else dict

    def said() -> Iterator[tuple[str, said_by.Said]]:
        for file, content in said_by.contents(below, files, expected, notes):
            for one in _PARSERS[tool](content, file, notes):
                yield file, one

    found = said_by.parsed(below, said(), notes, sources, by_file=True, alone=not root.is_dir())
    folders = {file.rpartition("/")[0] for file in files}
    beside = {f"{folder}/{name}".lstrip("/") for folder in folders for name in _BESIDE.get(tool, ())}
    found.sources |= beside & set(below.files)
    return replace(found, shares=tool in _SHARES)
