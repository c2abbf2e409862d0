"""Dual: a sure candidate is a label that weighs its confidence; an unsure one is ignored; the rest is background.

Source: our own. It differs from TSPL (000, Eq. 5 and 6) in that the confidence weighs both losses, so that no views are
needed; that a sure candidate never weighs 1 but by `weight = "hard"`; and that nothing unsure teaches the class.
`labels.class_thresholds = "answers"` puts a threshold of its own in the place of `upper` for every class of which
enough is known (see `targets/class_thresholds.py`). `box` says by what a sure candidate's box is weighed; `least_box`
keeps boxes out of the localisation loss of which that says too little.
Fails when: confidence says little of the box: a sure candidate with a loose box teaches the localisation branch, too
(take another `box`, or "none").

Worked by hand, 0.3 and 0.05: row 0 is sure, row 1 is ignored, row 2 is background.

>>> keep, w_cls, w_box = weigh(np.array([0.75, 0.25, 0.03], np.float32))
>>> keep.tolist(), w_cls.tolist(), w_box.tolist()
([True, True, False], [0.75, 0.0, 0.0], [0.75, 0.0, 0.0])

By consistency from 0.5 on: row 0 is a sure class in a sure box, row 1 in an uncertain one.

>>> views = np.array([0.625, 0.375, 0.875], np.float32)
>>> keep, w_cls, w_box = weigh(np.array([0.75, 0.5, 0.25], np.float32), None, views, box="consistency", least_box=0.5)
>>> w_cls.tolist(), w_box.tolist()
([0.75, 0.5, 0.0], [0.625, 0.0, 0.0])
"""

from __future__ import annotations

from typing import Literal

import numpy as np
from jaxtyping import Float

from labelwise.labels._soft_weight import Weighed, check_threshold, check_values, reaches, upper_of
from labelwise.types import LabelwiseError

NEGATIVES: Literal["everywhere", "known"] = "everywhere"


def weigh(
    scores: Float[np.ndarray, " n"],
    class_threshold: Float[np.ndarray, " n"] | None = None,
    consistency: Float[np.ndarray, " n"] | None = None,
    quality: Float[np.ndarray, " n"] | None = None,
    tightness: Float[np.ndarray, " n"] | None = None,
    *,
    upper: float = 0.3,
    lower: float = 0.05,
    weight: Literal["soft", "hard"] = "soft",
    box: Literal["confidence", "consistency", "quality", "tightness", "none"] = "confidence",
    least_box: float = 0.0,
) -> Weighed:
    """Keeps the candidates from `lower` on; those that do not reach the upper threshold weigh 0.

    Args:
        scores: confidence.
        class_threshold: upper threshold of the candidate's class, NaN for none.
        consistency: mean IoU over the views; like the next two, needed only where `box` names it.
        quality: IoU with its object, as the model predicts it.
        tightness: IoU with the anchor or proposal that it came from.
        upper: confidence of a label, where the class has no threshold of its own.
        lower: below it a candidate is background.
        weight: of a label: "soft" is its confidence, "hard" is 1.
        box: the localisation loss of a label weighs this number; "confidence": as `weight` says; "none": 0.
        least_box: a label weighs 0 in the localisation loss where that number is below this.
    """
    n = len(check_values("dual", "confidence", scores))
    check_threshold("dual", "upper and lower", upper, lower)
    check_threshold("dual", "least_box", least_box)
    sure = reaches(scores, upper_of("dual", class_threshold, upper, n))
    weights = np.where(sure, scores if weight == "soft" else 1, 0).astype(np.float32)
    keep = sure | reaches(scores, lower)
    known = {"consistency": consistency, "quality": quality, "tightness": tightness}
    checked = {name: check_values("dual", name, values, n) for name, values in known.items() if values is not None}
    if box == "none":
        return keep, weights, np.zeros(n, np.float32)
    if box == "confidence":
        return keep, weights, np.where(reaches(scores, least_box), weights, 0).astype(np.float32)
    if box not in checked:
        what = f"the {box} of the candidates, which these predictions lack"
        raise LabelwiseError(f'dual: box = "{box}" needs {what}; predict anew, or take another box')
    number = checked[box]
    return keep, weights, np.where(sure & reaches(number, least_box), np.minimum(number, 1), 0).astype(np.float32)
