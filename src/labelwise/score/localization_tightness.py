"""Disagreement of class and place in the image's worst box, 1 - min |T + P_max - 1| (LT/C); unit: none, 0 to 1.

T(b) is the IoU between the final box and the proposal that it came from, P_max its confidence. |T + P_max - 1| is 0
where one of them is sure and the other is not: a tight box of no class, or a clear class in a loose box.

Source: Kao, Lee, Sen, Liu, Localization-Aware Active Learning for Object Detection, ACCV 2018 (arXiv 1801.05124),
localization tightness, LT/C; the image's T_I is the minimum over its boxes, and a small T_I is asked first, so 1 - T_I
here.
Differs from the paper: the paper's proposals are those of Faster R-CNN; for RetinaNet they are the anchors, which are
looser. An image without detections has nothing to disagree about: 0, the least informative (the released code of CALD
says so too).
Fails when: confidences sit at 1 - T for reasons of scale (an uncalibrated detector): T near 0.5 pairs with every weak
box.

Tightness must be an IoU in [0, 1]. The released code of CALD adds 1 pixel to the intersection but not to every side of
the areas: a box of 10 × 10 pixels has "IoU" 1.22 with itself, and the smaller the box the larger.

Worked by hand. Image 0: |1 + 0.25 - 1| = 0.25 and |0.5 + 0.625 - 1| = 0.125, so 1 - 0.125 = 0.875. Image 1: |1 + 1 - 1|
= 1, so 0.

>>> score(np.array([0.25, 0.625, 1.0]), np.array([1, 0.5, 1.0]), np.array([0, 2, 3])).tolist()
[0.875, 0.0]
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Float, Float64, Int

from labelwise.score._images import check_offsets, in_words, per_image, worst_row
from labelwise.score._rows import check_shape, check_unit
from labelwise.types.phrases import percent


def score(
    scores: Float[np.ndarray, " n"],
    tightness: Float[np.ndarray, " n"],
    offsets: Int[np.ndarray, " images+1"],
) -> Float64[np.ndarray, " images"]:
    """1 - min over the boxes of |T + P_max - 1|, per image.

    Args:
        scores: confidence P_max of every detection.
        tightness: IoU T between the final box and its proposal.
        offsets: the boxes of image i are the rows offsets[i] to offsets[i + 1].

    Raises:
        LabelwiseError: a number outside [0, 1] (row named), offsets that do not fit.
    """
    n = len(scores)
    check_shape("scores", scores, (n,))
    check_shape("tightness", tightness, (n,))
    check_unit("scores", scores)
    check_unit("tightness", tightness)
    check_offsets(offsets, n)
    gap = np.abs(tightness.astype(np.float64) + scores - 1)
    out: np.ndarray = np.maximum(1 - per_image(np.minimum, gap, offsets, empty=1), 0)
    return out


def explain(
    scores: Float[np.ndarray, " n"], tightness: Float[np.ndarray, " n"], offsets: Int[np.ndarray, " images+1"]
) -> list[str]:
    """Of the image's box whose class and place disagree most, both."""
    row = worst_row(-np.abs(tightness.astype(np.float64) + scores - 1), offsets)
    rows = row[row >= 0]
    said = [
        f"The model is {percent(s)} sure of the class, and the box overlaps by {percent(t)} with where it began."
        for s, t in zip(scores[rows], tightness[rows], strict=True)
    ]
    return in_words(row, said, offsets)
