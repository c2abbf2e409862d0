"""Noisy: every candidate becomes a label, for both branches, whose loss is damped by λ_d.

Source: 002, section 3, Eq. 3: L = L_labeled + λ_d · L_noisy; λ_d = 0.5.
Differs from the paper: there each of the two terms is an average over its own anchors; here the weight λ_d multiplies
every noisy positive's loss, and the model normalises over all positives together (000, Eq. 7). How much the noisy
labels count so depends on how many there are.
Fails when: the candidate threshold is low and the detector young: most candidates are then wrong, at half weight each.

>>> keep, w_cls, w_box = weigh(np.array([0.9, 0.3], np.float32))
>>> keep.tolist(), w_cls.tolist(), w_box.tolist()
([True, True], [0.5, 0.5], [0.5, 0.5])
"""

from __future__ import annotations

from typing import Literal

import numpy as np
from jaxtyping import Float

from labelwise.labels._weights import Weighed, check_threshold, check_values

NEGATIVES: Literal["everywhere", "known"] = "everywhere"


def weigh(scores: Float[np.ndarray, " n"], *, damping: float = 0.5) -> Weighed:
    """Keeps every candidate with weight `damping` (λ_d, 0 to 1) for both branches."""
    n = len(check_values("noisy", "confidence", scores))
    check_threshold("noisy", "damping", damping)
    return np.ones(n, bool), np.full(n, damping, np.float32), np.full(n, damping, np.float32)
