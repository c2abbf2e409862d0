"""Background: no pseudo labels; whatever nobody annotated in a training image counts as background.

Source: 000, Table 1, rows U and U + CB (no pseudo labels); 000, section 3.2 describes the harm.
Fails when: images are sparsely annotated: every object that was not asked about is trained as background.

>>> keep, w_cls, w_box = weigh(np.array([0.9, 0.3], np.float32))
>>> keep.tolist(), w_cls.tolist(), w_box.tolist()
([False, False], [0.0, 0.0], [0.0, 0.0])
"""

from __future__ import annotations

from typing import Literal

import numpy as np
from jaxtyping import Float

from labelwise.labels._soft_weight import Weighed, check_values

NEGATIVES: Literal["everywhere", "known"] = "everywhere"


def weigh(scores: Float[np.ndarray, " n"]) -> Weighed:
    """Keeps no candidate."""
    n = len(check_values("background", "confidence", scores))
    return np.zeros(n, bool), np.zeros(n, np.float32), np.zeros(n, np.float32)
