"""Entropy of the class distribution, -sum p ln p; unit: nats, 0 to ln C.

Source: 000, section 4.1 ("Entropy", image and box level); natural logarithm as in the reference code
(DESIGN section 7).
Fails when: an overconfident model makes nearly all rows look certain; the location of the box plays no part.

Rows must be distributions over the foreground classes; they are checked, not normalised. 0 ln 0 = 0.

Worked by hand: 0.5 ln 2 + 2 * 0.25 ln 4 = 1.5 ln 2 = 1.0397, and 0 for a sure row.

>>> score(np.array([[0.5, 0.25, 0.25], [1.0, 0.0, 0.0]], np.float32)).round(4).tolist()
[1.0397, 0.0]
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float, Float64

from labelwise.score._rows import blocks, check_distribution, check_shape
from labelwise.types import phrases


def score(probs: Float[np.ndarray, "n C"]) -> Float64[np.ndarray, " n"]:
    """-sum p ln p per row, in nats.

    Raises:
        LabelwiseError: a row is not a distribution (named).
    """
    check_shape("probs", probs, (None, None))
    out = np.empty(len(probs))
    for rows in blocks(*probs.shape):
        check_distribution("probs", probs[rows], rows.start)
        p = probs[rows].astype(np.float64)
        surprise = np.log(np.maximum(p, np.finfo(np.float64).tiny))  # p = 0 gives 0 * a finite number = 0
        out[rows] = np.abs(np.einsum("nc,nc->n", p, surprise))  # abs: the sum is <= 0, and -0.0 for a sure row
    return out


def explain(probs: Float[np.ndarray, "n C"], classes: Sequence[str]) -> list[str]:
    """Between which classes the model hesitates."""
    return phrases.hesitation(probs, classes)
