"""A classifier over the images of a pool: one "detection" per image, the whole of it, with the class distribution.

So every score, selector and label policy takes an image's class as it takes a box's. Dropout passes and the members
of an ensemble are views, as they are for boxes.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import nullcontext
from time import perf_counter
from typing import Protocol

import numpy as np
import torch
from jaxtyping import Float32, Int64
from torch import Tensor, nn

from labelwise.predict.detect import Sink, Summary
from labelwise.predict.passes import ViewChoice, dropping_out, views_of
from labelwise.types import Detections, ImageOutputs, LabelwiseError, Views, offsets_of


class Inputs(Protocol):
    """What a classifier looks at, image by image of the pool: uint8 [images, 3, h, w], or features float [_, D]."""

    @property
    def device(self) -> torch.device: ...

    @property
    def dtype(self) -> torch.dtype: ...

    def __len__(self) -> int: ...

    def __getitem__(self, rows: Tensor, /) -> Tensor: ...


@torch.inference_mode()
def classify(
    model: nn.Module,
    squares: Inputs,
    wanted: Int64[np.ndarray, " wanted"],
    writer: Sink,
    *,
    size_px: Int64[np.ndarray, "images 2"],
    views: Sequence[ViewChoice] = (),
    members: Sequence[nn.Module] = (),
    keep: Collection[str] = (),
    seed: int = 0,
    round_number: int = 0,
    batch_size: int = 512,
    shard_images: int = 8192,
    span: tuple[int, int] | None = None,
    names: Sequence[str] | None = None,
    progress: Callable[[int], None] | None = None,
) -> Summary:
    """Predicts on the wanted images (rising pool numbers); every image goes to `writer` in order, shard by shard.

    Args:
        model: `TASK = "classification"` (`models.classifier`), in evaluation mode.
        squares: all images of the pool (or their frozen features), where the model is or on the CPU.
        wanted: which to predict; the others get no detection.
        writer: takes detections shard by shard.
        size_px: width and height of every image.
        views: `dropout` as often as samples are wanted; a classifier compares no other views.
        members: further models of a small ensemble.
        keep: "image_features" for the pooled feature of every image.
        seed: with `round_number` and the batch's first image, what the dropout depends on.
        round_number: see `seed`.
        batch_size: images through the model at once.
        shard_images: images per shard.
        span: first image and stop: only these go to `writer`; the first must be that of a shard.
        names: names of the images, for messages.
        progress: is told how many images were done since it was told last.

    Raises:
        LabelwiseError: a view that is not dropout; an output that is not finite (names the image).
    """
    found = views_of(views)
    if any(not view.stochastic for view in found):
        raise LabelwiseError(
            f"predict: a classifier compares dropout passes or members; view {found[0].label!r} is for detectors. "
            'Set predict.views = ["dropout", "dropout"]'
        )
    began, passes, report = perf_counter(), 1 + len(found) + len(members), progress or (lambda _: None)
    begin, stop = span or (0, len(size_px))
    wanted = wanted[(wanted >= begin) & (wanted < stop)]
    for first in range(begin, stop, shard_images):
        size = size_px[first : min(first + shard_images, stop)]
        low, high = np.searchsorted(wanted, (first, first + shard_images))
        here = wanted[low:high]
        said = [distributions(model, squares, here, batch_size, keep=keep, report=report)]
        for k in range(len(found)):
            said.append(distributions(model, squares, here, batch_size, (seed, round_number, first, k)))
        said += [distributions(member, squares, here, batch_size) for member in members]
        bad = np.flatnonzero(~np.isfinite(sum(probs.sum(axis=1) for probs, _ in said)))
        if len(bad):
            name = here[bad[0]] if names is None else names[here[bad[0]]]
            raise LabelwiseError(f"predict: image {name}: probs that are not finite; the model has diverged")
        writer.append(first, _detections(said, here - first, size, [v.label for v in found], len(members), keep))
    return Summary(len(wanted), len(wanted), 0, passes, perf_counter() - began, ())


@torch.inference_mode()
def distributions(
    model: nn.Module,
    squares: Inputs,
    wanted: np.ndarray,
    batch_size: int,
    stream: tuple[int, ...] | None = None,
    keep: Collection[str] = (),
    report: Callable[[int], None] | None = None,
) -> tuple[Float32[np.ndarray, "n C"], Float32[np.ndarray, "n D"]]:
    """Class distribution and feature of the wanted images; with a `stream` of randomness the model drops out."""
    probs, features = [], []
    with nullcontext() if stream is None else dropping_out(model, stream):
        for images in batches(model, squares, wanted if len(wanted) else np.zeros(1, np.int64), batch_size):
            logits, feature = model(images)
            probs.append(logits.cpu().double().softmax(dim=1).float().numpy())
            features.append(feature.float().cpu().numpy() if "image_features" in keep else np.zeros((len(images), 0)))
            if report is not None:
                report(len(images) if len(wanted) else 0)
    n = len(wanted)  # of none wanted, one image told the shapes
    return np.concatenate(probs)[:n], np.concatenate(features)[:n].astype(np.float32)


def batches(model: nn.Module, squares: Inputs, wanted: np.ndarray, batch_size: int) -> Iterator[Tensor]:
    """The wanted images as float batches in 0..1 (features as they are), where the model is."""
    device = next(model.parameters()).device
    for start in range(0, len(wanted), batch_size):
        rows = torch.from_numpy(wanted[start : start + batch_size]).to(squares.device)
        found = squares[rows].to(device)
        yield found.float().div_(255) if squares.dtype == torch.uint8 else found


def _detections(
    said: list[tuple[np.ndarray, np.ndarray]],
    here: np.ndarray,
    size: np.ndarray,
    labels: list[str],
    members: int,
    keep: Collection[str],
) -> Detections:
    probs, features = said[0]
    boxes = np.concatenate([np.zeros((len(here), 2)), size[here]], axis=1).astype(np.float32)
    per_image = None
    if "image_features" in keep:
        seen = np.zeros(len(size), np.bool_)
        seen[here] = True
        table = np.zeros((len(size), features.shape[1]), np.float32)
        table[here] = features
        per_image = ImageOutputs(table, np.zeros(len(size), np.float32), seen)
    views = None
    if len(said) > 1:
        others = np.stack([p for p, _ in said[1:]])
        whole = np.ones(others.shape[:2], np.float32)
        names = (*labels, *(f"member-{k + 1}" for k in range(members)))
        views = Views(names, others, others.max(axis=2), whole)
    nothing = np.zeros((len(here), 0), np.float32)
    return Detections(offsets_of(here, len(size)), boxes, probs, probs.max(axis=1), nothing, views, None, per_image)


@torch.inference_mode()
def classes(
    model: nn.Module, squares: Inputs, wanted: Int64[np.ndarray, " wanted"], batch_size: int
) -> Int64[np.ndarray, " wanted"]:
    """The most probable class of the wanted images, the model being left as it was found."""
    training = model.training
    model.eval()
    found = [model(images)[0].argmax(dim=1).cpu().numpy() for images in batches(model, squares, wanted, batch_size)]
    model.train(training)
    return np.concatenate(found).astype(np.int64) if found else np.zeros(0, np.int64)
