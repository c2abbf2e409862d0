"""No answer is lost on its way back: skips, what a tool renamed, dropped or deleted, tasks of others, known boxes."""

from __future__ import annotations

import json
import xml.etree.ElementTree as ET
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from test_exchange import (
    CLASSES,
    PEOPLE,
    PROJECT,
    SHAPED,
    TOOLS,
    Reply,
    by_cvat,
    by_label_studio,
    choice,
    known,
    pool,
    query,
    rectangle,
)
from test_exchange_mutations import project
from test_exchange_project import call
from typer.testing import CliRunner

from labelwise import cli
from labelwise.exchange import coco, cvat, label_studio
from labelwise.ledger import import_export as store
from labelwise.project.context import Context
from labelwise.stages import interchange
from labelwise.types import LabelwiseError

BOX = (10.0, 20.0, 30.0, 40.0)
ASKED = [query(0, "box", BOX), query(1, "box", (50, 60, 70, 80))]
OBJECT = Reply("accept", ((BOX, "cat"),))


@pytest.fixture
def opened(tmp_path: Path) -> Iterator[Context]:
    """Two known boxes; rounds 1 (boxes), 2 (a region) and 3 (images) are open."""
    made = project(tmp_path)
    yield made
    made.project.close()


def sent(made: Context, tool: str, number: int) -> dict[str, bytes]:
    return interchange.query_files(made, tool, interchange.open_queries(made, number))


def said(made: Context, tool: str, number: int, *words: str) -> Any:
    """A file of a tool, taken apart: what a person says to the open queries of a round."""
    asked, one = interchange.open_queries(made, number), ((12.0, 50.0, 30.0, 70.0), made.pool.classes[3])
    replies = {
        q.id or 0: Reply(word, (one,) if word in ("accept", "complete") else ())
        for q, word in zip(asked, words, strict=True)
    }
    more = {"size": (96, 96)} if tool == "label_studio" else {}
    content = PEOPLE[tool](sent(made, tool, number), replies, **more)
    return ET.fromstring(content) if tool == "cvat" else json.loads(content)


def take_in(made: Context, content: Any, tool: str, **how: Any) -> store.ImportResult:
    text = ET.tostring(content) if tool == "cvat" else json.dumps(content).encode()
    return interchange.take_in(made, text, tool, **how)


def told(taken: store.ImportResult) -> list[tuple[str, str]]:
    return [(problem.kind, problem.handling) for problem in taken.problems]


def verdicts(made: Context) -> list[str]:
    return [answer.verdict for asked, answer in store.current_answers(made.project.ledger) if asked.round > 0]


# ---- skips --------------------------------------------------------------------------------------------------------

CANCELLED = {"id": 5, "completed_by": 2, "was_cancelled": True, "result": []}


@pytest.mark.parametrize("at", [0, 1])
def test_a_skip_beside_an_answer_is_none(opened: Context, at: int) -> None:
    tasks = said(opened, "label_studio", 1, "accept", "reject")
    for task in tasks:
        task["annotations"].insert(at, CANCELLED)
    taken = take_in(opened, tasks, "label_studio")
    assert (taken.written, told(taken)) == (2, [("skip beside an answer", "left out")] * 2)
    assert verdicts(opened) == ["object", "background"]
    assert take_in(opened, tasks, "label_studio").known == 2


def test_skips_alone_are_one_skip_and_half_an_answer_leaves_its_query_open(opened: Context) -> None:
    tasks = said(opened, "label_studio", 1, "accept", "reject")
    tasks[0]["annotations"] = [CANCELLED, CANCELLED | {"id": 6, "completed_by": 3}]
    tasks[1]["annotations"] = [CANCELLED, {"completed_by": 3, "result": [rectangle("n", BOX, "zero", (96, 96))]}]
    taken = take_in(opened, tasks, "label_studio", unfinished=True)
    assert (taken.written, taken.n_open, verdicts(opened)) == (1, 1, ["skipped"])
    assert ("half-finished", "left open") in told(taken)


def test_a_skip_chosen_by_one_of_two_people_is_none_in_any_format(opened: Context) -> None:
    content = said(opened, "json", 1, "accept", "reject")
    content["answers"].insert(0, content["answers"][0] | {"who": "bob", "verdict": "skipped", "objects": []})
    taken = take_in(opened, content, "json")
    assert (taken.written, told(taken)) == (2, [("skip beside an answer", "left out")])
    assert verdicts(opened) == ["object", "background"]


def test_an_answer_takes_back_a_skip_that_came_before_and_no_skip_an_answer(opened: Context) -> None:
    first = said(opened, "json", 1, "skip", "accept")
    second = said(opened, "json", 1, "accept", "skip")
    for row in second["answers"]:
        row["who"] = "bob"
    assert take_in(opened, first, "json").written == 2
    taken = take_in(opened, second, "json")
    assert told(taken) == [("skip beside an answer", "the skip is taken back"), ("skip beside an answer", "left out")]
    assert (taken.written, verdicts(opened)) == (1, ["object", "object"])
    assert len(opened.project.ledger.labels(opened.pool).annotations) == 4
    for again in (first, second):
        assert take_in(opened, again, "json").written == 0
    assert verdicts(opened) == ["object", "object"]


def test_the_same_answer_twice_counts_once_and_two_answers_name_the_option(opened: Context) -> None:
    content = said(opened, "json", 1, "accept", "reject")
    content["answers"].append(content["answers"][0] | {"seconds": 9.0})
    content["answers"].append(content["answers"][1] | {"who": "bob"})
    taken = take_in(opened, content, "json")
    assert told(taken) == [("answered twice", "counts once"), ("answered twice", "refused")]
    assert "--second-opinions" in taken.problems[1].what
    assert take_in(opened, content, "json", second_opinions=True).written == 3


# ---- edited projects ----------------------------------------------------------------------------------------------


def test_tasks_of_others_gone_ones_and_unanswered_ones_name_the_option_that_goes_on(
    opened: Context, tmp_path: Path
) -> None:
    tasks = said(opened, "label_studio", 1, "accept", "reject")
    tasks[1]["annotations"] = []
    tasks.append({"id": 900, "data": {"image": "/upload/cat.jpg"}, "annotations": []})
    (tmp_path / "export.json").write_text(json.dumps(tasks))
    command = ["import", str(tmp_path / "export.json"), "-p", str(opened.project.folder)]
    result = CliRunner().invoke(cli.app, command, env={"COLUMNS": "300"})
    assert isinstance(result.exception, LabelwiseError) and "--partial" in str(result.exception)
    assert "--unfinished" in result.output and "no reference" in result.output
    assert verdicts(opened) == []
    shown = call(*command, "--partial")
    assert "1 answers recorded" in shown and "1 queries of these rounds are open still" in shown
    (tmp_path / "export.json").write_text(json.dumps(tasks[:1]))
    assert "1 queries of these rounds are open still" in call(*command), "a task was deleted"


@pytest.mark.parametrize("tool", ["label_studio", "cvat", "coco", "fiftyone"])
def test_a_class_that_was_renamed_in_the_tool(opened: Context, tool: str, tmp_path: Path) -> None:
    content = said(opened, tool, 3, "complete", "complete")
    text = (ET.tostring(content) if tool == "cvat" else json.dumps(content).encode()).replace(b'"three"', b'"tres"')
    refused = interchange.take_in(opened, text, tool)
    assert {problem.kind for problem in refused.problems} == {"unknown class"}
    assert "--rename" in refused.problems[0].what
    (tmp_path / "back").write_bytes(text)
    command = ("import", tmp_path / "back", "--from", tool, "-p", opened.project.folder)
    assert "2 answers recorded" in call(*command, "--rename", "tres=three")
    assert [a.labels for q, a in store.current_answers(opened.project.ledger) if q.round == 3] == [(3,), (3,)]
    for wrong, why in (("tres", "expected NAME=CLASS"), ("tres=thre", "Did you mean 'three'")):
        with pytest.raises(LabelwiseError, match=why):
            call(*command, "--rename", wrong)


@pytest.mark.parametrize("tool", PEOPLE)
def test_a_partial_import_takes_no_image_for_looked_over_that_has_a_faulty_box(opened: Context, tool: str) -> None:
    content = said(opened, tool, 3, "complete", "skip")
    if tool == "coco":
        content["annotations"][-1]["category_id"] = 99
    text = ET.tostring(content) if tool == "cvat" else json.dumps(content).encode()
    if tool != "coco":
        at = text.rindex(b'"three"')  # that of the box which was drawn
        text = text[:at] + b'"nothing of the kind"' + text[at + 7 :]
    taken = interchange.take_in(opened, text, tool, partial=True)
    assert (taken.written, taken.n_open, verdicts(opened)) == (1, 1, ["skipped"])
    assert ("unknown class", "left out") in told(taken)


def test_controls_that_were_added_are_left_out(opened: Context) -> None:
    tasks = said(opened, "label_studio", 1, "accept", "reject")
    tasks[0]["annotations"][0]["result"].append({"type": "rating", "from_name": "stars", "value": {"rating": 4}})
    taken = take_in(opened, tasks, "label_studio")
    assert (taken.written, told(taken)) == (2, [("other control", "left out")])


# ---- what was sent is known again ---------------------------------------------------------------------------------


@pytest.mark.parametrize("number", [1, 2, 3])
def test_label_studio_may_give_every_box_another_id(opened: Context, number: int) -> None:
    words = {1: ("accept", "reject"), 2: ("complete",), 3: ("complete", "skip")}[number]
    tasks = said(opened, "label_studio", number, *words)
    results = [one for task in tasks for one in task["annotations"][0]["result"]]
    for k, one in enumerate(results):
        one["id"] = ("c-xYz", "r-aBc", "q-9")[k % 3] + f"{k:05d}"
        one.pop("readonly", None)
    taken = take_in(opened, tasks, "label_studio")
    assert told(taken) == [] and taken.written == len(words)
    labels = opened.project.ledger.labels(opened.pool).annotations
    assert len(labels) == 3, "the two of before, and the one that was drawn"


@pytest.mark.parametrize("tool", SHAPED)
@pytest.mark.parametrize("number", [2, 3])
def test_a_known_box_without_its_attributes_is_not_taken_twice(opened: Context, tool: str, number: int) -> None:
    content = said(opened, tool, number, *(("complete",) if number == 2 else ("complete", "skip")))
    if tool == "cvat":
        for box in content.iter("box"):
            if any(one.text == "known" for one in box):
                for one in list(box):
                    box.remove(one)
    else:
        rows = content["annotations"] if tool == "coco" else content["samples"][0]["labelwise"]["detections"]
        for row in rows:
            attributes = row.get("attributes", {}) if tool == "coco" else row
            if attributes.get("answer") == "known":
                for key in ("answer", "query", "fix_class"):
                    attributes.pop(key)
    taken = take_in(opened, content, tool)
    assert ("known box", "not taken twice") in told(taken)
    assert len(opened.project.ledger.labels(opened.pool).annotations) == 3
    assert take_in(opened, content, tool).written == 0, "and the same file again writes nothing"


@pytest.mark.parametrize("tool", SHAPED)
def test_a_tool_may_show_images_without_their_folders(tool: str) -> None:
    said_all = {0: OBJECT, 1: Reply("reject")}
    content = PEOPLE[tool](TOOLS[tool].write(ASKED, pool(2), PROJECT), said_all)
    content = content.replace(b'"sub 0/', b'"/shown/').replace(b'"sub 1/', b'"').replace(b"/somewhere/sub 0/", b"/z/")
    found, problems = TOOLS[tool].read(content, ASKED, pool(2), PROJECT)
    assert (problems, [answer.verdict for answer in found]) == ([], ["object", "background"])


# ---- deleted candidates -------------------------------------------------------------------------------------------


def test_a_candidate_that_was_deleted_in_label_studio_is_no_object() -> None:
    files = label_studio.write(ASKED, pool(2), PROJECT, known(pool(2)))
    for left in ([], [choice("verdict", "accept")]):
        tasks = json.loads(by_label_studio(files, {0: OBJECT, 1: Reply("reject")}))
        result = tasks[0]["annotations"][0]["result"]
        context = [one for one in result if one["id"].startswith("c-")]
        tasks[0]["annotations"][0]["result"] = context + left
        found, problems = label_studio.read(json.dumps(tasks).encode(), ASKED, pool(2), PROJECT)
        assert [answer.verdict for answer in found] == ["background", "background"]
        assert [(p.kind, p.handling) for p in problems] == [("candidate deleted", "counts as no object")]
    tasks[0]["annotations"][0]["result"] = []  # not even the box of before is there: nobody saw what was sent
    found, problems = label_studio.read(json.dumps(tasks).encode(), ASKED, pool(2), PROJECT)
    assert [p.kind for p in problems] == ["half-finished"]


@pytest.mark.parametrize("tool", SHAPED)
def test_a_candidate_that_was_deleted_elsewhere_is_no_object(opened: Context, tool: str) -> None:
    content = said(opened, tool, 1, "accept", "accept")
    if tool == "cvat":
        second = list(content.iter("image"))[1]
        for box in list(second):
            second.remove(box)
    elif tool == "coco":
        del content["annotations"][-1]
    else:
        content["samples"][1]["labelwise"]["detections"] = []
    taken = take_in(opened, content, tool)
    assert (taken.written, told(taken)) == (2, [("candidate deleted", "counts as no object")])
    assert verdicts(opened) == ["object", "background"]
    again = take_in(opened, content, tool)
    assert (again.written, again.problems) == (0, ())


@pytest.mark.parametrize("tool", SHAPED)
def test_a_region_that_was_deleted_stays_open_and_is_told(opened: Context, tool: str) -> None:
    content = said(opened, tool, 3, "complete", "complete")
    if tool == "cvat":
        second = list(content.iter("image"))[1]
        second.remove(second[0])
    elif tool == "coco":
        asked = [row for row in content["annotations"] if row.get("attributes", {}).get("query")]
        content["annotations"].remove(asked[1])
    else:
        del content["samples"][1]["labelwise"]["detections"][0]
    assert ("half-finished", "refused") in told(take_in(opened, content, tool))
    taken = take_in(opened, content, tool, unfinished=True)
    assert (taken.written, taken.n_open) == (1, 1)


# ---- shapes that are no upright boxes -----------------------------------------------------------------------------


def test_a_turned_box_is_its_hull() -> None:
    files = label_studio.write(ASKED[:1], pool(1), PROJECT)
    tasks = json.loads(by_label_studio(files, {0: Reply("accept", (((100.0, 100.0, 140.0, 120.0), "cat"),))}))
    tasks[0]["annotations"][0]["result"][0]["value"]["rotation"] = 90  # about its upper left corner
    (answer,), problems = label_studio.read(json.dumps(tasks).encode(), ASKED, pool(1), PROJECT)
    assert np.allclose(answer.boxes, [(80, 100, 100, 140)])
    assert [(p.kind, p.handling) for p in problems] == [("rotated box", "its hull box is used")]
    root = ET.fromstring(by_cvat(cvat.write(ASKED[:1], pool(1), PROJECT), {0: OBJECT}))
    next(root.iter("box")).set("rotation", "90")  # about its middle
    (answer,), problems = cvat.read(ET.tostring(root), ASKED, pool(1), PROJECT)
    assert np.allclose(answer.boxes, [BOX]) and problems[0].handling == "its hull box is used"


@pytest.mark.parametrize(
    ("tag", "about"),
    [
        ("polygon", {"points": "100,110;140.5,100;120,130"}),
        ("ellipse", {"cx": "120.25", "cy": "115", "rx": "20.25", "ry": "15"}),
        ("mask", {"left": "100", "top": "100", "width": "40.5", "height": "30"}),
    ],
)
def test_another_shape_in_cvat_is_its_hull_and_one_without_refuses(tag: str, about: dict[str, str]) -> None:
    asked = [query(0, "image")]
    root = ET.fromstring(by_cvat(cvat.write(asked, pool(1), PROJECT), {0: Reply("complete")}))
    shape = ET.SubElement(next(root.iter("image")), tag, {"label": "cat", **about})
    (answer,), problems = cvat.read(ET.tostring(root), asked, pool(1), PROJECT)
    assert np.allclose(answer.boxes, [(100, 100, 140.5, 130)]) and answer.labels == (0,)
    assert [(p.kind, p.handling) for p in problems] == [("no box", "its hull box is used")]
    shape.tag = "polyline"
    found, problems = cvat.read(ET.tostring(root), asked, pool(1), PROJECT)
    assert (found, [(p.kind, p.handling) for p in problems]) == ([], [("no box", "refused")])


def test_a_polygon_without_a_box_in_coco_is_its_hull() -> None:
    asked = [query(0, "image")]
    content = json.loads(PEOPLE["coco"](coco.write(asked, pool(1), PROJECT), {0: Reply("complete", ((BOX, "cat"),))}))
    del content["annotations"][-1]["bbox"]
    content["annotations"][-1]["segmentation"] = [[10, 20, 30, 25, 15, 40]]
    (answer,), problems = coco.read(json.dumps(content).encode(), asked, pool(1), PROJECT)
    assert (answer.boxes, problems) == ((BOX,), [])


def test_a_class_of_more_than_eighty_letters_comes_back() -> None:
    long = "x" * 300
    images = pool(1)
    object.__setattr__(images, "classes", (*CLASSES, long))
    for tool in PEOPLE:
        content = PEOPLE[tool](TOOLS[tool].write(ASKED[:1], images, PROJECT), {0: Reply("accept", ((BOX, long),))})
        (answer,), problems = TOOLS[tool].read(content, ASKED, images, PROJECT)
        assert (answer.labels, problems) == ((3,), []), tool
