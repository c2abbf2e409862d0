"""Networks that are never trained, and how they look at shards of a pool's images (see `kept_features`)."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple, Protocol

import numpy as np
from jaxtyping import Float32, Int64, UInt8, UInt64

from labelwise.data import image_reader
from labelwise.errors import of_image
from labelwise.types import LabelwiseError, Pool


class Looker(Protocol):
    """A network that is never trained, and how it looks at one image.

    `name`: of the folder of what it saw, told by network, weights and input. `what`: it sees, for a message. `leading`:
    so many columns of a row come before its feature. `shard`: so many images are computed before they are kept.
    """

    @property
    def name(self) -> str: ...

    @property
    def what(self) -> str: ...

    @property
    def leading(self) -> int: ...

    @property
    def shard(self) -> int: ...

    def begin(self) -> tuple[int, int]:
        """Builds the network; how many rows an image has, and columns a row."""
        ...

    def read(self, shown: UInt8[np.ndarray, "h w 3"], key: int) -> np.ndarray:
        """What the network is given of an image; `key` identifies the image."""
        ...

    def run(self, given: list[np.ndarray], advance: Callable[[int], None]) -> Float32[np.ndarray, "n rows columns"]:
        """What the network says of some images."""
        ...

    def on(self, device: str) -> Looker:
        """The same on another device, not built yet."""
        ...


class Looked(NamedTuple):
    """What a looker says of a shard.

    `seen`: the images that it looked at, by their numbers; `failed`: why not at the others; `shape`: of every image's
    rows and columns.
    """

    seen: Int64[np.ndarray, " m"]
    features: Float32[np.ndarray, "m rows columns"]
    failed: Mapping[int, str]
    shape: tuple[int, int]


Shards = Sequence[Int64[np.ndarray, " images"]]
Look = Callable[[Looker, Pool, UInt64[np.ndarray, " images"], Shards, Callable[[int], None]], Iterator[Looked]]
"""Lets a looker look at shards of a pool's images, which `keys` identify; tells how many images were done."""


def look(
    looker: Looker, pool: Pool, keys: UInt64[np.ndarray, " images"], shards: Shards, advance: Callable[[int], None]
) -> Iterator[Looked]:
    """`Look` in this process: while the network looks at a shard, the next is decoded."""
    shape = looker.begin()

    def read(image: int) -> np.ndarray | str:
        try:
            return looker.read(image_reader.pixels_of(pool, image), int(keys[image]))
        except LabelwiseError as error:
            return of_image(error)

    with ThreadPoolExecutor(image_reader.THREADS) as threads:
        ahead = [threads.submit(read, i) for i in shards[0].tolist()]
        for shard, after in zip(shards, [*shards[1:], np.zeros(0, np.int64)], strict=True):
            here = ahead
            given = [one.result() for one in here]
            ahead = [threads.submit(read, i) for i in after.tolist()]
            found = looker.run([one for one in given if not isinstance(one, str)], advance)
            if not np.isfinite(found).all():
                raise LabelwiseError(f"{looker.what} are not finite: the weights are broken or do not fit")
            seen = np.array([not isinstance(one, str) for one in given], bool)
            why = {i: one for i, one in zip(shard.tolist(), given, strict=True) if isinstance(one, str)}
            advance(len(why))
            yield Looked(shard[seen], found.reshape(-1, *shape), why, shape)
