"""Which detector to take, and when to change over: the frozen one (`models/frozen`) or one that is trained.

What is measured on the images that are labelled so far:

* Recall of the proposals within the best 10, 30 and 100: the share of objects that one of them overlaps by IoU >= 0.5.
  What is not proposed no label lets the frozen detector find, so that the mean recall of the classes is its ceiling:
  AP50 cannot be above it (by more than 1 point, as AP is read off at 101 recalls).
* AP50 of both on images held back, each image by the models that never saw it or its clip, all pooled.

The rule: whichever is better by more than the interval of the difference is taken. Where neither is, what the project
has stays. Learning curves go by the logarithm of the images, so look again when their number has doubled, and after
half as many more where the two cannot be told apart. Where only the recall is known, the frozen detector is expected to
do where the best 10 proposals hold as much as the best 100 (so the objects are few and salient) and most objects.

Source: intervals over folds as Nadeau and Bengio, Inference for the generalization error, Machine Learning 52 (2003),
section 3: training sets of folds overlap, so that their variance counts 1 / folds + tested / trained.
Differs from the paper: theirs are random splits; folds are used here, and a pooled AP50 in place of a mean.
Fails when: the images were picked by a score (they are not like the others), a class is in one image alone, the frozen
detector moves its boxes (`regress`), which may lift it over the ceiling, or the trained one is trained too little.

By hand: an object that the second of two proposals covers is found within 2 and not within 1.

>>> truth = Boxes.from_rows(np.array([0, 1]), np.array([[0, 0, 9, 9], [0, 0, 9, 9]]), np.array([0, 1]), 2)
>>> two = Rects(np.array([0, 2, 2]), np.array([[20, 20, 29, 29], [0, 0, 9, 8]], np.float32))
>>> rank = first_hit(two, truth)
>>> [(k, recall_within(rank, truth, k).value, ceiling(rank, truth, k)) for k in (1, 2)]
[(1, 0.0, 0.0), (2, 0.5, 0.5)]
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np
from jaxtyping import Float64, Int64
from scipy import stats

from labelwise.study.unit_choice import CONFIDENCE, Estimate, share_by_image
from labelwise.types import Boxes, Rects
from labelwise.types.overlap import iou_pairs, pairs

Detector = Literal["frozen", "trained"]

WITHIN = (10, 30, 100)
"""Numbers of proposals of an image, the best first."""
IOU = 0.5
NEVER = 2**31
"""Rank of the first hit of an object that no proposal hits."""


def first_hit(proposals: Rects, truth: Boxes) -> Int64[np.ndarray, " objects"]:
    """Per object, the place (from 0) of the first proposal of its image that overlaps it by `IOU`; else `NEVER`.

    Args:
        proposals: of the same images, best first.
        truth: the objects.
    """
    rank = np.full(len(truth), NEVER, np.int64)
    box, row = pairs(truth.offsets, proposals.offsets)
    hit = iou_pairs(truth.xyxy[box], proposals.xyxy[row]) >= IOU
    box, row = box[hit], row[hit]
    np.minimum.at(rank, box, row - proposals.offsets[truth.image[box]])
    return rank


def recall_within(rank: Int64[np.ndarray, " objects"], truth: Boxes, count: int) -> Estimate:
    """The share of objects that the best `count` proposals hold; the interval takes images as wholes."""
    n = len(truth.offsets) - 1
    return share_by_image(np.bincount(truth.image[rank < count], minlength=n), np.bincount(truth.image, minlength=n))


def ceiling(rank: Int64[np.ndarray, " objects"], truth: Boxes, count: int) -> float:
    """The mean over the classes of that share; NaN without an object."""
    every = np.bincount(truth.labels)
    found = np.bincount(truth.labels[rank < count], minlength=len(every))
    return float(np.mean(found[every > 0] / every[every > 0])) if len(truth) else float("nan")


def proposals_wanted(rank: Int64[np.ndarray, " objects"], truth: Boxes) -> int:
    """The fewest proposals of `WITHIN` to which those up to the most add no object in more than chance.

    >>> truth = Boxes.from_rows(np.arange(8), np.tile([0, 0, 9, 9], (8, 1)), np.zeros(8, int), 8)
    >>> proposals_wanted(np.array([0] * 7 + [50]), truth), proposals_wanted(np.array([0] * 4 + [50] * 4), truth)
    (10, 100)
    """
    n = len(truth.offsets) - 1
    every = np.bincount(truth.image, minlength=n)
    for count in WITHIN[:-1]:
        later = np.bincount(truth.image[(rank >= count) & (rank < WITHIN[-1])], minlength=n)
        if share_by_image(later, every).low <= 0:
            return count
    return WITHIN[-1]


def is_promising(recall: Mapping[int, Estimate], wanted: int) -> bool:
    """Whether recall alone lets one expect that the frozen detector does: the best few hold what all do, and most."""
    return wanted == min(recall) and recall[min(recall)].low > 0.5


def over_folds(pooled: float, folds: Float64[np.ndarray, " folds"], *, share: bool = False) -> Estimate:
    """A pooled figure with the interval that its values on the folds tell, known ones alone (not NaN).

    `share`: it is one, and so its interval lies within 0 and 1.

    Two folds at 0 and 1: a standard deviation of 0.707, times t = 12.71 and sqrt(1 / 2 + 1).

    >>> found = over_folds(0.5, np.array([0.0, 1.0]))
    >>> round(found.high - 0.5, 2), found.n
    (11.0, 2)
    """
    known = folds[np.isfinite(folds)]
    n = len(known)
    if n < 2 or not np.isfinite(pooled):
        return Estimate(pooled, -np.inf, np.inf, n)
    t = float(stats.t.ppf((1 + CONFIDENCE) / 2, df=n - 1))
    half = t * float(known.std(ddof=1)) * float(np.sqrt(1 / n + 1 / (n - 1)))
    low, high = pooled - half, pooled + half
    return Estimate(pooled, max(low, 0.0), min(high, 1.0), n) if share else Estimate(pooled, low, high, n)


@dataclass(frozen=True, slots=True)
class Evidence:
    """What was measured.

    Attributes:
        images: labelled ones.
        objects: in them.
        apart: what is held back together: "images" or "clips".
        has: the detector of the project.
        name: of the trained one.
        recall: of the proposals, by how many of an image.
        wanted: the fewest of these that hold what the most do.
        kept: proposals of an image that the frozen detector has.
        ceiling: of its AP50.
        frozen: its AP50 on what is held back.
        half: the same, trained on half as many images; NaN: too few.
        trained: AP50 of the trained one on the same; None: not measured.
        gain: trained minus frozen, fold by fold.
    """

    images: int
    objects: int
    apart: str
    has: Detector
    name: str
    recall: Mapping[int, Estimate]
    wanted: int
    kept: int
    ceiling: float
    frozen: Estimate
    half: float = float("nan")
    trained: Estimate | None = None
    gain: Estimate | None = None


@dataclass(frozen=True, slots=True)
class Verdict:
    """`take` this one; `because` "measured" (better by more than the interval), "equal" (neither is) or "recall" (only
    that is known). `again`: after so many further labelled images; None: nothing to look at again.
    """

    take: Detector
    because: Literal["measured", "equal", "recall"]
    again: int | None


def decide(found: Evidence) -> Verdict:
    """Which detector to take; see the top of this file.

    >>> recall = {10: Estimate(0.98, 0.93, 1.0, 60), 100: Estimate(1.0, 0.95, 1.0, 60)}
    >>> few = Evidence(60, 63, "clips", "frozen", "retinanet", recall, 10, 10, 0.98, Estimate(0.36, 0.3, 0.42, 5))
    >>> decide(few)
    Verdict(take='frozen', because='recall', again=60)
    """
    if found.gain is None:
        does = is_promising(found.recall, found.wanted)
        return Verdict("frozen", "recall", found.images) if does else Verdict("trained", "recall", None)
    if found.gain.low > 0:
        return Verdict("trained", "measured", None)
    if found.gain.high < 0:
        return Verdict("frozen", "measured", found.images)
    return Verdict(found.has, "equal", -(-found.images // 2))
