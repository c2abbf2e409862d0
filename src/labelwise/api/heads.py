"""What the class scores of a foreign detector are, and the distribution over the classes that they stand for.

* "softmax": every row of `probs` is a distribution over the classes, without background: it sums to 1.
* "sigmoid": every class has a probability of its own (YOLO, RetinaNet, RT-DETR). Divided by their sum they are the
  distribution; the largest is the confidence, where no `scores` are given.

What sigmoids leave to "nothing is here" remains in `scores` alone. A detector with an objectness of its own multiplies
it in: `scores` = objectness x largest sigmoid. Entropy and margin then tell which class it is, given that it is
something; `threshold` and scores of confidence tell whether.

Source: RetinaNet, arXiv 1708.02002, section 4 (independent sigmoids); dividing by the sum is ours.
Fails when: an object has several classes at once; here they share one distribution.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from jaxtyping import Float, Float32
from torch import Tensor, nn

from labelwise import catalog
from labelwise.types import LabelwiseError

SOFTMAX, SIGMOID = "softmax", "sigmoid"
HEADS = (SOFTMAX, SIGMOID)


def known(head: str) -> str:
    """The head, if there is such a one.

    Raises:
        LabelwiseError: it is neither "softmax" nor "sigmoid".
    """
    if head not in HEADS:
        raise LabelwiseError(catalog.unknown("head", str(head), list(HEADS)))
    return head


def distribution(sigmoids: Float[np.ndarray, "n C"]) -> Float32[np.ndarray, "n C"]:
    """Sigmoids divided by their sum; where all are 0, an even distribution.

    >>> distribution(np.array([[0.6, 0.2], [0.0, 0.0]])).round(2).tolist()
    [[0.75, 0.25], [0.5, 0.5]]
    """
    total = sigmoids.sum(axis=1, dtype=np.float64, keepdims=True)
    even = 1 / max(sigmoids.shape[1], 1)
    return np.where(total > 0, sigmoids / np.where(total > 0, total, 1), even).astype(np.float32)


class Distributions(nn.Module):
    """A model whose `probs` are sigmoids, as one whose `probs` are distributions; its `scores` stay as they are."""

    def __init__(self, model: Callable[[list[Tensor]], list[dict[str, Tensor]]]) -> None:
        super().__init__()
        self.model: Any = model  # a module is registered: views may switch its dropout on
        self.training = bool(getattr(model, "training", False))

    def forward(self, images: list[Tensor]) -> list[dict[str, Tensor]]:
        found = []
        for one in self.model(images):
            probs = one["probs"]
            outside = (probs < 0) | (probs > 1)
            if bool(outside.any()):
                value = float(probs[outside][0])
                raise LabelwiseError(f"predict: the model gave a class score of {value:.4g}; expected sigmoids, 0 to 1")
            total = probs.sum(1, keepdim=True)
            even = probs.new_full((), 1 / max(1, probs.shape[1]))
            found.append({**one, "probs": (probs / total.clamp(min=1e-30)).where(total > 1e-30, even)})
        return found
