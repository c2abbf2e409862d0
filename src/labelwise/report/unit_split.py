"""How a budget split over the units of the questions, where a run asks about several (`query.units`)."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from labelwise.report.results import RoundResult, UnitCost
from labelwise.report.wording import duration, plural

if TYPE_CHECKING:
    from labelwise.report.spread import Group
    from labelwise.report.tables import Table


def total(rounds: Iterable[RoundResult]) -> dict[str, UnitCost]:
    """What the questions of each unit brought and cost after the first round, which asks about images alone; nothing
    where there are none of two units.
    """
    found: dict[str, UnitCost] = {}
    for one in rounds:
        for unit, cost in one.by_unit.items() if one.round else ():
            sums = found.get(unit, UnitCost(0, 0, 0.0))
            found[unit] = UnitCost(sums.queries + cost.queries, sums.boxes + cost.boxes, sums.seconds + cost.seconds)
    return found if len(found) > 1 else {}


def lines(rounds: Sequence[RoundResult]) -> list[str]:
    """A sentence for `labelwise status`; none where there is nothing to split.

    >>> lines([RoundResult(1, 3, 3, 1, 36.0, by_unit={"box": UnitCost(2, 1, 11.0), "image": UnitCost(1, 2, 21.8)})])
    ['By unit, after round 0: box 2 questions, 1 box, 11 s (34 %); image 1 question, 2 boxes, 22 s (66 %)']
    """
    found = total(rounds)
    seconds = sum(one.seconds for one in found.values())
    parts = [
        f"{unit} {plural(one.queries, 'question')}, {plural(one.boxes, 'box', 'boxes')}, {duration(one.seconds)} "
        f"({100 * one.seconds / max(seconds, 1e-9):.0f} %)"
        for unit, one in found.items()
    ]
    return [f"By unit, after round 0: {'; '.join(parts)}"] if parts else []


def table(groups: Sequence[Group]) -> Table | None:
    """The same for a report, mean per run; None where no run asks about several units."""
    from labelwise.report.tables import Table

    rows = []
    for group in groups:
        runs = [total(run.rounds) for run in group.runs]
        whole = sum(one.seconds for run in runs for one in run.values())
        for unit in sorted({unit for run in runs for unit in run}):
            own = [run[unit] for run in runs if unit in run]
            sums = [sum(getattr(one, name) for one in own) for name in ("queries", "boxes", "seconds")]
            means = [f"{value / len(runs):,.1f}" for value in sums[:2]]
            rows.append([group.name, unit, *means, duration(sums[2] / len(runs)), f"{100 * sums[2] / whole:.0f} %"])
    heads = ["Run", "Unit", "Questions", "Boxes", "Annotation time", "Share of the time"]
    note = "After the first round, mean per run: what each kind of question brought and took."
    return Table("How the budget split over the units", heads, rows, note) if rows else None
