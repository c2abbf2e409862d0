"""Mutual information between the class and the model, H(mean p) - mean H(p) over members; unit: nats, 0 to ln members.

Members are the untouched pass and every view in which the box has a counterpart: dropout passes or the models of an
ensemble.

Source: Houlsby, Huszár, Ghahramani, Lengyel, Bayesian Active Learning for Classification and Preference Learning, 2011
(arXiv 1112.5745), Eq. 2; with MC dropout: Gal, Islam, Ghahramani, Deep Bayesian Active Learning with Image Data, ICML
2017.
Differs from the paper: it classifies whole images; here a member's opinion about a box is its matched detection, and a
member without one has none (`score/committee.py` counts it as disagreement instead).
Fails when: the members find the box in few passes, just where they differ most: a box that no view repeats has one
member and scores 0. Views that are augmentations measure consistency, not the model's uncertainty.

Worked by hand, one view. Row 0: (1, 0) and (0, 1) are sure of different classes, ln 2 - 0 = 0.6931. Row 1: both say
(0.5, 0.5), ln 2 - ln 2 = 0.

>>> p, q = np.array([[1, 0], [0.5, 0.5]]), np.array([[[0, 1], [0.5, 0.5]]])
>>> score(p, q, np.array([[1.0, 1.0]])).round(4).tolist()
[0.6931, 0.0]
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float, Float64

from labelwise.score._rows import blocks, check_distribution, check_shape, check_unit
from labelwise.types import LabelwiseError, phrases


def score(
    probs: Float[np.ndarray, "n C"],
    view_probs: Float[np.ndarray, "V n C"],
    view_iou: Float[np.ndarray, "V n"],
) -> Float64[np.ndarray, " n"]:
    """H(mean p) - mean H(p) per row, in nats.

    Args:
        probs: class distribution of every detection in the untouched pass.
        view_probs: that of its counterpart in every view.
        view_iou: IoU with the counterpart; 0 means that there is none.

    Raises:
        LabelwiseError: no view, a row that is not a distribution, an IoU outside [0, 1] (row and view named).
    """
    return _information(probs, view_probs, view_iou, "bald")


def explain(
    probs: Float[np.ndarray, "n C"],
    view_probs: Float[np.ndarray, "V n C"],
    view_iou: Float[np.ndarray, "V n"],
    classes: Sequence[str],
) -> list[str]:
    """What the members said."""
    said = phrases.votes(probs, view_probs, view_iou, classes)
    return [f"Models that learnt the same say {one}." for one in said]


def _information(probs: np.ndarray, view_probs: np.ndarray, view_iou: np.ndarray, name: str) -> np.ndarray:
    """Mutual information over the members that see the box."""
    check_shape("probs", probs, (None, None))
    n, classes = probs.shape
    check_shape("view_iou", view_iou, (None, n))
    check_shape("view_probs", view_probs, (len(view_iou), n, classes))
    check_unit("view_iou", view_iou)
    if len(view_iou) == 0:
        raise LabelwiseError(
            f"{name}: there are no views; let predict run dropout passes, an ensemble or augmentations"
        )
    out = np.empty(n)
    for rows in blocks(n, classes):
        check_distribution("probs", probs[rows], rows.start)
        total = probs[rows].astype(np.float64)
        negent, members = _p_log_p(total), 1 + (view_iou[:, rows] > 0).sum(axis=0)
        for v in range(len(view_iou)):
            seen = view_iou[v, rows] > 0
            q = view_probs[v, rows]
            check_distribution(f"view_probs of view {v}", q, rows.start, seen)
            q = np.where(seen[:, None], q, 0).astype(np.float64)  # zeros add nothing to either sum
            total += q
            negent += _p_log_p(q)
        out[rows] = negent / members - _p_log_p(total / members[:, None])
    return np.maximum(out, 0)  # rounding only


def _p_log_p(p: np.ndarray) -> np.ndarray:
    """Sum of p ln p per row; 0 ln 0 = 0."""
    total: np.ndarray = np.einsum("nc,nc->n", p, np.log(np.maximum(p, np.finfo(p.dtype).tiny)))
    return total
