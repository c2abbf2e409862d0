"""Picks k rows: least -scores·z + λ‖Ω - Pᵀz‖ with a bound on how far from optimal (machinery, not a method).

The bound is Lagrange's: for every y the dual norm allows, L(y) = Ω·y - (the k largest of s + Py, summed) is no more
than the least objective over all choices, fractional ones included; the best y reaches the LP optimum.

1. `guess`: y of the dual with its kink rounded off (softplus), by L-BFGS.
2. `relax` (‖·‖₁): the LP with the rows near the threshold of s + Py as columns and all others fixed at 0 or 1; HiGHS
   solves it, one product prices all rows by the new y, those that are on the wrong side join, until L(y) meets the LP.
3. `improve`: the at most C + 1 fractional rows are filled greedily, then 1-1 swaps among the rows of least |reduced
   cost|; where few rows are left open by their reduced costs, all choices are tried.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from scipy.optimize import linprog, minimize
from scipy.special import expit

from labelwise.select._order import best
from labelwise.select._product import dots, product
from labelwise.types import LabelwiseError

BLOCK = 1 << 20
"""Numbers per block that is brought to float64."""

GUESSED_ON = 1 << 20
"""Numbers of P, at most, that the first guess reads."""

FAR = -36.0
"""Below this exp(x), softplus(x) and their slopes are nothing beside 1 in float64."""

ROUNDS = 30
"""Most rounds of column generation; the bound is valid after any of them."""

EXACT = 1e-9
"""Relative difference of LP and bound that counts as none."""

SURE = 1e-9
"""A reduced cost must exceed the gap by this to fix its row."""

TRIED = 1 << 20
"""Numbers of P, at most, that are added up to try all choices of the open rows."""

GOOD = 2e-5
"""Relative gap from which on no wider exchange is tried."""


@dataclass(frozen=True, slots=True, eq=False)
class Program:
    """Least -(s + shift)·z + λ·norm(Ω - Pᵀz), 1·z = k, z binary; 0 < k < n, λ > 0.

    s and λ are scaled to at most 1, and s has a minimum of 0.
    """

    s: np.ndarray
    p: np.ndarray
    omega: np.ndarray
    k: int
    lam: float
    shift: float
    squared: bool
    """λ times the squared L2 norm instead of the L1 norm."""

    def prices(self, y: np.ndarray) -> np.ndarray:
        """The worth of each row when y is the price of a unit of each class: s + Py."""
        out = np.empty(len(self.s))
        for rows in blocks(*self.p.shape):
            out[rows] = dots(self.p[rows].astype(np.float64, copy=False), y)
        out += self.s
        return out

    def bound(self, y: np.ndarray, worth: np.ndarray) -> float:
        """L(y), with the worth of all rows at y."""
        rest = len(worth) - self.k
        conjugate = float((y * y).sum()) / (4 * self.lam) if self.squared else 0.0
        most = float(np.partition(worth, rest)[rest:].sum())
        return float((self.omega * y).sum()) - conjugate - most - self.k * self.shift

    def fill(self, rows: np.ndarray) -> np.ndarray:
        """Pᵀz, the expected number of picks per class."""
        out = np.zeros(self.p.shape[1])
        for part in blocks(len(rows), self.p.shape[1]):
            out += self.p[rows[part]].sum(axis=0, dtype=np.float64)
        return out

    def penalty(self, residual: np.ndarray) -> np.ndarray:
        """λ times the norm, along the last axis."""
        sizes = np.einsum("...c,...c->...", residual, residual) if self.squared else np.abs(residual).sum(axis=-1)
        out: np.ndarray = self.lam * sizes
        return out

    def objective(self, rows: np.ndarray) -> float:
        return float(self.penalty(self.omega - self.fill(rows)) - self.s[rows].sum()) - self.k * self.shift


def blocks(n: int, columns: int) -> Iterator[slice]:
    step = max(1, BLOCK // max(1, columns))
    return (slice(start, min(start + step, n)) for start in range(0, n, step))


def solve(program: Program) -> tuple[np.ndarray, float, bool]:
    """The picked rows (rising), the bound on the objective of any choice, and whether the rows are proven optimal."""
    y = guess(program)
    if program.squared:
        worth = program.prices(y)
        bound, picked = program.bound(y, worth), np.zeros(len(worth), bool)
        picked[np.argsort(-worth, kind="stable")[: program.k]] = True
    else:
        y, worth, bound, z = relax(program, y)
        picked = _fill(program, z)
    reduced = worth - (_threshold(worth, program.k) + _threshold(worth, program.k + 1)) / 2
    improve(program, picked, reduced, bound)
    proven = _try_all(program, picked, reduced, bound)
    _lower_twins(program, picked, reduced)
    return np.flatnonzero(picked), bound, proven


def guess(program: Program) -> np.ndarray:
    """A y near the best, from the smoothed dual, rounded off less and less; the first time on a sample of the rows."""
    n, columns = program.p.shape
    y = np.zeros(columns)
    step = max(1, n * columns // GUESSED_ON)
    for every, near in ((step, n // 8), (1, 5 * columns), (1, columns // 2))[: 3 if program.squared else 2]:
        p, s = program.p[::every], program.s[::every]
        share = len(s) / n
        worth = s + product(p, y.astype(p.dtype))
        mu = -_threshold(worth, max(1, round(program.k * share)))
        place = min(len(s) - 1, max(8, round(near * share)))
        width = float(np.partition(np.abs(worth + mu), place)[place]) / 2
        y = _smooth(program, p, s, share, y, mu, max(width, 1e-6))
    return y


def _smooth(
    program: Program, p: np.ndarray, s: np.ndarray, share: float, y: np.ndarray, mu: float, width: float
) -> np.ndarray:
    """The dual with max(0, x) replaced by width·softplus(x / width), on a share of the rows."""
    omega, k, lam, squared = program.omega * share, program.k * share, program.lam, program.squared

    def dual(at: np.ndarray) -> tuple[float, np.ndarray]:
        y, mu = at[:-1], at[-1]
        x = (s + product(p, y.astype(p.dtype)) + mu) / width
        z, open_rows = np.zeros(len(x)), np.flatnonzero(x > FAR)
        value = (omega * y).sum() + k * mu - width * np.logaddexp(0, x[open_rows]).sum()
        z[open_rows] = expit(x[open_rows])
        slope = np.append(omega - product(z.astype(p.dtype), p), k - z.sum())
        if squared:
            value -= share * (y * y).sum() / (4 * lam)
            slope[:-1] -= share * y / (2 * lam)
        return -value / k, -slope / k

    box = [(None, None) if squared else (-lam, lam)] * len(y) + [(None, None)]
    found = minimize(dual, np.append(y, mu), jac=True, method="L-BFGS-B", bounds=box,
                     options={"maxiter": 100, "maxcor": 20, "ftol": 1e-9, "gtol": 1e-6})  # fmt: skip
    y_found: np.ndarray = found.x[:-1]
    return y_found


def relax(program: Program, y: np.ndarray) -> tuple[np.ndarray, np.ndarray, float, np.ndarray]:
    """The LP optimum: y, the worth of all rows at y, the bound L(y), and z."""
    n, columns = program.p.shape
    worth = program.prices(y)
    z = np.zeros(n)
    z[np.argsort(-worth, kind="stable")[: program.k]] = 1
    distance = np.abs(worth - _threshold(worth, program.k))
    core = np.zeros(n, bool)
    core[np.argsort(distance, kind="stable")[: 10 * columns + 500]] = True
    reached = (-np.inf, y, worth)
    for _ in range(ROUNDS):
        columns_in = np.flatnonzero(core)
        value, y, middle, z[core] = _master(program, columns_in, np.flatnonzero(~core & (z == 1)))
        worth = program.prices(y)
        bound = program.bound(y, worth)
        if bound > reached[0]:
            reached = (bound, y, worth)
        if value - bound <= EXACT * (1 + abs(bound)):
            break
        wrong = np.where(z == 1, middle - worth, worth - middle)
        wrong[core] = 0
        join = np.argsort(-wrong, kind="stable")[: 10 * columns + 500]
        join = join[wrong[join] > 0]
        if not len(join):
            break
        core[join] = True
    bound, y, worth = reached
    return y, worth, bound, z


def _master(program: Program, core: np.ndarray, ones: np.ndarray) -> tuple[float, np.ndarray, float, np.ndarray]:
    """The LP over the rows of the core: its value (with the fixed rows), y, the threshold, and z of the core."""
    columns, m = program.p.shape[1], len(core)
    a = np.zeros((columns + 1, m + 2 * columns))
    a[:columns, :m] = program.p[core].T
    a[columns, :m] = 1
    at = np.arange(columns)
    a[at, m + at], a[at, m + columns + at] = 1, -1
    cost = np.concatenate([-program.s[core], np.full(2 * columns, program.lam)])
    wanted = np.append(program.omega - program.fill(ones), program.k - len(ones))
    limits = np.zeros((len(cost), 2))
    limits[:, 1] = np.where(np.arange(len(cost)) < m, 1, np.inf)
    tight = {"dual_feasibility_tolerance": 1e-9, "primal_feasibility_tolerance": 1e-9}
    for method in ("highs-ipm", "highs-ds"):
        found = linprog(cost, A_eq=a, b_eq=wanted, bounds=limits, method=method, options=tight)
        if found.status == 0:
            break
    else:
        raise LabelwiseError(
            f"balance_program: HiGHS cannot solve the relaxation ({found.message}); choose another lam"
        )
    dual = found.eqlin.marginals
    y = np.clip(dual[:columns], -program.lam, program.lam)
    z = np.where(found.x[:m] > 1 - 1e-7, 1.0, np.where(found.x[:m] < 1e-7, 0.0, found.x[:m]))
    value = float(found.fun - program.s[ones].sum()) - program.k * program.shift
    return value, y, float(-dual[columns]), z


def _threshold(worth: np.ndarray, k: int) -> float:
    """The k-th largest."""
    return float(np.partition(worth, len(worth) - k)[len(worth) - k])


def _fill(program: Program, z: np.ndarray) -> np.ndarray:
    """The rows with z = 1, and of the fractional ones the best one after the other."""
    picked: np.ndarray = z == 1
    open_rows = np.flatnonzero((z > 0) & ~picked)
    residual = program.omega - program.fill(np.flatnonzero(picked))
    p = program.p[open_rows].astype(np.float64)
    free = np.ones(len(open_rows), bool)
    for _ in range(program.k - int(picked.sum())):
        change = np.where(free, program.penalty(residual - p) - program.s[open_rows], np.inf)
        one = int(change.argmin())
        free[one] = False
        residual -= p[one]
    picked[open_rows[~free]] = True
    return picked


def improve(program: Program, picked: np.ndarray, reduced: np.ndarray, bound: float) -> None:
    """Swaps a picked row for another as long as that helps, among the rows of least |reduced cost|; in place."""
    distance = np.abs(reduced)
    now = program.objective(np.flatnonzero(picked))
    for width in (300, 800):
        if now - bound <= GOOD * abs(bound):
            return
        inside, outside = _nearest(distance, picked, width), _nearest(distance, ~picked, width)
        now += _exchange(program, picked, inside, outside)


def _nearest(distance: np.ndarray, among: np.ndarray, width: int) -> np.ndarray:
    rows = np.flatnonzero(among)
    return rows[np.argsort(distance[rows], kind="stable")[:width]]


def _exchange(program: Program, picked: np.ndarray, inside: np.ndarray, outside: np.ndarray) -> float:
    """1-1 swaps until none of these rows improves; the change of the objective."""
    residual = program.omega - program.fill(np.flatnonzero(picked))
    p_in, p_out = (program.p[rows].astype(np.float64) for rows in (inside, outside))
    s_in, s_out = program.s[inside], program.s[outside]
    now, total, since, at = float(program.penalty(residual)), 0.0, 0, 0
    while since < len(inside):
        without = residual + p_in[at]
        after = program.penalty(without - p_out)
        change = after - now + s_in[at] - s_out
        other = int(change.argmin())
        if change[other] < -1e-12 * (1 + abs(now)):
            residual, now, total = without - p_out[other], float(after[other]), total + float(change[other])
            picked[inside[at]], picked[outside[other]] = False, True
            inside[at], outside[other] = outside[other], inside[at]
            p_in[at], p_out[other] = p_out[other], p_in[at].copy()
            s_in[at], s_out[other] = s_out[other], s_in[at]
            since = 0
        else:
            since += 1
        at = (at + 1) % len(inside)
    return total


def _try_all(program: Program, picked: np.ndarray, reduced: np.ndarray, bound: float) -> bool:
    """Tries all choices of the rows that a better choice might change, if they are few; in place.

    A choice against the sign of a row's reduced cost is worse than the bound by at least its size.
    """
    gap = program.objective(np.flatnonzero(picked)) - bound
    rows = np.flatnonzero(np.abs(reduced) <= gap + SURE)
    k = int(picked[rows].sum())
    if math.comb(len(rows), k) * max(1, k) * program.p.shape[1] > TRIED:
        return False
    choices = np.array(list(itertools.combinations(range(len(rows)), k)), np.int64)
    rest = picked.copy()
    rest[rows] = False
    p, s = program.p[rows].astype(np.float64), program.s[rows]
    residual = program.omega - program.fill(np.flatnonzero(rest))
    values = program.penalty(residual - p[choices].sum(axis=1)) - s[choices].sum(axis=1)
    picked[rows] = False
    picked[rows[choices[int(values.argmin())]]] = True
    return True


def _lower_twins(program: Program, picked: np.ndarray, reduced: np.ndarray) -> None:
    """Of rows that are alike in score and class distribution takes the lowest; in place."""
    astray = np.where(picked, -reduced, reduced).max()
    rows = np.flatnonzero(np.abs(reduced) <= max(float(astray), 0.0) + 1e-9)
    if not len(rows):
        return
    whole = np.column_stack([program.s[rows], program.p[rows]]) + 0.0  # -0.0 is 0.0
    keys = np.ascontiguousarray(whole).view(np.dtype((np.void, whole.itemsize * whole.shape[1])))[:, 0]
    group = np.unique(keys, return_inverse=True)[1]
    wanted = np.bincount(group, picked[rows])
    order = np.argsort(group, kind="stable")
    rank = np.empty(len(rows), np.int64)
    rank[order] = np.arange(len(rows)) - np.searchsorted(group[order], group[order])
    picked[rows] = rank < wanted[group]


def separable(s: np.ndarray, labels: np.ndarray, omega: np.ndarray, k: int, lam: float, squared: bool) -> np.ndarray:
    """The optimum where every row is of one class for sure (rising rows).

    The m-th best row of class c changes the objective by -s + λ·(norm at m - norm at m - 1), which grows with m: the k
    least changes are the optimum.
    """
    order = np.lexsort((np.arange(len(s)), -s, labels))
    sizes = np.bincount(labels, minlength=len(omega))
    m = np.arange(1, len(s) + 1) - np.repeat(np.cumsum(sizes) - sizes, sizes)
    step = 2 * (m - omega[labels[order]]) - 1
    gain = np.empty(len(s))
    gain[order] = s[order] - lam * (step if squared else np.clip(step, -1, 1))
    return np.sort(best(gain, k))
