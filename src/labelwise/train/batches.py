"""From the images and `Targets` of a round to the tensors that a model trains on."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, Protocol

import numpy as np
import torch
from jaxtyping import Bool
from torch import Tensor

from labelwise.train import mosaic
from labelwise.train.augment import Augment, Change
from labelwise.train.teacher import Plain, Teacher
from labelwise.types import ORIGIN_PSEUDO, Targets


class ImageSource(Protocol):
    """Resized images by pool number: `(uint8 [3, h, w], scale_xy)` with `scale_xy` = resized / original.

    `crop` gives a part of an image (xyxy in original pixels), resized to the same longest side.
    """

    def __getitem__(self, image: int) -> tuple[np.ndarray, np.ndarray]: ...

    def crop(self, image: int, window: tuple[float, float, float, float]) -> tuple[np.ndarray, np.ndarray]: ...


class TrainingSet:
    """The training images of a round as model inputs; `rows` are the entries of `targets` whose image can be read."""

    def __init__(
        self,
        images: ImageSource,
        targets: Targets,
        rows: np.ndarray,
        augment: Augment,
        teacher: Teacher | None = None,
    ) -> None:
        self.images, self.targets, self.rows, self.augment = images, targets, rows, augment
        self.teacher = None if self.whole.all() else teacher

    @property
    def whole(self) -> Bool[np.ndarray, " m"]:
        """Which entries were wholly looked over."""
        whole: np.ndarray = self.targets.whole[self.rows]
        return whole

    @property
    def occupied(self) -> Bool[np.ndarray, " m"]:
        """Which entries hold a box."""
        occupied: np.ndarray = np.diff(self.targets.offsets)[self.rows] > 0
        return occupied

    def __len__(self) -> int:
        return len(self.rows)

    def sample(
        self, index: int, rng: np.random.Generator, augment: Augment | None = None
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """One image float [3, h, w] in 0..1 and its target: boxes, weights and regions in pixels of that image.

        `augment` in place of the set's own: `Augment()` shows the image as it is.
        """
        one = self._plain(int(self.rows[index]))
        change = self._draw(one, rng, augment or self.augment)
        return change.image(one.pixels), change.target(one.target)

    def _draw(self, one: Plain, rng: np.random.Generator, augment: Augment) -> Change:
        height, width = one.pixels.shape[1:]
        return augment.draw(one.target["boxes"].numpy(), width, height, rng)

    def _plain(self, row: int) -> Plain:
        """An entry as it is."""
        t = self.targets
        x1, y1, x2, y2 = window = tuple(t.windows[row].tolist())
        pixels, scale_xy = self.images[int(t.images[row])]
        if x1 > 0 or y1 > 0 or not np.allclose([x2, y2], np.array(pixels.shape[:0:-1]) / scale_xy, atol=0.5):
            pixels, scale_xy = self.images.crop(int(t.images[row]), window)
        origin = torch.tensor([x1, y1, x1, y1])
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
        return Plain(int(t.images[row]), pixels, target, origin, scale)

    def batch(
        self, indices: np.ndarray, rng: np.random.Generator, each: Callable[..., Iterable[Any]] = map
    ) -> tuple[list[Tensor], list[dict[str, Tensor]]]:
        """Several samples, as torchvision's detectors take them; those known in part as the teacher labels them.

        `each`: `map`, or one that works in threads; what is random is drawn in order beforehand.
        """
        groups = [mosaic.draw(int(i), len(self), self.augment.mosaic, rng) for i in indices]
        entries = np.concatenate([one.entries for one in groups])
        plain = list(each(self._plain, self.rows[entries].tolist()))
        if self.teacher is not None:
            self.teacher.label([one for one, whole in zip(plain, self.whole[entries], strict=True) if not whole])
        changes = [self._draw(one, rng, self.augment) for one in plain]
        images = each(Change.image, changes, [one.pixels for one in plain])
        targets = (change.target(one.target) for change, one in zip(changes, plain, strict=True))
        samples = zip(images, targets, strict=True)
        tiles = [[next(samples) for _ in one.entries] for one in groups]
        joined = list(each(mosaic.join, tiles, groups))
        return [image for image, _ in joined], [target for _, target in joined]

    def names(self, indices: np.ndarray) -> str:
        """Pool numbers of the given entries, for a message."""
        return ", ".join(str(int(self.targets.images[self.rows[i]])) for i in indices)
