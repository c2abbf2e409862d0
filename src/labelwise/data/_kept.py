"""Decoded frames on disk, within a budget: a frame asked for again is one small file to read.

Frames are kept without loss (FFV1, the archivists' codec), so that what a method sees never depends on whether a frame
was kept. On 36 frames of drone_video_dev (640x512) a frame takes 47 kB, and 5 ms to write or read; as JPEG of
quality 95 (4:4:4) 48 kB, 5 ms and 3 ms, and it is off by 0.5 of 255 on average and by up to 14.

Several processes may share a folder: writing and the counting of bytes stand under a lock, which ends with its process.
The count is raised before a file is put there under its name in one step, so that a kill makes it too high and never
too low; when the budget is reached the files are counted anew and the least recently used go. Every file ends with a
checksum; one that is damaged counts as not there.

Fails when: the clock is set back (then the wrong frames go first).
"""

from __future__ import annotations

import hashlib
import json
import os
import threading
import zlib
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
from filelock import FileLock
from jaxtyping import UInt8

from labelwise.data._decode import Index, library
from labelwise.types import LabelwiseError

_PLANAR = ("yuv420p", "yuv422p", "yuv444p")
"""Formats that are kept as the decoder gives them; frames of all others as RGB, which takes twice the space or more."""

_BLOCK = 4096
_AFTER_TRIM = 0.9


class Kept:
    """The folder. Threads and processes may share it."""

    def __init__(self, folder: Path, most_bytes: int) -> None:
        if most_bytes < 1:
            raise LabelwiseError(f"kept frames: most_bytes is {most_bytes}; expected at least 1")
        self.folder, self.most_bytes = folder, most_bytes
        self._planar: dict[Path, bool] = {}
        folder.mkdir(parents=True, exist_ok=True)
        self._process = FileLock(folder / "lock")
        self._thread = threading.Lock()  # a FileLock lets the threads of one process in together

    def load(self, index: Index, frame: int) -> Any:
        """The frame as a `VideoFrame`, None where it is not kept."""
        path = self._path(index, frame)
        try:
            content = path.read_bytes()
            os.utime(path)  # now used
        except OSError:
            return None
        if len(content) < 4 or zlib.crc32(content[:-4]) != int.from_bytes(content[-4:], "big"):
            return None
        return _unpacked(content[:-4])

    def keep(self, index: Index, frame: int, picture: Any) -> None:
        """Keep a decoded frame, if it is not kept."""
        path = self._path(index, frame)
        if not path.exists():
            content = self._packed(index.path, picture)
            self._put(path, content + zlib.crc32(content).to_bytes(4, "big"))

    def size_bytes(self) -> int:
        """What all files take."""
        return sum(size for _, size, _ in self._files())

    def _path(self, index: Index, frame: int) -> Path:
        said = f"{index.path.resolve()}|{index.stamp}|{index.counted}"
        return self.folder / hashlib.sha256(said.encode()).hexdigest()[:24] / f"{frame:07d}.ffv1"

    def _packed(self, path: Path, picture: Any) -> bytes:
        """Planes as they are, unless that is not exact for this video: colours may need what FFV1 does not store."""
        plain = picture.format.name in _PLANAR and picture.width % 2 == picture.height % 2 == 0
        if not plain or picture.interlaced_frame or not self._planar.get(path, True):
            return _packed(picture, planar=False)
        content = _packed(picture, planar=True)
        if path not in self._planar:
            self._planar[path] = bool((rgb(_unpacked(content)) == rgb(picture)).all())
        return content if self._planar[path] else _packed(picture, planar=False)

    def _put(self, path: Path, content: bytes) -> None:
        size, counter = _on_disk(len(content)), self.folder / "bytes"
        if size > self.most_bytes:
            return
        with self._thread, self._process:
            if path.exists():
                return
            try:
                total = int(counter.read_text())
            except (OSError, ValueError):
                total = self.size_bytes()
            if total + size > self.most_bytes:
                total = self._trim(size)
            path.parent.mkdir(exist_ok=True)
            # not by `types.disk`: a cache forces nothing to the disk, and the sum in a file tells what was cut short
            for target, what in ((counter, str(total + size).encode()), (path, content)):
                temporary = target.with_suffix(".tmp")
                temporary.write_bytes(what)
                temporary.replace(target)

    def _trim(self, extra: int) -> int:
        """Removes the least recently used until there is room; returns what is left. Under the lock."""
        files = sorted(self._files(), key=lambda file: (file[2].suffix != ".tmp", file[0]))
        left = sum(size for _, size, _ in files)
        for _, size, path in files:
            # nobody writes now: a temporary file is what a killed process left
            if path.suffix != ".tmp" and left + extra <= max(extra, _AFTER_TRIM * self.most_bytes):
                break
            path.unlink(missing_ok=True)
            left -= size
        return left

    def _files(self) -> list[tuple[float, int, Path]]:
        """(time of use, bytes, path) of every frame."""
        found = []
        for place in (entry.path for entry in os.scandir(self.folder) if entry.is_dir()):
            for entry in os.scandir(place):
                try:
                    stat = entry.stat()
                except OSError:  # another process removed it
                    continue
                found.append((stat.st_mtime, _on_disk(stat.st_size), Path(entry.path)))
        return found


def _on_disk(size: int) -> int:
    return -(-size // _BLOCK) * _BLOCK


def _packed(picture: Any, *, planar: bool) -> bytes:
    av = library()
    if planar:  # a copy: the encoder writes into the frame's fields
        frame = av.VideoFrame.from_ndarray(picture.to_ndarray(), format=picture.format.name)
    else:
        frame = av.VideoFrame.from_ndarray(rgb(picture), format="rgb24").reformat(format="bgr0")
    frame.pts, frame.time_base = 0, Fraction(1, 25)
    encoder = av.CodecContext.create("ffv1", "w")
    encoder.width, encoder.height, encoder.pix_fmt = frame.width, frame.height, frame.format.name
    encoder.time_base, encoder.thread_count = frame.time_base, 1
    encoder.options = {"level": "1", "coder": "0", "context": "0", "g": "1"}
    body = b"".join(bytes(packet) for packet in (*encoder.encode(frame), *encoder.encode(None)))
    head = {"width": frame.width, "height": frame.height}
    if planar:
        head |= {"colorspace": int(picture.colorspace), "color_range": int(picture.color_range)}
    return json.dumps(head).encode() + b"\n" + body


def _unpacked(content: bytes) -> Any:
    av = library()
    line, _, body = content.partition(b"\n")
    head = json.loads(line)
    decoder = av.CodecContext.create("ffv1", "r")
    decoder.width, decoder.height, decoder.thread_count = head.pop("width"), head.pop("height"), 1
    frame: Any = [*decoder.decode(av.Packet(body)), *decoder.decode(None)][0]
    for name, value in head.items():
        setattr(frame, name, value)
    return frame


_TOOLS = threading.local()


def rgb(picture: Any) -> UInt8[np.ndarray, "height width 3"]:
    """Pixels of a decoded frame. Each thread has its own converter: two may want the same frame at once."""
    if not hasattr(_TOOLS, "reformatter"):
        _TOOLS.reformatter = library().video.reformatter.VideoReformatter()
    pixels: np.ndarray = _TOOLS.reformatter.reformat(picture, format="rgb24").to_ndarray()
    return pixels
