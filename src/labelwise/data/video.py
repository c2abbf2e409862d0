"""Video files: every frame is an image, every video a clip of the pool.

The files lie anywhere below the folder; folders with the name of a split are the splits. `labels.json`, in the folder
or in that of a split, holds the boxes: per clip `file`, `width`, `height`, `fps`, `frames` and `labels`;
`labels[frame]` is a list of `[class, x, y, w, h]` in pixels that count from 1 (1 is taken off x and y). Classes: every
name in it, sorted.

One video file by itself is a pool of one clip, without labels.

Where labels.json is there and split folders are not, the splits are `train` and `test` by clip, never by frame: clips
are grouped by the class that most of their boxes have (the first by name, if several), and in each group every third by
name is test. Frames are images by the name of `videos/a.mp4#000123`, counted from 0 in the order of display.

| kind of problem | handling |
|---|---|
| broken video (also an empty file, or one that is no video) | left out |
| truncated video (fewer frames than the container says) | the frames that are there are read |
| video with one frame | kept |
| variable frame rate | kept; frames are counted, not seconds; `Clips.time_s` is right |
| frames of different sizes (from video to video) | kept |
| missing video, video without labels (where others have some) | left out |
| frame without labels (labels.json ends early: nobody knows what is on it) | left out |
| label without image (labels.json is longer than the video) | left out |
| unknown key, size differs (in labels.json) | ignored; the size of the video counts |

Fails when: see `_decode.py`; when pixels are not square (they are shown as they are stored).
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np

from labelwise.data import clean, cvat_xml, entries, listing, long_tail, split_names, text_files
from labelwise.data._clip_labels import Clip, clips_of
from labelwise.data._decode import Index, index, library
from labelwise.data._frames import Frames
from labelwise.types import Clips, LabelwiseError, Pool, Problem

LOOKS_FOR = "video files (.mp4, .avi, .mov, .mkv, .webm, .ts and others), here or in folders such as train/ and test/"

SUFFIXES = frozenset(
    [".mp4", ".m4v", ".mov", ".qt", ".3gp", ".3g2", ".f4v", ".mkv", ".webm", ".avi", ".divx", ".wmv", ".asf", ".flv"]
) | {".ts", ".mts", ".m2ts", ".mpg", ".mpeg", ".mpe", ".m1v", ".m2v", ".vob", ".ogv", ".mxf", ".dv", ".rm", ".rmvb",
     ".h264", ".264", ".avc", ".h265", ".265", ".hevc", ".ivf", ".mjpeg", ".mjpg", ".y4m", ".nut", ".amv"}  # fmt: skip
_LABELS = "labels.json"
_EVERY = 3


def detect(root: Path) -> bool:
    """Whether there are videos, and no images or annotations of CVAT beside them; whether a file is one."""
    if root.is_file():
        return _is_video(root, root.name)
    if not root.is_dir() or cvat_xml.detect(root):
        return False
    folders = {_folder(name) for name in _videos(root)}
    return bool(folders) and not any(_folder(name) in folders for name in listing.below(root).images)


def splits(root: Path) -> tuple[str, ...]:
    """Folders of splits with videos in them; else train and test, if there are labels."""
    return () if root.is_file() else _splits(root, _labels(root)[0])


def read(root: Path, split: str | None = None) -> Pool:
    """Every frame of the videos of a split."""
    library()
    every_clip, problems, sources = _labels(root)
    split = clean.choose(root, splits(root), split)
    if root.is_file():
        root, files, labels = root.parent, [root.name], every_clip
    else:
        files, labels = _listed(root, split, every_clip, problems)
    classes = sorted({row[0] for clip in every_clip.values() for row in clip.rows})
    if not files:
        raise LabelwiseError(f"{root}: no video{f' in the split {split}' if split else ''}; expected {LOOKS_FOR}.")
    videos: list[Index] = []
    frames: list[np.ndarray] = []
    kept: list[str] = []
    rows: list[tuple[int, tuple[float, float, float, float], int, bool]] = []
    where: list[str] = []
    start = 0
    for name in files:
        try:
            video = index(root / name)
        except LabelwiseError as error:
            problems.append(Problem("broken video", name, str(error), "left out"))
            continue
        problems += _oddities(name, video)
        count = len(video)
        if labels:
            clip = labels[name]
            problems += _misfits(name, video, clip)
            count = min(count, clip.frames)
            for frame, label, box, place in clip.boxes():
                if frame < count:
                    rows.append((start + frame, box, classes.index(label), False))
                    where.append(place)
        if count:
            videos.append(video)
            kept.append(name)
            frames.append(np.arange(count))
            start += count
    if not videos:
        why = next((p.what for p in problems if p.kind == "broken video"), "labels.json has no frames for them")
        raise LabelwiseError(f"{root}: none of the {len(files)} videos can be read: {why}")
    table = clean.Rows.of(rows, where) if labels else None
    found = _pool(root, classes, kept, videos, frames, table, problems)
    return replace(found, sources=frozenset((*sources, *kept)))


def every(pool: Pool, k: int) -> Pool:
    """Every k-th frame of each clip, counted from its first in the pool.

    >>> numbers = np.array([0, 1, 2, 3, 1, 2, 4])
    >>> clips = Clips(("a", "b"), np.array([0, 0, 0, 0, 1, 1, 1]), numbers, numbers / 25)
    >>> size = np.full(7, 9)  # frames 0 and 2 of a; frame 1 of b, which has no 3
    >>> every(Pool(Path(), (), tuple("abcdefg"), size, size, clips=clips), 2).names
    ('a', 'c', 'e')
    """
    if pool.clips is None:
        raise LabelwiseError(f"{pool.root}: every {k}th frame of images that are no frames of videos. Read videos.")
    if k < 1:
        raise LabelwiseError(f"{pool.root}: every {k}th frame; expected 1 or more")
    return long_tail.subset(pool, np.flatnonzero(pool.clips.every(k)))


def _pool(
    root: Path,
    classes: list[str],
    names: list[str],
    videos: list[Index],
    frames: list[np.ndarray],
    rows: clean.Rows | None,
    problems: list[Problem],
) -> Pool:
    count = [len(numbers) for numbers in frames]
    video, frame = np.repeat(np.arange(len(videos)), count), np.concatenate(frames)
    size_px = np.array([(v.width_px, v.height_px) for v in videos], np.int64)
    if len(set(map(tuple, size_px.tolist()))) > 1:
        what = ", ".join(sorted({f"{w}x{h}" for w, h in size_px.tolist()}))
        problems.append(Problem("frames of different sizes", str(root), f"videos of {what} px", "kept"))
    every_name = [f"{names[v]}#{k:06d}" for v, k in zip(video.tolist(), frame.tolist(), strict=True)]
    pool = clean.pool(root, classes, every_name, rows, problems, size_px=size_px[video])
    time_s = np.concatenate([v.time_s[numbers] for v, numbers in zip(videos, frames, strict=True)])
    clips = Clips(tuple(names), video, frame, time_s)
    return replace(pool, clips=clips, frames=Frames(videos, video, frame))


def _folder(name: str) -> str:
    return name.rpartition("/")[0]


def _videos(root: Path) -> tuple[str, ...]:
    """Names of all videos below a folder, sorted; a `.ts` file may be a program text instead."""
    return listing.kept(
        ("videos", root),
        lambda: tuple(sorted(name for name in listing.below(root).of(*SUFFIXES) if _is_video(root / name, name))),
    )


def _is_video(path: Path, name: str) -> bool:
    suffix = listing.suffix_of(name)
    return suffix in SUFFIXES and (suffix != ".ts" or b"\x47" in text_files.head(path, 5)[::4])


def _labels(root: Path) -> tuple[dict[str, Clip], list[Problem], list[str]]:
    """What all labels.json say of every clip, by the name of its video, and these files."""
    problems: list[Problem] = []
    found: dict[str, Clip] = {}
    files = [
        name
        for name in (() if root.is_file() else listing.below(root).of(".json"))
        if name == _LABELS or (name.endswith(f"/{_LABELS}") and split_names.is_split(_folder(name)))
    ]
    for file in files:
        found |= clips_of(root / file, root, problems)
    return found, problems, files


def _splits(root: Path, labels: dict[str, Clip]) -> tuple[str, ...]:
    found = {split_names.of_path(name) for name in _videos(root)}
    if found - {""}:
        return (*split_names.in_order(found - {""}), *((entries.ALL,) if "" in found else ()))
    if not labels:
        return ()
    return ("train", "test") if _test(labels) else ("train",)


def _listed(
    root: Path, split: str | None, every_clip: dict[str, Clip], problems: list[Problem]
) -> tuple[list[str], dict[str, Clip]]:
    """The videos to read by name, and the labels of each (none: no ground truth)."""
    by_folder = any(split_names.of_path(name) for name in _videos(root))
    here = {split, "" if split == entries.ALL else split}
    there = {name for name in _videos(root) if not by_folder or split_names.of_path(name) in here}
    if not every_clip:
        return sorted(there), {}
    if by_folder:
        chosen = {name for name in every_clip if split_names.of_path(name) in here}
    else:
        test = _test(every_clip)
        chosen = {name for name in every_clip if (name in test) == (split == "test")}
    problems[:] = [problem for problem in problems if problem.where in chosen]
    missing = {name for name in chosen if not (root / name).is_file()}
    for name in sorted(missing):
        problems.append(Problem("missing video", name, "labels.json names it, but there is no such file", "left out"))
    # of a set that is split by its labels, such a video belongs to no split: it is told once
    for name in sorted(there - set(every_clip)) if split != "test" or by_folder else ():
        what = "labels.json does not name it, so nobody knows what is on it"
        problems.append(Problem("video without labels", name, what, "left out"))
    return sorted(chosen - missing), {name: every_clip[name] for name in chosen}


def _test(labels: dict[str, Clip]) -> set[str]:
    """Every third clip by name of those with one most frequent class."""
    groups: dict[str, list[str]] = {}
    for name in sorted(labels):
        groups.setdefault(labels[name].main_class, []).append(name)
    return {name for group in groups.values() for name in group[_EVERY - 1 :: _EVERY]}


def _oddities(name: str, video: Index) -> list[Problem]:
    found = []
    if video.said_frames > len(video):
        what = f"the container says {video.said_frames} frames, {len(video)} are there"
        found.append(Problem("truncated video", name, what, "the frames that are there are read"))
    if len(video) == 1:
        found.append(Problem("video with one frame", name, "no frame around it", "kept"))
    step = np.diff(video.time_s)
    usual = float(np.median(step)) if len(step) else 0.0
    odd = np.abs(step - usual) > max(0.2 * usual, 2.5 * float(video.time_base))  # time stamps are rounded
    if odd.any():
        what = f"{int(odd.sum())} of {len(step)} steps between frames are not {usual:.3g} s"
        found.append(Problem("variable frame rate", name, what, "kept; frames are counted, not seconds"))
    return found


def _misfits(name: str, video: Index, clip: Clip) -> list[Problem]:
    """Where labels.json does not fit the video."""
    found = []
    if clip.frames < len(video):
        what = f"labels of {clip.frames} frames, the video has {len(video)}: nobody knows what is on the others"
        found.append(Problem("frame without labels", name, what, f"{len(video) - clip.frames} frames left out"))
    if clip.frames > len(video):
        what = f"labels of {clip.frames} frames, the video has {len(video)}"
        found.append(Problem("label without image", name, what, f"{clip.frames - len(video)} entries left out"))
    real = video.width_px, video.height_px
    if clip.size_px is not None and clip.size_px != real:
        what = "labels.json says {}x{} px, the video is {}x{} px".format(*clip.size_px, *real)
        found.append(Problem("size differs", name, what, "the size of the video is used; boxes stay as written"))
    return found
