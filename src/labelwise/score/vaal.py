"""How surely an adversary says that an image is not labelled yet, 1 - D(z); unit: probability, 0 to 1.

Source: Sinha, Ebrahimi, Darrell, Variational Adversarial Active Learning, ICCV 2019 (arXiv 1904.00370): the images that
the discriminator D puts least among the labelled are labelled next.
Fails when: the discriminator is sure of every image (all scores near 1, their order is noise): that is its optimum if
the auto-encoder does not hold against it. What the detector finds hard plays no part.

Worked by hand: labelled for 0.25, so unlabelled for 0.75; labelled for sure, 0.

>>> score(np.array([0.25, 1.0])).tolist()
[0.75, 0.0]
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Float, Float64

from labelwise.score._rows import check_shape, check_unit
from labelwise.types.phrases import percent


def score(labelled_probability: Float[np.ndarray, " images"]) -> Float64[np.ndarray, " images"]:
    """1 - D(z) per image.

    Raises:
        LabelwiseError: a number outside [0, 1] (row named).
    """
    check_shape("labelled_probability", labelled_probability, (None,))
    check_unit("labelled_probability", labelled_probability)
    return np.maximum(1 - labelled_probability.astype(np.float64), 0)


def explain(labelled_probability: Float[np.ndarray, " images"]) -> list[str]:
    """How little it looks like what is labelled."""
    return [f"It looks unlike what is labelled: {percent(p)} likely to be part of it." for p in labelled_probability]
