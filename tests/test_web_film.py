"""Suggestions in the ledger and on the server: what is kept, what it costs, what is refused, what frames suggest."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fakes.browser import film, moved

from labelwise.ask.cost import CostTable, cost
from labelwise.ledger import known_questions
from labelwise.ledger.costs import timed_answers
from labelwise.ledger.known_questions import Known
from labelwise.ledger.ledger import Ledger
from labelwise.ledger.suggestions import actions
from labelwise.project import opening
from labelwise.project.clip_flow import film_of, part_of
from labelwise.project.round import Round
from labelwise.queue.leases import Leases
from labelwise.types import Answer, Cost, Detections, LabelwiseError, Query, Suggestion

A, B, C = (0.0, 0.0, 10.0, 10.0), (20.0, 20.0, 30.0, 30.0), (40.0, 40.0, 50.0, 50.0)
ANSWERS = [
    ([A, B], [0, 1], [(A, 0, 0), (C, 0, None)], ["verify", "reject"], 7.8 + 2 + 2 + 7),
    ([A, B], [0, 1], [(A, 1, 0), ((20.0, 20.0, 30.0, 31.0), 1, 1)], ["mend", "mend"], 7.8 + 2 * (2 + 7)),
    ([], [], [(A, 0, None)], ["reject"], 7.8 + 2),
    ([C], [0], [], [], 7.8 + 7),
]


@pytest.mark.parametrize(("boxes", "labels", "offered", "done", "seconds"), ANSWERS)
def test_what_became_of_a_suggestion_and_what_it_costs(
    boxes: Any, labels: Any, offered: Any, done: list[str], seconds: float
) -> None:
    query = Query(0, 0, "a.jpg", "image", id=1)
    suggested = [Suggestion(box, label, "flow", "b.jpg", number) for box, label, number in offered]
    answer = Answer(1, "all", boxes, labels, suggested=suggested)
    assert [answer.action(one) for one in suggested] == done
    assert cost(query, answer, CostTable()).seconds == pytest.approx(seconds)
    assert cost(query, Answer(1, "all", boxes, labels, seconds=3.5, suggested=suggested)).seconds == 3.5


@pytest.fixture
def project(tmp_path: Path) -> Iterator[Any]:
    """A film of 40 frames in which one object moves; every frame from the 6th on is asked about."""
    film(tmp_path / "data", 30)
    recipe = tmp_path / "recipe.toml"
    recipe.write_text(
        f'name = "film"\nmodel = "fakes.detector"\n[data]\nroot = "{(tmp_path / "data").as_posix()}"\n'
        'format = "frames"\n'
        'classes = ["cat", "dog"]\n[query]\nunit = "frame"\nscore = "random"\nselect = "top"\n[ask]\nwho = "people"\n'
        '[labels]\npolicy = "background"\n'
    )
    opened = opening.start(tmp_path / "project", str(recipe), [])
    opened.project.ledger.add_images(opened.pool)
    opened.project.ledger.mark_started(1, "ask")
    names = opened.pool.names[5:]
    opened.project.ledger.add_queries(1, [Query(1, rank, name, "image") for rank, name in enumerate(names)])
    yield opened
    opened.project.close()


def say(opened: Any, rank: int, boxes: list[Any], suggested: Any = ()) -> Query:
    ledger = opened.project.ledger
    query = ledger.queries(1)[rank]
    ledger.record(query, Answer(query.id, "all", boxes, [0] * len(boxes), "Ada", suggested=suggested), Cost(), "oracle")
    return query


def offers(page: Any, query: Query, who: str = "Ada") -> dict[str, Any]:
    """What is offered once the flow is there."""
    until = time.time() + 60
    while (found := page.offers(query.id, who))["waits"] and time.time() < until:
        time.sleep(0.05)
    return found


@pytest.fixture
def page(project: Any) -> Any:
    pytest.importorskip("cv2", reason="no OpenCV: uv sync --extra video")
    pytest.importorskip("fastapi")
    from labelwise.web.film import Film
    from labelwise.web.shown import Shown

    return Film(project, Shown(project))


def test_near_frames_suggest_what_they_hold(project: Any, page: Any) -> None:
    queries = project.project.ledger.queries(1)
    assert offers(page, queries[3]) == {"offers": [], "lent": [], "track": [], "waits": False, "problem": ""}
    still = (500.0, 300.0, 560.0, 360.0)
    say(project, 0, [moved(5)])
    say(project, 6, [moved(11), still])
    found = offers(page, queries[2])  # 2 frames after the one, 4 before the other
    first, second = found["offers"]
    np.testing.assert_allclose(first["box"], moved(7), atol=1)
    np.testing.assert_allclose(second["box"], still, atol=1)
    assert (first["image"], second["image"], first["origin"]) == (5, 11, "flow")
    assert [one["image"] for one in found["lent"]] == [5], "the nearest frame lends"
    say(project, 2, [moved(7)], [Suggestion(tuple(first["box"]), 0, "flow", project.pool.names[5], None)])
    assert offers(page, queries[2])["offers"] == [found["offers"][1]], "what is known of a frame is not suggested to it"
    beyond = offers(page, queries[1])["offers"]
    assert [one["image"] for one in beyond] == [5], "frames beyond one that was looked over say nothing"


def test_out_of_reach_a_frame_lends_its_boxes_as_they_stood(project: Any, page: Any) -> None:
    say(project, 0, [moved(5)])
    found = offers(page, project.project.ledger.queries(1)[25])
    assert found["offers"] == []
    assert found["lent"] == [{"box": tuple(moved(5)), "label": 0, "origin": "lent", "image": 5}]


def test_a_candidate_is_followed_and_a_region_takes_what_lies_in_it(project: Any, page: Any) -> None:
    ledger, names = project.project.ledger, project.pool.names
    box, region = tuple(moved(8)), (0.0, 0.0, moved(8)[2] - 20, 480.0)
    ledger.mark_started(2, "ask")
    ledger.add_queries(2, [Query(2, 0, names[8], "box", box, 0), Query(2, 1, names[8], "region", region)])
    say(project, 0, [moved(5)])
    candidate, part = (offers(page, query) for query in ledger.queries(2))
    for one in candidate["track"]:
        np.testing.assert_allclose(one["box"], moved(one["number"]), atol=2)
    assert len(candidate["track"]) >= 3 and part["track"] == []
    assert part["offers"][0]["box"][2] == region[2] and candidate["offers"][0]["box"][2] > region[2]


def test_frames_are_stepped_through_one_by_one(project: Any, page: Any) -> None:
    say(project, 0, [moved(5)])
    first, known, last = (page.frame(k, "Ada") for k in (0, 5, 39))
    assert (first["before"], first["after"], last["after"]) == (-1, 1, -1)
    assert known["boxes"] == [{"box": moved(5), "label": 0}] and known["size"] == (640, 480)
    assert known["covered"] == [[0.0, 0.0, 640.0, 480.0]]
    for number in (40, -1):
        with pytest.raises(LabelwiseError, match="no such frame"):
            page.frame(number, "Ada")
    with pytest.raises(LabelwiseError, match="query 999"):
        page.offers(999, "Ada")


def test_a_long_film_is_computed_in_parts_that_overlap(project: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    from labelwise.project import clip_flow

    assert film_of(project, 17) == range(40) == part_of(project, 17, 3)
    monkeypatch.setattr(clip_flow, "WHOLE", 10)
    monkeypatch.setattr(clip_flow, "PART", 8)
    parts = [part_of(project, k, 3) for k in range(40)]
    for k, part in enumerate(parts):
        assert max(0, k - 3) in part and min(39, k + 3) in part and len(part) <= 14
    assert len(set(parts)) == 5


def test_what_was_suggested_is_kept_counted_and_comes_back_by_undo(project: Any) -> None:
    ledger = project.project.ledger
    assert actions(ledger) == []
    leases = Leases(ledger)
    [lease] = leases.take("Ada", "tab-of-Ada", 1.0)
    names = project.pool.names
    offered = (Suggestion(A, 0, "flow", names[0], 1), Suggestion(B, 0, "lent", names[1]))
    answer = Answer(lease.query.id or 0, "all", [C, A], [0, 0], "Ada", suggested=offered)
    leases.answer(replace(answer, seconds=0.5), lease.secret, lambda _query, _answer: Cost(boxes=2, queries=1), 2.0)
    with ledger.read() as connection:
        [(_, timed)] = timed_answers(connection, 10)
    assert tuple(timed.suggested) == offered, "learnt costs know of it"
    assert actions(ledger) == [{"who": "Ada", "verify": 1, "mend": 0, "draw": 1, "reject": 1}]
    again = leases.undo("Ada", "tab-of-Ada", 3.0)
    assert again.before is not None and tuple(again.before.suggested) == offered
    assert actions(ledger) == [], "what was taken back counts no longer"
    for wrong in (
        (Suggestion(A, 0, "flow", names[0], 2),),
        (offered[0], offered[0]),
        (Suggestion(A, 9, "flow", names[0]),),
        (Suggestion((1.0, 1.0, 1.0, 2.0), 0, "flow", names[0]),),
    ):
        with pytest.raises(LabelwiseError, match="suggestion"):
            ledger.record(lease.query, Answer(lease.query.id or 0, "all", [C], [0], suggested=wrong), Cost(), "oracle")


def test_a_ledger_of_before_gets_the_table(tmp_path: Path) -> None:
    path = tmp_path / "old.sqlite"
    old = Ledger.open(path, create=True)
    with old.write() as connection:
        connection.exec_driver_sql("DROP TABLE suggestions")
    old.close()
    opened = Ledger.open(path)
    assert actions(opened) == []
    with opened.read() as connection:
        triggers = connection.exec_driver_sql("SELECT name FROM sqlite_master WHERE type = 'trigger'").scalars().all()
    assert {"suggestions_no_update", "suggestions_no_delete"} <= set(triggers)
    opened.close()


def test_what_the_model_found_is_suggested_where_people_draw(
    project: Any, page: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The most confident first, but for what labelled frames suggest or is known; not with `ask.prefill = false`."""
    xyxy = np.array([moved(7), [400, 300, 440, 330], [20, 300, 60, 330]], np.float32)
    probs, scores = np.eye(2, dtype=np.float32)[[0, 1, 0]], np.array([0.9, 0.3, 0.6], np.float32)
    nothing = np.zeros((3, 0), np.float32)
    offsets = np.where(np.arange(41) <= 7, 0, 3).astype(np.int64)
    found = Detections(offsets, xyxy, probs, scores, nothing)
    monkeypatch.setattr(Round, "shards", lambda _now, _columns: iter([(0, found)]))
    say(project, 0, [moved(5)])
    query, other = (project.project.ledger.queries(1)[k] for k in (2, 3))
    flow, sure, unsure = offers(page, query)["offers"]
    assert flow["origin"] == "flow" and "score" not in flow
    assert sure == {"box": (20, 300, 60, 330), "label": 0, "origin": "model", "image": 7, "score": 0.6}
    assert (unsure["label"], unsure["score"]) == (1, 0.3)
    assert [one["origin"] for one in offers(page, other)["offers"]] == ["flow"]
    project.run = project.run.model_copy(update={"ask": project.run.ask.model_copy(update={"prefill": False})})
    found = offers(page, query)
    assert (found["offers"], found["lent"]) == ([], [])


def test_a_known_question_does_not_show_its_answer_in_the_film(project: Any, page: Any) -> None:
    """Neither its own frame nor a near one tells whom it is asked; whoever gave the label still sees it."""
    ledger, names = project.project.ledger, project.pool.names
    source, near = say(project, 0, [moved(5)]), ledger.queries(1)[2]
    right = Answer(0, "all", [moved(5)], [0], "")
    with ledger.write() as connection:
        known_questions.add(connection, 1, [Known(Query(1, 0, names[5], "image"), right, source.id, 3)])
    leases = Leases(ledger, known=True)
    [lease] = leases.take("Bo", "tab-bo-11", 0.0)
    assert lease.query.image == names[5] and lease.known == {"boxes": [], "covered": []}
    frame = page.frame(5, "Bo")
    assert (frame["boxes"], frame["covered"]) == ([], [])
    assert offers(page, near, "Bo")["offers"] == [] == page.offers(near.id, "Bo")["lent"], "moved to a near frame"
    own = offers(page, lease.query, "Bo")
    assert own["offers"] == own["lent"] == []
    assert page.frame(5, "Ada")["boxes"] == [{"box": moved(5), "label": 0}], "it is not asked of her"
    assert [one["image"] for one in offers(page, near, "Ada")["offers"]] == [5]
    leases.answer(Answer(lease.query.id or 0, "all", who="Bo"), lease.secret, lambda *_: Cost(), 1.0)
    assert page.frame(5, "Bo")["boxes"] == [{"box": moved(5), "label": 0}], "he has answered"


def test_what_is_known_of_near_frames_is_offered_to_a_known_question_as_to_any_other(project: Any, page: Any) -> None:
    ledger, names = project.project.ledger, project.pool.names
    say(project, 0, [moved(5)])
    say(project, 2, [moved(7)])
    some = [Known(Query(1, 0, names[7], "image"), Answer(0, "all", [moved(7)], [0], ""), None, 3)]
    with ledger.write() as connection:
        known_questions.add(connection, 1, some)
    [lease] = Leases(ledger, known=True).take("Bo", "tab-bo-11", 0.0)
    [offer] = offers(page, lease.query, "Bo")["offers"]
    assert offer["image"] == 5, "else what is missing would tell that the frame has its label"
