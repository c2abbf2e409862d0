"""The learning curve of a run that goes on: what was measured, and the range in which the next rounds should lie."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.figure import Figure

from labelwise.report.outlook import WORDS, Step
from labelwise.report.results import RoundResult
from labelwise.report.svg import INK, SERIES, drawing, inline

HOUR_S = 3600.0


def chart(rounds: Sequence[RoundResult], metric: str, unit: str, steps: Sequence[Step] = ()) -> str | None:
    """Quality (points) against what was spent in the unit of the budget; None where nothing was measured.

    `steps`: the forecast (`outlook`): dashed, with the ranges that 80 % and 95 % of measurements should fall into.
    """
    seen = [one for one in rounds if one.quality is not None]
    if not seen:
        return None
    unit = unit if unit in WORDS else "boxes"
    scale = HOUR_S if unit == "seconds" else 1.0
    x = np.array([getattr(one, f"cost_{unit}") for one in seen], float) / scale
    y = np.array([100 * one.quality for one in seen if one.quality is not None])
    with drawing():
        figure = Figure(figsize=(6.6, 3.0), layout="constrained")
        ax = figure.subplots()
        if steps:
            ahead = np.append(x[-1], [x[-1] + step.spent / scale for step in steps])
            for low, high, alpha in (("low_95", "high_95", 0.12), ("low", "high", 0.2)):
                below, above = ([y[-1], *(100 * getattr(step, name) for step in steps)] for name in (low, high))
                ax.fill_between(ahead, below, above, color=SERIES[0], alpha=alpha, linewidth=0)
            middle = [y[-1], *(100 * step.value for step in steps)]
            ax.plot(ahead, middle, color=SERIES[0], linestyle="--", lw=1.6)
        ax.plot(x, y, color=SERIES[0], marker="o", markersize=5, lw=1.8)
        ax.annotate(f"{y[-1]:.1f}", (x[-1], y[-1]), (0, 8), textcoords="offset points", ha="center", color=INK)
        ax.margins(x=0.05, y=0.12)
        ax.set_xlabel("annotation time [h]" if unit == "seconds" else WORDS[unit])
        ax.set_ylabel(metric)
        numbers = ", ".join(f"{value:.1f}" for value in y)
        label = f"Learning curve: {metric} by round {numbers}. The table below has all numbers."
        return inline(figure, key="progress", label=label)
