"""Clips of a pool whose images are files: which of them are frames of which video."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from itertools import pairwise

import numpy as np

from labelwise.data.entries import Parsed
from labelwise.types import Clips, Pool

FPS = 25.0
"""Frames a second, where nobody says."""


def with_clips(pool: Pool, place: Mapping[str, tuple[str, int]], fps: float = FPS) -> Pool:
    """The pool with its clips, from (video, number of the frame) of every image by name; as it is where one has none,
    or where the images do not stand in the order of their videos and frames.
    """
    where = [place.get(name) for name in pool.names]
    found = [one for one in where if one is not None]
    if not found or len(found) < len(where) or any(a >= b for a, b in pairwise(found)):
        return pool
    names = tuple(dict.fromkeys(video for video, _ in found))
    number = {name: v for v, name in enumerate(names)}
    frame = np.array([frame for _, frame in found], np.int64)
    video = np.array([number[video] for video, _ in found], np.int64)
    return replace(pool, clips=Clips(names, video, frame, frame / fps))


def sort(parsed: Parsed, place: Mapping[str, tuple[str, int]]) -> None:
    """Puts the images of every split in the order of their videos and frames; nothing where no image is a frame."""
    if place:
        for split, names in parsed.splits.items():
            parsed.splits[split] = sorted(dict.fromkeys(names), key=lambda name: place.get(name, ("", 0)))
