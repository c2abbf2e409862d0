"""Dual: a sure candidate is a label that weighs its confidence; an unsure one is ignored; the rest is background.

Source: our own. It differs from TSPL (000, Eq. 5 and 6) in that the confidence weighs both losses, so that no views are
needed; that a sure candidate never weighs 1 but by `weight = "hard"`; and that nothing unsure teaches the class.
`labels.class_thresholds = "answers"` puts a threshold of its own in the place of `upper` for every class of which
enough is known (see `targets/class_thresholds.py`).
Fails when: confidence says little of the box: a sure candidate with a loose box teaches the localisation branch, too.

Worked by hand, 0.3 and 0.05: row 0 is sure, row 1 is ignored, row 2 is background.

>>> keep, w_cls, w_box = weigh(np.array([0.75, 0.25, 0.03], np.float32))
>>> keep.tolist(), w_cls.tolist(), w_box.tolist()
([True, True, False], [0.75, 0.0, 0.0], [0.75, 0.0, 0.0])
"""

from __future__ import annotations

from typing import Literal

import numpy as np
from jaxtyping import Float

from labelwise.labels._soft_weight import Weighed, check_threshold, check_values, reaches, upper_of

NEGATIVES: Literal["everywhere", "known"] = "everywhere"


def weigh(
    scores: Float[np.ndarray, " n"],
    class_threshold: Float[np.ndarray, " n"] | None = None,
    *,
    upper: float = 0.3,
    lower: float = 0.05,
    weight: Literal["soft", "hard"] = "soft",
) -> Weighed:
    """Keeps the candidates from `lower` on; those that do not reach the upper threshold weigh 0.

    Args:
        scores: confidence.
        class_threshold: upper threshold of the candidate's class, NaN for none.
        upper: confidence of a label, where the class has no threshold of its own.
        lower: below it a candidate is background.
        weight: of a label: "soft" is its confidence, "hard" is 1.
    """
    n = len(check_values("dual", "confidence", scores))
    check_threshold("dual", "upper and lower", upper, lower)
    sure = reaches(scores, upper_of("dual", class_threshold, upper, n))
    weights = np.where(sure, scores if weight == "soft" else 1, 0).astype(np.float32)
    return sure | reaches(scores, lower), weights, weights.copy()
