"""Independent readers: a real Label Studio server, and datumaro for CVAT and COCO (slow; skipped where they are not).

Label Studio: start a server, then set LABEL_STUDIO_URL and LABEL_STUDIO_API_KEY. datumaro: set DATUMARO_PYTHON to the
interpreter of an environment in which it is installed (it does not fit into ours: it pins other versions).
"""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from test_exchange import CLASSES, PROJECT, Box, Said, choice, known, pool, query, rectangle

from labelwise.ask import coco, cvat, label_studio
from labelwise.ask._exchange import REGION
from labelwise.ask.label_studio_server import Server
from labelwise.report import training_set
from labelwise.types import Boxes, Labels, LabelwiseError, Rects

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def server() -> Server:
    url, token = os.environ.get("LABEL_STUDIO_URL"), os.environ.get("LABEL_STUDIO_API_KEY")
    if not url or not token:
        pytest.skip("no Label Studio server: set LABEL_STUDIO_URL and LABEL_STUDIO_API_KEY")
    return Server(url, token)


def answered(server: Server, unit: str, n: int) -> tuple[Any, Any, dict[int, Said]]:
    """Sends n queries, answers them through the interface as the page of Label Studio would, and fetches them."""
    rng, images = np.random.default_rng(7), pool(n)
    queries, said = [], {}
    for k in range(n):
        x, y = rng.uniform(0, 300, 2).tolist()
        area: Box = (x, y, x + 120.5, y + 100.25)
        queries.append(query(k, unit, None if unit == "image" else area))
        inner: Box = (x + 10, y + 7.77, x + 90.123456789, y + 66)
        words = ("accept", "reject", "duplicate", "skip") if unit == "box" else ("complete", "complete", "skip")
        word = words[k % len(words)]
        drawn = ((inner, CLASSES[k % 3]),) if word == "accept" or (word == "complete" and k % 2) else ()
        said[k] = Said(word, drawn)
    sent = label_studio.tasks(queries, images, known(images), project=PROJECT)
    number = server.create(f"labelwise test {unit}", label_studio.config(queries, images))
    ids = server.send(number, sent)
    for k, (id, task) in enumerate(zip(ids, sent, strict=True)):
        result = [r for p in task["predictions"] for r in p["result"]]
        for box, name in said[k].objects:
            own = f"q-{k}" if unit == "box" else f"n-{k}"
            result = [r for r in result if r["id"] != own] + [rectangle(own, box, name)]
        body = {"result": [*result, choice("verdict", said[k].word)], "lead_time": 2.5}
        if said[k].word == "skip" and k % 2:
            body = {"result": [], "was_cancelled": True, "lead_time": 1.0}
        server._call("POST", f"/api/tasks/{id}/annotations/", body)
    found = label_studio.answers(server.fetch(number), queries, images, project=PROJECT)
    exported = server._call("GET", f"/api/projects/{number}/export?exportType=JSON")
    assert label_studio.answers(exported, queries, images, project=PROJECT)[1] == []
    assert len(label_studio.answers(exported, queries, images, project=PROJECT)[0]) == n, (
        "the export file says the same"
    )
    server._call("DELETE", f"/api/projects/{number}/")
    return found, queries, said


@pytest.mark.parametrize(("unit", "n"), [("box", 110), ("region", 20), ("image", 6)])
def test_a_real_server_takes_the_queries_and_gives_the_answers_back(server: Server, unit: str, n: int) -> None:
    (found, problems), _, said = answered(server, unit, n)
    assert problems == []
    assert sorted(a.query for a in found) == list(range(n)), "several pages, each query once"
    verdicts = {"accept": "object", "reject": "background", "complete": "all", "skip": "skipped"}
    for answer in found:
        word, objects = said[answer.query]
        assert answer.verdict == verdicts.get(word, word)
        assert [CLASSES[label] for label in answer.labels] == [name for _, name in objects]
        wanted = np.array([box for box, _ in objects]).reshape(-1, 4)
        assert np.abs(np.array(answer.boxes).reshape(-1, 4) - wanted).max(initial=0) < 1e-6
        assert answer.seconds > 0


def test_a_real_server_takes_the_configuration_of_classification(server: Server) -> None:
    queries, images = [query(0, "image"), query(1, "image")], pool(2)
    number = server.create("labelwise test class", label_studio.config(queries, images, one_class=True))
    ids = server.send(number, label_studio.tasks(queries, images, project=PROJECT, one_class=True))
    server._call("POST", f"/api/tasks/{ids[0]}/annotations/", {"result": [choice("class", CLASSES[2])]})
    rows = server.fetch(number)
    found, problems = label_studio.answers(rows, queries, images, project=PROJECT, one_class=True, unfinished=True)
    assert [(a.query, a.verdict, a.labels) for a in found] == [(0, "all", (2,))]
    assert [(p.kind, p.handling) for p in problems] == [("half-finished", "left open")]
    server._call("DELETE", f"/api/projects/{number}/")


def test_a_real_server_that_says_no_is_an_error(server: Server) -> None:
    with pytest.raises(LabelwiseError, match="status 401"):
        Server(server.url, "0" * 40).create("x", "<View/>")
    with pytest.raises(LabelwiseError, match="status 404"):
        server.fetch(99999999)


# ---- datumaro -----------------------------------------------------------------------------------------------------

READ = """
import json, sys
from datumaro.components.dataset import Dataset
found = Dataset.import_from(sys.argv[2], sys.argv[1])
names = [label.name for label in found.categories()[list(found.categories())[0]]]
rows = [[item.id, names[a.label], list(a.points), {k: v for k, v in a.attributes.items()}]
        for item in found for a in item.annotations if a.type.name == "bbox"]
print("ROWS" + json.dumps(rows))
"""


def datumaro(format: str, path: Path) -> list[Any]:
    """(image, class, corners, attributes) of every box, as datumaro reads it."""
    python = os.environ.get("DATUMARO_PYTHON")
    if not python:
        pytest.skip("no datumaro: set DATUMARO_PYTHON to an interpreter that has it")
    for name in pool(5).names:  # it wants to see the images
        (path / "images" / name).parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (640, 427)).save(path / "images" / name)
    done = subprocess.run([python, "-c", READ, format, str(path)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    rows: list[Any] = json.loads(done.stdout.rpartition("ROWS")[2])
    return rows


QUERIES = [query(0, "box", (10.5, 20.25, 30, 40)), query(1, "region", (100, 100, 200, 220)), query(2, "image")]
WANTED = {(0, CLASSES[1]): [10.5, 20.25, 30, 40], (1, REGION): [100, 100, 200, 220], (2, REGION): [0, 0, 640, 427]}


def check(rows: list[Any]) -> None:
    asked = [row for row in rows if row[3].get("query")]
    for image, label, corners, attributes in asked:
        number = int(attributes["query"].split("-")[1])
        assert np.allclose(corners, WANTED[number, label], atol=0.01)
        assert attributes["answer"] == "open"
        assert image.endswith(f"b&w-{number}")
    assert len(asked) == 3
    before = [row for row in rows if not row[3].get("query")]
    assert [(row[1], row[3]["answer"]) for row in before] == [("cat", "known")] * 3


def test_datumaro_reads_the_same_boxes_and_attributes_from_cvat(tmp_path: Path) -> None:
    files = cvat.tasks(QUERIES, pool(5), known(pool(5)), project=PROJECT)
    (tmp_path / "annotations.xml").write_bytes(files["annotations.xml"])
    check(datumaro("cvat", tmp_path))


def test_datumaro_reads_the_same_boxes_and_attributes_from_coco(tmp_path: Path) -> None:
    (tmp_path / "annotations").mkdir()
    content = coco.tasks(QUERIES, pool(5), known(pool(5)), project=PROJECT)
    (tmp_path / "annotations" / "instances_train.json").write_text(json.dumps(content))
    check(datumaro("coco_instances", tmp_path))


def test_datumaro_reads_the_training_set(tmp_path: Path) -> None:
    images = pool(3)
    labels = Labels(
        Boxes(np.array([0, 1, 1, 2]), np.float32([[1, 2, 30, 40], [5, 6, 70, 80]]), np.array([1, 2])),
        Rects(np.array([0, 1, 1, 1]), np.float32([[0, 0, 640, 427]])),
        Rects.empty(3),
        np.ones(3, bool),
    )
    corners = ("x1", "y1", "x2", "y2")
    made = {"origin": "person Ann", "who": "Ann", "round": 1, "query_id": 4, "created": "2026-11-21"}
    rows = [
        {"image": images.names[k], "label": c, **dict(zip(corners, box, strict=True))} | made
        for k, c, box in ((0, 1, (1, 2, 30, 40)), (2, 2, (5, 6, 70, 80)))
    ]
    whole, part = training_set.looked_at(images, labels)
    assert (whole.tolist(), part.tolist()) == ([0], [2])
    content = training_set.coco(images, labels, rows, whole, project=PROJECT, part=False)
    (tmp_path / "annotations").mkdir()
    (tmp_path / "annotations" / "instances_train.json").write_text(json.dumps(content))
    ((_, label, corners_read, attributes),) = datumaro("coco_instances", tmp_path)
    assert (label, corners_read) == (CLASSES[1], [1, 2, 30, 40])
    assert attributes["who"] == "Ann" and attributes["round"] == 1
