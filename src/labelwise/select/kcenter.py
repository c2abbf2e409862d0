"""Core-set by k-center greedy: the row farthest from every labelled and picked row; unit: L2 distance of the features.

Source: Sener and Savarese (2018), Algorithm 1, as 002, section 3.3 ("Coreset Greedy selection", box and image level)
and 001, section 3.5 and 4.5 ("KCenterGreedy") use it: 002 measures the L2 distance of the FC2 features.
Differs from the paper: without labelled rows the first pick is the row nearest to the mean of all features, not a
random one, so that the same features give the same picks; its "score" is the distance to that mean.
Fails when: the features hold outliers (they go first), or so many columns of noise that all distances are alike.

The picks are those of the plain loop, bit for bit, whatever the block size, the processor or the number of threads: a
distance is `((x - c) ** 2).sum()` in float64, compared before the root is taken; ties go to the lower row. When all
remaining distances are 0, the lowest rows not yet picked follow.

How it is fast: a matrix product gives each row's distance within a proven rounding bound. New centres are applied
only to a short list of far rows; the others keep their old, too large upper bounds, and all pending centres reach
them in one matrix product once the list's best falls to the largest of these. Only rows whose bounds overlap at the
top are computed with the formula above. Beside the features it holds the centres once more and 24 bytes a row.

Worked by hand: on a line, labelled 0. Row 1 at 5 is the farthest of (1, 5, 4); then row 0 is 1 from 0, row 2 is 1
from 5: a tie, the lower row.

>>> x = np.array([[1], [5], [4]], np.float32)
>>> rows, reasons = select(x, np.zeros((1, 1), np.float32), 2, explain=True)
>>> rows.tolist(), reasons["score"].tolist()
([1, 0], [5.0, 1.0])
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
from jaxtyping import Float, Int64

from labelwise.select._order import check
from labelwise.select._product import product
from labelwise.types import LabelwiseError, phrases

PREFIX_STABLE = True
"""The first picks are the same for every budget."""

BLOCK = 1 << 18
"""Numbers per block of rows or of pairs: a block stays in a core's cache."""

CENTRES = 256
"""Centres per matrix product."""

SHORT = 1024
"""Least length of the list of far rows; from 64 times as many rows on, one row in 64."""

LARGEST = 1e140
"""A larger feature's square might overflow."""


def select(
    features: Float[np.ndarray, "n D"],
    labelled_features: Float[np.ndarray, "m D"],
    budget: int,
    *,
    explain: bool = False,
) -> Int64[np.ndarray, " k"] | tuple[Int64[np.ndarray, " k"], dict[str, np.ndarray]]:
    """At most `budget` rows, each the farthest from all centres when it was picked.

    Args:
        features: one row per candidate.
        labelled_features: the centres at the start; may have no rows.
        budget: how many rows to pick.
        explain: return each pick's distance to its nearest centre, at the time of the pick, as "score".

    Raises:
        LabelwiseError: a feature that is not finite (row named), columns that disagree, a negative budget.
    """
    k = check(np.zeros(len(features)), budget)
    _check(features, labelled_features)
    rows, squared = np.zeros(k, np.int64), np.zeros(k)
    if k:
        _pick(_Distances(features, _distinct(labelled_features), k), rows, squared, explain)
    return (rows, {"score": np.sqrt(squared)}) if explain else rows


def explain(nearest: Sequence[str]) -> list[str]:
    """That nothing labelled is near it, and what is nearest."""
    return phrases.unlike(nearest)


def _pick(pool: _Distances, rows: np.ndarray, squared: np.ndarray, explain: bool) -> None:
    """Fills in the picked rows, and their squared distances where they are to be explained."""
    start = 0
    if pool.count == 0:
        rows[0], squared[0] = pool.nearest_to_mean()
        pool.add(int(rows[0]))
        start = 1
    for i in range(start, len(rows)):
        rows[i], squared[i] = pool.farthest(explain)
        if squared[i] == 0:  # so are all others: every remaining row is a copy of a centre
            free = np.ones(len(pool.features), bool)
            free[rows[:i]] = False
            rows[i:] = np.flatnonzero(free)[: len(rows) - i]
            return
        pool.add(int(rows[i]))


class _Distances:
    """Bounds lo <= d <= hi on the squared distance d of every row to its nearest centre; -1 for a picked row."""

    def __init__(self, features: np.ndarray, labelled: np.ndarray, k: int) -> None:
        n, columns = features.shape
        self.features, self.labelled = features, labelled
        self.picked, self.count = np.zeros(k, np.int64), len(labelled)
        self.lo, self.hi, self.norm = np.empty(n), np.empty(n), np.empty(n)
        self.step = max(1, BLOCK // (columns + 1))
        with np.errstate(all="ignore"):  # an overflow is seen in the norms
            self.origin = features[:: n // 1024 + 1].mean(axis=0, dtype=np.float64)
            self._work_in(np.float32)
            if not (self.largest < 1e30 and self.slack < 0.01):
                self._work_in(np.float64)
        if not self.largest < 1e300:
            _name_the_bad("features", features)
            _name_the_bad("labelled_features", labelled)

    def _work_in(self, work: type[np.floating]) -> None:
        """Takes this working precision and forgets all bounds."""
        (n, columns), old = self.features.shape, len(self.labelled)
        # With y = fl(x - origin), unit roundoff u and any order of summation, the computed d is within
        # ((3 D + 16) u) (|y|² + |c|²) of the true one; the formula of the picks is within (D + 2) 2^-53 d.
        exact = float(np.finfo(np.float64).eps) / 2
        self.slack = (3 * columns + 16) * float(np.finfo(work).eps) / 2 + (2 * columns + 4) * exact
        self.least = 16 * (columns + 4) * float(np.finfo(work).tiny)  # what underflow may take away
        self.work, self.shift = work, self.origin.astype(work)
        self.weights = np.empty((old + len(self.picked), columns + 1), work)
        for part in _parts(old, self.step):
            self._weigh(part, self.labelled[part])
        self._weigh(slice(old, self.count), self.features[self.picked[: self.count - old]])
        for part in _parts(n, self.step):
            y = self._centred(part)[:, :-1]
            self.norm[part] = np.einsum("nd,nd->n", y, y)
        self.largest = float(np.maximum(self.norm.max(), self.weights[: self.count, -1].max(initial=0)))
        self.lo.fill(np.inf)
        self.hi.fill(np.inf)
        self.lo[self.picked[: self.count - old]] = self.hi[self.picked[: self.count - old]] = -1
        self.applied, self.floor = 0, np.inf
        self.rows, self.near = np.zeros(0, np.int64), (np.zeros(0),) * 3
        self.held: np.ndarray | None = None

    def nearest_to_mean(self) -> tuple[int, float]:
        """The row nearest to the mean of all rows, and its squared distance."""
        mean = self.features.mean(axis=0, dtype=np.float64)
        parts = [_square_distances(self.features[part], mean) for part in _parts(len(self.features), self.step)]
        squared = np.concatenate(parts)
        row = int(squared.argmin())
        return row, float(squared[row])

    def farthest(self, explain: bool) -> tuple[int, float]:
        """The next pick, and its squared distance if that had to be computed (or is asked for), else an upper bound."""
        best = self.near[0].max(initial=-1)
        if best <= self.floor:  # a row outside the list may be as far
            self._refresh()
            best = self.near[0].max()
        lo, hi, _ = self.near
        top = np.flatnonzero(hi >= best)
        if len(top) > 1 or explain:
            loose = top[lo[top] < hi[top]]
            lo[loose] = hi[loose] = self._exact(self.rows[loose])
            top = top[[hi[top].argmax()]]  # the rows of the list are in rising order
        return int(self.rows[top[0]]), float(hi[top[0]])

    def add(self, row: int) -> None:
        """Makes the row a centre; only the short list hears of it at once."""
        self.picked[self.count - len(self.labelled)] = row
        self._weigh(slice(self.count, self.count + 1), self.features[row : row + 1])
        self.count += 1
        last = self.weights[self.count - 1 : self.count]
        lo, hi, norm = self.near
        if self.held is not None:
            self._tighten(lo, hi, norm, product(self.held, last[0]))
        else:
            for part in _parts(len(self.rows), self.step):
                low = product(self._centred(self.rows[part]), last[0])
                self._tighten(lo[part], hi[part], norm[part], low)
        at = np.searchsorted(self.rows, row)
        if at < len(self.rows):
            lo[at] = hi[at] = -1
        self.lo[row] = self.hi[row] = -1

    def _refresh(self) -> None:
        """Applies the pending centres to all rows and makes the short list anew."""
        n, (lo, hi, _) = len(self.features), self.near
        for part in _parts(n, self.step):
            y = self._centred(part)
            for first in range(self.applied, self.count, CENTRES):
                low = product(y, self.weights[first : min(first + CENTRES, self.count)].T).min(axis=1)
                self._tighten(self.lo[part], self.hi[part], self.norm[part], low)
        self.lo[self.rows], self.hi[self.rows] = lo, hi  # the list has had them, and may be exact
        self.applied = self.count
        chosen = self.hi >= self.lo.max()
        length = min(n, max(SHORT, n // 64))
        if self.work is np.float32 and np.count_nonzero(chosen) > length:
            self._work_in(np.float64)  # far from the origin, or many ties
            self._refresh()
            return
        chosen[np.argpartition(self.hi, n - length)[n - length :]] = True
        self.rows = np.flatnonzero(chosen)
        self.floor = self.hi[~chosen].max(initial=-np.inf)
        self.near = (self.lo[self.rows], self.hi[self.rows], self.norm[self.rows])
        self.held = None
        if len(self.rows) <= 2 * length:
            self.held = np.ones((len(self.rows), len(self.shift) + 1), self.work)
            np.subtract(self.features[self.rows], self.shift, out=self.held[:, :-1], casting="same_kind")

    def _centred(self, rows: slice | np.ndarray) -> np.ndarray:
        """X - origin of at most `step` rows, and a column of ones."""
        x = self.features[rows]
        y = np.ones((len(x), len(self.shift) + 1), self.work)
        np.subtract(x, self.shift, out=y[:, :-1], casting="same_kind")
        return y

    def _weigh(self, part: slice, centres: np.ndarray) -> None:
        """The centres' rows (-2 c, |c|²): times (y, 1) that is d - |y|²."""
        weights = self.weights[part]
        np.subtract(centres, self.shift, out=weights[:, :-1], casting="same_kind")
        weights[:, -1] = np.einsum("nd,nd->n", weights[:, :-1], weights[:, :-1])
        weights[:, :-1] *= -2

    def _tighten(self, lo: np.ndarray, hi: np.ndarray, norm: np.ndarray, low: np.ndarray) -> None:
        """Lowers the bounds by a computed minimum of d - |y|².

        The nearest centre has |c|² <= 2 |y|² + 2 d, so the error is at most slack (3.1 |y|² + 2.1 d) for slack < 0.01.
        """
        d = norm + low
        around = norm * (3.2 * self.slack) + self.least
        np.minimum(hi, d * (1 + 2.2 * self.slack) + around, out=hi)
        np.minimum(lo, np.maximum(d * (1 - 2.2 * self.slack) - around, 0), out=lo)

    def _exact(self, rows: np.ndarray) -> np.ndarray:
        """The squared distances of these rows to their nearest centres by the formula of the picks."""
        out = np.full(len(rows), np.inf)
        weights = self.weights[: self.count]
        for part in _parts(len(rows), max(1, min(self.step, BLOCK // self.count))):
            d = product(self._centred(rows[part]), weights.T) + self.norm[rows[part], None]
            around = self.slack * (self.norm[rows[part], None] + weights[:, -1].astype(np.float64)) * 1.1 + self.least
            row, centre = np.nonzero(d - around <= (d + around).min(axis=1, keepdims=True))
            for pairs in _parts(len(row), self.step):
                r, c = row[pairs], centre[pairs]
                squared = _square_distances(self.features[rows[part][r]], self._centre(c))
                np.minimum.at(out, part.start + r, squared)
        return out

    def _centre(self, which: np.ndarray) -> np.ndarray:
        old = which < len(self.labelled)
        out = np.empty((len(which), len(self.shift)))
        out[old] = self.labelled[which[old]]
        out[~old] = self.features[self.picked[which[~old] - len(self.labelled)]]
        return out


def _parts(n: int, step: int) -> Iterator[slice]:
    return (slice(start, min(start + step, n)) for start in range(0, n, step))


def _square_distances(x: np.ndarray, centres: np.ndarray) -> np.ndarray:
    """The formula of the picks."""
    difference = x.astype(np.float64) - centres
    difference *= difference
    squared: np.ndarray = difference.sum(axis=1)
    return squared


def _distinct(labelled: np.ndarray) -> np.ndarray:
    """The rows without their copies, which would only be ties."""
    rows = np.ascontiguousarray(labelled)
    whole = rows.view(np.dtype((np.void, rows.dtype.itemsize * rows.shape[1])))[:, 0] if len(rows) else rows[:, 0]
    first = np.unique(whole, return_index=True)[1]
    return labelled if len(first) == len(labelled) else labelled[np.sort(first)]


def _check(features: np.ndarray, labelled: np.ndarray) -> None:
    for name, array in (("features", features), ("labelled_features", labelled)):
        if array.ndim != 2 or not np.issubdtype(array.dtype, np.floating):
            raise LabelwiseError(f"{name}: expected real numbers of shape (_, D), got {array.dtype} {array.shape}")
    if features.shape[1] == 0 and len(features):
        raise LabelwiseError("features: there are no columns; expected at least one. Let predict keep the features")
    if len(features) and features.shape[1] != labelled.shape[1]:
        raise LabelwiseError(
            f"labelled_features: expected {features.shape[1]} columns as in features, got {labelled.shape[1]}; "
            "take both from the same model"
        )


def _name_the_bad(name: str, array: np.ndarray) -> None:
    for part in _parts(len(array), 4096):
        wrong = ~(np.abs(array[part].astype(np.float64)) < LARGEST)
        if wrong.any():
            row, column = (int(i) for i in np.argwhere(wrong)[0])
            raise LabelwiseError(
                f"{name}: row {part.start + row} has {array[part][row, column]} in column {column}; expected numbers "
                f"that are finite (and below {LARGEST:g}). Look at the model that made them: it may have diverged"
            )
