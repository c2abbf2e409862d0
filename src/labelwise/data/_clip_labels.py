"""labels.json of a folder of videos: what stands in it, checked entry by entry."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from labelwise.data import clean, text_files
from labelwise.types import LabelwiseError, Problem

_KEYS = ("file", "width", "height", "fps", "frames", "labels")


class Clip(NamedTuple):
    """The labels of one video: of how many frames, and `rows` (class, frame, place in the frame, x, y, w, h)."""

    where: str
    frames: int
    size_px: tuple[int, int] | None
    rows: list[tuple[str, int, int, float, float, float, float]]

    @property
    def main_class(self) -> str:
        """The class of most of its boxes, the first by name if several; empty where there is no box."""
        count = Counter(row[0] for row in self.rows)
        return min(count, key=lambda name: (-count[name], name), default="")

    def boxes(self) -> Iterator[tuple[int, str, tuple[float, float, float, float], str]]:
        """(frame, class, xyxy from 0, where it stands) of every box."""
        for label, frame, place, x, y, w, h in self.rows:
            yield frame, label, (x - 1, y - 1, x - 1 + w, y - 1 + h), f"{self.where} frame {frame} box {place}"


def clips_of(path: Path, root: Path, problems: list[Problem]) -> dict[str, Clip]:
    """Every clip by the name of its video, relative to `root`."""
    content = text_files.json_of(path)
    if not isinstance(content, dict):
        raise LabelwiseError(f"{path}: expected an object with an entry per clip ({', '.join(_KEYS)}).")
    found: dict[str, Clip] = {}
    for key, entry in content.items():
        where = f"{path}: clip {key!r}"
        if not isinstance(entry, dict) or not isinstance(entry.get("file"), str):
            raise LabelwiseError(f"{where} is {str(entry)[:80]}; expected an object with {', '.join(_KEYS)}.")
        if not isinstance(entry.get("labels"), list):
            raise LabelwiseError(f"{where}: labels is {str(entry.get('labels'))[:80]}; expected one list per frame.")
        name = clean.relative(path.parent / entry["file"].replace("\0", ""), root)
        if name in found:
            raise LabelwiseError(f"{where}: file {name!r} was named before. Join the two entries.")
        for unknown in sorted(set(entry) - set(_KEYS)):
            what = f"labels.json has {unknown!r} for this clip; known are {', '.join(_KEYS)}"
            problems.append(Problem("unknown key", name, what, "ignored"))
        rows = [
            _row(box, frame, place, where)
            for frame, boxes in enumerate(entry["labels"])
            for place, box in enumerate(_list(boxes, f"{where}: labels[{frame}]"))
        ]
        size = entry.get("width"), entry.get("height")
        said = (size[0], size[1]) if isinstance(size[0], int) and isinstance(size[1], int) else None
        found[name] = Clip(f"{path.name}: {key}", len(entry["labels"]), said, rows)
    return found


def _list(value: Any, where: str) -> list[Any]:
    if not isinstance(value, list):
        raise LabelwiseError(f"{where} is {str(value)[:80]}; expected a list of [class, x, y, w, h], empty if none.")
    return value


def _row(box: Any, frame: int, place: int, where: str) -> tuple[str, int, int, float, float, float, float]:
    try:
        label, *numbers = box
        x, y, w, h = (float(value) for value in numbers)
        if not isinstance(label, str) or not label:
            raise ValueError
    except (TypeError, ValueError, OverflowError) as error:
        what = f"{where}: labels[{frame}][{place}] is {str(box)[:80]}"
        raise LabelwiseError(f"{what}; expected [class, x, y, w, h], a name and four numbers.") from error
    return label, frame, place, x, y, w, h
