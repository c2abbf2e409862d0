"""Which unit of a question pays, by runs of every unit at equal seconds of annotation: the end of `compare --units`.

Every way of asking (a unit, at random or by a score) is paired by seed with random whole images: the mean over the
rounds after the first. A unit pays if one of its ways is better and the 95 % interval excludes 0; whole images pay if
every way of asking anything else is worse. Below `headroom.ENOUGH` points of headroom, below `wording.ENOUGH_PAIRS`
seeds, or where an interval is wider than `wording.EFFECT` there is no verdict.
Source: our own; see `report.headroom` and `report.comparison`.
Differs from the paper: 000, 002 and 003 compare units at equal boxes.
Fails when: nothing is corrected for the number of ways (five intervals); a ranking ends before the seconds are spent
(said in a sentence of its own).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from labelwise.report.comparison import Paired, pair, sign, verdict
from labelwise.report.headroom import EVERYTHING_LABELLED, NO_NEW_LABEL, headroom, later_mean, share, without_bounds
from labelwise.report.results import RunResult
from labelwise.report.spread import Group, groups, values
from labelwise.report.tables import Table
from labelwise.report.wording import DASH, count, duration, join_words, plural, why_no_verdict

OFF = 0.1
"""By so large a part may seconds differ from those of the baseline before it is said."""


@dataclass(frozen=True, slots=True)
class UnitVerdict:
    """What the page and the terminal show."""

    sentences: Sequence[str]
    tables: Sequence[Table]


def unit_verdict(
    runs: Sequence[RunResult],
    unit_of: Mapping[str, str],
    baseline: str,
    reasons: Sequence[str] = (),
    tables: Sequence[Table] = (),
) -> UnitVerdict:
    """The verdict of runs of one data recipe.

    Args:
        runs: of all ways of asking and of the two bounds.
        unit_of: the unit of every name.
        baseline: the name of random whole images.
        reasons: sentences that say why, put at the end.
        tables: that say why, put after the verdict's own.
    """
    found = groups(runs)
    ways = [group for group in without_bounds(found) if group.name in unit_of]
    base = next((group for group in ways if group.name == baseline), None)
    if base is None:
        said = [f"No verdict: {baseline} has no round that was measured."]
        return UnitVerdict([*said, *reasons], tables)
    paired = {group.name: _paired(group, base) for group in ways if group is not base}
    sentences = _verdict(found, ways, base, paired, unit_of) + _unequal(ways, base)
    return UnitVerdict([*sentences, *reasons], [_table(found, ways, base, paired, unit_of), *tables])


def _paired(group: Group, base: Group) -> Paired | None:
    """The difference to the baseline over common seeds; None for fewer than two."""
    own, other = later_mean(group), later_mean(base)
    seeds = sorted(set(own) & set(other))
    if len(seeds) < 2:
        return None
    return pair(np.array([[own[s]] for s in seeds]), np.array([[other[s]] for s in seeds]))


def _verdict(
    found: Sequence[Group],
    ways: Sequence[Group],
    base: Group,
    paired: Mapping[str, Paired | None],
    unit_of: Mapping[str, str],
) -> list[str]:
    room = headroom(found)
    if room is None:
        return [f"No verdict: the runs {NO_NEW_LABEL} and {EVERYTHING_LABELLED} are missing or were not measured."]
    if not room.is_enough:
        return [f"No verdict on the unit. {room.sentence}"]
    sound = {name: p for name, p in paired.items() if p is not None}
    if len(sound) < len(paired) or not sound:
        return ["No verdict on the unit: one seed has no interval. Give more (--seeds 8); what has been run is kept."]
    lines = [verdict(p, name, base.name, base.metric) + "." for name, p in sound.items()]
    width = max(float(p.overall.high[0] - p.overall.low[0]) for p in sound.values())
    why = why_no_verdict(min(p.n for p in sound.values()), width)
    if why:
        why = why.removeprefix("no verdict").lstrip(": ")
        return [f"No verdict on the unit {why}. Give more seeds (--seeds 8); what has been run is kept.", *lines]
    better = [name for name, p in sound.items() if p.overall.low[0] > 0]
    worse = [name for name, p in sound.items() if p.overall.high[0] < 0]
    own = unit_of[base.name]
    if better:
        best = max(better, key=lambda name: float(sound[name].overall.mean[0]))
        first = f"At equal seconds the unit that pays is the {unit_of[best]}, asked by {best}."
    elif {name for name in sound if unit_of[name] != own} <= set(worse):
        first = f"At equal seconds the unit that pays is the {own}: every way of asking anything else is worse."
    else:
        first = f"At equal seconds no way of asking is better than {base.name}, as far as {_seeds(base)} can show"
        first += f"; worse: {join_words(worse)}." if worse else "; none is worse either."
    return [first, *lines]


def _seeds(group: Group) -> str:
    return plural(len(later_mean(group)), "seed")


def _unequal(ways: Sequence[Group], base: Group) -> list[str]:
    """Who did not spend what the baseline did."""
    spent = {group.name: _bought(group, "cost_seconds") for group in ways}
    own = spent[base.name]
    off = [name for name, s in spent.items() if np.isfinite(s) and own > 0 and abs(s / own - 1) > OFF]
    if not off:
        return []
    said = join_words([f"{name} {duration(spent[name])}" for name in off])
    return [
        f"Seconds are not equal: {base.name} took {duration(own)}, {said}. A ranking that ends leaves some unspent."
    ]


def _bought(group: Group, quantity: str) -> float:
    """What was spent after the first round, mean over the seeds; NaN without a later round."""
    spent = values(group, quantity)
    return float(np.nanmean(spent[:, -1] - spent[:, 0])) if spent.shape[1] > 1 else float("nan")


def _table(
    found: Sequence[Group],
    ways: Sequence[Group],
    base: Group,
    paired: Mapping[str, Paired | None],
    unit_of: Mapping[str, str],
) -> Table:
    low, high = (
        next((later_mean(group) for group in found if group.name == name), {})
        for name in (NO_NEW_LABEL, EVERYTHING_LABELLED)
    )
    rows = []
    for group in ways:
        own = later_mean(group)
        seen = np.array(list(own.values()))
        spread = f" ± {seen.std(ddof=1):.1f}" if len(seen) > 1 else ""
        p, seeds = paired.get(group.name), sorted(set(own) & set(low) & set(high))
        got = share(*(np.array([one[s] for s in seeds]) for one in (own, low, high))) if seeds else float("nan")
        rows.append(
            [
                group.name,
                unit_of[group.name],
                f"{seen.mean():.1f}{spread}" if len(seen) else DASH,
                DASH if p is None else _difference(p),
                f"{got:.0f} %".replace("-", "\N{MINUS SIGN}") if np.isfinite(got) else DASH,
                *(count(round(v)) if np.isfinite(v := _bought(group, q)) else DASH for q in _COUNTS),
                duration(_bought(group, "cost_seconds")),
            ]
        )
    note = (
        f"{base.metric}: mean over the rounds after the first ± standard deviation over seeds. Difference: paired by "
        "seed [95 % confidence interval]. Boxes, questions and annotation time: bought after the first round, mean."
    )
    heads = ["Asked by", "Unit", base.metric, f"Minus {base.name}", "Share of the headroom"]
    heads += ["Boxes", "Questions", "Annotation time"]
    return Table("The units at equal seconds", heads, rows, note)


_COUNTS = ("cost_boxes", "cost_queries")


def _difference(p: Paired) -> str:
    mean, low, high = (sign(float(v[0])) for v in (p.overall.mean, p.overall.low, p.overall.high))
    return f"{mean} [{low}, {high}]"
