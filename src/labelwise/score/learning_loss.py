"""The loss that the model's loss-prediction head expects for an image; unit: that head's, the pool's least at 0.

Source: Yoo and Kweon, Learning Loss for Active Learning, CVPR 2019 (arXiv 1905.03677): the images of largest predicted
loss are labelled.
Differs from the paper: the smallest predicted loss of the pool is subtracted (the head is trained on the order of
pairs, Eq. 2, so its output has no zero and may be negative); the order is the same.
Fails when: the head learned which images have many objects: a detection loss is a sum over them. The values of two
rounds do not compare.

Worked by hand: losses -0.5 and 1; subtract -0.5.

>>> score(np.array([-0.5, 1.0])).tolist()
[0.0, 1.5]
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Float, Float64

from labelwise.score._rows import check_shape
from labelwise.types import LabelwiseError


def score(predicted_loss: Float[np.ndarray, " images"]) -> Float64[np.ndarray, " images"]:
    """Predicted loss above the smallest of the pool, per image.

    Raises:
        LabelwiseError: a loss that is not finite (image named).
    """
    check_shape("predicted_loss", predicted_loss, (None,))
    bad = np.flatnonzero(~np.isfinite(predicted_loss))
    if len(bad):
        raise LabelwiseError(
            f"predicted_loss: image {bad[0]} is {predicted_loss[bad[0]]}; expected a finite number. "
            "The loss head has diverged: train it again with a smaller weight"
        )
    loss: np.ndarray = predicted_loss.astype(np.float64)
    loss -= loss.min(initial=np.inf)
    return loss
