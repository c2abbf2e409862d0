"""Which share of what labels can be worth here did each method get?

Two rows bound a comparison, both trained as the others are: *no new label* goes on training on the start images alone,
*everything labelled* has the whole pool from the first round on. What lies between is the headroom. Per seed the mean
over the common rounds after the first; a method's share is its mean gain over the mean headroom. Unit: points of the
metric, share in per cent.
Source: none of the documents has these rows; in label efficiency they tell a method's gain from longer training.
Differs from the paper: 000, 002 and 003 compare methods with one another alone.
Fails when: the pool's own labels teach little (a headroom below `ENOUGH` decides nothing), or seeds are few.

One seed, from 50 to 70; a method at 65 got three quarters:

>>> share(np.array([65.0]), np.array([50.0]), np.array([70.0]))
75.0
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from labelwise.report.comparison import pair, sign
from labelwise.report.spread import Group, values
from labelwise.report.tables import Table
from labelwise.report.wording import DASH, plural

NO_NEW_LABEL, EVERYTHING_LABELLED = "no new label", "everything labelled"
"""What `compare --bounds` calls the two runs."""

ENOUGH = 10.0
"""Points of headroom from which a data set can tell methods apart."""


@dataclass(frozen=True, slots=True)
class Headroom:
    """What the page shows. `is_enough`: methods can be told apart by it."""

    sentence: str
    table: Table
    is_enough: bool


def share(own: np.ndarray, low: np.ndarray, high: np.ndarray) -> float:
    """The mean gain in per cent of the mean headroom; NaN where there is none. One entry per seed."""
    room = float(np.mean(high - low))
    return 100 * float(np.mean(own - low)) / room if room > 0 else float("nan")


def without_bounds(groups: Sequence[Group]) -> list[Group]:
    """The groups that are methods: a bound spends nothing or everything, so that it has no budget curve."""
    return [group for group in groups if group.name not in (NO_NEW_LABEL, EVERYTHING_LABELLED)]


def headroom(groups: Sequence[Group]) -> Headroom | None:
    """None unless both bounds have a round that was measured, in a common seed."""
    bounds = [next((g for g in groups if g.name == name), None) for name in (NO_NEW_LABEL, EVERYTHING_LABELLED)]
    none, every = bounds
    if none is None or every is None:
        return None
    low, high = later_mean(none), later_mean(every)
    seeds = sorted(set(low) & set(high))
    if not seeds:
        return None
    room = float(np.mean([high[s] - low[s] for s in seeds]))
    sentence = (
        f"Between {NO_NEW_LABEL} and {EVERYTHING_LABELLED} lie {room:.1f} points of {none.metric} "
        f"({plural(len(seeds), 'seed')})."
    )
    if room < ENOUGH:
        sentence += (
            f" Less than {ENOUGH:g} points of headroom decide nothing: no method is called better or worse here. Take "
            "a smaller start (budget.start_images) or harder data."
        )
    rows = [_row(group, low, high) for group in groups]
    note = (
        "Mean over the rounds after the first, per seed; both bounds are trained like the other rows. Difference: "
        "paired by seed [95 % confidence interval]."
    )
    heads = ["Run", "Seeds", none.metric, f"Minus {NO_NEW_LABEL}", "Share of the headroom"]
    return Headroom(sentence, Table("Share of the headroom", heads, rows, note), room >= ENOUGH)


def later_mean(group: Group) -> dict[int, float]:
    """The mean over the rounds after the first, in points, of every seed that has one."""
    later = [k for k, number in enumerate(group.rounds) if number > 0]
    table = 100 * values(group, "quality")[:, later]
    return {s: float(np.nanmean(row)) for s, row in zip(group.seeds, table, strict=True) if np.isfinite(row).any()}


def _row(group: Group, low: dict[int, float], high: dict[int, float]) -> list[str]:
    own = later_mean(group)
    if not own:
        return [group.name, "0", *[DASH] * 3]
    seen = np.array(list(own.values()))
    cells = [group.name, str(len(own)), f"{seen.mean():.1f}" + (f" ± {seen.std(ddof=1):.1f}" if len(own) > 1 else "")]
    seeds = sorted(set(own) & set(low) & set(high))
    if group.name == NO_NEW_LABEL or not seeds:
        return [*cells, DASH, DASH]
    a, b, c = (np.array([one[s] for s in seeds]) for one in (own, low, high))
    gained = sign(float(np.mean(a - b)))
    if len(seeds) > 1:
        found = pair(a[:, None], b[:, None]).overall
        gained += f" [{sign(float(found.low[0]))}, {sign(float(found.high[0]))}]"
    got = share(a, b, c)
    return [*cells, gained, f"{got:.0f} %".replace("-", "\N{MINUS SIGN}") if np.isfinite(got) else DASH]
