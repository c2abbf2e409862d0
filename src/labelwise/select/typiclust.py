"""TypiClust: the most typical row of each of many clusters; unit: 1 / mean L2 distance to the nearest neighbours.

The features of all rows, labelled ones included, are clustered into as many clusters as there will be labels. Clusters
with the fewest labelled rows come first, the largest of them before the others, and give the unlabelled row that lies
closest to its neighbours. For the cold start, when a model's uncertainty says nothing yet.

Source: Hacohen, Dekel, Weinshall, Active Learning on a Budget: Opposite Strategies Suit High and Low Budgets, ICML 2022
(arXiv 2202.02794), section 3, Eq. 4. It completes the low-budget study of 001, chapter 5, whose baselines lack a method
made for few labels.
Differs from the paper: as in the authors' code, neighbours are sought among the unlabelled rows of the cluster, and
are at most half of these; the clusters take turns when there are more picks than clusters. Unlike that code, the
distance is not squared (the paper's Eq. 4), an exhausted cluster is skipped, and clusters of at most `small` rows
follow when the others have no rows left, so that no row is picked twice. `small` is a tenth of the mean cluster, from 1
to the paper's 5, which is meant for 50,000 images: where a cluster holds fewer than about 10 rows on average, 5 puts
off half of them, the rare classes among these.
Fails when: the features do not separate the classes (they should be self-supervised), or labels are plenty: typical
rows are then the ones that the model knows.

k-means (mini-batches above 50 clusters) runs in one thread and is seeded by one number from `rng`: the picks
do not depend on the machine's load; in float64, so that they hardly depend on its kernels. Ties (to 12 digits): the
cluster, then the row, of lowest row. Beside the features it holds a normalised copy of all rows in float64.

Worked by hand, one cluster, 4 // 2 = 2 neighbours: the mean distances of 0, 3, 4, 8 are 3.5, 2, 2.5 and 4.5.

>>> x = np.array([[0], [3], [4], [8]], np.float32)
>>> rows, reasons = select(x, x[:0], 1, np.random.default_rng(0), normalise=False, explain=True)
>>> rows.tolist(), reasons["score"].round(4).tolist()
([1], [0.5])
"""

from __future__ import annotations

import warnings

import numpy as np
from jaxtyping import Float, Int64
from sklearn.cluster import KMeans, MiniBatchKMeans
from sklearn.exceptions import ConvergenceWarning
from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]

from labelwise.select._order import check, significant
from labelwise.select._product import product
from labelwise.select.kcenter import _check as check_columns
from labelwise.select.kcenter import _parts as parts
from labelwise.types import LabelwiseError, phrases

PREFIX_STABLE = False
"""The number of clusters depends on the budget."""

FULL = 50
"""Most clusters for k-means on all rows."""

BATCH = 5000
"""Rows of a mini-batch, and least rows that its first centres are drawn from."""

LARGEST_SMALL = 5
"""The paper's bound on small clusters."""

NEAREST = 1e-5
"""Added to the mean distance, so that the typicality of copies is finite."""

BLOCK = 1 << 21
"""Numbers in a block of distances."""

LARGEST = 1e14
"""A larger feature might overflow when it is squared in float32."""


def select(
    features: Float[np.ndarray, "n D"],
    labelled_features: Float[np.ndarray, "m D"],
    budget: int,
    rng: np.random.Generator,
    *,
    max_clusters: int = 500,
    neighbours: int = 20,
    small: int | None = None,
    normalise: bool = True,
    explain: bool = False,
) -> Int64[np.ndarray, " k"] | tuple[Int64[np.ndarray, " k"], dict[str, np.ndarray]]:
    """At most `budget` rows, one per cluster and turn.

    Args:
        features: one row per candidate.
        labelled_features: the labelled rows; may be none.
        budget: how many rows to pick.
        rng: gives the seed of k-means.
        max_clusters: most clusters; there are min(m + budget, max_clusters).
        neighbours: K of the typicality; at most half of the cluster's unlabelled rows.
        small: clusters of at most so many rows wait until the others are used up (the paper: 5); none: a tenth of the
            mean cluster's rows, labelled ones included, from 1 to 5.
        normalise: give every feature row length 1, as the paper does.
        explain: return each pick's typicality as "score", its "cluster", and the cluster's "size" and number of
            "labelled" rows.

    Raises:
        LabelwiseError: a feature that is not finite (row named), columns that disagree, a setting out of range.
    """
    k = check(np.zeros(len(features)), budget)
    limits = (("max_clusters", max_clusters, 1), ("neighbours", neighbours, 1), ("small", small or 0, 0))
    for name, value, least in limits:
        if value < least:
            raise LabelwiseError(f"typiclust: {name} is {value}; expected at least {least}")
    x, known = points(features, labelled_features, normalise)
    rows, score = np.zeros(k, np.int64), np.zeros(k)
    cluster = np.zeros(len(x) + len(known), np.int64)
    if k:
        wanted = min(len(known) + k, max_clusters)
        cluster = clusters(np.concatenate([x, known]), wanted, int(rng.integers(2**31)))
        some = _small(len(cluster) / wanted) if small is None else small
        _pick(x, cluster, neighbours, some, rows, score)
    if not explain:
        return rows
    size, labelled = np.bincount(cluster), np.bincount(cluster[len(x) :], minlength=cluster.max(initial=0) + 1)
    own = cluster[rows]
    return rows, {"score": score, "cluster": own, "size": size[own], "labelled": labelled[own]}


def explain(size: Int64[np.ndarray, " k"], labelled: Int64[np.ndarray, " k"]) -> list[str]:
    """Of how large a group it is the most typical, and how many of that are labelled."""
    return [
        f"The most typical of {phrases.several(n, 'candidate')} that look alike, of which {m or 'none'} "
        f"{'are' if m > 1 else 'is'} labelled."
        for n, m in zip(size.tolist(), labelled.tolist(), strict=True)
    ]


def _small(mean: float) -> int:
    """How many rows a small cluster holds at most, by the rows of a mean one."""
    return min(max(int(mean / 10), 1), LARGEST_SMALL)


def _pick(x: np.ndarray, cluster: np.ndarray, neighbours: int, small: int, rows: np.ndarray, score: np.ndarray) -> None:
    """Fills in the picks and their typicality; `cluster` is that of the rows of x, then of the labelled rows."""
    n, own = len(x), cluster[: len(x)]
    ids, first = np.unique(own, return_index=True)
    size = np.bincount(cluster)[ids]
    labelled = np.bincount(cluster[n:], minlength=cluster.max() + 1)[ids]
    order = np.lexsort((first, -size, labelled))
    left = np.split(np.argsort(own, kind="stable"), np.cumsum(np.bincount(own)[ids])[:-1])
    i = 0
    for turn in ([c for c in order if size[c] > small], [c for c in order if size[c] <= small]):
        while turn and i < len(rows):
            for c in turn[: len(rows) - i]:
                away = mean_distance(x[left[c]], neighbours)
                at = int(significant(away).argmin())
                rows[i] = left[c][at]
                score[i] = 1 / (away[at] + NEAREST) if len(away) > 1 else 0
                left[c] = np.delete(left[c], at)
                i += 1
            turn = [c for c in turn if len(left[c])]


def mean_distance(x: Float[np.ndarray, "n D"], neighbours: int) -> Float[np.ndarray, " n"]:
    """Mean distance of every row to its nearest neighbours, at most n // 2 of them; 0 for a row alone.

    Which are the nearest is decided to 1e-16 of the squared extent of x.
    """
    n, k = len(x), max(1, min(neighbours, len(x) // 2))
    out = np.zeros(n)
    if n == 1:
        return out
    y = x - x.mean(axis=0, dtype=np.float64)
    norm = np.einsum("nd,nd->n", y, y)
    for part in parts(n, max(1, BLOCK // (n + k * y.shape[1]))):
        squared = norm[part, None] + norm - 2 * product(y[part], y.T)
        squared[np.arange(len(squared)), np.arange(n)[part]] = np.inf
        near = np.argpartition(squared, k - 1, axis=1)[:, :k]
        gap = y[part][:, None] - y[near]  # once more, so that copies are at 0
        out[part] = np.sort(np.sqrt(np.einsum("rkd,rkd->rk", gap, gap)), axis=1).mean(axis=1)
    return out


def clusters(x: Float[np.ndarray, "n D"], k: int, start: int | np.ndarray) -> Int64[np.ndarray, " n"]:
    """Clusters of the rows by k-means, at most `k`, from a seed or from these centres; copies fall into one cluster.

    Where there are at most k distinct rows, each is a cluster: k-means would part them by the last bits.
    """
    k = min(k, len(x))
    if len(np.unique(x[: k + 1], axis=0)) <= k:
        distinct, cluster = np.unique(x, axis=0, return_inverse=True)
        if len(distinct) <= k:
            return cluster.reshape(-1).astype(np.int64)
    fit = MiniBatchKMeans if k > FULL else KMeans
    more = {"batch_size": BATCH, "init_size": max(3 * k, BATCH)} if k > FULL else {}
    seeded = {"random_state": start} if isinstance(start, int) else {"init": np.float64(start), "random_state": 0}
    with threadpool_limits(1), warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # fewer distinct rows than clusters
        found = fit(k, n_init=1, **seeded, **more).fit(np.ascontiguousarray(x, np.float64))
    labels: np.ndarray = found.labels_.astype(np.int64)
    return labels


def points(
    features: Float[np.ndarray, "n D"], labelled_features: Float[np.ndarray, "m D"], normalise: bool
) -> tuple[Float[np.ndarray, "n D"], Float[np.ndarray, "m D"]]:
    """Both checked, and in float32 with rows of length 1 if asked for; rows of zeros stay zeros."""
    check_columns(features, labelled_features)
    out = []
    for name, x in (("features", features), ("labelled_features", labelled_features)):
        with np.errstate(all="ignore"):
            length = np.sqrt(np.einsum("nd,nd->n", x, x, dtype=np.float64))
        bad = np.flatnonzero(~(length < LARGEST))
        if len(bad):
            column = int(np.abs(x[bad[0]]).argmax())  # the first NaN, if there is one
            raise LabelwiseError(
                f"{name}: row {bad[0]} has {x[bad[0], column]} in column {column}; expected finite numbers, in all "
                f"below {LARGEST:g}. Look at the model that made them: it may have diverged"
            )
        if normalise:
            length[length == 0] = 1
            x = np.divide(x, length[:, None], out=np.empty(x.shape, np.float32), casting="same_kind")
        out.append(x)
    return out[0], out[1]
