"""`labelwise init` on any folder: what it recognises and chooses, that a failed one leaves nothing, that it may be repeated."""

from __future__ import annotations

import json
import pickle
import re
import shutil
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image
from typer.testing import CliRunner

from labelwise import cli, config, loop, menu, opening, run_file, starter
from labelwise.data import coco, find, hold_back, recognise, roles, scenes, voc, yolo
from labelwise.data.long_tail import subset
from labelwise.types import Boxes, Clips, LabelwiseError, Pool

SMALL = ["train.epochs=1", "train.min_steps=2", "train.max_steps=2", "model.weights=none", 'predict.views=["flip"]']
SMALL += ["data.image_size_px=64", "data.cache_gb=0.1"]


def call(*arguments: str) -> str:
    result = CliRunner().invoke(cli.app, arguments, env={"COLUMNS": "300"}, catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.output


def picture(path: Path, seed: int = 0, side: int = 64) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.random.default_rng(seed).integers(0, 255, (side, side, 3), dtype=np.uint8)).save(path)


def drawn(root: Path, train: int = 16, test: int = 6) -> Path:
    """COCO, with the splits train and test."""
    scenes.write(root, train=train, test=test, size_px=64, digits=(1, 3), scale=(0.3, 0.5), classes=3)
    return root


# ---------------------------------------------------------------------------------------------------- kinds of folder


def bare(root: Path) -> None:
    for k in range(12):
        picture(root / f"{k}.png", k)


def classes(root: Path) -> None:
    for k in range(30):
        picture(root / ("cat", "dog", "emu")[k % 3] / f"{k}.png", k)


def coco_instances(root: Path) -> None:
    drawn(root)
    for split, other in (("train", "train2017"), ("test", "val2017")):
        (root / split).rename(root / other)
        (root / "annotations" / f"instances_{split}.json").rename(root / "annotations" / f"instances_{other}.json")


def coco_roboflow(root: Path) -> None:
    source = drawn(root.parent / "source")
    for split, other in (("train", "train"), ("test", "valid")):
        shutil.copytree(source / split, root / other)
        text = (source / "annotations" / f"instances_{split}.json").read_text(encoding="utf-8")
        (root / other / "_annotations.coco.json").write_text(text, encoding="utf-8")


def written(write: Callable[..., None], *splits: tuple[str, str]) -> Callable[[Path], None]:
    """Another format, written from the drawn set: (its split, the one it is made of)."""

    def make(root: Path) -> None:
        source = drawn(root.parent / "source")
        for name, of in splits:
            write(coco.read(source, of), root, name)

    return make


def voc_bare(root: Path) -> None:
    written(voc.write, ("trainval", "train"))(root)
    shutil.rmtree(root / "ImageSets")
    (root / "classes.txt").unlink()


def voc_beside(root: Path) -> None:
    voc_bare(root)
    for folder in ("Annotations", "JPEGImages"):
        for path in (root / folder).iterdir():
            path.rename(root / path.name)
        (root / folder).rmdir()


def frames(root: Path) -> None:
    for clip in ("clip_a", "clip_b"):
        for k in range(8):
            picture(root / clip / f"{k:06d}.png", k)


def videos(root: Path) -> None:
    av = pytest.importorskip("av", reason="the extra `video` is not installed")
    root.mkdir()
    rng = np.random.default_rng(0)
    labels: dict[str, Any] = {}
    for name in ("a", "b", "c", "d"):
        with av.open(str(root / f"{name}.mp4"), "w") as container:
            stream = container.add_stream("mpeg4", rate=25)
            stream.width, stream.height, stream.pix_fmt = 64, 64, "yuv420p"
            for k in range(6):
                image = rng.integers(0, 99, (64, 64, 3), dtype=np.uint8)
                image[10 + k : 30 + k, 10:30] = 255
                container.mux(stream.encode(av.VideoFrame.from_ndarray(image, format="rgb24")))
            container.mux(stream.encode())
        boxes = [[["CAR", 11, 11 + k, 20, 20]] for k in range(6)]
        labels[name] = {"file": f"{name}.mp4", "width": 64, "height": 64, "fps": 25, "frames": 6, "labels": boxes}
    (root / "labels.json").write_text(json.dumps(labels), encoding="utf-8")


def bare_videos(root: Path) -> None:
    videos(root)
    (root / "labels.json").unlink()


def cifar(root: Path) -> None:
    folder = root / "cifar-10-batches-py"
    folder.mkdir(parents=True)
    rng = np.random.default_rng(0)
    for k, name in enumerate([*(f"data_batch_{i}" for i in range(1, 6)), "test_batch"]):
        data = rng.integers(0, 255, (12, 3072), dtype=np.uint8)
        batch = {b"data": data, b"labels": [(k + i) % 3 for i in range(12)]}
        (folder / name).write_bytes(pickle.dumps(batch, protocol=2))
    meta = {b"label_names": [b"cat", b"dog", b"emu"]}
    (folder / "batches.meta").write_bytes(pickle.dumps(meta, protocol=2))


def arrays(root: Path) -> None:
    root.mkdir()
    rng = np.random.default_rng(0)
    parts = {"train": 40, "test": 12}
    x = {f"{name}_x": rng.integers(0, 255, (n, 12, 12), dtype=np.uint8) for name, n in parts.items()}
    y = {f"{name}_y": np.arange(n) % 3 for name, n in parts.items()}
    np.savez(root / "set.npz", **x, **y)


KINDS: dict[str, tuple[Callable[[Path], None], str, str | None, str | None, str, str]] = {
    # kind: (how to make it, format, pool, test split, who answers, model)
    "bare images": (bare, "folder", None, None, "people", "retinanet"),
    "a folder of classes": (classes, "classes", None, None, "oracle", "classifier"),
    "COCO": (coco_instances, "coco", "train2017", "val2017", "oracle", "retinanet"),
    "COCO of Roboflow": (coco_roboflow, "coco", "train", "valid", "oracle", "retinanet"),
    "YOLO": (written(yolo.write, ("train", "train"), ("val", "test")), "yolo", "train", "val", "oracle", "retinanet"),
    "VOC": (written(voc.write, ("trainval", "train"), ("test", "test")), "voc", "trainval", "test", "oracle", "retinanet"),
    "VOC without ImageSets": (voc_bare, "voc", "all", None, "oracle", "retinanet"),
    "XML beside images": (voc_beside, "voc", "all", None, "oracle", "retinanet"),
    "one split of another name": (written(coco.write, ("depot", "train")), "coco", "depot", None, "oracle", "retinanet"),
    "YOLO of one split of another name": (
        written(yolo.write, ("depot", "train")), "yolo", "depot", None, "oracle", "retinanet"
    ),
    "frame folders": (frames, "frames", None, None, "people", "retinanet"),
    "videos": (videos, "video", "train", "test", "oracle", "retinanet"),
    "videos without labels": (bare_videos, "video", None, None, "people", "retinanet"),
    "CIFAR": (cifar, "cifar", "train", "test", "oracle", "classifier"),
    "arrays": (arrays, "arrays", "train", "test", "oracle", "classifier"),
}  # fmt: skip


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_of_folder_becomes_a_project(kind: str, tmp_path: Path) -> None:
    make, format, pool, test, who, model = KINDS[kind]
    make(tmp_path / "d")
    made = [] if model == "classifier" or who == "oracle" else ["--classes", "cat,dog"]
    shown = call("init", str(tmp_path / "p"), "--data", str(tmp_path / "d"), *made)
    run = config.load(tmp_path / "p" / "run.toml")
    assert (run.data.format, run.data.pool_split, run.data.test_split) == (format, pool, test)
    assert (run.ask.who, run.model.name) == (who, model)
    assert (run.data.test_share > 0) == (who == "oracle" and test is None)
    opened = opening.start(tmp_path / "p", None)
    assert opened.pool.classes and 0 < opened.first_images <= len(opened.pool) / 3 + 1
    assert (opened.test is None) == (who == "people")
    assert opened.test is None or not set(opened.pool.names) & set(opened.test.names)
    assert f"{len(opened.pool)} images in the pool" in shown and f"d: {format}" in shown
    assert all(setting in shown for setting in ("budget.start_images", "data.test_"))
    assert opened.project.ledger.stages() == []


@pytest.mark.parametrize("kind", ["a folder of classes", "VOC without ImageSets", "frame folders", "videos"])
def test_the_first_round_runs(kind: str, tmp_path: Path) -> None:
    make, _, _, _, who, model = KINDS[kind]
    make(tmp_path / "d")
    given = [x for x in SMALL if model != "classifier" or "views" not in x]
    given += ["model.backbone=small"] if model == "classifier" else []
    made = starter.make(tmp_path / "p", tmp_path / "d", None, ["a"] if who == "people" else [], given)
    assert made.run.budget.per_round[0] <= len(made.pool) * 5
    opened = opening.start(tmp_path / "p", None)
    if who == "people":
        loop.begin(opened)
        for name in ("predict", "score", "select"):
            assert loop.run_stage(opened, 0, name)
        return
    rounds = loop.run(opened)
    assert next(rounds) == 0
    assert opened.project.ledger.cost().images == opened.first_images
