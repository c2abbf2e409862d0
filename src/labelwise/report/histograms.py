"""Class histograms as in 000, figure 1: what is labelled, the pseudo labels, the picks without and with class balance.

Bars are shares of a distribution, so that four of very different sizes compare; the count stands at the end of a bar.
Classes are sorted by falling number of labelled boxes.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from labelwise.report.spread import Group, entropy_nats, imbalance, mean_counts, results_of
from labelwise.report.svg import INK, SERIES, drawing, inline, say, short

DISTRIBUTIONS = {
    "class_counts_truth": "Labelled so far",
    "class_counts_pseudo": "Pseudo labels",
    "class_counts_picks_unbalanced": "Picks by score alone",
    "class_counts_picks": "Picks that were asked",
}
MOST_CLASSES = 80
"""More are left out of the figure (it says so); the table has them all."""


def shown_round(group: Group) -> int | None:
    """The last round with picks, or else the last that counts anything."""
    for wanted in (("class_counts_picks",), tuple(DISTRIBUTIONS)):
        for number in reversed(group.rounds):
            if any(sum(mean_counts(group, number, d)) > 0 for d in wanted):
                return number
    return None


def order(group: Group, number: int) -> list[int]:
    """Class numbers by falling count of labelled boxes; by the other distributions where that ties."""
    columns = [mean_counts(group, number, d) for d in DISTRIBUTIONS]
    return sorted(range(len(group.classes)), key=lambda c: tuple(-column[c] for column in columns))


def distributions_of(group: Group, number: int) -> list[str]:
    """The distributions that some seed has at this round; what was not recorded gets no panel."""
    return [d for d in DISTRIBUTIONS if any(getattr(r, d) for r in results_of(group, number))]


def facts(counts: Sequence[float]) -> str:
    """Imbalance factor and entropy in words."""
    factor, absent = imbalance(counts)
    if math.isnan(factor):
        return "none"
    missing = f" ({absent} absent)" if absent else ""
    return f"imbalance {factor:.3g}{missing}, entropy {entropy_nats(counts):.2f} nats"


def class_histograms(group: Group, number: int, *, key: str) -> str:
    """Up to four panels side by side, one bar per class."""
    classes = order(group, number)[:MOST_CLASSES]
    panels = distributions_of(group, number)
    n = max(len(classes), 1)
    step, size = (0.235, 9.0) if n <= 30 else (0.165, 7.0)
    with drawing():
        figure = Figure(figsize=(10.4, 1.05 + step * max(n, 3)), layout="constrained")
        axes = figure.subplots(1, max(len(panels), 1), squeeze=False, sharey=True)[0]
        if not panels:
            say(axes[0], "no class counts were recorded")
        most = 0.0
        for i, (ax, distribution) in enumerate(zip(axes, panels, strict=False)):
            counts = mean_counts(group, number, distribution)
            most = max(most, _panel(ax, [counts[c] for c in classes], sum(counts), SERIES[i], size))
            factor, absent = imbalance(counts)
            lines = (
                f"({'abcd'[i]}) {DISTRIBUTIONS[distribution]}",
                "none" if math.isnan(factor) else f"imbalance {factor:.3g}" + (f", {absent} absent" if absent else ""),
                "" if math.isnan(factor) else f"entropy {entropy_nats(counts):.2f} nats",
            )
            ax.set_title("\n".join(lines), loc="left", linespacing=1.45)
        for ax in axes[: len(panels)]:
            ax.set_xlim(0, max(most, 1.0) * 1.22)
            ax.set_xlabel("share of boxes [%]")
        if panels:
            axes[0].set_yticks(range(n), [short(group.classes[c], 26) for c in classes] or [""], fontsize=size)
            axes[0].set_ylim(n - 0.4, -0.6)
        label = "; ".join(f"{DISTRIBUTIONS[d]}: {facts(mean_counts(group, number, d))}" for d in panels)
        return inline(figure, key=key, label=f"Class histograms of {group.name}, round {number}. {label}.")


def _panel(ax: Axes, counts: Sequence[float], total: float, colour: str, size: float) -> float:
    """Draw the bars; the largest share in percent."""
    shares = np.asarray(counts, float) * 100 / total if total > 0 else np.zeros(len(counts))
    ax.barh(range(len(counts)), shares, height=0.72, color=colour)
    for y, (share, count) in enumerate(zip(shares, counts, strict=True)):
        text = f"{count:.0f}" if count >= 10 or count == int(count) else f"{count:.1f}"
        number = ax.annotate(
            text, (share, y), (3, 0), textcoords="offset points", va="center", fontsize=size - 1, color=INK
        )
        number.set_in_layout(False)  # the axis leaves room for it; measuring hundreds of them is slow
    ax.grid(visible=False, axis="y")
    ax.locator_params(axis="x", nbins=4)
    return float(shares.max(initial=0.0))
