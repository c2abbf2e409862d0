"""What a classifier's questions tell it: how often it is wrong about what is asked (001, Fig. 3.3 to 3.5).

Source: 001, section 3.3.2: the samples are sorted by score, and the accuracy of the model on the highest of them says
how much their labels would teach it; the lower, the more. Ground truth of the pool is needed: this is for study.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float
from matplotlib.figure import Figure

from labelwise.report.curves import DASHES, MARKERS
from labelwise.report.results import BINS, SHARES, Informativeness
from labelwise.report.spread import Group, spread
from labelwise.report.svg import MUTED, SERIES, drawing, inline, short
from labelwise.report.tables import Table
from labelwise.report.wording import points


def measure(
    round_number: int,
    scores: Float[np.ndarray, " n"],
    right: Bool[np.ndarray, " n"],
    dispersion: Float[np.ndarray, " n"] | None = None,
) -> Informativeness:
    """From one score per unlabelled image, and whether the model's class for it is the true one.

    The higher score is wrong, the other one right: accuracy 0 on the first half, 0.5 on all.

    >>> found = measure(1, np.array([0.1, 0.9]), np.array([True, False]), np.array([0.0, 0.55]))
    >>> found.accuracy[-3:].tolist(), found.dispersion_counts.tolist()
    ([0.0, 0.5, 0.5], [1, 0, 0, 0, 0, 1, 0, 0, 0, 0])
    """
    n = len(scores)
    order = np.argsort(-scores, kind="stable")
    hits = np.cumsum(right[order])
    upto = np.maximum(1, np.round(np.array(SHARES) * n).astype(np.int64))
    accuracy = hits[upto - 1] / upto if n else np.full(len(SHARES), np.nan)
    if dispersion is None:
        return Informativeness(round_number, accuracy)
    bins = np.minimum((dispersion * BINS).astype(np.int64), BINS - 1)
    counts = np.bincount(bins, minlength=BINS)
    hits = np.bincount(bins, right, minlength=BINS)
    share = np.divide(hits, counts, out=np.full(BINS, np.nan), where=counts > 0)
    return Informativeness(round_number, accuracy, counts, share)


class Analysis(NamedTuple):
    """A chart, what it shows, and its numbers."""

    chart: str
    caption: str
    tables: list[Table]


def by_score(groups: Sequence[Group]) -> Analysis | None:
    """Accuracy on the most informative share of the pool, in the first scored round (Fig. 3.5)."""
    lines = []
    for group in groups:
        first = [min(run.informativeness, key=lambda i: i.round) for run in group.runs if run.informativeness]
        if first:
            mean, std, _ = spread(np.stack([one.accuracy for one in first]))
            lines.append((group.name, mean, std))
    if not lines:
        return None
    with drawing():
        figure = Figure(figsize=(7.6, 3.2), layout="constrained")
        ax = figure.subplots()
        for i, (name, mean, _) in enumerate(lines):
            colour, marker, dash = SERIES[i % len(SERIES)], MARKERS[i % len(MARKERS)], DASHES[i % len(DASHES)]
            x = 100 * np.array(SHARES)
            ax.plot(x, 100 * mean, color=colour, marker=marker, ls=dash, markersize=5, label=short(name, 44))
        ax.set_xlabel("share of the unlabelled pool, highest scores first [%]")
        ax.set_ylabel("accuracy of the model there")
        ax.legend(loc="lower right")
        chart = inline(
            figure, key="informativeness", label="Accuracy on the pool by score. The numbers are in the table."
        )
    rows = [[name, *(points(float(m), float(s)) for m, s in zip(mean, std, strict=True))] for name, mean, std in lines]
    heads = ["Run", *(f"{100 * share:g} %" for share in SHARES)]
    note = "Accuracy of the first model on the images with the highest scores; the lower, the more there is to learn."
    return Analysis(chart, note, [Table("Accuracy on what would be asked", heads, rows, note)])


def by_dispersion(group: Group, key: str) -> Analysis | None:
    """Images per bin of dispersion, and the accuracy of each bin, for up to three rounds (Fig. 3.3)."""
    found = [i for run in group.runs[:1] for i in run.informativeness if i.dispersion_counts is not None]
    shown = found[:3]
    if not shown:
        return None
    centres = (np.arange(BINS) + 0.5) / BINS
    rows = []
    with drawing():
        figure = Figure(figsize=(3.4 * len(shown), 2.6), layout="constrained")
        for ax, one in zip(figure.subplots(1, len(shown), squeeze=False)[0], shown, strict=True):
            counts, accuracy = one.dispersion_counts, one.dispersion_accuracy
            assert counts is not None and accuracy is not None
            ax.bar(centres, counts, width=0.8 / BINS, color=SERIES[0], alpha=0.5)
            ax.set_title(f"round {one.round}")
            ax.set_xlabel("label dispersion")
            right = ax.twinx()
            right.plot(centres, 100 * accuracy, color=MUTED, marker="o", markersize=4)
            right.set_ylim(0, 100)
            right.grid(visible=False)
            rows.append([f"{one.round}: images", *(f"{c:,}" for c in counts)])
            rows.append([f"{one.round}: accuracy", *(points(float(a)) for a in accuracy)])
        chart = inline(
            figure, key=key, label="Dispersion of the pool and accuracy by dispersion; numbers in the table."
        )
    heads = ["Round", *(f"{low / BINS:.1f}–{(low + 1) / BINS:.1f}" for low in range(BINS))]
    caption = (
        f"{group.name}, seed {group.runs[0].seed}. Bars: images by label dispersion; line: accuracy there (0 to 100)."
    )
    return Analysis(chart, caption, [Table(f"{group.name}: label dispersion of the pool", heads, rows)])
