"""A frozen body that looks at whole images, and at random crops of them: the `Looker` of `kept_features`."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Float32, UInt8
from PIL import Image

from labelwise.config.features import Features
from labelwise.data import pixels

if TYPE_CHECKING:
    from labelwise.bodies.frozen_body import FrozenBody

BATCH_IMAGES = 32
CROP_AREA, CROP_RATIO = (0.08, 1.0), (3 / 4, 4 / 3)
"""Of a kept view: its share of the image's area and its width over its height, as torchvision's RandomResizedCrop."""


@dataclass(frozen=True, eq=False)
class WholeImages:
    """`centre`: whether the body sees the central square of an image, as a classifier does, or all of it, squeezed."""

    rule: Features
    centre: bool
    device: str
    what: str = "frozen features"
    leading: int = 0
    shard: int = 512

    @property
    def name(self) -> str:
        """Of the body, its weights, its input and the views."""
        about = [*body_of(self.rule), self.rule.size_px, self.rule.views]
        digest = hashlib.sha256(json.dumps([*about, self.centre]).encode()).hexdigest()[:12]
        return f"{re.sub(r'[^A-Za-z0-9_.-]+', '_', self.rule.body)[-60:]}-{digest}"

    @cached_property
    def _body(self) -> FrozenBody:
        return build_body(self.rule, self.device)

    @property
    def _size_px(self) -> int:
        return self.rule.size_px or self._body.size_px

    def on(self, device: str) -> WholeImages:
        """The same on another device, not built yet."""
        return replace(self, device=device)

    def begin(self) -> tuple[int, int]:
        """Builds the body; 1 + views, and D."""
        return 1 + self.rule.views, width_of(self._body, self._size_px)

    def read(self, shown: UInt8[np.ndarray, "h w 3"], key: int) -> np.ndarray:
        """The image and its views, uint8 [1 + views, 3, size, size]."""
        height, width = shown.shape[:2]
        size_px = self._size_px
        first = pixels.square(shown, size_px) if self.centre else _part(shown, (0, 0, width, height), size_px)
        crops = [first]
        for view in range(self.rule.views):
            rng = np.random.default_rng([key, view])
            crop = _part(shown, random_crop(width, height, rng), size_px)
            crops.append(crop[:, :, ::-1] if rng.random() < 0.5 else crop)
        return np.stack(crops)

    def run(self, given: list[np.ndarray], advance: Callable[[int], None]) -> Float32[np.ndarray, "n views D"]:
        """The features of the images and their views, in batches."""
        import torch

        out = []
        with torch.inference_mode():
            for start in range(0, len(given), BATCH_IMAGES):
                some = given[start : start + BATCH_IMAGES]
                images = torch.from_numpy(np.concatenate(some)).to(self.device).float().div_(255)
                out.append(self._body(images).float().cpu().numpy().reshape(len(some), 1 + self.rule.views, -1))
                advance(len(some))
        return np.concatenate(out) if out else np.zeros((0, 1, 1), np.float32)


def body_of(rule: Features) -> list[str | None]:
    """What tells the body of a section from another."""
    from labelwise.bodies import by_name

    return [rule.body, by_name.identity(rule.body, rule.weights), rule.weights_input]


def build_body(rule: Features, device: str) -> FrozenBody:
    """The body of a section of the config."""
    from labelwise.bodies import by_name

    return by_name.build(rule.body, rule.weights, rule.weights_input).to(device)


def width_of(body: FrozenBody, size_px: int) -> int:
    """D, as the body gives it."""
    import torch

    with torch.inference_mode():
        return int(body(torch.zeros(1, 3, size_px, size_px, device=body.mean.device)).shape[1])


def _part(shown: np.ndarray, box: tuple[float, float, float, float], size_px: int) -> np.ndarray:
    size = (size_px, size_px)
    return np.asarray(Image.fromarray(shown).resize(size, Image.Resampling.BILINEAR, box=box)).transpose(2, 0, 1)


def random_crop(width: int, height: int, rng: np.random.Generator) -> tuple[float, float, float, float]:
    """Corners (x1, y1, x2, y2) in pixels of a random resized crop; of an odd shape cut to the image."""
    area = rng.uniform(*CROP_AREA) * width * height
    ratio = float(np.exp(rng.uniform(*np.log(CROP_RATIO))))
    w, h = min(float(np.sqrt(area * ratio)), width), min(float(np.sqrt(area / ratio)), height)
    x, y = float(rng.uniform(0, width - w)), float(rng.uniform(0, height - h))
    return x, y, min(x + w, width), min(y + h, height)
