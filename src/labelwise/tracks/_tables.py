"""The table of a clip's flow on disk: a row per image in one `.npy` file, written row by row, memory-mapped."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from uuid import uuid4

import numpy as np

from labelwise.types import LabelwiseError

PARTIAL = ".labelwise-tmp"
LEFT_S = 3600.0


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
    """Writes a table row by row under a temporary name, which then takes the place of `path`."""
    partial_path = path.with_name(f".{path.name}.{uuid4().hex}{PARTIAL}")
    try:
        with partial_path.open("wb") as file:
            for i, row in enumerate(rows):
                if i == 0:
                    header = {"descr": np.lib.format.dtype_to_descr(row.dtype), "fortran_order": False}
                    np.lib.format.write_array_header_1_0(file, {**header, "shape": (count,)})
                file.write(row.tobytes())
            file.flush()
            os.fsync(file.fileno())
        partial_path.replace(path)
    except OSError as error:
        raise LabelwiseError(f"cannot write {path}: {error}. Nothing was changed; free space and run again") from error
    finally:
        partial_path.unlink(missing_ok=True)


def remove_leftovers(folder: Path) -> None:
    """Removes what killed runs left; a file that nobody has written to for an hour is nobody's."""
    for path in folder.glob(f".*{PARTIAL}"):
        with suppress(OSError):  # another run removed it
            if time.time() - path.stat().st_mtime > LEFT_S:
                path.unlink()


def load(path: Path, dtype: np.dtype[np.void] | None = None, count: int = 0) -> np.ndarray | None:
    """The table of a clip, memory-mapped; None where there is none, a damaged one, or one of another type or length."""
    try:
        part: np.ndarray = np.load(path, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError):
        return None
    return part if dtype is None or (part.dtype == dtype and part.shape == (count,)) else None
