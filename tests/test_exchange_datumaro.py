"""An independent reader: datumaro gives the same boxes and attributes from CVAT and COCO (slow).

Set DATUMARO_PYTHON to the interpreter of an environment in which it is installed (it does not fit into ours: it pins
other versions).
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
from test_exchange import CLASSES, PROJECT, known, pool, query

from labelwise.exchange import coco, cvat
from labelwise.exchange._questions import REGION
from labelwise.report import training_set
from labelwise.types import Boxes, Labels, Rects

pytestmark = pytest.mark.slow


READ = """
import json, sys
from datumaro.components.dataset import Dataset
found = Dataset.import_from(sys.argv[2], sys.argv[1])
names = [label.name for label in found.categories()[list(found.categories())[0]]]
rows = [[item.id, names[a.label], list(a.points), {k: v for k, v in a.attributes.items()}]
        for item in found for a in item.annotations if a.type.name == "bbox"]
print("ROWS" + json.dumps(rows))
"""


def datumaro(format_name: str, path: Path) -> list[Any]:
    """(image, class, corners, attributes) of every box, as datumaro reads it."""
    python = os.environ.get("DATUMARO_PYTHON")
    if not python:
        pytest.skip("no datumaro: set DATUMARO_PYTHON to an interpreter that has it")
    for name in pool(5).names:  # it wants to see the images
        (path / "images" / name).parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (640, 427)).save(path / "images" / name)
    done = subprocess.run([python, "-c", READ, format_name, str(path)], capture_output=True, text=True, check=False)
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
    files = cvat.write(QUERIES, pool(5), PROJECT, known(pool(5)))
    (tmp_path / "annotations.xml").write_bytes(files["annotations.xml"])
    check(datumaro("cvat", tmp_path))


def test_datumaro_reads_the_same_boxes_and_attributes_from_coco(tmp_path: Path) -> None:
    (tmp_path / "annotations").mkdir()
    files = coco.write(QUERIES, pool(5), PROJECT, known(pool(5)))
    (tmp_path / "annotations" / "instances_train.json").write_bytes(files["queries.json"])
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
    whole, part = training_set.split_by_coverage(images, labels)
    assert (whole.tolist(), part.tolist()) == ([0], [2])
    content = training_set.coco(images, labels, rows, whole, project=PROJECT, part=False, home="images")
    (tmp_path / "annotations").mkdir()
    (tmp_path / "annotations" / "instances_train.json").write_text(json.dumps(content))
    ((_, label, corners_read, attributes),) = datumaro("coco_instances", tmp_path)
    assert (label, corners_read) == (CLASSES[1], [1, 2, 30, 40])
    assert attributes["who"] == "Ann" and attributes["round"] == 1
