"""Frozen features of the images of a project: computed once by a body that is never trained, kept, read as memory maps.

`FOLDER/<body>/<images>/`: the body's part of the name depends on the body, its weights, its input and the views, the
images' part on names and content of all images. What other lists of images have in common with this one is taken over
from them, so that a pool that grew computes what is new. Several processes may share the folder: one computes, the
others wait.

A `Looker` is what looks (`lookers`): at whole images (`whole_images`) or at proposed objects (`objects`). Features are
then centred by the pool's mean, reduced to `features.pca` principal components of the pool, and brought to unit length:
`FrozenFeatures`. A pool that grew has another mean and other components, which a model that was trained before does not
know: a project goes on with those of its last training until the next one. Where a pool is a part of a data set drawn
by the run's seed (`Pool.whole`), all this is of the whole, so that runs of every seed share it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from filelock import FileLock
from jaxtyping import Float32, Int64, UInt64

from labelwise import files
from labelwise.data import image_store
from labelwise.files.feature_files import BLOCK_ROWS, FeatureFolder, mapped
from labelwise.project.lookers import Look, Looker, look
from labelwise.types import Pool
from labelwise.types.disk import readable_errors, remove_leftovers, replacing

if TYPE_CHECKING:
    from contextlib import AbstractContextManager


@dataclass(frozen=True, eq=False)
class FrozenFeatures:
    """Features of a pool's images, centred and of unit length.

    `table` [kept images, rows of an image, leading + D] is a memory map; `rows` gives the place of every image of the
    pool in it, -1 where it has none; `failed` says of these why. `name`: of network, weights and input. `stale`: they
    are centred and reduced as an earlier pool wanted it.
    """

    table: Float32[np.ndarray, "m rows columns"]
    leading: int
    rows: Int64[np.ndarray, " images"]
    failed: Mapping[int, str]
    name: str = ""
    stale: bool = False

    @property
    def width(self) -> int:
        """D."""
        return int(self.table.shape[2]) - self.leading

    def of(self, images: Int64[np.ndarray, " n"]) -> Float32[np.ndarray, "n D"]:
        """The features of these images; zeros of those that have none."""
        return self._columns(images, slice(0, 1))[:, 0, self.leading :]

    def views(self, images: Int64[np.ndarray, " n"]) -> Float32[np.ndarray, "n rows D"]:
        """The features of these images and of their kept views, or of their objects."""
        return self.everything(images)[:, :, self.leading :]

    def everything(self, images: Int64[np.ndarray, " n"]) -> Float32[np.ndarray, "n rows columns"]:
        """All columns of these images; zeros of those that have none."""
        return self._columns(images, slice(None))

    def _columns(self, images: np.ndarray, which: slice) -> Float32[np.ndarray, "n some columns"]:
        """All columns of some rows of these images, copied."""
        rows = self.rows[images]
        table = self.table[:, which]
        found = np.zeros((len(rows), *table.shape[1:]), np.float32)
        seen = rows >= 0
        found[seen] = table[rows[seen]]
        return found


@dataclass(frozen=True)
class Extraction:
    """How features are computed: by whom, in which folder they are kept, with which bar.

    `pca`: how many principal components of the pool are left; None: all columns. `own`: the folder in which a project
    notes the images whose mean and components its last training had; None: those of the pool are taken. `look`: where
    the looker looks.
    """

    looker: Looker
    folder: Path
    pca: int | None
    bar: Callable[[str, int], AbstractContextManager[Callable[[int], None]]]
    own: Path | None = None
    look: Look = look

    def features(self, which: str, pool: Pool, of_pool: Pool, *, renew: bool = False) -> FrozenFeatures:
        """The features of the images of a pool, computed if they are not kept yet; centred by those of `of_pool`.

        `renew`: whether what the project noted of an earlier pool is forgotten, as a training begins.
        """
        newest = self._raw("pool", of_pool.whole or of_pool)
        basis_folder = self._noted(newest, renew)
        mean, components = self._basis(basis_folder)
        whole = pool.whole or pool
        folder = self._raw(which, whole)
        raw, failed = folder.read()
        name = hashlib.sha256(f"{basis_folder.path.name} {self.pca}".encode()).hexdigest()[:12]
        path = folder.path / f"prepared-{name}.npy"
        if not path.exists():
            with FileLock(folder.path / "lock"):
                if not path.exists():
                    _prepare(path, raw, self.looker.leading, mean, components, failed)
        number_of = {name: k for k, name in enumerate(whole.names)}
        rows = np.array([number_of.get(one, -1) for one in pool.names], np.int64)
        why = {i: failed[int(rows[i])] for i in np.flatnonzero(np.isin(rows, list(failed))).tolist()}
        rows[list(why)] = -1
        gone = {i: f"{pool.path(i)}: it has no features" for i in np.flatnonzero(rows < 0).tolist()}
        failures = dict(sorted({**gone, **why, **pool.unavailable}.items()))
        stale = basis_folder.path != newest.path
        return FrozenFeatures(mapped(path), self.looker.leading, rows, failures, self.looker.name, stale)

    def _noted(self, newest: FeatureFolder, renew: bool) -> FeatureFolder:
        """The list of images whose mean and components are taken; noted for the next time."""
        if self.own is None:
            return newest
        note = self.own / f"basis-{self.looker.name}-{self.pca}.txt"
        if note.exists() and not renew:
            found = FeatureFolder(newest.path.parent / note.read_text(encoding="utf-8").strip())
            if found.finished:
                return found
        files.write_text(note, newest.path.name)
        return newest

    def _basis(self, folder: FeatureFolder) -> tuple[np.ndarray, np.ndarray | None]:
        """Mean of the features of a list of images, and their principal components [k, D]."""
        path = folder.path / f"basis-{self.pca}.safetensors"
        if not path.exists():
            with FileLock(folder.path / "lock"):
                if not path.exists():
                    raw, failed = folder.read()
                    files.write_tensors(path, basis(raw[..., self.looker.leading :], failed, self.pca))
        found, _ = files.read_tensors(path)
        return found["mean"], found.get("components")

    def _raw(self, which: str, pool: Pool) -> FeatureFolder:
        """What the network says, as it is."""
        keys = keys_of(pool)
        home = self.folder / self.looker.name
        folder = FeatureFolder(home / hashlib.sha256(keys.tobytes()).hexdigest()[:16])
        if folder.finished:
            return folder
        with readable_errors(folder.path):
            folder.path.mkdir(parents=True, exist_ok=True)
        with FileLock(folder.path / "lock"):
            if not folder.finished:
                remove_leftovers(folder.path, below=False)
                self._compute(which, pool, keys, folder)
        return folder

    def _compute(self, which: str, pool: Pool, keys: np.ndarray, folder: FeatureFolder) -> None:
        others = [FeatureFolder(one) for one in sorted(folder.path.parent.iterdir()) if one != folder.path]
        finished = [one for one in others if one.finished]

        def sources() -> Iterator[tuple[np.ndarray, np.ndarray]]:
            return chain.from_iterable(one.computed() for one in [*finished, folder])

        there, shape = np.zeros(len(keys), bool), None
        for known, features in sources():
            there |= np.isin(keys, known[np.asarray(features).any(axis=(1, 2))])  # a row of zeros is one that failed
            shape = features.shape[1:]
        failed: dict[int, str] = {}
        missing = np.flatnonzero(~there)
        if len(missing) or shape is None:
            shape = self._run(which, pool, keys, missing, folder, failed)
        folder.finish(keys, sources(), shape, dict(sorted(failed.items())))

    def _run(
        self,
        which: str,
        pool: Pool,
        keys: np.ndarray,
        missing: np.ndarray,
        folder: FeatureFolder,
        failed: dict[int, str],
    ) -> tuple[int, int]:
        """Computes what is missing, shard by shard."""
        size = self.looker.shard
        shards = [missing[start : start + size] for start in range(0, max(1, len(missing)), size)]
        title = f"{self.looker.what} of {len(missing)} images of the {which}"
        with self.bar(title, len(missing)) as advance:
            for found in self.look(self.looker, pool, keys, shards, advance):
                failed |= found.failed
                if len(found.seen):
                    folder.keep(keys[found.seen], found.features)
        return found.shape


def keys_of(pool: Pool) -> UInt64[np.ndarray, " images"]:
    """What identifies every image and its content: 64 bits of name and pixels, or file size and time."""
    states: dict[str, str] = {}

    def state(name: str) -> str:
        file = name if pool.frames is None else name.split("#")[0]
        if file not in states:
            status = image_store.status(pool.root / file)
            states[file] = "gone" if status is None else f"{status[0]} {status[1]}"
        return states[file]

    held = pool.pixels
    digests = [
        hashlib.blake2b(
            state(name).encode() if held is None else held[i].tobytes(), digest_size=8, key=_key(name)
        ).digest()
        for i, name in enumerate(pool.names)
    ]
    return np.frombuffer(b"".join(digests), np.uint64).copy()


def _key(name: str) -> bytes:
    content = name.encode()
    return content if len(content) <= 64 else hashlib.sha256(content).digest()


def basis(raw: Float32[np.ndarray, "n views D"], failed: Mapping[int, str], pca: int | None) -> dict[str, np.ndarray]:
    """`mean` [D] of the features, and with `pca` their `components` [k, D], the largest first; the largest number of a
    component is positive. k is at most D and the number of images.
    """
    n, _, columns = raw.shape
    seen = np.setdiff1d(np.arange(n), list(failed))
    total = np.zeros(columns)
    for start in range(0, len(seen), BLOCK_ROWS):
        total += raw[seen[start : start + BLOCK_ROWS], 0].sum(axis=0, dtype=np.float64)
    mean = total / max(len(seen), 1)
    if pca is None:
        return {"mean": mean}
    moment = np.zeros((columns, columns))
    for start in range(0, len(seen), BLOCK_ROWS):
        block = raw[seen[start : start + BLOCK_ROWS], 0] - mean
        moment += block.T @ block
    _, vectors = np.linalg.eigh(moment)
    components = vectors.T[::-1][: max(1, min(pca, columns, len(seen)))]
    largest = np.take_along_axis(components, np.abs(components).argmax(axis=1)[:, None], axis=1)
    return {"mean": mean, "components": components * np.where(largest < 0, -1, 1)}


def _prepare(
    path: Path,
    raw: np.ndarray,
    leading: int,
    mean: np.ndarray,
    components: np.ndarray | None,
    failed: Mapping[int, str],
) -> None:
    """Writes features that are centred, reduced and of unit length; an image or row without features has zeros."""
    columns = raw.shape[2] - leading if components is None else len(components)
    with replacing(path) as partial:
        shape = (*raw.shape[:2], leading + columns)
        table = np.lib.format.open_memmap(partial, mode="w+", dtype=np.float32, shape=shape)
        size = max(1, BLOCK_ROWS // max(raw.shape[1], 1))
        for start in range(0, len(raw), size):
            some = np.asarray(raw[start : start + size])
            features = prepared(some[..., leading:], mean, components)
            table[start : start + size] = np.concatenate([some[..., :leading], features], axis=2)
            table[start : start + size][~some.any(axis=2)] = 0
        table[list(failed)] = 0
        table.flush()
        del table


def prepared(
    raw: Float32[np.ndarray, "n views D"], mean: np.ndarray, components: np.ndarray | None
) -> Float32[np.ndarray, "n views k"]:
    """Features centred, reduced to the components, and of unit length (zeros stay zeros).

    >>> prepared(np.array([[[4.0, 5.0]]], np.float32), np.array([1.0, 1.0]), None).tolist()
    [[[0.6000000238418579, 0.800000011920929]]]
    """
    centred = raw - mean
    reduced = centred if components is None else centred @ components.T
    length = np.linalg.norm(reduced, axis=-1, keepdims=True)
    out: np.ndarray = (reduced / np.maximum(length, 1e-12)).astype(np.float32)
    return out
