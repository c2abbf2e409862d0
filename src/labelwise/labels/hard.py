"""Hard pseudo labels (HPL): candidates with confidence >= τ_cls become labels of weight 1 for both branches.

Source: 000, section 3.2 and Table 1 (HPL, τ_cls = 0.8). "Above" is read as >=, as in Eq. 5.
Fails when: a confident candidate has a poor box, which the localisation branch then learns; and an object found with
less confidence is still trained as background.

`labels.class_thresholds = "answers"` puts a threshold of its own in the place of τ_cls for every class of which enough
is known (ours; see `targets/class_thresholds.py`).

Worked by hand, τ_cls = 0.8: 0.8 reaches it, 0.7 does not.

>>> keep, w_cls, w_box = weigh(np.array([0.8, 0.7], np.float32))
>>> keep.tolist(), w_cls.tolist(), w_box.tolist()
([True, False], [1.0, 0.0], [1.0, 0.0])
"""

from __future__ import annotations

from typing import Literal

import numpy as np
from jaxtyping import Float

from labelwise.labels._soft_weight import Weighed, check_threshold, check_values, reaches, upper_of

NEGATIVES: Literal["everywhere", "known"] = "everywhere"


def weigh(
    scores: Float[np.ndarray, " n"], class_threshold: Float[np.ndarray, " n"] | None = None, *, tau_cls: float = 0.8
) -> Weighed:
    """Keeps the candidates whose confidence is at least `tau_cls`, or the threshold of their class."""
    n = len(check_values("hard", "confidence", scores))
    check_threshold("hard", "tau_cls", tau_cls)
    keep = reaches(scores, upper_of("hard", class_threshold, tau_cls, n))
    return keep, keep.astype(np.float32), keep.astype(np.float32)
