"""Noisy: every candidate becomes a label, for both branches; together they count λ_d of what was answered.

Source: 002, section 3.2, Eq. 3: L = L_labeled + λ_d · L_noisy, per image, each an average; λ_d = 0.5. A candidate of an
image with a answers and n candidates weighs λ_d · a / n, so that the noisy labels of the image sum to λ_d times its
answers, however many they are.
Differs from the paper: averages are over anchors there, by default over boxes here; a candidate never weighs more than
λ_d (there one candidate beside ten answers would count five times an answer); an image without an answer counts as one
with a single answer; the model normalises over all positives together (000, Eq. 7). So a candidate of a crowded image
weighs about a tenth of what Eq. 3 gives it. `weight = "flat"` (every candidate weighs λ_d) together with the model's
`pseudo = "apart"` is Eq. 3 itself: two averages over anchors, the second times λ_d.
Fails when: the detector is young and the images crowded: the labels are then mostly noise, and where it is wrong about
an object the policy tells it so twice.

>>> keep, w_cls, w_box = weigh(np.array([0.9, 0.3, 0.2], np.float32), np.array([2, 0.5, 0.5]))
>>> keep.tolist(), w_cls.tolist(), w_box.tolist()
([True, True, True], [0.5, 0.25, 0.25], [0.5, 0.25, 0.25])
"""

from __future__ import annotations

from typing import Literal

import numpy as np
from jaxtyping import Float

from labelwise.labels._soft_weight import Weighed, check_threshold, check_values
from labelwise.types import LabelwiseError

NEGATIVES: Literal["everywhere", "known"] = "everywhere"


def weigh(
    scores: Float[np.ndarray, " n"],
    answers_per_candidate: Float[np.ndarray, " n"],
    *,
    damping: float = 0.5,
    weight: Literal["per_answer", "flat"] = "per_answer",
) -> Weighed:
    """Keeps every candidate.

    Args:
        scores: confidence.
        answers_per_candidate: answers in the candidate's image, over its candidates.
        damping: λ_d, 0 to 1.
        weight: "per_answer": a candidate weighs `damping` times the answers per candidate of its image; "flat": it
            weighs `damping`.
    """
    n = len(check_values("noisy", "confidence", scores))
    check_threshold("noisy", "damping", damping)
    ratio = np.asarray(answers_per_candidate)
    bad = np.flatnonzero(~(ratio > 0)) if ratio.shape == (n,) else None
    if bad is None or len(bad):
        what = (
            f"shape {ratio.shape}; expected ({n},)" if bad is None else f"{ratio[bad[0]]} in row {bad[0]}; expected > 0"
        )
        raise LabelwiseError(f"noisy: answers per candidate: {what}")
    weights = (damping * (np.minimum(ratio, 1) if weight == "per_answer" else np.ones(n))).astype(np.float32)
    return np.ones(n, bool), weights, weights.copy()
