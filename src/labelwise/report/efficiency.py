"""What a budget buys: the area under a budget curve, and what it costs to reach a given AP50.

A curve of one seed is its AP50 at every round over what had been spent by then, straight between the rounds.

* Area: the mean height of the curve over the range of cost that all compared curves have in common; unit: that of AP50.
* Cost to reach a level: the least cost at which the curve is at that level for the first time. A curve that never gets
  there has none. The level is the highest AP50 that every seed of the baseline reaches. Savings compare two methods
  seed by seed, as a ratio of costs; the interval is that of the mean logarithm (Student's t), so that "half" and
  "double" weigh the same. Where a seed never reaches the level there is no ratio, only a count: leaving such seeds out
  would flatter the method that fails.

Source: none of the documents defines these; the area is common in active learning (e.g. "ALC", Guyon et al. 2011).
Fails when: curves fall and rise (the first crossing may be luck), or the common range is short.

A curve of 40 at 100 boxes and 60 at 200: mean height 50; 55 is reached three quarters of the way, at 175 boxes.

>>> area(np.array([100.0, 200.0]), np.array([40.0, 60.0]), 100, 200)
50.0
>>> cost_to_reach(np.array([100.0, 200.0]), np.array([40.0, 60.0]), 55.0)
175.0

Against twice the cost in both of two seeds, with the interval of the logarithms:

>>> s = savings(np.array([100.0, 150.0]), np.array([200.0, 300.0]))
>>> round(s.ratio, 3), round(s.low, 3), round(s.high, 3)
(0.5, 0.5, 0.5)
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from labelwise.report.comparison import Paired, pair, sign
from labelwise.report.curves import COSTS
from labelwise.report.spread import Group, values
from labelwise.report.tables import Table
from labelwise.report.wording import DASH, count, duration

UNITS = {"cost_boxes": "boxes", "cost_queries": "queries", "cost_seconds": "annotation time"}


@dataclass(frozen=True, slots=True)
class Savings:
    """Cost of a over cost of b: the geometric mean over `n` seeds and its 95 % confidence interval."""

    ratio: float
    low: float
    high: float
    n: int


@dataclass(frozen=True, slots=True)
class Efficiency:
    """The section of the page: sentences, and a table per kind of figure."""

    level: float
    verdicts: Sequence[str]
    tables: Sequence[Table]


def area(cost: np.ndarray, value: np.ndarray, low: float, high: float) -> float:
    """Mean height of the curve between the costs `low` and `high`; NaN where there is no such range."""
    if not high > low:
        return float("nan")
    inner = (cost > low) & (cost < high)
    x = np.concatenate([[low], cost[inner], [high]])
    return float(np.trapezoid(np.interp(x, cost, value), x) / (high - low))


def cost_to_reach(cost: np.ndarray, value: np.ndarray, level: float) -> float:
    """The least cost at which the curve is at `level`; NaN if it never is."""
    at = np.flatnonzero(value >= level)
    if not len(at):
        return float("nan")
    k = int(at[0])
    if k == 0:
        return float(cost[0])
    share = (level - value[k - 1]) / (value[k] - value[k - 1])
    return float(cost[k - 1] + share * (cost[k] - cost[k - 1]))


def savings(a: np.ndarray, b: np.ndarray) -> Savings | None:
    """The ratio of two costs, one per seed; None for fewer than two seeds, or where one is not known or not above 0."""
    if len(a) < 2 or not (np.isfinite(a) & np.isfinite(b) & (a > 0) & (b > 0)).all():
        return None
    p = pair(np.log(a)[:, None], np.log(b)[:, None]).overall
    mean, low, high = (float(np.exp(v[0])) for v in (p.mean, p.low, p.high))
    return Savings(mean, low, high, len(a))


def verdict(found: Savings, a: str, b: str, level: float, cost: str = "cost_boxes", metric: str = "AP50") -> str:
    """The saving in plain words.

    >>> verdict(Savings(0.69, 0.6, 0.8, 3), "A", "random", 60.0)
    'A needs 31 % fewer boxes than random to reach AP50 60.0, 95 % CI 20 to 40 % (3 seeds)'
    >>> verdict(Savings(0.9, 0.6, 1.3, 3), "A", "random", 60.0)
    'A against random: no difference in boxes to AP50 60.0 that 3 seeds can show (ratio 0.90, 95 % CI 0.60 to 1.30)'
    """
    what = UNITS[cost]
    if found.low <= 1 <= found.high:
        inner = f"ratio {found.ratio:.2f}, 95 % CI {found.low:.2f} to {found.high:.2f}"
        return (
            f"{a} against {b}: no difference in {what} to {metric} {level:.1f} that {found.n} seeds can show ({inner})"
        )
    word = ("less" if what == "annotation time" else "fewer") if found.ratio < 1 else "more"
    ends = sorted(abs(100 * (1 - end)) for end in (found.low, found.high))
    share, interval = abs(100 * (1 - found.ratio)), f"{ends[0]:.0f} to {ends[1]:.0f} %"
    needs = f"{a} needs {share:.0f} % {word} {what} than {b} to reach {metric} {level:.1f}"
    return f"{needs}, 95 % CI {interval} ({found.n} seeds)"


def _count(a: np.ndarray, b: np.ndarray, names: tuple[str, str], level: float, metric: str) -> str:
    """What can be said where not every seed reaches the level."""
    reach = [int(np.isfinite(cost).sum()) for cost in (a, b)]
    return (
        f"{names[0]} reaches {metric} {level:.1f} in {reach[0]} of {len(a)} seeds, {names[1]} in {reach[1]} of {len(b)}"
    )


def efficiency(groups: Sequence[Group], baseline: str) -> Efficiency | None:
    """Every group beside the baseline; the level is the highest AP50 that every seed of the baseline reaches.

    None where there is nothing to compare or nothing was measured.
    """
    base = next(g for g in groups if g.name == baseline)
    heights = 100 * values(base, "quality")
    best = [float(np.nanmax(row)) for row in heights if np.isfinite(row).any()]
    if not len(groups) > 1 or not best:
        return None
    level = min(best)
    verdicts = []
    reach = {g.name: _per_seed(g, lambda x, y: cost_to_reach(x, y, level), "cost_boxes") for g in groups}
    for group in groups:
        seeds = [s for s in group.seeds if s in base.seeds]
        if group is not base and len(seeds) > 1:
            a, b = (np.array([reach[g.name][s] for s in seeds]) for g in (group, base))
            saved = savings(a, b)
            names = group.name, base.name
            verdicts.append(
                verdict(saved, *names, level, metric=base.metric) if saved else _count(a, b, names, level, base.metric)
            )
    return Efficiency(level, verdicts, [_areas(groups, base), _costs(groups, level)])


def _per_seed(group: Group, measure: object, cost: str) -> dict[int, float]:
    x, y = values(group, cost), 100 * values(group, "quality")
    out = {}
    for row, seed in enumerate(group.seeds):
        known = np.isfinite(x[row]) & np.isfinite(y[row])
        out[seed] = float(measure(x[row][known], y[row][known])) if known.any() else float("nan")  # type: ignore[operator]
    return out


def _common_range(groups: Sequence[Group], cost: str) -> tuple[float, float]:
    """From the dearest start to the cheapest end of all seeds."""
    ends = []
    for group in groups:
        x = np.where(np.isfinite(values(group, "quality")), values(group, cost), np.nan)
        ends += [(np.nanmin(row), np.nanmax(row)) for row in x if np.isfinite(row).sum() > 1]
    if not ends:
        return np.nan, np.nan
    return max(low for low, _ in ends), min(high for _, high in ends)


def _areas(groups: Sequence[Group], base: Group) -> Table:
    rows = []
    ranges = {cost: _common_range(groups, cost) for cost in COSTS}
    for group in groups:
        cells = [group.name]
        for cost, (low, high) in ranges.items():
            own, other = (_per_seed(g, lambda x, y, lo=low, hi=high: area(x, y, lo, hi), cost) for g in (group, base))
            seen = np.array([v for v in own.values() if np.isfinite(v)])
            spread = f" ± {seen.std(ddof=1):.1f}" if len(seen) > 1 else ""
            cells.append(f"{seen.mean():.1f}{spread}" if len(seen) else DASH)
            cells.append(_difference(own, other) if group is not base else DASH)
        rows.append(cells)
    spans = [("", 1), *((f"over {name}", 2) for name in COSTS.values())]
    heads = ["Run", *(["Area", "Difference"] * len(COSTS))]
    ends = "; ".join(f"{UNITS[c]} {_amount(c, low)} to {_amount(c, high)}" for c, (low, high) in ranges.items())
    note = (
        f"Mean {base.metric} over the range of cost that all runs share ({ends}), mean ± standard deviation "
        f"over seeds, and its paired difference to {base.name} [95 % confidence interval]."
    )
    return Table("Area under the budget curve", heads, rows, note, frozenset(), spans=spans)


def _difference(own: dict[int, float], other: dict[int, float]) -> str:
    seeds = [s for s in own if np.isfinite(own[s]) and np.isfinite(other.get(s, np.nan))]
    if len(seeds) < 2:
        return DASH
    p: Paired = pair(np.array([[own[s]] for s in seeds]), np.array([[other[s]] for s in seeds]))
    mean, low, high = (float(v[0]) for v in (p.overall.mean, p.overall.low, p.overall.high))
    return f"{sign(mean)} [{sign(low)}, {sign(high)}]"


def _costs(groups: Sequence[Group], level: float) -> Table:
    rows = []
    for group in groups:
        cells = [group.name]
        for cost in COSTS:
            found = _per_seed(group, lambda x, y: cost_to_reach(x, y, level), cost)
            known = [v for v in found.values() if np.isfinite(v)]
            some = f" ({len(known)} of {len(found)})" if len(known) < len(found) else ""
            cells.append(f"{_amount(cost, float(np.mean(known)))}{some}" if known else "not reached")
        rows.append(cells)
    note = (
        "Mean over the seeds that reach it; in brackets how many do, and then the mean flatters: the others need more. "
        "The level is the highest that every seed of the baseline reaches; between rounds a curve is taken as straight."
    )
    return Table(f"Cost to reach {groups[0].metric} {level:.1f}", ["Run", *COSTS.values()], rows, note)


def _amount(cost: str, value: float) -> str:
    return duration(value) if cost == "cost_seconds" else count(value)
