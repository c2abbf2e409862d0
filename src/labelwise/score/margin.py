"""Margin: 1 - (p1 - p2), with p1 and p2 the two largest class probabilities; unit: probability, 0 to 1.

Source: DESIGN section 9 (1 - (p1 - p2)); 001, section 2.5.2 uses the margin of the two best classes for frames.
Differs from the paper: subtracted from 1, so that higher is more worth labelling.
Fails when: there are many classes and the doubt is spread over all of them (entropy sees that, the margin does not).

Rows must be distributions over the foreground classes; they are checked, not normalised. With one class p2 is 0.

Worked by hand: 1 - (0.5 - 0.25) and 1 - (0.75 - 0.25).

>>> score(np.array([[0.5, 0.25, 0.25], [0.75, 0.25, 0.0]], np.float32)).tolist()
[0.75, 0.5]
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float, Float64

from labelwise.score._rows import blocks, check_distribution, check_shape
from labelwise.types import phrases


def score(probs: Float[np.ndarray, "n C"]) -> Float64[np.ndarray, " n"]:
    """1 - (p1 - p2) per row.

    Raises:
        LabelwiseError: a row is not a distribution (named).
    """
    check_shape("probs", probs, (None, None))
    out = np.empty(len(probs))
    for rows in blocks(*probs.shape):
        check_distribution("probs", probs[rows], rows.start)
        block = probs[rows].astype(np.float64)
        if block.shape[1] > 1:
            best = np.partition(block, -2, axis=1)
            out[rows] = 1 - (best[:, -1] - best[:, -2])
        else:
            out[rows] = 1 - block[:, 0]
    return out


def explain(probs: Float[np.ndarray, "n C"], classes: Sequence[str]) -> list[str]:
    """Between which classes the model hesitates."""
    return phrases.hesitation(probs, classes)
