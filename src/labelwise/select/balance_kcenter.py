"""Class-balanced k-center greedy: far from every centre and filling the target; unit: L2 distance of the features.

Each pick is the row of least -d + λ‖Ω - p - Pᵀz‖₁: d its distance to the nearest labelled or picked row, p its class
distribution, Pᵀz the expected picks per class so far, Ω the picks wanted of this budget.

Source: 001, section 4.4.2, Algorithm 2; Ω by `labelwise.select._balance_target.target` (Eq. 4.3-4.5).
Differs from the paper: λ multiplies the L1 norm as printed; the authors' code divides it by the number of classes.
Without labelled rows the first pick has no distance: its class term alone decides.
Fails when: λ does not fit the features' scale (a distance of 10 is worth 10 / (2 λ) rows at most), or P is not
calibrated. While no class is full the class term is the same for all rows and the picks are those of `kcenter`.

Costs within about 1e-9 are computed once more by the formula in float64; those equal to about 1e-12: the lower row.

How it is fast: no N x N matrix. A row's last known distance is an upper bound on d; only rows that could be the pick
are brought up to date with the centres since: one product finds the nearest, the formula its distance. The class term
is linear in p in every class whose room is above the largest or below the least probability; only the columns of the
other classes are read per pick. Beside the features it holds P in float64 and 24 bytes a row.

Worked by hand: on a line, labelled 0, Ω = (1, 1), λ = 1. Costs: row 0: -4 + |1 - 1| + |1 - 0| = -3; row 1: -5 + 1 = -4,
picked. Then row 0, of the same class: -1 + |1 - 2| + 1 = 1; row 2: -1.5 + 0, picked although nearer to 0.

>>> x, p = np.array([[4.0], [5.0], [1.5]]), np.array([[1.0, 0.0], [1.0, 0.0], [0.0, 1.0]])
>>> rows, reasons = select(x, np.zeros((1, 1)), p, np.array([1.0, 1.0]), 2, lam=1.0, explain=True)
>>> rows.tolist(), reasons["score"].tolist(), reasons["distance"].tolist()
([1, 2], [4.0, 1.5], [5.0, 1.5])
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float, Int, Int64

from labelwise.select._order import check
from labelwise.select._product import product
from labelwise.select.balance_program import check_balance
from labelwise.types import LabelwiseError, phrases

PREFIX_STABLE = False
"""The target, and with it the first picks, belong to one budget."""

BLOCK = 1 << 22
"""Numbers per block of rows or of pairs."""

BATCH = 256
"""Rows brought up to date at once."""

NEAR = 1e-9
"""Costs that differ by less than this share of their parts are computed by the formula."""

TIE = 1e-12
"""By the formula, costs that differ by less than this share are equal: only rounding tells them apart."""


def select(
    features: Float[np.ndarray, "n D"],
    labelled_features: Float[np.ndarray, "m D"],
    probs: Float[np.ndarray, "n C"],
    target: Float[np.ndarray, " C"],
    budget: int,
    *,
    lam: float = 1.0,
    explain: bool = False,
) -> Int64[np.ndarray, " k"] | tuple[Int64[np.ndarray, " k"], dict[str, np.ndarray]]:
    """At most `budget` rows in the order of picking.

    Args:
        features: one row per candidate.
        labelled_features: the centres at the start; may have no rows.
        probs: class distribution of every candidate.
        target: Ω, picks wanted per class.
        budget: how many rows to pick.
        lam: λ >= 0 in units of distance (the authors' code: 5 / 10 for 10 classes, 50 / 100 for 100).
        explain: return too, at the time of each pick, "score" (minus its cost), "distance" (0 for a first pick without
            labelled rows) and "balance" (the L1 norm after it).

    Raises:
        LabelwiseError: a feature that is not finite or a row that is not a distribution (row named), columns that
            disagree, a target or lam that is negative or not finite, a negative budget.
    """
    k = check(np.zeros(len(features)), budget)
    for name, array in (("features", features), ("labelled_features", labelled_features)):
        _check(name, array, features.shape[-1])
    check_balance("balance_kcenter", len(features), probs, target, lam)
    rows, parts = np.zeros(k, np.int64), np.zeros((k, 2))
    if k:
        distances, room = _Distances(features, labelled_features, k), _Room(probs, target)
        for i in range(k):
            rows[i], *parts[i] = _pick(distances, room, lam)
            distances.add(int(rows[i]))
            room.take(int(rows[i]))
    distance, balance = parts.T
    return (rows, {"score": distance - lam * balance, "distance": distance, "balance": balance}) if explain else rows


def explain(
    nearest: Sequence[str], probs: Float[np.ndarray, "k C"], counts: Int[np.ndarray, " C"], classes: Sequence[str]
) -> list[str]:
    """That nothing labelled is near it, and whether its likeliest class is rare."""
    rare = phrases.rarity(probs.argmax(axis=1), counts, classes)
    return [f"{a} {b}".strip() for a, b in zip(phrases.unlike(nearest), rare, strict=True)]


def _pick(distances: _Distances, room: _Room, lam: float) -> tuple[int, float, float]:
    """The row of least cost, its distance and the L1 norm with it."""
    balance = room.norms()
    cost = lam * balance - distances.upper
    while True:
        least = int(cost.argmin())
        if distances.seen[least] == distances.count:
            break
        few = min(BATCH, len(cost))
        rows = np.argpartition(cost, few - 1)[:few]
        rows = np.append(rows[(distances.seen[rows] < distances.count) & (rows != least)], least)
        distances.update(rows)
        cost[rows] = lam * balance[rows] - distances.upper[rows]
    slack = NEAR * (1 + distances.upper[least] + lam * balance[least] + lam * room.rounding)
    near = np.flatnonzero(cost <= cost[least] + slack)
    distance, norm = distances.upper[near], room.exact(near)
    exact = lam * norm - distance
    best = int(np.argmax(exact <= exact.min() + slack * (TIE / NEAR)))
    return int(near[best]), float(distance[best]), float(norm[best])


class _Distances:
    """The distance of every row to its nearest centre: an upper bound, and how many centres it has been held against.

    A picked row has the bound -inf. Without any centre all distances are 0.
    """

    def __init__(self, features: np.ndarray, labelled: np.ndarray, k: int) -> None:
        (n, columns), self.count = features.shape, len(labelled)
        self.features, self.centres = features, np.empty((len(labelled) + k, columns))
        self.centres[: self.count] = labelled
        self.norms = np.einsum("nd,nd->n", self.centres[: self.count], self.centres[: self.count])
        self.norms.resize(len(self.centres), refcheck=False)
        self.upper, self.seen = np.full(n, np.inf if self.count else 0.0), np.zeros(n, np.int64)
        if self.count:
            step = max(1, BLOCK // (columns + self.count))
            for start in range(0, n, step):
                self.update(np.arange(start, min(start + step, n)))

    def add(self, row: int) -> None:
        """Makes the row a centre."""
        if self.count == 0:
            self.upper.fill(np.inf)
        self.centres[self.count] = self.features[row]
        self.norms[self.count] = np.square(self.centres[self.count]).sum()
        self.count += 1
        self.upper[row], self.seen[row] = -np.inf, len(self.centres) + 1

    def update(self, rows: np.ndarray) -> None:
        """Holds these rows against the centres that they have not seen."""
        new = slice(int(self.seen[rows].min()), self.count)
        x = self.features[rows].astype(np.float64)
        squared = product(x, self.centres[new].T)
        squared *= -2
        squared += self.norms[new]
        x -= self.centres[new.start + squared.argmin(axis=1)]
        x *= x
        self.upper[rows] = np.minimum(self.upper[rows], np.sqrt(x.sum(axis=1)))
        self.seen[rows] = self.count


class _Room:
    """What is left of the target per class, and the L1 norm of it after each row."""

    def __init__(self, probs: np.ndarray, target: np.ndarray) -> None:
        self.columns = np.ascontiguousarray(probs.T, np.float64)
        self.left = target.astype(np.float64)
        self.low, self.high = self.columns.min(axis=1), self.columns.max(axis=1)
        self.side = np.zeros(len(target))
        self.linear = np.zeros(len(probs))
        self.rounding = float(self.left.sum()) + 1

    def norms(self) -> np.ndarray:
        """‖left - p‖₁ of every row p; in a class with much room it is left - p, in a full one p - left."""
        side = np.where(self.left >= self.high, -1.0, np.where(self.left <= self.low, 1.0, 0.0))
        for c in np.flatnonzero(side != self.side):
            self.linear += (side[c] - self.side[c]) * self.columns[c]
        self.side = side
        out: np.ndarray = self.linear - (side * self.left).sum()
        for c in np.flatnonzero(side == 0):
            out += np.abs(self.left[c] - self.columns[c])
        return out

    def take(self, row: int) -> None:
        self.left -= self.columns[:, row]

    def exact(self, rows: np.ndarray) -> np.ndarray:
        """The same by the formula."""
        out: np.ndarray = np.abs(self.left - self.columns[:, rows].T).sum(axis=1)
        return out


def _check(name: str, array: np.ndarray, columns: int) -> None:
    if array.ndim != 2 or array.shape[1] != columns or not np.issubdtype(array.dtype, np.floating):
        raise LabelwiseError(
            f"{name}: expected real numbers of shape (_, {columns}), got {array.dtype} {array.shape}; take the "
            "features of candidates and labelled rows from the same model"
        )
    largest = array.dtype.type(min(1e140, float(np.finfo(array.dtype).max)))
    step = max(1, BLOCK // max(1, columns))
    for start in range(0, len(array), step):
        bad = np.flatnonzero(~(np.abs(array[start : start + step]) <= largest).all(axis=1))
        if len(bad):
            raise LabelwiseError(
                f"{name}: row {start + bad[0]} has a number that is not finite (or above 1e140); expected finite "
                "numbers. Look at the model that made them: it may have diverged"
            )
