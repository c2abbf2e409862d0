"""Oracle: how many errors the detector truly makes in a frame or image; for study only, it looks at the ground truth.

Source: 001, section 2.3.1: false positives (no object of the class at IoU > 0.5, or one found before) or misses.
Differs from the paper: none known; a detection is matched to an object of its own class.
Fails when: objects are missing in the ground truth: every right detection of one counts as an error.

Two images with 2 and 0 false positives, 1 and 3 misses.

>>> score(np.array([2, 0]), np.array([1, 3])).tolist()
[2.0, 0.0]
>>> score(np.array([2, 0]), np.array([1, 3]), errors="fn").tolist()
[1.0, 3.0]
"""

from __future__ import annotations

from typing import Literal

import numpy as np
from jaxtyping import Float64, Int

from labelwise.score._images import counted
from labelwise.types.phrases import several


def score(
    true_fp: Int[np.ndarray, " images"],
    true_fn: Int[np.ndarray, " images"],
    *,
    errors: Literal["fp", "fn", "both"] = "fp",
) -> Float64[np.ndarray, " images"]:
    """One score per image.

    Args:
        true_fp: detections of the image that are false positives.
        true_fn: objects of the image that were missed.
        errors: which of them count.
    """
    return counted("detection_errors", errors, fp=true_fp, fn=true_fn)


def explain(value: Float64[np.ndarray, " images"]) -> list[str]:
    """How many errors there are; `value` is the score."""
    return [f"For study: the model truly makes {several(one, 'error')} here." for one in value.tolist()]
