"""The image as it is, seen by the model with dropout switched on: one sample of MC dropout.

Source: Gal and Ghahramani, "Dropout as a Bayesian approximation", ICML 2016; the samples of BALD and of the other
dropout baselines. The image is untouched, so boxes stay where they are and the inverse is exact. Ask for the view
several times (`["dropout", "dropout", ...]`) for several samples.
`STOCHASTIC` tells the pass over the model what the view itself cannot do: while this view is asked, every `nn.Dropout`
and `nn.Dropout2d` of the model is in training mode (batch norms and all else stay in evaluation mode), and torch's
randomness is seeded from (seed, round, numbers of the images).
Fails when: the model was trained with little dropout: its samples then hardly differ. Without any it is an error.

>>> image = torch.rand(3, 2, 2)
>>> view, affine = apply(image)
>>> torch.equal(view, image), affine.tolist()
(True, [[1.0, 0.0, 0.0], [0.0, 1.0, 0.0]])
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

STOCHASTIC = True
"""The model is asked with its dropout on."""


def apply(image: Float[Tensor, "3 h w"]) -> tuple[Float[Tensor, "3 h w"], Float[Tensor, "2 3"]]:
    """The image itself, and x' = x."""
    return image, torch.eye(2, 3)
