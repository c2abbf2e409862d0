"""CEAL: predictions whose entropy is below a falling threshold become labels, for one round; unit of entropy: nats.

Source: Wang, Zhang, Li, Zhang, Lin, Cost-Effective Active Learning for Deep Image Classification, IEEE TCSVT 2017,
sections III-B and III-C (entropy below δ; δ = δ0 - dr · t at iteration t); the baseline of 001, section 3.5. Take it
with `labels.images = "all"`: every image of the pool may be given a label.
Differs from the paper: none in the rule; there the network is fine-tuned from round to round (`train.warm_start`).
Fails when: the model is sure and wrong: its own mistakes become labels.

Entropy of (0.99, 0.01) is 0.056 nats; δ in round 1 is 0.1 - 0.01 = 0.09.

>>> keep, w_cls, w_box = weigh(np.array([[0.99, 0.01], [0.5, 0.5]], np.float32), 1, delta=0.1, decay=0.01)
>>> keep.tolist(), w_cls.tolist()
([True, False], [1.0, 0.0])
"""

from __future__ import annotations

from typing import Annotated, Literal

import numpy as np
from jaxtyping import Float
from pydantic import Field

from labelwise.labels._soft_weight import Weighed
from labelwise.types import LabelwiseError

NEGATIVES: Literal["everywhere", "known"] = "everywhere"


def weigh(
    probs: Float[np.ndarray, "n C"],
    round: int,  # noqa: A002 (the menu's name)
    *,
    delta: Annotated[float, Field(ge=0)] = 0.05,
    decay: Annotated[float, Field(ge=0)] = 0.0033,
) -> Weighed:
    """Keeps the candidates with an entropy below `delta` - `decay` · `round`."""
    bad = np.flatnonzero(~(np.abs(probs.sum(axis=1) - 1) <= 1e-3) | ~(probs >= 0).all(axis=1))
    if len(bad):
        raise LabelwiseError(f"ceal: probs of row {bad[0]} are {probs[bad[0]]}; expected a distribution that sums to 1")
    p = probs.astype(np.float64)
    entropy = -(p * np.log(np.where(p > 0, p, 1))).sum(axis=1)
    keep = entropy < delta - decay * round
    return keep, keep.astype(np.float32), keep.astype(np.float32)
