"""The section "Comparison": every named group against a baseline, paired by seed."""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from labelwise.report.comparison import Paired, pair, sign, verdict
from labelwise.report.curves import differences, metrics_of
from labelwise.report.reach import text_of
from labelwise.report.spread import Group, values
from labelwise.report.tables import Table
from labelwise.report.wording import DASH, EFFECT, join_words
from labelwise.types import LabelwiseError


@dataclass(frozen=True, slots=True)
class Part:
    """One metric; `chart` and `table` are None where no group could be compared."""

    metric: str
    verdicts: Sequence[str]
    chart: str | None
    table: Table | None


@dataclass(frozen=True, slots=True)
class Contrast:
    """What the page shows."""

    baseline: str
    parts: Sequence[Part]


def contrast(groups: Sequence[Group], baseline: str | None, effect: float = EFFECT) -> Contrast | None:
    """None for fewer than two names. The first name is the baseline unless one is chosen; `effect`: see `verdict`."""
    names = [g.name for g in groups]
    if baseline is not None and baseline not in names:
        near = difflib.get_close_matches(baseline, names, n=1)
        hint = f" Did you mean {near[0]!r}?" if near else ""
        raise LabelwiseError(f"report: got baseline {baseline!r}; expected one of the runs: {', '.join(names)}.{hint}")
    if len(groups) < 2:
        return None
    base = groups[names.index(baseline) if baseline is not None else 0]
    others = [g for g in groups if g is not base]
    parts = []
    for metric in [m for m in ("quality", "rare_quality") if m in metrics_of(groups)]:
        compared = [(g.name, *_pairs(g, base, metric)) for g in others]
        sound = [(name, p) for name, p, _ in compared if isinstance(p, Paired)]
        verdicts = [
            verdict(p, name, base.name, base.name_of(metric), effect)
            if isinstance(p, Paired)
            else f"{name} against {base.name}: {p}"
            for name, p, _ in compared
        ]
        if (alone := _alone(base, others)) and verdicts:
            verdicts.append(alone)
        named = base.name_of(metric)
        chart = differences(sound, base.name, named) if sound else None
        parts.append(Part(named, verdicts, chart, _table(compared, base.name, named) if sound else None))
    return Contrast(base.name, parts)


def _alone(base: Group, others: Sequence[Group]) -> str:
    """Which seeds are paired with nothing; empty where all methods have the same."""
    missing = {g.name: set(g.seeds) ^ set(base.seeds) for g in others}
    parts = [f"{name}: {text_of(sorted(seeds))}" for name, seeds in missing.items() if seeds]
    return f"Only common seeds are paired; left out, with {base.name} against {'; '.join(parts)}" if parts else ""


def _pairs(group: Group, base: Group, metric: str) -> tuple[Paired | str, list[int]]:
    """The comparison over the common seeds and rounds, or why there is none; and the round numbers."""
    seeds = [s for s in group.seeds if s in base.seeds]
    numbers = [r for r in group.rounds if r in base.rounds]
    if len(seeds) < 2:
        return f"{len(seeds)} common seed(s); at least 2 are needed to say anything", []
    if len(numbers) > 1 and all(_labels(group, s, numbers[0]) == _labels(base, s, numbers[0]) for s in seeds):
        numbers = numbers[1:]
    a, b = (
        100 * values(g, metric)[np.ix_([g.seeds.index(s) for s in seeds], [g.rounds.index(r) for r in numbers])]
        for g in (group, base)
    )
    both = np.isfinite(a) & np.isfinite(b)
    seeds_kept = both.any(axis=1)
    rounds_kept = both[seeds_kept].all(axis=0)
    if seeds_kept.sum() < 2 or not rounds_kept.any():
        return "no round that at least 2 common seeds have finished", []
    keep = np.ix_(seeds_kept, rounds_kept)
    return pair(a[keep], b[keep]), [r for r, k in zip(numbers, rounds_kept, strict=True) if k]


def _labels(group: Group, seed: int, number: int) -> object:
    """What had been labelled at a round: where two runs agree on the first round, it is their common start."""
    run = group.runs[group.seeds.index(seed)]
    found = [r for r in run.rounds if r.round == number]
    return [(r.cost_boxes, {c: n for c, n in r.class_counts_truth.items() if n}) for r in found]


def _table(compared: Sequence[tuple[str, Paired | str, list[int]]], baseline: str, metric: str) -> Table:
    numbers = sorted({r for _, _, own in compared for r in own})
    rows, strong = [], set()
    for i, (name, p, own) in enumerate(compared):
        if not isinstance(p, Paired):
            rows.append([name, *[DASH] * (len(numbers) + 2)])
            continue
        cells = {}
        for column, mean, low, high in zip(own, p.rounds.mean, p.rounds.low, p.rounds.high, strict=True):
            cells[column] = _cell(mean, low, high)
            if low > 0 or high < 0:
                strong.add((i, 2 + numbers.index(column)))
        mean, low, high = (float(v[0]) for v in (p.overall.mean, p.overall.low, p.overall.high))
        if low > 0 or high < 0:
            strong.add((i, len(numbers) + 2))
        rows.append([name, str(p.n), *(cells.get(r, DASH) for r in numbers), _cell(mean, low, high)])
    heads = ["Run", "Pairs", *(f"Round {r}" for r in numbers), "Mean of rounds"]
    averaged = ("rounds " if len(numbers) > 1 else "round ") + join_words([str(r) for r in numbers])
    note = (
        f"Points of {metric}, mean difference [95 % confidence interval, paired t over seeds]; bold where the "
        f"interval excludes 0. Averaged over {averaged}: a first round in which both had the same labels is left out. "
        "Not corrected for many comparisons."
    )
    return Table(f"Difference in {metric} to {baseline}", heads, rows, note, frozenset(strong))


def _cell(mean: float, low: float, high: float) -> str:
    return f"{sign(mean)} [{sign(low)}, {sign(high)}]"
