"""The engine ray predicts what one process does, bit for bit, whatever dies on the way."""

from __future__ import annotations

import json
import os
import pickle
import subprocess
import sys
import threading
from importlib.util import find_spec
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from labelwise.stages import over_ray
from labelwise.types import Boxes, LabelwiseError, Pool

PROGRAM = Path(__file__).with_name("ray_cluster.py")
needs_ray = pytest.mark.skipif(find_spec("ray") is None, reason="the extra ray is not installed")


def run(folder: Path, *machines: str, program: Path = PROGRAM) -> list[dict[str, Any]]:
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
        [sys.executable, str(program), str(folder), *machines],
        env=environment, capture_output=True, text=True, timeout=500, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    return [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]


def check(said: dict[str, Any]) -> None:
    assert said["same"], "the files are those of one process, byte for byte"
    assert said["counts"] == said["here"] and said["skipped"] and said["first"] == 1 and said["killed"]
    assert sorted(said["left"]) == ["here", "images", "ray"]


@needs_ray
def test_a_run_that_was_killed_goes_on_with_the_shards_that_are_not_written(tmp_path: Path) -> None:
    middle, said = run(tmp_path, "one")
    assert middle["said"] >= 2 and middle["kept"] >= middle["said"]
    check(said)


@needs_ray
@pytest.mark.slow
def test_of_two_machines_one_dies_and_nothing_is_lost(tmp_path: Path) -> None:
    (said,) = run(tmp_path, "two")
    check(said)
    assert said["told"] == 42, "no image was counted twice"


@needs_ray
@pytest.mark.slow
@pytest.mark.skipif(find_spec("moto") is None or find_spec("s3fs") is None, reason="moto or s3fs is not installed")
def test_every_machine_fetches_the_images_of_a_store_and_keeps_a_part(tmp_path: Path) -> None:
    (said,) = run(tmp_path, program=PROGRAM.with_name("ray_store.py"))
    assert said["same"], "the files are those of one process, byte for byte"
    assert 0 < said["other"] <= said["most"] and 0 < said["driver"] <= said["most"]
    assert said["skipped"] == said["here"] and [k for k, _ in said["skipped"]] == [7, 30]
    assert said["weights"] and said["trained"] > 0, "a training on images of the store is one on the same files"
    assert said["error"] == "Unreachable" and "s3://far/" in said["says"], "the error of one process"


def test_a_machine_without_the_images_says_so(tmp_path: Path) -> None:
    place = over_ray.Place(tmp_path / "nowhere", None, "driver")
    with pytest.raises(LabelwiseError, match=r"nowhere, the folder of the images, is not on .*same path"):
        place.open("other")
    (tmp_path / "share").mkdir()  # where nothing is mounted
    place = over_ray.Place(tmp_path / "share", None, "driver", "0.png")
    with pytest.raises(LabelwiseError, match=r"share, the folder of the images, is not on"):
        place.open("other")
    (tmp_path / "share" / "0.png").write_bytes(b"")
    place.open("other")


def test_what_cannot_be_sent_is_told_in_a_line() -> None:
    with (
        pytest.raises(LabelwiseError, match=r"ray: the model cannot be sent.*--set predict\.engine=here$") as told,
        over_ray.sendable("the model", "predict.engine"),
    ):
        pickle.dumps((threading.Lock(), "x" * 9999))
    assert len(str(told.value)) < 400


def test_an_actor_wants_its_cores_on_one_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    nodes = [{"Alive": True, "Resources": {"CPU": 1.0}}] * 2 + [{"Alive": False, "Resources": {"CPU": 9.0}}]
    monkeypatch.setattr(over_ray, "connect", lambda: SimpleNamespace(nodes=lambda: nodes))
    monkeypatch.setattr(torch, "get_num_threads", lambda: 2)
    with pytest.raises(LabelwiseError, match="no machine of the cluster has more than 1 cores, and an actor takes 2"):
        next(iter(over_ray.run(SimpleNamespace(pool=None), [0])))  # type: ignore[arg-type]


def test_of_a_pool_that_is_sent_annotations_stay_here(tmp_path: Path) -> None:
    size = np.ones(1, np.int64)
    pool = Pool(Path("here"), ("a",), ("a.png",), size, size, truth=Boxes.of_images([0], size, size))
    sent = over_ray.to_read(pool)
    assert sent.truth is None and sent.names == pool.names and sent.path(0) == Path("here").absolute() / "a.png"


def test_without_ray_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(LabelwiseError, match=r"pip install 'labelwise\[ray\]'"):
        over_ray.connect()


@needs_ray
@pytest.mark.slow
def test_the_runs_of_a_comparison_are_tasks_of_ray(tmp_path: Path) -> None:
    """The same picks as with processes of this machine; what is done is not done again; errors come through."""
    given = ["random_image", "entropy_image", "--data", "scenes", "--seeds", "1", "--jobs", "2"]
    for setting in (
        "data.scenes={train = 8, test = 4, size_px = 64, classes = 2}", "data.image_size_px=64", "model.weights=none",
        "model.fpn_channels=16", "train.steps=1", "budget.start_images=2", "budget.per_round=[4]",
    ):  # fmt: skip
        given += ["--set", setting]
    environment = {
        **os.environ,
        "OMP_NUM_THREADS": "1",
        "RAY_ENABLE_UV_RUN_RUNTIME_ENV": "0",
        "PYTHONPATH": str(PROGRAM.parents[1] / "src"),
    }
    environment.pop("RAY_ADDRESS", None)

    def compare(*more: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "labelwise", "compare", *given, *more]
        return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=500, check=False)

    for engine in ("here", "ray"):
        done = compare("--folder", str(tmp_path / engine), "--engine", engine)
        assert done.returncode == 0, done.stdout + done.stderr
    picks = [sorted((tmp_path / engine).rglob("picks.*")) for engine in ("here", "ray")]
    assert len(picks[0]) == len(picks[1]) > 2
    assert [path.read_bytes() for path in picks[0]] == [path.read_bytes() for path in picks[1]]
    nested = compare("--folder", str(tmp_path / "nested"), "--engine", "ray", "--set", "predict.engine=ray")
    assert nested.returncode and "asks Ray for more within: set predict.engine=here" in " ".join(nested.stderr.split())
    broken = compare("--folder", str(tmp_path / "broken"), "--engine", "ray", "--set", "model.weights=nowhere.pth")
    assert broken.returncode != 0 and "nowhere" in broken.stdout + broken.stderr
