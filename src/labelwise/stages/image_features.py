"""Features of whole images and boxes, wherever they come from: the model that was trained, or the frozen body.

With `features.objects` an image has the feature of its best proposal, a box that of the proposal that overlaps it most.
"""

from __future__ import annotations

import numpy as np
import torch
from jaxtyping import Bool, Float32, Float64, Int64
from torch import Tensor

from labelwise.project.context import Context
from labelwise.project.kept_features import FrozenFeatures
from labelwise.project.round import Round
from labelwise.types import ImageOutputs, Rects
from labelwise.types.overlap import nearest


class FrozenTable:
    """Frozen features in place of the squares that a classifier looks at: `table[rows]` is float32 [n, D]."""

    def __init__(self, features: FrozenFeatures) -> None:
        self.features = features
        self.device, self.dtype = torch.device("cpu"), torch.float32

    def __len__(self) -> int:
        return len(self.features.rows)

    def __getitem__(self, rows: Tensor) -> Tensor:
        return torch.from_numpy(self.features.of(rows.numpy()))

    def views(self, images: np.ndarray) -> Float32[np.ndarray, "n views D"]:
        """The features of these images and of their kept views."""
        return self.features.views(images)


def frozen(context: Context) -> ImageOutputs:
    """The frozen features of the pool; `seen` where an image has them."""
    found, seen = context.features("pool"), readable(context)
    n = len(seen)
    return ImageOutputs(found.of(np.arange(n)), np.zeros(n, np.float32), seen)


def readable(context: Context) -> Bool[np.ndarray, " images"]:
    """The images of the pool that have frozen features."""
    found = context.features("pool")
    seen: np.ndarray = found.rows >= 0
    seen[list(found.failed)] = False
    return seen


def of_model(now: Round) -> ImageOutputs:
    """What scores and VAAL see: what the model said of images; a head's features are the frozen ones."""
    return frozen(now.context) if now.run.reads_features else now.image_outputs


def of_selectors(now: Round, images: np.ndarray) -> Float32[np.ndarray, "n D"]:
    """What selectors see of these images."""
    if now.run.frozen_selection:
        return now.context.features("pool").of(images)
    return now.image_features(images)


def labelled_images(now: Round) -> Int64[np.ndarray, " m"]:
    """The wholly labelled images of which selectors see something."""
    seen = readable(now.context) if now.run.frozen_selection else now.looked_at
    return np.flatnonzero(now.covered & seen)


def of_boxes(context: Context, boxes: Rects) -> tuple[Float32[np.ndarray, "n D"], Float64[np.ndarray, " n"]]:
    """Of every box of the pool the frozen feature of the proposal that overlaps it most, and the IoU; zeros where none
    does.
    """
    objects = context.objects("pool")
    row, overlap = nearest(boxes.offsets, boxes.xyxy, Rects(objects.offsets, objects.boxes))
    features = objects.features[np.maximum(row, 0)] if len(objects) else np.zeros((len(row), objects.features.shape[1]))
    features = features.astype(np.float32)
    features[row < 0] = 0
    return features, overlap
