"""How many frames a track may step over: how many boxes meet theirs, and how many spots come back to where they began.

Source: our own question. The link of boxes is that of `links.py` (001, section 2.3.2): moved by the flow into the frame
n frames later, a box overlaps one of its class by IoU > 0.5; boxes that leave the image are not counted. A spot is the
box of `SIDE_PX` around a cell of the flow that moves by more than `MOVES_PX`: moved into the other frame and back, it
overlaps itself by IoU > 0.5. Spots need no annotations, but they are of the whole picture: small objects fail earlier
than the ground that passes behind them, so that boxes decide where there are some.

Stretches of frames are taken at even distances from all clips, those with boxes first, and looked at with every stride,
so that the shares of two strides differ by the stride alone. Where the flow does not explain a pair of frames (a cut,
see `_shots.py`), nothing holds.
Fails when: objects go out of sight within a stretch (their boxes count as lost), two of a class change places, or what
moves has no texture (its spots come back from anywhere).
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Int64, UInt8

from labelwise.tracks import flow, follow
from labelwise.types import Boxes, Clips, LabelwiseError
from labelwise.types.overlap import iou_pairs

STRIDES = (1, 2, 3, 5, 10)
STRETCHES = 48
IOU = 0.5
CELL_PX, SIDE_PX, MOVES_PX = 8, 32.0, 1.0
"""In pixels of the image that the flow is computed on, whose longest side is 640."""
HOLDS = 0.9
"""Least share at which tracks hold."""
FEW = 30
"""With fewer boxes than this the spots decide."""


@dataclass(frozen=True, slots=True)
class Share:
    """At one stride: how many boxes there were and how many met theirs, how many spots moved and how many came back."""

    stride: int
    boxes: int
    linked: int
    spots: int
    returned: int


@dataclass(frozen=True, slots=True)
class Support:
    """The shares by stride, over so many stretches."""

    shares: tuple[Share, ...]
    stretches: int

    @property
    def by(self) -> str:
        """What decides: "boxes", "spots", or "" where nothing moved."""
        if self.shares and self.shares[0].boxes >= FEW:
            return "boxes"
        return "spots" if any(one.spots for one in self.shares) else ""

    def held(self, one: Share) -> float | None:
        """The share that decides, at one stride."""
        part, whole = (one.linked, one.boxes) if self.by == "boxes" else (one.returned, one.spots)
        return part / whole if whole else None

    @property
    def largest(self) -> int:
        """The largest stride up to which tracks hold at each; 0: not even from frame to frame.

        >>> Support((Share(1, 40, 40, 0, 0), Share(2, 40, 37, 0, 0), Share(3, 40, 30, 0, 0)), 9).largest
        2
        """
        found = 0
        for one in self.shares:
            held = self.held(one)
            if held is None or held < HOLDS:
                break
            found = one.stride
        return found

    def __add__(self, other: Support) -> Support:
        """Of both, stretch for stretch; a stride that one of them lacks counts where it is."""
        count: dict[int, np.ndarray] = {}
        for one in (*self.shares, *other.shares):
            row = np.array([one.boxes, one.linked, one.spots, one.returned])
            count[one.stride] = count.get(one.stride, 0) + row
        shares = (Share(stride, *count[stride].tolist()) for stride in sorted(count))
        return Support(tuple(shares), self.stretches + other.stretches)


def support(
    clips: Clips,
    width_px: Int64[np.ndarray, " images"],
    height_px: Int64[np.ndarray, " images"],
    read: Callable[[int], UInt8[np.ndarray, "height width 3"]],
    truth: Boxes | None = None,
    *,
    strides: Sequence[int] = STRIDES,
    stretches: int = STRETCHES,
    progress: Callable[[int], None] | None = None,
) -> Support:
    """The shares at every stride for which a clip is long enough.

    Args:
        clips: which image is which frame of which clip; a stride counts the frames that are there.
        width_px: of every image.
        height_px: of every image.
        read: the pixels of an image; where one cannot be read its stretch is left out.
        truth: boxes of the images.
        strides: rising.
        stretches: how many are looked at, at most.
        progress: is told 1 after every stretch.
    """
    length = np.bincount(clips.video, minlength=1).max(initial=0)
    strides = [stride for stride in strides if stride < length]
    if not strides:
        return Support((), 0)
    counts = np.zeros((len(strides), 4), np.int64)
    used = 0
    with tempfile.TemporaryDirectory() as folder:
        for start in _starts(clips, strides[-1], truth, stretches).tolist():
            found = _stretch(start, strides, (width_px, height_px), read, truth, Path(folder))
            if found is not None:
                counts, used = counts + found, used + 1
            if progress is not None:
                progress(1)
    return Support(tuple(Share(s, *row) for s, row in zip(strides, counts.tolist(), strict=True)), used)


def _starts(clips: Clips, longest: int, truth: Boxes | None, most: int) -> Int64[np.ndarray, " starts"]:
    """First images of the stretches."""
    last = np.searchsorted(clips.video, clips.video, side="right") - 1
    fits = np.arange(len(clips)) + longest <= last
    if truth is not None:
        boxes = np.diff(truth.offsets) > 0
        fits = fits & boxes if (fits & boxes).any() else fits
    starts = np.flatnonzero(fits)
    even = np.linspace(0, len(starts) - 1, min(most, len(starts))).round().astype(np.int64)
    return starts[even]


def _stretch(
    start: int,
    strides: Sequence[int],
    size: tuple[np.ndarray, np.ndarray],
    read: Callable[[int], np.ndarray],
    truth: Boxes | None,
    folder: Path,
) -> Int64[np.ndarray, "strides 4"] | None:
    """The counts at every stride from one frame on; each stride is a clip of two frames."""
    n = len(strides)
    images = np.stack([np.full(n, start), start + np.array(strides)], axis=1).reshape(-1)
    try:
        pixels = {image: read(image) for image in np.unique(images).tolist()}
    except LabelwiseError:
        return None
    names = tuple(f"{start} and {stride} on" for stride in strides)
    pairs = Clips(names, np.repeat(np.arange(n), 2), np.tile([0, 1], n), np.tile([0.0, 1.0], n))
    width, height = (side[images] for side in size)
    moving = flow.compute(2 * n, pairs, width, height, lambda i: pixels[int(images[i])], folder, cell_px=CELL_PX)
    spots = np.array([_returned(moving, 2 * k) for k in range(n)])
    spots[:, 0] = np.where(moving.joined[::2], spots[:, 0], spots[:, 0].max())  # what is not explained is lost
    found = np.concatenate([_linked(moving, images, width, height, truth), spots], axis=1)
    for path in folder.glob("*.npy"):
        path.unlink()
    return found


def _linked(
    moving: flow.Flow, images: np.ndarray, width: np.ndarray, height: np.ndarray, truth: Boxes | None
) -> Int64[np.ndarray, "strides 2"]:
    """How many boxes of the first frame are in the second by the flow, and how many of them meet one of their class."""
    pairs = len(images) // 2
    out = np.zeros((pairs, 2), np.int64)
    if truth is None:
        return out
    first = slice(truth.offsets[images[0]], truth.offsets[images[0] + 1])
    boxes, labels = truth.xyxy[first].astype(np.float32), truth.labels[first]
    n = len(boxes)
    offsets = np.concatenate([[0], np.cumsum(np.tile([n, 0], pairs))])
    tracks = follow.follow(offsets, np.tile(boxes, (pairs, 1)), moving, width, height, frames=1)
    there, moved = tracks.image[:, 1].reshape(-1, n) >= 0, tracks.boxes[:, 1].reshape(-1, n, 4)
    for k, image in enumerate(images[1::2].tolist()):
        end = slice(truth.offsets[image], truth.offsets[image + 1])
        a, b = (index.reshape(-1) for index in np.indices((n, end.stop - end.start)))
        same = there[k][a] & (labels[a] == truth.labels[end][b])
        met = same & (iou_pairs(moved[k][a], truth.xyxy[end][b]) > IOU)
        out[k] = there[k].sum() if moving.joined[2 * k] else n, len(np.unique(a[met]))
    return out


def _returned(moving: flow.Flow, image: int) -> tuple[int, int]:
    """How many spots move between an image and the next, and how many of them come back to where they began."""
    forth, back = moving.between(image).astype(np.float64) * (CELL_PX / moving.cell_px[image])
    rows, columns = forth.shape[:2]
    y, x = np.mgrid[:rows, :columns]
    to_x, to_y = np.rint(x + forth[..., 0] / CELL_PX), np.rint(y + forth[..., 1] / CELL_PX)
    inside = (to_x >= 0) & (to_x < columns) & (to_y >= 0) & (to_y < rows)
    returned = back[np.where(inside, to_y, 0).astype(np.int64), np.where(inside, to_x, 0).astype(np.int64)]
    longest = np.maximum((forth**2).sum(axis=-1), (returned**2).sum(axis=-1))
    moves = inside & (longest > MOVES_PX**2)
    both = np.maximum(SIDE_PX - abs(forth + returned), 0).prod(axis=-1)
    return int(moves.sum()), int((moves & (both > IOU * (2 * SIDE_PX**2 - both))).sum())
