"""Oracle: 1 where the model's class is wrong, 0 where it is right; for study only, since it looks at the ground truth.

Source: 001, section 3.4.1, "Oracle method": selects the samples that the model misclassifies.
Differs from the paper: it does not say which of the misclassified come first; here those of which the model is surest
(1 to 2 for wrong ones by their confidence, so that the order has no ties).
Fails when: labels are noisy: it asks for the noise first.

Image 0 is class 0 and said to be; image 1 is class 0 and said to be 1, with probability 0.8.

>>> score(np.array([[0.9, 0.1], [0.2, 0.8]]), np.array([0, 0])).tolist()
[0.0, 1.8]
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float, Float64, Int64

from labelwise.score._rows import check_distribution
from labelwise.types import LabelwiseError


def score(probs: Float[np.ndarray, "n C"], truth_classes: Int64[np.ndarray, " n"]) -> Float64[np.ndarray, " n"]:
    """One score per image."""
    if len(truth_classes) != len(probs):
        raise LabelwiseError(f"misclassified: {len(probs)} distributions and {len(truth_classes)} true classes")
    if not len(probs):
        return np.zeros(0)
    check_distribution("misclassified: probs", probs, 0)
    wrong = probs.argmax(axis=1) != truth_classes
    return np.where(wrong, 1 + probs.max(axis=1).astype(np.float64), 0.0)


def explain(
    probs: Float[np.ndarray, "n C"], truth_classes: Int64[np.ndarray, " n"], classes: Sequence[str]
) -> list[str]:
    """What the model says, and whether it is right."""
    said = probs.argmax(axis=1)
    return [
        f"For study: the model says {classes[c]}, which is {'right' if c == true else 'wrong'}."
        for c, true in zip(said.tolist(), truth_classes.tolist(), strict=True)
    ]
