"""What a budget buys: how much of the baseline's budget a method needs to get where that ends, and the area under its
curve; against boxes, questions and annotation time, for all classes and for the rare ones (`report.reach`).

Source: none of the documents defines these; the area is common in active learning (e.g. "ALC", Guyon et al. 2011).
Fails when: curves fall at their end, or the common range is short.

>>> conclusion("A", "random", "accuracy", 50.0, "cost_queries", Estimate(0.52, 0.45, 0.6, 50))
"A reaches random's last accuracy (50.0) with 52 % (45 to 60) of random's questions, the start included (50 seeds)"
>>> conclusion("A", "random", "AP50", 50.0, "cost_boxes", Estimate(0.5, 0.4, 0.6, 3))
"A reaches random's last AP50 (50.0) with 50 % (40 to 60) of random's boxes, the start included (3 seeds); no verdict \
below 8 paired seeds"
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from labelwise.report import reach
from labelwise.report.bootstrap import RESAMPLES, Estimate
from labelwise.report.comparison import sign
from labelwise.report.curves import COSTS, metrics_of
from labelwise.report.spread import Group, values
from labelwise.report.tables import Table
from labelwise.report.wording import DASH, count, duration, plural, share_needed, why_no_verdict

UNITS = {"cost_boxes": "boxes", "cost_queries": "questions", "cost_seconds": "annotation time"}


@dataclass(frozen=True, slots=True)
class Part:
    """One metric: a sentence per method, and a table per kind of figure."""

    metric: str
    sentences: Sequence[str]
    tables: Sequence[Table]


@dataclass(frozen=True, slots=True)
class Efficiency:
    """The section of the page."""

    parts: Sequence[Part]


def conclusion(a: str, b: str, metric: str, level: float, cost: str, found: Estimate) -> str:
    """The one sentence with the number."""
    what, seeds = f"{b}'s last {metric} ({level:.1f})", f"({plural(found.n, 'seed')})"
    shown = share_needed(found.value, found.low, found.high)
    if not np.isfinite(found.value):
        text = f"{a} does not reach {what} within its own {UNITS[cost]} {seeds}"
    else:
        text = f"{a} reaches {what} with {shown} of {b}'s {UNITS[cost]}, the start included {seeds}"
    why = why_no_verdict(found.n, 0.0)
    return f"{text}; {why}" if why else text


def efficiency(groups: Sequence[Group], baseline: str) -> Efficiency | None:
    """Every group beside the baseline; None where there is nothing to compare or nothing was measured."""
    base = next(g for g in groups if g.name == baseline)
    shown = [metric for metric in ("quality", "rare_quality") if metric in metrics_of(groups)]
    parts = [part for metric in shown if (part := _part(groups, base, metric)) is not None]
    return Efficiency(parts) if len(groups) > 1 and parts else None


def _part(groups: Sequence[Group], base: Group, metric: str) -> Part | None:
    heights = 100 * values(base, metric)
    if not np.isfinite(heights).any():
        return None
    named, others = base.name_of(metric), [g for g in groups if g is not base]
    sentences, rows = [], []
    for group in others:
        cells, pairs = [], 0
        for cost in COSTS:
            found = reach.pairing(group, base, cost, metric)
            if found is None:
                cells.append(DASH)
                continue
            share, pairs = reach.share_needed(found.own, found.base), len(found.seeds)
            cells.append(share_needed(share.value, share.low, share.high))
            if cost == "cost_queries":
                level = reach.level_of(found.base)
                sentences.append(conclusion(group.name, base.name, named, level, cost, share))
                if found.base.value[:, 0].mean() >= level:
                    sentences[-1] += f"; {base.name} itself did not get above its start"
                if found.missing:
                    sentences[-1] += f"; without the seeds {reach.text_of(found.missing)}: not finished by both"
        rows.append([group.name, str(pairs), *cells])
    note = (
        f"All that is spent until the mean curve is at {base.name}'s mean last {named} for the first time, as a share "
        f"of all that {base.name} spent, the common start included (95 % interval by {RESAMPLES:,} bootstrap resamples "
        "of the seeds, paired); between rounds a curve is taken as straight. Not reached: its curve ends below."
    )
    heads = ["Run", "Pairs", *COSTS.values()]
    needed = Table(f"Share of {base.name}'s budget that its last {named} takes", heads, rows, note)
    return Part(named, sentences, [needed, _areas(groups, base, metric)])


def _per_seed(group: Group, cost: str, metric: str, low: float, high: float) -> list[float]:
    """The mean height of every seed's curve between two costs."""
    out = []
    for x, y in zip(values(group, cost), 100 * values(group, metric), strict=True):
        known = np.isfinite(x) & np.isfinite(y)
        out.append(reach.height(x[known], y[known], low, high) if known.any() else float("nan"))
    return out


def _common_range(groups: Sequence[Group], cost: str, metric: str) -> tuple[float, float]:
    """From the dearest start to the cheapest end of all seeds."""
    ends = []
    for group in groups:
        x = np.where(np.isfinite(values(group, metric)), values(group, cost), np.nan)
        ends += [(np.nanmin(row), np.nanmax(row)) for row in x if np.isfinite(row).sum() > 1]
    if not ends:
        return np.nan, np.nan
    return max(low for low, _ in ends), min(high for _, high in ends)


def _areas(groups: Sequence[Group], base: Group, metric: str) -> Table:
    rows = []
    ranges = {cost: _common_range(groups, cost, metric) for cost in COSTS}
    for group in groups:
        cells = [group.name]
        for cost, span in ranges.items():
            own = np.array(_per_seed(group, cost, metric, *span))
            seen = own[np.isfinite(own)]
            spread = f" ± {seen.std(ddof=1):.1f}" if len(seen) > 1 else ""
            cells.append(f"{seen.mean():.1f}{spread}" if len(seen) else DASH)
            cells.append(_difference(group, base, cost, metric, span) if group is not base else DASH)
        rows.append(cells)
    spans = [("", 1), *((f"over {name}", 2) for name in COSTS.values())]
    heads = ["Run", *(["Area", "Difference"] * len(COSTS))]
    ends = "; ".join(f"{UNITS[c]} {_amount(c, low)} to {_amount(c, high)}" for c, (low, high) in ranges.items())
    note = (
        f"Mean {base.name_of(metric)} over the range of cost that all runs share ({ends}), mean ± standard deviation "
        f"over seeds, and its paired difference to {base.name} [95 % interval by {RESAMPLES:,} bootstrap resamples of "
        "the seeds]."
    )
    named = "" if metric == "quality" else f", {base.name_of(metric)}"
    return Table(f"Area under the budget curve{named}", heads, rows, note, frozenset(), spans=spans)


def _difference(group: Group, base: Group, cost: str, metric: str, span: tuple[float, float]) -> str:
    found = reach.pairing(group, base, cost, metric)
    if found is None:
        return DASH
    gain = reach.area_gain(found.own, found.base, span)
    return f"{sign(gain.value)} [{sign(gain.low)}, {sign(gain.high)}]" if np.isfinite(gain.low) else DASH


def _amount(cost: str, value: float) -> str:
    return duration(value) if cost == "cost_seconds" else count(value)
