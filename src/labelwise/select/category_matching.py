"""Medoids of the images by the likeness of their boxes, class by class; unit: distance, 0 to 2.

Category-conditioned matching: a box of image i is matched with the box of the same class in image j whose feature has
the largest cosine, and is 1 - cosine away; 2 where image j has no box of its class. The distance from i to j is the
mean over the boxes of i, weighted by confidence; the two directions are averaged. Images are clustered around medoids
from k-center greedy seeds; the medoids are the picks.

Source: Yang, Huang, Crowley, Plug and Play Active Learning for Object Detection (PPAL), CVPR 2024 (arXiv 2211.11612),
category conditioned matching similarity; read beside the authors' code. The first stage leaves 4 budgets to it:
`score/calibrated_uncertainty` and `[{name = "top", keep = 4}, "category_matching"]`.
Differs from the paper: the authors' code sets the distance of the k-th box of one image to the k-th box of every other
one to 0, of all pairs of images (meant for the diagonal), so that images of one object are all alike; not here. The
first seed is the image of highest score, not a random one, and no cluster is ever empty. Images without boxes are 0
from each other and 2 from the others. Turns end when nothing changes, or after 100.
Fails when: features say little about looks, or most boxes are false. Memory: 8 bytes per pair of images.

Distances are in float64 and compared to 12 digits; equal ones: the lower row. Picks are in the order of their clusters'
size, the larger first.

Worked by hand: three images of one box, all of class 0; the features of 0 and 1 are equal, that of 2 is orthogonal.

>>> offsets, probs, s = np.arange(4), np.array([[1.0, 0]] * 3), np.ones(3)
>>> distances(offsets, probs, s, np.array([[1.0, 0], [1, 0], [0, 1]])).tolist()
[[0.0, 0.0, 1.0], [0.0, 0.0, 1.0], [1.0, 1.0, 0.0]]
>>> select(np.array([3.0, 2, 1]), offsets, probs, s, np.array([[1.0, 0], [1, 0], [0, 1]]), 2).tolist()
[0, 2]
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Float, Float64, Int, Int64

from labelwise.select._boxes import check_boxes
from labelwise.select._order import check, significant
from labelwise.select._product import product
from labelwise.select.kcenter import _parts as parts
from labelwise.types import LabelwiseError, phrases

PREFIX_STABLE = False
"""The number of clusters is the budget."""

TURNS = 100
"""Most turns of the medoids."""

MOST_IMAGES = 8000
"""Most images, whose distances take 0.5 GB."""

BLOCK = 1 << 20
"""Cosines in a block."""


def select(
    scores: Float[np.ndarray, " n"],
    box_offsets: Int[np.ndarray, " n+1"],
    box_probs: Float[np.ndarray, "m C"],
    box_scores: Float[np.ndarray, " m"],
    box_features: Float[np.ndarray, "m D"],
    budget: int,
    *,
    explain: bool = False,
) -> Int64[np.ndarray, " k"] | tuple[Int64[np.ndarray, " k"], dict[str, np.ndarray]]:
    """At most `budget` images, each the medoid of a cluster.

    Args:
        scores: of every image; the highest is the first seed.
        box_offsets: the boxes of image i are the rows box_offsets[i] to box_offsets[i + 1].
        box_probs: class distribution of every box; its largest entry is its class.
        box_scores: its confidence.
        box_features: what likeness is measured on.
        budget: how many images to pick.
        explain: return the picks' "score", and "size" and mean "distance" of their clusters.

    Raises:
        LabelwiseError: a score or feature that is not finite, boxes that do not fit (row named), too many images.
    """
    k = check(scores, budget)
    n = len(scores)
    check_boxes(n, box_offsets, box_probs, box_scores, np.zeros(box_probs.shape[1], np.int64))
    _check(box_features, len(box_probs))
    if n > MOST_IMAGES:
        raise LabelwiseError(
            f"category_matching: {n:,} images, at most {MOST_IMAGES:,}: all are compared with all. Let a selector "
            'before it keep fewer: select = [{name = "top", keep = 4}, "category_matching"]'
        )
    away = distances(box_offsets, box_probs, box_scores, box_features)
    medoids = _medoids(away, _seeds(away, scores, k))
    own = _nearest(away, medoids)
    size = np.bincount(own, minlength=k)
    order = np.lexsort((medoids, -size))
    rows: np.ndarray = medoids[order]
    if not explain:
        return rows
    mean = np.bincount(own, away[np.arange(n), medoids[own]] if k else None, k) / np.maximum(size, 1)
    return rows, {"score": scores[rows].astype(np.float64), "size": size[order], "distance": mean[order]}


def explain(size: Int64[np.ndarray, " k"]) -> list[str]:
    """For how many images it stands."""
    return [
        f"It stands for {phrases.several(n, 'image')} whose objects look alike." if n > 1 else "" for n in size.tolist()
    ]


def distances(
    box_offsets: Int[np.ndarray, " n+1"],
    box_probs: Float[np.ndarray, "m C"],
    box_scores: Float[np.ndarray, " m"],
    box_features: Float[np.ndarray, "m D"],
) -> Float64[np.ndarray, "n n"]:
    """Between all images, to 12 digits."""
    n = len(box_offsets) - 1
    count = np.diff(box_offsets)
    some = np.flatnonzero(count)
    out = np.full((n, n), 2.0)
    out[np.ix_(count == 0, count == 0)] = 0
    if len(some) == 0:
        return out
    boxes = slice(int(box_offsets[0]), int(box_offsets[-1]))
    starts = (box_offsets[some] - box_offsets[0]).astype(np.int64)
    unit = box_features[boxes].astype(np.float64)
    length = np.sqrt(np.einsum("nd,nd->n", unit, unit))
    unit /= np.where(length > 0, length, 1)[:, None]
    label, weight = box_probs[boxes].argmax(axis=1), box_scores[boxes].astype(np.float64)
    image = np.repeat(np.arange(len(some)), count[some])
    total = np.bincount(image, weight, len(some))
    weight = np.where(total[image] > 0, weight, 1) / np.where(total > 0, total, count[some])[image]
    one_way = np.zeros((len(some), len(some)))
    for part in parts(len(unit), max(1, BLOCK // len(unit))):
        apart = 1 - product(unit[part], unit.T)
        apart[label[part, None] != label] = 2
        nearest = np.minimum.reduceat(apart, starts, axis=1) * weight[part, None]
        first, at = np.unique(image[part], return_index=True)
        one_way[first] += np.add.reduceat(nearest, at, axis=0)
    both = (one_way + one_way.T) / 2
    np.fill_diagonal(both, 0)
    out[np.ix_(some, some)] = both.clip(0, 2).round(12)
    return out


def _seeds(away: np.ndarray, scores: np.ndarray, k: int) -> Int64[np.ndarray, " k"]:
    """k-center greedy: the row of highest score, then the farthest from all seeds."""
    seeds = np.zeros(k, np.int64)
    nearest = significant(scores)
    for i in range(k):
        seeds[i] = nearest.argmax()
        nearest = np.minimum(nearest, away[seeds[i]]) if i else away[seeds[i]].copy()
        nearest[seeds[: i + 1]] = -1
    return seeds


def _nearest(away: np.ndarray, medoids: np.ndarray) -> Int64[np.ndarray, " n"]:
    """The cluster of every row; a medoid's is its own."""
    if len(medoids) == 0:
        return np.zeros(0, np.int64)
    own: np.ndarray = away[:, medoids].argmin(axis=1)
    own[medoids] = np.arange(len(medoids))
    return own


def _medoids(away: np.ndarray, medoids: np.ndarray) -> Int64[np.ndarray, " k"]:
    """Moves every medoid to the row of its cluster with the least sum of distances, until none moves."""
    for _ in range(TURNS):
        own, moved = _nearest(away, medoids), medoids.copy()
        for c in range(len(medoids)):
            rows = np.flatnonzero(own == c)
            moved[c] = rows[significant(away[np.ix_(rows, rows)].sum(axis=1)).argmin()]
        if (moved == medoids).all():
            break
        medoids = moved
    return medoids


def _check(features: np.ndarray, boxes: int) -> None:
    if features.ndim != 2 or len(features) != boxes:
        raise LabelwiseError(f"box_features: expected shape ({boxes}, D), got {features.shape}")
    bad = np.flatnonzero(~np.isfinite(features).all(axis=1))
    if len(bad):
        raise LabelwiseError(f"box_features: row {bad[0]} has a number that is not finite; expected finite numbers")
