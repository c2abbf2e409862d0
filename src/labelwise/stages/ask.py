"""The stage that asks, as a run names it: the simulated oracle answers, or people do on the page of `labelwise serve`.

With people the stage puts the next queries of the ranking into the ledger, where the page finds them, and waits. It
keeps nothing in memory: killed at any instant, it goes on with what the ledger holds.
"""

from __future__ import annotations

import time

import numpy as np

from labelwise import files
from labelwise.ask import budget
from labelwise.ledger.progress import dearest, spent_and_open
from labelwise.project import availability
from labelwise.project.context import Context
from labelwise.project.folder import Stage
from labelwise.queue.leases import Leases
from labelwise.stages import oracle
from labelwise.types import LabelwiseError

LOOK_AGAIN_S = 5.0
"""How often a waiting round looks for images that were gone."""


def ask(context: Context, round: int, stage: Stage) -> None:
    """Asks the ranking in order until the budget of the round is spent, the ranking ends, or the deadline is there."""
    run, ledger = context.run, context.project.ledger
    if run.ask.who == "oracle":
        oracle.ask(context, round, stage)
        return
    if not context.pool.classes:
        raise LabelwiseError(f'{context.pool.root}: no classes are known; set data.classes = ["cat", "dog", ...]')
    picks = files.read_table(context.file(round, "picks.parquet"))
    amount = run.budget.per_round[round - 1] if round else float(len(picks["row"]))
    unit = run.budget.unit if round else "images"
    deadline, shown, looked = _deadline(context, round), 0, time.monotonic()
    with context.bar(f"round {round}: people answer ({unit}; `labelwise serve`)", int(amount)) as advance:
        while True:
            if time.monotonic() > looked + LOOK_AGAIN_S:
                availability.look_again(context)
                looked = time.monotonic()
            spent, still_open, owed = spent_and_open(ledger, round, unit, run.ask.overlap)
            advance(int(spent) - shown)
            shown = int(spent)
            left = _left_for_new(amount - spent, unit, run.ask.overlap, owed)
            still_open += _open(context, round, picks, unit, left, still_open)
            late = deadline is not None and time.time() > deadline and _something(context)
            # second opinions on what is answered are waited for; a query that nobody answered is not, without budget
            if late or (not owed and (spent >= amount - 1e-9 or not still_open)):
                break
            time.sleep(run.ask.poll_s)
    Leases(ledger).close_round(round)
    stage.info["left_of_budget"] = max(0.0, amount - spent)
    stage.info["ranking_exhausted"] = spent < amount and not late
    stage.info["deadline_reached"] = late


def _left_for_new(left: float, unit: str, overlap: int, owed: int) -> float:
    """The budget for new queries: where it is counted in queries or seconds, every opinion on a query costs.

    Of 10 queries with 3 people each 4 opinions are owed to those before: (10 - 4) / 3 are left, so that 2 may be open.

    >>> _left_for_new(10, "queries", 3, 4), _left_for_new(10, "boxes", 3, 4)
    (2.0, 10)
    """
    if overlap == 1 or unit in ("boxes", "images"):
        return left
    return max(0.0, left - (owed if unit == "queries" else 0)) / overlap


def _deadline(context: Context, round: int) -> float | None:
    """When this round goes on without waiting (seconds since 1970), counted from when it first began to wait."""
    if context.run.ask.deadline_h is None:
        return None
    path = context.file(round, "waiting.json")
    if not path.exists():
        files.write_json(path, {"since": time.time()})
    return float(files.read_json(path)["since"]) + 3600 * context.run.ask.deadline_h


def _something(context: Context) -> bool:
    """Whether anything is labelled: before that there is nothing to train on, and no deadline helps."""
    cost = context.project.ledger.cost()
    return cost.boxes + cost.images > 0


def _open(context: Context, round: int, picks: dict[str, np.ndarray], unit: str, left: float, still_open: int) -> int:
    """Opens as many more queries as the budget allows; returns how many."""
    run, pool, ledger = context.run, context.pool, context.project.ledger
    query_unit = run.query.unit if round else "image"
    most = budget.room(query_unit, unit, left, still_open, dearest(ledger, query_unit, unit))
    if not most:
        return 0
    before = ledger.queries(round)
    asked = max((query.rank + 1 for query in before), default=0)
    never = oracle.of_another_ranking(pool, picks, run.query.unit, round, before)
    covered: dict[int, list[np.ndarray]] = {}
    if query_unit == "region":
        known = ledger.labels(pool).coverage
        covered = {int(image): list(known.of(int(image))) for image in np.flatnonzero(np.diff(known.offsets))}
        number_of = {name: number for number, name in enumerate(pool.names)}
        for query in ledger.open_queries(round):
            covered.setdefault(number_of[query.image], []).append(np.array(query.box, np.float32))
    chosen = oracle.next_queries(context, picks, round, asked, most, covered, never)
    if chosen:
        ledger.add_queries(round, chosen)
    return len(chosen)
