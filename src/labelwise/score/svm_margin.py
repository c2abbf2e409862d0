"""Smallest distance to a decision boundary of a linear SVM on the features, negated; unit: that of the features, <= 0.

Source: 001, section 5.4, "SVM Min Margin": a linear SVM on the labelled data, one class against the rest, C = 5; the
samples closest to the boundary are chosen.
Differs from the paper: "reside in margin area of decision boundaries" is read as the smallest |w_c x + b_c| / ||w_c||
over the classes; features are standardised by the labelled ones, without which liblinear does not converge.
Fails when: only one class is labelled (all scores are 0: there is no boundary yet), or a class has a single image.

Two labelled images at -1 and 1: the boundary is at 0, and the unlabelled image at 0.1 is nearer to it than that at 2.

>>> labelled, classes = np.array([[-1.0], [1.0]]), np.array([0, 1])
>>> near, far = score(np.array([[0.1], [2.0]]), labelled, classes)
>>> bool(near > far), round(float(near), 2)
(True, -0.1)
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Float, Float64, Int64

from labelwise.types import LabelwiseError


def score(
    image_features: Float[np.ndarray, "n D"],
    labelled_features: Float[np.ndarray, "m D"],
    labelled_classes: Int64[np.ndarray, " m"],
    *,
    c: float = 5.0,
) -> Float64[np.ndarray, " n"]:
    """One score per unlabelled image."""
    from sklearn.svm import LinearSVC  # takes a second to import

    for name, table in (("features", image_features), ("features of labelled images", labelled_features)):
        bad = np.flatnonzero(~np.isfinite(table).all(axis=1))
        if len(bad):
            raise LabelwiseError(f"svm_margin: {name}: row {bad[0]} is not finite; the model has diverged")
    if len(labelled_classes) != len(labelled_features):
        raise LabelwiseError(
            f"svm_margin: {len(labelled_features)} features of labelled images and {len(labelled_classes)} classes"
        )
    if len(np.unique(labelled_classes)) < 2 or not len(image_features):
        return np.zeros(len(image_features))
    mean, std = labelled_features.mean(axis=0, dtype=np.float64), labelled_features.std(axis=0, dtype=np.float64)
    scale = np.where(std > 1e-12, std, 1)
    svm = LinearSVC(C=c, dual="auto", random_state=0, max_iter=10_000)
    svm.fit((labelled_features - mean) / scale, labelled_classes)
    weights = svm.coef_ / scale  # back in the units of the features
    distance = np.abs(svm.decision_function((image_features - mean) / scale)).reshape(len(image_features), -1)
    nearest: np.ndarray = (distance / np.maximum(np.linalg.norm(weights, axis=1), 1e-12)).min(axis=1)
    return -nearest


def explain(value: Float64[np.ndarray, " n"]) -> list[str]:
    """How near the closest boundary between classes is; `value` is the score."""
    return [f"It lies near a boundary between two classes (distance {-one:.3g})." for one in value]
