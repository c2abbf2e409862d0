"""Folders of frames: `clip_a/000001.jpg, clip_a/000002.jpg, ...`, each folder one video, without ground truth.

Frames stand in the order of the last number in their names (9 before 10), which is their number in the video; gaps
stay gaps. Names without a number are an error. Splits are folders with the usual names that hold such folders. When a
frame is shown is not stored: 25 a second are assumed.

Recognised unasked where the names of folders and files speak of videos (see `image_folders.py`); classes by folders and
a bare folder of images look the same. Say `format = "frames"`.

| kind of problem | handling |
|---|---|
| video with one frame, frames of different sizes | kept |
| image without video (beside the folders) | left out |
| unreadable image, converted image | as in every format (`clean.py`) |
"""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path, PurePosixPath

import numpy as np

from labelwise.data import clean
from labelwise.data.image_folders import Place, layout
from labelwise.types import Clips, LabelwiseError, Pool, Problem

LOOKS_FOR = 'CLIP/000001.jpg, CLIP/000002.jpg, ... (say format = "frames")'

FPS = 25.0


def detect(root: Path) -> bool:
    """Whether every folder looks like a video."""
    return layout(root).kind == "frames"


def splits(root: Path) -> tuple[str, ...]:
    """Folders with the name of a split that hold folders."""
    return tuple(name for name, place in layout(root).places.items() if name and place.groups)


def read(root: Path, split: str | None = None) -> Pool:
    """Every frame of every folder of a split."""
    split = clean.choose(root, splits(root), split)
    place = layout(root).places.get(split or "") or Place("")
    names: list[str] = []
    clip: list[str] = []
    number: list[int] = []
    for group, images in sorted(place.groups.items()):
        for k, name in _numbered(images):
            names.append(name)
            clip.append(f"{place.folder}/{group}" if place.folder else group)
            number.append(k)
    if not names:
        raise LabelwiseError(f"{root / place.folder}: no folder with frames here; expected {LOOKS_FOR}.")
    problems = [
        Problem("image without video", name, f"lies beside the folders of {root / place.folder}", "left out")
        for name in place.beside
    ]
    pool = clean.pool(root, (), names, None, problems)
    here = set(pool.names)
    kept = [i for i, name in enumerate(names) if name in here]
    clips = tuple(dict.fromkeys(clip[i] for i in kept))
    of_clip = {name: v for v, name in enumerate(clips)}
    video = np.array([of_clip[clip[i]] for i in kept], np.int64)
    frame = np.array([number[i] for i in kept], np.int64)
    return replace(
        pool,
        clips=Clips(clips, video, frame, frame / FPS),
        problems=(*pool.problems, *_oddities(pool, clips, video)),
    )


def _oddities(pool: Pool, clips: tuple[str, ...], video: np.ndarray) -> list[Problem]:
    found = []
    size_px = np.stack([pool.width_px, pool.height_px], axis=1)
    for v, name in enumerate(clips):
        sizes = np.unique(size_px[video == v], axis=0)
        if len(sizes) > 1:
            what = ", ".join(f"{w}x{h}" for w, h in sizes.tolist()) + " px"
            found.append(Problem("frames of different sizes", name, what, "kept"))
        if (video == v).sum() == 1:
            found.append(Problem("video with one frame", name, "no frame around it", "kept"))
    return found


def _numbered(images: list[str]) -> list[tuple[int, str]]:
    """(number, name) of the frames of a video, rising."""
    found: dict[int, str] = {}
    for name in images:
        digits = re.findall(r"\d+", PurePosixPath(name).stem)
        if not digits:
            raise LabelwiseError(f"{name}: no number in the name; expected that of the frame, such as 000001.jpg.")
        number = int(digits[-1][-15:])
        if number in found:
            other = PurePosixPath(found[number]).name
            raise LabelwiseError(f"{name}: {other} is frame {number} too. Keep one of them, or number them anew.")
        found[number] = name
    return sorted(found.items())
