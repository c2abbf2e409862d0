"""BADGE: k-means++ sampling of gradient embeddings, far apart and of large norm; unit: L2 norm of the gradient.

The embedding g = (p - onehot(argmax p)) ⊗ h is the gradient of the cross-entropy in the last layer's weights, had the
predicted class been the label; h is the feature that this layer reads. Uncertain rows have long embeddings. Each pick
is drawn with chance D² to the nearest pick so far.

Source: Ash, Zhang, Krishnamurthy, Langford, Agarwal, Deep Batch Active Learning by Diverse, Uncertain Gradient Lower
Bounds, ICLR 2020 (arXiv 1906.03671), Algorithm 1; named by 000, section 2 among the hybrid methods (reference [19]).
Differs from the paper: the first pick is the row of longest embedding, as in the authors' code; k-means++ in the text
would draw it evenly. Labelled rows are no centres, as in the paper.
Fails when: the model is sure of nearly all rows: their embeddings are short and alike, a few uncertain ones (or
features of large norm) take all picks. At the cold start p says nothing; prefer `typiclust` or `probcover`.

The C x D outer product is never made: <a ⊗ h, a' ⊗ h'> = <a, a'> <h, h'>, two float32 matrix-vector products per pick.
Distances within their rounding are computed once more in float64 from differences, so that exactly the copies have
weight 0. When no row has a weight, the longest embeddings follow, lower row first. Beside its input it holds one
float32 copy of `probs`, and one of `features` where they are not float32.

Worked by hand: a = (-0.5, 0.5), h = 2 has |g|² = 0.5 * 4 = 2; a sure row has g = 0. Rows 0 and 2 are copies: row 0 is
first, row 1 at D² = 2 is drawn for sure, then nothing has a weight.

>>> p, h = np.array([[0.5, 0.5], [1, 0], [0.5, 0.5]]), np.array([[2.0], [1.0], [2.0]])
>>> rows, reasons = select(p, h, 3, np.random.default_rng(0), explain=True)
>>> rows.tolist(), reasons["score"].round(4).tolist(), reasons["squared_distance"].round(4).tolist()
([0, 1, 2], [1.4142, 0.0, 1.4142], [0.0, 2.0, 0.0])
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Float64, Int64

from labelwise.select._order import best, check, significant
from labelwise.select._product import dots
from labelwise.types import LabelwiseError

PREFIX_STABLE = True
"""The first picks are the same for every budget."""

BLOCK = 1 << 18
"""Numbers in a block of rows."""

TOLERANCE = 1e-3
"""How far a row's probabilities may be from 1 in sum (half precision reaches about 5e-4)."""

LARGEST = 1e14
"""A larger feature might overflow when it is squared in float32."""


def select(
    probs: Float[np.ndarray, "n C"],
    features: Float[np.ndarray, "n D"],
    budget: int,
    rng: np.random.Generator,
    *,
    explain: bool = False,
) -> Int64[np.ndarray, " k"] | tuple[Int64[np.ndarray, " k"], dict[str, np.ndarray]]:
    """At most `budget` rows, drawn one after another.

    Args:
        probs: class distribution of every candidate; equal highest: the lower class is the predicted one.
        features: what the last linear layer reads, one row per candidate.
        budget: how many rows to pick.
        rng: one number is drawn per pick that has a choice.
        explain: return, per pick, its "score", the norm of g, "squared_distance" D² to the picks before it (0 for the
            first; to about five digits), and "chance", the probability of the draw (1 where there was nothing to draw).

    Raises:
        LabelwiseError: a row that is not a distribution, a feature that is not finite (row named), shapes that
            disagree, a negative budget.
    """
    k = check(np.zeros(len(probs)), budget)
    _check(probs, features)
    rows, squared, chance = np.zeros(k, np.int64), np.zeros(k), np.ones(k)
    norm = np.zeros(len(probs))
    if k:
        embedded = _embed(probs, features)
        norm = embedded.norm
        _draw(embedded, rng, rows, squared, chance)
    if not explain:
        return rows
    return rows, {"score": np.sqrt(norm[rows]), "squared_distance": squared, "chance": chance}


def explain(score: Float64[np.ndarray, " k"]) -> list[str]:
    """What its label would do to the model."""
    return ["Its label would change the model much, and in another way than those of the other picks."] * len(score)


@dataclass(frozen=True, slots=True, eq=False)
class _Embedded:
    """The two factors of g in float32, and |g|² in float64."""

    a: np.ndarray
    h: np.ndarray
    norm: np.ndarray

    def squared(self, row: int, nearest: np.ndarray) -> np.ndarray:
        """Squared distances of all rows to one; exact about 0 where that can lower `nearest`."""
        inner = dots(self.a, self.a[row]).astype(np.float64)
        inner *= dots(self.h, self.h[row])
        both = self.norm + self.norm[row]
        squared: np.ndarray = both - 2 * inner
        columns = self.a.shape[1] + self.h.shape[1]
        both *= (columns + 16) * float(np.finfo(np.float32).eps)  # 2 <g, g'> is at most |g|² + |g'|²
        unsure = np.flatnonzero((squared <= both + 1e-30) & (nearest > 0))
        step = max(1, BLOCK // columns)
        for start in range(0, len(unsure), step):
            part = unsure[start : start + step]
            squared[part] = self._from_differences(part, row)
        np.maximum(squared, 0, out=squared)
        return squared

    def _from_differences(self, rows: np.ndarray, row: int) -> np.ndarray:
        """|(a - a') ⊗ h + a' ⊗ (h - h')|², free of cancellation where both differences are small."""
        a, h = self.a[rows].astype(np.float64), self.h[rows].astype(np.float64)
        da, dh = a - self.a[row], h - self.h[row]
        last = np.einsum("c,c->", self.a[row], self.a[row], dtype=np.float64)
        cross = dots(da, self.a[row].astype(np.float64)) * np.einsum("nd,nd->n", h, dh)
        squared: np.ndarray = _norms(da) * _norms(h) + last * _norms(dh) + 2 * cross
        return squared


def _draw(
    embedded: _Embedded, rng: np.random.Generator, rows: np.ndarray, squared: np.ndarray, chance: np.ndarray
) -> None:
    """Fills in the picks, their D² and the chance of each."""
    n = len(embedded.norm)
    nearest = np.full(n, np.inf)
    rows[0] = significant(embedded.norm).argmax()
    for i in range(1, len(rows)):
        np.minimum(nearest, embedded.squared(int(rows[i - 1]), nearest), out=nearest)
        nearest[rows[i - 1]] = 0
        total = np.cumsum(nearest)
        if total[-1] == 0:
            left = np.ones(n, bool)
            left[rows[:i]] = False
            free = np.flatnonzero(left)
            rows[i:] = free[best(embedded.norm[free], len(rows) - i)]
            return
        row = int(np.searchsorted(total, rng.random() * total[-1], side="right"))
        rows[i] = min(row, int(np.searchsorted(total, total[-1])))  # the last row of weight, against rounding
        squared[i], chance[i] = nearest[rows[i]], nearest[rows[i]] / total[-1]


def _embed(probs: np.ndarray, features: np.ndarray) -> _Embedded:
    h = np.ascontiguousarray(features, np.float32)
    a = np.array(probs, np.float32, order="C")
    best_class = probs.argmax(axis=1)
    rows = np.arange(len(a))
    a[rows, best_class] = probs[rows, best_class] - 1  # rounded after the difference, which may be small
    step = max(1, BLOCK // (a.shape[1] + h.shape[1]))
    parts = [slice(start, start + step) for start in range(0, len(a), step)]
    norm = np.concatenate([_norms(a[p].astype(np.float64)) * _norms(h[p].astype(np.float64)) for p in parts])
    return _Embedded(a, h, norm)


def _norms(x: np.ndarray) -> np.ndarray:
    squares: np.ndarray = np.einsum("nd,nd->n", x, x)
    return squares


def _check(probs: np.ndarray, features: np.ndarray) -> None:
    for name, array in (("probs", probs), ("features", features)):
        if array.ndim != 2 or len(array) != len(probs) or not np.issubdtype(array.dtype, np.floating):
            raise LabelwiseError(
                f"{name}: expected real numbers of shape ({len(probs)}, _), a row per candidate; got {array.dtype} "
                f"{array.shape}"
            )
        if array.shape[1] == 0 and len(array):
            raise LabelwiseError(f"{name}: there are no columns; expected at least one. Let predict keep the {name}")
    sums = probs.sum(axis=1, dtype=np.float64)
    with np.errstate(invalid="ignore"):
        bad = np.flatnonzero(~((np.abs(sums - 1) <= TOLERANCE) & (probs >= 0).all(axis=1)))
    if len(bad):
        values = np.array2string(probs[bad[0]], precision=4, threshold=8)
        raise LabelwiseError(
            f"probs: row {bad[0]} is not a distribution: {values} sums to {sums[bad[0]]:.6g}; expected numbers >= 0 "
            "that sum to 1. Normalise the rows over the foreground classes"
        )
    with np.errstate(all="ignore"):
        bad = np.flatnonzero(~(np.einsum("nd,nd->n", features, features, dtype=np.float64) < LARGEST**2))
    if len(bad):
        column = int(np.abs(features[bad[0]]).argmax())  # the first NaN, if there is one
        raise LabelwiseError(
            f"features: row {bad[0]} has {features[bad[0], column]} in column {column}; expected finite numbers, in "
            f"all below {LARGEST:g}. Look at the model that made them: it may have diverged"
        )
