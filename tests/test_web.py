"""The labelling page: leases and second thoughts in the store, the door of the server, a round with people."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from labelwise import context, loop
from labelwise.ask import oracle, people
from labelwise.context import Context
from labelwise.store.leases import LeaseError, Leases
from labelwise.store.ledger import Ledger
from labelwise.store.people import SESSION_S, People
from labelwise.types import Answer, Cost, LabelwiseError, Pool, Query

NASTY = "<img src=x onerror=alert(1)>"


def small_pool() -> Pool:
    return Pool(Path("data"), ("cat", "dog"), ("a.jpg", "b.jpg"), np.full(2, 64, np.int64), np.full(2, 48, np.int64))


def box_query(rank: int, image: str = "a.jpg") -> Query:
    return Query(1, rank, image, "box", (1.0 + rank % 30, 2.0, 40.0, 20.0), 1, 0.25, {"entropy": 0.1})


def price(_query: Query, answer: Answer) -> Cost:
    return Cost(len(answer.boxes), 1, int(answer.verdict == "all"), answer.seconds)


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[Ledger]:
    opened = Ledger.open(tmp_path / "ledger.sqlite", create=True)
    opened.add_images(small_pool())
    opened.mark_started(1, "ask")
    yield opened
    opened.close()


def says(lease: Any, verdict: str, who: str = "Ada", boxes: Any = (), labels: Any = (), seconds: float = 1.0) -> Answer:
    return Answer(lease.query.id, verdict, boxes, labels, who, seconds)  # type: ignore[arg-type]


# ------------------------------------------------------------------------------------------------------------ leases


def test_the_best_ranked_query_that_nobody_holds_is_given(ledger: Ledger) -> None:
    ledger.add_queries(1, [box_query(k) for k in (2, 0, 1)])
    leases = Leases(ledger, lease_s=60)
    [first] = leases.take("Ada", "tab-ada-1", 0.0)
    [second] = leases.take("Bo", "tab-bo-11", 0.0)
    assert (first.query.rank, second.query.rank) == (0, 1) and first.expires == 60
    assert [lease.query.rank for lease in leases.take("Cy", "tab-cy-11", 0.0, most=3)] == [2]
    assert leases.take("Di", "tab-di-11", 0.0) == []
    assert leases.renew("Ada", "tab-ada-1", 50.0) == [first.query.id]
    [late] = leases.take("Di", "tab-di-11", 61.0)
    assert late.query.rank == 1, "Bo's lease is over, Ada's was renewed"
    leases.release("Ada", "tab-ada-1")
    assert [lease.query.rank for lease in leases.take("Bo", "tab-bo-11", 61.0)] == [0]


def test_a_reloaded_window_gets_its_queries_again_and_another_window_does_not(ledger: Ledger) -> None:
    ledger.add_queries(1, [box_query(k) for k in range(6)])
    leases = Leases(ledger)
    before = leases.take("Ada", "tab-ada-1", 0.0, most=3)
    again = leases.take("Ada", "tab-ada-1", 1.0, most=3)
    assert [x.query.id for x in before] == [x.query.id for x in again] and before[0].secret != again[0].secret
    holding = [x.query.id for x in again[1:] if x.query.id is not None]
    assert [x.query.rank for x in leases.take("Ada", "tab-ada-1", 1.0, most=3, holding=holding)] == [0]
    assert [x.query.rank for x in leases.take("Ada", "tab-ada-2", 1.0, most=3)] == [3, 4, 5]
    late = leases.answer(says(before[0], "background"), before[0].secret, price, 2.0)
    assert late.counts, "the answer of the page that was reloaded is not lost"


def test_one_person_cannot_hold_everything(ledger: Ledger) -> None:
    ledger.add_queries(1, [box_query(k) for k in range(40)])
    leases = Leases(ledger)
    held = [len(leases.take("Ada", f"tab-ada-{k}", 0.0, most=6)) for k in range(5)]
    assert held == [6, 6, 0, 0, 0]


def test_an_answer_ends_the_lease_and_sent_twice_is_stored_once(ledger: Ledger) -> None:
    ledger.add_queries(1, [box_query(0)])
    leases = Leases(ledger)
    [lease] = leases.take("Ada", "tab-ada-1", 100.0)
    first = leases.answer(says(lease, "background", seconds=9.0), lease.secret, price, 103.0)
    again = leases.answer(says(lease, "background"), lease.secret, price, 104.0)
    assert first.counts and again.counts and again.repeated and again.answer_id == first.answer_id
    assert ledger.cost() == Cost(0, 1, 0, 3.0), "nobody looks at a query for longer than it has been given out"
    assert ledger.open_queries(1) == [] and leases.take("Ada", "tab-ada-1", 105.0) == []


def test_a_forged_lease_is_refused(ledger: Ledger) -> None:
    ledger.add_queries(1, [box_query(0), box_query(1)])
    leases = Leases(ledger)
    [ada], [bo] = leases.take("Ada", "tab-ada-1", 0.0), leases.take("Bo", "tab-bo-11", 0.0)
    for answer, secret in (
        (says(ada, "background"), "guessed"),
        (says(ada, "background"), bo.secret),
        (says(ada, "background", "Bo"), ada.secret),
        (says(bo, "background"), ada.secret),
    ):
        with pytest.raises(LeaseError, match="no such lease"):
            leases.answer(answer, secret, price, 1.0)
    assert ledger.cost() == Cost()


def test_the_answer_to_an_expired_lease_is_a_second_opinion(ledger: Ledger) -> None:
    ledger.add_queries(1, [box_query(0)])
    leases = Leases(ledger, lease_s=10)
    [slow] = leases.take("Ada", "tab-ada-1", 0.0)
    [quick] = leases.take("Bo", "tab-bo-11", 11.0)
    assert leases.answer(says(quick, "object", "Bo", [(1, 2, 9, 9)], [0]), quick.secret, price, 12.0).counts
    assert not leases.answer(says(slow, "background"), slow.secret, price, 13.0).counts
    labels = ledger.labels(small_pool())
    assert len(labels.annotations) == 1 and len(labels.background.xyxy) == 0
    assert ledger.cost() == Cost(1, 2, 0, 2.0) and ledger.verdicts(1) == {quick.query.id: "object"}


def test_an_answer_that_does_not_fit_leaves_the_lease_as_it_was(ledger: Ledger) -> None:
    ledger.add_queries(1, [box_query(0)])
    leases = Leases(ledger)
    [lease] = leases.take("Ada", "tab-ada-1", 0.0)
    for boxes, labels in (([(0, 0, 99, 9)], [0]), ([(0, 0, 9, 9)], [2]), ([(9, 9, 9, 9)], [0]), ([], [])):
        with pytest.raises(LabelwiseError, match="answer to query"):
            leases.answer(says(lease, "object", boxes=boxes, labels=labels), lease.secret, price, 1.0)
    assert leases.answer(says(lease, "object", boxes=[(0, 0, 9, 9)], labels=[1]), lease.secret, price, 1.0).counts


def test_many_people_at_once_answer_every_query_once(ledger: Ledger) -> None:
    ledger.add_queries(1, [box_query(k, "ab"[k % 2] + ".jpg") for k in range(120)])
    leases, answered, errors = Leases(ledger), [], []

    def work(who: str) -> None:
        try:
            while got := leases.take(who, f"tab-{who}-1", time.time(), most=2):
                for lease in got:
                    answered.append(lease.query.id)
                    done = leases.answer(says(lease, "background", who), lease.secret, price, time.time())
                    assert done.counts and not done.repeated
        except Exception as error:
            errors.append(error)

    threads = [threading.Thread(target=work, args=(f"person{k}",)) for k in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == [] and sorted(answered) == sorted(q.id for q in ledger.queries(1) if q.id)
    assert ledger.cost().queries == 120 and ledger.open_queries(1) == []


def test_nothing_is_given_between_two_rounds(ledger: Ledger) -> None:
    ledger.add_queries(1, [box_query(0), box_query(1), box_query(2)])
    leases = Leases(ledger)
    [held] = leases.take("Ada", "tab-ada-1", 0.0)
    assert leases.close_round(1) == 2, "what nobody was shown goes"
    ledger.mark_done(1, "ask", {}, 1.0)
    assert leases.take("Ada", "tab-ada-1", 1.0) == [] and leases.round() is None
    assert leases.answer(says(held, "background"), held.secret, price, 2.0).counts, "a late answer is kept"
    with pytest.raises(LabelwiseError, match="no answer to take back"):
        leases.undo("Ada", "tab-ada-1", 3.0)


# ------------------------------------------------------------------------------------------------- second thoughts


@pytest.mark.parametrize("again", ["object", "background", "duplicate", "skipped"])
@pytest.mark.parametrize("verdict", ["object", "background", "duplicate", "skipped"])
def test_an_answer_taken_back_leaves_no_labels_and_no_row_is_lost(ledger: Ledger, verdict: str, again: str) -> None:
    def answer(lease: Any, verdict: str) -> None:
        boxes, labels = ([(1.0, 2.0, 9.0, 9.0)], [1]) if verdict == "object" else ([], [])
        assert leases.answer(says(lease, verdict, boxes=boxes, labels=labels), lease.secret, price, 2.0).counts

    ledger.add_queries(1, [box_query(0)])
    leases = Leases(ledger)
    [lease] = leases.take("Ada", "tab-ada-1", 0.0)
    answer(lease, verdict)
    back = leases.undo("Ada", "tab-ada-1", 3.0)
    assert back.query.id == lease.query.id and back.before is not None and back.before.verdict == verdict
    labels = ledger.labels(small_pool())
    assert (len(labels.annotations), len(labels.background.xyxy), labels.answered.any()) == (0, 0, False)
    assert ledger.cost() == Cost(0, 0, 0, 1.0), "the time was spent, nothing else"
    assert ledger.verdicts(1) == {} and len(ledger.open_queries(1)) == 1
    answer(back, again)
    labels = ledger.labels(small_pool())
    assert (len(labels.annotations), len(labels.background.xyxy)) == (again == "object", again == "background")
    assert ledger.verdicts(1) == {lease.query.id: again} and ledger.cost().queries == 1


def test_coverage_comes_back_once(ledger: Ledger) -> None:
    ledger.add_queries(1, [Query(1, 0, "a.jpg", "image"), Query(1, 1, "b.jpg", "region", (0.0, 0.0, 20.0, 20.0))])
    leases = Leases(ledger)
    for lease in leases.take("Ada", "tab-ada-1", 0.0, most=2):
        leases.answer(says(lease, "all", boxes=[(1, 1, 9, 9)], labels=[0]), lease.secret, price, 1.0)
    for verdict, covered in (("skipped", [1, 0]), ("all", [1, 1]), ("all", [1, 1]), ("skipped", [1, 0])):
        back = leases.undo("Ada", "tab-ada-1", 2.0)
        assert np.diff(ledger.labels(small_pool()).coverage.offsets).tolist() == [1, 0]
        leases.answer(says(back, verdict), back.secret, price, 3.0)
        labels = ledger.labels(small_pool())
        assert np.diff(labels.coverage.offsets).tolist() == covered and np.diff(labels.annotations.offsets)[1] == 0


def test_a_second_opinion_counts_when_the_first_is_taken_back(ledger: Ledger) -> None:
    ledger.add_queries(1, [box_query(0)])
    leases = Leases(ledger, lease_s=10)
    [slow] = leases.take("Ada", "tab-ada-1", 0.0)
    [quick] = leases.take("Bo", "tab-bo-11", 11.0)
    leases.answer(says(quick, "background", "Bo"), quick.secret, price, 12.0)
    leases.answer(says(slow, "object", boxes=[(1, 2, 9, 9)], labels=[1]), slow.secret, price, 13.0)
    back = leases.undo("Bo", "tab-bo-11", 14.0)
    labels = ledger.labels(small_pool())
    assert labels.annotations.labels.tolist() == [1] and len(labels.background.xyxy) == 0
    assert not leases.answer(says(back, "duplicate", "Bo"), back.secret, price, 15.0).counts
    with pytest.raises(LabelwiseError, match="no answer to take back"):
        leases.undo("Cy", "tab-cy-11", 16.0)


def test_taking_back_reaches_only_so_far_and_only_ones_own(ledger: Ledger) -> None:
    ledger.add_queries(1, [box_query(k) for k in range(25)])
    leases = Leases(ledger)
    for k in range(25):
        [lease] = leases.take("Ada", "tab-ada-1", float(k))
        leases.answer(says(lease, "background"), lease.secret, price, float(k))
    taken = []
    with pytest.raises(LabelwiseError, match="only the last 20"):
        for k in range(25):
            taken.append(leases.undo("Ada", f"tab-ada-{k}", 50.0).query.rank)
    assert taken == list(range(24, 4, -1))


def test_a_ledger_of_before_gets_the_new_tables(tmp_path: Path) -> None:
    path = tmp_path / "old.sqlite"
    old = Ledger.open(path, create=True)
    with old._write() as connection:
        for name in ("withdrawn", "leases", "sessions", "people"):
            connection.exec_driver_sql(f"DROP TABLE {name}")
    old.close()
    opened = Ledger.open(path)
    assert Leases(opened).round() is None and People(opened).everyone() == []
    with opened._read() as connection:
        triggers = connection.exec_driver_sql("SELECT name FROM sqlite_master WHERE type = 'trigger'").scalars().all()
    assert {"withdrawn_no_update", "withdrawn_no_delete"} <= set(triggers)
    opened.close()


# ------------------------------------------------------------------------------------------------------------ people


def test_invitations_sessions_and_their_end(ledger: Ledger) -> None:
    people = People(ledger)
    secret = people.invite("Ada", "annotator", 0.0)
    assert people.enter("wrong", 0.0) is None
    entered = people.enter(secret, 0.0)
    assert entered is not None
    token, ada = entered
    assert (ada.name, ada.role) == ("Ada", "annotator") and people.session(token, 1.0) == ada
    second = people.enter(secret, 1.0, old=token)
    assert second is not None and second[0] != token
    assert people.session(token, 2.0) is None, "the session of before ends at a login"
    assert people.session(second[0], 1.0 + SESSION_S) is None, "a session ends by itself"
    people.revoke("Ada")
    assert people.session(second[0], 2.0) is None and people.enter(secret, 2.0) is None
    for name in ("", " Ada", "a\nb", "oracle", "x" * 61):
        with pytest.raises(LabelwiseError, match="cannot be a person's name"):
            people.invite(name, "annotator", 0.0)
    with pytest.raises(LabelwiseError, match="known as annotator"):
        people.invite("Ada", "owner", 0.0)
    with ledger._read() as connection:
        stored = [str(tuple(row)) for row in connection.exec_driver_sql("SELECT * FROM people")]
    assert secret not in "".join(stored)


def test_how_many_questions_may_be_open() -> None:
    assert people.room("box", "boxes", 5, 2, None) == 3
    assert people.room("box", "boxes", 0, 0, None) == 0
    assert people.room("image", "boxes", 7, 0, None) == 1 and people.room("image", "boxes", 7, 1, None) == 0
    assert people.room("image", "boxes", 7, 1, 2.0) == 2
    assert people.room("image", "seconds", 1.0, 0, 30.0) == 1, "the last question may cost more than is left"
    assert people.room("box", "queries", 1e6, 0, None) == people.MOST_OPEN
    with pytest.raises(LabelwiseError, match="nan left"):
        people.room("box", "boxes", float("nan"), 0, None)
