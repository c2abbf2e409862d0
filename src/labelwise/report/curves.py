"""Learning curves: accuracy against boxes, queries and annotation time (000, figure 3), and differences with intervals.

A curve is the mean over the seeds of a name at every round, its band +- one standard deviation (none for one seed);
the place on the x axis is the mean cost of those seeds at that round.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float64
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from labelwise.report.comparison import Paired
from labelwise.report.spread import Group, settings_changed, spread, values
from labelwise.report.svg import INK, MUTED, SERIES, drawing, inline, say, short

METRICS = ("quality", "ap", "rare_quality")
COSTS = {"cost_boxes": "boxes labelled", "cost_queries": "questions asked", "cost_seconds": "annotation time"}
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "*")
DASHES = ("-", (0, (5, 1.5)), (0, (1.5, 1.2)), (0, (5, 1.5, 1, 1.5)))


@dataclass(frozen=True, slots=True, eq=False)
class Curve:
    """One line: `mean` +- `std` of the metric in points (AP x 100) at cost `x`; `std` is NaN for fewer than 2 seeds.

    `changed`: settings changed in that round; the point has a ring.
    """

    x: Float64[np.ndarray, " k"]
    mean: Float64[np.ndarray, " k"]
    std: Float64[np.ndarray, " k"]
    changed: Bool[np.ndarray, " k"]


def curve(group: Group, metric: str, cost: str) -> Curve:
    """The rounds that have a value, in order."""
    metrics = values(group, metric)
    mean, std, n = spread(metrics * 100)
    x, _, _ = spread(np.where(np.isfinite(metrics), values(group, cost), np.nan))
    return Curve(x[n > 0], mean[n > 0], std[n > 0], np.array(settings_changed(group), bool)[n > 0])


def metrics_of(groups: Sequence[Group]) -> list[str]:
    """The metrics that at least one run has."""
    return [m for m in METRICS if any(np.isfinite(values(g, m)).any() for g in groups)]


def learning_curves(groups: Sequence[Group], full: Group | None = None) -> str | None:
    """One row of panels per metric, one column per cost; None where nothing was measured. `full`: everything labelled,
    drawn as a level line at its last value.
    """
    metrics = metrics_of(groups)
    if not metrics:
        return None
    unit, scale = _time_unit(max((float(np.nanmax(values(g, "cost_seconds"))) for g in groups if g.rounds), default=0))
    several = len(groups) > 1
    columns = _legend_columns(groups)
    legend_rows = -(-len(groups) // columns) if several else 0
    with drawing():
        figure = Figure(figsize=(10.4, 2.5 * len(metrics) + 0.24 * legend_rows), layout="constrained")
        axes = figure.subplots(len(metrics), len(COSTS), squeeze=False, sharey="row")
        for row, metric in zip(axes, metrics, strict=True):
            for ax, (cost, cost_name) in zip(row, COSTS.items(), strict=True):
                for i, group in enumerate(groups):
                    _draw(ax, curve(group, metric, cost), i, group.name, scale if cost == "cost_seconds" else 1.0)
                if full is not None and full.rounds and np.isfinite(level := _last(full, metric)):
                    ax.axhline(level, color=MUTED, lw=1.2, linestyle=(0, (1, 2)), label=short(full.name, 44))
                ax.set_xlabel(f"{cost_name} [{unit}]" if cost == "cost_seconds" else cost_name)
                ax.margins(x=0.05, y=0.08)
                ax.locator_params(axis="x", nbins=6)
            row[0].set_ylabel(groups[0].name_of(metric))
        if several:
            handles, labels = axes[0, 0].get_legend_handles_labels()
            figure.legend(handles, labels, loc="outside upper left", ncols=columns, handlelength=3.2)
        names = ", ".join(groups[0].name_of(m) for m in metrics)
        label = f"Learning curves: {names} against boxes, questions and annotation time. The numbers are in the tables."
        return inline(figure, key="curves", label=label)


def one_curve(groups: Sequence[Group], full: Group | None, saved: tuple[float, float, float] | None) -> str | None:
    """Quality against annotation time, one panel; None where nothing was measured. `saved`: from and to what time
    (seconds) one method is as good as another ends, and how good (points).
    """
    if "quality" not in metrics_of(groups):
        return None
    unit, scale = _time_unit(max((float(np.nanmax(values(g, "cost_seconds"))) for g in groups if g.rounds), default=0))
    with drawing():
        figure = Figure(figsize=(6.6, 3.1), layout="constrained")
        ax = figure.subplots()
        for i, group in enumerate(groups):
            _draw(ax, curve(group, "quality", "cost_seconds"), i, group.name, scale)
        if full is not None and full.rounds and np.isfinite(level := _last(full, "quality")):
            ax.axhline(level, color=MUTED, lw=1.2, linestyle=(0, (1, 2)), label=short(full.name, 44))
        if saved is not None:
            start, end, height = saved[0] / scale, saved[1] / scale, saved[2]
            arrow = {"arrowstyle": "<->", "color": INK, "lw": 1.4, "shrinkA": 0, "shrinkB": 0}
            ax.annotate("", (start, height), (end, height), arrowprops=arrow)
            middle = ((start + end) / 2, height)
            ax.annotate("time saved", middle, (0, 5), textcoords="offset points", ha="center", color=INK)
        ax.set_xlabel(f"{COSTS['cost_seconds']} [{unit}]")
        ax.set_ylabel(groups[0].name_of("quality"))
        ax.margins(x=0.05, y=0.12)
        if len(groups) > 1 or full is not None:
            ax.legend(loc="lower right", handlelength=3.2)
        names = ", ".join(group.name for group in [*groups, *([full] if full is not None else [])])
        return inline(figure, key="headline", label=f"{groups[0].metric} against annotation time: {names}.")


def _last(group: Group, metric: str) -> float:
    """The mean of the last round, in points."""
    return 100 * float(spread(values(group, metric)[:, -1:])[0][0])


def _draw(ax: Axes, c: Curve, i: int, name: str, scale: float) -> None:
    colour, marker = SERIES[i % len(SERIES)], MARKERS[i % len(MARKERS)]
    dash = DASHES[(i + i // len(SERIES)) % len(DASHES)]
    ax.plot(
        c.x / scale, c.mean, color=colour, marker=marker, linestyle=dash, markersize=5, lw=1.8, label=short(name, 44)
    )
    if c.changed.any():
        x, y = c.x[c.changed] / scale, c.mean[c.changed]
        ax.plot(x, y, linestyle="none", marker=marker, markersize=11, color=colour, mfc="none", mew=1.6)
    band = np.isfinite(c.std)
    if band.sum() > 1:
        low, high = (c.mean - c.std)[band], (c.mean + c.std)[band]
        ax.fill_between(c.x[band] / scale, low, high, color=colour, alpha=0.15, linewidth=0)
    elif band.any():
        ax.errorbar(c.x[band] / scale, c.mean[band], yerr=c.std[band], color=colour, capsize=3, fmt="none")


def _legend_columns(groups: Sequence[Group]) -> int:
    longest = max((len(short(g.name, 44)) for g in groups), default=1)
    fits = max(1, 120 // (longest + 8))
    rows = -(-len(groups) // fits)
    return -(-len(groups) // max(rows, 1))


def _time_unit(seconds: float) -> tuple[str, float]:
    if seconds >= 2 * 3600:
        return "h", 3600.0
    return ("min", 60.0) if seconds >= 120 else ("s", 1.0)


def differences(rows: Sequence[tuple[str, Paired]], baseline: str, metric: str) -> str:
    """One line per name: mean difference to the baseline over the rounds, with its interval."""
    with drawing():
        figure = Figure(figsize=(7.6, 0.75 + 0.34 * len(rows)), layout="constrained")
        ax = figure.subplots()
        if not rows:
            say(ax, "nothing to compare")
        for y, (_, comparison) in enumerate(rows):
            mean, low, high = (float(v[0]) for v in _overall(comparison))
            clear = low > 0 or high < 0
            ax.plot([low, high], [y, y], color=SERIES[0], lw=2, solid_capstyle="butt")
            ax.plot([mean], [y], marker="o", markersize=7, color=SERIES[0], mfc=SERIES[0] if clear else "none", mew=1.6)
        ax.axvline(0, color=MUTED, lw=1)
        ax.set_yticks(range(len(rows)), [short(name, 44) for name, _ in rows])
        ax.set_ylim(len(rows) - 0.5, -0.5)
        ax.grid(visible=False, axis="y")
        ax.set_xlabel(f"difference in {metric} to {short(baseline, 44)} (points; right is better)")
        label = f"Difference in {metric} to {baseline} with confidence intervals. The numbers are in the table below."
        return inline(figure, key=f"differences {metric}", label=label)


def _overall(comparison: Paired) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    return comparison.overall.mean, comparison.overall.low, comparison.overall.high
