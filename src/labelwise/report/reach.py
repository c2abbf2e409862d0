"""How much of the baseline's budget does a method need to get where the baseline ends? And the height of its curve.

Of two methods, over the seeds that both have finished:

* *Labels needed*: the level is the mean last value of the baseline. A method's curve is the mean quality of its seeds
  at every round over their mean cost, straight between rounds; where it is at the level for the first time, its cost is
  divided by the mean cost that the baseline has spent at its end. 0.5: half the questions. All that was spent counts,
  the common start too. Infinite: the method ends below the level.
* *Area*: the mean height of a curve over the range of cost that both have, in points of the metric.

Both come with a bootstrap interval over seeds (`report.bootstrap`), and on every axis of cost by the same functions.
The mean curve is asked, not every seed's: a single curve rises and falls, and its first crossing is luck.
Source: our own; the area is common in active learning (e.g. "ALC", Guyon et al. 2011).
Differs from the paper: 000 to 003 compare heights at equal budgets.
Fails when: the baseline's curve is flat or falls at its end: then the level is reached early by anything.

Baseline: 40 at 100, 50 at 200 questions; a method: 40 at 100, 60 at 200. It is at 50 with 150, 75 % of 200.

>>> base = Curves(np.array([[100.0, 200.0]]), np.array([[40.0, 50.0]]))
>>> own = Curves(np.array([[100.0, 200.0]]), np.array([[40.0, 60.0]]))
>>> share_needed(own, base).value, area_gain(own, base).value
(0.75, 5.0)
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float64, Int64

from labelwise.report.bootstrap import Estimate, bootstrap
from labelwise.report.spread import Group, values


@dataclass(frozen=True, slots=True, eq=False)
class Curves:
    """One curve per seed: cost rising, and the quality there, both [seeds, rounds]."""

    cost: Float64[np.ndarray, "seeds rounds"]
    value: Float64[np.ndarray, "seeds rounds"]


@dataclass(frozen=True, slots=True, eq=False)
class Pairing:
    """The curves of two groups over the same seeds; `missing`: seeds that only one has, or has not finished."""

    own: Curves
    base: Curves
    seeds: tuple[int, ...]
    missing: tuple[int, ...]


def pairing(group: Group, base: Group, cost: str, quantity: str = "quality") -> Pairing | None:
    """The common seeds with all rounds of their group; None where there is none.

    A group that nobody has finished gives the rounds that all its common seeds have.
    """
    common = [seed for seed in group.seeds if seed in base.seeds]
    kept: list[Curves] = []
    known = set(common)
    tables = []
    for one in (group, base):
        rows = [one.seeds.index(seed) for seed in common]
        x, y = values(one, cost)[rows], 100 * values(one, quantity)[rows]
        finite = np.isfinite(x) & np.isfinite(y)
        finished = finite[:, finite.any(axis=0)].all(axis=1) & finite.any()
        if not finished.any():
            finished = finite.any(axis=1)
        known &= {seed for seed, done in zip(common, finished, strict=True) if done}
        tables.append((x, y, finite))
    seeds = tuple(seed for seed in common if seed in known)
    rows = [common.index(seed) for seed in seeds]
    for x, y, finite in tables:
        columns = finite[rows].all(axis=0) if rows else np.zeros(x.shape[1], bool)
        kept.append(Curves(x[rows][:, columns], y[rows][:, columns]))
    if not seeds or not all(one.cost.shape[1] for one in kept):
        return None
    missing = tuple(sorted((set(group.seeds) | set(base.seeds)) - set(seeds)))
    return Pairing(kept[0], kept[1], seeds, missing)


def _means(curves: Curves, rows: Int64[np.ndarray, "b n"]) -> tuple[np.ndarray, np.ndarray]:
    """Mean curve of every resample: cost and value, both [b, rounds]."""
    return curves.cost[rows].mean(axis=1), curves.value[rows].mean(axis=1)


def first_reach(
    cost: Float64[np.ndarray, "b rounds"], value: Float64[np.ndarray, "b rounds"], level: Float64[np.ndarray, " b"]
) -> Float64[np.ndarray, " b"]:
    """The least cost at which each curve is at its level, straight between rounds; infinite if it never is."""
    above = value >= level[:, None] - 1e-9
    at, row = above.argmax(axis=1), np.arange(len(value))
    before = np.maximum(at - 1, 0)
    rise = value[row, at] - value[row, before]
    share = np.divide(level - value[row, before], rise, out=np.ones(len(value)), where=rise > 0)
    inside = cost[row, before] + share.clip(0, 1) * (cost[row, at] - cost[row, before])
    reached: np.ndarray = np.where(above.any(axis=1), np.where(at == 0, cost[:, 0], inside), np.inf)
    return reached


def share_needed(own: Curves, base: Curves) -> Estimate:
    """Cost of a method at the baseline's last value, over the baseline's last cost; row i of both is one seed."""

    def statistic(rows: np.ndarray) -> np.ndarray:
        cost, value = _means(base, rows)
        spent = cost[:, -1]
        reached = first_reach(*_means(own, rows), value[:, -1])
        share: np.ndarray = np.divide(reached, spent, out=np.full(len(rows), np.nan), where=spent > 0)
        return share

    return bootstrap(statistic, len(own.cost))


def area_gain(own: Curves, base: Curves, span: tuple[float, float] | None = None) -> Estimate:
    """Mean height of a method's curve minus the baseline's, per seed, between two costs (else over the range of cost
    that all these curves share). NaN where there is no such range.
    """
    low, high = span or (
        max(float(one.cost[:, 0].max()) for one in (own, base)),
        min(float(one.cost[:, -1].min()) for one in (own, base)),
    )
    gain = np.array([height(*pair, low, high) for pair in zip(own.cost, own.value, strict=True)])
    gain -= np.array([height(*pair, low, high) for pair in zip(base.cost, base.value, strict=True)])
    return bootstrap(lambda rows: gain[rows].mean(axis=1), len(gain))


def height(cost: np.ndarray, value: np.ndarray, low: float, high: float) -> float:
    """Mean height of a curve between the costs `low` and `high`; NaN where that is no range, or the curve does not span
    it.
    """
    slack = 1e-9 * abs(high)
    if not high > low or not (cost[0] <= low + slack and cost[-1] >= high - slack):
        return float("nan")
    inner = (cost > low) & (cost < high)
    x = np.concatenate([[low], cost[inner], [high]])
    return float(np.trapezoid(np.interp(x, cost, value), x) / (high - low))


def level_of(base: Curves) -> float:
    """The mean last value of the baseline: the level."""
    return float(base.value[:, -1].mean())


def text_of(seeds: Sequence[int]) -> str:
    """Seeds as a short list.

    >>> text_of([3, 0, 1])
    '0, 1, 3'
    """
    shown = [str(seed) for seed in sorted(seeds)]
    return ", ".join(shown if len(shown) <= 8 else [*shown[:6], f"{len(shown) - 6} more"])
