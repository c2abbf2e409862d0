"""Frozen features of the images of a project: computed once by a body that is never trained, kept, read as memory maps.

`FOLDER/<body>/<images>/`: the body's part of the name depends on the body, its weights, its input and the views, the
images' part on names and content of all images. What other lists of images have in common with this one is taken over
from them, so that a pool that grew computes what is new. Several processes may share the folder: one computes, the
others wait.

Features are then centred by the pool's mean, reduced to `features.pca` principal components of the pool, and brought to
unit length: `FrozenFeatures`. Where a pool is a part of a data set drawn by the run's seed (`Pool.whole`), all this is
of the whole, so that runs of every seed share it.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from filelock import FileLock
from jaxtyping import Float32, Int64, UInt64
from PIL import Image

from labelwise import files
from labelwise.config.features import Features
from labelwise.data import image_reader, pixels
from labelwise.files.feature_files import FeatureFolder, mapped
from labelwise.types import LabelwiseError, Pool
from labelwise.types.disk import readable_errors, remove_leftovers, replacing

if TYPE_CHECKING:
    from contextlib import AbstractContextManager

    from labelwise.bodies.frozen_body import FrozenBody

SHARD_IMAGES = 512
"""So many images are computed before they are kept."""
BATCH_IMAGES = 32
BLOCK_ROWS = 4096
"""Rows that are centred and reduced at once."""
CROP_AREA, CROP_RATIO = (0.08, 1.0), (3 / 4, 4 / 3)
"""Of a kept view: its share of the image's area and its width over its height, as torchvision's RandomResizedCrop."""


@dataclass(frozen=True, eq=False)
class FrozenFeatures:
    """Features of a pool's images, centred and of unit length.

    `table` [kept images, 1 + views, D] is a memory map; `rows` gives the row of every image of the pool, -1 where it
    has none; `failed` says of these why.
    """

    table: Float32[np.ndarray, "m views D"]
    rows: Int64[np.ndarray, " images"]
    failed: Mapping[int, str]

    @property
    def width(self) -> int:
        """D."""
        return int(self.table.shape[2])

    def of(self, images: Int64[np.ndarray, " n"]) -> Float32[np.ndarray, "n D"]:
        """The features of these images; zeros of those that have none."""
        return self.views(images)[:, 0]

    def views(self, images: Int64[np.ndarray, " n"]) -> Float32[np.ndarray, "n views D"]:
        """The features of these images and of their kept views."""
        rows = self.rows[images]
        found = np.asarray(self.table[np.maximum(rows, 0)]) if len(self.table) else np.zeros((0, *self.table.shape[1:]))
        found = found.astype(np.float32, copy=True)
        found[rows < 0] = 0
        return found


@dataclass(frozen=True)
class Extraction:
    """How features are computed: by which section of the config, where, and with which bar.

    `centre`: whether the body sees the central square of an image, as a classifier does, or all of it, squeezed.
    """

    rule: Features
    folder: Path
    centre: bool
    device: str
    bar: Callable[[str, int], AbstractContextManager[Callable[[int], None]]]

    def features(self, which: str, pool: Pool, of_pool: Pool) -> FrozenFeatures:
        """The features of the images of a pool, computed if they are not kept yet; centred by those of `of_pool`."""
        basis_folder, mean, components = self._basis(of_pool)
        whole = pool.whole or pool
        folder = self._raw(which, whole)
        raw, failed = folder.read()
        name = hashlib.sha256(f"{basis_folder.path.name} {self.rule.pca}".encode()).hexdigest()[:12]
        path = folder.path / f"prepared-{name}.npy"
        if not path.exists():
            with FileLock(folder.path / "lock"):
                if not path.exists():
                    _prepare(path, raw, mean, components, failed)
        number_of = whole.number_of
        rows = np.array([number_of.get(one, -1) for one in pool.names], np.int64)
        why = {i: failed[int(rows[i])] for i in np.flatnonzero(np.isin(rows, list(failed))).tolist()}
        rows[list(why)] = -1
        gone = {i: f"{pool.path(i)}: it has no features" for i in np.flatnonzero(rows < 0).tolist()}
        return FrozenFeatures(mapped(path), rows, dict(sorted({**gone, **why, **pool.unavailable}.items())))

    def _basis(self, pool: Pool) -> tuple[FeatureFolder, np.ndarray, np.ndarray | None]:
        """Mean of the pool's features, and their principal components [k, D]."""
        folder = self._raw("pool", pool.whole or pool)
        path = folder.path / f"basis-{self.rule.pca}.safetensors"
        if not path.exists():
            with FileLock(folder.path / "lock"):
                if not path.exists():
                    files.write_tensors(path, basis(*folder.read(), self.rule.pca))
        found, _ = files.read_tensors(path)
        return folder, found["mean"], found.get("components")

    def _raw(self, which: str, pool: Pool) -> FeatureFolder:
        """The features as the body gives them."""
        keys = keys_of(pool)
        home = self.folder / self._body_name()
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

    def _body_name(self) -> str:
        from labelwise.bodies import by_name

        rule = self.rule
        about = [rule.body, by_name.identity(rule.body, rule.weights), rule.weights_input, rule.size_px, rule.views]
        digest = hashlib.sha256(json.dumps([*about, self.centre]).encode()).hexdigest()[:12]
        return f"{re.sub(r'[^A-Za-z0-9_.-]+', '_', rule.body)[-60:]}-{digest}"

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
        folder.finish(keys, sources(), shape, failed)

    def _run(
        self,
        which: str,
        pool: Pool,
        keys: np.ndarray,
        missing: np.ndarray,
        folder: FeatureFolder,
        failed: dict[int, str],
    ) -> tuple[int, int]:
        """Computes what is missing, shard by shard; while the body looks at one, the next is decoded."""
        from labelwise.bodies import by_name

        rule = self.rule
        body = by_name.build(rule.body, rule.weights, rule.weights_input).to(self.device)
        reader = _Reader(pool, keys, rule.size_px or body.size_px, rule.views, self.centre, failed)
        columns = _width(body, reader.size_px)
        starts = range(0, len(missing), SHARD_IMAGES)
        title = f"frozen features of {len(missing)} images of the {which}"
        with ThreadPoolExecutor(image_reader.THREADS) as threads, self.bar(title, len(missing)) as advance:
            ahead = [threads.submit(reader.read, i) for i in missing[:SHARD_IMAGES].tolist()]
            for start in starts:
                here, shard = ahead, missing[start : start + SHARD_IMAGES]
                after = missing[start + SHARD_IMAGES : start + 2 * SHARD_IMAGES]
                squares = [one.result() for one in here]
                ahead = [threads.submit(reader.read, i) for i in after.tolist()]
                seen = np.array([one is not None for one in squares], bool)
                shown = [one for one in squares if one is not None]
                found = _run_body(body, shown, self.device, advance)
                if len(shown):
                    folder.keep(keys[shard[seen]], found.reshape(len(shown), 1 + rule.views, columns))
                advance(int((~seen).sum()))
        return 1 + rule.views, columns


@dataclass(frozen=True)
class _Reader:
    """Decodes an image, and crops its views; what cannot be read is told in `failed`."""

    pool: Pool
    keys: UInt64[np.ndarray, " n"]
    size_px: int
    views: int
    centre: bool
    failed: dict[int, str]

    def read(self, image: int) -> np.ndarray | None:
        """The image and its views, uint8 [1 + views, 3, size, size]."""
        try:
            shown = image_reader.pixels_of(self.pool, image)
        except LabelwiseError as error:
            self.failed[image] = str(error)
            return None
        height, width = shown.shape[:2]
        first = pixels.square(shown, self.size_px) if self.centre else self._part(shown, (0, 0, width, height))
        crops = [first]
        for view in range(self.views):
            rng = np.random.default_rng([int(self.keys[image]), view])
            crop = self._part(shown, random_crop(width, height, rng))
            crops.append(crop[:, :, ::-1] if rng.random() < 0.5 else crop)
        return np.stack(crops)

    def _part(self, shown: np.ndarray, box: tuple[float, float, float, float]) -> np.ndarray:
        size = (self.size_px, self.size_px)
        return np.asarray(Image.fromarray(shown).resize(size, Image.Resampling.BILINEAR, box=box)).transpose(2, 0, 1)


def random_crop(width: int, height: int, rng: np.random.Generator) -> tuple[float, float, float, float]:
    """Corners (x1, y1, x2, y2) in pixels of a random resized crop; of an odd shape cut to the image."""
    area = rng.uniform(*CROP_AREA) * width * height
    ratio = float(np.exp(rng.uniform(*np.log(CROP_RATIO))))
    w, h = min(float(np.sqrt(area * ratio)), width), min(float(np.sqrt(area / ratio)), height)
    x, y = float(rng.uniform(0, width - w)), float(rng.uniform(0, height - h))
    return x, y, min(x + w, width), min(y + h, height)


def keys_of(pool: Pool) -> UInt64[np.ndarray, " images"]:
    """What identifies every image and its content: 64 bits of name and pixels, or file size and time."""
    states: dict[str, str] = {}

    def state(name: str) -> str:
        file = name if pool.frames is None else name.split("#")[0]
        if file not in states:
            try:
                status = (pool.root / file).stat()
                states[file] = f"{status.st_size} {status.st_mtime_ns}"
            except OSError:
                states[file] = "gone"
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
    path: Path, raw: np.ndarray, mean: np.ndarray, components: np.ndarray | None, failed: Mapping[int, str]
) -> None:
    """Writes features that are centred, reduced and of unit length; an image without features has zeros."""
    columns = raw.shape[2] if components is None else len(components)
    with replacing(path) as partial:
        table = np.lib.format.open_memmap(partial, mode="w+", dtype=np.float32, shape=(*raw.shape[:2], columns))
        for start in range(0, len(raw), BLOCK_ROWS):
            table[start : start + BLOCK_ROWS] = prepared(raw[start : start + BLOCK_ROWS], mean, components)
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


def _width(body: FrozenBody, size_px: int) -> int:
    """D, as the body gives it."""
    import torch

    with torch.inference_mode():
        return int(body(torch.zeros(1, 3, size_px, size_px, device=body.mean.device)).shape[1])


def _run_body(body: FrozenBody, squares: list[np.ndarray], device: str, advance: Callable[[int], None]) -> np.ndarray:
    """Features float32 [images * views, D], in batches.

    Raises:
        LabelwiseError: features that are not finite.
    """
    import torch

    out = []
    with torch.inference_mode():
        for start in range(0, len(squares), BATCH_IMAGES):
            some = squares[start : start + BATCH_IMAGES]
            images = torch.from_numpy(np.concatenate(some)).to(device).float().div_(255)
            out.append(body(images).float().cpu().numpy())
            advance(len(some))
    found = np.concatenate(out) if out else np.zeros((0, 0), np.float32)
    if not np.isfinite(found).all():
        raise LabelwiseError(
            "frozen features that are not finite: the body's weights are broken or do not fit its input"
        )
    return found
