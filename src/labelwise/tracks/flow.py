"""Dense optical flow between the consecutive images of a pool's clips, computed once, kept as a grid on disk; pixels.

Source: 001, section 2.3.2, "Object tracker": "a dense 2D real-valued vector map of the motions between all pairs of
consecutive frames in the dataset"; section 2.6.1: "the motion vectors are computed once at the beginning".
Differs from the paper: it uses PWC-Net. The default here is OpenCV's DIS (Kroeger et al., 2016), which needs no weights
and no GPU; `raft_small` and `raft_large` (torchvision) work from a file of weights. Its preset `ultrafast` moved boxes
of small objects better than `fast`, whose variational refinement smooths their motion into the still sky around them,
at 60 % of the time (benchmarks/flow.py; not measured before textured backgrounds). The flow is computed on images
scaled so that the longest side has `flow_px` pixels, and reduced to one vector per cell of `cell_px` x `cell_px` of
these, the mean of the cell (its median or its middle pixel track no better). Both directions are computed: backward is
no inversion of forward.
Fails when: there is nothing to see (plain sky: the flow there is about zero), at occlusions, or where an object moves
by several times its own size between two frames.

A cut in the middle of a clip ends a shot, `joined` is False there (rule: `_shots.py`); so it is where the sizes of two
images differ, where one cannot be read, and at a clip's end. Frames that are missing between two images of a clip
(gaps in `Clips.frame`) do not end a shot: the flow spans the gap.

One `.npy` file per clip, its name a hash of the settings and of the clip (name, frame numbers, sizes): a row per image
(`record`), memory-mapped when opened. A file appears whole or not at all, so a killed run goes on with the next clip.
The row of a frame that is not `wanted` is zeros, a hole in the file that takes no disk. The pixels are not part of the
name, `stamps` are: without them, flow of other frames of these names is taken for this.
"""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any, get_args

import numpy as np
from filelock import FileLock
from jaxtyping import Bool, Float, Float16, Float64, Int64

from labelwise.tracks._engines import Between, Pixels, Prepare, Preset, dis, one_opencv_thread, opencv, raft
from labelwise.tracks._shots import CUT, change
from labelwise.tracks._tables import load, record, write
from labelwise.types import Clips, LabelwiseError, Problem
from labelwise.types.disk import remove_leftovers

FORMAT = 2
"""Part of every file's name: rises when the meaning of a file changes."""

SMALLEST = 16
"""Least side, in pixels, of the image that the flow is computed on, and a 16th of the longest: DIS needs both."""


@dataclass(frozen=True, slots=True, eq=False)
class Flow:
    """The flow of a pool: per clip a table with a row per image (`_tables.record`), and how its cells lie in the image.

    `parts[c]` is the table of the images `starts[c]:starts[c + 1]`, or its file. `joined[i]`: image i and i + 1 are of
    one shot. `cell_px[i]` is the width and height of a cell of image i in its own pixels; `grid[i]` how many columns
    and rows of cells it has.
    """

    parts: tuple[np.ndarray | Path, ...]
    starts: Int64[np.ndarray, " clips+1"]
    joined: Bool[np.ndarray, " images"]
    cell_px: Float64[np.ndarray, "images 2"]
    grid: Int64[np.ndarray, "images 2"]
    problems: tuple[Problem, ...] = ()

    def clips(self) -> Iterator[tuple[int, int, int]]:
        """Every clip's number, its first image and the one after its last."""
        for clip, (first, end) in enumerate(pairwise(self.starts.tolist())):
            yield clip, first, end

    def table(self, clip: int) -> np.ndarray:
        """A clip's table; a file is opened now and not before (a process may hold few open)."""
        part = self.parts[clip]
        if isinstance(part, np.ndarray):
            return part
        table = load(part)
        if table is None:
            raise LabelwiseError(f"{part} is missing or damaged: compute the flow of the pool again")
        return table

    def between(self, image: int) -> Float16[np.ndarray, "2 rows columns 2"]:
        """The motion (x, y) from an image to the next, and from the next to it, per cell, in the image's pixels."""
        clip = int(np.searchsorted(self.starts, image, side="right")) - 1
        columns, rows = self.grid[image]
        flow: np.ndarray = self.table(clip)["flow"][image - self.starts[clip], :, :rows, :columns]
        return flow


@dataclass(frozen=True, slots=True)
class _Settings:
    """What names a file beside the clip, and the sizes that follow from it."""

    preset: Preset
    flow_px: int
    cell_px: int
    weights: Path | None

    def __post_init__(self) -> None:
        if self.preset not in get_args(Preset):
            raise LabelwiseError(f"preset: {self.preset!r} is none of {', '.join(get_args(Preset))}")
        for name in ("flow_px", "cell_px"):
            if getattr(self, name) < (SMALLEST if name == "flow_px" else 1):
                raise LabelwiseError(f"{name}: {getattr(self, name)} is too small; the defaults are 640 and 8")
        if self.preset.startswith("raft") != (self.weights is not None):
            raise LabelwiseError(
                f"weights: preset {self.preset!r} with {self.weights}; give a file of torchvision's weights to "
                "raft_small and raft_large, and none to the presets of DIS (ultrafast, fast, medium)"
            )

    def size(self, width: int, height: int) -> tuple[int, int]:
        """Width and height of the image that the flow is computed on."""
        scale, least = self.flow_px / max(width, height), max(SMALLEST, self.flow_px // 16)
        return max(least, round(width * scale)), max(least, round(height * scale))

    def grid(self, width: int, height: int) -> tuple[int, int]:
        """Columns and rows of cells."""
        w, h = self.size(width, height)
        return -(-w // self.cell_px), -(-h // self.cell_px)

    def name(
        self, clip: Clips, sizes: np.ndarray, stamps: Sequence[str], weights: str, wanted: Bool[np.ndarray, " n"]
    ) -> str:
        """The name of a clip's file."""
        how = [FORMAT, self.preset, weights, self.flow_px, self.cell_px]
        key = [*how, clip.names[0], clip.frame.tolist(), sizes.tolist(), list(stamps)]
        key += [] if wanted.all() else [np.flatnonzero(wanted).tolist()]
        return hashlib.sha256(json.dumps(key).encode()).hexdigest()[:32] + ".npy"


def compute(
    pool_size: int,
    clips: Clips,
    width_px: Int64[np.ndarray, " images"],
    height_px: Int64[np.ndarray, " images"],
    read: Callable[[int], Pixels],
    folder: Path,
    *,
    preset: Preset = "ultrafast",
    flow_px: int = 640,
    cell_px: int = 8,
    weights: Path | None = None,
    wanted: Bool[np.ndarray, " images"] | None = None,
    stamps: Sequence[str] = (),
    device: str = "cpu",
    threads: int = 2,
    progress: Callable[[int], None] | None = None,
) -> Flow:
    """Computes the flow of every clip that `folder` does not hold yet, and opens it.

    Args:
        pool_size: how many images there are, as in `clips`.
        clips: which image is which frame of which clip.
        width_px: of every image.
        height_px: of every image.
        read: the pixels of an image; called in order within a clip, from several threads. A frame for which it raises
            `LabelwiseError` is joined to neither neighbour and becomes a problem of the result.
        folder: where the files are; made if it is missing.
        preset: of DIS, from the fastest to the most exact; or RAFT, which needs `weights`.
        flow_px: longest side of the image on which the flow is computed.
        cell_px: side of a cell, in pixels of that image.
        weights: a file of torchvision's weights for RAFT.
        wanted: the images between which flow is wanted; the others are not read and joined to none. None: all.
        stamps: of every image what tells it from others of the same name, such as its file's size and time; part of
            the name of the clip's file, so that flow of other pixels is not taken for this.
        device: where RAFT runs.
        threads: clips at a time.
        progress: is told how many more images are done.
    """
    if pool_size != len(clips):
        raise LabelwiseError(f"clips: {len(clips)} images, but the pool has {pool_size}; pass the clips of the pool")
    settings = _Settings(preset, flow_px, cell_px, weights)
    lock = threading.Lock()
    shared = None if weights is None else raft(preset, weights, device)

    def done(images: int) -> None:
        with lock:
            if progress is not None:
                progress(images)

    def one(clip: Clips, first: int, path: Path, looked_at: Bool[np.ndarray, " n"]) -> None:
        sizes = np.stack([width_px, height_px], axis=1)[first : first + len(clip)]
        if load(path, _dtype(settings, sizes), len(clip)) is not None:
            done(len(clip))
            return
        prepare, between = shared or dis(preset)
        rows = _rows(settings, sizes, looked_at, lambda i: read(first + i), prepare, between, done)
        write(path, rows, len(clip))

    folder.mkdir(parents=True, exist_ok=True)
    items = list(_files(folder, clips, width_px, height_px, settings, stamps, wanted))
    # one process at a time: runs that begin together on one pool share the work of the first
    with FileLock(folder / "lock"), one_opencv_thread(), ThreadPoolExecutor(max_workers=max(1, threads)) as pool:
        remove_leftovers(folder, below=False, idle_s=3600)  # a file that nobody has written to for an hour is nobody's
        jobs = [pool.submit(one, *item) for item in items]
        try:
            for job in jobs:
                job.result()
        finally:
            for job in jobs:
                job.cancel()
    how: dict[str, Any] = {"preset": preset, "flow_px": flow_px, "cell_px": cell_px, "weights": weights}
    return open_flow(folder, clips, width_px, height_px, **how, wanted=wanted, stamps=stamps)


def open_flow(
    folder: Path,
    clips: Clips,
    width_px: Int64[np.ndarray, " images"],
    height_px: Int64[np.ndarray, " images"],
    *,
    preset: Preset = "ultrafast",
    flow_px: int = 640,
    cell_px: int = 8,
    weights: Path | None = None,
    wanted: Bool[np.ndarray, " images"] | None = None,
    stamps: Sequence[str] = (),
) -> Flow:
    """The flow that `compute` wrote with the same settings, memory-mapped."""
    settings = _Settings(preset, flow_px, cell_px, weights)
    sizes = np.stack([width_px, height_px], axis=1)
    parts: list[Path] = []
    problems: list[Problem] = []
    starts = [0]
    joined = np.zeros(len(clips), bool)
    for clip, first, path, looked_at in _files(folder, clips, width_px, height_px, settings, stamps, wanted):
        rows = slice(first, first + len(clip))
        part = load(path, _dtype(settings, sizes[rows]), len(clip))
        if part is None:
            raise LabelwiseError(
                f"{folder}: there is no flow of the clip {clip.names[0]} with preset {preset}, flow_px {flow_px}, "
                f"cell_px {cell_px} (or its file {path.name} is damaged); compute the flow of the pool again"
            )
        parts.append(path)
        joined[rows] = part["joined"]
        problems += _problems(clip, part, looked_at)
        starts.append(rows.stop)
    each, which = np.unique(sizes, axis=0, return_inverse=True)
    which = which.reshape(-1)
    flow_size = np.array([settings.size(int(w), int(h)) for w, h in each]).reshape(-1, 2)[which]
    grid = np.array([settings.grid(int(w), int(h)) for w, h in each], np.int64).reshape(-1, 2)[which]
    return Flow(tuple(parts), np.array(starts, np.int64), joined, sizes * cell_px / flow_size, grid, tuple(problems))


def _files(
    folder: Path,
    clips: Clips,
    width_px: np.ndarray,
    height_px: np.ndarray,
    settings: _Settings,
    stamps: Sequence[str],
    wanted: Bool[np.ndarray, " images"] | None,
) -> Iterator[tuple[Clips, int, Path, Bool[np.ndarray, " n"]]]:
    """Every clip by itself, its first image, its file, and which of its images are looked at."""
    weights = "" if settings.weights is None else hashlib.sha256(settings.weights.read_bytes()).hexdigest()
    sizes = np.stack([width_px, height_px], axis=1)
    first = np.flatnonzero(np.diff(clips.video, prepend=-1))
    for start, end in pairwise([*first.tolist(), len(clips)]):
        frame = clips.frame[start:end]
        clip = Clips((clips.names[clips.video[start]],), np.zeros(len(frame), np.int64), frame, clips.time_s[start:end])
        looked_at = np.ones(len(clip), np.bool_) if wanted is None else wanted[start:end]
        name = settings.name(clip, sizes[start:end], stamps[start:end], weights, looked_at)
        yield clip, int(start), folder / name, looked_at


def _dtype(settings: _Settings, sizes: np.ndarray) -> np.dtype[np.void]:
    """The columns of a clip's table; its grid is the largest of its images'."""
    grids = np.array([settings.grid(int(w), int(h)) for w, h in np.unique(sizes, axis=0)])
    columns, rows = grids.max(axis=0)
    return record(int(rows), int(columns))


def _rows(
    settings: _Settings,
    sizes: np.ndarray,
    looked_at: Bool[np.ndarray, " n"],
    read: Callable[[int], Pixels],
    prepare: Prepare,
    between: Between,
    done: Callable[[int], None],
) -> Iterator[np.ndarray]:
    """The table of a clip, row by row: a row is complete when the next image is read; of an image that is not looked at
    it is all zeros.
    """
    cv2 = opencv()

    dtype = _dtype(settings, sizes)
    before: tuple[Any, np.ndarray] | None = None
    row = np.zeros((), dtype)
    for i, (width, height) in enumerate(sizes.tolist()):
        try:
            pixels = read(i) if looked_at[i] else None
        except LabelwiseError:  # any other error ends the run: what passes by must not be kept
            pixels = None
        now = None
        if pixels is not None and pixels.shape == (height, width, 3):
            w, h = settings.size(width, height)
            small = cv2.resize(pixels, settings.grid(width, height), interpolation=cv2.INTER_AREA)
            now = prepare(pixels, (w, h)), small
        if i:
            if before is not None and now is not None and (sizes[i] == sizes[i - 1]).all():
                both = np.stack([between(before[0], now[0]), between(now[0], before[0])])
                cells = np.stack([_reduce(flow, settings.cell_px) for flow in both])
                row["change"] = change(before[1], now[1], cells[0] / settings.cell_px)
                row["joined"] = row["change"] < CUT
                if row["joined"]:
                    row["flow"][:, : cells.shape[1], : cells.shape[2]] = cells * [width / w, height / h]
            yield row
        row = np.zeros((), dtype)
        row["change"], row["readable"] = -1 if looked_at[i] else 0, now is not None
        before = now
        done(1)
    yield row


def _reduce(flow: Float[np.ndarray, "h w 2"], cell_px: int) -> Float[np.ndarray, "rows columns 2"]:
    """The mean of every cell; a cell that reaches over the edge takes the edge's vectors there."""
    cv2 = opencv()

    h, w = flow.shape[:2]
    rows, columns = -(-h // cell_px), -(-w // cell_px)
    if (rows * cell_px, columns * cell_px) != (h, w):
        flow = cv2.copyMakeBorder(flow, 0, rows * cell_px - h, 0, columns * cell_px - w, cv2.BORDER_REPLICATE)
    mean: np.ndarray = cv2.resize(flow, (columns, rows), interpolation=cv2.INTER_AREA)
    return mean


def _problems(clip: Clips, part: np.ndarray, looked_at: Bool[np.ndarray, " n"]) -> Iterator[Problem]:
    """The frames of a clip that could not be read, and its cuts."""
    where = [f"{clip.names[0]} frame {frame}" for frame in clip.frame.tolist()]
    for i in np.flatnonzero(looked_at & ~part["readable"]).tolist():
        yield Problem(
            "unreadable frame", where[i], "cannot be read, or has another size than the pool says", "not tracked"
        )
    for i in np.flatnonzero(looked_at & ~part["joined"] & (part["change"] >= 0)).tolist():
        what = f"a cut: the motion leaves {part['change'][i]:.2f} of the next frame unexplained"
        yield Problem("cut", where[i], what, "tracks end there")
