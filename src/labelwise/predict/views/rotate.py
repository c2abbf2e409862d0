"""The image turned by a few degrees, counterclockwise.

Source: CALD's augmentation R (5 degrees), part of M in 000 section 3.1. As there, the canvas grows until the whole
turned image fits, and is then scaled back to the size of the image, so that no object is lost at the border; what the
turn uncovers is black.
The inverse is not exact: a turned box is not a box, and its axis-aligned hull is larger (a square's by 1.083 in each
direction at 5 degrees, before the scaling). Even a perfect detector then stays below IoU 1: at 5 degrees about 0.85 for
a round object, whose own box does not grow. Prefer the exact views unless the published set M is wanted.
Differs from the paper: bilinear, in one resampling step (the published code resamples twice, the first time to the
nearest pixel); hulls are not clipped to the image.
Fails when: objects are long and thin and lie aslant: their hulls grow most.

>>> view, affine = apply(torch.ones(3, 4, 4), degrees=90.0)
>>> round(float(view.min()), 4)
1.0
>>> [[round(v, 4) + 0.0 for v in row] for row in affine.tolist()]
[[0.0, 1.0, 0.0], [-1.0, 0.0, 4.0]]
"""

from __future__ import annotations

import math

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional


def apply(
    image: Float[Tensor, "3 h w"], *, degrees: float = 5.0
) -> tuple[Float[Tensor, "3 h w"], Float[Tensor, "2 3"]]:
    """The turned image on a canvas of the same size."""
    _, height, width = image.shape
    cos, sin = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
    grown_width = abs(width * cos) + abs(height * sin)
    grown_height = abs(height * cos) + abs(width * sin)
    turn = torch.tensor([[cos, sin], [-sin, cos]], dtype=torch.float64)
    centre = torch.tensor([width / 2, height / 2], dtype=torch.float64)
    linear = torch.diag(torch.tensor([width / grown_width, height / grown_height], dtype=torch.float64)) @ turn
    affine = torch.eye(3, dtype=torch.float64)
    affine[:2, :2] = linear
    affine[:2, 2] = centre - linear @ centre  # the centre stays where it is

    # grid_sample wants, for every pixel of the view, where to look in the image, in coordinates of -1..1
    to_pixels = torch.tensor([[width / 2, 0, width / 2], [0, height / 2, height / 2], [0, 0, 1]], dtype=torch.float64)
    theta = (torch.linalg.inv(to_pixels) @ torch.linalg.inv(affine) @ to_pixels)[:2].to(image)
    grid = functional.affine_grid(theta[None], [1, 3, height, width], align_corners=False)
    view = functional.grid_sample(image[None], grid, mode="bilinear", padding_mode="zeros", align_corners=False)[0]
    return view, affine[:2].float()
