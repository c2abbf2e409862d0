"""Sum of the entropies of an image's boxes that no more uncertain, similar box covers (ENMS); unit: nats.

In every image, by falling entropy: a box is kept and suppresses the boxes of its class (largest class probability)
whose features have a cosine similarity above the threshold with its own.

Source: Wu, Chen, Huang, Entropy-based Active Learning for Object Detection with Progressive Diversity Constraint, CVPR
2022 (arXiv 2204.07965), Algorithm 1; threshold T_enms = 0.5. No official code.
Differs from the paper: it takes the two-way entropy -p ln p - (1-p) ln(1-p) of the box's confidence p; ours is the
entropy of the class distribution, as `score/entropy.py`. The unofficial codes give NaN at p = 1.
Fails when: there is one class (every entropy is 0), the sum favours crowded images, or the features of one class are
all alike, so that each class counts once.

Equal entropies (to 12 digits): the lower row first; equal class probabilities: the lower class; a cosine within 1e-5
of the threshold is not above it. A feature of only zeros is similar to nothing. An image without boxes gets 0.

Worked by hand, one image each. Boxes (0.75, 0.25) and (0.875, 0.125) of class 0 have entropies 0.5623 and 0.3768. With
the same features only the first counts, 0.5623; with orthogonal features both do, 0.9391.

>>> p = np.array([[0.75, 0.25], [0.875, 0.125]] * 2, np.float32)
>>> f = np.array([[1, 0], [2, 0], [1, 0], [0, 1]], np.float32)
>>> score(p, f, np.array([0, 2, 4])).round(4).tolist()
[0.5623, 0.9391]
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float, Float64, Int

from labelwise.score import _rows, entropy
from labelwise.score._images import check_offsets, in_words, per_image, worst_row
from labelwise.score._rows import blocks, check_shape
from labelwise.types import LabelwiseError

TIE = 1e-5
"""A cosine may be this much off in float32: above the threshold by less, it counts as equal to it."""


def score(
    probs: Float[np.ndarray, "n C"],
    features: Float[np.ndarray, "n D"],
    offsets: Int[np.ndarray, " images+1"],
    *,
    threshold: float = 0.5,
) -> Float64[np.ndarray, " images"]:
    """Sum of the kept entropies per image, in nats.

    Args:
        probs: class distribution of every detection.
        features: what similarity is measured on (the RoI feature).
        offsets: the boxes of image i are the rows offsets[i] to offsets[i + 1].
        threshold: T_enms, in [-1, 1]; 1 suppresses nothing.

    Raises:
        LabelwiseError: a row that is not a distribution or a feature that is not finite (row named), offsets that do
            not fit, a threshold outside [-1, 1].
    """
    uncertainty = entropy.score(probs)
    n = len(probs)
    check_shape("features", features, (n, None))
    images = check_offsets(offsets, n)
    if not -1 <= threshold <= 1:
        raise LabelwiseError(f"enms: threshold is {threshold}; expected a cosine in [-1, 1] (0.5 in the paper)")
    for rows in blocks(n, features.shape[1]):
        bad = np.flatnonzero(~np.isfinite(features[rows]).all(axis=1))
        if len(bad):
            raise LabelwiseError(
                f"features: row {rows.start + bad[0]} has a number that is not finite; expected finite"
            )
    if n == 0:
        return np.zeros(images)
    image = np.repeat(np.arange(images), np.diff(offsets))
    kept = _keep(image * probs.shape[1] + probs.argmax(axis=1), uncertainty, features, threshold)
    return per_image(np.add, np.where(kept, uncertainty, 0), offsets, empty=0)


def explain(
    probs: Float[np.ndarray, "n C"], offsets: Int[np.ndarray, " images+1"], classes: Sequence[str]
) -> list[str]:
    """Of the image's box of highest entropy between which classes the model hesitates."""
    row = worst_row(entropy.score(probs), offsets)
    return in_words(row, entropy.explain(probs[row[row >= 0]], classes), offsets)


def _keep(group: np.ndarray, uncertainty: np.ndarray, features: np.ndarray, threshold: float) -> np.ndarray:
    """Which boxes survive; boxes meet only inside their group (image and class).

    All groups of one size are settled together: their similarities are one batched product, and round r lets the r-th
    most uncertain box of every group, where it is still alive, suppress the boxes after it.
    """
    n = len(group)
    order = np.lexsort((np.arange(n), -uncertainty.round(12), group))
    starts = np.flatnonzero(np.diff(group[order], prepend=-1))
    sizes = np.diff(starts, append=n)
    kept = np.ones(n, bool)
    for size in np.unique(sizes[sizes > 1]):
        of_size = starts[sizes == size]
        step = max(1, _rows.BLOCK // int(size * max(features.shape[1], size)))
        for first in range(0, len(of_size), step):
            members = order[of_size[first : first + step, None] + np.arange(size)]
            unit = _unit(features[members])
            near = unit @ unit.transpose(0, 2, 1) > threshold + TIE
            alive = np.ones(members.shape, bool)
            for r in range(size - 1):
                alive[:, r + 1 :] &= ~(near[:, r, r + 1 :] & alive[:, r, None])
            kept[members] = alive
    return kept


def _unit(features: np.ndarray) -> np.ndarray:
    """Features of length 1; zeros stay zeros. Divided by the largest number first, so that no square overflows."""
    work = features.astype(np.float32 if features.dtype.itemsize <= 4 else np.float64, copy=False)
    largest = np.abs(work).max(axis=-1, keepdims=True, initial=0)
    scaled = np.divide(work, largest, out=np.zeros_like(work), where=largest > 0)
    length = np.sqrt(np.square(scaled).sum(axis=-1, keepdims=True))
    unit: np.ndarray = np.divide(scaled, length, out=scaled, where=length > 0)
    return unit
