"""Every person has one vote; unit: share of the votes, 0 to 1.

Of classes with equally many votes the first answer's counts, if it is among them, else the lower number: it is given
the least larger share that a float can show.

Source: the common practice that Dawid and Skene, Applied Statistics 28 (1979), improve on.
Differs from the paper: the tie rule.
Fails when: people who err alike outnumber the others; two opinions that differ are a tie, so the first one wins.

Worked by hand: two of three say class 1; one against one is a tie that the first answer decides.

>>> from labelwise.types import Opinions
>>> said = Opinions(np.array([0, 0, 0, 1, 1]), np.array([0, 1, 2, 0, 1]), np.array([0, 1, 1, 1, 0]), 2, 3, 2)
>>> merge(said).round(3).tolist(), merge(said).argmax(axis=1).tolist()
([[0.333, 0.667], [0.5, 0.5]], [1, 1])
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Float64

from labelwise.types import Opinions


def merge(opinions: Opinions) -> Float64[np.ndarray, "items C"]:
    """Share of the votes of every class of every item; an item without an opinion has the same for all classes."""
    counts, first = opinions.counts, opinions.first
    many = counts.sum(axis=1, keepdims=True)
    posterior = np.divide(counts, many, out=np.full(counts.shape, 1 / max(opinions.classes, 1)), where=many > 0)
    rows = np.flatnonzero(first >= 0)
    posterior[rows, first[rows]] = np.nextafter(posterior[rows, first[rows]], 2)
    return opinions.settled(posterior)
