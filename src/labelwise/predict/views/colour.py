"""The image with other brightness, contrast and saturation.

Source: CALD's optional colour augmentation, with an own factor for each of the three. Boxes stay where they are: the
inverse is exact.
Fails when: colour carries the class (stained cells, traffic lights): the prediction should change then.

>>> view, affine = apply(torch.full((3, 2, 2), 0.5), np.random.default_rng(0), strength=0.0)
>>> round(float(view.max()), 6), affine.tolist()
(0.5, [[1.0, 0.0, 0.0], [0.0, 1.0, 0.0]])
>>> apply(torch.zeros(3, 2, 2), np.random.default_rng(0))[0].abs().sum().item()  # black stays black
0.0
"""

from __future__ import annotations

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor


def apply(
    image: Float[Tensor, "3 h w"], rng: np.random.Generator, *, strength: float = 0.4
) -> tuple[Float[Tensor, "3 h w"], Float[Tensor, "2 3"]]:
    """The image with three factors drawn uniformly from 1 - `strength` .. 1 + `strength`."""
    brightness, contrast, saturation = rng.uniform(1 - strength, 1 + strength, 3)
    view = (image * brightness).clamp_(0, 1)
    view = _blend(view, _grey(view).mean(), float(contrast))
    return _blend(view, _grey(view), saturation), torch.eye(2, 3)


def _grey(image: Float[Tensor, "3 h w"]) -> Float[Tensor, "1 h w"]:
    weights = image.new_tensor([0.299, 0.587, 0.114])[:, None, None]
    return (image * weights).sum(dim=0, keepdim=True)


def _blend(image: Tensor, other: Tensor, share: float) -> Tensor:
    return (image * share + other * (1 - share)).clamp_(0, 1)
