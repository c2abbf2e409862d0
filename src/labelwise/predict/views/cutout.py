"""Black patches that hide a part, never the whole, of some object.

Source: CALD's augmentation C, part of M in 000 section 3.1: patches with sides of 5-20 % of the image's; of up to 50
random candidates the first two are taken whose largest overlap with any box, as a share of that box's area, lies in
0.1..0.4. So every patch touches an object, and hides at most 0.4 of any one. Boxes stay where they are: the inverse is
exact.
An image gets fewer patches, or none, when too few candidates pass (huge objects, that no patch covers to a tenth; tiny
ones, that a patch nearly always covers or misses), as in the published code. Without boxes there is nothing to hide and
the image is returned as it is.
Fails when: the model has found nothing, or only huge or tiny objects: the view then equals the image.

>>> box = torch.tensor([[20.0, 20.0, 60.0, 60.0]])
>>> view, affine = apply(torch.ones(3, 100, 100), box, np.random.default_rng(0))
>>> 0.1 * 1600 <= float((view[0, 20:60, 20:60] == 0).sum()) <= 2 * 0.4 * 1600
True
>>> apply(torch.ones(3, 9, 9), torch.zeros(0, 4), np.random.default_rng(0))[0].min().item()
1.0
"""

from __future__ import annotations

import numpy as np
import torch
from jaxtyping import Float, Int64
from torch import Tensor


def apply(
    image: Float[Tensor, "3 h w"],
    boxes: Float[Tensor, "k 4"],
    rng: np.random.Generator,
    *,
    patches: int = 2,
    min_overlap: float = 0.1,
    max_overlap: float = 0.4,
    tries: int = 50,
) -> tuple[Float[Tensor, "3 h w"], Float[Tensor, "2 3"]]:
    """The image with up to `patches` accepted patches set to 0."""
    candidates = _candidates(rng, tries, image.shape[1], image.shape[2])
    if len(boxes) == 0:
        return image, torch.eye(2, 3)
    overlap = _share_hidden(candidates, boxes.cpu().numpy()).max(axis=1)
    accepted = candidates[(overlap >= min_overlap) & (overlap <= max_overlap)][:patches]
    view = image.clone()
    for x1, y1, x2, y2 in accepted.tolist():
        view[:, y1:y2, x1:x2] = 0
    return view, torch.eye(2, 3)


def _candidates(rng: np.random.Generator, tries: int, height: int, width: int) -> Int64[np.ndarray, "tries 4"]:
    size = rng.uniform(0.05, 0.2, (tries, 2)) * (width, height)
    start = rng.random((tries, 2)) * ((width, height) - size)
    return np.concatenate([start, start + size], axis=1).astype(np.int64)


def _share_hidden(patches: np.ndarray, boxes: np.ndarray) -> Float[np.ndarray, "tries k"]:
    """Share of every box's area that lies under every patch."""
    low = np.maximum(patches[:, None, :2], boxes[None, :, :2])
    high = np.minimum(patches[:, None, 2:], boxes[None, :, 2:])
    hidden: np.ndarray = (high - low).clip(min=0).prod(axis=2)
    hidden /= (boxes[:, 2:] - boxes[:, :2]).prod(axis=1).clip(min=1e-6)
    return hidden
