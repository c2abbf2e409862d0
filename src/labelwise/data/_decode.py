"""Frames of a video file by their number, without decoding from the start each time.

`index` reads the packets of a file once, without decoding them: their times, in the order of display, and which of them
are keyframes. A `Decoder` then goes to the keyframe before the wanted frame and decodes forward from there; one that
stands a little before it goes on, so that reading in order costs one decoded frame per frame. Frames are told apart
by their time stamp, never by an assumed frame rate, so that B-frames and variable frame rates are exact.

A frame that the decoder calls broken is an error, and so are those from it to the next keyframe, which are built on
it: a smeared picture is not handed out as if it were one.

Fails when: a container stores no usable time stamps (some AVI): such a file is counted from its start each time that
it is read backwards; when damage leaves a stream that decodes without an error; when fields of interlaced
video are packets of their own (every other frame is then reported as one that can't be decoded).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from fractions import Fraction
from itertools import islice
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
from jaxtyping import Int64

from labelwise.types import LabelwiseError

RECENT_FRAMES, RECENT_BYTES = 16, 32_000_000
"""How many of its last frames a decoder keeps: threads that read in order ask for them slightly out of order."""

OPEN_S = 30.0
"""How long a video may take until it is open, and until a packet of it is read."""
MOST_PIXELS = 150_000_000
"""Of a frame."""
_LISTS = frozenset(("hls", "applehttp", "dash", "concat", "sdp", "rtsp", "tedcaptions", "imf", "image2"))
_SEEK_FRAMES = 4
"""What a seek costs, in decoded frames."""


def library() -> ModuleType:
    """PyAV, which reads the files."""
    try:
        import av
    except ImportError as error:
        raise LabelwiseError(
            "video files need PyAV, which is not installed. Install the extra: `uv sync --extra video`."
        ) from error
    return av


@dataclass(frozen=True, slots=True, eq=False)
class Index:
    """What a video file holds. `width_px`, `height_px` are as displayed, after `quarter_turns` anticlockwise.

    `pts[k]` is the time stamp of frame k, rising; `position[k]` its place among the packets; `keys` are the keyframes;
    `counted`: the file has no usable time stamps, so `pts` is 0, 1, ... and frames are counted from the start.
    `stamp`: size and time of change of the file.
    """

    path: Path
    width_px: int
    height_px: int
    quarter_turns: int
    pts: Int64[np.ndarray, " frames"]
    position: Int64[np.ndarray, " frames"]
    keys: Int64[np.ndarray, " keys"]
    time_base: Fraction
    said_frames: int
    counted: bool
    stamp: tuple[int, int]

    def __len__(self) -> int:
        return len(self.pts)

    @property
    def time_s(self) -> np.ndarray:
        """When each frame is shown, from 0; 25 a second where the file does not say."""
        if self.counted:
            return np.asarray(self.pts / 25.0)
        return np.asarray((self.pts - self.pts[0]) * float(self.time_base))

    def number(self, pts: int | None) -> int | None:
        """The frame with this time stamp."""
        if pts is None:
            return None
        k = int(np.searchsorted(self.pts, pts))
        return k if k < len(self.pts) and self.pts[k] == pts else None


def stamp(path: Path) -> tuple[int, int]:
    """Size and time of change: a file with another stamp is another file."""
    stat = path.stat()
    return stat.st_size, stat.st_mtime_ns


def index(path: Path) -> Index:
    """Reads the packets of a file, and decodes its first few frames.

    Raises:
        LabelwiseError: not a video, or none of its frames can be decoded.
    """
    av = library()
    try:
        pts, keys, time_base, said = _packets(path)
        first = list(islice(_all_frames(path), 8))
    except (av.FFmpegError, OSError, ValueError) as error:
        raise _unreadable(path, str(error) or type(error).__name__) from error
    if not pts or not first:
        raise _unreadable(path, "none of its frames can be decoded" if pts else "no frame in it")
    turns = round(first[0].rotation / 90) % 4
    width, height = (first[0].width, first[0].height)[:: -1 if turns % 2 else 1]
    known = [p for p in pts if p is not None]
    shown = [-1 if frame.pts is None else frame.pts for frame in first]
    counted = len(set(known)) < len(pts) or sorted(set(shown)) != shown
    if counted:
        stamps = position = np.arange(sum(1 for _ in _all_frames(path)))
        key = np.zeros(1, np.int64)
    else:
        position = np.argsort(np.array(known), kind="stable")
        stamps, key = np.array(known)[position], np.flatnonzero(np.array(keys)[position])
    columns = stamps.astype(np.int64), position.astype(np.int64), key.astype(np.int64)
    return Index(path, width, height, turns, *columns, time_base, said, counted, stamp(path))


def _packets(path: Path) -> tuple[list[int | None], list[bool], Fraction, int]:
    """(time stamps, which are keyframes, unit of time, number of frames by the container), in the order of decoding."""
    av = library()
    found: list[tuple[int | None, bool, bool]] = []
    with _open(path) as container:
        stream = _stream(container, path)
        hidden = _vp8_hidden if stream.codec_context.name in ("vp8", "libvpx") else lambda _: False
        try:
            for packet in container.demux(stream):
                if packet.size and not packet.is_discard and not hidden(packet):
                    found.append((packet.pts, packet.is_keyframe, packet.is_corrupt))
        except av.FFmpegError:  # the file breaks off: what came before it counts
            if not found:
                raise
        while found and found[-1][2]:
            found.pop()
        return (
            [p for p, _, _ in found],
            [k for _, k, _ in found],
            stream.time_base or Fraction(1, 25),
            int(stream.frames),
        )


def _vp8_hidden(packet: Any) -> bool:
    """VP8 stores frames that are never shown as packets of their own (RFC 6386, section 9.1: show_frame)."""
    return not bytes(packet)[0] >> 4 & 1


def _open(path: Path) -> Any:
    """The container; a list of other places (a playlist) is not followed."""
    container = library().open(str(path), options={"protocol_whitelist": "file"}, timeout=OPEN_S)
    if set(container.format.name.split(",")) & _LISTS:
        container.close()
        raise _unreadable(path, f"it is a list of files ({container.format.name}), not a video")
    return container


def _stream(container: Any, path: Path) -> Any:
    stream = container.streams.best("video")
    if stream is None:
        raise _unreadable(path, "it has no video stream")
    if stream.codec_context is None:
        raise _unreadable(path, "nothing here decodes its kind of video")
    stream.codec_context.thread_count = 1  # an error then belongs to the packet that it came with
    stream.codec_context.options = {"err_detect": "explode", "max_pixels": str(MOST_PIXELS)}
    return stream


def _all_frames(path: Path) -> Iterator[Any]:
    av = library()
    with _open(path) as container:
        for packet in container.demux(_stream(container, path)):
            try:
                frames = packet.decode()
            except av.FFmpegError:
                continue
            yield from frames


def _unreadable(path: Path, what: str) -> LabelwiseError:
    return LabelwiseError(f"{path}: video can't be read ({what}). Replace the file, or remove it from the data set.")


class Decoder:
    """One open video. Not for several threads at once."""

    def __init__(self, index: Index) -> None:
        self.index = index
        self.recent: deque[tuple[int, Any]] = deque()
        self._open()

    def read(self, k: int, passed: Callable[[int, Any], None] | None = None) -> Any:
        """Frame k as a `VideoFrame`; `passed` is told of every good frame on the way.

        Raises:
            LabelwiseError: the frame can't be decoded.
        """
        for number, frame in self.recent:
            if number == k:
                return frame
        keys = self.index.keys
        before = int(np.searchsorted(keys, k, side="right")) - 1
        # an open group of pictures, or a container that seeks loosely, may need the keyframe before that
        starts = (
            list(dict.fromkeys([int(keys[max(0, before - back)]) for back in (0, 1)] + [0])) if before >= 0 else [0]
        )
        if self.at < k and k - self.at <= k - starts[0] + _SEEK_FRAMES:
            found = self._forward(k, passed)
            if found is not None:
                return found
        for start in starts:
            self._seek(start)
            found = self._forward(k, passed)
            if found is not None:
                return found
        where = f"{self.index.path}: frame {k} of {len(self.index)}"
        raise LabelwiseError(
            f"{where} can't be decoded: the file is damaged there. Replace it, or leave the frame out."
        )

    def _open(self) -> None:
        av, path = library(), self.index.path
        try:
            if stamp(path) != self.index.stamp:
                raise LabelwiseError(f"{path}: the video has changed since it was read. Read the data set anew.")
            self.container = _open(path)
        except (av.FFmpegError, OSError) as error:
            raise _unreadable(path, str(error)) from error
        self.stream = _stream(self.container, path)
        self._begin()

    def _begin(self) -> None:
        self.at = -1
        self.frames = self._decoded()

    def _seek(self, start: int) -> None:
        if start == 0 or self.index.counted:
            self._open()
            return
        try:
            self.container.seek(int(self.index.pts[start]), stream=self.stream, backward=True)
        except library().FFmpegError:
            self._open()
        self._begin()

    def _forward(self, k: int, passed: Callable[[int, Any], None] | None) -> Any:
        for number, frame in self.frames:
            self.at = number
            most = min(RECENT_FRAMES, 1 + RECENT_BYTES // sum(plane.buffer_size for plane in frame.planes))
            self.recent.append((number, frame))
            while len(self.recent) > most:
                self.recent.popleft()
            if number == k:
                return frame
            if number > k:
                return None
            if passed is not None:
                passed(number, frame)
        self.at = len(self.index)  # the end: only a seek leads anywhere
        return None

    def _decoded(self) -> Iterator[tuple[int, Any]]:
        """(number, frame) from here on, without those that are broken or built on broken ones."""
        av, index = library(), self.index
        count = 0
        started, first, bad = index.counted, 0, range(0)
        try:
            for packet in self.container.demux(self.stream):
                if packet.size and not started:
                    if not packet.is_keyframe:
                        continue
                    started, first = True, index.number(packet.pts) or 0
                try:
                    frames = packet.decode()
                except av.FFmpegError:
                    bad = self._built_on(packet.pts)
                    continue
                for frame in frames:
                    number = count if index.counted else index.number(frame.pts)
                    count += 1
                    # frames shown before the first keyframe may need what stands before it
                    if number is None or number < first or number >= len(index) or frame.is_corrupt:
                        continue
                    if index.counted or int(index.position[number]) not in bad:
                        yield number, frame
        except av.FFmpegError:  # the file breaks off
            return

    def _built_on(self, pts: int | None) -> range:
        """Positions of the packets from this one to the next keyframe."""
        number = None if self.index.counted else self.index.number(pts)
        if number is None:
            return range(0)
        position = int(self.index.position[number])
        later = self.index.position[self.index.keys]
        later = later[later > position]
        return range(position, int(later.min()) if len(later) else len(self.index))
