"""The loss that the model's loss-prediction head expects for an image; unit: that head's, >= 0.

Source: Yoo and Kweon, Learning Loss for Active Learning, CVPR 2019 (arXiv 1905.03677): the images of largest predicted
loss are labelled.
Differs from the paper: the head ends in a softplus, so that a predicted loss is never negative; the order is the same.
Fails when: the head learned which images have many objects: a detection loss is a sum over them. The values of two
rounds do not compare.

Nothing is computed: losses 0.5 and 1 are the scores.

>>> score(np.array([0.5, 1.0])).tolist()
[0.5, 1.0]
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Float, Float64

from labelwise.score._rows import check_shape
from labelwise.types import LabelwiseError


def score(predicted_loss: Float[np.ndarray, " images"]) -> Float64[np.ndarray, " images"]:
    """The predicted loss, per image.

    Raises:
        LabelwiseError: a loss that is negative or not finite (image named).
    """
    check_shape("predicted_loss", predicted_loss, (None,))
    bad = np.flatnonzero(~((predicted_loss >= 0) & np.isfinite(predicted_loss)))
    if len(bad):
        raise LabelwiseError(
            f"predicted_loss: image {bad[0]} is {predicted_loss[bad[0]]}; expected a finite number >= 0. "
            "The loss head has diverged: train it again with a smaller weight"
        )
    return predicted_loss.astype(np.float64)


def explain(predicted_loss: Float[np.ndarray, " images"]) -> list[str]:
    """How wrong the model expects to be."""
    return [f"The model expects to be wrong here: it puts its loss at {loss:.3g}." for loss in predicted_loss]
