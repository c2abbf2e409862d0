"""What is written as COCO, VOC and YOLO is read by other libraries with the same boxes, and trains (slow).

Set PEERS_PYTHON to the interpreter of an environment that has supervision, datumaro and ultralytics, or some of them
(they pin other versions than ours); what is not there is skipped:

    python3 -m venv peers && peers/bin/pip install supervision datumaro ultralytics
    PEERS_PYTHON=peers/bin/python pytest -m slow tests/test_exports_elsewhere.py
"""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from labelwise.data import coco, find, voc, yolo
from labelwise.types import Boxes, Pool

pytestmark = pytest.mark.slow

CLASSES = ("cat", "big dog", 'käfer "x" & y')
NAMES = {
    "plain.jpg": (64, 48),
    "two words/a b.png": (80, 60),
    "sub dir/a b.png": (50, 50),
    "käfer %20 #1.jpg": (64, 48),
    "-dash.v1.0.jpg": (96, 40),
    "it's q & x.png": (64, 64),
    "猫.jpg": (64, 64),
    "nothing on it.jpg": (40, 40),
}
SETS = {"coco": coco, "voc": voc, "yolo": yolo}
Row = tuple[str, str, tuple[float, float, float, float]]

SUPERVISION = """
import supervision as sv
def rows(root, name):
    if name == "coco":
        found = sv.DetectionDataset.from_coco(f"{root}/images/train", f"{root}/annotations/instances_train.json")
    elif name == "voc":
        found = sv.DetectionDataset.from_pascal_voc(f"{root}/JPEGImages", f"{root}/Annotations")
    else:
        found = sv.DetectionDataset.from_yolo(f"{root}/train/images", f"{root}/train/labels", f"{root}/data.yaml")
    for path, image, given in found:
        for box, label in zip(given.xyxy.tolist(), given.class_id.tolist()):
            yield path, found.classes[label], box
"""

DATUMARO = """
from datumaro.components.dataset import Dataset
def rows(root, name):
    found = Dataset.import_from(root, {"coco": "coco_instances", "voc": "voc_detection", "yolo": "roboflow_yolo"}[name])
    labels = found.categories()[next(k for k in found.categories() if k.name == "label")]
    for item in found:
        for one in item.annotations:
            if one.type.name == "bbox" and item.subset == "train":
                yield item.media.path, labels[one.label].name, list(one.points)
"""

READ = """
import json, sys
out = [[str(path), name, [float(v) for v in box]] for path, name, box in rows(sys.argv[1], sys.argv[2])]
print("ROWS" + json.dumps(out))
"""

TRAIN = """
import json, sys
from ultralytics import YOLO
model = YOLO("yolov8n.yaml")
told = model.train(data=sys.argv[1], epochs=1, imgsz=64, device="cpu", batch=4, workers=0, plots=False,
                   project=sys.argv[2], verbose=False)
train, val = model.trainer.train_loader.dataset, model.trainer.test_loader.dataset
out = [[one["im_file"], model.names[int(c)], box] for data in (train, val) for one in data.labels
       for c, box in zip(one["cls"].ravel().tolist(), one["bboxes"].tolist())]
print("ROWS" + json.dumps(out))
"""


def peer(library: str, code: str, *arguments: object) -> list[Any]:
    """What a script of another environment prints; the test is skipped where that has not the library."""
    python = os.environ.get("PEERS_PYTHON")
    if not python:
        pytest.skip(f"no {library}: set PEERS_PYTHON to an interpreter that has it")
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    command = [python, "-c", f"import {library}"]
    if subprocess.run(command, capture_output=True, env=environment, check=False).returncode:
        pytest.skip(f"{python} has no {library}")
    command = [python, "-c", code, *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    assert done.returncode == 0, done.stdout[-1000:] + done.stderr[-3000:]
    rows: list[Any] = json.loads(done.stdout.rpartition("ROWS")[2])
    return rows


@pytest.fixture(scope="module")
def pool(tmp_path_factory: pytest.TempPathFactory) -> Pool:
    root, rows = tmp_path_factory.mktemp("images"), []
    for k, (name, (width, height)) in enumerate(NAMES.items()):
        (root / name).parent.mkdir(exist_ok=True)
        Image.fromarray(np.random.default_rng(k).integers(0, 255, (height, width, 3), np.uint8)).save(root / name)
        rows += [(k, (1.5, 2.25, width - 3.75, height - 5), k % 3)] if name != "nothing on it.jpg" else []
        rows += [(k, (0, 0, width, height), (k + 1) % 3)] if k % 2 and name != "nothing on it.jpg" else []
    image, boxes, labels = (np.array(column) for column in zip(*rows, strict=True))
    truth = Boxes.from_rows(image, boxes.astype(np.float32), labels, len(NAMES))
    sides = np.array(list(NAMES.values()), np.int64)
    return Pool(root, CLASSES, tuple(NAMES), sides[:, 0].copy(), sides[:, 1].copy(), truth=truth)


@pytest.fixture(scope="module")
def written(pool: Pool, tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    made = {name: tmp_path_factory.mktemp(name) / "set" for name in SETS}
    for name, module in SETS.items():
        for split in ("train", "val"):
            module.write(pool, made[name], split)
    return made.__getitem__


def wanted(root: Path) -> list[Row]:
    """What was written, as we read it ourselves: (file name, class, box)."""
    back = find.read(root, "train")
    assert back.truth is not None
    return sorted(
        (Path(back.names[k]).name, back.classes[label], tuple(box))
        for k, box, label in zip(
            back.truth.image.tolist(), back.truth.xyxy.tolist(), back.truth.labels.tolist(), strict=True
        )
    )


@pytest.mark.parametrize("library", ["supervision", "datumaro"])
@pytest.mark.parametrize("name", SETS)
def test_another_library_reads_the_same_boxes(
    library: str, name: str, written: Callable[[str], Path], pool: Pool
) -> None:
    root = written(name)
    expected = wanted(root)
    if (library, name) == ("datumaro", "voc"):  # it does not count pixels from 1 as the devkit does
        expected = [(file, label, (x1 + 1, y1 + 1, x2, y2)) for file, label, (x1, y1, x2, y2) in expected]
    assert pool.truth is not None and len(expected) == len(pool.truth)
    code = {"supervision": SUPERVISION, "datumaro": DATUMARO}[library] + READ
    found = sorted((Path(path).name, label, tuple(box)) for path, label, box in peer(library, code, root, name))
    assert [row[:2] for row in found] == [row[:2] for row in expected]
    apart = np.abs(np.array([row[2] for row in found]) - np.array([row[2] for row in expected])).max(axis=1)
    assert apart.max() < 0.01, [(f, e) for f, e, d in zip(found, expected, apart, strict=True) if d >= 0.01]


@pytest.mark.parametrize("splits", [("train", "val"), ("train",)])
def test_a_yolo_set_trains_as_it_is(splits: tuple[str, ...], pool: Pool, tmp_path: Path) -> None:
    """From another working folder, one epoch, without weights from elsewhere; val is train where there is no other."""
    root = tmp_path / "a set"
    for split in splits:
        yolo.write(pool, root, split)
    found = peer("ultralytics", TRAIN, root / "data.yaml", tmp_path)
    assert pool.truth is not None and len(found) == 2 * len(pool.truth), "the boxes of train and val"
    assert {Path(path).name for path, _, _ in found} == {row[0] for row in wanted(root)}
    assert {name for _, name, _ in found} == set(CLASSES)
    assert find.splits(root) == splits
