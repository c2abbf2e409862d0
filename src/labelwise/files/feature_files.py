"""Frozen features of a list of images on disk: a folder that is filled part by part, and read as one memory map.

`features.npy` [images, views, D] float32 and `keys.npy` (what identifies every image and its content) are there once
all is computed; `about.json`, written last, says which images failed. Until then `part-*.npz` hold what was computed
so far, each with the keys of its images, so that a killed run goes on where it was.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Float32, UInt64

from labelwise.files.formats import read_json
from labelwise.types import LabelwiseError
from labelwise.types.disk import replacing, write_json

BLOCK_ROWS = 4096
"""Rows (an image has one and one for each view, or one for each object) that are copied at once, about."""


@dataclass(frozen=True)
class FeatureFolder:
    """The features of one list of images by one body."""

    path: Path

    @property
    def finished(self) -> bool:
        """Whether all is computed."""
        return (self.path / "about.json").is_file()

    @property
    def _parts(self) -> list[Path]:
        return sorted(self.path.glob("part-*.npz"))

    def keep(self, keys: UInt64[np.ndarray, " m"], features: Float32[np.ndarray, "m views D"]) -> None:
        """Keeps a part of the features."""
        number = max((int(path.stem[5:]) for path in self._parts), default=-1) + 1
        with replacing(self.path / f"part-{number:06d}.npz") as partial, partial.open("wb") as file:
            np.savez(file, keys=keys, features=features)

    def computed(self) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Keys and features that are there: the whole, or part after part; what is damaged is left out."""
        if self.finished:
            try:
                keys, features = mapped(self.path / "keys.npy"), mapped(self.path / "features.npy")
            except LabelwiseError:
                return
            if _fit(keys, features):
                yield np.asarray(keys), features
            return
        for path in self._parts:
            try:
                with path.open("rb") as file, np.load(file) as part:
                    keys, features = part["keys"], part["features"]
            except MemoryError:
                raise
            except Exception:  # see `mapped`
                continue
            if _fit(keys, features):
                yield keys, features

    def finish(
        self,
        keys: UInt64[np.ndarray, " n"],
        sources: Iterator[tuple[np.ndarray, np.ndarray]],
        shape: tuple[int, int],
        failed: Mapping[int, str],
    ) -> None:
        """Puts the features of `keys` into one file, from all `sources`; what is in none of them (`failed`) is 0."""
        with replacing(self.path / "features.npy") as partial:
            table = np.lib.format.open_memmap(partial, mode="w+", dtype=np.float32, shape=(len(keys), *shape))
            size = max(1, BLOCK_ROWS // shape[0])
            for there, features in sources:
                if features.shape[1:] != shape:
                    continue
                _, rows, others = np.intersect1d(keys, there, return_indices=True)
                for start in range(0, len(rows), size):
                    some = np.asarray(features[others[start : start + size]])
                    seen = some.any(axis=(1, 2))  # of an image that failed there, another source may have the features
                    table[rows[start : start + size][seen]] = some[seen]
            table.flush()
            del table
        with replacing(self.path / "keys.npy") as partial, partial.open("wb") as file:
            np.save(file, keys)
        write_json(self.path / "about.json", {"failed": {str(row): why for row, why in failed.items()}})
        for path in self._parts:
            path.unlink(missing_ok=True)

    def read(self) -> tuple[Float32[np.ndarray, "n views D"], dict[int, str]]:
        """The features as a memory map, and of the images without (rows of zeros) why.

        Raises:
            LabelwiseError: the file is lost or damaged.
        """
        about, table = read_json(self.path / "about.json"), mapped(self.path / "features.npy")
        try:
            failed = {int(row): str(why) for row, why in about["failed"].items()}
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            raise _damaged(self.path / "about.json", error) from error
        if table.ndim != 3:
            raise _damaged(self.path / "features.npy", ValueError(f"of shape {table.shape}"))
        return table, failed


def _fit(keys: np.ndarray, features: np.ndarray) -> bool:
    """Whether these are features and the keys of their images."""
    typed = keys.dtype == np.uint64 and features.dtype == np.float32
    return typed and features.ndim == 3 and keys.shape == features.shape[:1]


def mapped(path: Path) -> np.ndarray:
    """A file of an array, as a memory map.

    Raises:
        LabelwiseError: it is lost or damaged.
    """
    try:
        table: np.ndarray = np.lib.format.open_memmap(path, mode="r")
        return table
    except MemoryError:
        raise
    except Exception as error:  # NumPy's parser of headers raises nearly anything
        raise _damaged(path, error) from error


def _damaged(path: Path, error: Exception) -> LabelwiseError:
    return LabelwiseError(
        f"{path} is lost or damaged ({error}). Remove the folder {path.parent}: its features are computed anew"
    )
