"""The image with Gaussian noise on every pixel and channel.

Source: CALD's augmentation G (sigma = 16 of 255). Boxes stay where they are: the inverse is exact.
Differs from the paper: the result is clipped to 0..1, as every image that the model was trained on.
Fails when: the model was trained on clean images only; confidence then falls everywhere alike.

>>> view, affine = apply(torch.full((3, 50, 50), 0.5), np.random.default_rng(0))
>>> round(float(view.std()) * 255)
16
>>> affine.tolist()
[[1.0, 0.0, 0.0], [0.0, 1.0, 0.0]]
"""

from __future__ import annotations

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor


def apply(
    image: Float[Tensor, "3 h w"], rng: np.random.Generator, *, sigma: float = 16.0
) -> tuple[Float[Tensor, "3 h w"], Float[Tensor, "2 3"]]:
    """The noisy image; `sigma` in steps of an 8-bit image (0..255)."""
    noise = torch.from_numpy(rng.standard_normal(tuple(image.shape), dtype=np.float32)).to(image)
    return (image + noise * (sigma / 255)).clamp_(0, 1), torch.eye(2, 3)
