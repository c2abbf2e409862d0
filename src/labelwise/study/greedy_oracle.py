"""The greedy oracle: a line above which no selector of images can be expected, for models that train in milliseconds.

It knows the labels of the pool. One image after the other it takes the candidate that, labelled and trained on, raises
the accuracy on a held-back part of the pool most; among equal ones that with the highest mean log-probability of the
true classes there, then the lower number. The test part is never looked at, so what it reaches there is honest; and the
held-back part is not asked about.
Source: our own; greedy oracles are usual as an upper line.
Differs from the paper: none of the four documents has one.
Fails when: candidates or the held-back part are few (it takes what chance favours there), or the pool is large: it fits
picks * candidates models. It is greedy, so it bounds nothing: a cleverer order may reach more.

Labelled: -2 of class 0. Held back: -1 and 1. Of the candidates -1.5 (class 0) and 2 (class 1) the second mends 1:

>>> x, y = np.array([[-2.0], [2.0], [-1.0], [1.0], [-1.5]]), np.array([0, 1, 0, 1, 0])
>>> rows = greedy_oracle(x, y, np.array([0]), 1, nearest, held_back=np.array([2, 3]), rng=np.random.default_rng(0))
>>> rows.tolist()
[1]
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float64, Int64

from labelwise.types import LabelwiseError

Predict = Callable[[np.ndarray], np.ndarray]
"""Features [n, D] to probabilities [n, C]."""

Fit = Callable[[np.ndarray, np.ndarray, int], Predict]
"""Trains on features [n, D] and labels [n] of C classes, of which some may not occur."""


@dataclass(frozen=True, slots=True, eq=False)
class OracleCurve:
    """`labels`: how many images were labelled; `accuracy`: on the test part then, 0..1."""

    labels: Int64[np.ndarray, " k"]
    accuracy: Float64[np.ndarray, " k"]


def greedy_oracle(
    features: Float64[np.ndarray, "n D"],
    labels: Int64[np.ndarray, " n"],
    start: Int64[np.ndarray, " m"],
    picks: int,
    fit: Fit,
    *,
    held_back: Int64[np.ndarray, " h"],
    candidates: int = 64,
    rng: np.random.Generator,
) -> Int64[np.ndarray, " picks"]:
    """Numbers of the images that it takes, first choice first; fewer where the pool ends.

    Args:
        features: of every image of the pool.
        labels: their true classes.
        start: what is labelled already.
        picks: how many to take.
        fit: trains a model.
        held_back: images of the pool on which accuracy is measured; never taken, none of `start`.
        candidates: how many unlabelled images are tried for each pick.
        rng: draws them.

    Raises:
        LabelwiseError: nothing is held back, or something of the start; nothing is labelled; no candidates.
    """
    if not len(start) or not len(held_back) or np.isin(held_back, start).any() or candidates < 1:
        raise LabelwiseError(
            f"greedy oracle: {len(start)} images labelled first, {len(held_back)} held back, {candidates} candidates; "
            "expected at least one of each, and none of the start held back"
        )
    n_classes = int(labels.max()) + 1
    chosen: list[int] = np.asarray(start).tolist()
    free = np.setdiff1d(np.arange(len(labels)), np.concatenate([start, held_back]))
    x, y = features[held_back], labels[held_back]
    for _ in range(min(picks, len(free))):
        some = np.sort(rng.choice(free, min(candidates, len(free)), replace=False))
        worth = [_worth(fit(features[[*chosen, i]], labels[[*chosen, i]], n_classes)(x), y) for i in some.tolist()]
        best = int(some[max(range(len(some)), key=lambda k: (*worth[k], -k))])
        chosen.append(best)
        free = free[free != best]
    return np.array(chosen[len(start) :], np.int64)


def _worth(probs: np.ndarray, labels: np.ndarray) -> tuple[float, float]:
    """Accuracy, and the mean log-probability of the true classes to 12 digits (no pick hangs on the last bits)."""
    right = probs[np.arange(len(labels)), labels]
    return float((probs.argmax(axis=1) == labels).mean()), float(f"{np.log(np.maximum(right, 1e-12)).mean():.12g}")


def oracle_curve(
    pool: tuple[np.ndarray, np.ndarray],
    test: tuple[np.ndarray, np.ndarray],
    start: Int64[np.ndarray, " m"],
    budgets: Sequence[int],
    fit: Fit,
    *,
    share: float = 0.3,
    candidates: int = 64,
    rng: np.random.Generator,
) -> OracleCurve:
    """What the greedy oracle reaches on the test part, after the start and after each of the budgets.

    Args:
        pool: features [n, D] and true classes [n].
        test: of the test part, looked at when all picks are made.
        start: what is labelled first.
        budgets: images asked per round.
        fit: trains a model.
        share: of the unlabelled pool, held back for the oracle's choice.
        candidates: how many images are tried for each pick.
        rng: draws what is held back, and the candidates.
    """
    features, labels = pool
    free = np.setdiff1d(np.arange(len(labels)), start)
    back = np.sort(rng.choice(free, max(1, round(share * len(free))), replace=False))
    picks = greedy_oracle(features, labels, start, sum(budgets), fit, held_back=back, candidates=candidates, rng=rng)
    ends = np.minimum(np.cumsum([0, *budgets]), len(picks))
    n_classes, reached = int(labels.max()) + 1, []
    for end in ends.tolist():
        rows = np.concatenate([start, picks[:end]]).astype(np.int64)
        model = fit(features[rows], labels[rows], n_classes)
        reached.append(float((model(test[0]).argmax(axis=1) == test[1]).mean()))
    return OracleCurve(len(start) + ends, np.array(reached))


def logistic(strength: float = 1.0) -> Fit:
    """Multinomial logistic regression of scikit-learn, C = `strength`."""

    def fit(features: np.ndarray, labels: np.ndarray, n_classes: int) -> Predict:
        known = np.unique(labels)
        if len(known) == 1:
            return lambda x: np.repeat(np.eye(n_classes)[known], len(x), axis=0)
        from sklearn.linear_model import LogisticRegression

        model = LogisticRegression(C=strength, max_iter=200).fit(features, labels)

        def predict(x: np.ndarray) -> np.ndarray:
            out = np.zeros((len(x), n_classes))
            out[:, known] = model.predict_proba(x)
            return out

        return predict

    return fit


def nearest(features: np.ndarray, labels: np.ndarray, n_classes: int) -> Predict:
    """Softmax of minus the squared distance to the nearest labelled image of a class: a head without parameters."""

    def predict(x: np.ndarray) -> np.ndarray:
        far = ((x[:, None] - features[None]) ** 2).sum(axis=2)
        of_class = np.full((len(x), n_classes), np.inf)
        for c in np.unique(labels).tolist():
            of_class[:, c] = far[:, labels == c].min(axis=1)
        weight = np.exp(of_class.min(axis=1, keepdims=True) - of_class)
        out: np.ndarray = weight / weight.sum(axis=1, keepdims=True)
        return out

    return predict
