"""The fields of COCO files whose images are frames of videos (as in COCO-VID, BDD100K and CVAT exports)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from labelwise.types import Clips, LabelwiseError, Pool, Problem

_FRAME = ("frame_id", "frame_index", "frame_number")
_FPS = 25.0


def in_order(images: dict[Any, dict[str, Any]], path: Path) -> dict[Any, dict[str, Any]]:
    """Images by video and frame, those without a video last; as they are where none has one."""
    if not any("video_id" in entry for entry in images.values()):
        return images
    place: dict[tuple[int, int], Any] = {}
    for key, entry in images.items():
        if "video_id" not in entry:
            continue
        where, at = f"{path}: image id {key}", (entry["video_id"], _frame(entry))
        if not isinstance(at[0], int):
            raise LabelwiseError(f"{where}: video_id is {at[0]!r}; expected a whole number.")
        if not isinstance(at[1], int) or at[1] < 0:
            raise LabelwiseError(f"{where}: {' or '.join(_FRAME)} is {at[1]!r}; expected a whole number from 0.")
        before = images.get(place.get((at[0], at[1])))
        if before is not None and before["file_name"] != entry["file_name"]:
            raise LabelwiseError(
                f"{where}: image id {place[at[0], at[1]]} is frame {at[1]} of video {at[0]} too. "
                "Give every frame of a video its own number."
            )
        place.setdefault((at[0], at[1]), key)
    alone = [key for key, entry in images.items() if "video_id" not in entry]
    framed = [key for key in images if "video_id" in images[key]]
    framed.sort(key=lambda key: (images[key]["video_id"], _frame(images[key])))
    return {key: images[key] for key in (*framed, *alone)}


def with_clips(pool: Pool, entries: Sequence[tuple[str, dict[str, Any]]], content: dict[str, Any], path: Path) -> Pool:
    """The pool with its clips, from (name, entry) of every image in order; as it is where there are none."""
    if not any("video_id" in entry for _, entry in entries):
        return pool
    here, found = set(pool.names), list(pool.problems)
    videos = _videos(content, path)
    names: list[str] = []
    video, frame, time_s = [], [], []
    last: int | str | None = None
    for name, entry in entries:
        if name not in here:
            continue
        key = entry.get("video_id", name)
        if "video_id" not in entry:
            found.append(
                Problem("image without video", name, "no video_id, other images have one", "a video of its own")
            )
        elif key not in videos and key != last and "videos" in content:
            what = f"video_id {key} is not in videos"
            found.append(Problem("unknown video", f"{path.name}: {name}", what, "kept; the video is called by its id"))
        said = videos.get(key, {})
        if key != last or not names:
            names.append(str(said.get("name", said.get("file_name", key))))
            last = key
        number = _frame(entry) if "video_id" in entry else 0
        fps = said.get("fps", said.get("frame_rate"))
        video.append(len(names) - 1)
        frame.append(number)
        time_s.append(number / (fps if isinstance(fps, int | float) and fps > 0 else _FPS))
    clips = Clips(tuple(names), np.array(video, np.int64), np.array(frame, np.int64), np.array(time_s, np.float64))
    return replace(pool, clips=clips, problems=tuple(found))


def write(clips: Clips, content: dict[str, Any]) -> None:
    """Add the fields to a file whose images are those of the clips."""
    content["videos"] = [{"id": v + 1, "name": name} for v, name in enumerate(clips.names)]
    for entry, video, frame in zip(content["images"], clips.video.tolist(), clips.frame.tolist(), strict=True):
        entry |= {"video_id": video + 1, "frame_id": frame}


def _frame(entry: dict[str, Any]) -> Any:
    return next((entry[key] for key in _FRAME if key in entry), None)


def _videos(content: dict[str, Any], path: Path) -> dict[Any, dict[str, Any]]:
    listed = content.get("videos", [])
    if not isinstance(listed, list) or not all(isinstance(v, dict) and isinstance(v.get("id"), int) for v in listed):
        raise LabelwiseError(f"{path}: videos is {str(listed)[:80]}; expected a list of objects with id and name.")
    return {entry["id"]: entry for entry in listed}
