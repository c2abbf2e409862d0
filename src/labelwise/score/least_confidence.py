"""Least confidence: 1 - p1, where p1 is the largest class probability; unit: probability, 0 to 1 - 1/C.

Source: 001, section 2.5.2 ("Least confidence": the lowest score of the most probable class).
Fails when: the model is confidently wrong, or the distribution has no background and so every row looks like an object.

Rows must be distributions over the foreground classes; they are checked, not normalised.

Worked by hand: 1 - 0.5 and 1 - 0.75.

>>> score(np.array([[0.5, 0.25, 0.25], [0.75, 0.25, 0.0]], np.float32)).tolist()
[0.5, 0.25]
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float, Float64

from labelwise.score._rows import blocks, check_distribution, check_shape
from labelwise.types import phrases


def score(probs: Float[np.ndarray, "n C"]) -> Float64[np.ndarray, " n"]:
    """1 - p1 per row.

    Raises:
        LabelwiseError: a row is not a distribution (named).
    """
    check_shape("probs", probs, (None, None))
    out = np.empty(len(probs))
    for rows in blocks(*probs.shape):
        check_distribution("probs", probs[rows], rows.start)
        np.subtract(1.0, probs[rows].max(axis=1), out=out[rows])
    return out


def explain(probs: Float[np.ndarray, "n C"], classes: Sequence[str]) -> list[str]:
    """Between which classes the model hesitates."""
    return phrases.hesitation(probs, classes)
