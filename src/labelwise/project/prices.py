"""What an answer costs in a project: by the table of the settings, or by what its people were seen to take.

With `ask.learn_cost` the table is learnt anew from the newest `MOST_READ` timed answers whenever `look` is called; what
an answer cost is stored with it, so that a later table changes no earlier cost.
"""

from __future__ import annotations

from dataclasses import replace

from labelwise.ask import learned_cost
from labelwise.ask.cost import CostTable, actions, cost
from labelwise.ask.learned_cost import ACTIONS, Learned, Timing
from labelwise.ledger.costs import timed_answers
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
