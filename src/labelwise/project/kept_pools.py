"""The pools that a process keeps while it opens one project after the other: read once, decoded once.

A pool is that of another project where both read the same data with the same settings, and know the same images.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from labelwise.config import Run
from labelwise.project.context import Decoded
from labelwise.types import Pool

Pools = tuple[Pool, Pool | None, int]
"""The pool, the test images, and how many images are labelled first."""

MOST = 2
"""Pools that are kept at a time: each holds its decoded images."""


@dataclass(frozen=True, eq=False)
class _Entry:
    key: str
    names: tuple[str, ...]
    pools: Pools
    decoded: Decoded

    def fits(self, key: str, names: tuple[str, ...]) -> bool:
        """Whether a project that knows `names` reads just these pools."""
        return key == self.key and (names == self.names or (not self.names and names == self.pools[0].names))


@dataclass
class KeptPools:
    """The last pools that were opened, by what they were read from and with."""

    _entries: list[_Entry] = field(default_factory=list)

    def find(
        self, run: Run, root: Path, splits: tuple[str, str], names: Sequence[str], read: Callable[[], Pools]
    ) -> tuple[Pools, Decoded]:
        """The pools of a run, and its decoded images, shared with the runs that have the same pools.

        Args:
            run: the settings.
            root: the folder of the data set.
            splits: of the pool and of the test.
            names: the images that the project knows; none of a new one.
            read: reads the pools.
        """
        key, known = _key(run, root, splits), tuple(names)
        found = next((one for one in self._entries if one.fits(key, known)), None)
        if found is None:
            found = _Entry(key, known, read(), Decoded(shared=True))
        self._entries = [found, *(one for one in self._entries if one is not found)][:MOST]
        return found.pools, found.decoded


def _key(run: Run, root: Path, splits: tuple[str, str]) -> str:
    """All that a pool hangs on; the seed only where it draws a sample or the long tail."""
    drawn = run.data.imbalance is not None or run.data.sample is not None
    seed = run.seed if drawn else None
    start = run.budget.start_images, run.budget.start, run.query.every_frames
    features = None if run.features is None else run.features.model_dump_json()
    what = [run.data.model_dump_json(), features, str(root.resolve()), splits]
    parts = [*what, start, seed, run.model.name, run.train.accelerator, run.needs_clips, run.ask.who]
    return json.dumps(parts)
