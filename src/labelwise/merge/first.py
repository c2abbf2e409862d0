"""The first answer counts, as if nobody else had been asked; unit: probability, 0 or 1.

Source: labelwise's ledger, in which later answers are second opinions (docs/decisions/0009).
Differs from the paper: nothing; there is none.
Fails when: whoever is fastest errs more than the others.

Worked by hand: the first answers are of class 1 and 0, whatever others say.

>>> from labelwise.types import Opinions
>>> merge(Opinions(np.array([0, 0, 1]), np.array([0, 1, 1]), np.array([1, 0, 0]), 2, 2, 2)).tolist()
[[0.0, 1.0], [1.0, 0.0]]
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Float64

from labelwise.types import Opinions


def merge(opinions: Opinions) -> Float64[np.ndarray, "items C"]:
    """Probability of every class of every item; an item without an opinion has the same for all classes."""
    said, first = opinions.first >= 0, opinions.first
    posterior = np.full((opinions.items, opinions.classes), 1 / max(opinions.classes, 1))
    posterior[said] = 0.0
    posterior[said, first[said]] = 1.0
    return opinions.settled(posterior)
