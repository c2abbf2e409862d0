"""Lack of confidence of a detection, 1 - s; unit: probability, 0 to 1.

Source: 002, section 3.3 ("Mean Classification Uncertainty": 1 - P, P the highest predicted probability of the box);
003, section 4.3, Eq. 2 (1 - p of every object, the mean over a region: `aggregate = "mean"`).
Fails when: most detections are background of low confidence; they are then asked first. With the mean over a region,
one object that is unsure and alone outranks many unsure ones beside a sure one.

Takes the detection's confidence, not its class distribution: `least_confidence` is 1 - p1 of the distribution over the
foreground classes, which says nothing about whether there is an object at all.

Worked by hand: 1 - 0.75 and 1 - 0.5.

>>> score(np.array([0.75, 0.5], np.float32)).tolist()
[0.25, 0.5]
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float, Float64, Int

from labelwise.score._rows import check_shape, check_unit
from labelwise.types import phrases


def score(scores: Float[np.ndarray, " n"]) -> Float64[np.ndarray, " n"]:
    """1 - s per detection.

    Raises:
        LabelwiseError: a confidence outside [0, 1] (row named).
    """
    check_shape("scores", scores, (None,))
    check_unit("scores", scores)
    out: np.ndarray = np.maximum(1 - scores.astype(np.float64), 0)  # a confidence rounded to just above 1
    return out


def explain(scores: Float[np.ndarray, " n"], labels: Int[np.ndarray, " n"], classes: Sequence[str]) -> list[str]:
    """How sure the model is."""
    return phrases.confidence(scores, labels, classes)
