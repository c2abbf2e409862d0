"""Which split of a data set is the pool and which one tests, where nobody says so.

The pool is the only split, or the first of `POOL` that is there; the test split the first of `TEST` that has
annotations and shares no image with the pool (VOC's `val` lies in `trainval`). Years and numbers do not count:
`train2017` is `train`. Where no name is known, the largest split is the pool.

>>> import numpy as np
>>> from pathlib import Path
>>> from labelwise.types import Boxes
>>> size = np.full(1, 9)
>>> a, b = (Pool(Path(), ("cat",), (name,), size, size, truth=Boxes.of_images(size * 0, size, size)) for name in "ab")
>>> choose({"val": b, "train": a}), choose({"2024": a}), choose({"train": a, "val": a})
(('train', 'val'), ('2024', None), ('train', None))
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from labelwise.types import Pool

POOL = ("trainval", "train", "training", "default", "pool", "all")
TEST = ("val", "valid", "validation", "dev", "test", "testing", "eval")


def choose(pools: Mapping[str, Pool], pool: str | None = None) -> tuple[str, str | None]:
    """The names of the pool and of the test split (None: there is none); `pool`, where it is given, is the pool."""
    others = [name for name in _largest(pools) if name not in _listed(pools, TEST)] or _largest(pools)
    candidates = [pool] if pool is not None else _listed(pools, POOL) or others[:1]
    tests = [name for name in _listed(pools, TEST) if annotated(pools[name])]
    for name in candidates:
        for test in tests:
            if test != name and not set(pools[name].names) & set(pools[test].names):
                return name, test
    return candidates[0], None


def annotated(pool: Pool) -> bool:
    """Whether there is any ground truth."""
    return pool.truth is not None and len(pool.truth) > 0


def _listed(pools: Mapping[str, Pool], order: tuple[str, ...]) -> list[str]:
    """The splits whose names are of `order`, in that order."""
    return sorted((name for name in pools if _plain(name) in order), key=lambda name: order.index(_plain(name)))


def _largest(pools: Mapping[str, Pool]) -> list[str]:
    return sorted(pools, key=lambda name: -len(pools[name]))


def _plain(name: str) -> str:
    return re.sub(r"[-_ ]*\d+$", "", name.lower())
