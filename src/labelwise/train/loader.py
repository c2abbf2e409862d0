"""Batches made ahead of the step that takes them: images are read and changed in threads while the model trains.

One thread goes through the batches in their order and draws what is random, so that the number of threads changes
nothing; others decode, zoom and recolour, for which Python's lock is free. On a GPU the images lie in pinned memory,
from which they are copied while the GPU computes. With an online teacher nothing is made ahead, as it labels with the
weights of the step; its images are still read and changed in several threads.

Every thread has one for arithmetic: a sum in several parts could differ in its last bit, and once a second team of
OpenMP threads is there, the model's own sleep at every step of theirs (two cores, 256 px: half the images a second).
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import pairwise
from threading import Barrier
from time import perf_counter
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from labelwise.train.batches import TrainingSet
from labelwise.train.teacher import Teacher

AHEAD = 3
"""Batches that are made before they are needed."""
MOST_THREADS, ON_A_CPU = 8, 1
"""That read and change images: at most so many where a GPU takes them; a CPU's cores are for the model."""


class Data(Protocol):
    """What is trained on: `train.batches.TrainingSet` (detectors), `train.images.ImageSet` (classifiers)."""

    @property
    def whole(self) -> np.ndarray: ...

    @property
    def occupied(self) -> np.ndarray: ...

    @property
    def teacher(self) -> Teacher | None: ...

    def __len__(self) -> int: ...

    def batch(self, indices: np.ndarray, rng: np.random.Generator, /) -> tuple[Any, Any]: ...

    def names(self, indices: np.ndarray, /) -> str: ...


@dataclass(frozen=True, slots=True)
class Batch:
    """What a step trains on; `state`: of the random generator once this batch was drawn."""

    images: Any
    targets: Any
    state: Mapping[str, Any]

    def parts(self, count: int) -> Iterator[tuple[Batch, float]]:
        """The batch in up to `count` parts of about the same size, and their shares of it; a classifier's have two
        images or more (for batch norms).
        """
        table = isinstance(self.targets, Mapping)
        n = len(self.images)
        cuts = np.linspace(0, n, max(1, min(count, n // 2 if table else n)) + 1).astype(int).tolist()
        for low, high in pairwise(cuts):
            here = slice(low, high)
            targets = {key: one[here] for key, one in self.targets.items()} if table else self.targets[here]
            yield Batch(self.images[here], targets, self.state), (high - low) / n


@dataclass
class Loader:
    """Makes batches of `data` for a model on `device`; `waited_s`: for so long a step had to wait for its batch.

    Use it as a context: threads end with it.
    """

    data: Data
    device: torch.device
    waited_s: float = 0.0
    _workers: ThreadPoolExecutor | None = field(default=None, init=False)
    _maker: ThreadPoolExecutor | None = field(default=None, init=False)

    def __enter__(self) -> Loader:
        if not isinstance(self.data, TrainingSet):  # the others take theirs from memory, or make them on the GPU
            return self
        count = min(MOST_THREADS, os.cpu_count() or 1) if self.device.type == "cuda" else ON_A_CPU
        threads, ready = torch.get_num_threads(), Barrier(count + 2)

        def begin() -> None:
            torch.get_num_threads()  # torch sets a thread's number at its first work, and would undo the next line
            torch.set_num_threads(1)
            ready.wait()

        self._workers, self._maker = ThreadPoolExecutor(count, "train-read"), ThreadPoolExecutor(1, "train-batch")
        for pool in (self._maker, *[self._workers] * count):
            pool.submit(begin)
        ready.wait()
        torch.set_num_threads(threads)  # of this thread; what a thread set last is also what new ones begin with
        return self

    def __exit__(self, *_: object) -> None:
        for threads in (self._maker, self._workers):
            if threads is not None:
                threads.shutdown(cancel_futures=True)

    def batches(self, chosen: Iterable[np.ndarray], rng: np.random.Generator) -> Iterator[Batch]:
        """A batch for each of `chosen`, entries of the training set, in this order."""
        if self._maker is None or self.data.teacher is not None:
            for rows in chosen:
                began = perf_counter()
                made = self._make(rows, rng)
                self.waited_s += perf_counter() - began
                yield made
            return
        later = iter(chosen)
        ahead: deque[Future[Batch]] = deque()
        try:
            while True:
                for rows in later:
                    ahead.append(self._maker.submit(self._make, rows, rng))
                    if len(ahead) > AHEAD:
                        break
                if not ahead:
                    return
                began = perf_counter()
                made = ahead.popleft().result()
                self.waited_s += perf_counter() - began
                yield made
        finally:
            for one in ahead:
                one.cancel()

    def _make(self, rows: np.ndarray, rng: np.random.Generator) -> Batch:
        if not isinstance(self.data, TrainingSet) or self._workers is None:
            return Batch(*self.data.batch(rows, rng), rng.bit_generator.state)
        images, targets = self.data.batch(rows, rng, self._workers.map)
        if self.device.type == "cuda":
            images = list(self._workers.map(Tensor.pin_memory, images))
        return Batch(images, targets, rng.bit_generator.state)
