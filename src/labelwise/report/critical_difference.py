"""Which method is better over several data sets? Mean ranks with critical differences.

On every data set a method's value is the mean quality over its rounds after the first and over the seeds that all
methods have finished there; the highest has rank 1, equal ones share their mean rank. Friedman's test asks whether the
ranks differ at all; by Nemenyi's test two methods differ where their mean ranks lie further apart than

    CD = q(0.95; k, inf) / sqrt(2) * sqrt(k (k + 1) / (6 N)),    k methods, N data sets, q of the studentized range.

Source: Demsar, Statistical comparisons of classifiers over multiple data sets, JMLR 7, 2006, sections 3.2.2 and 3.2.4.
Differs from the paper: none of the four documents ranks over data sets.
Fails when: data sets are few: with 5 methods no two of them can differ on fewer than 3 data sets (CD 3.5 of at most 4),
and data sets that are alike count as if they were not.

Three methods on four data sets, always in the same order: ranks 1, 2, 3. Friedman: 12 * 4 / (3 * 4) * ((1 - 2)^2 + 0 +
(3 - 2)^2) = 8, p = exp(-8 / 2) = 0.0183. CD = 3.314 / sqrt(2) * sqrt(12 / 24) = 1.657 < 2.

>>> found = rank(np.array([[3.0, 2.0, 1.0]] * 4))
>>> found.mean.tolist(), round(found.p, 4), round(found.critical, 3), found.ties
([1.0, 2.0, 3.0], 0.0183, 1.657, ((0, 1), (1, 2)))
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import jinja2
import numpy as np
from jaxtyping import Float64
from markupsafe import Markup
from matplotlib.figure import Figure
from scipy import stats

from labelwise.report.headroom import later_mean, without_bounds
from labelwise.report.results import RunResult
from labelwise.report.spread import groups
from labelwise.report.svg import INK, MUTED, SERIES, drawing, inline, short
from labelwise.report.tables import Table
from labelwise.report.wording import DASH, join_words, plural
from labelwise.types import LabelwiseError
from labelwise.types.disk import write_text

HERE = Path(__file__).parent
ALPHA = 0.05


@dataclass(frozen=True, slots=True, eq=False)
class Ranks:
    """`each`: ranks [data sets, methods]; `mean`: over the data sets; `p`: of Friedman's test (NaN for two methods);
    `ties`: first and last place, in the order of mean ranks, of methods that do not differ.
    """

    each: Float64[np.ndarray, "data methods"]
    mean: Float64[np.ndarray, " methods"]
    p: float
    critical: float
    ties: tuple[tuple[int, int], ...]


@dataclass(frozen=True, slots=True)
class Ranking:
    """What the page shows."""

    sentences: Sequence[str]
    table: Table
    chart: str


def rank(values: Float64[np.ndarray, "data methods"]) -> Ranks:
    """The ranks of the methods by their values, high is good.

    Raises:
        LabelwiseError: fewer than two data sets or methods, or a value that is not finite.
    """
    n, k = values.shape if values.ndim == 2 else (0, 0)
    if n < 2 or k < 2 or not np.isfinite(values).all():
        raise LabelwiseError(
            f"ranking: got {n} data sets and {k} methods; expected at least two of each, with a number for all"
        )
    each = stats.rankdata(-values, axis=1)
    mean = each.mean(axis=0)
    p = float("nan")
    if k > 2:
        same = bool((each == each[:, :1]).all())
        p = 1.0 if same else float(stats.friedmanchisquare(*values.T).pvalue)
    q = float(stats.studentized_range.ppf(1 - ALPHA, k, math.inf)) / math.sqrt(2)
    critical = q * math.sqrt(k * (k + 1) / (6 * n))
    return Ranks(each, mean, p, critical, _ties(np.sort(mean), critical))


def _ties(mean: np.ndarray, critical: float) -> tuple[tuple[int, int], ...]:
    """The longest runs of sorted mean ranks that lie within the critical difference, of two methods or more."""
    last = np.searchsorted(mean, mean + critical + 1e-9, side="right") - 1
    out: list[tuple[int, int]] = []
    for first, end in enumerate(last.tolist()):
        if end > first and (not out or end > out[-1][1]):
            out.append((first, end))
    return tuple(out)


def ranking(results: Mapping[str, Sequence[RunResult]]) -> Ranking:
    """The ranking of the methods that every data set has, by the results of each."""
    values, metrics, few = {}, {}, []
    for data, runs in results.items():
        found = [g for g in without_bounds(groups(runs)) if not g.is_all_data]
        means = {g.name: later_mean(g) for g in found}
        common = set.intersection(*map(set, means.values())) if means else set()
        values[data] = {name: float(np.mean([own[s] for s in common])) for name, own in means.items() if common}
        metrics[data] = found[0].metric if found else ""
        few += [f"{data} ({plural(len(common), 'seed')})"]
    names = [name for name in next(iter(values.values()), {}) if all(name in own for own in values.values())]
    table = np.array([[own[name] for name in names] for own in values.values()], np.float64).reshape(len(values), -1)
    ranks = rank(table)
    order = np.argsort(ranks.mean, kind="stable")
    rows = [
        [names[m], f"{ranks.mean[m]:.2f}", *(f"{table[d, m]:.1f} ({ranks.each[d, m]:g})" for d in range(len(values)))]
        for m in order
    ]
    heads = ["Run", "Mean rank", *(f"{data}, {metrics[data]}" for data in values)]
    note = (
        f"Mean over the rounds after the first and the seeds that all have, with the rank (1 is best). Seeds: "
        f"{join_words(few)}. Critical difference of mean ranks {ranks.critical:.2f} (Nemenyi, 0.05)."
    )
    shown = Table("Ranks over the data sets", heads, rows, note)
    return Ranking(_sentences(ranks, names, order), shown, diagram(ranks, names))


def _sentences(found: Ranks, names: Sequence[str], order: np.ndarray) -> list[str]:
    n, best = len(found.each), order[0]
    first = f"Lowest mean rank over {plural(n, 'data set')}: {names[best]} ({found.mean[best]:.2f} of {len(names)})."
    if math.isfinite(found.p) and found.p > ALPHA:
        return [first, f"No difference between the methods can be shown (Friedman p = {found.p:.2g})."]
    worse = [names[m] for m in order if found.mean[m] - found.mean[best] > found.critical]
    p = f" (Friedman p = {found.p:.2g})" if math.isfinite(found.p) else ""
    if not worse:
        return [first, f"No method is further behind than the critical difference, {found.critical:.2f}{p}."]
    return [first, f"Further behind than the critical difference, {found.critical:.2f}: {join_words(worse)}{p}."]


def diagram(found: Ranks, names: Sequence[str]) -> str:
    """Mean ranks on a line, best at the left; a bar joins methods that do not differ."""
    order, k = np.argsort(found.mean, kind="stable"), len(names)
    half = -(-k // 2)
    with drawing():
        figure = Figure(figsize=(8.4, 1.0 + 0.16 * len(found.ties) + 0.26 * half), layout="constrained")
        ax = figure.subplots()
        ax.set_axis_off()
        deepest = -0.5 - 0.35 * len(found.ties) - 0.6 * half
        ax.set_xlim(1 - 0.75 * (k - 1), k + 0.75 * (k - 1))
        ax.set_ylim(deepest - 0.3, 1.6)
        ax.plot([1, k], [0, 0], color=MUTED, lw=1)
        for tick in range(1, k + 1):
            ax.plot([tick, tick], [0, 0.12], color=MUTED, lw=1)
            ax.text(tick, 0.2, str(tick), ha="center", va="bottom", color=MUTED)
        wide = min(found.critical, k - 1.0)
        ax.plot([1, 1 + wide], [1.05, 1.05], color=INK, lw=2, solid_capstyle="butt")
        ax.text(1 + wide + 0.05, 1.05, f"critical difference {found.critical:.2f}", ha="left", va="center", color=INK)
        for row, (first, last) in enumerate(found.ties):
            ends, y = found.mean[order[[first, last]]], -0.3 - 0.35 * row
            ax.plot([ends[0] - 0.04, ends[1] + 0.04], [y, y], color=SERIES[0], lw=4, solid_capstyle="butt")
        for place, m in enumerate(order):
            left = place < half
            y = -0.5 - 0.35 * len(found.ties) - 0.6 * (place if left else k - 1 - place)
            x, text = (0.95, f"{short(names[m], 30)}  {found.mean[m]:.2f}")
            end = x if left else k + 0.05
            ax.plot([found.mean[m], found.mean[m], end], [0, y, y], color=INK, lw=0.9)
            ax.text(end + (-0.05 if left else 0.05), y, text, ha="right" if left else "left", va="center")
        label = "Mean ranks of the methods, with bars that join those that do not differ. The numbers are in the table."
        return inline(figure, key="ranking", label=label)


def write(path: Path, results: Mapping[str, Sequence[RunResult]], *, title: str = "Ranking over data sets") -> Ranking:
    """Writes the page of a ranking, and gives what it says."""
    found = ranking(results)
    loader = jinja2.FileSystemLoader(HERE)
    environment = jinja2.Environment(loader=loader, autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True)
    style = Markup((HERE / "style.css").read_text("utf-8"))
    page = environment.get_template("ranking.html.j2")
    write_text(path, page.render(title=title, style=style, ranking=found, chart=Markup(found.chart), dash=DASH))
    return found
