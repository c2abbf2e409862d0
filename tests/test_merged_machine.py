"""Leases, undo, second opinions, reviews, questions asked again, corrections and kills, in any order: what stands is
what would stand if only the answers that were not taken back had been given, one after the other; no row ever changes.
"""

from __future__ import annotations

import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule
from test_consensus import MAJORITY, A, B, C
from test_leases import price, small_pool

from labelwise.config.choice import Choice
from labelwise.ledger import by_hand, given_labels
from labelwise.ledger import schema as t
from labelwise.ledger.asked_again import AGAIN
from labelwise.ledger.by_hand import Change
from labelwise.ledger.ledger import Ledger
from labelwise.ledger.reviews import REVIEWS
from labelwise.project import consensus
from labelwise.project.project_folder import Project
from labelwise.queue.leases import Leases
from labelwise.types import Answer, Boxes, LabelwiseError, Query

CAT, DOG = 0, 1
PEOPLE = ("Ada", "Bo", "Cy")
FIRST = Choice(name="first")
SAID = (("object", A, CAT), ("object", B, DOG), ("object", A, DOG), ("background",), ("duplicate",), ("skipped",))


def begun(folder: Path) -> Ledger:
    """One image with a label that is asked about, and questions about three boxes of the other."""
    ledger = Ledger.open(folder / "ledger.sqlite", create=True)
    ledger.add_images(small_pool())
    boxes = Boxes(np.array([0, 1, 1]), np.array([A], np.float32), np.array([CAT]))
    given_labels.enter(ledger, small_pool(), boxes, np.array([True, False]), np.array([True, False]), "complete")
    ledger.mark_started(1, "ask")
    label = float(ledger.annotation_rows()["id"][0])
    asked = [Query(1, k, "b.jpg", "box", box, DOG) for k, box in enumerate((A, C, B))]
    ledger.add_queries(1, [*asked, Query(1, 3, "a.jpg", "box", A, CAT, 0.0, {REVIEWS: label})])
    return ledger


def says(ledger: Ledger, query: Query, who: str, said: tuple[Any, ...]) -> None:
    answer = answer_of(query, who, said)
    with ledger.write() as connection:
        ledger.record_within(connection, [(query, answer, price(query, answer))])


def answer_of(query: Query, who: str, said: tuple[Any, ...]) -> Answer:
    return Answer(query.id or 0, said[0], [said[1]] if len(said) > 1 else [], [said[2]] if len(said) > 1 else [], who)


def standing(folder: Path, ledger: Ledger, merge: Choice) -> Any:
    found = consensus.labels(Project(folder, ledger), small_pool(), merge, one_class=False)
    boxes = found.annotations
    rows = zip(boxes.image.tolist(), boxes.xyxy.round(3).tolist(), boxes.labels.tolist(), strict=True)
    return sorted(rows), sorted(found.background.xyxy.tolist()), sorted(found.coverage.xyxy.tolist())


class Work(RuleBasedStateMachine):
    """`given`: the answers that stand, in their order: source query, who, what, and whether it was asked again."""

    def __init__(self) -> None:
        super().__init__()
        self.folder = tempfile.TemporaryDirectory()
        self.path = Path(self.folder.name)
        self.ledger = begun(self.path)
        self.at, self.repeats = 0.0, 0
        self.held: dict[str, Any] = {}
        self.given: list[tuple[int, int, str, tuple[Any, ...], bool]] = []
        self.rows: dict[str, list[Any]] = {}
        self.open()

    def open(self) -> None:
        self.leases = Leases(self.ledger, 120.0, 2, again=True)

    def teardown(self) -> None:
        self.ledger.close()
        self.folder.cleanup()

    @rule(who=st.sampled_from(PEOPLE))
    def take(self, who: str) -> None:
        for lease in self.leases.take(who, f"tab-of-{who}", self.at):
            source = self.source(lease.query.id or 0)
            assert not any(row[1] == source and row[2] == who for row in self.given), "nobody is asked the same twice"
            assert [lease.query.id for lease in self.held.values()].count(lease.query.id) <= 1 or self.at >= 120
            self.held[who] = lease

    def source(self, query: int) -> int:
        with self.ledger.read() as connection:
            select = t.asked_again.select().where(t.asked_again.c.query_id == query)
            row = connection.execute(select).mappings().one_or_none()
        return query if row is None else int(row["source_id"])

    @rule(who=st.sampled_from(PEOPLE), said=st.sampled_from(SAID))
    def answer(self, who: str, said: tuple[Any, ...]) -> None:
        lease = self.held.pop(who, None)
        if lease is None:
            return
        answer = answer_of(lease.query, who, said)
        receipt = self.leases.answer(answer, lease.secret, price, self.at)
        assert self.leases.answer(answer, lease.secret, price, self.at).repeated, "sent twice, stored once"
        query = lease.query.id or 0
        self.given.append((receipt.answer_id, self.source(query), who, said, self.source(query) != query))

    @rule(who=st.sampled_from(PEOPLE))
    def undo(self, who: str) -> None:
        mine = [row for row in self.given if row[2] == who]
        try:
            lease = self.leases.undo(who, f"tab-of-{who}", self.at)
        except LabelwiseError as error:
            assert ("no answer to take back" in str(error)) == (not mine)
            return
        assert self.source(lease.query.id or 0) == mine[-1][1] and lease.before is not None
        self.given.remove(mine[-1])
        self.held[who] = lease

    @precondition(lambda self: self.repeats < 4 and self.given)
    @rule(k=st.integers(0, 30))
    def ask_again(self, k: int) -> None:
        own = [row for row in self.given if not row[4]]
        if own:
            source = own[k % len(own)][1]
            query = next(one for one in self.ledger.queries(1) if one.id == source)
            reason = {AGAIN: source}
            self.ledger.add_queries(1, [replace(query, rank=10 + self.repeats, reason=reason, id=None)])
            self.repeats += 1

    @rule()
    def time_passes(self) -> None:
        self.at += 150

    @rule()
    def killed(self) -> None:
        """Another process goes on with what the ledger holds; a window keeps its leases."""
        self.ledger.close()
        self.ledger = Ledger.open(self.path / "ledger.sqlite")
        self.open()

    @precondition(lambda self: not any(self.about_the_label(row) for row in self.given))
    @rule(verdict=st.sampled_from(["object", "background", "duplicate"]))
    def corrected_and_taken_back(self, verdict: str) -> None:
        rows = self.ledger.annotation_rows()
        label = int(rows["id"][np.flatnonzero(rows["image"] == "a.jpg")[0]])
        thing = {"box": B, "label": DOG} if verdict == "object" else {}
        made = by_hand.correct(self.ledger, [Change("a.jpg", verdict, annotation=label, **thing)], "me", 1.0, price)
        by_hand.take_back(self.ledger, made, "me")

    def about_the_label(self, row: Any) -> bool:
        [query] = [one for one in self.ledger.queries(1) if one.id == row[1]]
        return REVIEWS in query.reason

    @invariant()
    def no_row_changes(self) -> None:
        with self.ledger.read() as connection:
            for table in t.APPEND_ONLY:
                now = [tuple(row) for row in connection.execute(table.select().order_by(*table.primary_key.columns))]
                before = self.rows.get(table.name, [])
                assert set(before) <= set(now) if table is t.withdrawn else now[: len(before)] == before
                self.rows[table.name] = now

    @invariant()
    def what_stands_is_what_was_not_taken_back(self) -> None:
        people: dict[int, set[str]] = {}
        for _, source, who, said, _ in self.given:
            people.setdefault(source, set()).update({who} if said[0] != "skipped" else ())
        for merge in (FIRST, MAJORITY):
            with tempfile.TemporaryDirectory() as folder:
                calm = begun(Path(folder))
                asked = {query.rank: query for query in calm.queries(1)}
                ranks = {query.id: query.rank for query in self.ledger.queries(1)}
                for _, source, who, said, again in sorted(self.given):
                    several = merge is MAJORITY and len(people[source]) > 1
                    if several or not again:
                        says(calm, asked[ranks[source]], who, said)
                expected = standing(Path(folder), calm, merge)
                calm.close()
            assert standing(self.path, self.ledger, merge) == expected, merge.name

    @invariant()
    def what_was_taken_back_costs_no_question(self) -> None:
        spent = self.ledger.cost_by_round().get(1)
        assert (spent.queries if spent else 0) == len(self.given)


Work.TestCase.settings = settings(max_examples=12, stateful_step_count=14, deadline=None)
test_any_order_of_work_ends_in_what_stands = Work.TestCase
