"""Known questions: asked as any other, measured against what is right, and never labels."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from test_consensus import CAT, DOG, A, box_queries, boxes_of, known, rows, says
from test_consensus import project as project  # a fixture
from test_leases import ledger as ledger  # a fixture
from test_leases import price, small_pool

from labelwise.config.choice import Choice
from labelwise.ledger import given_labels, known_questions
from labelwise.ledger.agreement import says_the_same
from labelwise.ledger.known_questions import Known
from labelwise.ledger.ledger import Ledger
from labelwise.project import consensus, guidelines, settled
from labelwise.project.project_folder import Project
from labelwise.queue.accounts import Accounts
from labelwise.queue.leases import Leases
from labelwise.stages.question_mix import top_up
from labelwise.types import Answer, Boxes, Cost, LabelwiseError, Query

FAR = (30.0, 30.0, 40.0, 40.0)


def context(project: Project, **ask: Any) -> Any:
    rule = SimpleNamespace(
        **{"merge": Choice(name="first"), "known_share": 0.0, "feedback": 0, "guidelines": "guidelines.md", **ask}
    )
    run = SimpleNamespace(ask=rule, classifies=False, seed=0)
    return SimpleNamespace(project=project, pool=small_pool(), run=run, given=None)


def add(ledger: Ledger, *right: Answer, source: int | None = None, image: str = "a.jpg") -> None:
    some = [Known(Query(0, 0, image, "box", A, DOG), one, source, 7) for one in right]
    with ledger.write() as connection:
        known_questions.add(connection, 1, some)


CAT_HERE = Answer(0, "object", [A], [CAT], "")


def test_a_known_question_comes_first_and_looks_like_any_other(project: Project) -> None:
    ledger = project.ledger
    [ordinary] = box_queries(ledger, 1)
    says(ledger, ordinary, "Ada", "object", (A, CAT))
    ledger.add_queries(1, [Query(1, 1, "a.jpg", "box", FAR, DOG)])
    add(ledger, CAT_HERE, source=ordinary.id)
    leases = Leases(ledger, known=True)
    [lease] = leases.take("Bo", "tab-bo-11", 0.0)
    assert (lease.query.rank, lease.query.box, lease.query.image) == (7, A, "a.jpg")
    assert lease.known == {"boxes": [], "covered": []}, "the label that is asked for is not shown"
    [other] = leases.take("Ada", "tab-ada-1", 0.0)
    assert other.query.rank == 1, "whoever answered it before is not asked again"
    assert [query.rank for query in ledger.queries(1)] == [0, 1], "the ranking does not know of it"


def test_its_answers_cost_time_and_leave_no_label(project: Project) -> None:
    ledger = project.ledger
    box_queries(ledger, 1)
    add(ledger, CAT_HERE)
    leases = Leases(ledger, known=True)
    [lease] = leases.take("Bo", "tab-bo-11", 0.0)
    receipt = leases.answer(Answer(lease.query.id or 0, "object", [A], [DOG], "Bo", 3.0), lease.secret, price, 5.0)
    assert receipt.counts, "nobody can tell it from the others"
    assert ledger.cost_by_round() == {1: Cost(0, 1, 0, 3.0)}
    answers, *labels = rows(ledger)
    assert len(answers) == 1 and labels == [[], [], []]
    assert boxes_of(known(project)) == []
    again = leases.undo("Bo", "tab-bo-11", 6.0)
    assert again.query.id == lease.query.id and again.before is not None and again.query.rank == 7
    leases.answer(Answer(lease.query.id or 0, "background", who="Bo"), again.secret, price, 7.0)
    assert rows(ledger)[1:] == [[], [], []]


def test_second_opinions_on_a_known_question_make_no_label_when_the_first_is_taken_back(project: Project) -> None:
    ledger = project.ledger
    box_queries(ledger, 1)
    add(ledger, CAT_HERE)
    leases = Leases(ledger, overlap=2, known=True)
    [first] = leases.take("Ada", "tab-ada-1", 0.0)
    leases.answer(Answer(first.query.id or 0, "object", [A], [CAT], "Ada"), first.secret, price, 1.0)
    [second] = leases.take("Bo", "tab-bo-11", 2.0)
    assert second.query.id == first.query.id
    leases.answer(Answer(first.query.id or 0, "object", [A], [DOG], "Bo"), second.secret, price, 3.0)
    leases.undo("Ada", "tab-ada-1", 4.0)
    assert rows(ledger)[1:] == [[], [], []] and boxes_of(known(project)) == []


def test_people_are_judged_by_what_is_right(project: Project) -> None:
    ledger = project.ledger
    add(ledger, *[replace(CAT_HERE, labels=[k % 2]) for k in range(120)])
    leases = Leases(ledger, known=True)
    for k in range(120):
        [lease] = leases.take("Bo", "tab-bo-11", float(k))
        leases.answer(Answer(lease.query.id or 0, "object", [A], [CAT], "Bo"), lease.secret, price, float(k))
    [row] = consensus.quality(project, small_pool(), one_class=False)
    assert (row["who"], row["answers"], row["known"], row["right"]) == ("Bo", 120, 120, 0.5)
    assert row["noise"] and "120 of them known questions" in consensus.told([row])[0]


def test_objects_of_a_known_image_that_were_missed_count(project: Project) -> None:
    ledger = project.ledger
    right = Answer(0, "all", [A, FAR], [CAT, DOG], "")
    with ledger.write() as connection:
        known_questions.add(connection, 1, [Known(Query(0, 0, "a.jpg", "image"), right, None, 0)])
    leases = Leases(ledger, known=True)
    [lease] = leases.take("Bo", "tab-bo-11", 0.0)
    extra = (1.0, 30.0, 9.0, 40.0)
    leases.answer(Answer(lease.query.id or 0, "all", [A, extra], [CAT, CAT], "Bo"), lease.secret, price, 1.0)
    [row] = consensus.quality(project, small_pool(), one_class=False)
    assert row["answers"] == 3 and row["right"] == pytest.approx(1 / 3), "one right, one missed, one invented"


def test_feedback_is_for_the_first_known_questions_alone(project: Project) -> None:
    ledger = project.ledger
    [ordinary] = box_queries(ledger, 1)
    add(ledger, CAT_HERE, CAT_HERE)
    leases, told = Leases(ledger, known=True), []
    for label in (CAT, DOG, DOG):
        [lease] = leases.take("Bo", "tab-bo-11", 0.0)
        answer = Answer(lease.query.id or 0, "object", [A], [label], "Bo")
        leases.answer(answer, lease.secret, price, 1.0)
        told.append([guidelines.feedback(ledger, answer, most) for most in (0, 1, 2)])
    assert told[0][0] is None and told[0][1] is not None and told[0][1]["right"] is True
    assert told[1][1] is None and told[1][2] is not None and told[1][2]["right"] is False
    assert told[1][2]["labels"] == (CAT,) and told[2] == [None, None, None] and ordinary.rank == 0


def test_right_is_the_same_verdict_with_the_same_objects() -> None:
    one = Answer(1, "object", [A], [CAT], "Ada")
    assert says_the_same(one, replace(one, boxes=[(0.0, 0.0, 10.0, 8.0)]))
    assert not says_the_same(one, replace(one, boxes=[FAR])) and not says_the_same(one, replace(one, labels=[DOG]))
    assert not says_the_same(one, Answer(1, "background")) and says_the_same(Answer(1, "all"), Answer(2, "all"))
    assert not says_the_same(Answer(1, "all", [A], [CAT]), Answer(1, "all", [A, FAR], [CAT, CAT]))


def test_guidelines_lie_in_the_project_folder(project: Project, tmp_path: Path) -> None:
    assert guidelines.text(context(project)) == ""
    (tmp_path / "guidelines.md").write_text("# Cats\nWhiskers count.", encoding="utf-8")
    assert guidelines.text(context(project)).startswith("# Cats")
    with pytest.raises(LabelwiseError, match="outside the project folder"):
        guidelines.text(context(project, guidelines="../other.md"))
    (tmp_path / "guidelines.md").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(LabelwiseError, match="Save it as UTF-8"):
        guidelines.text(context(project))


# ---------------------------------------------------------------------------------------------- where they come from


def test_what_people_agree_on_and_owners_said_is_settled(project: Project) -> None:
    ledger = project.ledger
    queries = box_queries(ledger, 40)
    Accounts(ledger).invite("Olga", "owner", 0.0)
    for k, query in enumerate(queries[:30]):
        for who in ("Ada", "Bo", "Cy"):
            says(ledger, query, who, "object", (A, k % 2))
    says(ledger, queries[30], "Olga", "background")
    says(ledger, queries[31], "Ada", "object", (A, CAT))
    ledger.add_queries(3, [Query(3, 0, "a.jpg", "box", FAR, CAT)])
    (alone,) = ledger.queries(3)
    for who, verdict in (("Ada", "background"), ("Bo", "background"), ("Olga", "duplicate")):
        says(ledger, alone, who, verdict)
    found = settled.questions(context(project), "box", np.random.default_rng(0))
    assert {(one.query.image, one.query.box) for one in found} == {("a.jpg", A), ("b.jpg", A), ("a.jpg", FAR)}
    assert {one.right.verdict for one in found} <= {"object", "background"}
    assert settled.questions(context(project), "image", np.random.default_rng(0)) == []


def test_given_labels_are_settled_and_asked_with_wrong_classes_too(project: Project) -> None:
    ledger, pool = project.ledger, small_pool()
    xyxy = np.array([[k, k, k + 20, k + 20] for k in range(20)], np.float32)
    boxes = Boxes(np.array([0, 20, 20]), xyxy, np.arange(20) % 2)
    given_labels.enter(ledger, pool, boxes, np.array([True, True]), np.array([True, True]), "complete")
    opened = context(project)
    opened.given = "complete"
    found = settled.questions(opened, "box", np.random.default_rng(0))
    same = [one.query.label == one.right.labels[0] for one in found]
    assert len(found) == 20 and 4 < sum(same) < 16 and all(one.query.box == one.right.boxes[0] for one in found)
    images = settled.questions(opened, "image", np.random.default_rng(0))
    assert sorted((one.query.image, len(one.right.boxes)) for one in images) == [("a.jpg", 20), ("b.jpg", 0)]


def test_there_are_as_many_as_their_share_of_the_answers(project: Project) -> None:
    ledger = project.ledger
    queries = box_queries(ledger, 40)
    Accounts(ledger).invite("Olga", "owner", 0.0)
    opened = context(project, known_share=0.2)
    now: Any = SimpleNamespace(run=opened.run, ledger=ledger, number=1, context=opened, unit_names=("box",))
    added = []
    for query in queries[:12]:
        says(ledger, query, "Olga", "object", (A, CAT))
        top_up(now)
        with ledger.read() as connection:
            added.append(known_questions.counts(connection, 1)[1])
    assert added == [0, 0, 0, 1, 1, 1, 1, 2, 2, 2, 2, 3], "one after every four"
    opened.run.ask.known_share = 0.0
    top_up(now)
    with ledger.read() as connection:
        asked = known_questions.every(connection)
    assert len(asked) == 3 and len({one.query.image for one in asked}) == 2, "those asked least often come first"
