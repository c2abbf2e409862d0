"""The row nearest to the centre of each of as many clusters as picks, among the rows of high score; unit: the score.

With `above` only rows of a higher score are clustered: a score narrows the pool to what is in doubt, the clusters make
the picks diverse. What is missing (fewer candidates, or fewer clusters than picks) follows by falling score.

Source: Gupte, Aklilu, Nirschl, Yeung-Levy, Revisiting Active Learning in the Era of Vision Foundation Models, TMLR 2024
(arXiv 2401.14555), DropQuery: `above = 0.5` and `score/dropquery.py`; without `above` it is the plain
clustering of the pool, with which that paper starts ("centroid initialisation").
Differs from the paper: k-means is scikit-learn's (mini-batches above 50 clusters), not FAISS'; the paper leaves open
what follows when there are fewer candidates than picks, its code fails there.
Fails when: the features do not show the classes; or the score puts more rows above the line than the head can tell
apart: then it is the clustering of the whole pool. Labelled rows play no part.

k-means runs in one thread and starts from the rows of `kmeans_plusplus`. A centre is the mean of its cluster in
float64; equally near (to 9 digits): the lower row. Picks are in the order of their clusters' size, the larger first.

Worked by hand: rows 0, 1, 2 (mean 1) and 10, 13, 14 (mean 12.33); the last row is below the line.

>>> x = np.array([[0], [1], [2], [10], [13], [14], [90]], np.float32)
>>> s = np.array([1, 1, 1, 1, 1, 1, 0.5])
>>> select(s, x, 2, np.random.default_rng(0), above=0.5, normalise=False).tolist()
[1, 4]
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Float, Float64, Int64

from labelwise.select import kmeans_plusplus
from labelwise.select._order import best, check, significant
from labelwise.select.typiclust import clusters, points
from labelwise.types import LabelwiseError, phrases

PREFIX_STABLE = False
"""The number of clusters is the budget."""

JITTER = 1e-7
"""Rows are moved by about this share of their size before they are clustered: ties fall the same way everywhere."""

TIE = 1e-9
"""Squared distances that differ by less than this share are equal."""


def select(
    scores: Float[np.ndarray, " n"],
    features: Float[np.ndarray, "n D"],
    budget: int,
    rng: np.random.Generator,
    *,
    above: float | None = None,
    normalise: bool = True,
    explain: bool = False,
) -> Int64[np.ndarray, " k"] | tuple[Int64[np.ndarray, " k"], dict[str, np.ndarray]]:
    """At most `budget` rows: one per cluster, then by falling score.

    Args:
        scores: of every row.
        features: one row per candidate.
        budget: how many rows to pick.
        rng: gives the seed of k-means.
        above: only rows of a higher score are clustered; none: all.
        normalise: give every feature row length 1.
        explain: return the picks' "score", and as "size" that of the cluster (0: picked by score).

    Raises:
        LabelwiseError: a score or feature that is not finite (row named), shapes that disagree.
    """
    k = check(scores, budget)
    if len(features) != len(scores):
        raise LabelwiseError(f"features: expected one row per score ({len(scores)}), got {len(features)}")
    x, _ = points(features, features[:0], normalise)
    rows = np.arange(len(scores)) if above is None else np.flatnonzero(significant(scores) > above)
    centres, size = np.zeros(0, np.int64), np.zeros(0, np.int64)
    if k and len(rows):
        label = _clusters(x[rows], k, rng)
        nearest, size = _nearest(x[rows], label)
        order = np.lexsort((nearest, -size))
        centres, size = rows[nearest[order]], size[order]
    left = np.delete(np.arange(len(scores)), centres)
    more = left[best(scores[left], k - len(centres))]
    picks = np.concatenate([centres, more])
    if not explain:
        return picks
    return picks, {"score": scores[picks].astype(np.float64), "size": np.append(size, np.zeros(len(more), np.int64))}


def explain(size: Int64[np.ndarray, " k"]) -> list[str]:
    """For how many it stands; nothing where it was picked by its score alone."""
    return [f"It stands for {phrases.several(n, 'candidate')} that look alike." if n > 1 else "" for n in size.tolist()]


def _clusters(x: np.ndarray, k: int, rng: np.random.Generator) -> Int64[np.ndarray, " n"]:
    """The cluster of every row, at most k; copies are in one."""
    plain = np.ascontiguousarray(x) + np.zeros((), x.dtype)  # -0 becomes 0
    whole = plain.view(np.dtype((np.void, plain.dtype.itemsize * plain.shape[1])))[:, 0]
    _, first, own = np.unique(whole, return_index=True, return_inverse=True)
    if len(first) <= k:
        return own.astype(np.int64)
    wide: Float64[np.ndarray, "n D"] = x.astype(np.float64)
    moves = rng.standard_normal((len(first), x.shape[1]), np.float32)
    wide += (JITTER * np.sqrt(np.square(wide).mean())) * moves[own]
    return clusters(wide, k, wide[np.asarray(kmeans_plusplus.select(np.ones(len(x)), x, k, rng))])


def _nearest(x: np.ndarray, label: np.ndarray) -> tuple[Int64[np.ndarray, " c"], Int64[np.ndarray, " c"]]:
    """The row nearest to the mean of each cluster that holds any, and the cluster's size."""
    _, own, size = np.unique(label, return_inverse=True, return_counts=True)
    order = np.argsort(own, kind="stable")
    starts = np.cumsum(size) - size
    mean = np.add.reduceat(x[order].astype(np.float64), starts, axis=0) / size[:, None]
    away = x[order] - mean[own[order]]
    squared = np.einsum("nd,nd->n", away, away)
    limit = np.minimum.reduceat(squared, starts) * (1 + TIE)  # the two rows of a cluster of two are equally near
    nearest: np.ndarray = np.minimum.reduceat(np.where(squared <= limit[own[order]], order, len(x)), starts)
    return nearest, size
