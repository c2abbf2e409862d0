"""k-means++ seeding over the features, weighted by the score: drawn with chance score * D²; unit: score times L2².

D is the distance of a row to the nearest row picked so far. The first pick is the row of highest score.

Source: Arthur and Vassilvitskii (2007), section 2.2 (D² sampling), the diversity sampling of BADGE, which 000,
section 2 names among the hybrid methods (reference [19]).
Differs from the paper: every row counts as often as its score says (weighted k-means++), and the first pick is the
highest score instead of a random row. There are no trials and no k-means steps afterwards.
Fails when: the features are far from one another for reasons that are not content, such as outliers: one at 10 times
the distance is 100 times as likely. Rows of score 0 are picked last.

When no row has a weight (all are copies of picked rows, or of score 0), the highest scores follow, lower row first.
A distance is one float32 product per pick, added in one order on every processor: a draw may fall on its last bit.
Distances within its rounding are computed once more in float64 from the differences, so that exactly the copies have
weight 0. Beside the features it holds one float32 copy.

Worked by hand: row 1 has the highest score. D² to it: 0 for row 0, a copy, and 1 for row 2, which is drawn for sure;
then no weight is left and row 0 follows.

>>> x, u = np.array([[2.0], [2.0], [3.0]], np.float32), np.array([0.5, 0.9, 0.1])
>>> rows, reasons = select(u, x, 3, np.random.default_rng(0), explain=True)
>>> rows.tolist(), reasons["squared_distance"].round(4).tolist()
([1, 2, 0], [0.0, 1.0, 0.0])
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Float, Float64, Int64

from labelwise.select._order import best, check, significant
from labelwise.select._product import dots
from labelwise.types import LabelwiseError

PREFIX_STABLE = True
"""The first picks are the same for every budget."""

BLOCK = 1 << 18
"""Numbers in a block of differences."""

LARGEST = 1e14
"""A larger feature might overflow when it is squared in float32."""


def select(
    scores: Float[np.ndarray, " n"],
    features: Float[np.ndarray, "n D"],
    budget: int,
    rng: np.random.Generator,
    *,
    explain: bool = False,
) -> Int64[np.ndarray, " k"] | tuple[Int64[np.ndarray, " k"], dict[str, np.ndarray]]:
    """At most `budget` rows, spread over the features, rows of high score more often.

    Args:
        scores: informativeness >= 0.
        features: one row per candidate.
        budget: how many rows to pick.
        rng: one number is drawn per pick that has a choice.
        explain: return, per pick, its "score", "squared_distance" D² to the picks before it (0 for the first; to about
            six digits), and "chance", the probability of the draw (1 where there was nothing to draw).

    Raises:
        LabelwiseError: a score that is negative or not finite, a feature that is not finite (row named), a negative
            budget.
    """
    k = check(scores, budget)
    _check(scores, features)
    rows, squared, chance = np.zeros(k, np.int64), np.zeros(k), np.ones(k)
    if k:
        _draw(scores, features, rng, rows, squared, chance)
    if not explain:
        return rows
    return rows, {"score": scores[rows].astype(np.float64), "squared_distance": squared, "chance": chance}


def explain(score: Float64[np.ndarray, " k"]) -> list[str]:
    """That it is far from the other picks."""
    return ["It looks unlike the other picks of this round."] * len(score)


def _draw(
    scores: np.ndarray,
    features: np.ndarray,
    rng: np.random.Generator,
    rows: np.ndarray,
    squared: np.ndarray,
    chance: np.ndarray,
) -> None:
    """Fills in the picks, their D² and the chance of each."""
    y, norm = _centre(features)
    share = scores.astype(np.float64) / (scores.max() or 1)
    nearest = np.full(len(y), np.inf)
    rows[0] = significant(scores).argmax()
    for i in range(1, len(rows)):
        _come_nearer(nearest, features, y, norm, int(rows[i - 1]))
        weight = nearest * share
        total = np.cumsum(weight)
        if total[-1] == 0:
            left = np.ones(len(y), bool)
            left[rows[:i]] = False
            free = np.flatnonzero(left)
            rows[i:] = free[best(scores[free], len(rows) - i)]
            squared[i:] = nearest[rows[i:]]  # before the first of them; their order is by score alone
            return
        row = int(np.searchsorted(total, rng.random() * total[-1], side="right"))
        rows[i] = min(row, int(np.searchsorted(total, total[-1])))  # the last row of weight, against rounding
        squared[i], chance[i] = nearest[rows[i]], weight[rows[i]] / total[-1]


def _come_nearer(nearest: np.ndarray, features: np.ndarray, y: np.ndarray, norm: np.ndarray, row: int) -> None:
    """Lowers the squared distances to the nearest pick by the new pick."""
    columns = y.shape[1]
    squared = norm + norm[row] - 2 * dots(y, y[row]).astype(np.float64)
    rounding = (2 * columns + 16) * float(np.finfo(np.float32).eps) * (norm + norm[row]) + 1e-30
    unsure = np.flatnonzero((squared <= rounding) & (nearest > 0))
    step = max(1, BLOCK // columns)
    centre = features[row].astype(np.float64)
    for start in range(0, len(unsure), step):
        part = unsure[start : start + step]
        difference = features[part].astype(np.float64) - centre
        squared[part] = np.einsum("nd,nd->n", difference, difference)
    np.minimum(nearest, np.maximum(squared, 0), out=nearest)


def _centre(features: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The features from near their middle, in float32, and the squared norms."""
    with np.errstate(all="ignore"):  # seen in the norms
        middle = features[:: len(features) // 1024 + 1].mean(axis=0, dtype=np.float64).astype(np.float32)
        y = np.subtract(features, middle, dtype=np.float32, casting="same_kind", order="C")
        norm = np.einsum("nd,nd->n", y, y).astype(np.float64)
    if not norm.max() < LARGEST**2:
        row = int(norm.argmax())  # the first NaN, if there is one
        raise LabelwiseError(
            f"features: row {row} is {np.array2string(features[row], precision=4, threshold=8)}; expected finite "
            f"numbers, in all below {LARGEST:g}. Look at the model that made them: it may have diverged"
        )
    return y, norm


def _check(scores: np.ndarray, features: np.ndarray) -> None:
    if features.ndim != 2 or len(features) != len(scores) or not np.issubdtype(features.dtype, np.floating):
        raise LabelwiseError(
            f"features: expected real numbers of shape ({len(scores)}, D), a row per score; got {features.dtype} "
            f"{features.shape}"
        )
    if features.shape[1] == 0 and len(features):
        raise LabelwiseError("features: there are no columns; expected at least one. Let predict keep the features")
    bad = np.flatnonzero(scores < 0)
    if len(bad):
        raise LabelwiseError(f"scores: row {bad[0]} is {scores[bad[0]]}; a score to be weighted must be >= 0")
    bad = np.flatnonzero(~np.isfinite(features).all(axis=1))
    if len(bad):
        row = features[bad[0]]
        raise LabelwiseError(
            f"features: row {bad[0]} has {row[~np.isfinite(row)][0]} in column {np.flatnonzero(~np.isfinite(row))[0]}; "
            "expected finite numbers. Look at the model that made them: it may have diverged"
        )
