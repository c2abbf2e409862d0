"""Leases: who holds which open query, and second thoughts of what was answered."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import sqlalchemy as sa

from labelwise.ledger import schema as t
from labelwise.ledger.ledger import Ledger
from labelwise.ledger.progress import counts, spent_and_open
from labelwise.queue.lease_queue import Contradiction, LeaseError
from labelwise.queue.leases import Leases
from labelwise.types import Answer, Cost, LabelwiseError, Pool, Query

BOX = (1.0, 2.0, 40.0, 20.0)


def small_pool() -> Pool:
    return Pool(Path("data"), ("cat", "dog"), ("a.jpg", "b.jpg"), np.full(2, 64, np.int64), np.full(2, 48, np.int64))


def box_query(rank: int, image: str = "a.jpg") -> Query:
    return Query(1, rank, image, "box", (1.0 + rank % 30, 2.0, 40.0, 20.0), 1, 0.25, {"entropy": 0.1})


def queries(n: int, labels: int = 1) -> list[Query]:
    return [Query(1, k, "ab"[k % 2] + ".jpg", "box", BOX, k % labels) for k in range(n)]


def price(_query: Query, answer: Answer) -> Cost:
    return Cost(len(answer.boxes), 1, int(answer.verdict == "all"), answer.seconds)


@pytest.fixture(params=["sqlite", "postgresql"])
def ledger(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Ledger]:
    where = tmp_path / "ledger.sqlite" if request.param == "sqlite" else request.getfixturevalue("postgres")()
    opened = Ledger.open(where, create=True)
    opened.add_images(small_pool())
    opened.mark_started(1, "ask")
    yield opened
    opened.close()


def says(lease: Any, verdict: str, who: str = "Ada", boxes: Any = (), labels: Any = (), seconds: float = 1.0) -> Answer:
    return Answer(lease.query.id, verdict, boxes, labels, who, seconds)  # type: ignore[arg-type]


def say(leases: Leases, who: str, at: float, verdict: str = "background", *objects: Any) -> tuple[int, bool]:
    """The next query, answered: its rank and whether the answer counts."""
    [lease] = leases.take(who, f"tab-of-{who}", at)
    boxes, labels = [box for box, _ in objects], [label for _, label in objects]
    answer = Answer(lease.query.id or 0, verdict, boxes, labels, who)  # type: ignore[arg-type]
    return lease.query.rank, leases.answer(answer, lease.secret, price, at).counts


# ------------------------------------------------------------------------------------------------------- who holds what


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


@pytest.mark.parametrize(
    "second",
    [
        ("background", [], [], ""),
        ("skipped", [], [], ""),
        ("object", [(1, 2, 9, 9.5)], [1], "so"),
        ("object", [(1, 2, 9, 9)], [0], "so"),
        ("object", [(1, 2, 9, 9)], [1], "or so"),
    ],
)
def test_another_answer_by_the_same_lease_is_refused_and_the_first_stands(ledger: Ledger, second: Any) -> None:
    ledger.add_queries(1, [box_query(0)])
    leases = Leases(ledger)
    [lease] = leases.take("Ada", "tab-ada-1", 0.0)

    def say(verdict: str, boxes: Any, labels: Any, note: str, seconds: float = 1.0) -> Any:
        answer = Answer(lease.query.id or 0, verdict, boxes, labels, "Ada", seconds, note)  # type: ignore[arg-type]
        return leases.answer(answer, lease.secret, price, 5.0)

    first = say("object", [(1, 2, 9, 9)], [1], "so")
    again = say("object", [[1.0, 2.0, 9.0, 9.0]], [1], "so", seconds=4.0)
    assert again.repeated and again.answer_id == first.answer_id and again.counts
    with pytest.raises(Contradiction, match=r"answered before .*\(object\), and that stands: .* undo"):
        say(*second)
    assert ledger.cost().queries == 1 and ledger.verdicts(1) == {lease.query.id: "object"}
    back = leases.undo("Ada", "tab-ada-1", 6.0)
    with pytest.raises(Contradiction, match="taken back: answer the query as it was given out anew"):
        say(*second)
    assert say("object", [(1, 2, 9, 9)], [1], "so").counts is False, "as sent before; it was taken back"
    assert leases.answer(says(back, "background"), back.secret, price, 7.0).counts
    assert ledger.verdicts(1) == {lease.query.id: "background"}


def test_of_two_answers_by_one_lease_that_come_at_once_the_first_stands(ledger: Ledger) -> None:
    ledger.add_queries(1, [box_query(0), box_query(1)])
    leases = Leases(ledger)
    [ada], [bo] = leases.take("Ada", "tab-ada-1", 0.0), leases.take("Bo", "tab-bo-11", 0.0)
    gate, at_it = threading.Event(), threading.Event()
    blocked = threading.Thread(target=leases._commits.do, args=(lambda _: (at_it.set(), gate.wait(30)),))
    blocked.start()
    assert at_it.wait(30)
    sent = [(ada, "background", "Ada"), (bo, "background", "Bo"), (ada, "duplicate", "Ada"), (ada, "background", "Ada")]
    futures = [
        leases.answer_and_take(says(lease, verdict, who), lease.secret, price, 1.0, tab=f"tab-{who}", most=0)
        for lease, verdict, who in sent
    ]
    gate.set()
    blocked.join()
    first, other, repeated = (futures[k].result(30)[0] for k in (0, 1, 3))
    assert first is not None and other is not None and repeated is not None
    assert first.counts and other.counts and repeated.repeated and repeated.answer_id == first.answer_id
    with pytest.raises(Contradiction):
        futures[2].result(30)
    assert ledger.cost().queries == 2 and set(ledger.verdicts(1).values()) == {"background"}


def test_a_count_of_classes_that_the_ledger_does_not_know_is_refused(ledger: Ledger) -> None:
    ledger.add_queries(1, [box_query(0)])
    leases = Leases(ledger)
    [lease] = leases.take("Ada", "tab-ada-1", 0.0)
    for verdict, boxes, labels in (("background", [], []), ("object", [(1, 2, 9, 9)], [1]), ("skipped", [], [])):
        answer = Answer(lease.query.id or 0, verdict, boxes, labels, "Ada", 1.0, classes=3)  # type: ignore[arg-type]
        with pytest.raises(LabelwiseError, match=r"it knows 3 classes, and the project has 2\. Reload"):
            leases.answer(answer, lease.secret, price, 1.0)
    assert ledger.cost() == Cost()
    assert leases.answer(replace(answer, classes=2), lease.secret, price, 1.0).counts


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


def test_the_cursor_comes_back_for_what_was_passed(ledger: Ledger) -> None:
    """However far the search has come, an expired lease and an undone answer are found, and one of another process."""
    ledger.add_queries(1, queries(400))
    leases = Leases(ledger, lease_s=10)
    [slow] = leases.take("Bo", "tab-of-Bo", 0.0)
    for _ in range(300):
        say(leases, "Ada", 1.0)
    assert [lease.query.rank for lease in leases.take("Cy", "tab-of-Cy", 20.0)] == [slow.query.rank] == [0]
    back = leases.undo("Ada", "tab-of-Ada", 21.0)
    leases.release("Ada", "tab-of-Ada")
    assert back.query.rank == 300
    assert [lease.query.rank for lease in leases.take("Di", "tab-of-Di", 22.0, most=2)] == [300, 301]
    other = Leases(ledger)
    other.release("Cy", "tab-of-Cy")
    assert [lease.query.rank for lease in leases.take("Eve", "tab-of-Eve", 22.0)] == [302], "not heard of yet"
    ranks = [leases.take(f"person{k}", "tab-of-all", 22.5)[0].query.rank for k in range(97)]
    assert ranks == list(range(303, 400))
    assert [lease.query.rank for lease in leases.take("Fay", "tab-of-Fay", 22.5)] == [0]
    assert leases.take("Gil", "tab-of-Gil", 22.5) == []


def test_a_grid_gets_queries_of_one_predicted_class(ledger: Ledger) -> None:
    ledger.add_queries(1, queries(10, labels=2))
    leases = Leases(ledger)
    first = leases.take("Ada", "tab-of-Ada", 0.0, most=3, alike=True)
    assert [lease.query.rank for lease in first] == [0, 2, 4]
    holding = [lease.query.id or 0 for lease in first]
    more = leases.take("Ada", "tab-of-Ada", 0.0, most=12, holding=holding, alike=True)
    assert [lease.query.rank for lease in more] == [6, 8], "of the class of those that the window holds, and no other"
    assert [lease.query.label for lease in leases.take("Bo", "tab-of-Bo", 0.0, most=12, alike=True)] == [1] * 5


def test_a_window_renews_and_gives_back_its_own_alone(ledger: Ledger) -> None:
    ledger.add_queries(1, [box_query(k) for k in range(4)])
    leases = Leases(ledger, lease_s=60)
    [one], [other] = leases.take("Ada", "tab-ada-1", 0.0), leases.take("Ada", "tab-ada-2", 0.0)
    [answered] = leases.take("Bo", "tab-ada-1", 0.0)
    leases.answer(says(answered, "background", "Bo"), answered.secret, price, 1.0)
    assert leases.renew("Ada", "tab-ada-1", 40.0) == [one.query.id]
    assert leases.renew("Bo", "tab-ada-1", 40.0) == [], "it was answered"
    assert leases.renew("Ada", "tab-ada-2", 60.0) == [], "it is over: nobody holds it"
    assert leases.renew("Ada", "tab-ada-1", 60.0) == [one.query.id]
    [again] = leases.take("Ada", "tab-ada-2", 61.0)
    assert again.query.id == other.query.id
    leases.release("Ada", "tab-ada-2")
    leases.release("Bo", "tab-ada-1")
    assert [lease.query.rank for lease in leases.take("Cy", "tab-cy-11", 62.0, most=9)] == [1, 3]
    assert leases.renew("Ada", "tab-ada-1", 62.0) == [one.query.id]


def test_a_window_that_only_answers_gets_nothing_more(ledger: Ledger) -> None:
    ledger.add_queries(1, [box_query(0), box_query(1)])
    leases = Leases(ledger)
    [lease] = leases.take("Ada", "tab-ada-1", 0.0)
    leases.answer(says(lease, "background"), lease.secret, price, 1.0)
    assert [lease.query.rank for lease in leases.take("Bo", "tab-bo-11", 1.0)] == [1]


def test_a_round_that_closes_keeps_what_was_shown_or_answered_and_every_other_round(ledger: Ledger) -> None:
    ledger.add_queries(1, [box_query(k) for k in range(4)])
    ledger.add_queries(2, [replace(box_query(0), round=2)])
    leases = Leases(ledger)
    leases.take("Ada", "tab-ada-1", 0.0)
    leases.release("Ada", "tab-ada-1")
    by_file = ledger.queries(1)[2]
    ledger.record(by_file, Answer(by_file.id or 0, "background", who="Bo"), Cost(queries=1), "person Bo")
    assert leases.close_round(1) == 2
    assert [(query.round, query.rank) for query in ledger.queries()] == [(1, 0), (1, 2), (2, 0)]
    assert ledger.verdicts(1) == {by_file.id: "background"}


# ------------------------------------------------------------------------------------------------------ second thoughts


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


def test_what_another_person_holds_cannot_be_taken_back(ledger: Ledger) -> None:
    ledger.add_queries(1, queries(1))
    leases = Leases(ledger, lease_s=10, overlap=2)
    say(leases, "Ada", 0.0)
    leases.take("Bo", "tab-of-Bo", 1.0)
    with pytest.raises(LabelwiseError, match="in the hands of another person now"):
        leases.undo("Ada", "tab-of-Ada", 2.0)
    assert ledger.cost().queries == 1, "the answer stands"
    back = leases.undo("Ada", "tab-of-Ada", 11.0)
    assert back.expires == 21.0 and ledger.cost().queries == 0, "Bo's lease is over"


def test_the_last_answer_is_taken_back_and_again_after_its_query_was_given_anew(ledger: Ledger) -> None:
    ledger.add_queries(1, [box_query(k) for k in range(3)])
    leases = Leases(ledger)
    for verdict in ("background", "duplicate"):
        [lease] = leases.take("Ada", "tab-ada-1", 0.0)
        leases.answer(says(lease, verdict), lease.secret, price, 1.0)
    last = leases.undo("Ada", "tab-ada-1", 2.0)
    before = leases.undo("Ada", "tab-ada-1", 3.0)
    assert (last.query.rank, before.query.rank) == (1, 0)
    assert last.before is not None and last.before.verdict == "duplicate"
    assert before.before is not None and before.before.verdict == "background"
    assert leases.renew("Ada", "tab-ada-1", 4.0) == [before.query.id, last.query.id]
    leases.answer(says(last, "skipped"), last.secret, price, 5.0)
    again = leases.undo("Ada", "tab-ada-2", 6.0)
    assert again.query.id == last.query.id and leases.renew("Ada", "tab-ada-1", 6.0) == [before.query.id]


def test_two_answers_of_one_person_are_taken_back_one_after_the_other(ledger: Ledger) -> None:
    """The first window was asleep; meanwhile the same person had answered in another one."""
    ledger.add_queries(1, [box_query(0)])
    leases = Leases(ledger, lease_s=10)
    [slow] = leases.take("Ada", "tab-ada-1", 0.0)
    [quick] = leases.take("Ada", "tab-ada-2", 11.0)
    assert leases.answer(says(quick, "background"), quick.secret, price, 12.0).counts
    assert not leases.answer(says(slow, "duplicate"), slow.secret, price, 13.0).counts
    for tab, verdict in (("tab-ada-1", "duplicate"), ("tab-ada-2", "background")):
        back = leases.undo("Ada", tab, 14.0)
        assert back.before is not None and back.before.verdict == verdict
    assert leases.renew("Ada", "tab-ada-1", 15.0) == [], "it is held once"
    assert leases.renew("Ada", "tab-ada-2", 15.0) == [slow.query.id]


def test_an_answer_of_an_earlier_round_is_not_taken_back(ledger: Ledger) -> None:
    ledger.add_queries(1, [box_query(0)])
    leases = Leases(ledger)
    say(leases, "Ada", 0.0)
    ledger.mark_done(1, "ask", {}, 1.0)
    ledger.mark_started(2, "ask")
    ledger.add_queries(2, [replace(box_query(0), round=2)])
    with pytest.raises(LabelwiseError, match="no answer to take back"):
        leases.undo("Ada", "tab-of-Ada", 1.0)
    assert leases.round() == 2 and ledger.verdicts(1) != {}


# --------------------------------------------------------------------------------------------- several people per query


def test_a_query_stays_open_for_others_until_enough_have_answered(ledger: Ledger) -> None:
    ledger.add_queries(1, queries(2))
    leases = Leases(ledger, overlap=2)
    assert say(leases, "Ada", 0.0) == (0, True)
    assert counts(ledger, 1, 2)["owed"] == 1 and spent_and_open(ledger, 1, "queries", 2) == (1.0, 1, 1)
    assert say(leases, "Ada", 1.0) == (1, True), "nobody is asked the same twice"
    assert leases.take("Ada", "tab-of-Ada", 2.0) == []
    assert say(leases, "Bo", 3.0) == (0, False), "a second opinion"
    assert spent_and_open(ledger, 1, "queries", 2) == (3.0, 0, 1)
    assert say(leases, "Cy", 4.0) == (1, False)
    assert leases.take("Di", "tab-of-Di", 5.0) == [] and spent_and_open(ledger, 1, "queries", 2) == (4.0, 0, 0)
    leases.undo("Bo", "tab-of-Bo", 6.0)
    leases.release("Bo", "tab-of-Bo")
    assert say(leases, "Di", 7.0) == (0, False), "an opinion that was taken back is owed again"
    assert leases.take("Bo", "tab-of-Bo", 8.0) == []


def test_many_people_with_overlap_each_answer_a_query_once(ledger: Ledger) -> None:
    ledger.add_queries(1, queries(30))
    leases, errors = Leases(ledger, overlap=3), []

    def work(who: str) -> None:
        try:
            quiet = 0
            while quiet < 20:
                quiet = quiet + 1
                for lease in leases.take(who, f"tab-of-{who}", time.time(), most=2):
                    quiet = 0
                    answer = Answer(lease.query.id or 0, "background", who=who)
                    assert not leases.answer(answer, lease.secret, price, time.time()).repeated
                time.sleep(0.01 * (quiet > 0))
        except Exception as error:
            errors.append(error)

    threads = [threading.Thread(target=work, args=(f"person{k}",)) for k in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    with ledger.read() as connection:
        a = t.answers.c
        each = sa.select(sa.func.count(), sa.func.count(a.who.distinct())).group_by(a.query_id)
        found = [tuple(row) for row in connection.execute(each)]
    assert errors == [] and found == [(3, 3)] * 30
    assert len(ledger.verdicts(1)) == 30 and ledger.cost().queries == 90
