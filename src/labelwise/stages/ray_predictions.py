"""Predictions of a pool by actors of Ray: the files of one process, byte for byte.

An actor predicts a shard, a range of images, as one process does, and writes its file beside the others; with the last
one the folder takes its place. A run that was killed goes on with the shards that are not written. All machines see the
project folder under the same path.
"""

from __future__ import annotations

import copy
import hashlib
import json
import platform
import re
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from time import perf_counter
from typing import Any, Protocol

import numpy as np
import torch
from torch import nn

from labelwise import files
from labelwise.data import pixels
from labelwise.data.image_reader import Images
from labelwise.predict import detect
from labelwise.predict.classify import classify
from labelwise.stages import over_ray
from labelwise.types import Detections, LabelwiseError, Pool
from labelwise.types.disk import remove_leftovers, temporary

ABOUT = "about.json"
"""In a folder of shards that is not complete: what they are shards of."""
Predict = Callable[[detect.Sink, tuple[int, int]], detect.Summary]
"""Predicts the images of a span (first, stop), which is a shard."""


class Pass(Protocol):
    """A model, and the images at which it looks."""

    @property
    def pool(self) -> Pool: ...

    def key(self) -> Iterator[bytes]:
        """All that the predictions depend on, the images apart."""
        ...

    def begin(self, device: torch.device, shard_images: int, /) -> Predict:
        """On an actor: see `over_ray.Work.begin`."""
        ...


@dataclass(frozen=True)
class _ModelPass:
    """Models that are trained: the first one, and further ones of an ensemble."""

    models: tuple[nn.Module, ...]
    pool: Pool
    size_px: int
    wanted: np.ndarray
    settings: Mapping[str, Any]

    def key(self) -> Iterator[bytes]:
        """Of weights and settings."""
        yield from weights(self.models)
        yield self.wanted.tobytes()
        yield plain([self.size_px, self.settings])


class DetectorPass(_ModelPass):
    """A detector. `settings` are those of `predict.detect.predict`."""

    def begin(self, device: torch.device, shard_images: int, /) -> Predict:
        """Predicts with copies of the models, reading each image once."""
        model, *members = (one.to(device).eval() for one in self.models)
        images, n = Images(self.pool, self.size_px, cache_bytes=0), len(self.pool)

        def predict(sink: detect.Sink, span: tuple[int, int]) -> detect.Summary:
            return detect.predict(
                model, images, self.wanted, sink, n_images=n, span=span, shard_images=shard_images, members=members,
                names=self.pool.names, **self.settings,
            )  # fmt: skip

        return predict


class ClassifierPass(_ModelPass):
    """A classifier that looks at images. `settings` are those of `predict.classify.classify`."""

    def begin(self, device: torch.device, shard_images: int, /) -> Predict:
        """Predicts with copies of the models; the squares of a shard alone are in memory."""
        model, *members = (one.to(device).eval() for one in self.models)
        size = np.stack([self.pool.width_px, self.pool.height_px], axis=1)

        def predict(sink: detect.Sink, span: tuple[int, int]) -> detect.Summary:
            wanted = self.wanted[(self.wanted >= span[0]) & (self.wanted < span[1])]
            found = pixels.read(self.pool, wanted, self.size_px)
            summary = classify(
                model, _Squares(found.squares, wanted), np.setdiff1d(wanted, list(found.failed)), sink, size_px=size,
                span=span, shard_images=shard_images, members=members, names=self.pool.names, **self.settings,
            )  # fmt: skip
            return replace(summary, images=len(wanted), skipped=tuple(found.failed.items()))

        return predict


class _Squares:
    """The squares of some images, by their numbers in the pool: what a classifier looks at."""

    def __init__(self, squares: np.ndarray, images: np.ndarray) -> None:
        self.device, self.dtype = torch.device("cpu"), torch.uint8
        self.squares, self.images = torch.from_numpy(squares), torch.from_numpy(images)

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, rows: torch.Tensor) -> torch.Tensor:
        if not len(self):  # one that is none of the pool's tells the shapes
            return self.squares.new_zeros((len(rows), *self.squares.shape[1:]))
        return self.squares[torch.searchsorted(self.images, rows).clamp(max=len(self) - 1)]


def copies(models: Sequence[nn.Module]) -> tuple[nn.Module, ...]:
    """Models that can be sent."""
    with over_ray.sendable("the model", "predict.engine"):
        return tuple(copy.deepcopy(one).cpu() for one in models)


def weights(models: Sequence[nn.Module]) -> Iterator[bytes]:
    """Names and content of all weights, and how the models are built."""
    for model in models:
        yield re.sub(" at 0x[0-9a-f]+", "", repr(model)).encode()
        for name, tensor in model.state_dict().items():
            yield name.encode()
            yield tensor.detach().cpu().numpy().tobytes()


def plain(settings: Any) -> bytes:
    """Settings as text that is the same for the same ones."""
    return json.dumps(settings, sort_keys=True, default=repr).encode()


@dataclass(frozen=True)
class _Shards:
    """The work of actors: shards of a pass into a folder."""

    one: Pass
    folder: Path
    shard_images: int

    @property
    def pool(self) -> Pool:
        return self.one.pool

    def key(self) -> str:
        """Two of one key write the same shards."""
        digest = hashlib.sha256(plain([type(self.one).__name__, self.pool.names, self.shard_images]))
        for part in self.one.key():
            digest.update(part)
        return digest.hexdigest()

    def said(self, number: int) -> Path:
        """What is said of a shard that is complete."""
        return self.folder / f"said-{number:05d}.json"

    def begin(self, device: torch.device) -> Callable[[int], dict[str, Any]]:
        if not (self.folder / ABOUT).exists():
            raise LabelwiseError(
                f"{self.folder} is not on {platform.node()}: with the engine ray every machine must see the "
                "project folder under the same path; put it on storage that they share"
            )
        predict, n = self.one.begin(device, self.shard_images), len(self.pool)

        def shard(number: int) -> dict[str, Any]:
            first = number * self.shard_images
            span = first, min(first + self.shard_images, n)
            summary = predict(_OneShard(self.folder, number, n), span)
            said: dict[str, Any] = {"shard": number, "images": summary.images, "detections": summary.detections}
            said |= {"without_area": summary.without_area, "skipped": summary.skipped, "passes": summary.passes}
            files.write_json(self.said(number), said)
            return said

        return shard


@dataclass(frozen=True)
class _OneShard:
    """Takes the detections of one shard; its files appear in one step each, the detections last."""

    folder: Path
    number: int
    n_images: int

    def append(self, first_image: int, detections: Detections, /) -> None:
        partial = temporary(self.folder / str(self.number))
        partial.mkdir()
        files.write_shard(partial, self.number, first_image, self.n_images, [detections])
        for path in sorted(partial.iterdir()):
            path.replace(self.folder / path.name)
        partial.rmdir()


def predict(one: Pass, folder: Path, *, shard_images: int, progress: Callable[[int], None]) -> detect.Summary:
    """Predicts the images of a pass into `folder`, as one process does with a `DetectionWriter`.

    Raises:
        LabelwiseError: see `over_ray.run` (what is written stays, and the same command goes on).
    """
    began = perf_counter()
    partial = folder.absolute().with_name(folder.name + "-shards")
    work, n = _Shards(one, partial, shard_images), -(-len(one.pool) // shard_images)
    _begin(work)
    found = {k: files.read_json(work.said(k)) for k in range(n) if work.said(k).exists()}
    progress(sum(said["images"] for said in found.values()))
    left = [k for k in range(n) if k not in found]
    if left:
        for said in over_ray.run(work, left):
            if said["shard"] not in found:
                progress(said["images"])
            found[said["shard"]] = said
    remove_leftovers(partial)
    for path in [partial / ABOUT, *map(work.said, range(n))]:
        path.unlink()
    files.publish(partial, folder)
    skipped = tuple((int(i), str(why)) for k in range(n) for i, why in found[k]["skipped"])
    images, total, flat = (sum(s[name] for s in found.values()) for name in ("images", "detections", "without_area"))
    return detect.Summary(images, total, flat, found[0]["passes"], perf_counter() - began, skipped)


def _begin(work: _Shards) -> None:
    """A folder for these shards; those of others are removed."""
    about = {"key": work.key()}
    if (work.folder / ABOUT).exists() and files.read_json(work.folder / ABOUT) == about:
        return
    shutil.rmtree(work.folder, ignore_errors=True)
    work.folder.mkdir(parents=True)
    files.write_json(work.folder / ABOUT, about)
