"""Labelled images as batches for a classifier; a batch is augmented as a whole, on the device where the images are."""

from __future__ import annotations

import copy
from typing import Protocol

import numpy as np
import torch
from jaxtyping import Bool, Float, Int64, UInt8
from torch import Tensor
from torch.nn import functional

from labelwise.types import LabelwiseError, Targets, image_of


class Rule(Protocol):
    """The settings that say how images are augmented (`config.Train`)."""

    @property
    def flip(self) -> float: ...

    @property
    def pad_px(self) -> int: ...

    @property
    def jitter(self) -> float: ...


def one_per_image(targets: Targets) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Pool number, class and weight of every image that has a class; an image without one is not trained on.

    Raises:
        LabelwiseError: an image with several classes.
    """
    entry = image_of(targets.offsets)
    twice = np.flatnonzero(np.diff(targets.offsets) > 1)
    if len(twice):
        raise LabelwiseError(
            f"image number {targets.images[twice[0]]} has {np.diff(targets.offsets)[twice[0]]} classes; "
            "a classifier trains on one class per image. Correct one of its answers"
        )
    return targets.images[entry], targets.labels, targets.w_cls


class ImageSet:
    """The training images of a round, in the order of `numbers` (pool numbers).

    `squares` holds the whole pool; on a GPU give it there, then nothing is copied per batch.
    """

    teacher: None = None
    """An online teacher is for detectors."""

    def __init__(
        self,
        squares: UInt8[Tensor, "images 3 h w"],
        numbers: Int64[np.ndarray, " m"],
        labels: Int64[np.ndarray, " m"],
        weights: Float[np.ndarray, " m"],
        rule: Rule,
    ) -> None:
        self.squares, self.numbers, self.rule = squares, numbers, rule
        self.at = torch.from_numpy(np.asarray(numbers, np.int64)).to(squares.device)  # where in `squares` they are
        self.labels = torch.from_numpy(labels.astype(np.int64)).to(squares.device)
        self.weights = torch.from_numpy(weights.astype(np.float32)).to(squares.device)

    def __len__(self) -> int:
        return len(self.numbers)

    @property
    def whole(self) -> Bool[np.ndarray, " m"]:
        """Which images are wholly looked over: an image of a class is."""
        return np.ones(len(self), np.bool_)

    @property
    def occupied(self) -> Bool[np.ndarray, " m"]:
        """Which images show something: an image of a class does."""
        return np.ones(len(self), np.bool_)

    def inputs(self, rows: np.ndarray) -> Tensor:
        """The images of the given entries as they are, float [n, 3, h, w] in 0..1."""
        return self.squares[self.at[torch.from_numpy(np.asarray(rows)).to(self.at.device)]].float().div_(255)

    def batch(self, indices: np.ndarray, rng: np.random.Generator) -> tuple[Tensor, dict[str, Tensor]]:
        """Images float [b, 3, h, w] in 0..1, and their labels and weights; one image comes twice (for batch norms)."""
        indices = np.repeat(indices, 2) if len(indices) == 1 else indices
        device = self.squares.device
        images = self.inputs(indices)
        rows = torch.from_numpy(np.asarray(indices)).to(device)
        images = augment(images, rng, flip=self.rule.flip, pad_px=self.rule.pad_px, jitter=self.rule.jitter)
        return images, {"labels": self.labels[rows], "weights": self.weights[rows]}

    def alone(self, device: str) -> ImageSet:
        """The same on a device without the rest of the pool: what another machine is sent. It cannot be extended."""
        other = copy.copy(self)
        other.squares = self.squares[self.at].to(device)
        other.at = torch.arange(len(self), device=device)
        other.labels, other.weights = self.labels.to(device), self.weights.to(device)
        return other

    def extended(self, numbers: np.ndarray, labels: np.ndarray) -> ImageSet:
        """The same with further images, of weight 1."""
        return ImageSet(
            self.squares,
            np.concatenate([self.numbers, numbers]),
            np.concatenate([self.labels.cpu().numpy(), labels]),
            np.concatenate([self.weights.cpu().numpy(), np.ones(len(labels), np.float32)]),
            self.rule,
        )

    def names(self, indices: np.ndarray) -> str:
        """Pool numbers of the given entries, for a message."""
        return ", ".join(map(str, self.numbers[indices].tolist()))


def augment(
    images: Float[Tensor, "b 3 h w"], rng: np.random.Generator, *, flip: float, pad_px: int, jitter: float
) -> Float[Tensor, "b 3 h w"]:
    """Each image by itself: a random crop of the zero-padded image, a flip, brightness and contrast.

    Source: 001, section 3.4.1: random crop from zero-padded images, random horizontal flip.
    """
    b, _, height, width = images.shape
    if flip:
        flipped: Bool[np.ndarray, " b"] = rng.random(b) < flip
        images = torch.where(torch.from_numpy(flipped).to(images.device).view(-1, 1, 1, 1), images.flip(3), images)
    if pad_px:
        dy, dx = (torch.from_numpy(d).to(images.device) for d in rng.integers(0, 2 * pad_px + 1, (2, b)))
        padded = functional.pad(images, (pad_px,) * 4)
        rows = dy[:, None] + torch.arange(height, device=images.device)
        columns = dx[:, None] + torch.arange(width, device=images.device)
        first = torch.arange(b, device=images.device).view(-1, 1, 1, 1)
        channel = torch.arange(3, device=images.device).view(1, 3, 1, 1)
        images = padded[first, channel, rows[:, None, :, None], columns[:, None, None, :]]
    if jitter:
        gain, bias = (
            torch.from_numpy(v.astype(np.float32)).to(images.device).view(-1, 1, 1, 1)
            for v in rng.uniform(-jitter, jitter, (2, b))
        )
        images = (images * (1 + gain) + bias / 2).clamp(0, 1)
    return images
