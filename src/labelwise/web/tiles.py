"""An image at its full size in squares, for who zooms in: the copies of `shown` have at most 2560 pixels a side.

An image is decoded once and cut into all of its squares, which are kept in memory as JPEG (within `KEPT_BYTES`, the
image that was looked at longest ago goes first); who asks meanwhile for another square of it waits for that.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from io import BytesIO

import numpy as np
from PIL import Image

from labelwise.types import LabelwiseError
from labelwise.web.shown import Shown

SIDE_PX = 1024
KEPT_BYTES = 256_000_000
AT_ONCE = 16
"""Images that may be cut at a time, at most."""

Square = tuple[int, int]
"""Column and row, from 0 at the upper left."""


class Tiles:
    """The squares of the images of one project."""

    def __init__(self, shown: Shown) -> None:
        self._shown = shown
        self._lock = threading.Lock()
        self._cutting = [threading.Lock() for _ in range(AT_ONCE)]  # of an image always the same one
        self._kept: OrderedDict[int, dict[Square, bytes]] = OrderedDict()
        self._bytes = 0

    def jpeg(self, number: int, column: int, row: int) -> bytes:
        """A square of an image, `SIDE_PX` pixels a side but for those at the right and lower edge.

        Raises:
            Passed: the image is gone or cannot be read.
            LabelwiseError: there is no such image or square, or it is too large to be decoded safely.
        """
        with self._cutting[number % AT_ONCE]:
            squares = self._of(number)
        if (column, row) not in squares:
            raise LabelwiseError(f"image {number}: there is no square {column}, {row}")
        return squares[column, row]

    def _of(self, number: int) -> dict[Square, bytes]:
        with self._lock:
            if number in self._kept:
                self._kept.move_to_end(number)
                return self._kept[number]
        with self._shown.decoded(number) as pixels:
            squares = {
                (x // SIDE_PX, y // SIDE_PX): _encode(pixels[y : y + SIDE_PX, x : x + SIDE_PX])
                for y in range(0, pixels.shape[0], SIDE_PX)
                for x in range(0, pixels.shape[1], SIDE_PX)
            }
        with self._lock:
            self._kept[number] = squares
            self._bytes += _size(squares)
            while self._bytes > KEPT_BYTES and len(self._kept) > 1:
                self._bytes -= _size(self._kept.popitem(last=False)[1])
        return squares


def _size(squares: dict[Square, bytes]) -> int:
    return sum(map(len, squares.values()))


def _encode(pixels: np.ndarray) -> bytes:
    out = BytesIO()
    Image.fromarray(pixels).save(out, "JPEG", quality=95, subsampling=0)
    return out.getvalue()
