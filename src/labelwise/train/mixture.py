"""Which images a step trains on where a share of every batch is of one kind.

That kind are images that were wholly looked over (`train.whole_share`), or images that hold an object
(`train.object_share`): where most of a pool is empty, batches as they come hold hardly an object, and a training that
is long enough for full images is far too short. They and the others stand in two streams, each one shuffled pass after
the other without end, so that of each kind every image comes equally often. A step takes the next ones of both. What a
step takes depends on (seed, round, step) alone.

Source: ours; ComPAS draws labelled and pseudo labelled images 1 : 1, Soft Teacher 1 : 4. Of `object_share`: detectors
often leave empty images out altogether (mmdetection's `filter_empty_gt`), which is the share 1.
Fails when: few images are of that kind and the share is large: these few are learned by heart. With an `object_share`
of 1 nothing is learned of the empty ones: false alarms.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from jaxtyping import Bool, Int64

WHOLE, OTHER = 1, 2
"""The streams' last word in the seeds; an epoch's own seed has none there, which is 0."""


class Mixture:
    """The entries of every step; `share` of each batch of `size` is of the kind, True in `whole`.

    A share that is no whole number of a batch alternates between the two next to it: of the first k batches together
    those of the kind are `floor(share * size * k)`.

    >>> mixture = Mixture(np.array([True, False, False]), share=0.25, size=2, seed=0, round_number=0)
    >>> [int(np.sum(mixture.batch(step) == 0)) for step in range(4)]
    [0, 1, 0, 1]
    """

    def __init__(self, whole: Bool[np.ndarray, " m"], *, share: float, size: int, seed: int, round_number: int) -> None:
        self.rows = {WHOLE: np.flatnonzero(whole), OTHER: np.flatnonzero(~whole)}
        self.share, self.size, self.state = share, size, (seed, round_number)
        self._shuffled = lru_cache(maxsize=8)(self._shuffle)

    def batch(self, step: int) -> Int64[np.ndarray, " b"]:
        """The entries of a step, those of the kind first."""
        begin, end = self._whole_before(step), self._whole_before(step + 1)
        others = self._next(OTHER, self.size * step - begin, self.size * (step + 1) - end)
        return np.concatenate([self._next(WHOLE, begin, end), others])

    def _whole_before(self, steps: int) -> int:
        return int(np.floor(self.share * self.size * steps + 1e-6))

    def _next(self, stream: int, begin: int, end: int) -> np.ndarray:
        """Numbers `begin` to `end` of a stream."""
        n, places = len(self.rows[stream]), np.arange(begin, end)
        found = [self._shuffled(stream, int(place) // n)[int(place) % n] for place in places]
        return self.rows[stream][np.array(found, np.int64)]

    def _shuffle(self, stream: int, number: int) -> np.ndarray:
        return np.random.default_rng((*self.state, number, stream)).permutation(len(self.rows[stream]))


def mixture_of(
    whole: Bool[np.ndarray, " m"], *, share: float | None, size: int, seed: int, round_number: int
) -> Mixture | None:
    """The mixture that a share asks for; None where there is no share, or but one kind of image."""
    if share is None or whole.all() or not whole.any():
        return None
    return Mixture(whole, share=share, size=size, seed=seed, round_number=round_number)
