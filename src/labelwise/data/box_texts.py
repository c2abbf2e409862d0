"""A text file of boxes per image, of other rows than YOLO's:

* KITTI (`label_2/000001.txt`, `image_2/000001.png`): 15 columns, the class first; `DontCare` becomes `Pool.crowd`.
* DOTA (`labelTxt/P0001.txt`): four corners, class and difficulty; the hull box is used, difficult ones become
  `Pool.crowd`.
* ICDAR (`gt_img_1.txt`): four corners and a text, by commas; the class is "text", `###` becomes `Pool.crowd`.
* VisDrone: `x,y,width,height,score,category,truncation,occlusion`; the categories 0 and 11 become `Pool.crowd`.
* OIDv4 toolkit (`Label/x.txt`): `class x1 y1 x2 y2`; also with the class at the end.

The rows decide: the first files of a folder. An image is found by the name of its text file, in a folder beside it or
elsewhere. An empty file says that nothing is there; an image without a file was not looked at.

| kind of problem | handling |
|---|---|
| broken row | left out |
| rotated box (told once per folder, with its count) | its hull box is used |
| label without image | left out, told once per folder |
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from pathlib import Path, PurePosixPath
from typing import NamedTuple

from labelwise.data import _texts, entries, listing, split_names, text_files
from labelwise.data._headers import is_number, number
from labelwise.data._named_images import NamedImages
from labelwise.data.entries import Object, Parsed
from labelwise.types import LabelwiseError, Pool, Problem

LOOKS_FOR = "a .txt per image with rows of KITTI (label_2/), DOTA (labelTxt/), ICDAR, VisDrone or the OIDv4 toolkit"

_SAMPLE = 5
VISDRONE = ("ignored regions", "pedestrian", "people", "bicycle", "car", "van", "truck", "tricycle", "awning-tricycle",
             "bus", "motor", "others")  # fmt: skip
_HEAD = re.compile(r"imagesource:.*|gsd:.*|\d{1,6}", re.IGNORECASE)
"""Lines at the beginning of a file that are no rows."""


class _Row(NamedTuple):
    box: tuple[float, float, float, float]
    name: str
    crowd: bool = False


def _kitti(line: str) -> _Row | None:
    cells = line.split()
    if len(cells) not in (15, 16) or is_number(cells[0]) or not all(map(is_number, cells[1:])):
        return None
    x1, y1, x2, y2 = map(number, cells[4:8])
    return _Row((x1, y1, x2, y2), cells[0], cells[0].lower() == "dontcare")


def _dota(line: str) -> _Row | None:
    cells = line.split()
    if len(cells) not in (9, 10) or is_number(cells[8]) or not all(map(is_number, (*cells[:8], *cells[9:]))):
        return None
    return _Row(_hull(cells), cells[8], len(cells) == 10 and number(cells[9]) > 0)


def _icdar(line: str) -> _Row | None:
    cells = line.lstrip("\ufeff").split(",", 8)
    if len(cells) < 9 or not all(map(is_number, cells[:8])):
        return None
    return _Row(_hull(cells), "text", cells[8].strip() == "###")


def _visdrone(line: str) -> _Row | None:
    cells = line.rstrip(",").split(",")
    if len(cells) != 8 or not all(re.fullmatch(r"\s*-?\d{1,6}\s*", cell) for cell in cells):
        return None
    x, y, width, height, _, category = map(int, cells[:6])
    if not 0 <= category < len(VISDRONE):
        return None
    return _Row((x, y, x + width, y + height), VISDRONE[category], category in (0, 11))


def _named(line: str) -> _Row | None:
    cells = line.split()
    for first, name in ((len(cells) - 4, cells[:-4]), (0, cells[4:])):
        box = cells[first : first + 4]
        if name and len(box) == 4 and not is_number(" ".join(name)) and all(map(is_number, box)):
            x1, y1, x2, y2 = map(number, box)
            if max(x1, y1, x2, y2) <= 1 or is_number(name[0]) or is_number(name[-1]):
                return None
            return _Row((x1, y1, x2, y2), " ".join(name))
    return None


def _hull(cells: Sequence[str]) -> tuple[float, float, float, float]:
    xs, ys = [number(cell) for cell in cells[0:8:2]], [number(cell) for cell in cells[1:8:2]]
    return min(xs), min(ys), max(xs), max(ys)


_SHAPES: tuple[Callable[[str], _Row | None], ...] = (_kitti, _dota, _icdar, _visdrone, _named)


def detect(root: Path) -> bool:
    """Whether there is a folder with such files."""
    return root.is_dir() and bool(_folders(root))


def splits(root: Path) -> tuple[str, ...]:
    """Names of the splits."""
    return entries.splits(_parsed(root))


def read(root: Path, split: str | None = None) -> Pool:
    """Images and boxes of a split."""
    if not detect(root):
        raise LabelwiseError(f"{root}: no text files of boxes here; expected {LOOKS_FOR}.")
    return entries.pool(root, _parsed(root), split)


def _folders(root: Path) -> dict[str, Callable[[str], _Row | None]]:
    """Folders with such files, and what reads a line of them."""
    return listing.kept(("texts of boxes", root), lambda: _find(root))


def _find(root: Path) -> dict[str, Callable[[str], _Row | None]]:
    below = listing.below(root)
    texts, found = _texts.by_folder(below, ".txt"), {}
    stems = {PurePosixPath(name).stem for name in below.images} if texts else set()
    for folder, names in texts.items():
        of_images = (name for name in names if _stem(name) in stems or PurePosixPath(name).stem in stems)
        lines: list[str] = []
        for k, name in enumerate(of_images):
            lines += _rows_of(_texts.first_lines(below, name))
            if len(lines) > _SAMPLE or k > 100:
                break
        fits = [(sum(shape(line) is not None for line in lines), shape) for shape in _SHAPES]
        best, shape = max(fits, key=lambda pair: pair[0])
        if best and 2 * best >= len(lines):
            found[folder] = shape
    return found


def _rows_of(lines: list[str]) -> list[str]:
    start = 0
    while start < len(lines) and _HEAD.fullmatch(lines[start]):
        start += 1
    return lines[start:]


def _stem(name: str) -> str:
    return PurePosixPath(name).stem.removeprefix("gt_")


def _parsed(root: Path) -> Parsed:
    return listing.kept(("boxes of texts", root), lambda: _parse(root))


def _parse(root: Path) -> Parsed:
    below = listing.below(root)
    found, images = Parsed(), NamedImages(below)
    texts = _texts.by_folder(below, ".txt")
    for folder, shape in _folders(root).items():
        hulls, stray, first = 0, 0, ""
        for file in texts[folder]:
            split = split_names.of_path(file)
            name = images.look(PurePosixPath(file).stem, file, split) or images.look(_stem(file), file, split)
            if name is None:
                stray, first = stray + 1, first or file
                continue
            found.sources.add(file)
            entry = found.entry(name)
            try:
                lines = text_files.lines(root / file)
            except LabelwiseError as error:
                found.problems.append(Problem("broken annotation", file, str(error), "left out"))
                continue
            for i, line in enumerate(lines, start=1):
                row = shape(line) if line else None
                if row is not None:
                    entry.objects.append(Object(row.box, row.name, f"{file}:{i}", row.crowd))
                    hulls += shape in (_dota, _icdar)
                elif line and not _HEAD.fullmatch(line):
                    found.problems.append(Problem("broken row", f"{file}:{i}", f"{line[:80]!r}", "left out"))
        if hulls:
            what = f"{hulls} boxes of four corners"
            found.problems.append(Problem("rotated box", folder or ".", what, "the hull box is used", hulls))
        if stray:
            what = f"{stray} text files, such as {first}, have no image of their name"
            found.problems.append(Problem("label without image", folder or ".", what, "left out", stray))
    found.classes_of_objects()
    found.add_images(below.images)
    found.problems += images.problems()
    return found
