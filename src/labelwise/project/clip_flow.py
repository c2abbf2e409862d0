"""The optical flow of a part of a film, computed when it is first wanted, and kept where the rounds keep theirs."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from labelwise.project.context import Context, clips_of
from labelwise.tracks import flow
from labelwise.types import LabelwiseError

WHOLE = 600
"""A film of so many frames is one part."""
PART = 256
"""Frames of a part of a longer one, without its margins."""


def stamps(root: Path, names: Sequence[str]) -> list[str]:
    """Of every image its name, and its file's size and time of change: another file of that name is another image."""
    seen: dict[str, str] = {}
    for name in names:
        file = name.split("#")[0]  # a frame of a video file
        if file not in seen:
            path = root / file
            status = path.stat() if path.exists() else None
            seen[file] = "" if status is None else f"{status.st_size} {status.st_mtime_ns}"
    return [f"{name} {seen[name.split('#')[0]]}" for name in names]


def film_of(context: Context, image: int) -> range:
    """The images of the film that an image is a frame of."""
    video = clips_of(context.pool).video
    first, end = np.searchsorted(video, [video[image], video[image] + 1]).tolist()
    return range(first, end)


def part_of(context: Context, image: int, margin: int) -> range:
    """The images of its film of which the flow is computed with it: all, or those around that can be reached from
    there by `margin` steps.
    """
    film = film_of(context, image)
    if len(film) <= WHOLE:
        return film
    first = film.start + (image - film.start) // PART * PART
    return range(max(film.start, first - margin), min(film.stop, first + PART + margin))


def flow_of(context: Context, images: range, read: Callable[[int], np.ndarray] | None = None) -> flow.Flow | None:
    """The flow of consecutive images of one film; without `read` None where it is not kept yet.

    As `tracks` of the config has it, but for RAFT, in whose place DIS is taken: no server of the page loads a network.
    It is the rounds' own where their tracks may cross every frame of the film.
    """
    pool, rule = context.pool, context.run.tracks
    rows = slice(images.start, images.stop)
    clips = clips_of(pool).take(np.arange(images.start, images.stop))
    size = pool.width_px[rows], pool.height_px[rows]
    preset = "ultrafast" if rule.preset in ("raft_small", "raft_large") else rule.preset
    how: dict[str, Any] = {"preset": preset, "flow_px": rule.flow_px, "stamps": stamps(pool.root, pool.names[rows])}
    folder = context.cache / "flow"
    if read is not None:
        fetch = read
        return flow.compute(len(images), clips, *size, lambda k: fetch(images.start + k), folder, threads=1, **how)
    try:
        return flow.open_flow(folder, clips, *size, **how)
    except LabelwiseError:  # it is not there
        return None
