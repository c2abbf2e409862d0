"""An answered question asked again, of somebody else: who gets it, what it costs, and what its answers are."""

from __future__ import annotations

import threading
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from test_consensus import CAT, DOG, MAJORITY, SKENE, A, B, C, box_queries, boxes_of, known, rows, says
from test_consensus import project as project  # a fixture
from test_leases import ledger as ledger  # a fixture
from test_leases import price, small_pool
from test_web import answer_like_the_oracle
from test_web import site as site  # a fixture

from labelwise import files, loop
from labelwise.config.choice import Choice
from labelwise.ledger import several_answers
from labelwise.ledger.agreement import agreement
from labelwise.ledger.asked_again import AGAIN
from labelwise.ledger.ledger import Ledger
from labelwise.ledger.progress import spent_and_open
from labelwise.project import consensus
from labelwise.project.project_folder import Project
from labelwise.project.round import Round
from labelwise.queue.accounts import Accounts
from labelwise.queue.leases import Leases
from labelwise.types import Answer, Cost, Query

FIRST = Choice(name="first")


def again(ledger: Ledger, source: Query, round_number: int = 2, rank: int = 0) -> Query:
    """Asks a query once more in a round."""
    reason = {AGAIN: source.id or 0}
    made = Query(round_number, rank, source.image, source.unit, source.box, source.label, 0.7, reason)
    ledger.add_queries(round_number, [made])
    ledger.mark_started(round_number, "ask")
    return next(query for query in ledger.queries(round_number) if query.rank == rank)


def test_somebody_else_is_asked_and_sees_nothing_of_the_first_answer(project: Project) -> None:
    ledger = project.ledger
    [first, other] = box_queries(ledger, 2)
    says(ledger, first, "Ada", "object", (A, CAT))
    says(ledger, other, "Ada", "object", (C, CAT))
    repeated = again(ledger, first)
    ledger.add_queries(2, [Query(2, 1, "b.jpg", "box", A, DOG)])
    leases = Leases(ledger, again=True)
    [lease] = leases.take("Ada", "tab-ada-1", 0.0)
    assert lease.query.rank == 1, "whoever answered it is passed over"
    [lease] = leases.take("Bo", "tab-bo-11", 0.0)
    assert lease.query.id == repeated.id and dict(lease.query.reason) == {}
    assert lease.known == {"boxes": [], "covered": []}
    leases.answer(Answer(repeated.id or 0, "object", [B], [DOG], "Bo", 3.0), lease.secret, price, 5.0)
    assert leases.take("Cy", "tab-cy-11", 6.0) == [], "one more opinion, not several"
    assert ledger.cost_by_round()[2] == Cost(0, 1, 0, 3.0)


def test_its_answer_is_an_opinion_on_the_first_and_no_label(project: Project) -> None:
    ledger = project.ledger
    [first, _] = box_queries(ledger, 2)
    says(ledger, first, "Ada", "object", (A, CAT))
    leases, before = Leases(ledger, again=True), rows(ledger)[1:]
    for number, (who, verdict, boxes, labels) in enumerate(
        [("Bo", "object", [B], [DOG]), ("Cy", "object", [B], [DOG]), ("Di", "background", [], [])], start=2
    ):
        query = again(ledger, first, number)
        [lease] = leases.take(who, f"tab-of-{who}", 1.0)
        leases.answer(Answer(query.id or 0, verdict, boxes, labels, who), lease.secret, price, 2.0)
        assert leases.take("Bo", "tab-bo-11", 3.0) == [], "nor is whoever was asked again before"
    assert rows(ledger)[1:] == before and boxes_of(known(project, FIRST)) == [(list(A), CAT)]
    [merged] = boxes_of(known(project))
    assert merged[1] == DOG and merged[0] == list(B), "two against one, and one who sees nothing"
    said = several_answers.read(ledger)
    assert [query.id for query in said.queries] == [first.id] and said.people == ["Ada", "Bo", "Cy", "Di"]
    assert agreement(ledger)["queries"] == 1 and len(consensus.quality(project, small_pool(), one_class=False)) == 4
    taken = leases.undo("Di", "tab-of-Di", 4.0)
    assert taken.query.reason == {} and several_answers.read(ledger).people == ["Ada", "Bo", "Cy"]
    leases.answer(Answer(taken.query.id or 0, "skipped", who="Di"), taken.secret, price, 5.0)
    assert rows(ledger)[1:] == before
    label = int(ledger.annotation_rows()["id"][0])
    ledger.correct(label, A, CAT, "me")
    assert boxes_of(known(project)) == [(list(A), CAT)], "a correction by hand stands"


def test_a_round_waits_for_it_while_there_is_somebody_left(project: Project) -> None:
    ledger = project.ledger
    [first, _] = box_queries(ledger, 2)
    says(ledger, first, "Ada", "object", (A, CAT))
    query = again(ledger, first)
    assert spent_and_open(ledger, 2, "queries") == (0.0, 0, 0), "nobody is there"
    people = Accounts(ledger)
    people.invite("Ada", "annotator", 0.0)
    assert spent_and_open(ledger, 2, "queries")[1] == 0, "nobody else is there"
    people.invite("Bo", "annotator", 0.0)
    assert spent_and_open(ledger, 2, "queries")[1] == 1
    says(ledger, query, "Bo", "background")
    assert spent_and_open(ledger, 2, "queries", overlap=3) == (1.0, 0, 0), "one more opinion is enough"


def test_a_query_that_is_replaced_repeats_no_longer(project: Project) -> None:
    ledger = project.ledger
    [first, _] = box_queries(ledger, 2)
    says(ledger, first, "Ada", "object", (A, CAT))
    again(ledger, first)
    ledger.add_queries(2, [Query(2, 0, "b.jpg", "box", A, DOG)])
    with ledger.read() as connection:
        assert connection.exec_driver_sql("SELECT * FROM asked_again").all() == []
    again(ledger, first)
    again(ledger, first)  # the same again changes nothing
    with ledger.read() as connection:
        assert len(connection.exec_driver_sql("SELECT * FROM asked_again").all()) == 1


SAID = st.sampled_from(
    [("object", [A], [CAT]), ("object", [A], [DOG]), ("object", [B], [CAT]), ("object", [C], [CAT]),
     ("background", [], []), ("duplicate", [], []), ("skipped", [], [])]
)  # fmt: skip


@settings(deadline=None, max_examples=12)
@given(st.lists(st.tuples(st.integers(0, 3), st.lists(SAID, min_size=1, max_size=4)), min_size=1, max_size=4))
def test_asked_again_is_as_asked_of_several_at_once(
    tmp_path_factory: pytest.TempPathFactory, said: list[tuple[int, list[Any]]]
) -> None:
    """The reference: the same people answer the query itself (`ask.overlap`)."""
    found = []
    for repeats in (False, True):
        folder = tmp_path_factory.mktemp("twice")
        ledger = Ledger.open(folder / "ledger.sqlite", create=True)
        ledger.add_images(small_pool())
        ledger.mark_started(1, "ask")
        queries = box_queries(ledger, len(said))
        for query, (_, answers) in zip(queries, said, strict=True):
            for k, (who, (verdict, boxes, labels)) in enumerate(zip(("Ada", "Bo", "Cy", "Di"), answers, strict=False)):
                asked = again(ledger, query, k + 1, 100 * k + query.rank) if repeats and k else query
                says(ledger, asked, who, verdict, *zip(boxes, labels, strict=True))
        project = Project(folder, ledger)
        views = [known(project, rule) for rule in (MAJORITY, SKENE)]
        people = [
            (row["who"], row["answers"], row["right"])
            for row in consensus.quality(project, small_pool(), one_class=False)
        ]
        found.append(
            (
                [boxes_of(view, k) for view in views for k in (0, 1)],
                [view.background.xyxy.tolist() for view in views],
                people,
                agreement(ledger),
            )
        )
        ledger.close()
    assert found[0] == found[1]


def test_a_run_asks_old_questions_where_they_are_worth_more(site: Any) -> None:
    opened = site.open(
        "ask.again=true", "ask.merge=crowdlab", "ask.review_share=0.2", "budget.per_round=[8, 8, 8]",
        "budget.unit=queries", "query.unit=box",
    )  # fmt: skip
    ledger, stop = opened.project.ledger, threading.Event()
    ledger.add_images(opened.pool)
    browsers = [site.browser(name, client=site.another_client()) for name in ("Ada", "Bo", "Cy")]
    people = [threading.Thread(target=answer_like_the_oracle, args=(site, browser, stop)) for browser in browsers]
    for person in people:
        person.start()
    try:
        assert list(loop.run(opened)) == [0, 1, 2, 3]
    finally:
        stop.set()
        for person in people:
            person.join()
    with ledger.read() as connection:
        twice = connection.exec_driver_sql(
            "SELECT q.round, r.round, a.who, b.who FROM asked_again g JOIN queries q ON q.id = g.query_id "
            "JOIN queries r ON r.id = g.source_id JOIN answers a ON a.query_id = q.id "
            "JOIN answers b ON b.query_id = r.id"
        ).all()
    assert twice and all(later > first and one != other for later, first, one, other in twice)
    assert [ledger.cost_by_round()[k].queries for k in (1, 2, 3)] == [8, 8, 8]
    picks = files.read_table(Round(opened, 3).folder.picks)
    assert (picks["source"] >= 0).any() and np.isfinite(picks["score"]).all()
    merged = several_answers.read(ledger)
    assert len(merged.queries) > 0 and all(query.rank >= 0 for query in merged.queries)
