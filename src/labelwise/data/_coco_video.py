"""The fields of COCO files whose images are frames of videos (as in COCO-VID, BDD100K and CVAT exports).

| kind of problem | handling |
|---|---|
| image without video (others have one; or its video or number of frame is none; or another image is that frame) | a
video of its own |
| unknown video | kept; the video is called by its id |
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from labelwise.data import _coco_columns as columns
from labelwise.types import Clips, Pool, Problem

_FRAME = ("frame_id", "frame_index", "frame_number")
_FPS = 25.0


@dataclass(frozen=True, slots=True)
class Frame:
    """An image of a video. `video`: what tells the videos of all files apart; `title`: what it is called."""

    video: tuple[int, bool, Any]
    number: int
    title: str
    fps: float


def frames(parts: Sequence[tuple[columns.Columns, Sequence[tuple[str, int]]]], problems: list[Problem]) -> list[Frame]:
    """The frame that each image is, from the (name, entry) of the images of every file; none where no image has a
    video.
    """
    if not any("video_id" in made.extra[i] for made, images in parts for _, i in images):
        return []
    found = []
    taken: dict[tuple[Any, int], str] = {}
    for k, (made, images) in enumerate(parts):
        videos = _videos(made, problems)
        unknown: set[Any] = set()
        for name, i in images:
            said = made.extra[i]
            key, number = columns.plain_id(said.get("video_id")), _number(said)
            video = (k, isinstance(key, str), key)
            why = ""
            if "video_id" not in said:
                why = "no video_id, other images have one"
            elif key is None or number is None:
                why = f"video_id is {columns.shown(said['video_id'])}, its frame {columns.shown(_frame(said))}"
            elif taken.get((video, number), name) != name:
                why = f"another image is frame {number} of video {columns.shown(key)} too"
            if why or key is None or number is None:
                problems.append(Problem("image without video", name, why, "a video of its own"))
                found.append(Frame((len(parts) + k, False, i), 0, name, _FPS))
                continue
            taken[video, number] = name
            if key not in videos and key not in unknown and made.videos is not None:
                unknown.add(key)
                what = f"video_id {columns.shown(key)} is not in videos"
                handling = "kept; the video is called by its id"
                problems.append(Problem("unknown video", f"{made.path}: {name}", what, handling))
            title, fps = videos.get(key, (columns.shown(key), _FPS))
            found.append(Frame(video, number, title, fps))
    return found


def with_clips(pool: Pool, names: Sequence[str], found: Sequence[Frame]) -> Pool:
    """The pool with its clips, from the frames of `names`, of which the first of an image counts."""
    first = dict(zip(reversed(names), reversed(found), strict=True))
    kept = [first[name] for name in pool.names]
    video, titles = [], []
    last: Any = None
    for frame in kept:
        if frame.video != last:
            titles.append(frame.title)
            last = frame.video
        video.append(len(titles) - 1)
    number = np.array([frame.number for frame in kept], np.int64)
    time_s = number / np.array([frame.fps for frame in kept], np.float64)
    return replace(pool, clips=Clips(tuple(titles), np.array(video, np.int64), number, time_s))


def write(clips: Clips, content: dict[str, Any]) -> None:
    """Add the fields to a file whose images are those of the clips."""
    content["videos"] = [{"id": v + 1, "name": name} for v, name in enumerate(clips.names)]
    for entry, video, frame in zip(content["images"], clips.video.tolist(), clips.frame.tolist(), strict=True):
        entry |= {"video_id": video + 1, "frame_id": frame}


def _frame(said: dict[str, Any]) -> Any:
    return next((said[key] for key in _FRAME if key in said), None)


def _number(said: dict[str, Any]) -> int | None:
    number = columns.plain_id(_frame(said))
    return number if isinstance(number, int) and 0 <= number < columns.MOST_PX else None


def _videos(made: columns.Columns, problems: list[Problem]) -> dict[Any, tuple[str, float]]:
    """Name and frames a second of every video."""
    found = {}
    for i, said in enumerate(made.videos if isinstance(made.videos, list) else []):
        key = columns.plain_id(said.get("id")) if isinstance(said, dict) else None
        if key is None:
            what = f"{columns.shown(said)}; expected id and name"
            problems.append(Problem("malformed video entry", f"{made.path}: videos[{i}]", what, "left out"))
            continue
        fps = said.get("fps", said.get("frame_rate"))
        known = isinstance(fps, int | float) and 0.001 < fps < 100_000
        title = said.get("name", said.get("file_name", key))
        found[key] = columns.shown(title) if not isinstance(title, str) else title, float(fps) if known else _FPS
    return found
