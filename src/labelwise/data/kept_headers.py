"""Headers of images on disk: an image whose file is as it was is not opened again to learn its size.

They are kept in a folder, a file for each root of data, and count where size and both times of an image's file (of its
content, of its entry) are those of then. A file of this cache that is damaged, or of another Pillow, counts as not
there; one that cannot be written is not. Of images that changed within the last seconds nothing is kept: a file system
may give the next change the same time.

Fails when: a file changes and its size and both times do not.
"""

from __future__ import annotations

import hashlib
import json
import time
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from pathlib import Path

import PIL

from labelwise.data import image_reader, image_store
from labelwise.data.image_reader import Header
from labelwise.types.disk import temporary

_VERSION = f"1 {PIL.__version__}"
_FRESH_NS = 2_000_000_000
_Stamp = tuple[int, int, int]


class KeptHeaders:
    """The headers of the images below a root. Threads may share it."""

    def __init__(self, root: Path, folder: Path) -> None:
        self.root = root
        self.file = folder / f"{hashlib.sha256(str(root.resolve()).encode()).hexdigest()[:16]}.json"
        self._known = _load(self.file)
        self._mirror = image_store.of(root / "image")
        self._fresh = False

    def probe(self, name: str) -> Header:
        """`image_reader.probe` of an image below the root."""
        path = self.root / name
        stamp = self._stamp(path)
        if stamp is None:
            return image_reader.probe(path)  # which says what is wrong
        known = self._known.get(name)
        if known is not None and known[0] == stamp:
            return known[1]
        header = image_reader.probe(path)
        if time.time_ns() - max(stamp[1:]) > _FRESH_NS:
            self._known[name] = stamp, header
            self._fresh = True
        return header

    def _stamp(self, path: Path) -> _Stamp | None:
        if self._mirror is not None:
            status = self._mirror.status(path)
            return None if status is None else (*status, 0)
        try:
            stat = path.stat()
        except (OSError, ValueError):
            return None
        return stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns

    def write(self) -> None:
        """Keeps what is new. What a crash cuts short does no harm, so nothing is forced to the disk."""
        if not self._fresh:
            return
        columns = [[name, *stamp, *header] for name, (stamp, header) in self._known.items()]
        body = json.dumps([list(column) for column in zip(*columns, strict=True)], separators=(",", ":")).encode()
        partial = temporary(self.file)
        with suppress(OSError):
            try:
                self.file.parent.mkdir(parents=True, exist_ok=True)
                partial.write_bytes(_head(body) + body)
                partial.replace(self.file)
            finally:
                partial.unlink(missing_ok=True)


def _head(body: bytes) -> bytes:
    return f"{_VERSION} {zlib.crc32(body)}\n".encode()


def _load(file: Path) -> dict[str, tuple[_Stamp, Header]]:
    try:
        head, _, body = file.read_bytes().partition(b"\n")
        if head + b"\n" != _head(body):
            return {}
        names, size, changed, entered, width, height, flags, turn = json.loads(body)
    except (OSError, ValueError):
        return {}
    stamps = zip(size, changed, entered, strict=True)
    headers = map(Header, width, height, map(tuple, flags), turn)
    return dict(zip(names, zip(stamps, headers, strict=True), strict=True))


@contextmanager
def kept_in(folder: Path) -> Iterator[None]:
    """While it lasts headers are looked up in a folder first; when it ends well, new ones are kept there."""
    here: dict[Path, KeptHeaders] = {}
    token = _HERE.set((folder, here))
    try:
        yield
    finally:
        _HERE.reset(token)
    for one in here.values():
        one.write()


_HERE: ContextVar[tuple[Path, dict[Path, KeptHeaders]] | None] = ContextVar("kept headers", default=None)


def probe_below(root: Path) -> Callable[[str], Header]:
    """What gives the header of an image by its name below a root: by those that are kept, where there are such."""
    if (where := _HERE.get()) is None:
        return lambda name: image_reader.probe(root / name)
    folder, here = where
    if root not in here:
        here[root] = KeptHeaders(root, folder)
    return here[root].probe
