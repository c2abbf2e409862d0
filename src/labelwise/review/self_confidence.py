"""A label of a whole image that the model does not believe, one doubt per image: 1 - the label's probability.

Unit: probability, 0 to 1.

Source: C. Northcutt, L. Jiang and I. Chuang, "Confident learning: estimating uncertainty in dataset labels", JAIR
(2021), self-confidence.
Differs from the paper: nothing.
Fails when: the model is sure of what it learnt by heart; let it predict out of fold.

>>> doubt(np.array([0, 1]), np.array([[0.9, 0.1], [0.75, 0.25]])).round(2).tolist()
[0.1, 0.75]
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Float, Float64, Int64

from labelwise.types import LabelwiseError

OF = "images"


def doubt(labels: Int64[np.ndarray, " n"], probs: Float[np.ndarray, "n C"]) -> Float64[np.ndarray, " n"]:
    """Of every label how probably it is wrong.

    Raises:
        LabelwiseError: a class without a column, or another number of rows.
    """
    if len(labels) != len(probs) or (len(labels) and not 0 <= labels.min() <= labels.max() < probs.shape[1]):
        raise LabelwiseError(f"self_confidence: {len(labels)} labels and probs {probs.shape}; expected a row for each")
    doubtful: np.ndarray = 1 - probs[np.arange(len(labels)), labels].astype(np.float64)
    return doubtful
