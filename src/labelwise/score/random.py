"""Random: a uniform number in [0, 1) per row, the baseline that every comparison needs.

Source: 000, section 4.1 ("Random", image and box level).
Fails when: never, but it spends the budget in proportion to what the pool holds, so common classes get most of it.

>>> score(2, np.random.default_rng(0)).round(4).tolist()
[0.637, 0.2698]
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Float64

from labelwise.types import LabelwiseError


def score(n: int, rng: np.random.Generator) -> Float64[np.ndarray, " n"]:
    """`n` independent uniform numbers from `rng`."""
    if n < 0:
        raise LabelwiseError(f"random: n is {n}; expected the number of rows, >= 0")
    return rng.random(n)


def explain(n: int) -> list[str]:
    """There is no reason but chance."""
    return ["Drawn at random."] * n
