"""Classifier on frozen features: logistic regression, a linear layer trained by SGD, or a linear SVM.

`logistic` and `svm` are solved in one go, in milliseconds; `linear` is trained over epochs like any other model, so
that label dispersion has a history to look at. The features are those of the config's section `features`: centred by
the pool's mean, optionally reduced by PCA, of unit length.

Source: 001, section 5.4: a linear classifier on a frozen self-supervised body, a linear SVM (one class against the
rest); scikit-learn's LogisticRegression (lbfgs) and LinearSVC.
Differs from the paper: the body is any frozen network; `c` is for features of unit length.
Fails when: the body's features do not tell the classes apart: no head will.

A model that reads features (`READS`) takes them as float [b, D] in place of images. In training mode, with targets
{"labels" [b], "weights" [b]}, it gives its losses by name; in evaluation mode (logits [b, C], features [b, D]).
A class without a labelled image has probability 0 under `logistic` and `svm`.

Two labelled features at -1 and 1; class 2 has none:

>>> import torch
>>> model = build(3, 1, c=10.0)
>>> facts = model.solve(np.array([[-1.0], [1.0]]), np.array([0, 1]), np.ones(2))
>>> logits, _ = model.eval()(torch.tensor([[0.8]]))
>>> logits.argmax(dim=1).item(), logits.softmax(dim=1)[0, 2].item()
(1, 0.0)
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Literal

import numpy as np
from jaxtyping import Float, Int64
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional

from labelwise.models import _linear_solver
from labelwise.types import LabelwiseError

TASK: Literal["classification"] = "classification"
READS: Literal["features"] = "features"

Kind = Literal["logistic", "linear", "svm"]


class Head(nn.Module):
    """One linear layer; `kind` says how it is trained."""

    def __init__(self, n_classes: int, width: int, kind: Kind, c: float, dropout: float) -> None:
        super().__init__()
        self.kind, self.c = kind, c
        self.dropout = nn.Dropout(dropout)
        self.head = nn.Linear(width, n_classes)

    @property
    def solved(self) -> bool:
        """Whether `solve` trains it in one go; if not, it is trained step by step."""
        return self.kind != "linear"

    def forward(
        self, features: Float[Tensor, "b D"], targets: Mapping[str, Tensor] | None = None
    ) -> dict[str, Tensor] | tuple[Tensor, Tensor]:
        logits = self.head(self.dropout(features))
        if not self.training:
            return logits, features
        if targets is None:
            raise LabelwiseError("head: training needs targets; call model.eval() to predict")
        loss = functional.cross_entropy(logits, targets["labels"], reduction="none")
        weights = targets["weights"]
        return {"classification": (loss * weights).sum() / weights.sum().clamp(min=1e-6)}

    def solve(
        self, features: Float[np.ndarray, "m D"], labels: Int64[np.ndarray, " m"], weights: Float[np.ndarray, " m"]
    ) -> dict[str, float]:
        """Sets the layer to the solution for weighted samples, each of a weight above 0; says how many `steps` it took.

        Raises:
            LabelwiseError: no sample, or a feature that is not finite.
        """
        if not len(labels):
            raise LabelwiseError("head: no image to train on; label some first (budget.start_images)")
        found = _linear_solver.solve("svm" if self.kind == "svm" else "logistic", self.c, features, labels, weights)
        found.put_into(self.head)
        return {"steps": float(found.steps)}


def build(
    n_classes: int,
    width: int,
    *,
    kind: Literal["logistic", "linear", "svm"] = "logistic",
    c: Annotated[float, Field(gt=0)] = 10.0,
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.0,
) -> nn.Module:
    """A head on features of `width` columns.

    Args:
        n_classes: C.
        width: D, the columns of the features.
        kind: `logistic` and `svm` are solved, `linear` is trained as the section `train` says.
        c: inverse strength of the regularisation of `logistic` and `svm`; larger follows the labels more closely.
        dropout: probability of a feature to be left out, while `linear` is trained and under the view `dropout` (BALD).
    """
    return Head(n_classes, width, kind, c, dropout)
