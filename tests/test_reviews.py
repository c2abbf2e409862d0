"""Labels that are there, asked about: what an answer supersedes, and what taking it back restores."""

from __future__ import annotations

from typing import Any

import numpy as np
from test_consensus import CAT, DOG, MAJORITY, A, B, boxes_of, known, says
from test_consensus import project as project  # a fixture
from test_leases import ledger as ledger  # a fixture
from test_leases import price, small_pool

from labelwise.config.choice import Choice
from labelwise.ledger import by_hand, given_labels
from labelwise.ledger.by_hand import Change
from labelwise.ledger.ledger import Ledger
from labelwise.ledger.reviews import REVIEWS
from labelwise.project.project_folder import Project
from labelwise.queue.leases import Leases
from labelwise.types import Answer, Boxes, Query

FIRST = Choice(name="first")


def reviewed(ledger: Ledger, n: int = 1) -> list[Query]:
    """A label of an image that came wholly labelled, and questions about it."""
    boxes = Boxes(np.array([0, 1, 1]), np.array([A], np.float32), np.array([CAT]))
    given_labels.enter(ledger, small_pool(), boxes, np.array([True, True]), np.array([True, True]), "complete")
    row = int(ledger.annotation_rows()["id"][0])
    ledger.add_queries(1, [Query(1, k, "a.jpg", "box", A, CAT, 0.9, {REVIEWS: float(row)}) for k in range(n)])
    return ledger.queries(1)


def current(project: Project) -> list[Any]:
    return boxes_of(known(project, FIRST))


def test_an_answer_supersedes_and_taking_it_back_restores(project: Project) -> None:
    [query] = reviewed(project.ledger)
    leases = Leases(project.ledger)
    for verdict, objects, left in (
        ("object", [(B, DOG)], [(list(B), DOG)]),
        ("object", [(A, CAT)], [(list(A), CAT)]),
        ("background", [], []),
        ("duplicate", [], []),
        ("skipped", [], [(list(A), CAT)]),
    ):
        [lease] = leases.take("Ada", "tab-ada-1", 0.0)
        assert lease.query.id == query.id
        answer = Answer(query.id or 0, verdict, [box for box, _ in objects], [c for _, c in objects], "Ada")
        leases.answer(answer, lease.secret, price, 1.0)
        assert current(project) == left, verdict
        leases.undo("Ada", "tab-ada-1", 2.0)
        assert current(project) == [(list(A), CAT)], f"{verdict} was taken back"
        leases.release("Ada", "tab-ada-1")
    labels = known(project, FIRST)
    assert labels.covered(small_pool()).tolist() == [True, True], "the image stays wholly labelled"


def test_the_second_opinion_counts_when_the_first_is_taken_back(project: Project) -> None:
    [query] = reviewed(project.ledger)
    leases = Leases(project.ledger, overlap=2)
    for who, label in (("Ada", DOG), ("Bo", CAT)):
        [lease] = leases.take(who, f"tab-{who}-12", 0.0)
        leases.answer(Answer(query.id or 0, "object", [B], [label], who), lease.secret, price, 1.0)
    assert current(project) == [(list(B), DOG)]
    leases.undo("Ada", "tab-Ada-12", 2.0)
    assert current(project) == [(list(B), CAT)]


def test_a_label_that_was_corrected_meanwhile_stays(project: Project) -> None:
    first, second = reviewed(project.ledger, 2)
    says(project.ledger, first, "Ada", "object", (A, DOG))
    says(project.ledger, second, "Bo", "background")
    assert current(project) == [(list(A), DOG)]


def test_several_opinions_on_a_label_are_merged(project: Project) -> None:
    [query] = reviewed(project.ledger)
    for who, label in (("Ada", DOG), ("Bo", CAT), ("Cy", CAT)):
        says(project.ledger, query, who, "object", (A, label))
    assert current(project) == [(list(A), DOG)]
    assert boxes_of(known(project, MAJORITY)) == [(list(A), CAT)]


def test_two_answers_about_one_label_that_are_stored_together_supersede_it_once(project: Project) -> None:
    first, second = reviewed(project.ledger, 2)
    answers = [Answer(first.id or 0, "object", [A], [DOG], "Ada"), Answer(second.id or 0, "background", (), (), "Bo")]
    with project.ledger.write() as connection:
        pairs = zip((first, second), answers, strict=True)
        project.ledger.record_within(connection, [(query, said, price(query, said)) for query, said in pairs])
    assert current(project) == [(list(A), DOG)]


def test_a_question_follows_its_label_when_a_correction_is_taken_back(project: Project) -> None:
    """The label is there again, under another number: an answer supersedes it, and adds no second one."""
    ledger = project.ledger
    [query] = reviewed(ledger)
    label = int(ledger.annotation_rows()["id"][0])
    made = by_hand.correct(ledger, [Change("a.jpg", "object", B, DOG, label)], "me", 1.0, price)
    by_hand.take_back(ledger, made, "me")
    assert current(project) == [(list(A), CAT)]
    says(ledger, query, "Ada", "object", (A, DOG))
    assert current(project) == [(list(A), DOG)]
