"""The ranking that a round asks, and with `ask.live_answers` its renewal while it asks.

After every so many answers the model is trained on all that is known, the pool is predicted, scored and ranked, by the
same stages as a round, in a folder of its own; then the open queries that nobody was ever shown give way to the new
ranking (`ledger.live_updates`). What somebody has or had stays, as does what was answered. The first round has no
ranking: its images are drawn, and it only trains and measures. Nothing of it is needed after a kill: the next update
begins with what the ledger holds.

Fails when: an update takes longer than people take for the queries that are open; then they answer by the ranking
before. Long updates are told, and there is always a pause as long as the last one.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Sequence
from dataclasses import asdict, replace
from typing import Any

from labelwise import files
from labelwise.ledger import live_updates, records
from labelwise.ledger.instant import Instant
from labelwise.ledger.ledger import now as instant_now
from labelwise.project.round import Round
from labelwise.stages import evaluate, label, predict, ranking, score, select, train
from labelwise.types import Cost, Query

MOST_WAITING = 48
"""Queries that are open and were never shown: enough until the next update, and few to be given out of the last one."""
SPARE = 16
"""So many more are ranked than are replaced: some may be given out meanwhile."""
LOOK_S = 0.2
"""How often a round that waits looks whether an update is due."""
LONG_S = 5.0
"""An update that takes longer is told."""


class Live:
    """The ranking of a round, whose first queries are those to ask next.

    `patient`: between updates there is a pause as long as the last one, for the sake of whoever shares the processor.
    """

    def __init__(self, now: Round, *, patient: bool) -> None:
        self.now, self._patient = now, patient
        self.every = now.run.ask.live_answers
        self.ranks = self.every is not None and now.number > 0
        before = now.queries()
        self._ranked = now  # whose picks are asked
        self._never = ranking.of_another_ranking(now, before)
        self._begin = max((query.rank + 1 for query in before), default=0)
        self._rank: int | None = None  # of the next query; None: its number among the picks
        if self.ranks and before:  # a round that goes on: which of its rankings that was does not matter
            self._rank, self._begin, self._never = self._begin, 0, {query.place for query in before}
        self._said = -(self.every or 0) if before else 0
        self._not_before = float("-inf")
        self._told = False
        self._places: list[int] = []

    # ---- what is asked --------------------------------------------------------------------------------------------

    def next_queries(self, most: int, covered: ranking.Covered) -> list[Query]:
        """The next queries of the ranking, at most so many; `add` puts the first of them into the queue."""
        found = ranking.next_queries(self._ranked, self._begin, most, covered, self._never)
        self._places = [query.rank for query in found]
        rank = self._rank
        return found if rank is None else [replace(query, rank=rank + k) for k, query in enumerate(found)]

    def add(self, chosen: Sequence[Query]) -> None:
        """Opens these queries, the first of those that were found last."""
        self.now.ledger.add_queries(self.now.number, chosen)
        self._begin = self._places[len(chosen) - 1] + 1
        if self._rank is not None:
            self._rank += len(chosen)

    def room(self, most: int) -> int:
        """How many of `most` more queries are opened now: with updates to come few, so that they are of the newest."""
        if not self.ranks or not most:
            return most
        return max(0, min(most, MOST_WAITING - len(live_updates.never_shown(self.now.ledger, self.now.number))))

    # ---- and its renewal ------------------------------------------------------------------------------------------

    def answers_until(self) -> int | None:
        """After how many more answers an update is due; None: never."""
        if self.every is None:
            return None
        return self._said + self.every - live_updates.said(self.now.ledger, self.now.number)

    def due(self) -> bool:
        """Whether enough was said since the last update."""
        if self.every is None or time.monotonic() < self._not_before:
            return False
        left = self.answers_until()
        return left is not None and left <= 0

    def update(self) -> None:
        """Trains and ranks anew, and measures what was trained on the test images."""
        begun, now = time.perf_counter(), self.now
        said = live_updates.said(now.ledger, now.number)
        view = self._train()
        if self.ranks:
            for stage in (predict.predict, score.score, select.select):
                stage(view)
            update, seconds = self._replace(view, begun)
        else:
            seconds = time.perf_counter() - begun
            update = live_updates.trained(now.ledger, now.number, self._about(view, seconds))
        evaluate.evaluate(view)
        quality = view.metrics.get(now.run.metric.lower())
        if quality is not None:
            live_updates.measured(now.ledger, update, float(quality))
        self._said = said
        whole = time.perf_counter() - begun
        if self._patient:
            self._not_before = time.monotonic() + whole
            self._tell(seconds)

    def _train(self) -> Round:
        """The round at this instant, in a folder of its own, with the model that all that is known makes."""
        now, context = self.now, self.now.context
        context.see_classes()
        seen = Instant(**records.seen_now(now.ledger, now.number, instant_now()))
        folder = now.folder.live(live_updates.count(now.ledger, now.number) + 1)
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        view = Round(context.at(seen, now.run), now.number, live=folder)
        ranked = self._ranked
        found = ranked.detections(now.run.columns_of_labels) if now.number and not ranked.proposed else None
        files.write_targets(view.folder.targets, label.targets(view, found))
        train.train(view)
        return view

    def _about(self, view: Round, seconds: float) -> dict[str, Any]:
        spent: dict[str, float] = dict.fromkeys(asdict(Cost()), 0.0)
        for cost in view.ledger.cost_by_round(view.context.seen).values():
            spent = {name: value + getattr(cost, name) for name, value in spent.items()}
        return {"spent": spent, "seen": view.context.seen, "seconds": seconds}

    def _replace(self, view: Round, begun: float) -> tuple[int, float]:
        """The queue becomes that of the new ranking; the number of the update, and what it took."""
        now, covered = self.now, ranking.covered_rectangles(self.now, view.known)
        waiting = live_updates.never_shown(now.ledger, now.number)
        shown = [query for query in now.queries() if query.id not in waiting]
        for query in shown:
            ranking.cover(now, covered, query)
        places = {query.place for query in shown}
        fresh = ranking.next_queries(view, 0, len(waiting) + SPARE, covered, places) if waiting else []
        seconds = time.perf_counter() - begun
        done = live_updates.replace_open(now.ledger, now.number, fresh, self._about(view, seconds))
        self._ranked, self._never, self._rank = view, set(done.places), done.last + 1
        self._begin = fresh[done.used - 1].rank + 1 if done.used else 0
        return done.id, seconds

    def _tell(self, seconds: float) -> None:
        if seconds > LONG_S and not self._told:
            self._told = True
            self.now.context.tell(
                f"round {self.now.number}: to train and rank anew takes {seconds:.0f} s, and as long a pause follows; "
                "people are asked by the ranking before until then. A smaller pool (data.sample) or a quicker score "
                "takes less; without ask.live_answers it is ranked between rounds alone"
            )

    def close(self) -> None:
        """The round has asked: what its updates wrote is made anew by the stages that follow."""
        for number in range(2):
            shutil.rmtree(self.now.folder.live(number), ignore_errors=True)
