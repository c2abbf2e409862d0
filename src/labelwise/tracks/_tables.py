"""The table of a clip's flow on disk: a row per image in one `.npy` file, written row by row, memory-mapped."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from labelwise.types import LabelwiseError
from labelwise.types.disk import in_one_step

_HEADERS = threading.Lock()
"""NumPy reads a header with Python's parser, which in Python 3.11 fails at times where two threads use it."""


def record(rows: int, columns: int) -> np.dtype[np.void]:
    """The columns of a clip's table: what is known of an image and the next one.

    `change` is how much of the next image the flow does not explain (`_shots.change`), -1 where there is no next image.
    """
    return np.dtype(
        [
            ("change", np.float32),
            ("joined", np.bool_),
            ("readable", np.bool_),
            ("spare", np.uint16),  # the vectors stand at multiples of 4 bytes
            ("flow", np.float16, (2, rows, columns, 2)),
        ]
    )


def write(path: Path, rows: Iterator[np.ndarray], count: int) -> None:
    """Writes a table row by row under a temporary name, which then takes the place of `path`.

    A row of zeros is a hole in the file.
    """
    try:
        with in_one_step(path) as partial, partial.open("wb") as file:
            for i, row in enumerate(rows):
                if i == 0:
                    header = {"descr": np.lib.format.dtype_to_descr(row.dtype), "fortran_order": False}
                    np.lib.format.write_array_header_1_0(file, {**header, "shape": (count,)})
                data = row.tobytes()
                if data.count(0) == len(data):
                    file.seek(len(data), os.SEEK_CUR)
                else:
                    file.write(data)
            file.truncate(file.tell())
    except OSError as error:
        raise LabelwiseError(f"cannot write {path}: {error}. Nothing was changed; free space and run again") from error


def load(path: Path, dtype: np.dtype[np.void] | None = None, count: int = 0) -> np.ndarray | None:
    """The table of a clip, memory-mapped; None where there is none, a damaged one, or one of another type or length."""
    try:
        with _HEADERS:
            part: np.ndarray = np.load(path, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError):
        return None
    return part if dtype is None or (part.dtype == dtype and part.shape == (count,)) else None
