"""All images of a pool as one array of equal squares, decoded once and kept in memory: what a classifier trains on."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
from jaxtyping import Int64, UInt8
from PIL import Image

from labelwise.data import image_reader
from labelwise.errors import of_image
from labelwise.types import LabelwiseError, Pool


@dataclass(frozen=True, eq=False)
class Pixels:
    """`squares[i]` is image i of the pool; `failed` says of those that cannot be read why (their squares are black)."""

    squares: UInt8[np.ndarray, "images 3 size size"]
    failed: dict[int, str]


def load(pool: Pool, size_px: int, *, most_bytes: float, progress: Callable[[int], None] | None = None) -> Pixels:
    """The central square of every image, resized to `size_px`.

    Raises:
        LabelwiseError: the squares would take more than `most_bytes`.
    """
    need = len(pool) * 3 * size_px**2
    if need > most_bytes:
        raise LabelwiseError(
            f"{pool.root}: {len(pool)} images at {size_px} px take {need / 1e9:.2g} GB; they may have half of "
            f"data.cache_gb. Raise data.cache_gb to {2 * need / 1e9:.2g} or more, or lower data.image_size_px"
        )
    report = progress or (lambda _: None)
    if pool.pixels is not None and pool.pixels.shape[1:3] == (size_px, size_px):
        report(len(pool))
        return Pixels(np.ascontiguousarray(pool.pixels.transpose(0, 3, 1, 2)), dict(sorted(pool.unavailable.items())))
    return read(pool, np.arange(len(pool)), size_px, report)


def read(
    pool: Pool, images: Int64[np.ndarray, " n"], size_px: int, report: Callable[[int], None] = lambda _: None
) -> Pixels:
    """The squares of some images of a pool; `failed` is by their numbers in the pool."""
    squares = np.zeros((len(images), 3, size_px, size_px), np.uint8)
    failed: dict[int, str] = {}

    def fill(row: int) -> None:
        image = int(images[row])
        try:
            squares[row] = square(image_reader.pixels_of(pool, image), size_px)
        except LabelwiseError as error:
            failed[image] = of_image(error)

    with ThreadPoolExecutor(image_reader.THREADS) as threads:
        for _ in threads.map(fill, range(len(images))):
            report(1)
    return Pixels(squares, dict(sorted(failed.items())))


def square(pixels: np.ndarray, size_px: int) -> UInt8[np.ndarray, "3 size size"]:
    """The central square of an image [h, w, 3], resized."""
    height, width = pixels.shape[:2]
    side = min(height, width)
    left, top = (width - side) / 2, (height - side) / 2
    square = Image.fromarray(pixels).resize(
        (size_px, size_px), Image.Resampling.BILINEAR, box=(left, top, left + side, top + side)
    )
    return np.asarray(square).transpose(2, 0, 1)
