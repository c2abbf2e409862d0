"""From the images and `Targets` of a round to the tensors that a model trains on."""

from __future__ import annotations

from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from labelwise.types import ORIGIN_PSEUDO, Targets


class ImageSource(Protocol):
    """Resized images by pool number: `(uint8 [3, h, w], scale_xy)` with `scale_xy` = resized / original.

    `crop` gives a part of an image (xyxy in original pixels), resized to the same longest side.
    """

    def __getitem__(self, image: int) -> tuple[np.ndarray, np.ndarray]: ...

    def crop(self, image: int, window: tuple[float, float, float, float]) -> tuple[np.ndarray, np.ndarray]: ...


class TrainingSet:
    """The training images of a round as model inputs; `rows` are the entries of `targets` whose image can be read."""

    def __init__(self, images: ImageSource, targets: Targets, rows: np.ndarray, *, flip: float, jitter: float) -> None:
        self.images, self.targets, self.rows = images, targets, rows
        self.flip, self.jitter = flip, jitter

    def __len__(self) -> int:
        return len(self.rows)

    def sample(self, index: int, rng: np.random.Generator) -> tuple[Tensor, dict[str, Tensor]]:
        """One image float [3, h, w] in 0..1 and its target: boxes, weights and regions in pixels of that image."""
        t, row = self.targets, int(self.rows[index])
        x1, y1, x2, y2 = window = tuple(t.windows[row].tolist())
        pixels, scale_xy = self.images[int(t.images[row])]
        if x1 > 0 or y1 > 0 or not np.allclose([x2, y2], np.array(pixels.shape[:0:-1]) / scale_xy, atol=0.5):
            pixels, scale_xy = self.images.crop(int(t.images[row]), window)
        origin = torch.tensor([x1, y1, x1, y1])
        image = torch.from_numpy(pixels.astype(np.float32)).div_(255)
        scale = torch.from_numpy(np.tile(np.asarray(scale_xy, np.float32), 2))
        span = slice(int(t.offsets[row]), int(t.offsets[row + 1]))
        target = {
            "boxes": (torch.from_numpy(t.boxes[span]) - origin) * scale,
            "labels": torch.from_numpy(t.labels[span]),
            "w_cls": torch.from_numpy(t.w_cls[span]),
            "w_box": torch.from_numpy(t.w_box[span]),
            "negatives": (torch.from_numpy(t.negatives.of(row)) - origin) * scale,
            "ignore": (torch.from_numpy(t.ignore.of(row)) - origin) * scale,
            "pseudo": torch.from_numpy(t.origin[span] == ORIGIN_PSEUDO),
        }
        if t.doubt is not None and t.doubt_scores is not None:
            doubted = slice(int(t.doubt.offsets[row]), int(t.doubt.offsets[row + 1]))
            target["doubt"] = (torch.from_numpy(t.doubt.xyxy[doubted]) - origin) * scale
            target["doubt_scores"] = torch.from_numpy(t.doubt_scores[doubted])
        if rng.random() < self.flip:
            width = image.shape[2]
            image = image.flip(2)
            for key in ("boxes", "negatives", "ignore", *(("doubt",) if "doubt" in target else ())):
                x1, y1, x2, y2 = target[key].unbind(1)
                target[key] = torch.stack((width - x2, y1, width - x1, y2), 1)
        if self.jitter:
            gain, bias = rng.uniform(-self.jitter, self.jitter, 2)
            image = image.mul_(1 + gain).add_(bias / 2).clamp_(0, 1)
        return image, target

    def batch(self, indices: np.ndarray, rng: np.random.Generator) -> tuple[list[Tensor], list[dict[str, Tensor]]]:
        """Several samples, as torchvision's detectors take them."""
        samples = [self.sample(int(i), rng) for i in indices]
        return [image for image, _ in samples], [target for _, target in samples]

    def names(self, indices: np.ndarray) -> str:
        """Pool numbers of the given entries, for a message."""
        return ", ".join(str(int(self.targets.images[self.rows[i]])) for i in indices)
