"""The stage ask: the simulated oracle answers, or people do on the page of `labelwise serve`.

With people the stage puts the next queries of the ranking into the ledger, where the page finds them, and waits. It
keeps nothing in memory: killed at any instant, it goes on with what the ledger holds.
"""

from __future__ import annotations

import time

from labelwise import files
from labelwise.ask import budget
from labelwise.ledger import given_labels
from labelwise.ledger.progress import dearest, spent_and_open
from labelwise.project import availability
from labelwise.project.round import Round
from labelwise.queue.leases import Leases
from labelwise.stages import question_mix, ranking, simulation
from labelwise.stages.live import LOOK_S, Live
from labelwise.types import LabelwiseError

LOOK_AGAIN_S = 5.0
"""How often a waiting round looks for images that were gone."""


def ask(now: Round) -> None:
    """Asks the ranking in order until the budget of the round is spent, the ranking ends, or the deadline is there."""
    if now.run.ask.who == "oracle":
        simulation.answer(now)
    else:
        _wait(now)


def _wait(now: Round) -> None:
    """People answer; queries are opened as the budget allows."""
    rule, ledger, unit = now.run.ask, now.ledger, now.budget_unit
    if not now.pool.classes:
        raise LabelwiseError(f'{now.pool.root}: no classes are known; set data.classes = ["cat", "dog", ...]')
    deadline, shown, looked, live = _deadline(now), 0, time.monotonic(), Live(now, patient=True)
    poll_s = rule.poll_s if rule.live_answers is None else min(rule.poll_s, LOOK_S)
    with now.context.bar(now.title(f"people answer ({unit}; `labelwise serve`)"), int(now.budget)) as advance:
        while True:
            if time.monotonic() > looked + LOOK_AGAIN_S:
                availability.look_again(now.context)
                looked = time.monotonic()
            late = deadline is not None and time.time() > deadline and _any_label(now)  # before what was spent is read
            spent, still_open, owed = spent_and_open(ledger, now.number, unit, rule.overlap)
            advance(int(spent) - shown)
            shown = int(spent)
            left = _left_for_new(now.budget - spent, unit, rule.overlap, owed)
            still_open += _open(live, left, still_open)
            question_mix.top_up(now)
            # second opinions on what is answered are waited for; a query that nobody answered is not, without budget
            if late or (not owed and (spent >= now.budget - 1e-9 or not still_open)):
                break
            if live.due():
                live.update()
            else:
                time.sleep(poll_s)
    Leases(ledger).close_round(now.number)
    live.close()
    now.info["left_of_budget"] = max(0.0, now.budget - spent)
    now.info["ranking_exhausted"] = spent < now.budget and not late
    now.info["deadline_reached"] = late


def _left_for_new(left: float, unit: str, overlap: int, owed: int) -> float:
    """The budget for new queries: where it is counted in queries or seconds, every opinion on a query costs.

    Of 10 queries with 3 people each 4 opinions are owed to those before: (10 - 4) / 3 are left, so that 2 may be open.

    >>> _left_for_new(10, "queries", 3, 4), _left_for_new(10, "boxes", 3, 4)
    (2.0, 10)
    """
    if overlap == 1 or unit in ("boxes", "images"):
        return left
    return max(0.0, left - (owed if unit == "queries" else 0)) / overlap


def _deadline(now: Round) -> float | None:
    """When this round goes on without waiting (seconds since 1970), counted from when it first began to wait."""
    if now.run.ask.deadline_h is None:
        return None
    if not now.folder.waiting.exists():
        files.write_json(now.folder.waiting, {"since": time.time()})
    return float(files.read_json(now.folder.waiting)["since"]) + 3600 * now.run.ask.deadline_h


def _any_label(now: Round) -> bool:
    """Whether anything is labelled: before that there is nothing to train on, and no deadline helps."""
    cost = now.ledger.cost()
    return cost.boxes + cost.images > 0 or given_labels.total(now.ledger) is not None


def _open(live: Live, left: float, still_open: int) -> int:
    """Opens as many more queries as the budget allows; returns how many."""
    now = live.now
    dear = 1.0 if now.at_most_one else dearest(now.ledger, now.unit_names, now.budget_unit)
    most = live.room(budget.room(left, still_open, dear))
    if not most:
        return 0
    covered = ranking.covered_rectangles(now, now.context.known())
    for query in now.ledger.open_queries(now.number):
        ranking.cover(now, covered, query)
    chosen = live.next_queries(most, covered)
    if chosen:
        live.add(chosen)
    return len(chosen)
