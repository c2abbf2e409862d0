"""Folders of frames: `clip_a/000001.jpg, clip_a/000002.jpg, ...`, each folder one video, without ground truth.

Frames stand in the order of the last number in their names (9 before 10), which is their number in the video; gaps
stay gaps. Names without a number are an error. Splits are folders named train, val, valid or test that hold such
folders. When a frame is shown is not stored: 25 a second are assumed.

Never recognised unasked: classes by folders and a bare folder of images look the same. Say `format = "frames"`.

| kind of problem | handling |
|---|---|
| video with one frame, frames of different sizes | kept |
| image without video (beside the folders) | left out |
| unreadable image, converted image | as in every format (`clean.py`) |
"""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import numpy as np

from labelwise.data import clean, image_reader
from labelwise.types import Clips, LabelwiseError, Pool, Problem

LOOKS_FOR = 'CLIP/000001.jpg, CLIP/000002.jpg, ... (say format = "frames")'

FPS = 25.0
_SPLITS = ("train", "val", "valid", "validation", "test")


def detect(root: Path) -> bool:
    """Never: other formats look the same."""
    return False


def splits(root: Path) -> tuple[str, ...]:
    """Subfolders with the name of a split that hold folders."""
    return tuple(name for name in _SPLITS if _folders(root / name))


def read(root: Path, split: str | None = None) -> Pool:
    """Every frame of every folder of a split."""
    split = clean.choose(root, splits(root), split)
    place = root if split is None else root / split
    names: list[str] = []
    clip: list[str] = []
    number: list[int] = []
    for folder in _folders(place):
        for k, path in _numbered(folder, root):
            names.append(clean.relative(path, root))
            clip.append(clean.relative(folder, root))
            number.append(k)
    if not names:
        raise LabelwiseError(f"{place}: no folder with frames here; expected {LOOKS_FOR}.")
    problems = [
        Problem("image without video", clean.relative(path, root), f"lies beside the folders of {place}", "left out")
        for path in sorted(place.iterdir())
        if image_reader.is_image(path)
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


def _numbered(folder: Path, root: Path) -> list[tuple[int, Path]]:
    """(number, file) of the frames of a folder, rising."""
    found: dict[int, Path] = {}
    for path in sorted(folder.iterdir()):
        if not image_reader.is_image(path):
            continue
        where, digits = clean.relative(path, root), re.findall(r"\d+", path.stem)
        if not digits:
            raise LabelwiseError(f"{where}: no number in the name; expected that of the frame, such as 000001.jpg.")
        if int(digits[-1]) in found:
            other = found[int(digits[-1])].name
            raise LabelwiseError(
                f"{where}: {other} is frame {int(digits[-1])} too. Keep one of them, or number them anew."
            )
        found[int(digits[-1])] = path
    return sorted(found.items())


def _folders(place: Path) -> list[Path]:
    if not place.is_dir():
        return []
    return sorted(p for p in place.iterdir() if p.is_dir() and not p.name.startswith("."))
