"""Core-set by an integer program: the batch of smallest covering radius; unit: L2 distance of the features.

The covering radius is the largest distance of any candidate to the nearest labelled or picked row, outliers left out.
k-center greedy gives a start; whether `budget` rows can cover all at a smaller radius is an integer program (set
cover), and the radius is searched by bisection over the distances between rows.

Source: Sener and Savarese, Active Learning for Convolutional Neural Networks: A Core-Set Approach, ICLR 2018, section
4.2, Algorithm 2 (robust k-center) and its feasibility program; the baseline "CoreSet" of 001, section 3.5.
Differs from the paper: the program has no variable for who covers whom, only u (picked) and e (outlier): sum of u_j
over the ball of i, plus e_i >= 1, which has the same solutions. The lower end of the search allows for the outliers
(half the radius of greedy with as many picks more). HiGHS solves it instead of Gurobi; a step that takes more than half
of the time left counts as failed. Picks that the program leaves over go to the farthest rows.
Fails when: the pool is large. With more than `MOST_PAIRS` pairs of rows within greedy's radius, or when the time is
up, the answer is the best so far, at worst greedy's: see "radius" and "bound" of `explain`. So the picks depend on the
machine's speed where the program is not solved to its end.

The order of the picks is farthest-first among them. Beside the features: 40 bytes per pair, and what HiGHS takes.

Worked by hand, on a line, labelled 0. Greedy takes the farthest of 4, 5, 6, 7, 8, then 4 is at 4 from 0 and from 8.
The middle row 6 leaves 4 and 8 at 2; no row does better.

>>> x = np.array([[4], [5], [6], [7], [8]], np.float32)
>>> rows, reasons = select(x, np.zeros((1, 1), np.float32), 1, explain=True)
>>> rows.tolist(), reasons["radius"].tolist(), reasons["greedy_radius"].tolist(), reasons["bound"].tolist()
([2], [2.0], [4.0], [2.0])
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int64
from scipy import optimize, sparse

from labelwise.select import kcenter
from labelwise.select._order import check
from labelwise.select.probcover import nearest, pairs
from labelwise.select.typiclust import points
from labelwise.types import LabelwiseError, phrases

PREFIX_STABLE = False
"""Another budget has other centres."""

MOST_PAIRS = 2_000_000
"""Most pairs of rows within the radius of greedy for which the program is tried."""


def select(
    features: Float[np.ndarray, "n D"],
    labelled_features: Float[np.ndarray, "m D"],
    budget: int,
    *,
    outliers: float = 1e-4,
    time_limit_s: float = 60.0,
    explain: bool = False,
) -> Int64[np.ndarray, " k"] | tuple[Int64[np.ndarray, " k"], dict[str, np.ndarray]]:
    """At most `budget` rows of small covering radius, in farthest-first order.

    Args:
        features: one row per candidate.
        labelled_features: the centres at the start; may have no rows.
        budget: how many rows to pick.
        outliers: share of the candidates, rounded down, that may lie outside the radius.
        time_limit_s: for the search; 0 gives greedy's picks.
        explain: return each pick's distance to the labelled rows and the picks before it as "score", and of the whole
            batch its covering "radius", that of greedy, "greedy_radius", and the "bound" that none can be below.

    Raises:
        LabelwiseError: a feature that is not finite (row named), columns that disagree, a setting out of range.
    """
    k = check(np.zeros(len(features)), budget)
    if not 0 <= outliers < 1:
        raise LabelwiseError(f"coreset_milp: outliers is {outliers}; expected a share in [0, 1)")
    if not time_limit_s >= 0:
        raise LabelwiseError(f"coreset_milp: time_limit_s is {time_limit_s}; expected seconds >= 0")
    until = time.monotonic() + time_limit_s
    x, known = points(features, labelled_features, False)
    rows, reasons = kcenter.select(x, known, k, explain=True)
    out = {"score": reasons["score"]} | {name: np.zeros(k) for name in ("radius", "greedy_radius", "bound")}
    if k:
        away, spare = nearest(x, known), int(outliers * len(x))
        radius = _radius(np.minimum(away, nearest(x, x[rows])), spare)
        bound = _bound(x, known, k + spare)
        out["radius"][:] = out["greedy_radius"][:] = np.sqrt(radius)
        if bound < radius and time_limit_s > 0:
            chosen, radius, bound = _search(x, away, rows, spare, bound, radius, until)
            if radius < out["greedy_radius"][0] ** 2:
                rows, out["score"] = _order(x, known, chosen, k)
                out["radius"][:] = np.sqrt(min(radius, _radius(np.minimum(away, nearest(x, x[rows])), spare)))
        out["bound"][:] = np.sqrt(min(bound, radius))
    return (rows, out) if explain else rows


def explain(nearest: Sequence[str]) -> list[str]:
    """That it is one of those that cover the pool, and the labelled image that is nearest."""
    return [f"One of the picks that leave nothing of the pool far away. {said}" for said in phrases.unlike(nearest)]


def _radius(squared: np.ndarray, spare: int) -> float:
    """The largest squared distance when `spare` rows are left out."""
    at = len(squared) - 1 - spare
    return float(np.partition(squared, at)[at]) if at >= 0 else 0.0


def _bound(x: np.ndarray, known: np.ndarray, k: int) -> float:
    """No k centres have a smaller squared radius: greedy's picks and its farthest row are that far apart, halved."""
    if k >= len(x):
        return 0.0
    distances = kcenter.select(x, known, k + 1, explain=True)[1]["score"]
    return float(distances[-1] / 2) ** 2


def _order(x: np.ndarray, known: np.ndarray, chosen: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
    """The chosen rows filled up to k by the farthest ones, in farthest-first order, and the distance of each."""
    if len(chosen) < k:
        left = np.delete(np.arange(len(x)), chosen)
        more = kcenter.select(x[left], np.concatenate([known, x[chosen]]), k - len(chosen))
        chosen = np.concatenate([chosen, left[np.asarray(more)]])
    chosen = np.sort(chosen)
    order, reasons = kcenter.select(x[chosen], known, k, explain=True)
    return chosen[order], reasons["score"]


@dataclass(frozen=True, slots=True, eq=False)
class _Pool:
    """The pairs within greedy's radius, both ways and with itself, and every row's distance to the labelled ones."""

    i: np.ndarray
    j: np.ndarray
    squared: np.ndarray
    away: np.ndarray

    def radius(self, chosen: np.ndarray, spare: int) -> float:
        """The squared covering radius of these picks; too large where it is above greedy's."""
        picked = np.zeros(len(self.away), bool)
        picked[chosen] = True
        edge = picked[self.j]
        near = self.away.copy()
        np.minimum.at(near, self.i[edge], self.squared[edge])
        return _radius(near, spare)


def _search(
    x: np.ndarray, away: np.ndarray, greedy: np.ndarray, spare: int, bound: float, radius: float, until: float
) -> tuple[np.ndarray, float, float]:
    """The best picks found between the bound and greedy's radius, their radius, and a better bound; all squared."""
    chosen = greedy
    try:
        i, j, squared = pairs(x, radius, MOST_PAIRS, measured=True)
    except OverflowError:
        return chosen, radius, bound
    own = np.arange(len(x), dtype=np.int32)
    pool = _Pool(
        np.concatenate([i, j, own]), np.concatenate([j, i, own]), np.concatenate([squared, squared, 0.0 * own]), away
    )
    # the radius is a distance between two rows, to a labelled row, or 0
    values = np.unique(np.concatenate([[0.0], squared, away[away < radius]]))
    values = values[(values >= bound * (1 - 1e-12)) & (values < radius)]
    low, high = 0, len(values)
    proven = low
    while low < high and (left := until - time.monotonic()) > 0:
        middle = (low + high) // 2
        found, impossible = _feasible(pool, len(greedy), values[middle], spare, left / 2)
        reached = pool.radius(found, spare) if found is not None else np.inf
        if found is not None and reached < radius:
            chosen, radius = found, reached
            high = int(np.searchsorted(values, reached))
        else:
            low = middle + 1
            proven = low if impossible else proven
    return chosen, radius, max(bound, float(values[proven]) if proven < high else radius)


def _feasible(pool: _Pool, k: int, squared: float, spare: int, time_limit_s: float) -> tuple[np.ndarray | None, bool]:
    """At most k rows that cover all but `spare` within the radius, None if not found; and whether there are none."""
    open_rows = np.flatnonzero(pool.away > squared)
    if len(open_rows) <= spare:
        return np.zeros(0, np.int64), False
    n = len(pool.away)
    number = np.full(n, -1)
    number[open_rows] = np.arange(len(open_rows))
    edge = (pool.squared <= squared) & (number[pool.i] >= 0)
    useful, column = np.unique(pool.j[edge], return_inverse=True)  # rows in whose ball something is open
    cover = sparse.csr_array(
        (np.ones(len(column)), (number[pool.i[edge]], column)), shape=(len(open_rows), len(useful))
    )
    extra = len(open_rows) if spare else 0
    if spare:
        cover = sparse.hstack([cover, sparse.eye_array(extra)], format="csr")
    count = np.repeat([[1.0, 0.0], [0.0, 1.0]], [len(useful), extra], axis=1)
    limits = [optimize.LinearConstraint(cover, 1, np.inf), optimize.LinearConstraint(count, 0, [k, spare])]
    size = len(useful) + extra
    options = {"time_limit": max(time_limit_s, 0.01), "disp": False}
    said = optimize.milp(np.zeros(size), integrality=np.ones(size), bounds=(0, 1), constraints=limits, options=options)
    if said.x is None:
        return None, said.status == 2
    return useful[said.x[: len(useful)] > 0.5].astype(np.int64), False
