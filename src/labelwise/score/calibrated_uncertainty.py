"""Entropy of the confidence, raised for classes that the detector finds difficult; unit: nats, 0 to (1 + β) ln 2.

Difficulty-calibrated uncertainty: -(s ln s + (1 - s) ln(1 - s)) of the confidence s, times 1 + α β ln(γ d + 1), where d
is the difficulty of the box's class and γ = e^(1/α) - 1, so that the factor runs from 1 to 1 + β.

Source: Yang, Huang, Crowley, Plug and Play Active Learning for Object Detection (PPAL), CVPR 2024 (arXiv 2211.11612),
section 3.3; α = 0.3 and β = 0.2 are those of the authors' code. An image's value is the sum over its boxes
(`aggregate = "sum"`); the second stage is `select/category_matching.py`.
Differs from the paper: the difficulty is that of `targets/difficulty.py`. Boxes below 16 pixels and long thin ones are
not left out. The entropy is that of the confidence, yes or no, as in the authors' code.
Fails when: images are crowded: the sum favours them, whatever they teach; or confidences are not calibrated.

Worked by hand: s = 0.5 gives ln 2 = 0.6931; class 0 has d = 0, factor 1; class 1 has d = 1, factor 1.2.

>>> score(np.array([0.5, 0.5]), np.array([0, 1]), np.array([0.0, 1.0])).round(4).tolist()
[0.6931, 0.8318]
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float, Float64, Int

from labelwise.score._rows import check_shape, check_unit
from labelwise.types import LabelwiseError, phrases


def score(
    scores: Float[np.ndarray, " n"],
    labels: Int[np.ndarray, " n"],
    difficulty: Float[np.ndarray, " C"],
    *,
    alpha: float = 0.3,
    beta: float = 0.2,
) -> Float64[np.ndarray, " n"]:
    """Binary entropy times the factor of the class, per row.

    Args:
        scores: confidence of every box.
        labels: its class.
        difficulty: of every class, in [0, 1].
        alpha: how early the factor rises with the difficulty; smaller is earlier.
        beta: how much the most difficult class counts more.

    Raises:
        LabelwiseError: a confidence or a difficulty outside [0, 1], a class that has none (row named), a setting out of
            range.
    """
    check_shape("scores", scores, (None,))
    check_shape("labels", labels, (len(scores),))
    check_shape("difficulty", difficulty, (None,))
    check_unit("scores", scores)
    check_unit("difficulty", difficulty)
    if not 0.01 <= alpha < np.inf:
        raise LabelwiseError(f"calibrated_uncertainty: alpha is {alpha}; expected at least 0.01")
    if not 0 <= beta < np.inf:
        raise LabelwiseError(f"calibrated_uncertainty: beta is {beta}; expected a number >= 0")
    bad = np.flatnonzero((labels < 0) | (labels >= len(difficulty)))
    if len(bad):
        raise LabelwiseError(f"labels: row {bad[0]} is {labels[bad[0]]}; expected 0 to {len(difficulty) - 1}")
    s = np.clip(scores.astype(np.float64), 0, 1)
    tiny = np.finfo(np.float64).tiny
    entropy = np.abs(s * np.log(np.maximum(s, tiny)) + (1 - s) * np.log(np.maximum(1 - s, tiny)))
    factor = 1 + alpha * beta * np.log(np.expm1(1 / alpha) * np.clip(difficulty, 0, 1) + 1)
    raised: Float64[np.ndarray, " n"] = entropy * factor[labels]
    return raised


def explain(scores: Float[np.ndarray, " n"], labels: Int[np.ndarray, " n"], classes: Sequence[str]) -> list[str]:
    """How sure the model is."""
    return phrases.confidence(scores, labels, classes)
