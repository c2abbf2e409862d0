"""What the model suggests goes to a tool as a prediction, and comes back as what a person made of it: never a label."""

from __future__ import annotations

import json
import xml.etree.ElementTree as ET
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from test_exchange import CLASSES, PROJECT, choice, pool, query
from test_exchange_project import opened as opened  # a fixture

from labelwise import catalog, files
from labelwise.exchange import cvat, label_studio
from labelwise.ledger.suggestions import actions
from labelwise.project.context import Context
from labelwise.project.round import Round
from labelwise.stages import interchange, prefill
from labelwise.types import Detections

QUERIES = [query(0, "region", (0, 0, 640, 427)), query(1, "region", (100, 50, 300, 250))]
BOXES = {0: [((10.0, 20.0, 60.0, 80.0), 1, 0.9), ((200.0, 100.0, 260.0, 180.0), 0, 0.6)],
         1: [((120.0, 60.0, 180.0, 120.0), 2, 0.75)]}  # fmt: skip


def sent(tool: str, **more: Any) -> dict[str, bytes]:
    menu = {"queries": QUERIES, "pool": pool(2), "project": PROJECT, "known": None, "one_class": False}
    found: dict[str, bytes] = catalog.find("exchange", tool).call({**menu, "suggested": BOXES, **more}, {})
    return found


def submitted(change: Any) -> bytes:
    """A JSON export of Label Studio: each annotation is the prediction as `change` leaves its results."""
    tasks = json.loads(sent("label_studio")["tasks.json"])
    for k, task in enumerate(tasks):
        result = change(k, task["predictions"][0]["result"])
        annotation = {"id": k, "completed_by": 1, "was_cancelled": False, "lead_time": 2.0}
        task |= {"id": k, "annotations": [annotation | {"result": [*result, choice("verdict", "complete")]}]}
    return json.dumps(tasks).encode()


def test_label_studio_shows_suggestions_as_a_prediction_with_scores_and_the_model() -> None:
    first, second = json.loads(sent("label_studio")["tasks.json"])
    (made,) = first["predictions"]
    assert made["model_version"] == "labelwise, round 2" and made["score"] == 0.75
    assert [(r["id"], r["score"], r["value"]["rectanglelabels"]) for r in made["result"]] == [
        ("s-0-0", 0.9, [CLASSES[1]]),
        ("s-0-1", 0.6, [CLASSES[0]]),
    ]
    assert second["data"]["suggested"] == [[120.0, 60.0, 180.0, 120.0, CLASSES[2], 0.75]]
    without = json.loads(sent("label_studio", suggested={})["tasks.json"])
    assert without[0]["predictions"] == [] and "suggested" not in without[0]["data"]


def test_predictions_that_nobody_submitted_are_no_answers() -> None:
    found, problems = label_studio.read(sent("label_studio")["tasks.json"], QUERIES, pool(2), PROJECT)
    assert found == [] and len(problems) == 2
    tasks = json.loads(sent("label_studio")["tasks.json"])
    for task in tasks:
        task["annotations"] = []
    found, problems = label_studio.read(json.dumps(tasks).encode(), QUERIES, pool(2), PROJECT, unfinished=True)
    assert found == [] and {one.handling for one in problems} == {"left open"}


@pytest.mark.parametrize("ids", ["kept", "lost"])
def test_what_became_of_each_suggestion_comes_back(ids: str) -> None:
    def change(task: int, result: list[dict[str, Any]]) -> list[dict[str, Any]]:
        if task == 0:
            result = result[:1]  # the second one is deleted
        else:
            moved = next(one for one in result if one["id"].startswith("s-"))
            moved["value"]["x"] += 100 * 4 / 640  # 4 pixels to the right
        return result if ids == "kept" else [one | {"id": f"x{k}"} for k, one in enumerate(result)]

    found, problems = label_studio.read(submitted(change), QUERIES, pool(2), PROJECT)
    assert problems == []
    taken = [[(one.number, answer.action(one)) for one in answer.suggested] for answer in found]
    mended = (0, "mend") if ids == "kept" else (None, "reject")  # a moved box without its id is a new one
    assert taken == [[(0, "verify"), (None, "reject")], [mended]]
    assert found[0].boxes == ((10.0, 20.0, 60.0, 80.0),), "taken as it was, to the last bit"
    assert {one.origin for answer in found for one in answer.suggested} == {"model"}


def test_suggestions_that_were_edited_in_the_file_are_left_out() -> None:
    tasks = json.loads(submitted(lambda _, result: result))
    tasks[0]["data"]["suggested"] = [[0, 0, 1, "x", CLASSES[0], 1], 7, [0, 0, 10, 10, "no class", 1], [5, 5, 1, 1]]
    tasks[1]["data"]["suggested"] = "none"
    found, problems = label_studio.read(json.dumps(tasks).encode(), QUERIES, pool(2), PROJECT)
    assert problems == [] and [answer.suggested for answer in found] == [(), ()]
    assert [len(answer.boxes) for answer in found] == [2, 1], "what was submitted counts all the same"


def decided(word: dict[int, str | None]) -> bytes:
    """CVAT's file with suggestions, questions complete; `word` of a suggestion by its number, None: it is deleted."""
    root = ET.fromstring(sent("cvat")["suggested.xml"])
    number = 0
    for image in root.iter("image"):
        for box in list(image):
            told = {a.get("name"): a for a in box}
            if told["query"].text:
                told["answer"].text = "complete"
                continue
            assert box.get("source") == "auto" and told["answer"].text == "suggested"
            said = word.get(number, "suggested")
            number += 1
            if said is None:
                image.remove(box)
            else:
                told["answer"].text = said
    return ET.tostring(root)


def test_cvat_has_a_second_file_with_suggestions() -> None:
    made = sent("cvat")
    assert set(made) == {"labels.json", "annotations.xml", "suggested.xml"}
    assert "suggested" not in made["annotations.xml"].decode().partition("</meta>")[2]
    answers = next(a for a in json.loads(made["labels.json"])[0]["attributes"] if a["name"] == "answer")
    assert "suggested" in answers["values"]
    assert set(sent("cvat", suggested={})) == {"labels.json", "annotations.xml"}
    films = pool(2, clips=True)
    assert sorted(sent("cvat", pool=films)) == ["000_v0.xml", "000_v0_suggested.xml", "labels.json"]


def test_a_suggestion_in_cvat_counts_when_it_is_accepted() -> None:
    found, problems = cvat.read(decided({0: "accept", 1: None, 2: "accept"}), QUERIES, pool(2), PROJECT)
    assert problems == []
    assert [(answer.boxes, answer.labels) for answer in found] == [
        (((10.0, 20.0, 60.0, 80.0),), (1,)),
        (((120.0, 60.0, 180.0, 120.0),), (2,)),
    ]


def test_a_suggestion_in_cvat_that_nobody_decided_on_leaves_its_query_unfinished() -> None:
    content = decided({0: "accept", 2: None})
    found, problems = cvat.read(content, QUERIES, pool(2), PROJECT)
    assert [answer.query for answer in found] == [1] and [one.handling for one in problems] == ["refused"]
    assert "1 boxes of query 0 are still suggestions: accept or delete them" in problems[0].what
    _, problems = cvat.read(content, QUERIES, pool(2), PROJECT, unfinished=True)
    assert [one.handling for one in problems] == ["left open"]


@pytest.fixture
def predicted(opened: Context) -> Context:
    """A project in whose region round the model found 3 boxes in the asked image: sure, unsure, outside the region."""
    boxes = np.array([[4, 4, 20, 20], [30, 4, 40, 20], [60, 60, 80, 80]], np.float32)
    names, n = opened.pool.names, len(opened.pool)
    at = opened.pool.number_of[names[4]]
    offsets = np.where(np.arange(n + 1) > at, 3, 0)
    probs = np.eye(len(opened.pool.classes), dtype=np.float32)[[3, 2, 1]]
    scores = np.array([0.8, 0.3, 0.9], np.float32)
    found = Detections(offsets, boxes, probs, scores, np.zeros((3, 0), np.float32))
    folder = Round(opened, 2).folder
    folder.predictions().parent.mkdir(parents=True, exist_ok=True)
    files.write_detections(folder.predictions(), found)
    return opened


def test_a_project_suggests_what_its_model_is_sure_of_where_all_is_asked_for(predicted: Context) -> None:
    (asked,) = interchange.open_queries(predicted, 2)
    assert prefill.of_queries(predicted, [asked]) == {asked.id: [((4.0, 4.0, 20.0, 20.0), 3, 0.8)]}
    boxes = interchange.open_queries(predicted, 1)
    assert prefill.of_queries(predicted, boxes) == {}, "a query about one object has its candidate"
    assert prefill.of_queries(predicted, interchange.open_queries(predicted, 0)) == {}, "round 0 has no model"
    bare = predicted.run.ask.model_copy(update={"prefill": False})
    predicted.run = predicted.run.model_copy(update={"ask": bare})
    assert prefill.of_queries(predicted, [asked]) == {}, "nothing is suggested where that could bias"


def test_actions_on_suggestions_come_into_the_ledger(predicted: Context, tmp_path: Path) -> None:
    n, (*_, path) = interchange.write_queries(predicted, "label_studio", tmp_path, 2)
    tasks = json.loads((tmp_path / "tasks.json").read_text())
    assert n == 1 and path.exists()
    result = [*tasks[0]["predictions"][0]["result"], choice("verdict", "complete")]
    annotation = {"completed_by": {"email": "ann@x.org"}, "was_cancelled": False, "lead_time": 2, "result": result}
    tasks[0] |= {"id": 1, "annotations": [annotation]}
    content = json.dumps(tasks).encode()
    taken = interchange.take_in(predicted, content, "label_studio")
    assert (taken.written, taken.problems) == (1, ())
    assert actions(predicted.project.ledger) == [{"who": "ann@x.org", "verify": 1, "mend": 0, "draw": 0, "reject": 0}]
    assert interchange.take_in(predicted, content, "label_studio").known == 1, "the same file twice writes nothing"
