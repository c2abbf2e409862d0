"""A model over the images of a pool, shard by shard; the only place where models predict.

A shard of images is read while the one before is predicted; images of about the same size are batched; predictions
are written in pool order. So memory is bounded by two shards of images and one of predictions.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Collection, Generator, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass, replace
from time import perf_counter
from typing import Any, Literal, Protocol, runtime_checkable

import numpy as np
import torch
from jaxtyping import Int64
from torch import nn

from labelwise.errors import of_image
from labelwise.predict.passes import Image, Model, Passes, ViewChoice, group_by_shape, in_order, views_of
from labelwise.types import Detections, ImageOutputs, LabelwiseError

READERS = 4
"""Threads that read images."""


@runtime_checkable
class ImageSource(Protocol):
    """Resized images by pool number: `(uint8 [3, h, w], scale_xy [2])` with `scale_xy` = resized / original."""

    def __getitem__(self, image: int, /) -> tuple[np.ndarray, np.ndarray]: ...


@runtime_checkable
class Sink(Protocol):
    """Takes predictions shard by shard; `first_image` is the pool number of the shard's first image."""

    def append(self, first_image: int, detections: Detections, /) -> object: ...


@dataclass(frozen=True, slots=True)
class Summary:
    """What a pass did. `skipped`: number and message of every image that could not be read (it has no detections)."""

    images: int
    detections: int
    without_area: int
    passes: int
    seconds: float
    skipped: tuple[tuple[int, str], ...]

    @property
    def images_per_s(self) -> float:
        """Images through the model per second, every view counted as one more."""
        return (self.images - len(self.skipped)) * self.passes / self.seconds if self.seconds > 0 else 0.0


@torch.inference_mode()
def predict(
    model: Model,
    images: ImageSource,
    indices: Sequence[int] | Int64[np.ndarray, " wanted"],
    writer: Sink,
    *,
    n_images: int,
    views: Sequence[ViewChoice] = (),
    seed: int = 0,
    round_number: int = 0,
    batch_size: int = 16,
    device: str | torch.device | None = None,
    min_score: float = 0.05,
    keep: Collection[str] = (),
    members: Sequence[Model] = (),
    precision: Literal["fp32", "bf16"] = "fp32",
    shard_images: int = 512,
    span: tuple[int, int] | None = None,
    names: Sequence[str] | None = None,
    progress: Callable[[int], None] | None = None,
) -> Summary:
    """Predicts on the wanted images of a pool of `n_images`; every image, wanted or not, goes to `writer` in order.
    With a `span` (first, stop) only the images of these numbers do; the first must be that of a shard.

    Boxes come out in pixels of the original image, clipped to it; a box that has no area left is dropped and counted.
    A detection without counterpart under a view gets IoU 0, score 0 and uniform probs there. An image that cannot be
    read is skipped and reported. The same arguments give the same predictions; what is random in a view depends on
    `seed`, `round_number`, the image's number and the view alone (dropout: on the batch too). `keep` names optional
    outputs and `members` further models (see `Passes`). A batch that a GPU has no room for is halved, and so are those
    after it. `device` is where the model is, unless given. `names` (by pool number) are for messages; `progress` is
    told how many images have been done since it was told last.

    Raises:
        LabelwiseError: unknown view or setting; a model output that is not finite or no distribution (names the image).
    """
    if isinstance(model, nn.Module) and model.training:
        raise LabelwiseError("predict: the model is in training mode; call model.eval() first")
    first_image, stop = span or (0, n_images)
    wanted = _checked(indices, n_images)
    wanted = wanted[(wanted >= first_image) & (wanted < stop)]
    on = _device_of(model) if device is None else torch.device(device)
    asked = views_of(views)
    passes = Passes(
        model, asked, (seed, round_number), on, min_score, frozenset(keep), precision == "bf16", tuple(members)
    )
    report = progress or (lambda done: None)
    skipped: list[tuple[int, str]] = []
    began, total, without_area = perf_counter(), 0, 0
    with closing(_shards(images, wanted, range(first_image, stop, shard_images), names)) as shards:
        for first, size, readable, unreadable in shards:
            skipped += unreadable
            report(len(unreadable))
            detections, dropped, batch_size = _predict_shard(passes, readable, first, size, batch_size, report)
            writer.append(first, detections)
            total, without_area = total + len(detections), without_area + dropped
    n_passes = 1 + len(passes.views) + len(passes.members)
    return Summary(len(wanted), total, without_area, n_passes, perf_counter() - began, tuple(skipped))


def predict_detections(
    model: Model, images: ImageSource, indices: Sequence[int] | Int64[np.ndarray, " wanted"], **settings: Any
) -> tuple[Detections, Summary]:
    """`predict` for a pool whose predictions fit into memory, such as a test set; `settings` are those of `predict`."""
    shards = _Memory([], [])
    predicted = predict(model, images, indices, shards, **settings)
    return in_order(shards.detections, shards.places, settings["n_images"]), predicted


@dataclass(frozen=True, slots=True)
class _Memory:
    detections: list[Detections]
    places: list[np.ndarray]

    def append(self, first_image: int, detections: Detections, /) -> None:
        self.detections.append(detections)
        self.places.append(first_image + np.arange(detections.n_images))


def _checked(indices: Sequence[int] | np.ndarray, n_images: int) -> Int64[np.ndarray, " wanted"]:
    wanted = np.asarray(indices, np.int64)
    if n_images < 1:
        raise LabelwiseError("predict: the pool is empty; expected at least one image")
    if len(wanted) and (wanted[0] < 0 or wanted[-1] >= n_images or bool((np.diff(wanted) <= 0).any())):
        raise LabelwiseError(f"predict: indices must rise strictly within 0..{n_images - 1}; sort them")
    return wanted


def _device_of(model: Model) -> torch.device:
    parameter = next(model.parameters(), None) if isinstance(model, nn.Module) else None
    return torch.device("cpu") if parameter is None else parameter.device


def _predict_shard(
    passes: Passes, readable: list[Image], first: int, size: int, batch_size: int, report: Callable[[int], None]
) -> tuple[Detections, int, int]:
    """Detections on the `size` images of a shard, how many boxes had no area, and the batch size that went through."""
    if not readable:
        return in_order([_nothing(passes)], [np.zeros(1, np.int64)], size), 0, batch_size
    parts, places, without_area = [], [], 0
    waiting = deque(_batches(readable, batch_size))
    while waiting:
        batch = waiting.popleft()
        try:
            found = passes.run(batch)
        except torch.OutOfMemoryError as error:
            if len(batch) == 1:
                raise LabelwiseError(
                    f"predict: the memory of {passes.device} does not hold image {batch[0].name}, "
                    f"{' x '.join(map(str, batch[0].pixels.shape[:0:-1]))} px: lower data.image_size_px, or free it "
                    "of other programs"
                ) from error
            found = None
        if found is None:  # out of the handler, which holds what was computed
            torch.cuda.empty_cache()
            batch_size = (len(batch) + 1) // 2
            left = [batch, *waiting]
            waiting = deque(one[k : k + batch_size] for one in left for k in range(0, len(one), batch_size))
            continue
        part, dropped = found
        parts.append(part)
        places.append(np.array([image.number - first for image in batch]))
        without_area += dropped
        report(len(batch))
    return in_order(parts, places, size), without_area, batch_size


def _nothing(passes: Passes) -> Detections:
    """No detection on one image; a blank image through the model tells the shapes."""
    blank = Image(0, "blank", np.zeros((3, 64, 64), np.uint8), np.ones(2))
    found = passes.run([blank])[0].take(np.zeros(0, np.int64))
    said = found.per_image
    if said is not None:  # the blank image is none of the pool's
        said = ImageOutputs(np.zeros_like(said.features), np.zeros_like(said.predicted_loss), np.zeros_like(said.seen))
    return replace(found, per_image=said)


def _shards(
    images: ImageSource, wanted: np.ndarray, firsts: range, names: Sequence[str] | None
) -> Generator[tuple[int, int, list[Image], list[tuple[int, str]]]]:
    """First image, number of images, the readable wanted ones, number and message of the others, shard by shard."""
    reader = ThreadPoolExecutor(max_workers=READERS, thread_name_prefix="predict-read")

    def read(first: int) -> dict[int, Future[tuple[np.ndarray, np.ndarray]]]:
        low, high = np.searchsorted(wanted, (first, first + firsts.step))
        return {number: reader.submit(images.__getitem__, number) for number in wanted[low:high].tolist()}

    try:
        ahead = read(firsts.start)
        for first in firsts:
            reading, ahead = ahead, read(first + firsts.step)
            readable, unreadable = [], []
            for number, future in reading.items():
                try:
                    pixels, scale_xy = future.result()
                except LabelwiseError as error:
                    unreadable.append((number, of_image(error)))
                else:
                    name = names[number] if names is not None else f"number {number}"
                    readable.append(Image(number, name, pixels, scale_xy))
            yield first, min(firsts.step, firsts.stop - first), readable, unreadable
    finally:
        reader.shutdown(cancel_futures=True)


def _batches(shard: list[Image], batch_size: int) -> Iterator[list[Image]]:
    """The shard's images, those of about the same size together, at most `batch_size` at a time."""
    for group in group_by_shape([image.pixels.shape for image in shard]):
        for start in range(0, len(group), batch_size):
            yield [shard[i] for i in group[start : start + batch_size]]
