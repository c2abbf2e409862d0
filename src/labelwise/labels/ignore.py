"""Ignore: no pseudo labels, and where nobody looked nothing is learned.

Negatives are taken only inside coverage and background marks; elsewhere anchors that match no annotated box are
ignored.

Source: 003 (fine-grained baseline), as given in DESIGN section 3.
Fails when: nearly all answers are box queries: then there are hardly any negatives, and the detector fires everywhere.

>>> keep, w_cls, w_box = weigh(np.array([0.9, 0.3], np.float32))
>>> keep.tolist(), w_cls.tolist(), w_box.tolist(), NEGATIVES
([False, False], [0.0, 0.0], [0.0, 0.0], 'known')
"""

from __future__ import annotations

from typing import Literal

import numpy as np
from jaxtyping import Float

from labelwise.labels._soft_weight import Weighed, check_values

NEGATIVES: Literal["everywhere", "known"] = "known"


def weigh(scores: Float[np.ndarray, " n"]) -> Weighed:
    """Keeps no candidate."""
    n = len(check_values("ignore", "confidence", scores))
    return np.zeros(n, bool), np.zeros(n, np.float32), np.zeros(n, np.float32)
