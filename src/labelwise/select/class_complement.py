"""CALD, stage 2: of the best images, those whose classes differ most from what is labelled, JS(Δ_L, Δ_U) in nats.

The pool is the best `pool` · budget images by score. Δ_U of an image is the softmax over the classes of the largest
confidence of each class in it; Δ_L is the softmax of the mean over the labelled images of their boxes per class. After
every pick the image's vector joins the mean, so that a second image of the same rare class is worth less.

Source: Yu, Zhu, Yang, Chen, Consistency-based Active Learning for Object Detection, CVPR Workshops 2022 (arXiv
2103.10374), stage 2 (mutual information), and the released cald_train.py (cls_kldiv); pool 1.2.
Differs from the paper: the softmax of plain counts would be one-hot at the largest class, so that the released code
averages over images; the number of labelled images is not known here and is taken as boxes / `objects_per_image` (1:
each box its own image; set it to the data's own ratio for the released formula). Confidences are those of the untouched
image, not averaged with the views'. The released code computes Δ_L once (the line that adds a pick is commented out): a
static top-k. It also returns every image without boxes, beyond the budget; here such an image is uniform and competes
like any other.
Fails when: `pool` is large: then the classes alone decide. An image that shows a common class more clearly than the
labelled ones also differs, and can win.

Equal divergences (to 1e-12): the higher score, then the lower row.

Worked by hand: two classes, all labelled boxes of class 0: Δ_L = softmax(1, 0) = (0.7311, 0.2689). Row 0 shows class 0
for sure, Δ_U the same, JS = 0. Row 1 shows class 1 for sure, Δ_U = (0.2689, 0.7311), m = (0.5, 0.5), JS = ln 2 -
H(0.2689) = 0.6931 - 0.5822 = 0.1109. Row 1 first.

>>> probs, offsets = np.array([[1.0, 0], [0, 1]]), np.array([0, 1, 2])
>>> rows, why = select(np.ones(2), offsets, probs, np.ones(2), np.array([1, 0]), 1, pool=2, explain=True)
>>> rows.tolist(), why["score"].round(4).tolist()
([1], [0.1109])
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float, Int, Int64

from labelwise.select._boxes import check_boxes, presence
from labelwise.select._order import best, check
from labelwise.types import LabelwiseError, phrases

PREFIX_STABLE = False
"""How many are wanted decides which are picked."""

TIE = 1e-12
"""Divergences closer than this are equal: only the order of summation tells them apart."""


def select(
    scores: Float[np.ndarray, " n"],
    box_offsets: Int[np.ndarray, " n+1"],
    box_probs: Float[np.ndarray, "m C"],
    box_scores: Float[np.ndarray, " m"],
    counts: Int[np.ndarray, " C"],
    budget: int,
    *,
    pool: float = 1.2,
    objects_per_image: float = 1.0,
    explain: bool = False,
) -> Int64[np.ndarray, " k"] | tuple[Int64[np.ndarray, " k"], dict[str, np.ndarray]]:
    """At most `budget` images, in the order in which they were picked.

    Args:
        scores: informativeness of every image (stage 1).
        box_offsets: the boxes of image i are the rows box_offsets[i] to box_offsets[i + 1].
        box_probs: class distribution of every box; its largest entry is its class.
        box_scores: its confidence.
        counts: annotated boxes per class.
        budget: how many images to pick.
        pool: the best pool · budget images by score compete, >= 1; `inf` for all.
        objects_per_image: annotated boxes per labelled image, > 0.
        explain: return each pick's divergence ("score") and its informativeness too.

    Raises:
        LabelwiseError: a score that is not finite, boxes that do not fit (row named), a setting out of its range, a
            negative budget.
    """
    k = check(scores, budget)
    check_boxes(len(scores), box_offsets, box_probs, box_scores, counts)
    if not pool >= 1:
        raise LabelwiseError(f"class_complement: pool is {pool}; expected a number >= 1 (1.2 in the released code)")
    if not (objects_per_image > 0 and np.isfinite(objects_per_image)):
        raise LabelwiseError(f"class_complement: objects_per_image is {objects_per_image}; expected a number > 0")
    candidates = best(scores, max(k, round(min(pool * k, len(scores))) if k else 0))
    shown = presence(candidates, box_offsets, box_probs, box_scores)
    total = counts.astype(np.float64)
    places, divergence = _greedy(shown, total, total.sum() / objects_per_image, k)
    rows: np.ndarray = candidates[places]
    if not explain:
        return rows
    return rows, {"score": divergence, "informativeness": scores[rows].astype(np.float64)}


def explain(
    labels: Int[np.ndarray, " k"] | Float[np.ndarray, "k C"],
    counts: Int[np.ndarray, " C"],
    classes: Sequence[str],
) -> list[str]:
    """That its classes are those which the labels lack, and whether one of them is rare."""
    rare = phrases.rarity(labels, counts, classes)
    return [f"Its classes are those that the labels lack. {said}".strip() for said in rare]


def _greedy(shown: np.ndarray, total: np.ndarray, images: float, k: int) -> tuple[np.ndarray, np.ndarray]:
    """Places of the picks in `shown`, and the divergence of each when it was picked; the lower place wins a tie."""
    picks, divergence = np.zeros(k, np.int64), np.zeros(k)
    left = np.arange(len(shown))
    theirs = _softmax(shown)
    negentropy = _p_log_p(theirs)
    for turn in range(k):
        ours = _softmax(total / images if images > 0 else total)
        js = 0.5 * (negentropy + _p_log_p(ours)) - _p_log_p(0.5 * (theirs + ours))
        at = int(np.argmax(js >= js.max() - TIE))
        picks[turn], divergence[turn] = left[at], max(js[at], 0)
        total, images = total + shown[left[at]], images + 1
        left, theirs, negentropy = (np.delete(a, at, axis=0) for a in (left, theirs, negentropy))
    return picks, divergence


def _softmax(values: np.ndarray) -> np.ndarray:
    raised = np.exp(values - values.max(axis=-1, keepdims=True))
    share: np.ndarray = raised / raised.sum(axis=-1, keepdims=True)
    return share


def _p_log_p(p: np.ndarray) -> np.ndarray:
    """Sum of p ln p over the last axis; 0 ln 0 = 0."""
    total: np.ndarray = (p * np.log(np.maximum(p, np.finfo(np.float64).tiny))).sum(axis=-1)
    return total
