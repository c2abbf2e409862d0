"""Images of an object store (`s3://`, `gs://`, `https://`: whatever fsspec opens), read one at a time and kept on disk
while there is room.

A *mirror* is a folder that stands for a data set whose images lie elsewhere: `mirror.make` fills it with the annotation
files, so that every reader reads as ever, and with a list of the images, `.store.sqlite`. The path of an image in it is
the place of no file: `of` finds the mirror of a path, which fetches, and remembers a bounded part (`mirror_files`).

A process on another machine, which sees no mirror, is `sent` what the mirror knows of the store, and from then on
(`receive`) its paths mean the same images, of which that machine keeps a bounded part of its own.

An object that is missing or may not be read is the error of one image, as an unreadable file is. A store that cannot
be reached at all is an `Unreachable`, after `WAITS_S`: nothing is said of an image, and the stage ends.

Fails when: a store gives neither a time nor a tag of its objects (some servers of `https://`): one that changed there
is noticed by its size alone, and an image that `files.txt` lists, of which nothing is said, not at all.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from errno import EINVAL
from functools import cached_property, lru_cache
from importlib import import_module
from pathlib import Path
from typing import Any, NamedTuple, TypeVar
from urllib.parse import quote

from labelwise.data import bars, mirror_files, store_listing
from labelwise.errors import LabelwiseError, Unreachable
from labelwise.types.disk import full_disk

WAITS_S = [1.0, 4.0]
"""How long is waited before what failed is tried again."""
THREADS = 16
"""So many files are fetched at a time."""
HEAD_BYTES = 1 << 16
"""So much of a file is fetched to read the header of its image."""
UNKNOWN = (0, 0)
"""The status of a file of which nothing is said; it may have changed."""
_T = TypeVar("_T")
_EXTRAS = {"s3": "labelwise[s3]", "s3a": "labelwise[s3]", "gs": "gcsfs", "gcs": "gcsfs", "az": "adlfs", "abfs": "adlfs"}
_KEYS = ("ETag", "etag", "md5Hash", "LastModified", "mtime", "updated", "created")
"""Where the file systems of fsspec say which content an object has, or since when."""


def is_url(text: str) -> bool:
    """Whether this names a place of fsspec and not a folder here.

    >>> is_url("s3://bucket/images"), is_url("C:/images"), is_url("images")
    (True, False, False)
    """
    return "://" in text


class Place:
    """A folder, or one file, of a store, by its URL. Threads and processes may share it."""

    def __init__(self, url: str) -> None:
        self.url = url.rstrip("/")
        self._web = url.startswith(("http://", "https://"))

    def list(self) -> dict[str, mirror_files.Status]:
        """The files below it, by their names relative to it, with size and stamp; of a file itself, that file.

        Raises:
            LabelwiseError: there is no such place, or it may not be listed.
            Unreachable: the store cannot be reached.
        """
        fs, base = _opened(self.url)
        if self._web and (names := self._named_by_text()) is not None:
            return self._checked(dict.fromkeys(names, UNKNOWN))

        def found() -> dict[str, dict[str, Any]]:
            fs.invalidate_cache()
            return store_listing.of_pages(fs, base) if self._web else store_listing.of_store(fs, base)

        return self._checked({name: _status(about) for name, about in tried(self.url, found).items()})

    def _named_by_text(self) -> Sequence[str] | None:
        """The files that a web server lists in a text; None: there is no such text."""
        try:
            text = self.content(store_listing.LIST).decode("utf-8-sig", "replace")
        except Unreachable:
            raise
        except LabelwiseError:
            return None
        return store_listing.of_text(text, f"{self.url}/{store_listing.LIST}")

    def _checked(self, every: Mapping[str, mirror_files.Status]) -> dict[str, mirror_files.Status]:
        away = {name for name in every if store_listing.hidden(name) or store_listing.outside(name)}
        listed = {name: status for name, status in every.items() if name not in away}
        if not listed:
            raise LabelwiseError(f"{self.url}: nothing is there. Give the URL of the folder that holds the images")
        return dict(sorted(listed.items()))

    def content(self, name: str, most: int | None = None) -> bytes:
        """The bytes of a file below it, or the first so many.

        Raises:
            LabelwiseError: it is not there, or may not be read.
            Unreachable: the store cannot be reached.
        """
        fs, base = _opened(self.url)
        path = f"{base}/{quote(name) if self._web else name}" if name else base
        if most is None:
            return tried(f"{self.url}/{name}", lambda: bytes(fs.cat_file(path)))

        def part() -> bytes:
            try:
                return bytes(fs.cat_file(path, start=0, end=most))
            except Exception as error:
                if not _refuses_range(error):
                    raise
                return bytes(fs.cat_file(path))

        return tried(f"{self.url}/{name}", part)


class Sent(NamedTuple):
    """What a mirror knows of its store: all that another machine needs to read the images."""

    folder: Path
    about: mirror_files.About
    images: Mapping[str, mirror_files.Status]


class Mirror:
    """A mirror that was made, by its folder; or one on another machine, as it was sent: what it keeps lies in
    `kept_in`.
    """

    def __init__(self, folder: Path, sent: Sent | None = None, kept_in: Path | None = None) -> None:
        self.folder = folder
        self._sent, self._kept_in = sent, kept_in or folder
        self._about = mirror_files.about(folder) if sent is None else sent.about
        self._place = Place(self._about.url)

    @cached_property
    def images(self) -> Mapping[str, mirror_files.Status]:
        """Size and stamp of every image, by its name, as of when the store was listed."""
        return mirror_files.images(self.folder) if self._sent is None else self._sent.images

    def sent(self) -> Sent:
        """What `receive` takes on another machine."""
        return Sent(self.folder, self._about, self.images)

    def where(self, path: Path) -> str:
        """The URL of a path, for messages."""
        return f"{self._place.url}/{self._name(path)}"

    def status(self, path: Path) -> mirror_files.Status | None:
        """Size and stamp of an image; None: it was not there."""
        return self.images.get(self._name(path))

    def status_of(self, name: str) -> mirror_files.Status | None:
        """`status`, by the name of the image."""
        return self.images.get(name)

    def content(self, path: Path) -> bytes:
        """The bytes of an image; see `Place.content`."""
        name = self._name(path)
        kept = self._kept(name)
        if kept is None:
            kept = self._place.content(name)
            mirror_files.keep(self._kept_in, self._key(name), kept, self._about.most_bytes)
        return kept

    def head(self, path: Path) -> bytes:
        """The first bytes of an image, from which its header can be read, or all of them."""
        name = self._name(path)
        kept = self._kept(name)
        return self._place.content(name, HEAD_BYTES) if kept is None else kept

    def _kept(self, name: str) -> bytes | None:
        """The bytes that are kept, as long as the store says: a loss of power may have cut a file short."""
        kept = mirror_files.kept(self._kept_in, self._key(name))
        if kept is None:
            return None
        size, _ = self.images.get(name, UNKNOWN)
        return kept if size in (0, len(kept)) else None

    def _key(self, name: str) -> str:
        """What an image is kept as. A machine that is sent a list knows of none before it: of an image that changed in
        the store it keeps another.
        """
        return name if self._sent is None else " ".join(map(str, (name, *self.images.get(name, UNKNOWN))))

    def _name(self, path: Path) -> str:
        return path.relative_to(self.folder).as_posix()


_received: dict[str, Mirror] = {}
"""Mirrors of other machines, by their folders."""


def receive(sent: Sent, home: Path) -> None:
    """From now on the paths of a mirror on another machine mean its images here, too. What is kept of them lies below
    `home`, which processes of one machine share.
    """
    kept_in = home / hashlib.sha256(sent.about.url.encode()).hexdigest()[:16]
    with full_disk(kept_in):
        kept_in.mkdir(parents=True, exist_ok=True)
    mirror_files.prepare(kept_in)
    mirror_files.tidy(kept_in, sent.about.most_bytes)
    _received[str(sent.folder)] = Mirror(sent.folder, sent, kept_in)
    forget()


def of(path: Path) -> Mirror | None:
    """The mirror that a path of an image lies in; None: it is a file as any other."""
    return _mirror_of(str(path.parent))


@lru_cache(maxsize=1 << 16)
def _mirror_of(folder: str) -> Mirror | None:
    if folder in _received:
        return _received[folder]
    place = Path(folder)
    if mirror_files.is_one(place):
        return Mirror(place)
    return None if place.parent == place else _mirror_of(str(place.parent))


def names_below(folder: Path) -> list[str]:
    """The images of a store that a folder stands for, by their names relative to it; none of any other folder."""
    mirror = of(folder / "image")
    if mirror is None:
        return []
    start = "" if folder == mirror.folder else f"{folder.relative_to(mirror.folder).as_posix()}/"
    return [name.removeprefix(start) for name in mirror.images if name.startswith(start)]


def forget() -> None:
    """Mirrors are looked at anew: one was made, or its store listed again."""
    _mirror_of.cache_clear()


def status(path: Path) -> tuple[int, int] | None:
    """Size and time of change of an image's file, wherever it lies; None: it is not there."""
    if (mirror := of(path)) is not None:
        return mirror.status(path)
    try:
        found = path.stat()
    except (OSError, ValueError):
        return None
    return found.st_size, found.st_mtime_ns


def content(path: Path) -> bytes:
    """The bytes of an image's file, wherever it lies.

    Raises:
        LabelwiseError: it is not there, or may not be read.
        Unreachable: the store cannot be reached.
    """
    if (mirror := of(path)) is not None:
        return mirror.content(path)
    try:
        return path.read_bytes()
    except FileNotFoundError as error:
        raise LabelwiseError(f"{path}: no such image file. Read the data set anew before you write it.") from error
    except OSError as error:
        raise LabelwiseError(f"{path}: cannot be read ({error.strerror or error}). Check the rights of the file") from (
            error
        )


def contents(paths: Sequence[Path]) -> Iterator[bytes]:
    """`content` of each, in order, several at a time; no more than a few are held."""
    step = 4 * THREADS
    with bars.late("fetch images", len(paths)) as advance, ThreadPoolExecutor(THREADS) as threads:
        for start in range(0, len(paths), step):
            for one in threads.map(content, paths[start : start + step]):
                advance(1)
                yield one


def where(path: Path) -> str:
    """How a message calls an image: by its URL, where it lies in a store."""
    return str(path) if (mirror := of(path)) is None else mirror.where(path)


def _opened(url: str) -> tuple[Any, str]:
    """The file system of a URL, and the path there."""
    protocol = url.partition("://")[0]
    try:
        fs, path = import_module("fsspec").url_to_fs(url)
    except ImportError as error:
        name = _EXTRAS.get(protocol, "fsspec, and aiohttp for https")
        raise LabelwiseError(f"{url}: {error}. Install what opens it: pip install '{name}'") from error
    except ValueError as error:
        raise LabelwiseError(
            f"{url}: {error}. Give s3://BUCKET/FOLDER, gs://BUCKET/FOLDER, https://HOST/..."
        ) from error
    return fs, str(path).rstrip("/")


def tried(what: str, work: Callable[[], _T]) -> _T:
    """What `work` gives; it is tried again where the store may come back."""
    for wait_s in (*WAITS_S, None):
        try:
            return work()
        except (LabelwiseError, MemoryError):
            raise
        except Exception as error:  # the libraries of stores raise nearly anything
            status = getattr(error, "status", None)
            if isinstance(error, FileNotFoundError) or status == 404:
                raise LabelwiseError(f"{what}: there is no such object. Put it there, or leave it out") from error
            if isinstance(error, PermissionError) or status in (401, 403):
                raise LabelwiseError(
                    f"{what}: it may not be read ({error}). Check the credentials and the rights of the bucket"
                ) from error
            if wait_s is None:
                raise Unreachable(
                    f"{what}: the store cannot be reached ({type(error).__name__}: {error}). Check the network and the "
                    "credentials, and give the same command again: a run goes on where it stopped"
                ) from error
            time.sleep(wait_s)
    raise AssertionError("unreachable")


def _status(about: Mapping[str, Any]) -> mirror_files.Status:
    said = next((str(about[key]) for key in _KEYS if about.get(key)), "")
    stamp = int.from_bytes(hashlib.sha256(said.encode()).digest()[:7]) if said else 0  # below any time of today in ns
    return int(about.get("size") or 0), stamp


def _refuses_range(error: Exception) -> bool:
    """Whether a store may refuse the part of an object that was asked for: an empty one has no first byte."""
    names = ("status", "status_code", "code")  # of aiohttp, of Azure, of Google
    status = next((getattr(error, name) for name in names if getattr(error, name, None) is not None), None)
    return status in (416, "416") or (isinstance(error, OSError) and error.errno == EINVAL)
