"""Disagreement of a committee about a box's class times that about its place; unit: none, 0 to 1.

Class: the mean over the members of KL(member || consensus), nats; the members are the untouched pass and the views, the
consensus is their mean; scaled to [0, 1] by its largest possible value, ln members. Place: 1 - mean IoU over the views.
The two are multiplied. A member without a counterpart disagrees as much as a member can: KL = ln members, IoU = 0.

Source: in the spirit of ComPAS, Lyu et al., Box-Level Active Detection, CVPR 2023 (arXiv 2303.13089), the input-end
committee; KL to the mean of a committee: McCallum and Nigam, Employing EM and Pool-Based Active Learning for Text
Classification, ICML 1998.
Differs from the paper: its committee is a mean teacher that looks at weak views and a student that looks at strong
ones, class disagreement is the student's loss against the teacher's box, place disagreement the spread of re-regressed
jittered boxes; boxes below 0.5 have no score and NaN is skipped. Here the members are whatever predict produced
(augmented views, dropout passes, ensemble members), and every box has a score. It scales each part by its smallest and
largest value in the pool (0/0 where a part is constant); the bounds that hold for every pool give the same order
wherever some box has no disagreement at all, and a score that does not depend on the other boxes.
Fails when: a box is extreme in one part and 0 in the other: the product is 0.

Worked by hand, one view. Row 0: (1, 0) against (0, 1) gives KL = ln 2, scaled 1, and IoU 0.5: 1 * 0.5. Row 1 agrees:
KL = 0.

>>> p, q = np.array([[1, 0], [0.5, 0.5]]), np.array([[[0, 1], [0.5, 0.5]]])
>>> score(p, q, np.array([[0.5, 1.0]])).tolist()
[0.5, 0.0]
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float, Float64

from labelwise.score.bald import _information
from labelwise.types import phrases


def score(
    probs: Float[np.ndarray, "n C"],
    view_probs: Float[np.ndarray, "V n C"],
    view_iou: Float[np.ndarray, "V n"],
) -> Float64[np.ndarray, " n"]:
    """Scaled class disagreement times place disagreement, per row.

    Args:
        probs: class distribution of every detection in the untouched pass.
        view_probs: that of its counterpart in every view.
        view_iou: IoU with the counterpart; 0 means that there is none.

    Raises:
        LabelwiseError: no view, a row that is not a distribution, an IoU outside [0, 1] (row and view named).
    """
    information = _information(probs, view_probs, view_iou, "committee")
    members = 1 + len(view_iou)
    present = 1 + (view_iou > 0).sum(axis=0)
    about_class = (present * information + (members - present) * np.log(members)) / members
    about_place = 1 - view_iou.mean(axis=0, dtype=np.float64)
    out: np.ndarray = about_class / np.log(members) * about_place
    return out


def explain(
    probs: Float[np.ndarray, "n C"],
    view_probs: Float[np.ndarray, "V n C"],
    view_iou: Float[np.ndarray, "V n"],
    classes: Sequence[str],
) -> list[str]:
    """What the members said, and how far apart they place it."""
    place = view_iou.mean(axis=0, dtype=np.float64)
    said = phrases.votes(probs, view_probs, view_iou, classes)
    return [
        f"A committee says {a}; its boxes overlap by {phrases.percent(b)}." for a, b in zip(said, place, strict=True)
    ]
