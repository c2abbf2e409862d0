"""DivProto: images of rare classes that differ from the picks so far, by falling score; the rest by score.

A prototype is the mean feature of an image's boxes of one class, weighted by the boxes' entropies. Minority classes are
the `minor_share` of the classes with the fewest annotated boxes; each has a quota of quota_share · budget / (their
number) images. Images are visited by falling score and picked if both hold:
- different: for at least one class of the image, no pick has a prototype as similar as `intra` (the minimum over its
  classes of the maximum over the picks of the cosine, < intra);
- rare: a box of a minority class whose quota is open has a confidence > `inter`; a pick counts for every such class.
When no image is left that passes, the budget is filled by falling score.

Source: Wu, Chen, Huang, Entropy-based Active Learning for Object Detection with Progressive Diversity Constraint, CVPR
2022 (arXiv 2204.07965), Eq. 3 (prototypes), Algorithm 2; intra 0.7, inter 0.3, shares 0.5 and 0.75. No official code;
read beside two unofficial ones.
Differs from the paper: entropies are those of the class distribution (`score/enms.py`); where all of a class are 0, its
plain mean is the prototype (the unofficial codes give NaN). All boxes of a class enter the prototype. A class of which
nothing has been picked makes an image different (similarity -1); the unofficial codes skip such a class, which rejects
an image for its known class although it shows a new one. At least one class is a minority class; an image on a quota's
edge is counted up to the next whole image.
Fails when: features say little about looks (all similar: each rare class gets one image, the rest is top by score), or
the detector never finds a rare class with confidence above `inter`.

Equal scores: the lower row first; equal counts: the lower class is the rarer; a cosine less than 1e-5 below `intra`
reaches it. A feature of zeros is similar to nothing.

Worked by hand: two classes, class 1 is the rarer; budget 2, quota 0.75 · 2 = 1.5, so two images. Row 0 holds no class
1. Row 1 is picked; row 2 has the same feature, cosine 1, rejected; row 3 is orthogonal, cosine 0, picked.

>>> probs = np.array([[0.75, 0.25], [0.25, 0.75], [0.25, 0.75], [0.25, 0.75]])
>>> features, offsets = np.array([[1.0, 0], [1, 0], [1, 0], [0, 1]]), np.arange(5)
>>> u, s, counts = np.array([4.0, 3, 2, 1]), np.full(4, 0.75), np.array([9, 1])
>>> select(u, offsets, probs, s, features, counts, 2).tolist()
[1, 3]
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float, Float64, Int, Int64
from scipy.sparse import csr_array

from labelwise.select._boxes import boxes_of, check_boxes, presence
from labelwise.select._order import best, check
from labelwise.select._product import dots
from labelwise.types import LabelwiseError, phrases

PREFIX_STABLE = False
"""How many are wanted decides which are picked."""

TIE = 1e-5
"""A cosine may be this much off in float32: below `intra` by less, it counts as reaching it."""

BLOCK = 1 << 17
"""Numbers per block when features are brought to length 1."""


def select(
    scores: Float[np.ndarray, " n"],
    box_offsets: Int[np.ndarray, " n+1"],
    box_probs: Float[np.ndarray, "m C"],
    box_scores: Float[np.ndarray, " m"],
    box_features: Float[np.ndarray, "m D"],
    counts: Int[np.ndarray, " C"],
    budget: int,
    *,
    intra: float = 0.7,
    inter: float = 0.3,
    minor_share: float = 0.5,
    quota_share: float = 0.75,
    explain: bool = False,
) -> Int64[np.ndarray, " k"] | tuple[Int64[np.ndarray, " k"], dict[str, np.ndarray]]:
    """At most `budget` images: those of the quotas in the order of picking, then the fill.

    Args:
        scores: informativeness of every image (the paper: `score/enms.py`).
        box_offsets: the boxes of image i are the rows box_offsets[i] to box_offsets[i + 1].
        box_probs: class distribution of every box; its largest entry is its class.
        box_scores: its confidence.
        box_features: what similarity is measured on.
        counts: annotated boxes per class.
        budget: how many images to pick.
        intra: T_intra, a cosine in [-1, 1]; lower rejects more.
        inter: T_inter, a confidence in [0, 1]; higher rejects more.
        minor_share: α, share of the classes that are minority classes, in (0, 1].
        quota_share: β, share of the budget that the quotas add up to, in [0, 1].
        explain: return too: "score", "minority" (largest confidence of a minority class), "quota" (1: picked for a
            quota, 0: filled).

    Raises:
        LabelwiseError: a score or feature that is not finite, boxes that do not fit (row named), a setting out of its
            range, a negative budget.
    """
    k = check(scores, budget)
    check_boxes(len(scores), box_offsets, box_probs, box_scores, counts)
    _check(box_features, len(box_probs), intra, inter, minor_share, quota_share)
    order = best(scores, len(scores))
    rare = np.argsort(counts, kind="stable")[: max(1, int(minor_share * len(counts) + 1e-9))]
    confidence = presence(order, box_offsets, box_probs, box_scores)[:, rare]
    eligible = np.flatnonzero((confidence > inter).any(axis=1))
    prototypes = _Prototypes(order[eligible], box_offsets, box_probs, box_features)
    picked = eligible[_walk(prototypes, confidence[eligible] > inter, quota_share * k / len(rare), intra, k)]
    rest = np.ones(len(order), bool)
    rest[picked] = False
    places = np.concatenate([picked, np.flatnonzero(rest)[: k - len(picked)]])
    rows: np.ndarray = order[places]
    if not explain:
        return rows
    return rows, {
        "score": scores[rows].astype(np.float64),
        "minority": confidence[places].max(axis=1),
        "quota": (np.arange(k) < len(picked)).astype(np.float64),
    }


def explain(
    labels: Int[np.ndarray, " k"] | Float[np.ndarray, "k C"],
    quota: Float64[np.ndarray, " k"],
    counts: Int[np.ndarray, " C"],
    classes: Sequence[str],
) -> list[str]:
    """Of one that was picked for a rare class which it is."""
    rare = phrases.rarity(labels, counts, classes)
    found = "It probably holds a rare class, and looks unlike the picks before it."
    return [f"{found} {said}".strip() if picked else "" for picked, said in zip(quota, rare, strict=True)]


class _Prototypes:
    """Class prototypes of images, and for each the largest cosine with a pick of its class before it (-1: none)."""

    def __init__(self, rows: np.ndarray, box_offsets: np.ndarray, box_probs: np.ndarray, features: np.ndarray):
        boxes, owner = boxes_of(rows, box_offsets)
        probs = box_probs[boxes].astype(np.float64)
        weight = -(probs * np.log(np.maximum(probs, np.finfo(np.float64).tiny))).sum(axis=1)
        key = probs.argmax(axis=1) * max(1, len(rows)) + owner  # by class, then by image
        keys, member = np.unique(key, return_inverse=True)
        weight = np.where(np.bincount(member, weight, len(keys))[member] > 0, weight, 1)
        weight = weight.astype(np.float32 if features.dtype.itemsize <= 4 else np.float64)
        shape = (len(keys), len(features))
        self.unit = csr_array((weight, (member, boxes)), shape=shape).dot(features.astype(weight.dtype, copy=False))
        _to_unit(self.unit)
        label, image = np.divmod(keys, max(1, len(rows)))
        self.last = np.searchsorted(label, label, side="right")
        self.by_image = np.argsort(image, kind="stable")
        self.starts = np.searchsorted(image[self.by_image], np.arange(len(rows) + 1))
        self.nearest = np.full(len(keys), -1.0)

    def similarity(self) -> np.ndarray:
        """For every image the minimum over its classes; each has at least one."""
        out: np.ndarray = np.minimum.reduceat(self.nearest[self.by_image], self.starts[:-1])
        return out

    def pick(self, image: int) -> None:
        """Compares the later images with this one; the earlier ones are decided."""
        for own in self.by_image[self.starts[image] : self.starts[image + 1]]:
            same = slice(own + 1, self.last[own])
            np.maximum(self.nearest[same], dots(self.unit[same], self.unit[own]), out=self.nearest[same])


def _walk(prototypes: _Prototypes, present: np.ndarray, quota: float, intra: float, k: int) -> np.ndarray:
    """The images that pass both tests, in order; at most `k`.

    Similarities only rise and classes only close, so an image once rejected stays so: every turn looks for the next one
    that passes, and never back.
    """
    taken, at = np.zeros(present.shape[1], np.int64), 0
    picked: list[int] = []
    while len(picked) < k and at < len(present):
        passes = (present[at:] & (taken < quota)).any(axis=1) & (prototypes.similarity()[at:] < intra - TIE)
        if not passes.any():
            break
        at += int(passes.argmax())
        picked.append(at)
        taken += present[at]
        prototypes.pick(at)
        at += 1
    return np.array(picked, np.int64)


def _to_unit(features: np.ndarray) -> None:
    """Makes every row length 1, in place; zeros stay zeros. In blocks that stay in a core's cache.

    Divided by the largest number first, so that no square overflows.
    """
    step = max(1, BLOCK // max(1, features.shape[1]))
    for first in range(0, len(features), step):
        block = features[first : first + step]
        largest = np.abs(block).max(axis=1, keepdims=True, initial=0)
        np.divide(block, largest, out=block, where=largest > 0)
        length = np.sqrt(np.einsum("nd,nd->n", block, block))[:, None]
        np.divide(block, length, out=block, where=length > 0)


def _check(
    features: np.ndarray, boxes: int, intra: float, inter: float, minor_share: float, quota_share: float
) -> None:
    if features.ndim != 2 or len(features) != boxes:
        raise LabelwiseError(f"box_features: expected shape ({boxes}, D), got {features.shape}")
    bad = np.flatnonzero(~np.isfinite(features).all(axis=1))
    if len(bad):
        raise LabelwiseError(f"box_features: row {bad[0]} has a number that is not finite; expected finite numbers")
    for name, value, low in (("intra", intra, -1), ("inter", inter, 0), ("quota_share", quota_share, 0)):
        if not low <= value <= 1:
            raise LabelwiseError(f"diverse_prototype: {name} is {value}; expected a number in [{low}, 1]")
    if not 0 < minor_share <= 1:
        raise LabelwiseError(f"diverse_prototype: minor_share is {minor_share}; expected a number in (0, 1]")
