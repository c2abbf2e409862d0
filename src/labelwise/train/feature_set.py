"""Labelled images as frozen features: what a head is trained on."""

from __future__ import annotations

from typing import Protocol

import numpy as np
import torch
from jaxtyping import Float, Int64
from torch import Tensor

from labelwise.train.images import ImageSet, Rule


class FeatureTable(Protocol):
    """The features of a pool: `table[rows]` [n, D] float32 of the images as they are, `views` with their kept views."""

    @property
    def device(self) -> torch.device: ...

    @property
    def dtype(self) -> torch.dtype: ...

    def __len__(self) -> int: ...

    def __getitem__(self, rows: Tensor, /) -> Tensor: ...

    def views(self, images: np.ndarray, /) -> np.ndarray: ...


class FeatureSet(ImageSet):
    """The training images of a round, in the order of `numbers`, by their features.

    A batch takes of every image one of its kept views at random (RandomResizedCrop and flip; 001, section 5.4), or the
    image itself where none are kept.
    """

    def __init__(
        self,
        squares: FeatureTable,
        numbers: Int64[np.ndarray, " m"],
        labels: Int64[np.ndarray, " m"],
        weights: Float[np.ndarray, " m"],
        rule: Rule,
    ) -> None:
        super().__init__(squares, numbers, labels, weights, rule)  # type: ignore[arg-type]
        self.table = squares
        self.views = torch.from_numpy(squares.views(numbers)).to(squares.device)

    def inputs(self, rows: np.ndarray) -> Tensor:
        """The features of the given entries, as they are."""
        return self.views[torch.from_numpy(np.asarray(rows)).to(self.views.device), 0]

    def batch(self, indices: np.ndarray, rng: np.random.Generator) -> tuple[Tensor, dict[str, Tensor]]:
        """Features float [b, D], and their labels and weights."""
        view = self.draw_views(len(indices), rng)
        rows = torch.from_numpy(np.asarray(indices)).to(self.views.device)
        features = self.views[rows, torch.from_numpy(view).to(self.views.device)]
        return features, {"labels": self.labels[rows], "weights": self.weights[rows]}

    def draw_views(self, count: int, rng: np.random.Generator) -> Int64[np.ndarray, " count"]:
        """Numbers of views: each one of the kept ones at random, 0 (the image itself) where none are."""
        kept = self.views.shape[1] - 1
        return rng.integers(1, kept + 1, count) if kept else np.zeros(count, np.int64)

    def samples(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Features [s, D], labels and weights of all entries for a solver; views share the weight of their image."""
        m, views, columns = self.views.shape
        labels, weights = self.labels.cpu().numpy(), self.weights.cpu().numpy()
        features = self.views.cpu().numpy().reshape(m * views, columns)
        return features, np.repeat(labels, views), np.repeat(weights / views, views)

    def extended(self, numbers: np.ndarray, labels: np.ndarray) -> FeatureSet:
        """The same with further images, of weight 1."""
        return FeatureSet(
            self.table,
            np.concatenate([self.numbers, numbers]),
            np.concatenate([self.labels.cpu().numpy(), labels]),
            np.concatenate([self.weights.cpu().numpy(), np.ones(len(labels), np.float32)]),
            self.rule,
        )
