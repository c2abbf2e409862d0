"""Greedy choice of the rows that add most to a weighted kernel coverage, exactly (machinery, not a method).

The gain of a row c is sum over the reference rows x of w(x) max(exp(-|x - c|^2 / width^2) - covered(x), 0), and
covered(x) is the largest kernel value of x with a labelled or picked row. Gains only fall (the coverage is submodular),
so an old upper bound stays one. Beside the features this holds the kernel between the reference and a short list of
rows of high bounds, about a quarter of the features' size, and 40 bytes a row.

The gains that decide are those of the formula in float64, on the differences of the rows, with a sum over all reference
rows in their order, and count to a whole number of quanta of 2^-40 of the largest possible coverage; equal: the lower
row. Matrix products only say which rows come into question, with a proven bound on their rounding.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import numpy as np
from jaxtyping import Float64, Int64
from threadpoolctl import threadpool_info, threadpool_limits  # type: ignore[import-untyped]

from labelwise.select._product import product

QUANTUM = 2.0**-40
"""Gains are compared to this share of the sum of the weights."""

NARROWEST = 1e-5
"""Least width, as a share of the largest distance of a row from the origin: below it rows differ by rounding alone."""

REFERENCE_BLOCK = 256
"""Reference rows in a block: their sums in float32 stay within `SUMS`."""

CANDIDATE_BLOCK = 1024
"""Candidates in a block."""

SUMS = 300 * 2.0**-24
"""Bound on the relative error of a sum over one block of reference rows."""

EXACT = 1 << 19
"""Numbers in a block of differences."""

FEW = 8
"""So many rows are computed by the formula at once; of more, copies are left out and bounds in float64 come first."""


class Coverage:
    """How far the reference rows are covered, and bounds on what every row would add."""

    def __init__(
        self,
        x: np.ndarray,
        reference: np.ndarray,
        weight: np.ndarray,
        squared: np.ndarray,
        width: float,
        threads: int = 1,
    ) -> None:
        """Of the rows x, `reference` (row numbers) are to be covered, each counting `weight`, not all 0; a labelled row
        covers them from a `squared` distance, infinite where there is none. Blocks are done on so many `threads`.
        """
        n, columns = x.shape
        self.x, self.reference, self.weight, self.threads = x, reference, weight, threads
        self.origin = x[:: n // 1024 + 1].mean(axis=0, dtype=np.float64).astype(np.float32).astype(np.float64)
        self.norm = np.empty(n)
        for part in parts(n, CANDIDATE_BLOCK):
            y = x[part] - self.origin
            self.norm[part] = np.einsum("nd,nd->n", y, y)
        largest = float(self.norm.max(initial=0))
        self.width = max(width, NARROWEST * largest**0.5)
        self.sharpness = 1 / self.width**2
        self.covered = np.exp(-self.sharpness * squared)
        self.synced = self.covered.copy()
        self.quantum = QUANTUM * float(weight.sum())
        self.work: type[np.floating] = np.float32
        if not (self._rounding(np.float32) < 0.01 and self.sharpness * max(largest, 1) < 1e30):
            self.work = np.float64
        self.spread = float(np.exp(min(self._rounding(self.work), 30.0)))
        self.length = int(np.clip(n * columns // (4 * max(1, len(reference))), 16, max(n // 8, 256)))
        self.above = np.full(n, np.inf)  # bound on the gain; -inf: picked
        self.rows = np.zeros(0, np.int64)
        self.stale, self.moved = True, False

    def _rounding(self, work: type[np.floating]) -> float:
        """How far a computed exponent may be from the formula's: as in `kcenter`, and for the exponential."""
        u, exact = float(np.finfo(work).eps) / 2, 2.0**-53
        slack = (3 * self.x.shape[1] + 32) * u + (2 * self.x.shape[1] + 8) * exact
        return float(2.2 * slack * self.sharpness * self.norm.max(initial=0) + 32 * u)

    def _side(self, rows: np.ndarray, work: type[np.floating], other: bool = False) -> np.ndarray:
        """One side of a product that gives -|x - c|^2 in squared widths: (2 y, -|y|^2, 1), the other (y, 1, -|y|^2)."""
        columns = self.x.shape[1]
        side = np.ones((len(rows), columns + 2), work)
        np.subtract(self.x[rows], self.origin.astype(work), out=side[:, :columns], casting="same_kind")
        if not other:
            side[:, :columns] *= 2 * self.sharpness
        side[:, columns + other] = -self.sharpness * self.norm[rows]
        return side

    def _kernel(self, rows: np.ndarray, other: np.ndarray, out: np.ndarray | None = None) -> np.ndarray:
        """Kernel values of some reference rows with some candidates, within a factor of the spread."""
        exponent = product(self._side(self.reference[rows], other.dtype.type), other.T)
        kernel: np.ndarray = np.exp(exponent, out=exponent if out is None else out)
        return kernel

    def _bounds(
        self, rows: np.ndarray, work: type[np.floating], held: np.ndarray | None = None, lower: bool = True
    ) -> tuple[Float64[np.ndarray, " n"], Float64[np.ndarray, " n"]]:
        """Bounds on the gains of these rows, afresh; `held` keeps the kernel."""
        spread = float(np.exp(min(self._rounding(work), 30.0)))
        low, high = np.zeros(len(rows)), np.zeros(len(rows))
        weight = self.weight.astype(work)
        under, over = self._thresholds(self.covered, spread, work)
        every = np.arange(len(self.reference))

        def of(some: slice) -> None:
            other = self._side(rows[some], work, other=True)
            for part in parts(len(every), REFERENCE_BLOCK):
                kernel = self._kernel(every[part], other, None if held is None else held[part, some])
                if lower:
                    more = kernel - over[part, None]
                    low[some] += product(weight[part], np.maximum(more, 0, out=more))
                more = np.subtract(kernel, under[part, None], out=kernel if held is None else None)
                high[some] += product(weight[part], np.maximum(more, 0, out=more))

        self._side_by_side(of, len(rows))
        return low / spread * (1 - SUMS), high * spread * (1 + SUMS)

    def _side_by_side(self, work: Callable[[slice], None], n: int) -> None:
        """Does all blocks of candidates; each is one thread's."""
        blocks = list(parts(n, CANDIDATE_BLOCK))
        if min(len(blocks), self.threads) < 2:
            for some in blocks:
                work(some)
            return
        with ThreadPoolExecutor(min(len(blocks), self.threads)) as pool:
            list(pool.map(work, blocks))

    @staticmethod
    def _thresholds(covered: np.ndarray, spread: float, work: type[np.floating]) -> tuple[np.ndarray, np.ndarray]:
        """The coverage below and above which a computed kernel value adds for sure not, for sure something."""
        u = 2 * float(np.finfo(work).eps)
        return (covered / spread * (1 - u)).astype(work), (covered * spread * (1 + u)).astype(work)

    def _refresh(self) -> None:
        """Lowers the bounds of all rows by what the picks since the last time took, and makes the list anew."""
        changed = np.flatnonzero(self.covered > self.synced)
        free = np.flatnonzero(self.above > -np.inf)
        if 2 * len(changed) > len(self.reference) or np.isinf(self.above[free]).any():
            self.above[free] = self._bounds(free, self.work, lower=False)[1]
        elif len(changed):
            self._lower(free, changed)
        self.synced[:] = self.covered
        length = min(self.length, len(free))
        best = np.argpartition(self.above[free], len(free) - length)[len(free) - length :]
        self.rows = np.sort(free[best])
        self.kernel = np.empty((len(self.reference), length), self.work)
        self.low, self.high = self._bounds(self.rows, self.work, self.kernel)
        self.drift = SUMS * self.high
        self.above[self.rows] = np.minimum(self.above[self.rows], self.high)
        outside = self.above[free].copy()
        outside[best] = -np.inf
        self.floor = float(outside.max(initial=-np.inf))
        self.stale = self.moved = False

    def _contenders(self) -> np.ndarray:
        """The rows of the list that may be the best of it."""
        reached = (self.low - self.drift).max(initial=-np.inf)
        rows: np.ndarray = self.rows[(self.high + self.drift >= reached) & (self.high > -np.inf)]
        return rows

    def _lower(self, rows: np.ndarray, changed: np.ndarray) -> None:
        """Takes from the bounds of these rows what they lost for sure, since the last time, at the changed ones."""
        old = self._thresholds(self.synced[changed], self.spread, self.work)[1]
        new = np.maximum(self._thresholds(self.covered[changed], 1 / self.spread, self.work)[0], old)
        weight = self.weight[changed].astype(self.work)

        def of(some: slice) -> None:
            other, lost = self._side(rows[some], self.work, other=True), np.zeros(len(rows[some]))
            for part in parts(len(changed), REFERENCE_BLOCK):
                lost += product(weight[part], _between(self._kernel(changed[part], other), old[part], new[part]))
            self.above[rows[some]] -= lost / self.spread * (1 - SUMS)

        self._side_by_side(of, len(rows))

    def best(self) -> tuple[int, float]:
        """The row of the largest gain, the lower of equal ones, and its gain by the formula; a whole of quanta."""
        for _ in range(2):
            if self.stale:
                self._refresh()
            row, gain = self._best_of(self._contenders())
            if gain > self.floor + 2 * self.quantum:
                return row, gain
            self.stale = self.moved
        tried = np.zeros(len(self.x), bool)  # the bounds of rows outside the list are too loose
        tried[self.rows] = True
        while True:
            doubt = np.flatnonzero((self.above >= gain - 2 * self.quantum) & ~tried & (self.above > -np.inf))
            if len(doubt) == 0:
                return row, gain
            doubt = doubt[np.argsort(-self.above[doubt], kind="stable")[: self.length]]
            tried[doubt] = True
            low, high = self._bounds(doubt, self.work)
            self.above[doubt] = np.minimum(self.above[doubt], high)
            other, more = self._best_of(doubt[high >= max(float(low.max()), gain - 2 * self.quantum)])
            if more > gain or (more == gain and other < row):
                row, gain = other, more

    def _best_of(self, rows: np.ndarray) -> tuple[int, float]:
        """The best of these rows by the formula."""
        rows = np.sort(rows)
        if len(rows) > FEW:
            rows = _first_of_copies(self.x, rows)
        if len(rows) > FEW and self.work is np.float32:
            low, high = self._bounds(rows, np.float64)
            rows = rows[high + 2 * self.quantum >= low.max()]
        if len(rows) == 0:
            return len(self.x), -np.inf
        quanta = np.array([np.round(self.gains(row) / self.quantum) for row in rows])
        first = int(quanta.argmax())
        return int(rows[first]), float(quanta[first] * self.quantum)

    def gains(self, row: int) -> float:
        """The gain of one row by the formula."""
        active, kernel = self._active(row)
        added = np.zeros(len(self.reference))
        added[active] = self.weight[active] * np.maximum(kernel - self.covered[active], 0)
        return float(added.sum())

    def _active(self, row: int) -> tuple[Int64[np.ndarray, " k"], Float64[np.ndarray, " k"]]:
        """The reference rows that a row may cover better than it is covered, and the kernel there by the formula."""
        at = int(np.searchsorted(self.rows, row))
        if at < len(self.rows) and self.rows[at] == row:
            near = self.kernel[:, at]
        else:
            every, other = np.arange(len(self.reference)), self._side(np.array([row]), self.work, other=True)
            near = np.concatenate(
                [self._kernel(every[part], other)[:, 0] for part in parts(len(every), REFERENCE_BLOCK)]
            )
        active = np.flatnonzero(near >= self._thresholds(self.covered, self.spread, self.work)[0])
        squared = np.empty(len(active))
        centre = self.x[row].astype(np.float64)
        for part in parts(len(active), max(1, EXACT // self.x.shape[1])):
            away = self.x[self.reference[active[part]]] - centre
            away *= away
            squared[part] = away.sum(axis=1)
        return active, np.exp(-self.sharpness * squared)

    def add(self, row: int) -> None:
        """Covers the reference with this row, which is no candidate any more."""
        active, kernel = self._active(row)
        grown = kernel > self.covered[active]
        changed, old = active[grown], self.covered[active[grown]]
        self.covered[changed] = kernel[grown]
        self.above[row], self.moved = -np.inf, True
        at = int(np.searchsorted(self.rows, row))
        inside = at < len(self.rows) and self.rows[at] == row
        weight = self.weight[changed].astype(self.work)
        before = self._thresholds(old, self.spread, self.work)
        after = self._thresholds(self.covered[changed], self.spread, self.work)
        for part in parts(len(changed), REFERENCE_BLOCK):
            held = self.kernel[changed[part]]
            self.high -= self.spread * product(weight[part], _between(held.copy(), before[0][part], after[0][part]))
            self.low -= product(weight[part], _between(held, before[1][part], after[1][part])) / self.spread
        if inside:
            self.low[at] = self.high[at] = -np.inf


@contextmanager
def one_product_a_thread() -> Iterator[int]:
    """Inside it a product takes one thread: blocks run side by side instead, on as many threads as the BLAS had."""
    threads = max((one["num_threads"] for one in threadpool_info() if one["user_api"] == "blas"), default=1)
    with threadpool_limits(1, "blas"):
        yield threads


def parts(n: int, step: int) -> Iterator[slice]:
    """Slices that cover n rows."""
    return (slice(first, min(first + step, n)) for first in range(0, n, step))


def _between(kernel: np.ndarray, low: np.ndarray, high: np.ndarray) -> np.ndarray:
    """How much of the way from low to high every kernel value covers; overwrites `kernel`."""
    np.minimum(kernel, high[:, None], out=kernel)
    kernel -= low[:, None]
    between: np.ndarray = np.maximum(kernel, 0, out=kernel)
    return between


def _first_of_copies(x: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """Of equal rows the first."""
    some = np.ascontiguousarray(x[rows]) + 0.0  # -0 becomes 0
    whole = some.view(np.dtype((np.void, some.dtype.itemsize * some.shape[1])))[:, 0]
    first: np.ndarray = rows[np.sort(np.unique(whole, return_index=True)[1])]
    return first
