"""The owner's gallery over its routes: what is listed and filtered, corrections as answers, and who may do so."""

from __future__ import annotations

from dataclasses import replace
from io import BytesIO
from typing import Any

import numpy as np
import pytest
from PIL import Image
from test_web import Browser, about, ask
from test_web import site as site  # a fixture

from labelwise import files
from labelwise.ledger import known_questions
from labelwise.ledger.known_questions import Known
from labelwise.ledger.progress import spent_and_open
from labelwise.project.context import Context
from labelwise.project.round import Round
from labelwise.types import Answer, Cost, Detections, Query

FAR = (40.0, 30.0, 60.0, 44.0)


def says(opened: Context, query: Query, who: str, verdict: str, *objects: Any) -> None:
    answer = Answer(query.id or 0, verdict, [box for box, _ in objects], [label for _, label in objects], who, 1.0)
    cost = Cost(len(objects), 1, 0, 1.0)
    with opened.project.ledger.write() as connection:
        opened.project.ledger.record_within(connection, [(query, answer, cost)])


def started(site: Any, *settings: str) -> tuple[Context, Browser, list[Query]]:
    """Four box questions in round 1: Ada said cat, dog and "no object", Bo skipped one."""
    opened = site.open(*settings)
    ask(opened, *(about(k, opened) for k in range(4)))
    queries = opened.project.ledger.queries(1)
    for query, who, verdict, *objects in (
        (queries[0], "Ada", "object", (queries[0].box, 0)),
        (queries[1], "Ada", "object", (queries[1].box, 1)),
        (queries[2], "Ada", "background"),
        (queries[3], "Bo", "skipped"),
    ):
        says(opened, query, who, verdict, *objects)
    return opened, site.browser("me", "owner"), queries


def listed(owner: Browser, query: str = "") -> list[dict[str, Any]]:
    reply = owner.get(f"/api/owner/labels?{query}")
    assert reply.status_code == 200, reply.text
    return list(reply.json()["items"])


def correct(owner: Browser, *items: dict[str, Any], seconds: float = 2.0) -> Any:
    return owner.post("/api/owner/corrections", {"items": list(items), "seconds": seconds})


def change(item: dict[str, Any], verdict: str, **more: Any) -> dict[str, Any]:
    return {"image": item["image"]["number"], "annotation": item.get("annotation"), "verdict": verdict, **more}


def current(opened: Context) -> list[tuple[str, int]]:
    rows = opened.project.ledger.annotation_rows()
    return list(zip([name.rpartition("/")[2] for name in rows["image"]], rows["label"].tolist(), strict=True))


def test_labels_are_listed_filtered_and_cut_out(site: Any) -> None:
    opened, owner, queries = started(site)
    assert [(item["label"], item["origin"], item["round"]) for item in listed(owner)] == [
        (1, "person Ada", 1), (0, "person Ada", 1)
    ]  # fmt: skip
    assert [item["label"] for item in listed(owner, "label=0")] == [0]
    assert listed(owner, "round=0") == listed(owner, "origin=person%20Bo") == []
    assert len(listed(owner, "origin=person%20Ada&round=1")) == 2
    [nothing], [skipped] = listed(owner, "verdict=background"), listed(owner, "verdict=skipped")
    assert nothing["query"] == queries[2].id and nothing["box"] == list(queries[2].box or ())
    assert skipped["origin"] == "person Bo" and listed(owner, "verdict=skipped&origin=person%20Ada") == []
    filters = owner.get("/api/owner/labels/filters").json()
    assert filters["label"] == [{"value": 0, "many": 1}, {"value": 1, "many": 1}]
    assert {row["value"]: row["many"] for row in filters["verdict"]} == {"background": 1, "skipped": 1}
    here = listed(owner)[0]
    corners = "&".join(f"{name}={value}" for name, value in zip(("x1", "y1", "x2", "y2"), here["box"], strict=True))
    crop = owner.get(f"/api/owner/crops/{here['image']['number']}?{corners}")
    assert crop.status_code == 200 and max(Image.open(BytesIO(crop.content)).size) == 220
    for bad in ("0?x1=9&y1=9&x2=2&y2=12", "99?x1=0&y1=0&x2=5&y2=5", "0?x1=a&y1=0&x2=5&y2=5"):
        assert owner.get(f"/api/owner/crops/{bad}").status_code in (404, 422)
    assert opened.project.ledger.cost_by_round()[1].queries == 4, "looking costs nothing"


def test_it_is_the_owners_alone(site: Any) -> None:
    started(site)
    ada = site.browser("Ada")
    for path in ("labels", "labels/filters", "crops/0?x1=0&y1=0&x2=9&y2=9"):
        assert ada.get(f"/api/owner/{path}").status_code == 403
    mark = {"image": 0, "annotation": 1, "verdict": "background"}
    assert correct(ada, mark).status_code == 403
    assert ada.post("/api/owner/corrections/undo", {"answers": [1]}).status_code == 403


def test_a_correction_is_an_answer_that_supersedes_and_can_be_taken_back(site: Any) -> None:
    opened, owner, _ = started(site)
    ledger, before = opened.project.ledger, current(opened)
    dog, cat = listed(owner)
    for verdict, more, left in (
        ("object", {"box": cat["box"], "label": 1}, [("01.png", 1), ("00.png", 1)]),
        ("object", {"box": [3, 3, 20, 20], "label": 0}, [("01.png", 1), ("00.png", 0)]),
        ("background", {}, [("01.png", 1)]),
        ("duplicate", {}, [("01.png", 1)]),
    ):
        reply = correct(owner, change(cat, verdict, **more))
        assert reply.status_code == 200, reply.text
        assert current(opened) == left, verdict
        assert owner.post("/api/owner/corrections/undo", reply.json()).status_code == 200
        assert sorted(current(opened)) == sorted(before)
        assert owner.post("/api/owner/corrections/undo", reply.json()).status_code == 409, "only once"
        [cat] = listed(owner, "label=0")
    with ledger.read() as connection:
        kept = connection.exec_driver_sql("SELECT count(*) FROM answers").scalar()
    assert kept == 8, "nothing was deleted"
    both = correct(owner, change(cat, "background"), change(dog, "object", box=dog["box"], label=0), seconds=6.0)
    assert current(opened) == [("01.png", 0)] and len(both.json()["answers"]) == 2
    spent = ledger.cost_by_round()[1]
    assert (spent.queries, spent.boxes) == (6, 3) and spent.seconds >= 4 + 6, "an answer costs what any other does"
    assert spent_and_open(ledger, 1, "queries")[1:] == (0, 0), "nobody is waited for"


def test_what_was_taken_back_is_given_to_nobody_and_not_waited_for(site: Any) -> None:
    opened, owner, _ = started(site, "ask.overlap=2", "ask.merge=majority")
    cat = listed(owner)[1]
    reply = correct(owner, change(cat, "background"))
    owner.post("/api/owner/corrections/undo", reply.json())
    assert all(query["rank"] >= 0 for query in site.browser("Cy").next(most=9))
    assert [query.rank for query in opened.project.ledger.queries(1)] == [0, 1, 2, 3]
    correct(owner, change(listed(owner)[0], "background"))
    assert spent_and_open(opened.project.ledger, 1, "queries", 2)[2] == 4, "a correction wants no second opinion"


def test_a_label_that_was_corrected_meanwhile_or_makes_no_sense_is_refused_with_all_others(site: Any) -> None:
    opened, owner, _ = started(site)
    dog, cat = listed(owner)
    assert correct(owner, change(cat, "background")).status_code == 200
    again = correct(owner, change(dog, "background"), change(cat, "object", box=cat["box"], label=1))
    assert again.status_code == 409 and "corrected meanwhile" in again.json()["error"]
    assert current(opened) == [("01.png", 1)], "all or none"
    assert "twice" in correct(owner, change(dog, "background"), change(dog, "duplicate")).json()["error"]
    assert correct(owner, change(dog, "object", box=dog["box"], label=7)).status_code == 409
    assert correct(owner, change(dog, "object", box=[0, 0, 900, 9], label=0)).status_code == 409
    assert correct(owner, change(dog | {"image": {"number": 0}}, "background")).status_code == 409
    assert correct(owner, change(dog | {"image": {"number": 99}}, "background")).status_code == 404
    assert correct(owner, change(dog, "nonsense")).status_code == 422 and correct(owner).status_code == 422
    with opened.project.ledger.read() as connection:
        assert connection.exec_driver_sql("SELECT count(*) FROM queries WHERE rank < 0").scalar() == 1


def test_a_label_is_added_where_an_answer_left_none(site: Any) -> None:
    opened, owner, queries = started(site)
    [nothing] = listed(owner, "verdict=background")
    mark = change(nothing, "object", about=nothing["query"], box=nothing["box"], label=0)
    reply = correct(owner, mark)
    assert ("02.png", 0) in current(opened) and listed(owner, "verdict=background") == []
    owner.post("/api/owner/corrections/undo", reply.json())
    assert [item["query"] for item in listed(owner, "verdict=background")] == [queries[2].id]


def test_people_who_differ_are_found_and_merged_labels_shown(site: Any) -> None:
    opened, owner, queries = started(site, "ask.merge=majority")
    for who in ("Bo", "Cy"):
        says(opened, queries[0], who, "object", (queries[0].box, 1))
        says(opened, queries[1], who, "object", (queries[1].box, 1))
    right = Answer(0, "object", [FAR], [0], "")
    with opened.project.ledger.write() as connection:
        known_questions.add(connection, 1, [Known(replace(queries[0], id=None, box=FAR), right, None, 0)])
    [cat] = listed(owner, "agreement=differ")
    assert (cat["label"], cat["merged"], cat["agree"]) == (0, 1, False)
    [dog] = listed(owner, "agreement=agree")
    assert (dog["label"], dog["merged"], dog["agree"]) == (1, 1, True) and listed(owner, "agreement=single") == []
    assert correct(owner, change(cat, "object", box=cat["box"], label=0)).status_code == 200
    labels = opened.known().annotations
    assert labels.labels[labels.image == 0].tolist() == [0], "a correction stands against a majority"


def with_doubts(site: Any, *settings: str) -> tuple[Context, Browser, list[Query]]:
    """The model of round 1 takes the cat for a dog."""
    opened, owner, queries = started(site, *settings)
    boxes = np.array([queries[0].box, queries[1].box, FAR], np.float32)
    probs = np.array([[0.1, 0.9], [0.2, 0.8], [0.9, 0.1]], np.float32)
    offsets = np.array([0, 1, 3, 3, 3, 3, 3])
    found = Detections(offsets, boxes, probs, np.full(3, 0.9, np.float32), probs[:, :0])
    files.write_detections(Round(opened, 1).folder.predictions(), found)
    return opened, owner, queries


def test_what_the_model_doubts_comes_first(site: Any) -> None:
    _, owner, _ = with_doubts(site)
    [cat] = listed(owner, "doubtful=true")
    assert cat["label"] == 0 and cat["doubt"] == {"kind": "swapped", "doubt": pytest.approx(0.81), "likely": 1}
    assert [item["doubt"] is None for item in listed(owner)] == [True, False]
    correct(owner, change(cat, "object", box=cat["box"], label=0))
    assert listed(owner, "doubtful=true") == [], "a label that was looked at is not doubted again"


def test_what_was_proposed_before_there_was_a_model_doubts_nothing(site: Any) -> None:
    _, owner, _ = with_doubts(site, "predict.proposals=yolox_nano")
    assert listed(owner, "doubtful=true") == [] and [item["doubt"] for item in listed(owner)] == [None, None]


def test_a_class_of_a_whole_image_is_corrected(site: Any) -> None:
    opened = site.open(
        "model=classifier", "query.unit=image", "query.score=entropy", "query.select=top", "labels.policy=background",
        "budget.unit=images", 'data.classes=["cat", "dog"]', bare=True,
    )  # fmt: skip
    ask(opened, *(about(k, opened, "image") for k in range(2)))
    owner = site.browser("me", "owner")
    for query, label in zip(opened.project.ledger.queries(1), (0, 1), strict=True):
        says(opened, query, "Ada", "all", ((0, 0, 64, 48), label))
    cat = listed(owner, "label=0")[0]
    assert correct(owner, change(cat, "all", label=1)).status_code == 200
    assert sorted(current(opened)) == [("00.png", 1), ("01.png", 1)]
    assert opened.known().covered(opened.pool).sum() == 2
