"""Least certain class minus localisation stability, U_C(I) - λ·S_I(I) + λ (LS+C); unit: none, 0 to 1 + λ.

U_C is the largest 1 - P_max over the image's boxes, P_max the confidence. S_B(b) is the mean over the views (the image
under noise of rising level) of the IoU between b and its counterpart; S_I is the mean of S_B over the boxes, weighted
by P_max.

Source: Kao, Lee, Sen, Liu, Localization-Aware Active Learning for Object Detection, ACCV 2018 (arXiv 1801.05124),
localization stability, LS+C; λ = 1, six levels of Gaussian noise.
Differs from the paper: λ is added, so that the score is never negative; the order is the same. An image without
detections has no uncertain class and nothing unstable: 0, the least informative. The released code of CALD, which
ranks by S_I - U_C in [-1, 1], puts it in the middle (0). S_I is 0 where all confidences are.
Fails when: a weak false positive is always there, so that U_C is near 1 everywhere and only S_I ranks; an object that
the detector does not see is invisible.

Worked by hand, two views. Image 0: U_C = 1 - 0.5; S_B = (1 + 0.5)/2 and 0; S_I = 1 · 0.75 / 1.5 = 0.5; the score is 0.5
- 0.5 + 1 = 1. Image 1 holds one box, sure and always in its place: 0 - 1 + 1 = 0.

>>> score(np.array([1, 0.5, 1.0]), np.array([[1, 0, 1.0], [0.5, 0, 1]]), np.array([0, 2, 3])).tolist()
[1.0, 0.0]
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Float, Float64, Int

from labelwise.score._images import check_offsets, in_words, per_image, worst_row
from labelwise.score._rows import check_shape, check_unit
from labelwise.types import LabelwiseError
from labelwise.types.phrases import percent


def score(
    scores: Float[np.ndarray, " n"],
    view_iou: Float[np.ndarray, "V n"],
    offsets: Int[np.ndarray, " images+1"],
    *,
    weight: float = 1.0,
) -> Float64[np.ndarray, " images"]:
    """U_C - λ·S_I + λ per image.

    Args:
        scores: confidence P_max of every detection.
        view_iou: IoU with its counterpart in every view; 0 means that there is none.
        offsets: the boxes of image i are the rows offsets[i] to offsets[i + 1].
        weight: λ >= 0; 0 leaves the class alone.

    Raises:
        LabelwiseError: no view, a number outside [0, 1] (row and view named), offsets that do not fit, weight < 0.
    """
    n = len(scores)
    check_shape("scores", scores, (n,))
    check_shape("view_iou", view_iou, (None, n))
    check_unit("scores", scores)
    check_unit("view_iou", view_iou)
    check_offsets(offsets, n)
    if len(view_iou) == 0:
        raise LabelwiseError("localization_stability: there are no views; let predict add noise to the images")
    if not (weight >= 0 and np.isfinite(weight)):
        raise LabelwiseError(f"localization_stability: weight is {weight}; expected a number >= 0 (1 in the paper)")
    confidence = np.minimum(scores.astype(np.float64), 1)
    stable = np.minimum(view_iou.mean(axis=0, dtype=np.float64), 1)
    uncertain = per_image(np.maximum, 1 - confidence, offsets, empty=0)
    share = per_image(np.add, confidence * stable, offsets, empty=1)
    total = per_image(np.add, confidence, offsets, empty=1)
    stability = np.divide(share, total, out=np.zeros_like(share), where=total > 0)
    out: np.ndarray = uncertain + weight * np.maximum(1 - stability, 0)
    return out


def explain(
    scores: Float[np.ndarray, " n"], view_iou: Float[np.ndarray, "V n"], offsets: Int[np.ndarray, " images+1"]
) -> list[str]:
    """Of the image's least sure box how sure it is, and how well it stays in its place."""
    row = worst_row(1 - scores, offsets)
    rows = row[row >= 0]
    stable = view_iou[:, rows].mean(axis=0, dtype=np.float64)
    said = [
        f"The model is {percent(s)} sure of this box, and with noise on the image it overlaps itself by {percent(b)}."
        for s, b in zip(scores[rows], stable, strict=True)
    ]
    return in_words(row, said, offsets)
