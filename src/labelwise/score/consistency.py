"""Uncertainty of a detection over augmentations, u(b) = c_m - c(b); unit: none, 0 to c_m = max(β, 2 - β).

c(b) is the mean over the views of |x - β|, x = (s_b + s_bm)/2 · (1 - JS(b, b_m)) + IoU(b, b_m), where b_m is the
counterpart of the detection b in the augmented image: s confidence, JS the divergence of the two class distributions.

Source: 000, section 3.1, Eq. 2 and 3; β = 1.3. JS is in nats (at most ln 2 = 0.693), as in the reference code that
calibrated β (DESIGN section 7); `base="2"` gives bits.
Differs from the paper: a detection without a counterpart in a view (IoU 0) has the maximal JS and s_bm = 0 there; the
reference code compares it with box 0 instead.
Fails when: the view itself moves boxes (a rotated box becomes its hull, so that even a perfect detector gets IoU < 1).
u peaks at x = β, between sure (x = 2, u = 0.6) and lost in every view (x near 0, u near 0): a false positive that no
view repeats is *not* asked, and neither is an object that the detector finds only once.

Rows of `probs`, and of `view_probs` where there is a counterpart, must be distributions; checked, not normalised.

Worked by hand, one view. Row 0 is the same in the view: x = 1·1 + 1 = 2, u = 1.3 - 0.7 = 0.6. Row 1 changes its class
for certain, JS = ln 2, s = 0.8 and 0.4, IoU 0.5: x = 0.6·0.3069 + 0.5 = 0.6841, u = 1.3 - 0.6159 = 0.6841.

>>> p, q = np.array([[0.5, 0.5], [1, 0]], np.float32), np.array([[[0.5, 0.5], [0, 1]]], np.float32)
>>> s, t, iou = (np.array(x, np.float32) for x in ([1, 0.8], [[1, 0.4]], [[1, 0.5]]))
>>> score(p, s, q, t, iou).round(4).tolist()
[0.6, 0.6841]
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np
from jaxtyping import Float, Float64

from labelwise.score._rows import blocks, check_distribution, check_shape, check_unit
from labelwise.types import LabelwiseError, phrases


def score(
    probs: Float[np.ndarray, "n C"],
    scores: Float[np.ndarray, " n"],
    view_probs: Float[np.ndarray, "V n C"],
    view_scores: Float[np.ndarray, "V n"],
    view_iou: Float[np.ndarray, "V n"],
    *,
    beta: float = 1.3,
    base: Literal["e", "2"] = "e",
) -> Float64[np.ndarray, " n"]:
    """u(b) per row; the views' rows are the counterparts of the rows of `probs`.

    Args:
        probs: class distribution of every detection.
        scores: its confidence s_b.
        view_probs: class distribution of its counterpart in every view.
        view_scores: confidence s_bm of the counterpart.
        view_iou: IoU with the counterpart; 0 means that there is none.
        beta: β of Eq. 2, in [0, 2].
        base: logarithm of JS: "e" nats, "2" bits.

    Raises:
        LabelwiseError: no view, a row that is not a distribution, a number outside [0, 1] (row and view named).
    """
    n, classes = _check(probs, scores, view_probs, view_scores, view_iou, beta, base)
    unit = 1.0 if base == "e" else np.log(2)
    views = len(view_iou)
    work = np.float32 if probs.dtype.itemsize <= 4 else np.float64
    out = np.zeros(n)
    for rows in blocks(n, classes):
        p = probs[rows].astype(work, copy=False)
        sum_p, negent_p = check_distribution("probs", p, rows.start), _p_log_p(p)
        for v in range(views):
            iou = view_iou[v, rows]
            q = view_probs[v, rows].astype(work, copy=False)
            js = _divergence(p, sum_p, negent_p, q, iou > 0, f"view_probs of view {v}", rows.start) / unit
            confidence = 0.5 * (scores[rows] + np.where(iou > 0, view_scores[v, rows], 0))
            out[rows] += np.abs(confidence * (1 - js) + iou - beta)
    # An IoU or confidence rounded to just above 1 carries c(b) past its bound c_m; u is never negative.
    u: np.ndarray = np.maximum(max(beta, 2 - beta) - out / views, 0)
    return u


def explain(
    probs: Float[np.ndarray, "n C"],
    view_probs: Float[np.ndarray, "V n C"],
    view_iou: Float[np.ndarray, "V n"],
    classes: Sequence[str],
) -> list[str]:
    """What the model says of the changed images, and where it places the box there."""
    place = view_iou.mean(axis=0, dtype=np.float64)
    said = phrases.votes(probs, view_probs, view_iou, classes)
    return [
        f"When the image is changed a little, the model says {a}; the boxes overlap by {phrases.percent(b)}."
        for a, b in zip(said, place, strict=True)
    ]


def _divergence(
    p: np.ndarray, sum_p: np.ndarray, negent_p: np.ndarray, q: np.ndarray, matched: np.ndarray, name: str, first: int
) -> np.ndarray:
    """JS(p, q) per row in nats, ln 2 where there is no counterpart.

    JS = H((p+q)/2) - (H(p) + H(q))/2. With t = p + q this is (ln 2 · Σt - Σt ln t + Σp ln p + Σq ln q) / 2, one
    logarithm per number of q and of t; that of p is shared by all views.
    """
    if not matched.all():
        q = np.where(matched[:, None], q, p)  # whatever stands there must not raise a warning in the logarithm
    sum_q = check_distribution(name, q, first)
    t = p + q
    js: np.ndarray = 0.5 * (np.log(2) * (sum_p + sum_q) - _p_log_p(t) + negent_p + _p_log_p(q))
    js[~matched] = np.log(2)
    return np.clip(js, 0, np.log(2), out=js)  # rounding only, about 1e-6


def _p_log_p(p: np.ndarray) -> np.ndarray:
    """Sum of p ln p per row; 0 ln 0 = 0, because the smallest normal number has a finite logarithm."""
    logs = np.maximum(p, np.finfo(p.dtype).tiny)
    np.log(logs, out=logs)
    total: np.ndarray = np.einsum("nc,nc->n", p, logs)
    return total


def _check(
    probs: np.ndarray,
    scores: np.ndarray,
    view_probs: np.ndarray,
    view_scores: np.ndarray,
    view_iou: np.ndarray,
    beta: float,
    base: str,
) -> tuple[int, int]:
    check_shape("probs", probs, (None, None))
    n, classes = probs.shape
    check_shape("view_iou", view_iou, (None, n))
    views = len(view_iou)
    check_shape("scores", scores, (n,))
    check_shape("view_probs", view_probs, (views, n, classes))
    check_shape("view_scores", view_scores, (views, n))
    for name, values in (("scores", scores), ("view_scores", view_scores), ("view_iou", view_iou)):
        check_unit(name, values)
    if views == 0:
        raise LabelwiseError("consistency: there are no views; expected at least one. Let predict augment the images")
    if not 0 <= beta <= 2:
        raise LabelwiseError(f"consistency: beta is {beta}; expected a number in [0, 2] (1.3 in the paper)")
    if base not in ("e", "2"):
        raise LabelwiseError(f'consistency: base is {base!r}; expected "e" (nats) or "2" (bits)')
    return n, classes
