"""Frozen features of a pool by actors of Ray: the longest pass of a run whose body is never trained.

Actors look at shards of images as one process does, and send what they say to the driver, which keeps it. So machines
need not see the folder of the features; each needs the files of weights that are named, under the same path.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import torch

from labelwise.project import lookers
from labelwise.project.lookers import Looked, Looker, Shards
from labelwise.stages import over_ray
from labelwise.types import Pool


@dataclass(frozen=True)
class _Looks:
    """The work of actors."""

    looker: Looker
    pool: Pool
    keys: np.ndarray
    shards: Shards

    def begin(self, device: torch.device) -> Callable[[int], Looked]:
        looker = self.looker.on(str(device))

        def shard(number: int) -> Looked:
            (found,) = lookers.look(looker, self.pool, self.keys, [self.shards[number]], lambda _n: None)
            return found

        return shard


def look(
    looker: Looker, pool: Pool, keys: np.ndarray, shards: Shards, advance: Callable[[int], None]
) -> Iterator[Looked]:
    """`lookers.Look` by actors of Ray; shards come in any order."""
    work = _Looks(looker.on("cpu"), over_ray.to_read(pool), keys, shards)
    for found in over_ray.run(work, range(len(shards))):
        advance(len(found.seen) + len(found.failed))
        yield found
