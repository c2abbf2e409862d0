"""The engine ray trains what processes of one machine train, to the bit, whatever dies on the way."""

from __future__ import annotations

import json
import os
import pickle
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from labelwise.config.sections import Train
from labelwise.data.image_reader import Images
from labelwise.stages import train_over_ray
from labelwise.train.images import ImageSet
from labelwise.types import LabelwiseError, Pool

PROGRAM = Path(__file__).with_name("ray_training.py")
needs_ray = pytest.mark.skipif(find_spec("ray") is None, reason="the extra ray is not installed")


def run(folder: Path, machines: str) -> list[dict[str, Any]]:
    source = str(PROGRAM.parents[1] / "src")
    environment = {
        **os.environ,
        "OMP_NUM_THREADS": "1",
        "RAY_ENABLE_UV_RUN_RUNTIME_ENV": "0",
        "PYTHONPATH": source,
        "RAY_NUM_CPUS": "2",
    }
    environment.pop("RAY_ADDRESS", None)
    done = subprocess.run(
        [sys.executable, str(PROGRAM), str(folder), machines],
        env=environment, capture_output=True, text=True, timeout=500, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    return [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]


def check(one: dict[str, Any]) -> None:
    assert one["same"], "the weights, to the bit"
    assert one["info"] and one["learned"], one
    assert one["told"] == one["steps"] and one["last"] and one["epochs"] == [0, 1], one
    assert one["kept"] == 1, "after the first epoch; the last one ends the training"


@needs_ray
def test_workers_of_ray_train_what_processes_of_one_machine_train(tmp_path: Path) -> None:
    detector, classifier, refused = run(tmp_path, "one")
    check(detector)
    check(classifier)
    assert "cannot be sent" in refused["lock"] and "train.engine=here" in refused["lock"]
    assert "room for 2 workers of 1 CPU each" in refused["room"]
    assert 'train.accelerator is "cuda"' in refused["cuda"]


@needs_ray
@pytest.mark.slow
def test_an_online_teacher_labels_there_too_and_errors_come_through(tmp_path: Path) -> None:
    teacher, refused = run(tmp_path, "more")
    check(teacher)
    assert "the loss is not finite" in refused["loss"] and "pool numbers" in refused["loss"]


@needs_ray
@pytest.mark.slow
def test_a_training_that_lost_a_machine_goes_on_from_its_last_checkpoint(tmp_path: Path) -> None:
    (said,) = run(tmp_path, "two")
    assert "room for 1 workers" in said["why"] and "goes on from the last checkpoint" in said["why"]
    assert len(said["killed"]) == 2 and said["killed"][0] < said["killed"][1] < said["steps"]
    assert said["machines"] == 3, "after the second loss another machine took the place"
    assert said["same"] and said["loss"] and said["told"] == said["steps"]


@needs_ray
@pytest.mark.slow
def test_a_run_over_ray_is_the_run_of_one_machine(tmp_path: Path) -> None:
    """Models byte for byte, their fingerprints too, and picks."""
    given = ["entropy_image", "--set", "data.scenes={train = 8, test = 4, size_px = 64, classes = 2}"]
    for setting in (
        "data.image_size_px=64", "model.weights=none", "model.fpn_channels=16", "train.steps=2", "train.devices=2",
        "train.threads=1", "train.accelerator=cpu", "budget.start_images=2", "budget.per_round=[2]",
    ):  # fmt: skip
        given += ["--set", setting]
    environment = {
        **os.environ,
        "OMP_NUM_THREADS": "1",
        "RAY_ENABLE_UV_RUN_RUNTIME_ENV": "0",
        "PYTHONPATH": str(PROGRAM.parents[1] / "src"),
    }
    environment.pop("RAY_ADDRESS", None)
    for engine in ("here", "ray"):
        command = [sys.executable, "-m", "labelwise", "run", *given, "--project", str(tmp_path / engine)]
        done = subprocess.run(
            [*command, "--engine", engine], env=environment, capture_output=True, text=True, timeout=500, check=False
        )
        assert done.returncode == 0, done.stdout + done.stderr
        forked = "distributed_backend=gloo" in done.stdout + done.stderr  # Fabric says so of processes of this machine
        assert forked == (engine == "here")
        assert f'engine = "{engine}"' in (tmp_path / engine / "run.toml").read_text()
    for kind in ("*.safetensors", "picks.*"):
        found = [sorted((tmp_path / engine).rglob(kind)) for engine in ("here", "ray")]
        assert len(found[0]) == len(found[1]) >= 2
        assert [path.read_bytes() for path in found[0]] == [path.read_bytes() for path in found[1]]


def test_another_machine_is_sent_the_labelled_images_alone() -> None:
    pool = torch.from_numpy(np.random.default_rng(0).integers(0, 256, (30, 3, 8, 8), dtype=np.uint8))
    data = ImageSet(pool, np.array([7, 3, 21]), np.array([0, 1, 1]), np.ones(3), Train(flip=0.5, pad_px=2))
    alone = data.alone("cpu").alone("cpu")
    assert len(alone.squares) == 3 and alone.names(np.array([2, 0])) == data.names(np.array([2, 0])) == "21, 7"
    for rows in (np.array([0, 2]), np.array([1])):
        ours, theirs = (one.batch(rows, np.random.default_rng(1)) for one in (alone, data))
        assert torch.equal(ours[0], theirs[0]) and torch.equal(ours[1]["labels"], theirs[1]["labels"])


def test_images_that_are_sent_are_read_anew_by_whoever_gets_them(tmp_path: Path) -> None:
    pool = Pool(tmp_path, ("a",), ("0.png",), np.array([4]), np.array([3]), pixels=np.zeros((1, 3, 4, 3), np.uint8))
    images = Images(pool, 8, cache_bytes=100)
    sent = pickle.loads(pickle.dumps(images))
    assert sent.size_px == 8 and sent.cache_bytes == 100 and np.array_equal(sent[0][0], images[0][0])


def test_nothing_to_train_on_is_told_before_anything_is_started(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(train_over_ray, "connect", lambda: pytest.fail("it asked for Ray"))
    empty = ImageSet(torch.zeros((2, 3, 4, 4), dtype=torch.uint8), np.zeros(0, np.int64), *[np.zeros(0)] * 2, Train())
    with pytest.raises(LabelwiseError, match="no image to train on"):
        train_over_ray.fit(torch.nn.Linear(1, 1), empty, Train(devices=2), seed=0, round_number=0)
