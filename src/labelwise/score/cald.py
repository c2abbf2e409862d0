"""CALD, stage 1: inconsistency of the image's most inconsistent box, c_m - M(I); unit: none, 0 to c_m = max(β, 2 - β).

M(I) is the mean over the views of the minimum over the image's boxes of |m_b - β|, m_b = IoU(b, b_m) + (s_b + s_bm)/2 ·
(1 - JS(b, b_m)), with b_m the counterpart of b in the view. The paper asks for a small M; we turn it round.

Source: Yu, Zhu, Yang, Chen, Consistency-based Active Learning for Object Detection, CVPR Workshops 2022 (arXiv
2103.10374), stage 1 (the metric of a sample), and the released cald_train.py; β = 1.3. m_b is that of
`score/consistency.py`, JS in nats.
Differs from the paper: a box without a counterpart in a view has IoU 0, s_bm = 0, JS = ln 2 there; the released code
compares it with the view's box 0, gives a view without any box 0 (most informative), stops |m - β| at 1 and replaces
more than 40 boxes by 50 evenly spaced ones (41 to 49 boxes: with repeats).
Fails when: one odd box decides for a whole crowded image (the minimum over many boxes is small by chance alone), or
many images are empty: an image without detections gets c_m, the most informative value, as in the released code.

Worked by hand, one view. Image 0 holds two boxes: m = 1 + 1 = 2, |2 - 1.3| = 0.7, and m = 0.5 + 0.6 · (1 - ln 2) =
0.6841, |0.6841 - 1.3| = 0.6159; the smaller leaves 1.3 - 0.6159 = 0.6841. Image 1 holds none: 1.3.

>>> p, q = np.array([[0.5, 0.5], [1, 0]], np.float32), np.array([[[0.5, 0.5], [0, 1]]], np.float32)
>>> s, t, iou = (np.array(x, np.float32) for x in ([1, 0.8], [[1, 0.4]], [[1, 0.5]]))
>>> score(p, s, q, t, iou, np.array([0, 2, 2])).round(4).tolist()
[0.6841, 1.3]
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float, Float64, Int

from labelwise.score import consistency
from labelwise.score._images import check_offsets, in_words, per_image, worst_row
from labelwise.score._rows import blocks, check_distribution
from labelwise.score.consistency import _check, _divergence, _p_log_p


def score(
    probs: Float[np.ndarray, "n C"],
    scores: Float[np.ndarray, " n"],
    view_probs: Float[np.ndarray, "V n C"],
    view_scores: Float[np.ndarray, "V n"],
    view_iou: Float[np.ndarray, "V n"],
    offsets: Int[np.ndarray, " images+1"],
    *,
    beta: float = 1.3,
) -> Float64[np.ndarray, " images"]:
    """c_m - M(I) per image; the views' rows are the counterparts of the rows of `probs`.

    Args:
        probs: class distribution of every detection.
        scores: its confidence s_b.
        view_probs: class distribution of its counterpart in every view.
        view_scores: confidence s_bm of the counterpart.
        view_iou: IoU with the counterpart; 0 means that there is none.
        offsets: the boxes of image i are the rows offsets[i] to offsets[i + 1].
        beta: β, in [0, 2].

    Raises:
        LabelwiseError: no view, a row that is not a distribution, a number outside [0, 1] (row and view named),
            offsets that do not fit.
    """
    n, classes = _check(probs, scores, view_probs, view_scores, view_iou, beta, "e")
    check_offsets(offsets, n)
    work = np.float32 if probs.dtype.itemsize <= 4 else np.float64
    distance = np.empty(view_iou.shape)
    for rows in blocks(n, classes):
        p = probs[rows].astype(work, copy=False)
        sum_p, negent_p = check_distribution("probs", p, rows.start), _p_log_p(p)
        for v in range(len(view_iou)):
            iou = view_iou[v, rows]
            q = view_probs[v, rows].astype(work, copy=False)
            js = _divergence(p, sum_p, negent_p, q, iou > 0, f"view_probs of view {v}", rows.start)
            confidence = 0.5 * (scores[rows] + np.where(iou > 0, view_scores[v, rows], 0))
            distance[v, rows] = np.abs(confidence * (1 - js) + iou - beta)
    nearest = per_image(np.minimum, distance, offsets, empty=0)
    # An IoU or confidence rounded to just above 1 carries |m - β| past its bound c_m.
    out: np.ndarray = np.maximum(max(beta, 2 - beta) - nearest.mean(axis=0), 0)
    return out


def explain(
    probs: Float[np.ndarray, "n C"],
    scores: Float[np.ndarray, " n"],
    view_probs: Float[np.ndarray, "V n C"],
    view_scores: Float[np.ndarray, "V n"],
    view_iou: Float[np.ndarray, "V n"],
    offsets: Int[np.ndarray, " images+1"],
    classes: Sequence[str],
    *,
    beta: float = 1.3,
) -> list[str]:
    """Of the image's most inconsistent box what the model says of the changed images."""
    doubt = consistency.score(probs, scores, view_probs, view_scores, view_iou, beta=beta)
    row = worst_row(doubt, offsets)
    rows = row[row >= 0]
    return in_words(row, consistency.explain(probs[rows], view_probs[:, rows], view_iou[:, rows], classes), offsets)
