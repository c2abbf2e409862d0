"""The image made smaller.

Source: CALD's augmentation D (x 0.8, bilinear), part of M in 000 section 3.1. The inverse is exact for boxes.
Differs from the paper: the affine carries the true ratio of the rounded sizes (the published code keeps 0.8), and the
resampling is antialiased.
Fails when: the model resizes every input to one size itself; the view then is hardly more than a blur.

>>> view, affine = apply(torch.full((3, 10, 5), 0.5))
>>> view.shape, round(float(view.min()), 4)
(torch.Size([3, 8, 4]), 0.5)
>>> [[round(v, 4) for v in row] for row in affine.tolist()]
[[0.8, 0.0, 0.0], [0.0, 0.8, 0.0]]
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional

from labelwise.types import LabelwiseError


def apply(
    image: Float[Tensor, "3 h w"], *, factor: float = 0.8
) -> tuple[Float[Tensor, "3 h2 w2"], Float[Tensor, "2 3"]]:
    """The image at `factor` times its size; at least one pixel."""
    if not 0 < factor <= 1:
        raise LabelwiseError(f"predict/views/downscale: factor = {factor}; expected 0 < factor <= 1")
    _, height, width = image.shape
    size = (max(1, round(height * factor)), max(1, round(width * factor)))
    small = functional.interpolate(image[None], size=size, mode="bilinear", antialias=True)[0]
    return small, torch.tensor([[size[1] / width, 0.0, 0.0], [0.0, size[0] / height, 0.0]])
