"""Task-aware soft pseudo labels (TSPL): every candidate is a label; its weights are its confidence and its cons(b).

Weight of the classification loss: 1 for confidence >= τ₀, 0 for confidence <= τ₁, the confidence itself between. Weight
of the localisation loss: the same with cons(b), the mean IoU with the counterparts over the views.

Source: 000, section 3.2, Eq. 4, 5 and 6; (τ₀, τ₁) = (0.8, 0.1) for the class, (0.7, 0.3) for the box.
Reading: Eq. 5 and 6 give weights to *every* pseudo box, so a candidate is kept even where both are 0: anchors that
match it are positives that weigh nothing, that is ignored rather than trained as background ("treating such area as
background will provide incorrect supervision").
Fails when: the candidate threshold is so low that candidates cover the image: hardly any negatives remain.

Worked by hand: 0.8 >= 0.8 gives 1, 0.3 = 0.3 is not above 0.3 and gives 0; 0.5 and 0.625 lie between and stay.

>>> keep, w_cls, w_box = weigh(np.array([0.8, 0.5], np.float32), np.array([0.3, 0.625], np.float32))
>>> keep.tolist(), w_cls.tolist(), w_box.tolist()
([True, True], [1.0, 0.5], [0.0, 0.625])
"""

from __future__ import annotations

from typing import Literal

import numpy as np
from jaxtyping import Float

from labelwise.labels._soft_weight import Weighed, check_threshold, check_values, soft

NEGATIVES: Literal["everywhere", "known"] = "everywhere"


def weigh(
    scores: Float[np.ndarray, " n"],
    consistency: Float[np.ndarray, " n"] | None,
    *,
    tau_cls: tuple[float, float] = (0.8, 0.1),
    tau_box: tuple[float, float] = (0.7, 0.3),
) -> Weighed:
    """Keeps every candidate, with the weights of Eq. 5 and 6; thresholds as (upper, lower)."""
    n = len(check_values("task_soft", "confidence", scores))
    consistency = check_values("task_soft", "consistency", consistency, n)
    check_threshold("task_soft", "tau_cls", *tau_cls)
    check_threshold("task_soft", "tau_box", *tau_box)
    return np.ones(n, bool), soft(scores, tau_cls).astype(np.float32), soft(consistency, tau_box).astype(np.float32)
