"""Linear classifiers that are solved in one go: scikit-learn's LogisticRegression (lbfgs) and LinearSVC."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from jaxtyping import Float, Int64
from torch import nn

from labelwise.types import LabelwiseError

Kind = Literal["logistic", "svm"]

ABSENT = -1e4
"""Logit of a class without a sample: its probability is 0."""

ITERATIONS = 2000
"""Most of a solver."""


@dataclass(frozen=True, slots=True, eq=False)
class Solution:
    """A row and an offset for each of the classes that were found, and how many steps it took."""

    found: Int64[np.ndarray, " k"]
    rows: Float[np.ndarray, "k D"]
    offsets: Float[np.ndarray, " k"]
    steps: int

    def put_into(self, layer: nn.Linear) -> None:
        """Sets a layer of all classes; one that was not found has `ABSENT`, unless none was."""
        matrix, bias = np.zeros(tuple(layer.weight.shape)), np.full(len(layer.weight), ABSENT)
        bias[self.found if len(self.found) else slice(None)] = 0.0
        matrix[self.found], bias[self.found] = self.rows, self.offsets
        put(layer, matrix, bias)


def solve(
    kind: Kind,
    c: float,
    features: Float[np.ndarray, "m D"],
    labels: Int64[np.ndarray, " m"],
    weights: Float[np.ndarray, " m"],
) -> Solution:
    """The solution for weighted samples, each of a weight above 0; zeros for fewer than two classes.

    Raises:
        LabelwiseError: a feature that is not finite.
    """
    bad = np.flatnonzero(~np.isfinite(features).all(axis=1))
    if len(bad):
        raise LabelwiseError(f"the features of training row {bad[0]} are not finite")
    found = np.unique(labels)
    if len(found) < 2:
        return Solution(found, np.zeros((len(found), features.shape[1])), np.zeros(len(found)), 0)
    solver = _solver(kind, c)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # an iteration more or less decides nothing here
        solver.fit(np.asarray(features, np.float64), labels, sample_weight=np.asarray(weights, np.float64))
    rows, offsets = solver.coef_, solver.intercept_
    if len(found) == 2:  # one row tells the two apart
        both = np.array([[0.0], [1.0]]) if kind == "logistic" else np.array([[-1.0], [1.0]])
        rows, offsets = both * rows, both[:, 0] * offsets
    return Solution(found, rows, offsets, int(np.max(solver.n_iter_)))


def put(layer: nn.Linear, matrix: np.ndarray, bias: np.ndarray) -> None:
    """Sets a layer."""
    with torch.no_grad():
        layer.weight.copy_(torch.from_numpy(matrix))
        layer.bias.copy_(torch.from_numpy(bias))


def _solver(kind: Kind, c: float) -> Any:
    if kind == "svm":
        from sklearn.svm import LinearSVC

        return LinearSVC(C=c, dual="auto", random_state=0, max_iter=10 * ITERATIONS)
    from sklearn.linear_model import LogisticRegression

    return LogisticRegression(C=c, max_iter=ITERATIONS)
