"""ProbCover: the row whose ball of radius δ holds most rows that no ball covers yet; unit: rows newly covered.

A labelled row covers what lies within δ of it, a pick likewise. Greedy maximum coverage takes the dense regions first,
which suits few labels. When everything is covered, the farthest row from all centres follows (`kcenter`).

Source: Yehuda, Dekel, Hacohen, Weinshall, Active Learning Through a Covering Lens, NeurIPS 2022 (arXiv 2205.11320),
Algorithm 1; δ by purity: section 3.2. It completes the low-budget study of 001, chapter 5, whose baselines lack a
method made for few labels.
Differs from the paper: without `delta` and `classes`, δ is a quantile of the distances between rows: a ball then holds
about that share of the pool, and neither labels nor the number of classes are needed. Purity is measured on at
most 2,000 evenly spaced rows, and k-means starts from farthest rows, so that nothing is random. The paper leaves open
what follows when all is covered.
Fails when: δ does not fit: balls that span classes leave small classes without a label, tiny balls hold single rows and
the picks are nearly arbitrary. Near-copies (frames of a video) fill the quantile: on FOD-A's frames the default picks
8.5 points below random, with `classes` 3.2 below; on CIFAR-10 it is 10.4 above, with `classes` 6.6. No rule fits both;
`herding`, whose kernel falls off smoothly, needs none. All pairs of rows are compared: the time grows with the square
of the pool.

The ball graph has exactly the pairs whose distance by the formula of `kcenter` is at most δ (the paper's closed ball),
whatever the block size: a matrix product finds the pairs, those within its rounding of δ are computed once more. Equal
gain: the lower row. Memory: about 50 bytes per pair of rows within δ.

Worked by hand, on a line, δ = 1: the balls of 0, 1, 2, 10 hold 2, 3, 2, 1 rows. Row 1 covers three, row 3 itself; then
rows 0 and 2 are both at 1 from row 1: the lower.

>>> x = np.array([[0], [1], [2], [10]], np.float32)
>>> rows, reasons = select(x, x[:0], 3, delta=1.0, normalise=False, explain=True)
>>> rows.tolist(), reasons["score"].tolist(), reasons["covered"].tolist()
([1, 3, 0], [3.0, 1.0, 0.0], [0.75, 1.0, 1.0])
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Bool, Float, Float64, Int64
from scipy import sparse

from labelwise.select import kcenter
from labelwise.select._order import check
from labelwise.select._product import product
from labelwise.select.kcenter import _parts as parts
from labelwise.select.kcenter import _square_distances as squared_distance
from labelwise.select.typiclust import clusters, points
from labelwise.types import LabelwiseError, phrases

PREFIX_STABLE = True
"""The first picks are the same for every budget."""

BLOCK = 1 << 21
"""Distances in a block."""

SAMPLE = 2000
"""Rows on which δ is measured."""

MARGIN = 1e-9
"""A measured δ is moved by this share off the distance that gave it: upwards, downwards by purity."""

MOST_PAIRS = 50_000_000
"""Most pairs of rows within δ, about 2.5 GB; with the default quantile a pool of 100,000 rows has as many."""


def select(
    features: Float[np.ndarray, "n D"],
    labelled_features: Float[np.ndarray, "m D"],
    budget: int,
    *,
    delta: float | None = None,
    quantile: float = 0.01,
    classes: int | None = None,
    purity: float = 0.95,
    normalise: bool = True,
    explain: bool = False,
) -> Int64[np.ndarray, " k"] | tuple[Int64[np.ndarray, " k"], dict[str, np.ndarray]]:
    """At most `budget` rows, each covering most of what was not covered before it.

    Args:
        features: one row per candidate.
        labelled_features: centres of balls at the start; may have no rows.
        budget: how many rows to pick.
        delta: radius of the balls (0.75 in the paper for CIFAR-10 with SimCLR features of length 1).
        quantile: without `delta`: δ is this quantile of the distances between rows.
        classes: without `delta`: δ is the largest at which the share `purity` of balls holds one class, with so many
            clusters of k-means in the place of classes. This is the paper's rule.
        purity: see `classes`.
        normalise: give every feature row length 1, as the paper does.
        explain: return the number of rows that each pick newly covers as "score", the share of the pool "covered"
            after it, and "delta".

    Raises:
        LabelwiseError: a feature that is not finite (row named), columns that disagree, a setting out of range, so
            large a δ that the ball graph would not fit into memory.
    """
    k = check(np.zeros(len(features)), budget)
    _check(delta, quantile, classes, purity)
    x, known = points(features, labelled_features, normalise)
    rows, gain, covered, radius = np.zeros(k, np.int64), np.zeros(k), np.ones(k), 0.0
    if k:
        radius = delta if delta is not None else _radius(x, quantile, classes, purity)
        covered_before = nearest(x, known) <= radius**2
        graph = _graph(x, radius)
        found = _cover(graph, covered_before, rows, gain)
        covered = (np.count_nonzero(covered_before) + np.cumsum(gain)) / len(x)
        left = np.delete(np.arange(len(x)), rows[:found])
        centres = np.concatenate([known, x[rows[:found]]])
        rows[found:] = left[np.asarray(kcenter.select(x[left], centres, k - found))]
    return (rows, {"score": gain, "covered": covered, "delta": np.full(k, radius)}) if explain else rows


def explain(score: Float64[np.ndarray, " k"]) -> list[str]:
    """For how many it stands that nothing stood for before."""
    return [
        f"It stands for {phrases.several(n, 'candidate')} like it, of which none is labelled."
        if n > 1
        else "Nothing like it is labelled, and there is hardly anything like it."
        for n in score.tolist()
    ]


def _cover(graph: sparse.csr_array, covered: Bool[np.ndarray, " n"], rows: np.ndarray, gain: np.ndarray) -> int:
    """Fills in picks and gains while anything is uncovered; returns how many there are."""
    free = ~covered
    degree = graph.dot(free.astype(np.int32))  # uncovered rows in the ball of each row
    for i in range(len(rows)):
        row = int(degree.argmax())
        if degree[row] == 0:
            return i
        rows[i], gain[i] = row, degree[row]
        ball = graph.indices[graph.indptr[row] : graph.indptr[row + 1]]
        new = ball[free[ball]]
        free[new] = False
        degree -= np.bincount(graph[new].indices, minlength=len(free))
    return len(rows)


def _graph(x: np.ndarray, radius: float) -> sparse.csr_array:
    """Ones where two rows are within the radius; every row is within its own."""
    n = len(x)
    try:
        i, j, _ = pairs(x, radius**2, MOST_PAIRS)
    except OverflowError:
        raise LabelwiseError(
            f"probcover: more than {MOST_PAIRS:,} pairs of the {n:,} rows are within delta = {radius:.6g}; set a "
            "smaller delta or quantile, or let a selector before this one keep fewer rows"
        ) from None
    own = np.arange(n, dtype=np.int32)
    at = (np.concatenate([i, j, own]), np.concatenate([j, i, own]))
    return sparse.csr_array((np.ones(len(at[0]), np.int8), at), shape=(n, n))


def pairs(
    x: Float[np.ndarray, "n D"], squared: float, most: int, measured: bool = False
) -> tuple[np.ndarray, np.ndarray, Float64[np.ndarray, " pairs"]]:
    """Pairs i < j of rows whose squared distance by the formula of `kcenter` is at most `squared`, and that distance.

    The distances are approximate unless `measured`. Raises OverflowError where there are more than `most`.
    """
    n, columns = x.shape
    middle = x[:: n // 1024 + 1].mean(axis=0, dtype=np.float64)
    y = np.subtract(x, middle, out=np.empty(x.shape, np.float32), casting="same_kind")
    norm = np.einsum("nd,nd->n", y, y)
    # as in kcenter, the computed d is within slack (|y|² + |c|²) of the formula's; 16 more for the sums below
    slack = (3 * columns + 32) * float(np.finfo(np.float32).eps) / 2 + (2 * columns + 4) * 2.0**-53
    half = norm * np.float32((1 - slack) / 2)
    enough = np.float32(min(squared * (0.5 + 1e-6), 1e30) + 1e-30)
    found, total = [(np.zeros(0, np.int32), np.zeros(0, np.int32), np.zeros(0))], 0
    for part in parts(n, max(1, BLOCK // n)):
        inner = product(y[part], y[part.start :].T)
        inner -= half[part.start :]
        i, j = np.nonzero(inner >= (half[part] - enough)[:, None])
        i, j = i[j > i] + part.start, j[j > i] + part.start
        both = norm[i].astype(np.float64) + norm[j]
        d = both - 2 * (inner[i - part.start, j - part.start].astype(np.float64) + half[j])
        unsure = np.arange(len(i)) if measured else np.flatnonzero(d + slack * both + 1e-30 >= squared)
        total += len(i) - len(unsure)
        for some in parts(len(unsure), max(1, kcenter.BLOCK // columns)):
            which = unsure[some]
            d[which] = squared_distance(x[i[which]], x[j[which]])
            total += int(np.count_nonzero(d[which] <= squared))
            if total > most:
                raise OverflowError
        near = d <= squared
        found.append((i[near].astype(np.int32), j[near].astype(np.int32), d[near]))
        if total > most:
            raise OverflowError
    joined = tuple(np.concatenate(column) for column in zip(*found, strict=True))
    return joined[0], joined[1], joined[2]


def nearest(x: Float[np.ndarray, "n D"], centres: Float[np.ndarray, "m D"]) -> Float64[np.ndarray, " n"]:
    """Squared distance of every row to its nearest centre by the formula of `kcenter`; infinite without centres."""
    out = np.full(len(x), np.inf)
    if len(centres) == 0 or len(x) == 0:
        return out
    middle = x[:: len(x) // 1024 + 1].mean(axis=0, dtype=np.float64)
    for some in parts(len(centres), 1024):
        c = centres[some] - middle
        weight = np.einsum("md,md->m", c, c)
        for part in parts(len(x), max(1, BLOCK // (len(c) + x.shape[1]))):
            y = x[part] - middle
            d = weight - 2 * product(y, c.T)
            slack = (3 * x.shape[1] + 16) * 2.0**-52 * (np.einsum("nd,nd->n", y, y) + weight.max())
            row, which = np.nonzero(d <= (d.min(axis=1) + slack)[:, None])  # one of these is the nearest
            for pair in parts(len(row), max(1, kcenter.BLOCK // x.shape[1])):
                squared = squared_distance(x[part][row[pair]], centres[some][which[pair]])
                np.minimum.at(out, part.start + row[pair], squared)
    return out


def _radius(x: np.ndarray, quantile: float, classes: int | None, purity: float) -> float:
    """δ where none is given."""
    sample = np.arange(0, len(x), -(-len(x) // SAMPLE))
    y = x.astype(np.float64) - x.mean(axis=0, dtype=np.float64)
    norm = np.einsum("nd,nd->n", y, y)
    if classes is None:
        squared = norm[sample, None] + norm[sample] - 2 * product(y[sample], y[sample].T)
        apart = np.sqrt(np.maximum(squared[np.triu_indices(len(sample), 1)], 0))
        return float(np.quantile(apart, quantile)) * (1 + MARGIN) if len(apart) else 0.0
    start = x[np.asarray(kcenter.select(x, x[:0], classes))]
    label = clusters(x, classes, start)
    other = np.zeros(len(sample))  # squared distance to the nearest row of another class: the ball is pure below it
    for part in parts(len(sample), max(1, BLOCK // len(x))):
        own = sample[part]
        squared = norm[own, None] + norm - 2 * product(y[own], y.T)
        squared[label[own, None] == label] = np.inf
        other[part] = squared.min(axis=1)
    other.sort()
    allowed = min(int((1 - purity) * len(sample) + 1e-9), len(sample) - 1)  # so many balls may be impure
    if not np.isfinite(other[allowed]):
        return _radius(x, quantile, None, purity)  # one class only, or too few rows of others to limit δ
    return float(np.sqrt(max(other[allowed], 0))) * (1 - MARGIN)


def _check(delta: float | None, quantile: float, classes: int | None, purity: float) -> None:
    if delta is not None and not (delta >= 0 and np.isfinite(delta)):
        raise LabelwiseError(f"probcover: delta is {delta}; expected a finite distance >= 0")
    for name, value in (("quantile", quantile), ("purity", purity)):
        if not 0 <= value <= 1:
            raise LabelwiseError(f"probcover: {name} is {value}; expected a number in [0, 1]")
    if classes is not None and classes < 2:
        raise LabelwiseError(f"probcover: classes is {classes}; expected at least 2")
