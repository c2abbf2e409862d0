"""Every kind of pass over Ray leaves the files of one process: classifiers, frozen features, proposed boxes.

As a program it runs them over Ray: python test_ray_kinds.py FOLDER; prints a line of JSON for every kind.
"""

from __future__ import annotations

import json
import os
import pickle
import subprocess
import sys
import warnings
from collections.abc import Iterator, Sequence
from importlib.util import find_spec
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import test_recipes_images
import torch
from PIL import Image
from safetensors.torch import save_file

from labelwise import catalog, loop
from labelwise.config.features import Features
from labelwise.data import find
from labelwise.generated import scenes
from labelwise.models.yolox_network import YoloxNetwork
from labelwise.project import opening
from labelwise.project.context import silent
from labelwise.project.kept_features import Extraction
from labelwise.project.whole_images import WholeImages
from labelwise.stages import over_ray, ray_features, ray_predictions
from labelwise.types import LabelwiseError

SMALL = ["train.epochs=1", "train.batch_size=8", "predict.shard_images=7", "predict.batch_size=3"]
IMAGES = [*SMALL, "budget.unit=images", "budget.start_images=6", "budget.per_round=[4]"]
SPLITS = ["data.pool_split=train", "data.test_split=test"]
NETWORK = ["model.name=classifier", "model.backbone=small", "model.width=4", "data.image_size_px=16"]


def class_folders(root: Path) -> Path:
    """Images of two classes; the pixels of one are cut short."""
    rng = np.random.default_rng(0)
    for split, n in (("train", 20), ("test", 4)):
        for k in range(n):
            path = root / split / "ab"[k % 2] / f"{k:02}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(rng.integers(0, 255, (20 + k % 3, 24, 3), dtype=np.uint8)).save(path)
    cut = root / "train" / "b" / "05.png"
    cut.write_bytes(cut.read_bytes()[:-600])
    return root


def yolox(root: Path) -> Path:
    """A file of YOLOX-nano with random weights."""
    torch.manual_seed(0)
    model = YoloxNetwork(2)
    with torch.no_grad():
        model(torch.rand(8, 3, 64, 64))  # its norms learn what they see: else all cells say the same
    root.mkdir(parents=True, exist_ok=True)
    save_file({name: value.contiguous() for name, value in model.state_dict().items()}, root / "yolox.safetensors")
    return root / "yolox.safetensors"


def corners(images: list[np.ndarray]) -> list[dict[str, Any]]:
    """Proposes the left upper part of an image, as sure as it is bright."""
    return [{"boxes": [[2, 2, 30, 20]], "scores": [float(image.mean()) / 256], "labels": [0]} for image in images]


def settings(kind: str, root: Path) -> tuple[str, list[str]]:
    """Recipe and settings of a kind; its data lie below `root`, which is made for it."""
    frozen = ["features.body=shufflenet_v2_x0_5", "features.weights=none", "features.pca=6"]
    if kind == "classifier":
        more = [*NETWORK, 'predict.views=["dropout", "dropout"]', "model.dropout=0.3", "train.members=2"]
        return "bald_image", [*IMAGES, *more, f"data.root={class_folders(root)}", *SPLITS]
    if kind == "classifier in memory":
        data = test_recipes_images.data_set(root)
        return "coreset_image", [*IMAGES, *NETWORK, "data.image_size_px=8", f"data.root={data}", *SPLITS]
    if kind == "head":
        more = [
            "model.name=head",
            "features.size_px=32",
            "features.views=1",
            f"data.root={class_folders(root)}",
            *SPLITS,
        ]
        return "badge", [*IMAGES, *frozen, *more]
    scenes.write(root / "scenes", train=20, test=4, size_px=64, classes=3)
    drawn = [*SMALL, *SPLITS, f"data.root={root / 'scenes'}", "data.image_size_px=64"]
    if kind == "frozen detector":
        objects = [f"features.objects={yolox(root)}", "features.objects_px=64", "features.objects_crop_px=32"]
        asks = [
            'query={unit="box", score="entropy", select="kcenter"}',
            'labels.policy="ignore"',
            "predict.min_score=0",
        ]
        more = ['model={name="frozen"}', "query.threshold=0", "budget={unit='queries', start_images=4, per_round=[4]}"]
        return "random_image", [*drawn, *frozen, *objects, *asks, *more]
    proposes = yolox(root) if kind == "proposals" else f"{Path(__file__).stem}.corners"
    model = ['model={name="retinanet", fpn_channels=16}', "train.steps=1", "train.min_steps=0"]
    asks = ['query={unit="box", score="random", select="top"}', 'labels.policy="ignore"', "predict.proposals_px=64"]
    asks += [f'predict.proposals="{proposes}"', "budget={unit='queries', start_images=3, per_round=[4]}"]
    return "random_image", [*drawn, *model, *asks, "predict.views=[]"]


KINDS = ("classifier", "classifier in memory", "head", "frozen detector", "proposals", "proposals by a function")
FILES = ("predictions/*", "scores.parquet", "picks.parquet", "features/*/*/*.npy", "features/*/*/about.json")


def content(folder: Path) -> dict[str, bytes]:
    found = [path for pattern in FILES for path in folder.rglob(pattern) if path.is_file()]
    return {str(path.relative_to(folder)): path.read_bytes() for path in found}


def done(folder: Path, recipe: str, given: list[str], engine: str) -> list[str]:
    """Runs a project; what was told."""
    context, told = opening.start(folder, recipe, [*given, f"predict.engine={engine}"]), list[str]()
    context.tell = told.append
    assert list(loop.run(context)) == [0, 1]
    skipped = context.project.ledger.stage_done(1, "predict")["skipped"]
    return [*told, f"skipped {[name for name, _ in skipped]}"]


def alone(work: over_ray.Work, shards: Sequence[int]) -> Iterator[Any]:
    """What Ray does, by one actor of this process, the last shard first."""
    do = pickle.loads(pickle.dumps(over_ray.Sent(work, 1, None))).begin()
    for number in reversed(shards):
        yield pickle.loads(pickle.dumps(do(number)))


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_of_pass_leaves_the_files_of_one_process(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    used = list[str]()

    def noted(work: over_ray.Work, shards: Sequence[int]) -> Iterator[Any]:
        used.append(type(work).__name__)
        return alone(work, shards)

    monkeypatch.setattr(over_ray, "run", noted)
    monkeypatch.syspath_prepend(str(Path(__file__).parent))
    recipe, given = settings(kind, tmp_path / "data")
    here = done(tmp_path / "here", recipe, given, "here")
    assert not used
    there = done(tmp_path / "ray", recipe, given, "ray")
    assert content(tmp_path / "ray") == content(tmp_path / "here")
    assert any("predictions" in name for name in content(tmp_path / "here"))
    assert here[-1] == there[-1]
    frozen = kind in ("head", "frozen detector")
    assert set(used) == {"_Looks" if frozen else "_Shards"}
    said = [line for line in there if " here" in line]
    assert len(said) == frozen and all("predicts here, in seconds: its features" in line for line in said)


@pytest.mark.parametrize(
    ("recipe", "says"), [("teacher_entropy", "the teacher predicts here"), ("dispersion", "recorded here")]
)
def test_what_stays_here_says_so(recipe: str, says: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(over_ray, "run", alone)
    given = [*settings("classifier in memory", tmp_path / "data")[1], "labels.teacher.share=0.2"]
    told = done(tmp_path / "p", recipe, given if recipe == "teacher_entropy" else given[:-1], "ray")
    assert [line for line in told if says in line and line.startswith("round 1: ")]


class Killed(Exception):
    pass


def dying(work: over_ray.Work, shards: Sequence[int]) -> Iterator[Any]:
    for count, said in enumerate(alone(work, shards)):
        if count == 2:
            raise Killed
        yield said


def counting(shards: list[int]) -> Any:
    """Does what is left, and notes of how many shards."""

    def run(work: over_ray.Work, left: Sequence[int]) -> Iterator[Any]:
        shards.append(len(left))
        return alone(work, left)

    return run


def test_predictions_that_were_killed_go_on_with_the_shards_left(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe, given = settings("classifier", tmp_path / "data")
    given, shards = [*given, "predict.shard_images=4"], list[int]()
    done(tmp_path / "here", recipe, given, "here")
    monkeypatch.setattr(over_ray, "run", dying)
    with pytest.raises(Killed):
        done(tmp_path / "ray", recipe, given, "ray")
    monkeypatch.setattr(over_ray, "run", counting(shards))
    assert list(loop.run(opening.start(tmp_path / "ray", None))) == [1]
    assert shards == [2], "of 5 shards"
    assert content(tmp_path / "ray") == content(tmp_path / "here")


def test_what_a_pass_over_ray_left_is_gone_once_the_pool_is_predicted_here(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe, given = settings("classifier", tmp_path / "data")
    monkeypatch.setattr(over_ray, "run", dying)
    with pytest.raises(Killed):
        done(tmp_path / "ray", recipe, [*given, "predict.shard_images=4"], "ray")
    assert list((tmp_path / "ray").rglob("predictions-shards"))
    assert list(loop.run(opening.start(tmp_path / "ray", None, ["predict.engine=here"]))) == [1]
    assert not list((tmp_path / "ray").rglob("predictions-shards"))


def test_other_settings_of_a_model_are_another_pass() -> None:
    keys = [b"".join(ray_predictions.weights([torch.nn.Dropout(share)])) for share in (0.1, 0.1, 0.5)]
    assert keys[0] == keys[1] != keys[2]


def test_features_that_were_killed_go_on_with_the_shards_left(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pool, shards = find.read(class_folders(tmp_path / "data"), "train"), list[int]()
    looker = WholeImages(Features(body="shufflenet_v2_x0_5", weights="none", size_px=32), True, "cpu", shard=4)
    Extraction(looker, tmp_path / "here" / "features", None, silent).features("pool", pool, pool)
    over = Extraction(looker, tmp_path / "ray" / "features", None, silent, look=ray_features.look)
    monkeypatch.setattr(over_ray, "run", dying)
    with pytest.raises(Killed):
        over.features("pool", pool, pool)
    monkeypatch.setattr(over_ray, "run", counting(shards))
    assert list(over.features("pool", pool, pool).failed) == [pool.names.index("train/b/05.png")]
    assert shards == [4], "of 5 shards and 20 images two and 7 were kept; one that cannot be read is tried again"
    assert content(tmp_path / "ray") == content(tmp_path / "here")


def test_an_unreadable_image_at_one_shard_of_none_wanted(tmp_path: Path) -> None:
    """Shards of which nothing is wanted, or nothing can be read, say the shapes all the same."""
    pool = find.read(class_folders(tmp_path / "data"), "train")
    broken = pool.names.index("train/b/05.png")
    model = catalog.find("models", "classifier").call({"n_classes": 2}, {"backbone": "small", "width": 4})
    whole = np.array([broken, 17])
    one = ray_predictions.ClassifierPass((model,), pool, 16, whole, {"keep": ["image_features"]})
    predict, written = one.begin(torch.device("cpu"), 5), list[Any]()
    sink = SimpleNamespace(append=lambda first, found: written.append((first, found)))
    said = [predict(sink, (first, first + 5)) for first in (0, 5, 10, 15)]
    assert [first for first, _ in written] == [0, 5, 10, 15] and [len(found) for _, found in written] == [0, 0, 0, 1]
    assert [one.images for one in said] == [
        int(first <= broken < first + 5) + int(first == 15) for first in (0, 5, 10, 15)
    ]
    assert [len(one.skipped) for one in said] == [int(first <= broken < first + 5) for first in (0, 5, 10, 15)]
    assert len({found.per_image.features.shape for _, found in written}) == 1


@pytest.mark.slow
@pytest.mark.skipif(find_spec("ray") is None, reason="the extra ray is not installed")
def test_every_kind_of_pass_over_ray_itself(tmp_path: Path) -> None:
    source = str(Path(__file__).parents[1] / "src")
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "RAY_ENABLE_UV_RUN_RUNTIME_ENV": "0", "RAY_NUM_CPUS": "2"}
    environment["PYTHONPATH"] = os.pathsep.join([source, str(Path(__file__).parent)])
    environment.pop("RAY_ADDRESS", None)
    ran = subprocess.run(
        [sys.executable, __file__, str(tmp_path)],
        env=environment, capture_output=True, text=True, timeout=500, check=False,
    )  # fmt: skip
    assert ran.returncode == 0, ran.stdout + ran.stderr
    said = [json.loads(line) for line in ran.stdout.splitlines() if line.startswith("{")]
    assert [one["kind"] for one in said] == [*KINDS, "error"]
    assert all(one["same"] for one in said[:-1])
    assert said[-1]["says"].startswith("predict.proposals = test_ray_kinds.no_such: ")


def main() -> None:
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    folder = Path(sys.argv[1])
    for k, kind in enumerate(KINDS):
        recipe, given = settings(kind, folder / f"data{k}")
        told = [done(folder / f"{engine}{k}", recipe, given, engine) for engine in ("here", "ray")]
        same = content(folder / f"here{k}") == content(folder / f"ray{k}") and told[0][-1] == told[1][-1]
        sys.stdout.write(json.dumps({"kind": kind, "same": same}) + "\n")
    try:
        done(folder / "broken", recipe, [*given, 'predict.proposals="test_ray_kinds.no_such"'], "ray")
    except LabelwiseError as error:
        sys.stdout.write(json.dumps({"kind": "error", "says": str(error)}) + "\n")
    sys.stdout.flush()
    over_ray.connect().shutdown()


if __name__ == "__main__":
    main()
