"""MaxHerding: the row that adds most to the pool's kernel coverage; with weights Uncertainty Herding; unit: coverage.

The coverage of a set S is sum over x of w(x) max over s in S of k(x, s), with the Gaussian kernel
k(x, s) = exp(-|x - s|^2 / width^2) (no 2 below the line, as in the authors' code); S begins with the labelled rows.
Every pick is the row of the largest gain. Unlike ProbCover's ball, whose all-or-nothing kernel it replaces, a smooth
kernel forgives a width that does not fit. When nothing more can be gained, the farthest rows follow (`kcenter`).

Source: Bae, Noh, Sutherland, Generalized Coverage for More Robust Low-Budget Active Learning, ECCV 2024 (arXiv
2407.12212): MaxHerding, even weights, width 1 on rows of length 1. Bae, Oliveira, Sutherland, Uncertainty Herding, ICLR
2025 (arXiv 2412.20644): the weight is an uncertainty (1 - margin), the width the smallest distance between two labelled
rows. `width = 1.0` and `weight = "even"` are the first, `width = "labelled"` and `weight = "scores"` the second.
Differs from the paper: of a pool of more than 6,000 rows some, evenly spaced, stand for all where the coverage is
measured (`reference`); the authors draw at most 35,000 rows, candidates and reference alike, here every row stays a
candidate. Labelled rows are no reference:
they are covered wholly and add nothing. Copies among the labelled rows do not count for the width. Probabilities are
not brought to a temperature that fits held-back labels; use a score of calibrated ones.
Fails when: the features do not show the classes; rows of positive features that are not centred are all alike (`centre`
helps). With `width = "labelled"` two near-copies among the labelled rows make the kernel so narrow that a row covers
little but itself, which leaves the order to the weights, and to nothing without them. With a width much smaller than
the distances within the reference, rows that are no reference gain nothing; set a larger `reference`. With many labels
all is covered, and coverage says little: weigh it.

The picks are those of the plain loop over all rows and reference rows in float64, gains counted to 12 digits of the
largest possible coverage, equal ones: the lower row. How that is fast: `select/_coverage.py`.

Worked by hand, on a line, width 1: the gain of 0 is 1 + 1/e, as is that of 1 (a tie, the lower row), of 9 it is 1. Then
9 adds 1, and 1 adds 1 - 1/e.

>>> x = np.array([[0], [1], [9]], np.float32)
>>> rows, reasons = select(np.ones(3), x, x[:0], 3, normalise=False, explain=True)
>>> rows.tolist(), reasons["score"].round(4).tolist(), reasons["covered"].round(4).tolist()
([0, 2, 1], [1.3679, 1.0, 0.6321], [0.456, 0.7893, 1.0])
"""

from __future__ import annotations

from typing import Literal

import numpy as np
from jaxtyping import Float, Float64, Int64

from labelwise.select import kcenter
from labelwise.select._coverage import Coverage, one_product_a_thread, parts
from labelwise.select._order import check
from labelwise.select._product import product
from labelwise.select.kcenter import _distinct as distinct
from labelwise.select.kcenter import _square_distances as squared_distance
from labelwise.select.probcover import nearest
from labelwise.select.typiclust import points
from labelwise.types import LabelwiseError, phrases

PREFIX_STABLE = True
"""The first picks are the same for every budget."""

WIDTH = 1.0
"""Where the labelled rows or the pool give no width (the paper's, on rows of length 1)."""

LEAST = 2000
"""Least rows of the reference, without a setting."""

PAIRS = 40_000_000
"""Pairs of a row and a reference row, without a setting."""

SAMPLE = 1000
"""Rows between which the median distance is taken."""


def select(
    scores: Float[np.ndarray, " n"],
    features: Float[np.ndarray, "n D"],
    labelled_features: Float[np.ndarray, "m D"],
    budget: int,
    *,
    width: float | Literal["labelled", "median"] = WIDTH,
    weight: Literal["even", "scores"] = "even",
    reference: int | None = None,
    normalise: bool = True,
    centre: bool = False,
    explain: bool = False,
) -> Int64[np.ndarray, " k"] | tuple[Int64[np.ndarray, " k"], dict[str, np.ndarray]]:
    """At most `budget` rows, each adding most to what the labelled rows and the picks before it cover.

    Args:
        scores: how much a row counts when it is covered (>= 0), with `weight = "scores"`.
        features: one row per candidate.
        labelled_features: rows that cover from the start; may be none.
        budget: how many rows to pick.
        width: of the Gaussian kernel, in the unit of the features; "labelled": the smallest distance above 0 between
            two labelled rows, 1 where there is none; "median": that of the distances in the pool.
        weight: whether all rows count alike, or by their scores.
        reference: so many evenly spaced rows stand for the pool where it is larger; none: all rows of a pool of up to
            6,000, of a larger one as many as make 40 million pairs with the pool, and at least 2,000. More cost time
            in proportion: a number as large as the pool is the whole objective, the square of the pool.
        normalise: give every feature row length 1, as the paper does.
        centre: take the pool's mean from all rows before that.
        explain: return what each pick added as "score" (in rows of the pool), the share "covered" of the possible
            coverage after it, and the "width".

    Raises:
        LabelwiseError: a feature or score that is not finite, a score below 0 (row named), columns that disagree, a
            setting out of range.
    """
    k = check(scores, budget)
    _check(scores, features, width, weight, reference)
    rows, gain, covered = np.zeros(k, np.int64), np.zeros(k), np.ones(k)
    x, known = _points(features, labelled_features, normalise, centre)
    found, sigma = 0, _width(x, known, width)
    stand = _spaced(len(x), max(LEAST, PAIRS // max(len(x), 1)) if reference is None else reference)
    counts = (scores[stand] if weight == "scores" else np.ones(len(stand))) * (len(x) / max(len(stand), 1))
    if k and counts.any():
        counts, away = counts.astype(np.float64), nearest(x if len(stand) == len(x) else x[stand], known)
        with one_product_a_thread() as threads:
            coverage = Coverage(x, stand, counts, away, sigma, threads)
            sigma, start = coverage.width, float((counts * coverage.covered).sum())
            found = _greedy(coverage, rows, gain)
        covered = (start + np.cumsum(gain)) / counts.sum()
    if found < k:
        left = np.delete(np.arange(len(x)), rows[:found])
        rows[found:] = left[np.asarray(kcenter.select(x[left], np.concatenate([known, x[rows[:found]]]), k - found))]
    return (rows, {"score": gain, "covered": covered, "width": np.full(k, sigma)}) if explain else rows


def explain(score: Float64[np.ndarray, " k"], covered: Float64[np.ndarray, " k"]) -> list[str]:
    """For how much of the pool it stands, and how much of it is then covered."""
    return [
        f"It stands for about {max(n, 1):.0f} of the pool that nothing labelled resembles yet; with it "
        f"{phrases.percent(share)} are covered."
        for n, share in zip(score.tolist(), covered.tolist(), strict=True)
    ]


def _greedy(coverage: Coverage, rows: np.ndarray, gain: np.ndarray) -> int:
    """Fills in picks and gains while anything can be gained; returns how many there are."""
    for i in range(len(rows)):
        row, gain[i] = coverage.best()
        if not gain[i] > 0:
            gain[i] = 0
            return i
        rows[i] = row
        coverage.add(row)
    return len(rows)


def _spaced(n: int, most: int) -> Int64[np.ndarray, " m"]:
    """At most so many rows, evenly spaced."""
    m = min(n, most)
    return np.arange(m, dtype=np.int64) * n // max(m, 1)


def _points(
    features: np.ndarray, labelled: np.ndarray, normalise: bool, centre: bool
) -> tuple[Float[np.ndarray, "n D"], Float[np.ndarray, "m D"]]:
    """Both checked, centred and of length 1 where that is asked for."""
    if not centre or len(features) == 0:
        return points(features, labelled, normalise)
    points(features, labelled, False)
    mean = features.mean(axis=0, dtype=np.float64).astype(np.float32)
    moved = [np.subtract(a, mean, out=np.empty(a.shape, np.float32), casting="same_kind") for a in (features, labelled)]
    return points(moved[0], moved[1], normalise)


def _width(x: np.ndarray, known: np.ndarray, width: float | str) -> float:
    """The kernel's width."""
    if width == "labelled":
        return _smallest_distance(known) or WIDTH
    if width != "median":
        return float(width)
    sample = x[_spaced(len(x), SAMPLE)].astype(np.float64)
    sample -= sample.mean(axis=0) if len(sample) else 0
    norm = np.einsum("nd,nd->n", sample, sample)
    squared = norm[:, None] + norm - 2 * product(sample, sample.T)
    apart = np.sqrt(np.maximum(squared[np.triu_indices(len(sample), 1)], 0))
    return float(f"{np.median(apart):.6g}") or WIDTH if len(apart) else WIDTH  # the last digits are the processor's


def _smallest_distance(known: Float[np.ndarray, "m D"]) -> float:
    """The smallest distance above 0 between two rows, by the formula of `kcenter`; 0 without one."""
    x = distinct(known + np.zeros((), known.dtype))  # -0 becomes 0
    if len(x) < 2:
        return 0.0
    y = x - x.mean(axis=0, dtype=np.float64)
    norm = np.einsum("nd,nd->n", y, y)
    slack = (3 * x.shape[1] + 16) * 2.0**-52 * 2 * norm.max()
    smallest = np.inf
    for part in parts(len(x), max(1, kcenter.BLOCK // len(x))):
        squared = norm[part, None] + norm - 2 * product(y[part], y.T)
        squared[np.arange(len(squared)), np.arange(len(x))[part]] = np.inf
        row, other = np.nonzero(squared <= min(squared.min(), smallest) + 2 * slack)
        for pair in parts(len(row), max(1, kcenter.BLOCK // x.shape[1])):
            exact: Float64[np.ndarray, " k"] = squared_distance(x[part][row[pair]], x[other[pair]].astype(np.float64))
            smallest = min(smallest, exact[exact > 0].min(initial=np.inf))
    return float(np.sqrt(smallest))


def _check(scores: np.ndarray, features: np.ndarray, width: float | str, weight: str, reference: int | None) -> None:
    if width not in ("labelled", "median") and not (isinstance(width, float | int) and 0 < width < np.inf):
        raise LabelwiseError(f'herding: width is {width!r}; expected a finite number above 0, "labelled" or "median"')
    if reference is not None and reference < 1:
        raise LabelwiseError(f"herding: reference is {reference}; expected at least 1, or none for the rule")
    if len(scores) != len(features):
        raise LabelwiseError(f"scores: expected one per row of features ({len(features)}), got {len(scores)}")
    if weight == "scores":
        bad = np.flatnonzero(scores < 0)
        if len(bad):
            raise LabelwiseError(
                f"scores: row {bad[0]} is {scores[bad[0]]}; expected weights >= 0. Choose a score that is never "
                'negative, or weight = "even"'
            )
