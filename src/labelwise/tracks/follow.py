"""Boxes moved along the optical flow to the frames around their own, each step by the motion there.

Source: 001, section 2.3.2, "Object tracker": "we translate the box coordinates using the motion vector corresponding to
the box center to obtain the tracked box in the next or previous frame"; `at="centre"`, ±3 frames as in its Fig. 2.2.
Differs from the paper: the vector is that of the grid cell that holds the centre (`flow.py` keeps one vector per cell).
`at="median"`, ours, takes the median over the middle of the box instead (half of its width and height): of the
vectors at 5 x 5 points spread evenly over it, per axis, each from its cell; it holds where the one cell at the centre
fails. Over the whole box the median was worse than the centre: objects fill too little of their boxes
(benchmarks/flow.py). A track ends (image -1, from there on) where the shot ends, where the centre leaves the image, or
where less than half of the box's area is left in it. The motion goes on from the whole box; the box given is clipped.
`return_within`, ours (Kalal et al., 2010, forward-backward error): a track ends where the flow back from the new
place misses the old one by more than this share of the box's width or height. On ground truth (60 clips, k = 3,
benchmarks/results/coherence_rules.csv) 107 in place of 148 detections are called false positives at 0.25, 83 at 0.1,
at 1 % less recall; what remains are motions that flow takes for rest both ways (a small object before plain sky).
Fails when: the object moves farther between two frames than the flow can see, or is too small for a cell; when it grows
or shrinks (the size is kept); behind an occluder, whose motion the box then takes.

Worked by hand: two frames of 32 x 16 pixels, cells of 8; everything moves by (4, 0) from frame 0 to frame 1 and by
(-4, 0) back. The box 0..8 is at 4..12 one frame later; the box 23..31 is at 27..35, clipped to 27..32: its centre and
5 of its 8 columns are in the image. Two frames later the clip has ended.

>>> from labelwise.tracks.flow import Flow, record
>>> rows = np.zeros(2, record(2, 4))
>>> rows["joined"][0] = True
>>> rows["flow"][0, 0, ..., 0], rows["flow"][0, 1, ..., 0] = 4, -4
>>> flow = Flow((rows,), np.array([0, 2]), np.array([True, False]), np.full((2, 2), 8.0), np.array([[4, 2], [4, 2]]))
>>> size = np.array([32, 32]), np.array([16, 16])
>>> boxes = np.array([[0, 0, 8, 8], [23, 0, 31, 8]], np.float32)
>>> tracks = follow(np.array([0, 2, 2]), boxes, flow, *size, frames=2)
>>> tracks.steps.tolist(), tracks.image.tolist()
([-2, -1, 1, 2], [[-1, -1, 1, -1], [-1, -1, 1, -1]])
>>> tracks.boxes[:, 2].tolist()
[[4.0, 0.0, 12.0, 8.0], [27.0, 0.0, 32.0, 8.0]]
"""

from __future__ import annotations

from typing import Literal

import numpy as np
from jaxtyping import Float, Float32, Float64, Int64

from labelwise.tracks._steps import check_boxes, place, remaining
from labelwise.tracks.flow import Flow
from labelwise.types import LabelwiseError, Tracks, image_of

At = Literal["centre", "median"]

POINTS = 5
"""Points per side of the box at which `median` takes the flow."""

MIDDLE = 0.5
"""Share of the box's width and height, around its centre, over which they are spread."""

BLOCK = 1 << 15
"""Boxes per block: 25 points of each, with their temporaries, stay below 30 MB."""


def follow(
    offsets: Int64[np.ndarray, " images+1"],
    boxes: Float32[np.ndarray, "n 4"],
    flow: Flow,
    width_px: Int64[np.ndarray, " images"],
    height_px: Int64[np.ndarray, " images"],
    *,
    frames: int = 3,
    at: At = "centre",
    return_within: float | None = None,
) -> Tracks:
    """Where every box is in the `frames` frames before its own and after it.

    Args:
        offsets: the boxes of image i are the rows `offsets[i]:offsets[i + 1]`.
        boxes: detections, or annotations, in pixels of the original image.
        flow: of the same images, from `flow.open_flow`.
        width_px: of every image.
        height_px: of every image.
        frames: how many frames to follow in each direction.
        at: the vector that moves a box: that at its centre, or the median over its middle.
        return_within: a track ends where the flow back from the moved box misses the start by more than this share of
            the box's width or height; None: no check.

    Raises:
        LabelwiseError: boxes that are not finite (row named) or inverted, columns of other lengths, an unknown `at`.
    """
    check_boxes(offsets, boxes, width_px, height_px, frames)
    if at not in ("centre", "median"):
        raise LabelwiseError(f'at: expected "centre" or "median", got {at!r}')
    if len(flow.joined) != len(width_px):
        raise LabelwiseError(
            f"flow: is of {len(flow.joined)} images, but there are {len(width_px)}; open the flow of the same pool"
        )
    size = np.stack([width_px, height_px], axis=1).astype(np.float64)
    image = np.full((len(boxes), 2 * frames), -1, np.int64)
    moved = np.zeros((len(boxes), 2 * frames, 4), np.float32)
    here = image_of(offsets)
    for clip, first, end in flow.clips():
        rows = slice(int(offsets[first]), int(offsets[end]))
        if rows.start == rows.stop:
            continue
        vectors = flow.table(clip)["flow"].view(np.uint32)[..., 0]  # x and y in one number: one gather, not two
        for way, columns in ((0, range(frames, 2 * frames)), (1, range(frames - 1, -1, -1))):
            alive = np.arange(rows.start, rows.stop)
            box, now = boxes[rows].astype(np.float64), here[rows]
            for column in columns:
                pair = now - way
                on = remaining(flow.joined, pair, first)
                alive, box, now, pair = alive[on], box[on], now[on], pair[on]
                if not len(alive):
                    break
                move = _vectors(vectors, pair - first, way, box, flow.cell_px[now], flow.grid[now], at)
                now = now + (1 - 2 * way)
                box += np.tile(move, 2)
                clipped, inside = place(box, size[now])
                if return_within is not None:
                    back = _vectors(vectors, pair - first, 1 - way, box, flow.cell_px[now], flow.grid[now], at)
                    inside &= (np.abs(move + back) <= return_within * (box[:, 2:] - box[:, :2])).all(axis=1)
                alive, box, now, clipped = alive[inside], box[inside], now[inside], clipped[inside]
                image[alive, column], moved[alive, column] = now, clipped
    return Tracks(image, moved)


def _vectors(
    vectors: np.ndarray,
    pair: Int64[np.ndarray, " n"],
    way: int,
    box: Float64[np.ndarray, "n 4"],
    cell_px: Float[np.ndarray, "n 2"],
    grid: Int64[np.ndarray, "n 2"],
    at: At,
) -> Float64[np.ndarray, "n 2"]:
    """The motion of every box between the two images of its pair."""
    if at == "centre":
        x, y = ((box[:, :2] + box[:, 2:]) / 2 / cell_px).T
        return _read(vectors, pair, way, _cell(x, grid[:, 0]), _cell(y, grid[:, 1])).astype(np.float64)
    out = np.empty((len(box), 2))
    share = 0.5 + MIDDLE * ((np.arange(POINTS) + 0.5) / POINTS - 0.5)
    for start in range(0, len(box), BLOCK):
        part = slice(start, start + BLOCK)
        low, high = box[part, :2] / cell_px[part], box[part, 2:] / cell_px[part]
        points = low[:, None] + (high - low)[:, None] * share[:, None]  # [n, POINTS, 2]
        x = _cell(points[:, :, 0], grid[part, :1])[:, None, :]
        y = _cell(points[:, :, 1], grid[part, 1:])[:, :, None]
        seen = _read(vectors, pair[part, None, None], way, x, y).reshape(len(low), POINTS**2, 2)
        middle = POINTS**2 // 2
        out[part] = np.partition(seen.transpose(0, 2, 1), middle, axis=2)[:, :, middle]
    return out


def _cell(position: np.ndarray, cells: np.ndarray) -> np.ndarray:
    """The cell that holds a position in cells; the nearest one for a position outside."""
    return np.clip(position.astype(np.int64), 0, cells - 1)


def _read(vectors: np.ndarray, pair: np.ndarray, way: int, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """The vectors [..., 2] of the cells (float32: NumPy sorts that faster than float16)."""
    found = vectors[pair, way, y, x]
    return np.ascontiguousarray(found)[..., None].view(np.float16).astype(np.float32)
