"""Class distribution p(l) of the pseudo labels, for class-balanced selection; unit: probability.

Every predicted box counts for its predicted class with its weight of 000, Eq. 5: 1 for confidence >= τ₀, 0 for
confidence <= τ₁, the confidence itself between.

Source: 000, section 3.1, Eq. 1: "the class probability distribution estimated from pseudo labels".
Differs from the paper: it does not say how; hard counting (τ₀ = τ₁) is a setting of this.
Fails when: the detector is so young that no box has a weight: p is then all 0, and every class has the factor 1.

Worked by hand: class 0 counts 1 (0.9 >= 0.8), class 1 counts 0.25, sum 1.25.

>>> frequency(np.array([0, 1]), np.array([0.9, 0.25], np.float32), 3).tolist()
[0.8, 0.2, 0.0]
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from jaxtyping import Float, Float64, Int

from labelwise.labels._soft_weight import check_threshold, check_values, soft
from labelwise.types import LabelwiseError


def frequency(
    labels: Int[np.ndarray, " n"],
    confidences: Float[np.ndarray, " n"],
    n_classes: int,
    *,
    tau: tuple[float, float] = (0.8, 0.1),
) -> Float64[np.ndarray, " C"]:
    """Share of each class among the softly counted boxes; all 0 where no box counts."""
    return frequency_of([(labels, confidences)], n_classes, tau=tau)


def frequency_of(
    parts: Iterable[tuple[np.ndarray, np.ndarray]], n_classes: int, *, tau: tuple[float, float] = (0.8, 0.1)
) -> Float64[np.ndarray, " C"]:
    """`frequency` of boxes that come in parts (classes, confidences), bit for bit that of all at once."""
    check_threshold("frequency", "tau", *tau)
    counts, before = np.zeros(n_classes), 0
    for labels, confidences in parts:
        check_values("frequency", "confidence", confidences, len(labels))
        bad = np.flatnonzero((labels < 0) | (labels >= n_classes))
        if len(bad):
            row = before + bad[0]
            raise LabelwiseError(f"frequency: row {row} is of class {labels[bad[0]]}; expected 0 to {n_classes - 1}")
        np.add.at(counts, labels, soft(confidences, tau))  # one after the other, as `bincount` of all does
        before += len(labels)
    total = counts.sum()
    return counts / total if total > 0 else counts
