"""JSON lines, one image a line: Hugging Face `metadata.jsonl`, Vertex AI, Azure ML, SageMaker manifests, Labelbox,
CrowdHuman (`.odgt`).

The files of one tool are read, that of most files. Boxes of Hugging Face are x, y, width, height in pixels. A line
without a list of objects is an image without labels, one with an empty list was looked at.

Fails when: lines have a class of the whole image and no boxes: write them as a table of image and class instead.

| kind of problem | handling |
|---|---|
| broken entry (a line that is no JSON object, an object that is none) | left out |
| box without numbers, object without class | the object is left out |
| class of a number (no file names it) | the number is the name of the class |
| polygon | the hull box is used; told once, with the count |
| several annotations (Labelbox) | the last is used |
| missing image | left out, with its boxes |
| image listed twice | boxes of both are kept |
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from labelwise.data import _line_tools as line_tools
from labelwise.data import _said as said_by
from labelwise.data import classes, entries, listing, text_files
from labelwise.types import LabelwiseError, Pool

LOOKS_FOR = "metadata.jsonl of Hugging Face, or JSON lines of Vertex AI, Azure ML, SageMaker (.manifest), Labelbox"

_SUFFIXES = (".jsonl", ".ndjson", ".manifest", ".odgt")
_OF_CLASSES = "classes"
_KEYS = {
    "vertex": r'"imageGcsUri"(?s:.)*"boundingBoxAnnotations"|"boundingBoxAnnotations"(?s:.)*"imageGcsUri"',
    "azure": r'"image_url"(?s:.)*"label"\s*:\s*\[',
    "sagemaker": r'"source-ref"(?s:.)*"annotations"',
    "crowdhuman": r'"gtboxes"\s*:\s*\[',
    "labelbox_lines": r'"data_row"(?s:.)*"projects"',
    "huggingface": r'"file_name"(?s:.)*"(objects|bbox|bboxes|boxes)"|"(objects|bbox|bboxes)"(?s:.)*"file_name"',
    _OF_CLASSES: r'"file_name"[^\n]*"label"\s*:|"label"\s*:[^\n]*"file_name"|"imageGcsUri"[^\n]*"classificationAnno',
}


def detect(root: Path) -> bool:
    """Whether there are such lines; lines of classes count where no folder is a class."""
    tool, _ = _files(root)
    return bool(tool) and (tool != _OF_CLASSES or not classes.detect(root))


def splits(root: Path) -> tuple[str, ...]:
    """Names of the splits: of folders or files, or as Vertex AI writes them."""
    return entries.splits(_parsed(root))


def read(root: Path, split: str | None = None) -> Pool:
    """Images and boxes of a split."""
    found = _parsed(root)
    if not found.sources:
        raise LabelwiseError(f"{root}: no such lines here; expected {LOOKS_FOR}.")
    return entries.pool(listing.below(root).root, found, split)


def _files(root: Path) -> tuple[str, list[str]]:
    return listing.kept(("JSON lines", root), lambda: _find(root))


def _find(root: Path) -> tuple[str, list[str]]:
    below = listing.below(root)
    names = below.of(*_SUFFIXES) if root.is_dir() else (root.name,) if root.suffix.lower() in _SUFFIXES else ()
    tools: dict[str, list[str]] = {}
    for name in names:
        said = text_files.head(below.root / name, 65_536).decode("latin-1")
        tool = next((tool for tool, keys in _KEYS.items() if re.search(keys, said)), "")
        tools.setdefault(tool, []).append(name)
    tools.pop("", None)
    if len(tools) > 1:
        tools.pop(_OF_CLASSES, None)
    best = max(tools, key=lambda tool: len(tools[tool]), default="")
    return best, tools.get(best, [])


def _parsed(root: Path) -> entries.Parsed:
    return listing.kept(("json_lines", root), lambda: _parse(root))


def _parse(root: Path) -> entries.Parsed:
    tool, files = _files(root)
    if tool == _OF_CLASSES:
        raise LabelwiseError(
            f"{root / files[0] if root.is_dir() else root}: classes of whole images in JSON lines are not read. Write "
            "them as a table (CSV) of image and class, or sort the images into a folder per class."
        )
    below, notes = listing.below(root), said_by.Notes()

    def said() -> Iterator[tuple[str, said_by.Said]]:
        for file in files:
            for one in line_tools.PARSERS[tool](_lines(below.root / file, file, notes), notes):
                yield file, one

    found = said_by.parsed(below, said(), notes, set(files), by_file=True, alone=not root.is_dir())
    return replace(found, shares=tool in line_tools.SHARES)


def _lines(path: Path, file: str, notes: said_by.Notes) -> Iterator[tuple[str, dict[str, Any]]]:
    """(place, object) of every line."""
    try:
        lines = text_files.lines(path)
    except LabelwiseError as error:
        notes.tell("broken annotation", file, str(error), "the file is left out")
        return
    for k, line in enumerate(lines, start=1):
        if not line:
            continue
        try:
            row = text_files.json_from(line, file, k)
        except LabelwiseError as error:
            notes.tell("broken entry", f"{file}:{k}", str(error))
            continue
        if isinstance(row, dict):
            yield f"{file}:{k}", row
        else:
            notes.tell("broken entry", f"{file}:{k}", f"{line[:60]!r}; expected an object")
