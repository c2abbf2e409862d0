"""The pool in the order in which a project knows it: an image keeps its number when others come or go.

What was stored of an image (predictions, targets) is found by its number, so an image that is gone keeps its place, and
one that is new stands at the end, wherever its name would sort.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise
from pathlib import PurePosixPath

import numpy as np
from jaxtyping import Int64

from labelwise.data import long_tail
from labelwise.data._frames import taken
from labelwise.types import Boxes, Clips, Pool, Rects, image_of

FPS = 25.0
"""Frames a second of a clip none of whose frames is there."""


def in_known_order(pool: Pool, names: Sequence[str], size_px: Int64[np.ndarray, "known 2"]) -> Pool:
    """The images `names` in their order, then those of the pool that are not among them.

    One that the pool lacks is `unavailable`; it has the size `size_px` and no ground truth, in a data set of one class
    per image that of its folder.
    """
    if pool.names[: len(names)] == tuple(names):
        return pool
    row_of = {name: k for k, name in enumerate(pool.names)}
    known = set(names)
    order = [*names, *(name for name in pool.names if name not in known)]
    rows = np.array([row_of.get(name, -1) for name in order], np.int64)
    there = rows >= 0
    if there.all() and pool.clips is None:
        return long_tail.subset(pool, rows)
    return _with_gaps(pool, order, rows, np.where(there[: len(names), None], 0, size_px))


def _with_gaps(pool: Pool, order: list[str], rows: np.ndarray, size_px: np.ndarray) -> Pool:
    """The images `order`, of which `rows` are in the pool (-1: not there)."""
    there, n = rows >= 0, len(order)
    place = np.zeros(len(pool), np.int64)
    place[rows[there]] = np.flatnonzero(there)
    width, height = np.zeros(n, np.int64), np.zeros(n, np.int64)
    width[: len(size_px)], height[: len(size_px)] = size_px.T
    width[there], height[there] = pool.width_px[rows[there]], pool.height_px[rows[there]]
    truth, crowd = pool.truth, pool.crowd
    if truth is not None and pool.one_class_per_image:
        labels = np.array([_class_of(name, pool.classes) for name in order], np.int64)
        labels[there] = truth.labels[rows[there]]
        truth = Boxes.of_images(labels, width, height)
    elif truth is not None:
        truth = Boxes.from_rows(place[truth.image], truth.xyxy, truth.labels, n)
    if crowd is not None:
        crowd = Rects.from_rows(place[image_of(crowd.offsets)], crowd.xyxy, n)
    source = np.maximum(rows, 0)  # of an image that is gone nothing is read: it is unavailable
    return replace(
        pool,
        names=tuple(order),
        width_px=width,
        height_px=height,
        truth=truth,
        crowd=crowd,
        pixels=None if pool.pixels is None else pool.pixels[source],
        clips=None if pool.clips is None else _clips(pool.clips, order, rows),
        frames=None if pool.frames is None else taken(pool.frames, source),
        unavailable=_reasons(pool, order, rows),
        complete=None if pool.complete is None else pool.complete[source] & there,
    )


def _reasons(pool: Pool, order: list[str], rows: np.ndarray) -> dict[int, str]:
    said = {p.where: p.what for p in pool.problems if p.kind in ("missing image", "unreadable image")}
    gone = "{}: it is not in the data any more. Put it back; its labels are kept"
    return {int(i): said.get(order[i], gone.format(pool.root / order[i])) for i in np.flatnonzero(rows < 0)}


def _class_of(name: str, classes: Sequence[str]) -> int:
    """The class whose folder the image lies in; the first where there is none: nobody asks what is not there."""
    folders = PurePosixPath(name).parts[:-1]
    return next((classes.index(folder) for folder in reversed(folders) if folder in classes), 0)


def _clips(clips: Clips, order: list[str], rows: np.ndarray) -> Clips:
    """A frame that is gone stays in its clip where the frames around it are of one; new frames are a clip of their own,
    of the same name.
    """
    of = [clips.names[clips.video[row]] if row >= 0 else "" for row in rows.tolist()]
    frame = [int(clips.frame[row]) if row >= 0 else -1 for row in rows.tolist()]
    time_s = [float(clips.time_s[row]) if row >= 0 else -1.0 for row in rows.tolist()]
    behind, last = [""] * len(rows), ""  # the clip of the next frame that is there
    for i in reversed(range(len(rows))):
        behind[i] = last = of[i] or last
    for i in np.flatnonzero(rows < 0).tolist():
        film, mark, number = order[i].partition("#")  # as a frame of a video file is called
        between = i > 0 and of[i - 1] == behind[i]
        of[i] = film if mark else behind[i] if between else PurePosixPath(order[i]).parent.as_posix()
        same = i > 0 and of[i] == of[i - 1]
        frame[i] = int(number) if mark and number.isdecimal() else frame[i - 1] + 1 if same else 0
        time_s[i] = time_s[i - 1] + 1 / FPS if same else 0.0
    new = [a != b or later <= earlier for (a, b), (earlier, later) in zip(pairwise(of), pairwise(frame), strict=True)]
    video = np.cumsum([0, *new]).astype(np.int64)
    names = [of[int(np.searchsorted(video, k))] for k in range(int(video[-1]) + 1)]
    return Clips(tuple(names), video, np.array(frame, np.int64), np.array(time_s, np.float64))
