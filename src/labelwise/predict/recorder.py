"""What a classifier says of the unlabelled pool after every epoch: the record that label dispersion is made from.

Source: 001, section 3.3.1: "during the training of a network at regular intervals we will save the label predictions
for all samples in the unlabeled pool. In practice, we will perform this operation at every epoch."
Costs one inference pass over the unlabelled images per recorded epoch, and one byte per image and record (two with
more than 256 classes).
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter

import numpy as np
from jaxtyping import Int64
from torch import nn

from labelwise.predict.classify import Inputs, classes


@dataclass
class Recorder:
    """Called after each epoch of a training, it adds a row to `path` (`.npy`, [records, images]) every `every` epochs.

    A training that goes on after a kill writes its rows again from where it goes on; `finish` makes the file appear.
    """

    path: Path
    squares: Inputs
    wanted: Int64[np.ndarray, " wanted"]
    n_classes: int
    epochs: int
    every: int = 1
    batch_size: int = 512
    seconds: float = 0.0

    @property
    def records(self) -> int:
        """How many epochs are recorded; the last one always is."""
        return -(-self.epochs // self.every)

    @property
    def _partial(self) -> Path:
        return self.path.with_suffix(".partial.npy")

    def __call__(self, model: nn.Module, epoch: int) -> None:
        """Records epoch number `epoch` (from 0), if it is its turn."""
        back = self.epochs - 1 - epoch
        if back % self.every:
            return
        began = perf_counter()
        table = self._table()
        table[self.records - 1 - back // self.every, self.wanted] = classes(
            model, self.squares, self.wanted, self.batch_size
        )
        table.flush()
        self.seconds += perf_counter() - began

    def _table(self) -> np.memmap:
        dtype = np.dtype(np.uint8 if self.n_classes <= 256 else np.uint16)
        shape = (self.records, len(self.squares))
        try:
            found: np.memmap = np.load(self._partial, mmap_mode="r+")
            if found.shape == shape and found.dtype == dtype:
                return found
        except (OSError, ValueError, EOFError):  # none yet, or one that a kill cut short
            pass
        table = np.lib.format.open_memmap(self._partial, mode="w+", dtype=dtype, shape=shape)
        if hasattr(os, "posix_fallocate"):  # a full disk is an error here; later, while memory is mapped, a crash
            with self._partial.open("r+b") as file:
                os.posix_fallocate(file.fileno(), 0, os.fstat(file.fileno()).st_size)
        return table

    @property
    def begun(self) -> bool:
        """Whether there is a record of this shape to go on with; if not, the training begins anew."""
        try:
            return bool(np.load(self._partial, mmap_mode="r").shape == (self.records, len(self.squares)))
        except (OSError, ValueError, EOFError):
            return False

    def finish(self, write: Callable[[Path, bytes], None]) -> None:
        """Puts the finished record into its place by `write(path, content)`; `remove` what it was written to later."""
        if self._partial.exists():
            write(self.path, self._partial.read_bytes())

    def remove(self) -> None:
        """Once the trained weights are kept, too: until then a killed run still goes on with the record."""
        self._partial.unlink(missing_ok=True)
