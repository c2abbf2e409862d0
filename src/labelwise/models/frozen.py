"""Detector without a training: proposals of a frozen detector, named by logistic regression of their frozen features.

The config's section `features` with `objects` says who proposes, and whose features; this head tells the classes apart,
and objects from background, in milliseconds, and may move a box linearly (`regress`). So there are answers from a
handful of images on, where a detector that is trained knows nothing yet. A confidence is
P(class | object) * objectness * P(object) ** background.

Source: measured in docs/results.md ("A frozen detector"); scikit-learn's LogisticRegression (lbfgs) and Ridge.
Differs from the paper: none of the documents has it; it learns from the same targets as the others: boxes with weights,
background marks, coverage, soft labels (000, Eq. 7).
Fails when: the proposals miss the objects (dense or very small ones), or a class looks like nothing that the body was
trained on. A detector that is trained passes it as labels come in.

A model that reads objects (`READS`) takes features float [n, D] of proposals and gives logits [n, C] and [n];
`candidates` makes boxes, distributions and confidences of them.

Two classes at 1 and -1, and background at 0: a proposal at 0.9 is of the first class.

>>> model = build(2, 1, c=10.0)
>>> _ = model.solve(np.array([[1.0], [-1.0], [0.0]]), np.array([0, 1, 2]), np.ones(3))
>>> logits, _ = model(torch.tensor([[0.9]]))
>>> logits.argmax(dim=1).tolist()
[0]
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

import numpy as np
import torch
from jaxtyping import Float, Float32, Int64
from pydantic import Field
from torch import Tensor, nn

from labelwise.models import _linear_solver

TASK: Literal["detection"] = "detection"
READS: Literal["objects"] = "objects"

RIDGE = 1.0
"""Weight of the penalty on the lines that move a box; features have length 1."""


class FrozenDetector(nn.Module):
    """`classes` tells which object a proposal shows, `object` whether it shows one, `shifts` how its box is moved."""

    def __init__(
        self, n_classes: int, width: int, c: float, objectness: float, background: float, regress: bool
    ) -> None:
        super().__init__()
        self.n_classes, self.c, self.regress = n_classes, c, regress
        self.objectness, self.background = objectness, background
        self.classes, self.object, self.shifts = (nn.Linear(width, out) for out in (n_classes, 1, 4))
        for layer in (self.object, self.shifts):
            nn.init.zeros_(layer.weight)
            nn.init.zeros_(layer.bias)

    def forward(self, features: Float[Tensor, "n D"]) -> tuple[Float[Tensor, "n C"], Float[Tensor, " n"]]:
        return self.classes(features), self.object(features)[:, 0]

    def solve(
        self,
        features: Float[np.ndarray, "m D"],
        labels: Int64[np.ndarray, " m"],
        weights: Float[np.ndarray, " m"],
    ) -> dict[str, Any]:
        """Sets both to the solution for weighted proposals, those of label `n_classes` being background.

        Without an object all classes are equally likely; without both kinds every proposal is as likely an object.

        Raises:
            LabelwiseError: a feature that is not finite.
        """
        shows = labels < self.n_classes
        classes = _linear_solver.solve("logistic", self.c, features[shows], labels[shows], weights[shows])
        classes.put_into(self.classes)
        both = _linear_solver.solve("logistic", self.c, features, shows.astype(np.int64), weights)
        two = len(both.found) == 2
        matrix = both.rows[1:] - both.rows[:1] if two else np.zeros((1, features.shape[1]))
        _linear_solver.put(self.object, matrix, both.offsets[1:] - both.offsets[:1] if two else np.zeros(1))
        return {"steps": classes.steps + both.steps, "classes": len(classes.found)}

    def solve_shifts(
        self,
        features: Float[np.ndarray, "p D"],
        boxes: Float[np.ndarray, "p 4"],
        true: Float[np.ndarray, "p 4"],
        weights: Float[np.ndarray, " p"],
    ) -> None:
        """Sets the shifts to the ridge regression from proposals to the boxes that they matched."""
        if not self.regress or not weights.sum():
            return
        from sklearn.linear_model import Ridge

        solver = Ridge(alpha=RIDGE).fit(features, shifts_of(boxes, true), sample_weight=weights)
        _linear_solver.put(self.shifts, np.asarray(solver.coef_), np.asarray(solver.intercept_))

    @torch.inference_mode()
    def candidates(
        self,
        features: Float32[np.ndarray, "n D"],
        boxes: Float32[np.ndarray, "n 4"],
        objectness: Float32[np.ndarray, " n"],
    ) -> tuple[Float32[np.ndarray, "n 4"], Float32[np.ndarray, "n C"], Float32[np.ndarray, " n"]]:
        """Boxes, distributions over the classes, and confidences of proposals."""
        given = torch.from_numpy(features)
        logits, shows = self(given)
        probs = logits.double().softmax(dim=1).numpy()
        confidence = probs.max(axis=1, initial=0) * objectness.astype(np.float64) ** self.objectness
        confidence *= shows.double().sigmoid().numpy() ** self.background
        moved = moved_by(boxes, self.shifts(given).numpy()) if self.regress else boxes
        return moved, probs.astype(np.float32), confidence.astype(np.float32)


def shifts_of(boxes: Float[np.ndarray, "p 4"], true: Float[np.ndarray, "p 4"]) -> Float[np.ndarray, "p 4"]:
    """How boxes are moved onto others: by shares of their sides, and by the logarithm of the ratio of the sides.

    >>> shifts_of(np.array([[0.0, 0, 2, 2]]), np.array([[1.0, 0, 3, 2]])).tolist()
    [[0.5, 0.0, 0.0, 0.0]]
    """
    side, other = boxes[:, 2:] - boxes[:, :2], true[:, 2:] - true[:, :2]
    centre = (true[:, 2:] + true[:, :2] - boxes[:, 2:] - boxes[:, :2]) / 2
    return np.concatenate([centre / side, np.log(other / side)], axis=1)


def moved_by(boxes: Float32[np.ndarray, "n 4"], shifts: Float[np.ndarray, "n 4"]) -> Float32[np.ndarray, "n 4"]:
    """The inverse of `shifts_of`; a side becomes at most four times as long, and a quarter at least."""
    side = boxes[:, 2:] - boxes[:, :2]
    centre = (boxes[:, 2:] + boxes[:, :2]) / 2 + shifts[:, :2] * side
    half = side * np.exp(np.clip(shifts[:, 2:], -np.log(4), np.log(4))) / 2
    return np.concatenate([centre - half, centre + half], axis=1).astype(np.float32)


def build(
    n_classes: int,
    width: int,
    *,
    c: Annotated[float, Field(gt=0)] = 20.0,
    objectness: Annotated[float, Field(ge=0, le=4)] = 1.0,
    background: Annotated[float, Field(ge=0, le=4)] = 0.25,
    regress: bool = False,
) -> nn.Module:
    """A head on proposals with features of `width` columns.

    Args:
        n_classes: C.
        width: D, the columns of the features.
        c: inverse strength of the regularisation; larger follows the labels more closely.
        objectness: power of the proposal's objectness in a confidence.
        background: power of the probability of being an object at all, as the labels tell it; 0 learns nothing of
            background, 1 takes it as it is, which few images make too sure.
        regress: boxes are moved by a linear regression; else they stay as proposed.
    """
    return FrozenDetector(n_classes, width, c, objectness, background, regress)
