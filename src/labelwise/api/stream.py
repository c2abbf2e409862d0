"""The images of a pool one after the other with their pixels: what a detector of one's own predicts on."""

from __future__ import annotations

import warnings
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor

import numpy as np
from jaxtyping import UInt8

from labelwise.data._frames import read_once
from labelwise.data.image_reader import pixels_of
from labelwise.types import LabelwiseError, Pool

AHEAD = 4
"""Images that are decoded while the caller looks at one."""


def stream(pool: Pool, numbers: Sequence[int]) -> Iterator[tuple[str, UInt8[np.ndarray, "height width 3"]]]:
    """Name and pixels of these images. In rising order a film is decoded once, from its beginning to its end; nothing
    is kept on disk. An image that cannot be read is left out, with a warning that names it.
    """
    pool = read_once(pool)
    waiting: deque[tuple[str, Future[np.ndarray]]] = deque()
    rest = iter(numbers)
    with ThreadPoolExecutor(1) as thread:  # one: a film has one place where it is read
        while True:
            while len(waiting) <= AHEAD and (number := next(rest, None)) is not None:
                waiting.append((pool.names[number], thread.submit(pixels_of, pool, number)))
            if not waiting:
                return
            name, decoded = waiting.popleft()
            try:
                pixels = decoded.result()
            except LabelwiseError as error:
                warnings.warn(f"{name} is left out: {error}", stacklevel=2)
                continue
            yield name, pixels
