"""Task-aware hard pseudo labels (THPL): confidence decides for the class, cons(b) for the box.

Candidates with confidence >= τ_cls teach the classification branch, those with cons(b) >= τ_box, the mean IoU with
their counterparts over the views, the localisation branch.

Source: 000, section 3.2, Eq. 4, and Table 1 (THPL, τ_cls = 0.8, τ_box = 0.7). "Above" is read as >=, as in Eq. 5 and 6.
Reading: a candidate is kept if it reaches at least one threshold, with weight 0 for the task whose threshold it
misses; its anchors are then ignored by that task rather than trained as background. The rest is background.
Fails when: the views themselves move boxes (see score/consistency.py), so that hardly any cons(b) reaches τ_box.

Worked by hand, τ = 0.8 and 0.7: row 0 is sure of its class only, row 1 of its box only.

>>> keep, w_cls, w_box = weigh(np.array([0.9, 0.3], np.float32), np.array([0.5, 0.7], np.float32))
>>> keep.tolist(), w_cls.tolist(), w_box.tolist()
([True, True], [1.0, 0.0], [0.0, 1.0])
"""

from __future__ import annotations

from typing import Literal

import numpy as np
from jaxtyping import Float

from labelwise.labels._soft_weight import Weighed, check_threshold, check_values, reaches

NEGATIVES: Literal["everywhere", "known"] = "everywhere"


def weigh(
    scores: Float[np.ndarray, " n"],
    consistency: Float[np.ndarray, " n"] | None,
    *,
    tau_cls: float = 0.8,
    tau_box: float = 0.7,
) -> Weighed:
    """Keeps the candidates that reach one of the thresholds; weight 1 for the tasks whose threshold they reach."""
    n = len(check_values("task_hard", "confidence", scores))
    consistency = check_values("task_hard", "consistency", consistency, n)
    check_threshold("task_hard", "tau_cls", tau_cls)
    check_threshold("task_hard", "tau_box", tau_box)
    by_class, by_box = reaches(scores, tau_cls), reaches(consistency, tau_box)
    return by_class | by_box, by_class.astype(np.float32), by_box.astype(np.float32)
