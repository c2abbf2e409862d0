"""Videos as the MOT Challenge writes them: a folder of numbered frames, and one text of all boxes, a row each.

`SEQ/img1/000001.jpg` with `SEQ/gt/gt.txt` (MOT, DanceTrack, SportsMOT, CVAT's export: `gt/labels.txt` names the
classes), or `sequences/SEQ/0000001.jpg` with `annotations/SEQ.txt` (VisDrone-VID). A row is `frame, track, x, y, width,
height, counts, class, ...`; pixels count from 1 in MOT, from 0 in VisDrone. A box that does not count is a region to
ignore. Every frame of a folder that has such a text was looked at. Track numbers are not kept.

| kind of problem | handling |
|---|---|
| broken row | left out |
| label without image (a frame that is not there) | left out, told once per text |
| class of a number (no file names it) | the number is the name of the class |
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path, PurePosixPath
from typing import NamedTuple

from labelwise.data import _clips_of as clips_of
from labelwise.data import _texts, entries, listing, text_files
from labelwise.data._headers import is_number, number
from labelwise.data.box_texts import VISDRONE
from labelwise.data.entries import Entry, Object, Parsed
from labelwise.types import LabelwiseError, Pool, Problem

LOOKS_FOR = "SEQ/gt/gt.txt beside SEQ/img1/000001.jpg, as the MOT Challenge has them, or VisDrone-VID"

_MOT = ("pedestrian", "person on vehicle", "car", "bicycle", "motorbike", "non motorized vehicle", "static person",
        "distractor", "occluder", "occluder on the ground", "occluder full", "reflection", "crowd")  # fmt: skip


class _Video(NamedTuple):
    """A text of boxes, the frames that it is of by their number, what classes are called (None: by number), and from
    which number pixels and classes count.
    """

    text: str
    frames: dict[int, str]
    classes: Sequence[str] | None
    first: int


def detect(root: Path) -> bool:
    """Whether there is such a text beside frames."""
    return root.is_dir() and bool(_videos(root))


def splits(root: Path) -> tuple[str, ...]:
    """Names of the splits: folders with their names."""
    return entries.splits(_parsed(root)[0])


def read(root: Path, split: str | None = None) -> Pool:
    """Frames and boxes of a split, in clips."""
    if not detect(root):
        raise LabelwiseError(f"{root}: no text of boxes beside numbered frames; expected {LOOKS_FOR}.")
    parsed, place = _parsed(root)
    return clips_of.with_clips(entries.pool(root, parsed, split), place)


def _videos(root: Path) -> dict[str, _Video]:
    """The videos by the folder of their frames."""
    return listing.kept(("MOT videos", root), lambda: _find(root))


def _find(root: Path) -> dict[str, _Video]:
    below = listing.below(root)
    folders: dict[str, dict[int, str]] = {}
    for name in below.images:
        digits = re.findall(r"\d+", PurePosixPath(name).stem)
        if digits:
            folders.setdefault(name.rpartition("/")[0], {})[int(digits[-1][-9:])] = name
    by_name: dict[str, list[str]] = {}
    for folder in folders:
        by_name.setdefault(folder.rpartition("/")[2], []).append(folder)
    found = {}
    for text in below.of(".txt"):
        home, _, file = text.rpartition("/")
        if f"/{text}".endswith("/gt/gt.txt"):
            base = home[: -len("gt")]
            places = (f"{base}img1", f"{base}img", f"{base}images", base.rstrip("/"))
            frames = next((place for place in places if place in folders), None)
            if frames is not None and _fits(below, text, 6):
                said = f"{home}/labels.txt"
                listed = [line for line in text_files.lines(root / said) if line] if said in below.files else []
                names = listed or (_MOT if "MOT" in text else None)
                found[frames] = _Video(text, folders[frames], names, 1)
        elif len(same := by_name.get(file[:-4], [])) == 1 and _fits(below, text, 10):
            found[same[0]] = _Video(text, folders[same[0]], VISDRONE, 0)
    return found


def _fits(below: listing.Listing, text: str, least: int) -> bool:
    lines = [line.rstrip(",").split(",") for line in _texts.first_lines(below, text)]
    rows = [cells for cells in lines if least <= len(cells) <= 10 and all(map(is_number, cells))]
    return bool(lines) and 2 * len(rows) >= len(lines)


def _parsed(root: Path) -> tuple[Parsed, dict[str, tuple[str, int]]]:
    return listing.kept(("boxes of MOT", root), lambda: _parse(root))


def _parse(root: Path) -> tuple[Parsed, dict[str, tuple[str, int]]]:
    below = listing.below(root)
    found, place = Parsed(), dict[str, tuple[str, int]]()
    for folder, video in sorted(_videos(root).items()):
        home = video.text.rpartition("/")[0]
        beside = {f"{home}/labels.txt", f"{home.rpartition('/')[0]}/seqinfo.ini".lstrip("/")}
        found.sources |= {video.text, *(beside & set(below.files))}
        for k, name in sorted(video.frames.items()):
            place[name] = (folder, k)
            found.entry(name)
        _rows(root, video, found)
    found.classes_of_objects()
    found.add_images([name for name in below.images if name not in place])
    _place_the_rest(found, place)
    clips_of.sort(found, place)
    return found, place


def _place_the_rest(found: Parsed, place: dict[str, tuple[str, int]]) -> None:
    """Frames of folders without a text are videos too."""
    for names in found.splits.values():
        for name in names:
            folder, _, file = name.rpartition("/")
            digits = re.findall(r"\d+", PurePosixPath(file).stem)
            if name not in place and folder and digits:
                place[name] = (folder, int(digits[-1][-9:]))


def _rows(root: Path, video: _Video, found: Parsed) -> None:
    try:
        lines = text_files.lines(root / video.text)
    except LabelwiseError as error:
        found.problems.append(Problem("broken annotation", video.text, str(error), "left out"))
        return
    stray, first, by_number = 0, "", 0
    rows = [(i, line.rstrip(",").split(",")) for i, line in enumerate(lines, start=1) if line.strip(", ")]
    for i, cells in rows:
        where = f"{video.text}:{i}"
        if len(cells) < 6 or not all(map(is_number, cells[:6])):
            found.problems.append(Problem("broken row", where, f"{','.join(cells)[:80]!r}", "left out"))
            continue
        frame, _, x, y, width, height = map(number, cells[:6])
        name = video.frames.get(int(frame)) if frame == int(frame) else None
        if name is None:
            stray, first = stray + 1, first or where
            continue
        said = int(number(cells[7])) if len(cells) > 7 and is_number(cells[7]) else -1
        label, by_number = _label(said, video, by_number)
        ignored = (len(cells) > 6 and number(cells[6]) == 0) or (video.classes is VISDRONE and said in (0, 11))
        x, y = x - video.first, y - video.first
        entry = found.entries.setdefault(name, Entry())
        entry.objects.append(Object((x, y, x + width, y + height), label, where, ignored))
    if stray:
        what = f"{stray} rows are of frames that are not there"
        found.problems.append(Problem("label without image", first, what, "left out", stray))
    if by_number:
        what = f"{by_number} rows"
        found.problems.append(
            Problem("class of a number", video.text, what, "the number is the name of the class", by_number)
        )


def _label(said: int, video: _Video, by_number: int) -> tuple[str, int]:
    """The class of a number, and how many had no name so far."""
    if said < 0:
        return "object", by_number
    start, names = video.first, video.classes or ()
    if start <= said < len(names) + start:
        return names[said - start], by_number
    return str(said), by_number + 1
