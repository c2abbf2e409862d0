"""Tracks of CVAT's XML files for video: where their boxes are, and which frames they count."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ET
from bisect import bisect_left, bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from posixpath import basename, splitext
from typing import NamedTuple

from labelwise.data._cvat_shapes import Box, Tally, box_of, whole

_FRAME = re.compile(r"frame[_-]?(\d{1,9})$", re.IGNORECASE)


class Key(NamedTuple):
    """A frame of a track as the file has it; `box` None: the object is not to be seen from here on."""

    frame: int
    box: Box | None
    where: str


class Track(NamedTuple):
    """An object through the frames of a video: its keys by rising frame."""

    label: str
    keys: list[Key]


@dataclass(slots=True)
class Video:
    """What a file says of one video. Frames are numbered as in the video: from `start`, every `step`-th, to `stop`.

    Fields:
        names: what the images or the video file may be called: the task's name, its source, the XML file's name.
        stop: the last frame that was looked at; None: the last that a track names.
        is_film: whether the task is a video, and not images.
    """

    xml: str
    names: set[str]
    split: str = ""
    start: int = 0
    step: int = 1
    stop: int | None = None
    size: int | None = None
    is_film: bool = True
    size_px: tuple[int, int] | None = None
    tracks: list[Track] = field(default_factory=list)

    @property
    def looked_at(self) -> range:
        """The frames that were looked at, whether something is in them or not."""
        named = [key.frame for track in self.tracks for key in track.keys]
        stop = self.stop if self.stop is not None else max(named, default=-1)
        return range(self.start, stop + 1, self.step)


def videos_of(root: ET.Element, xml: str, tally: Tally) -> list[Video]:
    """The videos that the tracks of a file are of: one, or those of a project's tasks."""
    tasks = [*root.iterfind("meta/task"), *root.iterfind("meta/job"), *root.iterfind("meta/project/tasks/task")]
    found = {
        task.findtext("id", str(k)).strip(): _video(task, xml, alone=len(tasks) == 1) for k, task in enumerate(tasks)
    }
    found = found or {"": Video(xml, {_stem(xml)})}
    first = next(iter(found.values()))
    for number, element in enumerate(root.iterfind("track")):
        where = f"{xml}: track {element.get('id', number)}"
        label = (element.get("label") or "").strip()
        if not label:
            tally.note("object without class", where, "a track without a label", "left out")
            continue
        keys = sorted(_keys(element, where, tally), key=lambda key: key.frame)
        video = found.get((element.get("task_id") or "").strip(), first)
        video.split = video.split or (element.get("subset") or "").strip()
        video.tracks.append(Track(label, keys))
    return [video for video in found.values() if video.tracks or len(found) == 1]


def boxes_at(track: Track, frames: Sequence[int]) -> Iterator[tuple[int, Box, str, bool]]:
    """(frame, box, where, whether it was drawn there) of a track in each of `frames`, which rise. Between two keys the
    box moves evenly, as it does in CVAT; behind the last there is none.
    """
    there = set(frames)
    for k, key in enumerate(track.keys):
        after = track.keys[k + 1] if k + 1 < len(track.keys) else None
        if key.box is None or (after is not None and after.frame == key.frame):
            continue
        if key.frame in there:
            yield key.frame, key.box, key.where, True
        if after is None:
            continue
        for frame in frames[bisect_right(frames, key.frame) : bisect_left(frames, after.frame)]:
            share = (frame - key.frame) / (after.frame - key.frame)
            end = after.box or key.box
            x1, y1, x2, y2 = (a + share * (b - a) for a, b in zip(key.box, end, strict=True))
            yield frame, (x1, y1, x2, y2), f"{key.where} to {after.frame}", False


def numbers(images: Sequence[str], video: Video) -> tuple[dict[int, str], bool]:
    """The image of each frame, and whether that is sure: by names such as frame_000012, else by their order."""
    named = {int(match[1]): name for name in images if (match := _FRAME.search(splitext(basename(name))[0]))}
    if len(named) == len(images):
        return named, True
    in_order = sorted(images, key=_natural)
    return {video.start + k * video.step: name for k, name in enumerate(in_order)}, video.size == len(images)


def frame_number(name: str) -> int | None:
    """The number of an image that is named frame_000012."""
    match = _FRAME.search(splitext(basename(name))[0])
    return int(match[1]) if match else None


def _video(task: ET.Element, xml: str, *, alone: bool) -> Video:
    said = [task.findtext(tag) or "" for tag in ("name", "source")]
    video = Video(xml, {_stem(one.strip()) for one in said if one.strip()} | ({_stem(xml)} if alone else set()))
    video.split = (task.findtext("subset") or "").strip()
    video.is_film = (task.findtext("mode") or "interpolation").strip() == "interpolation"
    step = re.search(r"step\s*=\s*(\d{1,6})", task.findtext("frame_filter") or "")
    video.step = max(1, int(step[1])) if step else 1
    video.start = whole(task.findtext("start_frame")) or 0
    video.size = whole(task.findtext("size"))
    video.stop = whole(task.findtext("stop_frame"))
    if video.stop is None and video.size is not None:
        video.stop = video.start + (video.size - 1) * video.step
    width, height = (whole(task.findtext(f"original_size/{key}"), 10**7) for key in ("width", "height"))
    video.size_px = (width, height) if width and height else None
    return video


def _keys(track: ET.Element, where: str, tally: Tally) -> Iterator[Key]:
    for element in track:
        if element.get("frame") is None:
            continue
        frame = whole(element.get("frame"))
        if frame is None:
            what = f"a frame {(element.get('frame') or '')[:40]!r}"
            tally.note("malformed annotation", where, what, "left out")
            continue
        place = f"{where} frame {frame}"
        outside = (element.get("outside") or "0").strip() in ("1", "true", "True")
        if outside:
            yield Key(frame, None, place)
        elif (box := box_of(element, place, tally)) is not None:
            yield Key(frame, box, place)


def _stem(name: str) -> str:
    return splitext(basename(name.replace("\\", "/")))[0].casefold()


def _natural(name: str) -> list[tuple[int, str]]:
    """Sorts a9 before a10."""
    return [(int(part), "") if part.isascii() and part.isdigit() else (0, part) for part in _parts(name)]


def _parts(name: str) -> list[str]:
    return [part for part in re.split(r"(\d{1,15})", name) if part]
