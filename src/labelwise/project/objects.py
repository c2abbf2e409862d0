"""A frozen detector that proposes objects, and a frozen body that looks at their crops: the other `Looker`.

Of every image `objects_most` rows are kept, best first: corners in pixels of the original image, objectness, and the
body's feature of the crop, `objects_margin` times as wide and as high as the box, squeezed into a square. An image with
fewer proposals has rows of zeros.

Source: measured in docs/results.md ("A frozen detector"): selection for detection sees objects, not frames.
Fails when: the detector does not propose the objects, as may be where they are dense, or smaller than about 8 px.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Float32, Int64, UInt8

from labelwise.config.features import Features
from labelwise.project.kept_features import FrozenFeatures
from labelwise.project.whole_images import body_of, build_body, width_of
from labelwise.types import offsets_of

if TYPE_CHECKING:
    from labelwise.bodies.frozen_body import FrozenBody
    from labelwise.models.yolox_network import YoloxNetwork

PLACE = 5
"""Leading columns of a kept row: x1, y1, x2, y2, objectness."""
BATCH_IMAGES = 8


@dataclass(frozen=True, eq=False)
class FrozenObjects:
    """Proposals of a pool's images, all in one table sorted by image, best first.

    `boxes` xyxy in pixels of the original image; `objectness` in 0..1, above 0; `features` centred and of unit length;
    `failed`: the images that could not be looked at, and why.
    """

    offsets: Int64[np.ndarray, " images+1"]
    boxes: Float32[np.ndarray, "n 4"]
    objectness: Float32[np.ndarray, " n"]
    features: Float32[np.ndarray, "n D"]
    failed: Mapping[int, str]

    def __len__(self) -> int:
        return len(self.objectness)

    @property
    def n_images(self) -> int:
        """How many images the pool has."""
        return len(self.offsets) - 1


def objects_of(found: FrozenFeatures) -> FrozenObjects:
    """The kept rows of a pool as one table."""
    every = found.everything(np.arange(len(found.rows)))
    there = every[:, :, PLACE - 1] > 0
    rows = every[there]
    offsets = offsets_of(np.nonzero(there)[0], len(found.rows))
    return FrozenObjects(offsets, rows[:, : PLACE - 1], rows[:, PLACE - 1], rows[:, PLACE:], found.failed)


@dataclass(frozen=True, eq=False)
class Objects:
    """See the top of this file."""

    rule: Features
    device: str
    what: str = "objects and their frozen features"
    leading: int = PLACE
    shard: int = 32  # they and the next ones are in memory at their full size

    @property
    def name(self) -> str:
        """Of detector and body, their weights and inputs."""
        from labelwise.models import yolox_files

        rule = self.rule
        how = [rule.objects_px, rule.objects_most, rule.objects_crop_px, rule.objects_margin]
        about = [*body_of(rule), yolox_files.identity(rule.objects or ""), *how]
        return f"objects-{hashlib.sha256(json.dumps(about).encode()).hexdigest()[:12]}"

    @cached_property
    def _networks(self) -> tuple[YoloxNetwork, FrozenBody]:
        from labelwise.models import yolox_files

        detector = yolox_files.load(self.rule.objects or "", setting="features.objects").to(self.device)
        return detector, build_body(self.rule, self.device)

    @cached_property
    def _shape(self) -> tuple[int, int]:
        return self.rule.objects_most, PLACE + width_of(self._networks[1], self.rule.objects_crop_px)

    def on(self, device: str) -> Objects:
        """The same on another device, not built yet."""
        return replace(self, device=device)

    def begin(self) -> tuple[int, int]:
        """Builds both networks; how many objects an image has, and columns a row."""
        return self._shape

    def read(self, shown: UInt8[np.ndarray, "h w 3"], key: int) -> np.ndarray:
        """The image, uint8 [3, h, w]."""
        return np.ascontiguousarray(shown.transpose(2, 0, 1))

    def run(self, given: list[np.ndarray], advance: Callable[[int], None]) -> Float32[np.ndarray, "n most columns"]:
        """Places, objectness and features of the objects, in batches of images."""
        out = []
        for start in range(0, len(given), BATCH_IMAGES):
            some = given[start : start + BATCH_IMAGES]
            out.append(self._batch(some))
            advance(len(some))
        return np.concatenate(out) if out else np.zeros((0, 1, 1), np.float32)

    def _batch(self, given: list[np.ndarray]) -> np.ndarray:
        import torch

        from labelwise.models.proposals import crops, proposals

        rule, (detector, body) = self.rule, self._networks
        images = [torch.from_numpy(one).to(self.device) for one in given]
        found = proposals(detector, images, size_px=rule.objects_px, count=rule.objects_most)
        with torch.inference_mode():
            shown = crops(images, found, size_px=rule.objects_crop_px, margin=rule.objects_margin)
            features = body(shown).float().cpu().numpy() if len(found) else np.zeros((0, 0), np.float32)
        offsets = found.offsets.cpu().numpy()
        image = np.repeat(np.arange(len(given)), np.diff(offsets))
        table = np.zeros((len(given), *self._shape), np.float32)
        rows = np.concatenate([found.boxes.cpu().numpy(), found.scores.cpu().numpy()[:, None]], axis=1)
        if len(found):
            table[image, np.arange(len(image)) - offsets[image]] = np.concatenate([rows, features], axis=1)
        return table
