"""Temporal coherence: how many errors the neighbouring frames betray in a frame, in errors.

Source: 001, section 2.3.2, "Acquisition function". The errors are estimated from the whole video before
(`tracks/coherence.py`, settings under `tracks` in the config); here they are counted.
Differs from the paper: the document counts false positives alone, having found FP, FN and both alike; `errors` chooses.
Equal counts are taken in a random order, as the document does (by the stage that selects).
Fails when: the camera jumps, so that nothing can be followed; or the detector makes the same error in every frame.

Two frames with 2 and 0 false positives, 1 and 3 misses.

>>> score(np.array([2, 0]), np.array([1, 3])).tolist()
[2.0, 0.0]
>>> score(np.array([2, 0]), np.array([1, 3]), errors="both").tolist()
[3.0, 3.0]
"""

from __future__ import annotations

from typing import Literal

import numpy as np
from jaxtyping import Float64, Int

from labelwise.score._images import counted
from labelwise.types.phrases import several


def score(
    estimated_fp: Int[np.ndarray, " images"],
    estimated_fn: Int[np.ndarray, " images"],
    *,
    errors: Literal["fp", "fn", "both"] = "fp",
) -> Float64[np.ndarray, " images"]:
    """One score per frame.

    Args:
        estimated_fp: detections of the frame that the graph calls false positives.
        estimated_fn: candidates of the frame that the graph calls missed objects.
        errors: which of them count.
    """
    return counted("temporal_coherence", errors, fp=estimated_fp, fn=estimated_fn)


def explain(value: Float64[np.ndarray, " images"]) -> list[str]:
    """How many errors there are; `value` is the score."""
    return [f"The frames before and after betray {several(one, 'error')} in this one." for one in value.tolist()]
