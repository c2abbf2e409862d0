"""Accuracy of a classifier, in all and per class, and how far its confidence can be trusted.

Expected calibration error: Guo et al., "On calibration of modern neural networks", ICML 2017, Eq. 3, 15 bins.

>>> found = evaluate(np.array([[0.9, 0.1], [0.4, 0.6], [0.8, 0.2]]), np.array([0, 1, 1]), ("cat", "dog"))
>>> round(found["accuracy"], 4), found["per_class_accuracy"]
(0.6667, {'cat': 1.0, 'dog': 0.5})
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from jaxtyping import Float, Int64

from labelwise.types import LabelwiseError

BINS = 15


def evaluate(
    probs: Float[np.ndarray, "n C"], labels: Int64[np.ndarray, " n"], classes: Sequence[str]
) -> dict[str, Any]:
    """Accuracy, its mean over the classes, accuracy per class (None without test images), NLL in nats, ECE."""
    if probs.shape != (len(labels), len(classes)) or not len(labels):
        raise LabelwiseError(f"accuracy: probs {probs.shape}, {len(labels)} labels, {len(classes)} classes do not fit")
    bad = np.flatnonzero(~np.isfinite(probs).all(axis=1))
    if len(bad):
        raise LabelwiseError(f"accuracy: probs of test image {bad[0]} are not finite; the model has diverged")
    n, n_classes = len(labels), len(classes)
    right = probs.argmax(axis=1) == labels
    total = np.bincount(labels, minlength=n_classes)
    hits = np.bincount(labels[right], minlength=n_classes)
    per_class = {c: (hits[k] / total[k]).item() if total[k] else None for k, c in enumerate(classes)}
    confidence = probs.max(axis=1).astype(np.float64)
    bins = np.minimum((confidence * BINS).astype(np.int64), BINS - 1)
    gap = np.bincount(bins, right - confidence, minlength=BINS)
    likelihood = probs[np.arange(n), labels].astype(np.float64)
    return {
        "accuracy": float(right.mean()),
        "balanced_accuracy": float(np.mean([v for v in per_class.values() if v is not None])),
        "per_class_accuracy": per_class,
        "nll": float(-np.log(np.maximum(likelihood, 1e-12)).mean()),
        "ece": float(np.abs(gap).sum() / n),
    }
