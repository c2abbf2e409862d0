"""Label dispersion: the share of recorded epochs whose prediction is not the modal one; unit: none, 0 to 1 - 1/C.

Source: 001, section 3.3.1, Eq. 3.1 and 3.2: Dispersion(x) = 1 - f_x / T, f_x the count of the class predicted most
often over the T recorded epochs.
Differs from the paper: nothing.
Fails when: few epochs are recorded (T different values at most, so that most of the ranking are ties, broken by row)
and where the first epochs of a training from scratch say nothing yet: they count as much as the last.

Worked by hand, T = 4. Image 0 is always class 1: 1 - 4/4. Image 1 is 0, 2, 2, 1: 1 - 2/4.

>>> score(np.array([[1, 0], [1, 2], [1, 2], [1, 1]])).tolist()
[0.0, 0.5]
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from itertools import pairwise

import numpy as np
from jaxtyping import Float64, Integer

from labelwise.types import LabelwiseError
from labelwise.types.phrases import joined, percent

_BLOCK = 1 << 16
"""Images counted at once."""


def score(history: Integer[np.ndarray, "T n"]) -> Float64[np.ndarray, " n"]:
    """One score per image from its class after every recorded epoch.

    Raises:
        LabelwiseError: no record, or a class that is no whole number >= 0.
    """
    if history.ndim != 2 or not np.issubdtype(history.dtype, np.integer) or (history.shape[1] and not len(history)):
        raise LabelwiseError(
            f"dispersion: history is {history.dtype} {history.shape}; expected whole class numbers [records, images]"
        )
    n = history.shape[1]
    out = np.empty(n)
    for start in range(0, n, _BLOCK):
        ordered = np.sort(history[:, start : start + _BLOCK], axis=0)
        if ordered.size and ordered[0].min() < 0:
            raise LabelwiseError(f"dispersion: history of image {start + int(ordered[0].argmin())} has a class below 0")
        run = np.ones(ordered.shape[1], np.int64)
        longest = run.copy()
        for before, now in pairwise(ordered):
            run = np.where(now == before, run + 1, 1)
            np.maximum(longest, run, out=longest)
        out[start : start + _BLOCK] = 1 - longest / max(len(history), 1)
    return out


def explain(history: Integer[np.ndarray, "T n"], classes: Sequence[str]) -> list[str]:
    """Which classes the model predicted while it trained, and how often."""
    found = []
    for said in history.T.tolist():
        named = [f"{classes[c]} ({percent(times / len(said))})" for c, times in Counter(said).most_common(2)]
        text = f"While it trained, the model changed its mind: {joined(named)} of the time."
        found.append(text if len(named) > 1 else f"While it trained, the model always said {named[0]}.")
    return found
