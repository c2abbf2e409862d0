"""Text files that list the boxes of many images.

* Keras: a line per image, `path x1,y1,x2,y2,class x1,y1,x2,y2,class ...`; the path alone: nothing is there. Classes are
  numbers; `_classes.txt` or `classes.txt` gives them names.
* WIDER FACE: the image, the number of boxes and a line `x y width height ...` for each; 0 boxes may have a line of
  zeros. Of ten columns the eighth says that a box is not valid: it becomes part of `Pool.crowd`. The class is "face".
* OpenCV: `path n x y width height x y width height ...`; the class is "object".

The split is that of the file's name or folder, else of the image's folder. An image that is not listed was not looked
at.

| kind of problem | handling |
|---|---|
| broken row | left out |
| number of boxes differs (from what the line before them says) | the boxes that are there are read |
| missing image, ambiguous image | left out, told once per file |
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from labelwise.data import _headers, _texts, entries, listing, text_files
from labelwise.data._class_lists import names_by_id
from labelwise.data._headers import is_image, is_number, number
from labelwise.data._named_images import NamedImages
from labelwise.data.entries import Object, Parsed
from labelwise.types import LabelwiseError, Pool, Problem

LOOKS_FOR = "a text file of lines such as `a.jpg 10,20,40,60,0`, or of images, counts and boxes (WIDER FACE)"

_NUMBER = r"[-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?"
_BOX = re.compile(rf"(?:{_NUMBER},){{4}}{_NUMBER}")
_INVALID = 7
_Found = Iterator[tuple[int, str, list[Object]]]
"""Line, image and its boxes."""


def detect(root: Path) -> bool:
    """Whether there is such a list."""
    return bool(_lists(root))


def splits(root: Path) -> tuple[str, ...]:
    """Names of the splits."""
    return entries.splits(_parsed(root))


def read(root: Path, split: str | None = None) -> Pool:
    """Images and boxes of a split."""
    if not detect(root):
        raise LabelwiseError(f"{root}: no list of boxes here; expected {LOOKS_FOR}.")
    return entries.pool(listing.below(root).root, _parsed(root), split)


def _lists(root: Path) -> dict[str, Callable[[str, Sequence[str], list[Problem]], _Found]]:
    """Every list, and what reads its lines."""
    return listing.kept(("lists of boxes", root), lambda: _find(root))


def _find(root: Path) -> dict[str, Callable[[str, Sequence[str], list[Problem]], _Found]]:
    below = listing.below(root)
    found: dict[str, Callable[[str, Sequence[str], list[Problem]], _Found]] = {}
    for name in _texts.lists(below) if root.is_dir() else [root.name]:
        if root.is_file() and listing.suffix_of(name) not in (".txt", ".dat", ".lst"):
            continue
        lines = _texts.first_lines(below, name)
        if len(lines) > 1 and is_image(lines[0]) and re.fullmatch(r"\d{1,6}", lines[1]):
            found[name] = _wider
        elif lines and all(map(_is_keras, lines)) and any(_BOX.fullmatch(line.split()[-1]) for line in lines):
            found[name] = _keras
        elif lines and all(_opencv_row(line) is not None for line in lines):
            found[name] = _opencv
    return found


def _parsed(root: Path) -> Parsed:
    return listing.kept(("boxes of lists", root), lambda: _parse(root))


def _parse(root: Path) -> Parsed:
    below, lists = listing.below(root), _lists(root)
    found, images = Parsed(sources=set(lists)), NamedImages(below)
    names = names_by_id(below, found.sources) if _keras in lists.values() else {}
    listed = list(dict.fromkeys(names.values())) if all(key.isdigit() for key in names) else []
    for file, rows in lists.items():
        split = images.split(_headers.split_of(file))
        for line, image, objects in rows(file, text_files.lines(below.root / file), found.problems):
            name = images.find(image, file, line, split)
            if name is not None:
                entry = found.entry(name, split or None)
                entry.objects += [one._replace(name=names.get(one.name, one.name)) for one in objects]
    used = {one.name for entry in found.entries.values() for one in entry.objects if not one.crowd}
    if used & set(listed):
        found.classes = listed + sorted(name for name in used - set(listed) if not name.isdigit())
    found.add_images(below.images)
    found.problems += images.problems()
    return found


def _is_keras(line: str) -> bool:
    boxes = [part for part in line.split() if _BOX.fullmatch(part)]
    return is_image(line[: line.find(boxes[0])].strip() if boxes else line)


def _keras(file: str, lines: Sequence[str], problems: list[Problem]) -> _Found:
    for i, line in enumerate(lines, start=1):
        if not line:
            continue
        where = f"{file}:{i}"
        start = re.search(rf"\s{_NUMBER},\S*,", line)
        image = line[: start.start()].strip() if start else line
        if not is_image(image):
            problems.append(Problem("broken row", where, f"no image in {line[:80]!r}", "left out"))
            continue
        objects = []
        for part in line[start.start() :].split() if start else ():
            cells = part.split(",")
            if len(cells) != 5 or not cells[4]:
                what = f"{part[:80]!r}; expected x1,y1,x2,y2,class"
                problems.append(Problem("broken row", where, what, "the box is left out"))
                continue
            x1, y1, x2, y2 = map(number, cells[:4])
            objects.append(Object((x1, y1, x2, y2), cells[4], where))
        yield i, image, objects


def _wider(file: str, lines: Sequence[str], problems: list[Problem]) -> _Found:
    image, at, said = "", 0, -1
    objects: list[Object] = []
    for i, line in enumerate([*lines, ".jpg"], start=1):
        where, cells = f"{file}:{i}", line.split()
        if is_image(line) or i > len(lines):
            if image:
                if said not in (-1, len(objects)):
                    what = f"{image}: {said} boxes are said, {len(objects)} are there"
                    problems.append(Problem("number of boxes differs", f"{file}:{at}", what, "those are read"))
                yield at, image, objects
            image, at, said, objects = line, i, -1, []
        elif said < 0 and re.fullmatch(r"\d{1,9}", line):
            said = int(line)
        elif len(cells) >= 4 and image and all(map(is_number, cells)):
            x, y, width, height = map(number, cells[:4])
            if said or width or height:
                crowd = len(cells) == 10 and cells[_INVALID] == "1"
                objects.append(Object((x, y, x + width, y + height), "face", where, crowd))
        elif line:
            problems.append(Problem("broken row", where, f"{line[:80]!r}; expected x y width height", "left out"))


def _opencv_row(line: str) -> tuple[str, list[float]] | None:
    cells = line.split()
    numbers = 0
    while numbers < len(cells) and is_number(cells[-1 - numbers]):
        numbers += 1
    for n in ((numbers - 1) // 4,):
        if numbers % 4 == 1 and number(cells[-numbers]) == n and is_image(" ".join(cells[:-numbers])):
            return " ".join(cells[:-numbers]), [number(cell) for cell in cells[len(cells) - 4 * n :]]
    return None


def _opencv(file: str, lines: Sequence[str], problems: list[Problem]) -> _Found:
    for i, line in enumerate(lines, start=1):
        row = _opencv_row(line)
        if row is not None:
            image, said = row
            rows = [said[k : k + 4] for k in range(0, len(said), 4)]
            yield i, image, [Object((x, y, x + w, y + h), "object", f"{file}:{i}") for x, y, w, h in rows]
        elif line:
            problems.append(Problem("broken row", f"{file}:{i}", f"{line[:80]!r}", "left out"))
