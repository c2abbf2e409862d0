"""What an answer costs in a project: by the table of the settings, or by what its people were seen to take.

With `ask.learn_cost` the table is learnt anew from the newest `MOST_READ` timed answers whenever `look` is called; what
an answer cost is stored with it, so that a later table changes no earlier cost.
"""

from __future__ import annotations

from dataclasses import replace

from labelwise import units
from labelwise.ask import learned_cost
from labelwise.ask.cost import CostTable, actions, cost
from labelwise.ask.learned_cost import ACTIONS, STRENGTH, Learned, Timing
from labelwise.ledger.costs import by_verdict, timed_answers
from labelwise.project.context import Context
from labelwise.types import Answer, Cost, Query

MOST_READ = 5_000


class Prices:
    """The prices of one project."""

    def __init__(self, context: Context) -> None:
        self._table: CostTable = context.run.cost
        self._one_class = context.run.classifies
        self._context = context
        self.learned: Learned | None = None
        self.look()

    def look(self) -> None:
        """Learns the table from the answers so far, where the project says so."""
        if self._context.run.ask.learn_cost:
            with self._context.project.ledger.read() as connection:
                rows = timed_answers(connection, MOST_READ)
            timings = [Timing(a.who, actions(q, a, one_class=self._one_class), a.seconds) for q, a in rows]
            self.learned = learned_cost.learn(timings, self._table)

    def of(self, query: Query, answer: Answer) -> Cost:
        """What this answer costs."""
        if self.learned is None:
            return cost(query, answer, self._table, one_class=self._one_class)
        done = actions(query, answer, one_class=self._one_class)
        seconds = self.learned.seconds(answer.who, done, answer.seconds)
        return replace(cost(query, answer, self._table, one_class=self._one_class), seconds=seconds)


def expected(context: Context, unit_name: str) -> tuple[float, float]:
    """Seconds of an answer to a question of this unit that finds nothing, and further seconds for each object.

    By what such answers have cost so far, with `STRENGTH` pseudo-answers by the table of the settings.
    """
    table, means = context.run.cost, units.find(unit_name).VERDICTS
    nothing = next((one for one in means.values() if one.background), None)
    finds = next(one for one in means.values() if one.boxes != "none")
    look = float(getattr(table, (nothing or finds).look))
    each = table.draw if finds.boxes == "any" else getattr(table, finds.look) + table.adjust - look
    with context.project.ledger.read() as connection:
        rows = [row[2:] for row in by_verdict(connection, context.seen) if row[1] == unit_name]
    if nothing is not None:
        empty = [(n, seconds) for verdict, n, _, seconds in rows if means[verdict].background]
        look = (STRENGTH * look + sum(s for _, s in empty)) / (STRENGTH + sum(n for n, _ in empty))
    found = [(boxes, seconds - n * look) for verdict, n, boxes, seconds in rows if means[verdict].boxes != "none"]
    each = (STRENGTH * each + sum(s for _, s in found)) / (STRENGTH + sum(b for b, _ in found))
    return look, max(each, 0.0)


def lines(context: Context) -> list[str]:
    """The learnt table beside that of the settings, and every person's answers; empty where nothing is learnt."""
    learned = Prices(context).learned
    if learned is None:
        return []
    given, own = context.run.cost, learned.everybody
    changed = [name for name in ACTIONS if getattr(given, name) != getattr(own, name)]
    if not changed:
        return ["Seconds an action: no timed answer yet, so by the table of the settings"]
    parts = [f"{name} {getattr(own, name):.1f} (table {getattr(given, name):g})" for name in changed]
    who = [f"{name} {count}" for name, count in learned.answers.items()]
    return [f"Seconds an action, learnt from answers: {', '.join(parts)}; answers: {', '.join(who)}"]
