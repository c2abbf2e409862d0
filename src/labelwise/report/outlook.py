"""What the next budget buys, in words, numbers and a picture: the forecast of one name's learning curve.

Of several seeds the mean curve is forecast, with the seeds drawn again `RESAMPLES` times (bootstrap): the components of
all these fits are one mixture.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Float64

from labelwise.report import forecast
from labelwise.report.forecast import ENOUGH, FURTHEST, PRIOR, Fit, Mixture, Prior
from labelwise.report.results import RoundResult, RunResult
from labelwise.report.spread import Group, values
from labelwise.report.wording import count, duration

if TYPE_CHECKING:
    from labelwise.report.tables import Table

RESAMPLES = 40
STEPS = (1, 2, 4)
"""Forecasts are given for so many further rounds like the last one, as far as a forecast goes."""
WORDS = {"boxes": "boxes", "queries": "questions", "images": "images", "seconds": "of annotation"}


@dataclass(frozen=True, slots=True)
class Step:
    """What more labels buy: `spent` more in the unit of the budget, `hours` of people; all qualities are fractions."""

    spent: float
    boxes: float
    queries: float
    hours: float
    value: float
    low: float
    high: float
    low_95: float
    high_95: float
    gain: float
    gain_low: float
    gain_high: float


@dataclass(frozen=True, slots=True)
class Outlook:
    """`steps` are empty where there is too little to tell; then `sentences` say why."""

    name: str
    metric: str
    sentences: Sequence[str]
    steps: Sequence[Step] = ()
    chart: str | None = None
    table: Table | None = None


@dataclass(frozen=True, slots=True, eq=False)
class Rounds:
    """The rounds of a name that have a quality: cost and quality per seed, [seeds, rounds]."""

    unit: str
    cost: Float64[np.ndarray, "seeds rounds"]
    quality: Float64[np.ndarray, "seeds rounds"]
    spent: Mapping[str, Float64[np.ndarray, " rounds"]] = field(default_factory=dict)
    """Mean boxes, queries and seconds at each of these rounds."""

    def per_unit(self, name: str) -> float:
        """How much of another cost went with one unit of the budget in the last round."""
        one, other = np.diff(self.cost.mean(axis=0))[-1], np.diff(self.spent[name])[-1]
        return float(other / one)

    def fits(self, prior: Prior = PRIOR) -> list[Fit]:
        """One fit per resample of the seeds; a single one of one seed."""
        n = len(self.cost)
        prior = replace(prior, noise=prior.noise / n**0.5)
        rows = np.arange(n)[None] if n == 1 else np.random.default_rng(0).integers(0, n, (RESAMPLES, n))
        return [forecast.fitted(self.cost.mean(axis=0), self.quality[row].mean(axis=0), prior) for row in rows]


def rounds_of(group: Group) -> Rounds:
    """Rounds that every seed has finished, with a cost above that of the round before."""
    unit = group.runs[0].budget_unit if group.runs[0].budget_unit in WORDS else "boxes"
    cost, quality = values(group, f"cost_{unit}"), values(group, "quality")
    known = (np.isfinite(cost) & np.isfinite(quality)).all(axis=0)
    mean = np.where(known, np.nan_to_num(cost).mean(axis=0), 0)
    known &= mean > np.concatenate([[0], np.maximum.accumulate(mean)[:-1]])
    spent = {name: values(group, f"cost_{name}")[:, known].mean(axis=0) for name in ("boxes", "queries", "seconds")}
    return Rounds(unit, cost[:, known], quality[:, known], spent)


def mixed(mixtures: Sequence[Mixture]) -> Mixture:
    """One mixture of several, each as likely."""
    weight, mean, std = (np.concatenate([getattr(one, name) for one in mixtures]) for name in ("weight", "mean", "std"))
    return Mixture(weight / len(mixtures), mean, std)


def outlook(group: Group, *, picture: bool = True) -> Outlook:
    """The forecast of a name; `picture`: with chart and table."""
    rounds = rounds_of(group)
    n = rounds.cost.shape[1]
    if n < ENOUGH:
        had = f"{n} round{'s' if n != 1 else ''} with a measured {group.metric}"
        return Outlook(
            group.name, group.metric, [f"Too little to tell what more labels would buy: {had}, {ENOUGH} are needed."]
        )
    fits = rounds.fits()
    now = float(rounds.cost.mean(axis=0)[-1])
    last = now - float(rounds.cost.mean(axis=0)[-2])
    steps = [_step(rounds, fits, now, k * last) for k in STEPS if now + k * last <= FURTHEST * now]
    if not steps:
        return Outlook(
            group.name,
            group.metric,
            [f"The last round cost more than {FURTHEST - 1:g} times all before it: no curve can be seen so far ahead."],
        )
    found = Outlook(group.name, group.metric, sentences(group.metric, rounds.unit, steps), steps)
    return (
        replace(found, chart=_chart(group, rounds, fits, steps), table=_table(found, rounds.unit)) if picture else found
    )


def _step(rounds: Rounds, fits: Sequence[Fit], now: float, more: float) -> Step:
    value = mixed([fit.value(now + more) for fit in fits])
    gain = mixed([fit.gain(now + more) for fit in fits])
    spent = {name: rounds.per_unit(name) * more for name in ("boxes", "queries", "seconds")}
    (low, high), (low_95, high_95) = ([min(max(v, 0), 1) for v in value.interval(p)] for p in (0.8, 0.95))
    middle = min(max(value.quantile(0.5), 0), 1)
    gains = (gain.quantile(0.5), *gain.interval(0.8))
    amounts = (more, spent["boxes"], spent["queries"], spent["seconds"] / 3600)
    return Step(*amounts, middle, low, high, low_95, high_95, *gains)


def amount(unit: str, spent: float) -> str:
    """A budget in words.

    >>> amount("queries", 120), amount("seconds", 5400)
    ('120 questions', '1 h 30 min of annotation')
    """
    return f"{duration(spent) if unit == 'seconds' else count(round(spent))} {WORDS[unit]}"


def sentences(metric: str, unit: str, steps: Sequence[Step]) -> list[str]:
    """The next round and the furthest one, each in a sentence; what that is good for."""
    told = []
    for step in [steps[0], *steps[-1:]][: len(steps)]:
        time = "" if unit == "seconds" else f" (about {duration(3600 * step.hours)} of annotation)"
        told.append(
            f"The next {amount(unit, step.spent)}{time} should bring {100 * step.gain:+.1f} points of {metric} "
            f"(80 %: {100 * step.gain_low:+.1f} to {100 * step.gain_high:+.1f}); measured then: "
            f"{100 * step.value:.1f} (80 %: {100 * step.low:.1f} to {100 * step.high:.1f}, "
            f"95 %: {100 * step.low_95:.1f} to {100 * step.high_95:.1f})."
        )
    return told


def _table(found: Outlook, unit: str) -> Table:
    from labelwise.report.tables import Table  # half a second, which the terminal does not need

    rows = []
    for step in found.steps:
        ranges = [(step.gain, step.gain_low, step.gain_high), (step.value, step.low, step.high)]
        cells = [f"{100 * a:.1f} ({100 * b:.1f} to {100 * c:.1f})" for a, b, c in ranges]
        wide = f"{100 * step.low_95:.1f} to {100 * step.high_95:.1f}"
        costs = (count(round(step.boxes)), count(round(step.queries)), duration(3600 * step.hours))
        rows.append([amount(unit, step.spent), *costs, *cells, wide])
    return Table(
        f"{found.name}: what more labels buy",
        ["More", "Boxes", "Questions", "Annotation", "Gain, points (80 %)", f"{found.metric} then (80 %)", "95 %"],
        rows,
        "Several families of curves, weighted by how well they fit. Boxes, questions and time as in the last round. "
        "How often such intervals hold: benchmarks/results/forecast.csv.",
    )


def _chart(group: Group, rounds: Rounds, fits: Sequence[Fit], steps: Sequence[Step]) -> str:
    from matplotlib.figure import Figure

    from labelwise.report.svg import SERIES, drawing, inline

    scale = 3600.0 if rounds.unit == "seconds" else 1.0
    x, y = rounds.cost.mean(axis=0), 100 * rounds.quality.mean(axis=0)
    ahead = np.linspace(x[-1], x[-1] + steps[-1].spent, 12)[1:]
    found = [mixed([fit.value(cost) for fit in fits]) for cost in ahead]
    lines = {
        share: 100 * np.clip([one.quantile(share) for one in found], 0, 1) for share in (0.025, 0.1, 0.5, 0.9, 0.975)
    }
    with drawing():
        figure = Figure(figsize=(6.4, 2.7), layout="constrained")
        ax = figure.subplots()
        ax.plot(x / scale, y, color=SERIES[0], marker="o", markersize=5, lw=1.8)
        for low, high, alpha in ((0.025, 0.975, 0.12), (0.1, 0.9, 0.2)):
            ax.fill_between(ahead / scale, lines[low], lines[high], color=SERIES[0], alpha=alpha, linewidth=0)
        ax.plot(np.append(x[-1], ahead) / scale, np.append(y[-1], lines[0.5]), color=SERIES[0], linestyle="--", lw=1.6)
        ax.set_xlabel("annotation time [h]" if rounds.unit == "seconds" else WORDS[rounds.unit])
        ax.set_ylabel(group.metric)
        label = f"Forecast of {group.metric} of {group.name}. The numbers are in the table below."
        return inline(figure, key=f"forecast {group.name}", label=label)


BARS = "▁▂▃▄▅▆▇█"


def of_rounds(rounds: Sequence[RoundResult], metric: str, unit: str) -> Outlook:
    """The forecast of one run, without a picture."""
    return outlook(_group(rounds, metric, unit), picture=False)


def lines(rounds: Sequence[RoundResult], metric: str, unit: str) -> list[str]:
    """The forecast of one run for a terminal: sentences, and a bar for every round and, after "|", every step ahead."""
    found = of_rounds(rounds, metric, unit)
    if not found.steps:
        return list(found.sentences)
    known = rounds_of(_group(rounds, metric, unit)).quality[0]
    return [*found.sentences, f"{metric}: {bars(known)}|{bars([step.value for step in found.steps])}"]


def _group(rounds: Sequence[RoundResult], metric: str, unit: str) -> Group:
    run = RunResult("", 0, (), rounds, budget_unit=unit, metric=metric)
    return Group("", (run,), (), tuple(one.round for one in rounds))


def bars(shares: Sequence[float] | Float64[np.ndarray, " n"]) -> str:
    """A bar for each share of 1.

    >>> bars([0.0, 0.5, 1.0])
    '▁▅█'
    """
    return "".join(BARS[min(int(share * len(BARS)), len(BARS) - 1)] for share in shares)
