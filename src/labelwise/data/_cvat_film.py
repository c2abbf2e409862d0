"""Pools of CVAT's tracks over video files: the frames are decoded, not read from images."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import numpy as np

from labelwise.data import clean, entries, split_names
from labelwise.data._cvat_shapes import Tally
from labelwise.data._cvat_tracks import Video, boxes_at
from labelwise.data._decode import Index, index, library
from labelwise.data._frames import Frames
from labelwise.types import Clips, LabelwiseError, Pool, Problem


class Film(NamedTuple):
    """A video file, relative to the root, and what is said of its frames."""

    name: str
    video: Video
    split: str


def splits(films: Sequence[Film]) -> tuple[str, ...]:
    """Names of the splits; none where no video has one."""
    named = split_names.in_order({film.split for film in films} - {""})
    return (*named, entries.ALL) if named and any(not film.split for film in films) else tuple(named)


def pool(root: Path, parsed: entries.Parsed, films: Sequence[Film], split: str | None) -> Pool:
    """Every frame of the task of each video of a split."""
    library()
    names = splits(films)
    chosen = clean.choose(root, names, split)
    wanted = {chosen or "", ""} if chosen == entries.ALL else {chosen or ""}
    problems, tally = list(parsed.problems), Tally()
    number = {name: k for k, name in enumerate(parsed.classes or ())}
    videos: list[tuple[Film, Index, np.ndarray]] = []
    rows: list[tuple[int, tuple[float, float, float, float], int, bool]] = []
    where: list[str] = []
    start = 0
    for film in sorted((one for one in films if one.split in wanted), key=lambda one: one.name):
        try:
            video = index(root / film.name)
        except LabelwiseError as error:
            problems.append(Problem("broken video", film.name, str(error), "left out"))
            continue
        step = film.video.step
        frames = np.arange(min(film.video.start, len(video)), len(video), step)
        place = {frame: start + k for k, frame in enumerate(frames.tolist())}
        for track in film.video.tracks:
            for key in track.keys:
                if key.box is not None and key.frame not in place:
                    tally.note("label without image", key.where, "the video has no such frame", "left out")
            for frame, box, at, drawn in boxes_at(track, frames.tolist()):
                if not drawn:
                    tally.note("box between key frames", at, "no box in the file for this frame", "interpolated evenly")
                rows.append((place[frame], box, number[track.label], False))
                where.append(at)
        videos.append((film, video, frames))
        start += len(frames)
    if not start:
        why = next((p.what for p in problems if p.kind == "broken video"), "they have no frames")
        raise LabelwiseError(f"{root}: none of the {len(films)} videos can be read: {why}")
    return _pool(root, parsed, videos, clean.Rows.of(rows, where), [*problems, *tally.problems()])


def _pool(
    root: Path,
    parsed: entries.Parsed,
    videos: Sequence[tuple[Film, Index, np.ndarray]],
    rows: clean.Rows,
    problems: list[Problem],
) -> Pool:
    videos = [one for one in videos if len(one[2])]
    names = [f"{film.name}#{frame:06d}" for film, _, frames in videos for frame in frames.tolist()]
    video = np.repeat(np.arange(len(videos)), [len(frames) for _, _, frames in videos])
    frame = np.concatenate([frames for _, _, frames in videos]).astype(np.int64)
    size_px = np.array([(one.width_px, one.height_px) for _, one, _ in videos], np.int64)
    looked_at = [(frames >= film.video.start) & (frames <= film.video.looked_at.stop - 1) for film, _, frames in videos]
    complete = np.concatenate(looked_at)
    if not complete.all():
        bare = np.flatnonzero(~complete)
        what = f"{len(bare)} of {len(names)} frames are not of the task"
        problems.append(Problem("image without labels", names[bare[0]], what, "nobody has looked at them", len(bare)))
    found = clean.pool(
        root,
        parsed.classes or (),
        names,
        rows,
        problems,
        size_px=size_px[video],
        complete=complete,
        sources=frozenset(parsed.sources),
    )
    time_s = np.concatenate([one.time_s[frames] for _, one, frames in videos])
    clips = Clips(tuple(film.name for film, _, _ in videos), video, frame, time_s)
    return replace(found, clips=clips, frames=Frames([one for _, one, _ in videos], video, frame))
