"""Labelling tools: what is asked comes back as it was answered, and what is wrong in a file is told and refused."""

from __future__ import annotations

import json
import xml.etree.ElementTree as ET
from collections.abc import Callable
from contextlib import suppress
from importlib import import_module
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from labelwise import catalog
from labelwise.exchange import coco, cvat, fiftyone, label_studio
from labelwise.exchange import json as json_files
from labelwise.exchange._questions import buttons, reference
from labelwise.types import Answer, Boxes, Clips, LabelwiseError, Pool, Query

PROJECT = "0123456789ab"
CLASSES = ("cat", "big <dog>", 'käfer "x" & y')
SHAPED = {"cvat": cvat, "coco": coco, "fiftyone": fiftyone}
TOOLS = {name: import_module(f"labelwise.exchange.{name}") for name in catalog.names("exchange")}
Box = tuple[float, float, float, float]
Files = dict[str, bytes]


class Reply(NamedTuple):
    """What a person says of a query, in the tool's words."""

    word: str
    objects: tuple[tuple[Box, str], ...] = ()


def pool(n: int, width: int = 640, height: int = 427, clips: bool = False) -> Pool:
    names = tuple(f"sub {k}/b&w-{k}.jpg" for k in range(n))
    of_video = np.arange(n) // 2
    video = Clips(tuple(f"v{k}.mp4" for k in range(n)), of_video, 7 + np.arange(n) % 2 * 3, np.arange(n) / 25)
    size = np.full(n, width, np.int64), np.full(n, height, np.int64)
    return Pool(Path("data"), CLASSES, names, *size, clips=video if clips else None)


def query(query_id: int, unit: Any, box: Box | None = None, image: int | None = None, label: int = 1) -> Query:
    name = f"sub {query_id if image is None else image}/b&w-{query_id if image is None else image}.jpg"
    return Query(2, query_id, name, unit, box, label if unit == "box" else None, 0.5, {"entropy": 0.25}, query_id)


# ---- people at the tools ------------------------------------------------------------------------------------------


def rectangle(region_id: str, box: Box, label: str, size: tuple[int, int] = (640, 427)) -> dict[str, Any]:
    (x1, y1, x2, y2), (w, h) = box, size
    value = {"x": 100 * x1 / w, "y": 100 * y1 / h, "width": 100 * (x2 - x1) / w, "height": 100 * (y2 - y1) / h}
    value |= {"rotation": 0, "rectanglelabels": [label]}
    made = {"id": region_id, "type": "rectanglelabels", "from_name": "object", "to_name": "image", "value": value}
    return made | {"original_width": w, "original_height": h, "image_rotation": 0}


def choice(name: str, value: str) -> dict[str, Any]:
    return {"id": "x1", "type": "choices", "from_name": name, "to_name": "image", "value": {"choices": [value]}}


def by_label_studio(files: Files, said: dict[int, Reply], size: tuple[int, int] = (640, 427)) -> bytes:
    """A JSON export: each annotation begins as a copy of the prediction."""
    exported = json.loads(files["tasks.json"])
    for number, task in enumerate(exported, start=100):
        query_id = int(task["data"]["labelwise"].split("-")[1])
        word, objects = said[query_id]
        result = [r for p in task["predictions"] for r in p["result"]]
        if word == "accept":
            ((box, label),) = objects
            result = [r for r in result if r["id"] != f"q-{query_id}"] + [rectangle(f"q-{query_id}", box, label, size)]
        else:
            result += [rectangle(f"n{k}", box, label, size) for k, (box, label) in enumerate(objects)]
        result.append(choice("verdict", word))
        annotation = {"id": number, "completed_by": {"id": 1, "email": "ann@x.org"}, "was_cancelled": False}
        task |= {"id": number, "annotations": [annotation | {"lead_time": 3.5, "result": result}]}
        task["predictions"] = [7]
    return json.dumps(exported).encode()


def by_json(files: Files, said: dict[int, Reply]) -> bytes:
    words = {"accept": "object", "reject": "background", "complete": "all", "skip": "skipped"}
    rows = []
    for row in json.loads(files["queries.json"])["queries"]:
        word, objects = said[int(row["reference"].split("-")[1])]
        made = [{"box": list(box), "class": label} for box, label in objects]
        rows.append({"reference": row["reference"], "verdict": words.get(word, word), "objects": made})
        rows[-1] |= {"who": "ann@x.org", "seconds": 3.5}
    return json.dumps({"format": "labelwise-answers", "version": 1, "answers": rows}).encode()


def by_coco(files: Files, said: dict[int, Reply]) -> bytes:
    content = json.loads(files["queries.json"])
    category = {row["name"]: row["id"] for row in content["categories"]}
    for row in list(content["annotations"]):
        if not row["attributes"]["query"]:
            continue
        word, objects = said[int(row["attributes"]["query"].split("-")[1])]
        row["attributes"]["answer"] = word
        for (x1, y1, x2, y2), label in objects:
            made = {"bbox": [x1, y1, x2 - x1, y2 - y1], "category_id": category[label]}
            if word == "accept":
                row |= made
            else:
                content["annotations"].append(made | {"id": 900 + len(content["annotations"])})
                content["annotations"][-1]["image_id"] = row["image_id"]
    return json.dumps(content).encode()


def by_fiftyone(files: Files, said: dict[int, Reply]) -> bytes:
    content = json.loads(files["samples.json"])
    for sample in content["samples"]:
        w, h = sample["metadata"]["width"], sample["metadata"]["height"]
        sample["filepath"] = "/somewhere/" + sample["filepath"]
        for row in list(sample["labelwise"]["detections"]):
            if row["query"]:
                word, objects = said[int(row["query"].split("-")[1])]
                row["answer"] = word
                for (x1, y1, x2, y2), label in objects:
                    made = {"bounding_box": [x1 / w, y1 / h, (x2 - x1) / w, (y2 - y1) / h], "label": label}
                    if word == "accept":
                        row |= made
                    else:
                        sample["labelwise"]["detections"].append(made)
    return json.dumps(content).encode()


def by_cvat(files: Files, said: dict[int, Reply], decimals: int = 9) -> bytes:
    root = ET.fromstring(files["annotations.xml"])
    for image in root.iter("image"):
        for box in list(image):
            told = {a.get("name"): a for a in box}
            if not told["query"].text:
                continue
            word, objects = said[int(str(told["query"].text).split("-")[1])]
            told["answer"].text = word
            for xyxy, label in objects:
                corners = {k: f"{v:.{decimals}f}" for k, v in zip(("xtl", "ytl", "xbr", "ybr"), xyxy, strict=True)}
                if word == "accept":
                    box.attrib |= corners
                    told["fix_class"].text = label
                else:
                    ET.SubElement(image, "box", label=label, **corners)
    return ET.tostring(root)


PEOPLE: dict[str, Callable[..., bytes]] = {
    "label_studio": by_label_studio,
    "json": by_json,
    "coco": by_coco,
    "fiftyone": by_fiftyone,
    "cvat": by_cvat,
}


def write(tool: str, queries: list[Query], images: Pool, before: Boxes | None = None) -> Files:
    """The files for a tool, given what it names."""
    menu = {
        "queries": queries,
        "pool": images,
        "project": PROJECT,
        "known": before,
        "one_class": False,
        "suggested": {},
    }
    files: Files = catalog.find("exchange", tool).call(menu, {})
    return files


def reply(
    tool: str,
    files: Files,
    replies: dict[int, Reply],
    queries: list[Query],
    images: Pool,
    project: str = PROJECT,
    **more: Any,
) -> bytes:
    """What comes back from a tool: by a person at it, or, of a format that has none here, by its `write_answers`."""
    if tool in PEOPLE:
        return PEOPLE[tool](files, replies, **more)
    pairs = []
    for asked in queries:
        word, objects = replies[asked.id or 0]
        boxes, labels = tuple(box for box, _ in objects), tuple(images.classes.index(name) for _, name in objects)
        pairs.append((asked, Answer(asked.id or 0, buttons(asked)[word], boxes, labels, "ann@x.org", 3.5)))
    content: bytes = TOOLS[tool].write_answers(pairs, images, project)
    return content


# ---- round trips --------------------------------------------------------------------------------------------------

side = st.floats(0, 1)


@st.composite
def boxes(draw: Any, within: Box = (0, 0, 640, 427)) -> Box:
    x1, y1, x2, y2 = within
    w, h = (x2 - x1), (y2 - y1)
    left, top = x1 + 0.9 * w * draw(side), y1 + 0.9 * h * draw(side)
    return left, top, left + (x2 - left) * (0.1 + 0.9 * draw(side)), top + (y2 - top) * (0.1 + 0.9 * draw(side))


@st.composite
def conversations(draw: Any) -> tuple[list[Query], dict[int, Reply]]:
    """Queries, each on its own image, and what a person says to them."""
    unit = draw(st.sampled_from(["box", "region", "image"]))
    queries, said = [], {}
    for query_id in range(draw(st.integers(1, 4))):
        area = draw(boxes())
        word = draw(
            st.sampled_from(["accept", "reject", "duplicate", "skip"] if unit == "box" else ["complete", "skip"])
        )
        within = area if unit == "region" else (0.0, 0.0, 640.0, 427.0)
        found = draw(st.lists(st.tuples(boxes(within), st.sampled_from(CLASSES)), min_size=1, max_size=3))
        objects = {"accept": found[:1], "complete": found[draw(st.integers(0, 1)) :]}.get(word, [])
        queries.append(query(query_id, unit, None if unit == "image" else area))
        said[query_id] = Reply(word, tuple(objects))
    return queries, said


def known(images: Pool) -> Boxes:
    n = len(images)
    return Boxes(np.arange(n + 1), np.tile(np.float32([3.25, 4.5, 60, 70.125]), (n, 1)), np.zeros(n, np.int64))


@pytest.mark.parametrize("tool", TOOLS)
@settings(max_examples=25, deadline=None)
@given(conversation=conversations())
def test_what_people_say_comes_back(tool: str, conversation: tuple[list[Query], dict[int, Reply]]) -> None:
    queries, said = conversation
    images = pool(4)
    sent = write(tool, queries, images, known(images))
    found, problems = TOOLS[tool].read(reply(tool, sent, said, queries, images), queries, images, project=PROJECT)
    assert problems == []
    assert sorted(a.query for a in found) == sorted(said)
    verdicts = {"accept": "object", "reject": "background", "complete": "all", "skip": "skipped"}
    for answer in found:
        word, objects = said[answer.query]
        assert answer.verdict == verdicts.get(word, word)
        assert [CLASSES[label] for label in answer.labels] == [label for _, label in objects]
        got, wanted = np.array(answer.boxes).reshape(-1, 4), np.array([b for b, _ in objects]).reshape(-1, 4)
        assert np.abs(got - wanted).max(initial=0) < 0.01


@pytest.mark.parametrize("tool", TOOLS)
def test_a_candidate_taken_as_it_is_comes_back_exactly(tool: str) -> None:
    box = (10.1, 20.2, 30.3, 40.4)
    asked = query(0, "box", box)
    sent = TOOLS[tool].write([asked], pool(1), project=PROJECT)
    near = tuple(v + 0.004 for v in box)  # as a tool that rounds writes it
    found, _ = TOOLS[tool].read(
        reply(tool, sent, {0: Reply("accept", ((near, "cat"),))}, [asked], pool(1)), [asked], pool(1), project=PROJECT
    )
    assert found[0].boxes == (box,)


@pytest.mark.parametrize("tool", TOOLS)
def test_an_object_of_a_region_is_cropped_to_it_and_one_outside_left_out(tool: str) -> None:
    asked = query(0, "region", (100, 100, 200, 200))
    sent = TOOLS[tool].write([asked], pool(1), project=PROJECT)
    drawn = (((80.0, 100.0, 180.0, 200.0), "cat"), ((0.0, 100.0, 150.0, 200.0), "cat"))  # 80 % and 33 % inside
    found, problems = TOOLS[tool].read(
        reply(tool, sent, {0: Reply("complete", drawn)}, [asked], pool(1)), [asked], pool(1), project=PROJECT
    )
    assert np.allclose(found[0].boxes, [(100, 100, 180, 200)])
    assert [p.handling for p in problems] == ["left out"]


@pytest.mark.parametrize("tool", SHAPED)
def test_regions_and_boxes_of_one_image_share_it(tool: str) -> None:
    queries = [query(1, "region", (0, 0, 100, 100), 0), query(2, "region", (300, 0, 400, 100), 0)]
    queries.append(query(3, "box", (50, 200, 90, 300), 0))
    sent = TOOLS[tool].write(queries, pool(1), project=PROJECT)
    one, two = ((10.0, 10.0, 30.0, 30.0), "cat"), ((310.0, 10.0, 330.0, 30.0), "big <dog>")
    said = {1: Reply("complete", (one, two)), 2: Reply("complete"), 3: Reply("reject")}
    found, problems = TOOLS[tool].read(PEOPLE[tool](sent, said), queries, pool(1), project=PROJECT)
    assert problems == []
    assert {a.query: a.labels for a in found} == {1: (0,), 2: (1,), 3: ()}


def test_frames_of_videos_come_back_from_one_file_per_video() -> None:
    images = pool(4, clips=True)
    queries = [query(0, "image"), query(1, "box", (10, 20, 30, 40)), query(2, "box", (5, 5, 9, 9), label=0)]
    sent = cvat.write(queries, images, project=PROJECT)
    assert list(sent) == ["labels.json", "000_v0.xml", "001_v1.xml"]
    root = ET.fromstring(sent["000_v0.xml"])
    for track, word in zip(root.iter("track"), ("complete", "accept"), strict=True):
        shown = track.find("box")
        assert shown is not None and shown.get("frame") == ("7" if word == "complete" else "10")
        for attribute in track.iter("attribute"):
            attribute.text = word if attribute.get("name") == "answer" else attribute.text
    new = ET.SubElement(root, "track", id="9", label="cat")
    for frame in (6, 7, 8):  # interpolated over three frames, of which one was asked
        ET.SubElement(new, "box", frame=str(frame), outside="0", keyframe="0", xtl="1", ytl="2", xbr="30", ybr="40")
    found, problems = cvat.read(ET.tostring(root), queries, images, project=PROJECT)
    assert problems == []
    assert found == [
        Answer(1, "object", ((10.0, 20.0, 30.0, 40.0),), (1,), "cvat"),
        Answer(0, "all", ((1.0, 2.0, 30.0, 40.0),), (0,), "cvat"),
    ]


def test_classification_comes_back_from_label_studio_and_json() -> None:
    queries, images = [query(0, "image"), query(1, "image")], pool(2)
    sent = label_studio.tasks(queries, images, project=PROJECT, one_class=True)
    said = [choice("class", CLASSES[2]), choice("verdict", "skip")]
    for task, result in zip(sent, said, strict=True):
        task["annotations"] = [{"result": [result], "completed_by": 4}]
    found, problems = label_studio.read(json.dumps(sent).encode(), queries, images, project=PROJECT, one_class=True)
    assert problems == []
    whole = Answer(0, "all", ((0.0, 0.0, 640.0, 427.0),), (2,), "label studio user 4")
    assert found == [whole, Answer(1, "skipped", who="label studio user 4")]
    written = json_files.write_answers(list(zip(queries, found, strict=True)), images, PROJECT)
    back, problems = json_files.read(written, queries, images, PROJECT)
    assert (back, problems) == (found, [])


# ---- what is wrong is told ----------------------------------------------------------------------------------------

ASKED = [query(0, "box", (10, 20, 30, 40)), query(1, "box", (50, 60, 70, 80))]
OBJECT = Reply("accept", (((10.0, 20.0, 30.0, 40.0), "cat"),))


def kinds(tool: str, said: dict[int, Reply], queries: list[Query] = ASKED, **more: Any) -> list[tuple[str, str]]:
    sent = TOOLS[tool].write(queries, pool(2), project=PROJECT)
    settings = {"queries": queries, "project": PROJECT, "pool": pool(2)} | more
    _, problems = TOOLS[tool].read(reply(tool, sent, said, queries, pool(2)), **settings)
    return [(p.kind, p.handling) for p in problems]


@pytest.mark.parametrize("tool", TOOLS)
def test_every_problem_is_told_and_refuses(tool: str) -> None:
    fine = {0: OBJECT, 1: OBJECT}
    assert kinds(tool, fine) == []
    assert kinds(tool, fine, project="ffff00000000") == [("another project", "refused")] * 2
    assert kinds(tool, fine, pool=pool(1)) == [("missing image", "refused")]
    assert kinds(tool, fine, queries=ASKED, pool=pool(2, 20, 20))[0][1] == "refused"
    outside = Reply("accept", (((10.0, 20.0, 700.0, 40.0), "cat"),))
    assert kinds(tool, {0: outside, 1: OBJECT}) == [("box outside the image", "refused")]
    edge = Reply("accept", (((600.0, 20.0, 640.5, 40.0), "cat"),))
    assert kinds(tool, {0: edge, 1: OBJECT}) == [("box over the edge", "cut to the image")]


@pytest.mark.parametrize("tool", TOOLS)
def test_a_query_that_changed_or_is_gone_is_refused(tool: str) -> None:
    sent = TOOLS[tool].write(ASKED, pool(2), project=PROJECT)
    content = reply(tool, sent, {0: OBJECT, 1: OBJECT}, ASKED, pool(2))
    other = [query(0, "box", (10, 20, 30, 41)), ASKED[1]]
    assert TOOLS[tool].read(content, other, pool(2), project=PROJECT)[1][0].kind == "edited by hand"
    found, problems = TOOLS[tool].read(content, ASKED[:1], pool(2), project=PROJECT)
    assert ([a.query for a in found], problems[0].kind) == ([0], "unknown query")


@pytest.mark.parametrize("tool", SHAPED)
def test_what_nobody_answered_is_half_finished_or_stays_open(tool: str) -> None:
    region = [query(0, "region", (0, 0, 100, 100))]
    said = {0: Reply("open", (((10.0, 10.0, 30.0, 30.0), "cat"),))}
    assert kinds(tool, said, region) == [("half-finished", "refused"), ("not asked", "left out")]
    assert kinds(tool, said, region, unfinished=True)[0] == ("half-finished", "left open")


@pytest.mark.parametrize("tool", SHAPED)
def test_a_file_without_references_says_so(tool: str) -> None:
    sent = TOOLS[tool].write(ASKED, pool(2), project=PROJECT)
    content = PEOPLE[tool](sent, {0: OBJECT, 1: OBJECT}).replace(b"query", b"qu_ry")
    found, problems = TOOLS[tool].read(content, ASKED, pool(2), project=PROJECT)
    assert found == []
    assert problems[0].kind == "no reference"


def test_a_query_twice_in_a_file_is_refused() -> None:
    sent = label_studio.write(ASKED[:1], pool(2), PROJECT)
    twice = json.loads(by_label_studio(sent, {0: OBJECT})) * 2
    twice[1] = twice[1] | {"id": 999}
    assert [p.kind for p in label_studio.read(json.dumps(twice).encode(), ASKED, pool(2), project=PROJECT)[1]] == [
        "duplicate id"
    ]
    twice = json.loads(by_json(json_files.write(ASKED[:1], pool(2), project=PROJECT), {0: OBJECT}))
    twice["answers"] *= 2
    found, problems = json_files.read(json.dumps(twice).encode(), ASKED, pool(2), project=PROJECT)
    assert (len(found), problems) == (2, []), "which of them counts, the import says"
    twice["answers"][1] = twice["answers"][1] | {"who": "bob"}
    found, problems = json_files.read(json.dumps(twice).encode(), ASKED, pool(2), project=PROJECT)
    assert (len(found), problems) == (2, []), "two people are two opinions"


def test_label_studio_edited_by_hand_is_refused() -> None:
    region = [query(0, "region", (100, 100, 200, 200))]
    sent = label_studio.write(region, pool(1), PROJECT, known(pool(1)))

    def kind(change: Callable[[Any], None]) -> list[str]:
        content = json.loads(by_label_studio(sent, {0: Reply("complete")}))
        change(content[0])
        return [p.kind for p in label_studio.read(json.dumps(content).encode(), region, pool(1), project=PROJECT)[1]]

    def of(task: Any) -> list[Any]:
        result: list[Any] = task["annotations"][0]["result"]
        return result

    def one(task: Any, result_id: str) -> Any:
        return next(result for result in of(task) if result["id"] == result_id)

    assert kind(lambda task: None) == []
    assert kind(lambda task: one(task, "r-0-2")["value"].update(x=3)) == ["edited by hand"], "the region was moved"
    assert kind(lambda task: one(task, "c-0")["value"].update(x=3)) == ["edited by hand"], "a box of before was moved"
    assert kind(lambda task: task["data"].update(name="c.jpg")) == ["edited by hand"]
    assert kind(lambda task: of(task).append(choice("verdict", "skip"))) == ["half-finished"], "both were chosen"
    assert kind(lambda task: of(task).pop()) == ["half-finished"], "without `complete` nothing is covered"
    assert kind(lambda task: task.update(annotations=[])) == ["half-finished"]
    assert kind(lambda task: task.pop("annotations")) == ["no annotations"]
    assert kind(lambda task: of(task).append(rectangle("n", (120, 120, 150, 150), "cats"))) == ["unknown class"]
    turned = rectangle("n", (120, 120, 150, 150), "cat")
    turned["value"]["rotation"] = 12
    assert kind(lambda task: of(task).append(turned)) == ["rotated box"]
    small = rectangle("n", (120, 120, 150, 150), "cat", (320, 213))
    assert kind(lambda task: of(task).append(small)) == ["another image"]
    other = rectangle("n", (120, 120, 150, 150), "cat") | {"from_name": "tag"}
    assert kind(lambda task: of(task).append(other)) == ["edited by hand"]


def test_label_studio_skips_by_its_own_button_and_redraws() -> None:
    sent = label_studio.write(ASKED, pool(2), PROJECT)
    content = json.loads(by_label_studio(sent, {0: Reply("skip"), 1: OBJECT}))
    content[0]["annotations"][0] |= {"was_cancelled": True, "result": []}
    content[1]["annotations"][0]["result"][0]["id"] = "drawn anew"
    found, problems = label_studio.read(json.dumps(content).encode(), ASKED, pool(2), project=PROJECT)
    assert problems == []
    assert [(a.verdict, a.who, a.seconds) for a in found] == [
        ("skipped", "ann@x.org", 3.5),
        ("object", "ann@x.org", 3.5),
    ]
    assert found[0].note == "skipped in Label Studio"


@pytest.mark.parametrize("tool", TOOLS)
def test_nothing_faulty_is_sent(tool: str) -> None:
    faulty = [
        query(0, "box", (10, 20, 700, 40)),
        query(1, "box", (30, 20, 10, 40)),
        query(1, "box", (10, 20, 30, 40), label=3),
        query(5, "image"),
    ]
    with pytest.raises(LabelwiseError, match="5 reasons not to send"):
        TOOLS[tool].write(faulty, pool(2), project=PROJECT)
    bad = Pool(Path("data"), ("a\x01",), ("a.jpg",), np.array([9]), np.array([9]))
    with pytest.raises(LabelwiseError, match="printable"):
        TOOLS[tool].write([], bad, project=PROJECT)


def test_the_configuration_of_label_studio_holds_every_class_and_choice() -> None:
    root = ET.fromstring(label_studio.config(ASKED, pool(2)))
    assert tuple(label.get("value") for label in root.iter("Label")) == CLASSES
    assert [c.get("value") for c in root.iter("Choice")] == ["accept", "reject", "duplicate", "skip"]
    root = ET.fromstring(label_studio.config([query(0, "region", (0, 0, 9, 9))], pool(2)))
    assert [c.get("value") for c in root.iter("Choice")] == ["complete", "skip"]
    with pytest.raises(LabelwiseError, match="one unit at a time"):
        label_studio.config([query(0, "image"), ASKED[1]], pool(2))


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)


@pytest.mark.parametrize("tool", ["label_studio", "json", "coco", "fiftyone"])
@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_a_file_with_anything_in_it_never_crashes_the_reader(tool: str, data: Any) -> None:
    queries = [query(0, "box", (10, 20, 30, 40)), query(1, "box", (50, 60, 70, 80))]
    content = json.loads(
        PEOPLE[tool](TOOLS[tool].write(queries, pool(2), PROJECT, known(pool(2))), {0: OBJECT, 1: OBJECT})
    )
    places: list[tuple[Any, Any]] = []

    def walk(node: Any) -> None:
        for key in node if isinstance(node, dict) else range(len(node)) if isinstance(node, list) else ():
            places.append((node, key))
            walk(node[key])

    walk(content)
    node, key = data.draw(st.sampled_from(range(len(places))).map(places.__getitem__))
    node[key] = data.draw(json_values)
    with suppress(LabelwiseError):
        TOOLS[tool].read(json.dumps(content).encode(), queries, pool(2), project=PROJECT)


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"<a",
        b"[",
        b"{}",
        b"[1, NaN]",
        b'{"a": 1, "a": 2}',
        b"\xff",
        b"[" * 100_000,
        b"<x/>",
        b'<?xml version="1.0" encoding="nope"?><a/>',
    ],
)
@pytest.mark.parametrize("tool", TOOLS)
def test_what_is_no_file_of_the_tool_is_an_error_or_told(tool: str, text: bytes) -> None:
    try:
        found, problems = TOOLS[tool].read(text, ASKED, pool(2), project=PROJECT)
    except LabelwiseError:
        return
    assert found == [] and (problems or text == b"{}")


def test_an_xml_bomb_is_refused() -> None:
    bomb = b'<!DOCTYPE a [<!ENTITY b "bbbbbbbb"><!ENTITY c "&b;&b;&b;&b;">]><annotations>&c;</annotations>'
    with pytest.raises(LabelwiseError, match="entities"):
        cvat.read(bomb, ASKED, pool(2), project=PROJECT)


def test_a_reference_tells_every_part_of_the_question() -> None:
    first = query(0, "box", (10, 20, 30, 40))
    others = [
        query(0, "box", (10, 20, 30, 40.5)),
        query(0, "box", (10, 20, 30, 40), 1),
        query(0, "box", (10, 20, 30, 40), label=0),
    ]
    assert len({reference(PROJECT, q, 2) for q in (first, *others)}) == 4
    assert reference(PROJECT, first, 2) != reference(PROJECT, first, 3), "a class was added"
    assert reference("aaaaaaaaaaaa", first, 2).split("-")[2] != reference("bbbbbbbbbbbb", first, 2).split("-")[2]
