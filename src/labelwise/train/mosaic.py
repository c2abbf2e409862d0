"""Mosaic: one canvas of four training images, each at about half its size, around a point that is drawn.

`draw` says which images share a canvas and how; `join` makes one of them. A quarter is filled by its image, which is as
large as in a canvas of four equal ones, or larger where the quarter is; what does not fit is cut, at a place that is
drawn. Boxes, weights, coverage and ignore rectangles go along as in `train.augment`: each quarter is looked over as its
image is, and a cut box that shows less than half of itself is ignored.

Source: Bochkovskiy et al. 2020, arXiv 2004.10934 (YOLOv4), section 3.3; YOLOX, arXiv 2107.08430, section 2.1.
The three others are drawn from the whole training set: `train.whole_share` and `train.object_share` hold for the first
image of each canvas.
Differs from the paper: no canvas of twice the size with a rotation, shear and crop afterwards, no MixUp, and it is not
switched off for the last epochs; an image's own zoom and colours (`train.scale`, `train.photometric`) come before.
Fails when: objects are small already: at half their size they are not seen.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from jaxtyping import Float, Float64, Int64
from torch import Tensor
from torchvision.transforms.v2 import functional

from labelwise.train.augment import place_target

CENTRE = (0.3, 0.7)
"""Where the four images may meet, relative to the canvas."""

Sample = tuple[Float[Tensor, "3 h w"], dict[str, Tensor]]


@dataclass(frozen=True, slots=True)
class Group:
    """Entries of the training set that share a canvas, and what is drawn: where they meet (x, y), and for each quarter
    at which part of its image it looks. A single entry has none.
    """

    entries: Int64[np.ndarray, " k"]
    centre: Float64[np.ndarray, " 2"]
    parts: Float64[np.ndarray, "k 2"]


def draw(entry: int, n: int, probability: float | None, rng: np.random.Generator) -> Group:
    """An entry alone, or with three others of a training set of n; without a probability nothing is drawn."""
    if probability is None or rng.random() >= probability:
        return Group(np.array([entry]), np.zeros(2), np.zeros((0, 2)))
    others = rng.integers(n, size=3)
    return Group(np.concatenate([[entry], others]), rng.uniform(*CENTRE, 2), rng.random((4, 2)))


def join(tiles: Sequence[Sample], group: Group) -> Sample:
    """One image with its target, of the first one's size; a single tile as it is."""
    height, width = tiles[0][0].shape[1:]
    if len(tiles) == 1 or min(height, width) < 2:
        return tiles[0]
    x, y = np.clip((group.centre * [width, height]).round().astype(int), 1, [width - 1, height - 1]).tolist()
    canvas, targets = tiles[0][0].new_empty(3, height, width), []
    for number, (image, target) in enumerate(tiles):
        x1, x2 = ((0, x), (x, width))[number % 2]
        y1, y2 = ((0, y), (y, height))[number // 2]
        own = np.array([image.shape[2], image.shape[1]])
        quarter, half = np.array([x2 - x1, y2 - y1]), np.array([width, height]) / 2
        factor = max((quarter / own).max(), (half / own).min())
        part = np.clip((quarter / factor).round(), 1, own)
        low = ((own - part) * group.parts[number]).round()
        (left, top), (right, bottom) = low.astype(int).tolist(), (low + part).astype(int).tolist()
        canvas[:, y1:y2, x1:x2] = functional.resize(image[:, top:bottom, left:right], [y2 - y1, x2 - x1])
        ratio = torch.from_numpy(np.tile(quarter / part, 2).astype(np.float32))
        shift = torch.from_numpy(np.tile([x1, y1] - low * quarter / part, 2).astype(np.float32))
        move = partial(torch.addcmul, shift, ratio)
        targets.append(place_target(target, move, (x1, y1, x2, y2)))
    keys = dict.fromkeys(key for one in targets for key in one)  # not of every image is something in doubt
    return canvas, {key: torch.cat([one[key] for one in targets if key in one]) for key in keys}
