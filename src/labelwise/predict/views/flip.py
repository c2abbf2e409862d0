"""Horizontal mirror image.

Source: CALD's augmentation F, part of M in 000 section 3.1. The inverse is exact: boxes map to boxes.
Fails when: left and right carry the class (a "b" becomes a "d"), or the model was never trained on mirror images.

>>> view, affine = apply(torch.tensor([[[0.1, 0.2, 0.3]]]).expand(3, 1, 3))
>>> view[0].tolist() == torch.tensor([[0.3, 0.2, 0.1]]).tolist()
True
>>> affine.tolist()
[[-1.0, 0.0, 3.0], [0.0, 1.0, 0.0]]
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor


def apply(image: Float[Tensor, "3 h w"]) -> tuple[Float[Tensor, "3 h w"], Float[Tensor, "2 3"]]:
    """The mirror image, and x' = w - x."""
    return image.flip(-1), torch.tensor([[-1.0, 0.0, image.shape[2]], [0.0, 1.0, 0.0]])
