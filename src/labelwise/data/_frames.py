"""The pixels of a pool of videos: image number in, RGB out, for many threads at once."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Int64, UInt8

from labelwise.data._decode import Decoder, Index
from labelwise.data._kept import Kept, rgb
from labelwise.types import LabelwiseError, Pool

OPEN_VIDEOS = 8
"""Videos held open at once; the one used longest ago closes first."""


@dataclass
class _Slot:
    """A video that is open, or about to be; one thread at a time uses it."""

    lock: threading.Lock = field(default_factory=threading.Lock)
    decoder: Decoder | None = None


class _Shared:
    """What a pool and the parts taken from it have in common: open videos, kept frames, broken frames."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.slots: OrderedDict[Path, _Slot] = OrderedDict()
        self.broken: dict[tuple[Path, int], str] = {}
        self.kept: Kept | None = None
        self.keep_passed = False

    def slot(self, path: Path) -> _Slot:
        with self.lock:
            slot = self.slots.setdefault(path, _Slot())
            self.slots.move_to_end(path)
            while len(self.slots) > OPEN_VIDEOS:
                self.slots.popitem(last=False)  # a thread that is reading it ends in peace
            return slot

    def keep(self, index: Index, frame: int, picture: Any) -> None:
        """Keeps a decoded frame on disk; where the disk does not take it, no more frames are kept."""
        if self.kept is not None:
            try:
                self.kept.keep(index, frame, picture)
            except OSError:
                self.kept = None


class Frames:
    """`Pool.frames` of a pool of video files: `frames(i)` is image i, RGB as displayed.

    A frame is decoded from the keyframe before it, or from where the last reader of its video stands. `keep_in` keeps
    decoded frames on disk.
    """

    def __init__(
        self,
        videos: Sequence[Index],
        video: Int64[np.ndarray, " images"],
        frame: Int64[np.ndarray, " images"],
        shared: _Shared | None = None,
    ) -> None:
        self.videos, self.video, self.frame = tuple(videos), video, frame
        self._shared = shared or _Shared()

    def __len__(self) -> int:
        return len(self.video)

    def __call__(self, image: int) -> UInt8[np.ndarray, "height width 3"]:
        index, k = self.videos[self.video[image]], int(self.frame[image])
        return np.ascontiguousarray(np.rot90(rgb(self._picture(index, k)), index.quarter_turns))

    def keep_in(self, folder: Path, most_bytes: int, *, passed: bool = False) -> None:
        """From now on, keep the frames that are decoded in `folder`, without loss, in at most `most_bytes`.

        `passed`: also those that are decoded on the way to the one that is asked for; pays where single frames are read
        in no order, several times.
        """
        self._shared.kept, self._shared.keep_passed = Kept(folder, most_bytes), passed

    def take(self, images: np.ndarray) -> Frames:
        """Of these images alone; open videos and kept frames are shared."""
        return Frames(self.videos, self.video[images], self.frame[images], self._shared)

    @staticmethod
    def join_frames(parts: Sequence[Frames]) -> Frames:
        """Of several pools one after another; frames are kept where the first keeps them."""
        starts = np.cumsum([0, *(len(part.videos) for part in parts)])
        video = [part.video + start for part, start in zip(parts, starts[:-1], strict=True)]
        videos = [index for part in parts for index in part.videos]
        return Frames(videos, np.concatenate(video), np.concatenate([p.frame for p in parts]), parts[0]._shared)

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        kept = self._shared.kept
        where = None if kept is None else (kept.folder, kept.most_bytes, self._shared.keep_passed)
        return _again, (self.videos, self.video, self.frame, where)

    def _picture(self, index: Index, k: int) -> Any:
        shared, key = self._shared, (index.path, k)
        kept = shared.kept
        if key in shared.broken:
            raise LabelwiseError(shared.broken[key])
        picture = None if kept is None else kept.load(index, k)
        if picture is not None:
            return picture
        passed = None
        if kept is not None and shared.keep_passed:

            def passed(number: int, other: Any) -> None:
                shared.keep(index, number, other)

        slot = shared.slot(index.path)
        with slot.lock:
            try:
                slot.decoder = slot.decoder or Decoder(index)
                picture = slot.decoder.read(k, passed)
            except LabelwiseError as error:
                shared.broken[key] = str(error)
                raise
        shared.keep(index, k, picture)
        return picture


def _again(videos: Sequence[Index], video: np.ndarray, frame: np.ndarray, where: Any) -> Frames:
    """In another process: with its own open videos, and the same kept frames."""
    frames = Frames(videos, video, frame)
    if where is not None:
        frames.keep_in(where[0], where[1], passed=where[2])
    return frames


def read_once(pool: Pool) -> Pool:
    """The pool for who reads its films once, from their beginning to their end: no frame of theirs is kept on disk.

    To keep one takes 5 ms, to decode the next 0.5 ms (640 x 512 px).
    """
    if not isinstance(pool.frames, Frames):
        return pool
    return replace(pool, frames=Frames(pool.frames.videos, pool.frames.video, pool.frames.frame))


def taken(frames: Callable[[int], np.ndarray], images: np.ndarray) -> Callable[[int], np.ndarray]:
    """Any pool's frames, of these images alone."""
    if isinstance(frames, Frames):
        return frames.take(images)
    return lambda image: frames(int(images[image]))


def join_frames(parts: Sequence[tuple[Callable[[int], np.ndarray], int]]) -> Callable[[int], np.ndarray]:
    """The frames of any pools one after another, each with how many images it has."""
    own = [frames for frames, _ in parts if isinstance(frames, Frames)]
    if len(own) == len(parts):
        return Frames.join_frames(own)
    starts = np.cumsum([0, *(count for _, count in parts)])

    def read(image: int) -> np.ndarray:
        part = int(np.searchsorted(starts, image, side="right")) - 1
        return parts[part][0](int(image - starts[part]))

    return read
