"""Image files: what they are (from the header alone), their pixels as displayed, and a store of resized copies.

Every image is turned into 8-bit RGB as a viewer displays it: EXIF orientation applied, palette and grey expanded,
transparency composited on white, CMYK converted, 16-bit scaled to 8-bit by 65535 -> 255 (never saturated, never
stretched: a 12-bit image in a 16-bit file stays dark). Of an animation the first frame counts, of a file of several
pages the first page. What a file is, its content says: a .jpg that holds a PNG is read. HEIC needs the extra `heic`.
An image of more than `MOST_PIXELS` is an error.

Fails when: a PNG carries its EXIF block after the pixels (it is ignored, here and in `probe` alike), and for 32-bit
integer or floating point files, whose range no file declares (an error).
"""

from __future__ import annotations

import stat
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from importlib import import_module
from importlib.util import find_spec
from io import BytesIO
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple, TypeVar

import numpy as np
from jaxtyping import Float32, UInt8
from PIL import Image, TiffImagePlugin, UnidentifiedImageError, features

from labelwise.data import image_store
from labelwise.data.image_modes import TURN, flags, orientation, rgb
from labelwise.errors import of_image
from labelwise.types import LabelwiseError, Pool
from labelwise.types.resize import scaled_size

_T = TypeVar("_T")
_R = TypeVar("_R")
EXTRA = frozenset({".heic", ".heif", ".hif", ".heics", ".heifs"})
"""Suffixes of images that are read where the extra `heic` is installed."""
SUFFIXES = frozenset(
    [".jpg", ".jpeg", ".jpe", ".jfif", ".pjpeg", ".pjp", ".mpo", ".jp2", ".png", ".bmp", ".dib", ".tif", ".tiff"]
) | {".webp", ".gif", ".ppm", ".pgm", ".pbm", ".pnm"}
SUFFIXES |= {".avif"} if features.check("avif") else set()
SUFFIXES |= EXTRA if find_spec("pillow_heif") is not None else set()
MOST_PIXELS = 500_000_000
"""Decoding takes up to 8 bytes for each."""
Image.MAX_IMAGE_PIXELS = 2 * MOST_PIXELS  # above that Pillow warns; its own limit of 89 million is too low
_FIRST, _SHORT_S = 64, 0.0005
"""By so many items `each` judges whether one takes less than so long."""
THREADS = 8  # PIL releases the interpreter lock while it reads and decodes

_HEAD_SAYS_ALL = (b"\xff\xd8\xff", b"\x89PNG")
"""How the files begin whose first bytes tell size and kind: JPEG, PNG."""
Window = tuple[float, float, float, float]
Key = tuple[int, Window | None]
"""An image of the pool, or a part of it."""


class Header(NamedTuple):
    """What the header says: size as displayed, which conversions `load` will have to make, and the EXIF orientation
    (1: as stored).
    """

    width_px: int
    height_px: int
    flags: tuple[str, ...]
    turn: int = 1


def is_image(path: Path) -> bool:
    """Whether the name is that of an image file (hidden files, such as macOS's `._x.jpg`, are not)."""
    return path.suffix.lower() in SUFFIXES and not path.name.startswith(".")


def each(work: Callable[[_T], _R], items: Sequence[_T], *, fetch: bool = False) -> Iterator[_R]:
    """What `work` makes of every item, in order: in threads where reading or decoding one takes long enough for them,
    in more of them and at once where it will `fetch` an image from a store.

    Of tiny images the interpreter's lock takes longer than the work: 118,000 headers 8 s, in eight threads 22 s.
    """
    if fetch:
        with ThreadPoolExecutor(image_store.THREADS) as threads:
            yield from threads.map(work, items)
        return
    start = time.perf_counter()
    for item in items[:_FIRST]:
        yield work(item)
    if time.perf_counter() - start < _FIRST * _SHORT_S:
        yield from map(work, items[_FIRST:])
        return
    with ThreadPoolExecutor(THREADS) as threads:
        yield from threads.map(work, items[_FIRST:])


def probe(path: Path) -> Header:
    """Size and kind of an image from its header, without decoding a pixel."""
    if (mirror := image_store.of(path)) is not None:
        _heif(path)
        head = mirror.head(path)
        part = len(head) == image_store.HEAD_BYTES
        if not part or head.startswith(_HEAD_SAYS_ALL):
            try:
                return _header(BytesIO(head), mirror.where(path))
            except LabelwiseError:
                if not part:
                    raise
        return _header(BytesIO(mirror.content(path)), mirror.where(path))
    return _header(path, path)


def header_of(content: bytes, where: Path) -> Header:
    """The same of an image file that is in memory; `where` names it in errors."""
    return _header(BytesIO(content), where)


def _header(source: Path | BinaryIO, where: Path | str) -> Header:
    try:
        with _open(source) as image:
            turn = orientation(image)
            width, height = image.size
            if turn >= 5 and not isinstance(image, TiffImagePlugin.TiffImageFile):  # PIL swaps a TIFF's size itself
                width, height = height, width
            return Header(width, height, flags(image, turn), turn)
    except MemoryError:
        raise
    except Exception as error:  # PIL's parsers raise nearly anything on broken bytes
        raise _unreadable(where, error) from error


def load(path: Path, *, at_least_px: int | None = None) -> UInt8[np.ndarray, "H W 3"]:
    """Pixels of an image, RGB as displayed.

    With `at_least_px` a JPEG may come back at 1/2, 1/4 or 1/8 of its size (the decoder skips the high frequencies,
    which is several times faster) as long as its longest side keeps that many pixels.
    """
    return _loaded(*_source(path), at_least_px)


def _source(path: Path) -> tuple[Path | bytes, Path | str]:
    """The file of an image, or its content where it comes from an object store; and how it is called."""
    if (mirror := image_store.of(path)) is None:
        return path, path
    _heif(path)
    return mirror.content(path), mirror.where(path)


def _loaded(source: Path | bytes, where: Path | str, at_least_px: int | None) -> UInt8[np.ndarray, "H W 3"]:
    try:
        return np.asarray(_displayed(BytesIO(source) if isinstance(source, bytes) else source, at_least_px))
    except MemoryError:
        raise
    except Exception as error:  # see probe
        raise _unreadable(where, error) from error


def decode(content: bytes, where: Path | str) -> UInt8[np.ndarray, "H W 3"]:
    """Pixels of an image file that is in memory, such as the member of an archive; `where` names it in errors."""
    try:
        # naming the format spares trying the others, which takes as long as decoding a tiny image
        return np.asarray(
            _displayed(BytesIO(content), None, ("JPEG",) if content.startswith(b"\xff\xd8\xff") else None)
        )
    except MemoryError:
        raise
    except Exception as error:  # see probe
        raise _unreadable(where, error) from error


def _displayed(source: Path | BinaryIO, at_least_px: int | None, formats: tuple[str, ...] | None = None) -> Image.Image:
    with _open(source, formats) as image:
        turn = orientation(image)
        if at_least_px is not None and image.format == "JPEG" and image.mode in ("RGB", "L"):
            ratio = at_least_px / max(image.size)
            image.draft(None, (int(np.ceil(image.width * ratio)), int(np.ceil(image.height * ratio))))
        image.load()
        shown = rgb(image)
        if turn > 1 and not isinstance(image, TiffImagePlugin.TiffImageFile):  # PIL turns a TIFF itself
            shown = shown.transpose(TURN[turn])
        return shown


def _open(source: Path | BinaryIO, formats: tuple[str, ...] | None = None) -> Image.Image:
    if isinstance(source, Path):
        _heif(source)
        if not stat.S_ISREG(source.stat().st_mode):  # a FIFO would be waited for
            raise OSError("no regular file")
    image = Image.open(source, formats=formats)
    if image.width * image.height > MOST_PIXELS:
        image.close()
        raise ValueError(f"{image.width}x{image.height} px; at most {MOST_PIXELS / 1e6:g} million pixels are read")
    return image


def _heif(path: Path) -> None:
    if path.suffix.lower() in EXTRA:
        _register_heif()


@cache
def _register_heif() -> None:
    if find_spec("pillow_heif") is not None:
        import_module("pillow_heif").register_heif_opener()


def _unreadable(path: Path | str, error: Exception) -> LabelwiseError:
    if isinstance(error, FileNotFoundError):
        return LabelwiseError(f"{path}: no such image file. Put it there, or remove it from the annotations.")
    # PIL's "cannot identify image file" repeats the path
    what = "not an image" if isinstance(error, UnidentifiedImageError) else f"{error or type(error).__name__}"
    return LabelwiseError(f"{path}: image can't be read ({what}). Replace the file, or remove it from the data set.")


def pixels_of(pool: Pool, image: int) -> UInt8[np.ndarray, "H W 3"]:
    """Pixels of an image of a pool, wherever it has them: in memory, in a video, in an image file."""
    if image in pool.unavailable:
        raise LabelwiseError(pool.unavailable[image])
    if pool.pixels is not None:
        pixels: np.ndarray = pool.pixels[image]
        return pixels
    if pool.frames is not None:
        return pool.frames(image)
    return load(pool.path(image))


class Images:
    """The images of a pool, each decoded once and resized so that its longest side is `size_px`.

    `images[i]` is the pixels (uint8, `[3, h, w]`, contiguous) and the exact scale per axis, resized / original, so that
    `boxes * [sx, sy, sx, sy]` are the boxes in the resized image. Copies stay in memory while they fit in
    `cache_bytes`; the rest is decoded anew each time. A broken image raises `LabelwiseError`, when asked again at once.
    Threads may share one store. The arrays are read-only: they are the store's own. A pool that has its pixels in
    memory is read from there; at its own size nothing is resized, and no second copy is kept. Frames of a video come
    from `Pool.frames`.
    """

    def __init__(self, pool: Pool, size_px: int, cache_bytes: int = 2_000_000_000) -> None:
        if size_px < 1:
            raise LabelwiseError(f"Images: size_px is {size_px}; expected at least 1")
        self.pool, self.size_px, self.cache_bytes = pool, size_px, cache_bytes
        self._kept: dict[Key, tuple[np.ndarray, np.ndarray]] = {}
        self._broken: dict[int, str] = dict(pool.unavailable)
        self._bytes = 0
        self._lock = threading.Lock()

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        """Another process decodes anew what it needs."""
        return Images, (self.pool, self.size_px, self.cache_bytes)

    def __len__(self) -> int:
        return len(self.pool)

    def __getitem__(self, image: int) -> tuple[UInt8[np.ndarray, "3 h w"], Float32[np.ndarray, " 2"]]:
        return self._item((int(image), None))

    def crop(
        self, image: int, window: tuple[float, float, float, float]
    ) -> tuple[UInt8[np.ndarray, "3 h w"], Float32[np.ndarray, " 2"]]:
        """A part of an image (xyxy in original pixels) at the size of a whole one: its longest side is `size_px`."""
        return self._item((int(image), window))

    def _item(self, key: Key) -> tuple[np.ndarray, np.ndarray]:
        image = key[0]
        if image in self._broken:
            raise LabelwiseError(self._broken[image])
        if key in self._kept:
            return self._kept[key]
        try:
            item = self._resized(*key)
        except LabelwiseError as error:
            self._broken[image] = of_image(error)
            raise
        held = self.pool.pixels
        if key[1] is None and held is not None and max(held.shape[1:3]) == self.size_px:
            return item  # the pool has it already
        with self._lock:
            if key not in self._kept and self._bytes + item[0].nbytes <= self.cache_bytes:
                self._kept[key] = item
                self._bytes += item[0].nbytes
        return item

    def warm(
        self, indices: Sequence[int] | np.ndarray, progress: Callable[[int], None] | None = None
    ) -> list[tuple[int, str]]:
        """Decode many up front, in threads; `progress(1)` is called after each. Returns (image, message) of those
        that can't be read.
        """

        def message(image: int) -> str | None:
            try:
                self[image]
            except LabelwiseError as error:
                return of_image(error)
            return None

        failures = []
        with ThreadPoolExecutor(THREADS) as threads:
            for image, text in zip(indices, threads.map(message, indices), strict=True):
                if text is not None:
                    failures.append((int(image), text))
                if progress is not None:
                    progress(1)
        return failures

    def _resized(self, image: int, window: Window | None) -> tuple[np.ndarray, np.ndarray]:
        path = self.pool.path(image)
        original = np.array([self.pool.width_px[image], self.pool.height_px[image]])
        x1, y1, x2, y2 = window or (0.0, 0.0, *original.tolist())
        shown = np.array([x2 - x1, y2 - y1])
        if not (shown > 0).all():
            raise LabelwiseError(f"{path}: the window {window} has no area; expected x1 < x2 and y1 < y2 in pixels")
        # twice the size leaves the anti-aliasing filter its work
        pixels = self._pixels(image, at_least_px=int(np.ceil(2 * self.size_px * original.max() / shown.max())))
        ratio = np.array(pixels.shape[1::-1]) / original  # below 1 where the decoder skipped
        size = scaled_size(shown, self.size_px)
        part = tuple((np.array([x1, y1, x2, y2]) * np.tile(ratio, 2)).tolist())
        if part != (0, 0, *size.tolist()) or pixels.shape[1::-1] != tuple(size):
            small = Image.fromarray(pixels).resize((int(size[0]), int(size[1])), Image.Resampling.BILINEAR, box=part)
            pixels = np.asarray(small)
        planes = np.ascontiguousarray(pixels.transpose(2, 0, 1))
        planes.flags.writeable = False
        return planes, (size / shown).astype(np.float32)

    def _pixels(self, image: int, at_least_px: int) -> UInt8[np.ndarray, "H W 3"]:
        """The pixels of an image, checked against the size that the pool says."""
        pool, path = self.pool, self.pool.path(image)
        from_file = pool.pixels is None and pool.frames is None
        source, where = _source(path) if from_file else (path, path)
        pixels = None if from_file else pixels_of(pool, image)
        opened = BytesIO(source) if isinstance(source, bytes) else source
        size = _header(opened, where)[:2] if pixels is None else pixels.shape[1::-1]
        said = int(pool.width_px[image]), int(pool.height_px[image])
        if size != said:
            raise LabelwiseError(
                f"{where}: the image is {size[0]}x{size[1]} px, but the pool says {said[0]}x{said[1]}: "
                "the file has changed. Read the data set anew."
            )
        return _loaded(source, where, at_least_px) if pixels is None else pixels
