"""A program of test_train_over_ray: workers of Ray train what processes here train; of two machines one dies.

python ray_training.py FOLDER one|more|two; prints lines of JSON.
"""

from __future__ import annotations

import json
import os
import sys
import threading
import time
import warnings
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from test_train import Kept
from test_train_teacher import Everything, Glance
from test_train_teacher import training_set as partly_known
from torch import Tensor, nn

from labelwise.config.sections import Train
from labelwise.data.image_reader import Images
from labelwise.models import classifier, retinanet
from labelwise.stages import train_over_ray
from labelwise.stages.over_ray import connect
from labelwise.train.augment import Augment
from labelwise.train.batches import TrainingSet
from labelwise.train.fit import fit
from labelwise.train.images import ImageSet
from labelwise.train.teacher import Teacher
from labelwise.types import LabelwiseError, Pool, Rects, Targets

N = 9  # the last batch of four is of one image: both workers take it
RULE = Train(
    epochs=2, batch_size=4, lr=0.01, threads=1, checkpoint_every_s=0, accelerator="cpu", devices=2, jitter=0.1,
    engine="ray",
)  # fmt: skip


def files_of(folder: Path) -> TrainingSet:
    """Images on disk, with a box each."""
    folder.mkdir()
    rng, names = np.random.default_rng(0), tuple(f"{k}.png" for k in range(N))
    for name in names:
        Image.fromarray(rng.integers(0, 256, (48, 64, 3), dtype=np.uint8)).save(folder / name)
    pool = Pool(folder, ("a", "b"), names, np.full(N, 64), np.full(N, 48))
    corner, ones = rng.uniform(0, 20, (N, 2)), np.ones(N, np.float32)
    boxes = np.concatenate([corner, corner + rng.uniform(10, 25, (N, 2))], axis=1).astype(np.float32)
    whole = np.tile(np.array([0, 0, 64, 48], np.float32), (N, 1))
    targets = Targets(
        np.arange(N), np.arange(N + 1), boxes, np.arange(N) % 2, ones, ones, np.zeros(N, np.int8),
        Rects(np.arange(N + 1), whole), Rects.empty(N), whole, np.ones(N, bool),
    )  # fmt: skip
    return TrainingSet(Images(pool, 64), targets, np.arange(N), Augment.of(RULE))


def squares() -> ImageSet:
    """Nine of twenty images of a pool."""
    pool = torch.from_numpy(np.random.default_rng(1).integers(0, 256, (20, 3, 32, 32), dtype=np.uint8))
    return ImageSet(pool, np.arange(18, 0, -2), np.arange(N) % 3, np.linspace(0.5, 1, N), RULE)


def detector() -> nn.Module:
    return retinanet.build(2, fpn_channels=16)


@dataclass
class Epochs:
    """What the model was after each epoch."""

    numbers: list[int] = field(default_factory=list)
    weights: dict[str, Tensor] = field(default_factory=dict)

    def __call__(self, model: nn.Module, epoch: int) -> None:
        self.numbers.append(epoch)
        self.weights = {name: value.clone() for name, value in model.state_dict().items()}


def equal(a: dict[str, Tensor], b: dict[str, Tensor]) -> bool:
    return a.keys() == b.keys() and all(torch.equal(value, b[name]) for name, value in a.items())


def refusal(work: Callable[[], object]) -> str:
    try:
        work()
    except LabelwiseError as error:
        return str(error)
    return "nothing"


class Slow(Glance):
    """Notes on which machine it trains, so that this one can be killed; and fails where it is told to."""

    def __init__(self, folder: Path | None = None, wait_s: float = 0.0) -> None:
        torch.manual_seed(1)
        super().__init__()
        self.folder, self.wait_s = folder, wait_s

    def forward(self, images: list[Tensor], targets: list[dict[str, Tensor]] | None = None) -> Any:
        if self.folder is not None:
            (self.folder / import_module("ray").get_runtime_context().get_node_id()).touch()
            time.sleep(self.wait_s)
        return super().forward(images, targets)


class Locked(Glance):
    """Cannot be sent to another process."""

    def __init__(self) -> None:
        super().__init__()
        self.lock = threading.Lock()


class Poisoned(Glance):
    """Its loss is not finite."""

    def forward(self, images: list[Tensor], targets: list[dict[str, Tensor]] | None = None) -> Any:
        return {"loss": super().forward(images, targets)["loss"] * float("nan")}


Case = tuple[str, Callable[[], nn.Module], Callable[[], Any], Train]


def one(folder: Path) -> None:
    """What can be trained, and what is refused at once."""
    on_disk, data = files_of(folder / "images"), partly_known(None)
    check(
        ("detector", detector, lambda: on_disk, RULE),
        ("classifier", lambda: classifier.build(3, backbone="small"), squares, RULE),
    )
    print_line(
        lock=refusal(lambda: train(Locked(), data)),
        room=refusal(lambda: train(Glance(), data, devices=3)),
        cuda=refusal(lambda: train(Glance(), data, accelerator="cuda")),
    )


def more(_: Path) -> None:
    """An online teacher, and what fails in a worker."""
    online = RULE.model_copy(update={"steps": 4, "whole_share": 0.5, "warm_start": True, "teacher": "ema"})
    check(("teacher", Glance, lambda: partly_known(Teacher(Everything())), online))
    print_line(loss=refusal(lambda: train(Poisoned(), partly_known(None))))


def train(model: nn.Module, data: Any, **rule: object) -> dict[str, float]:
    return train_over_ray.fit(model, data, RULE.model_copy(update=rule), seed=0, round_number=1)


def check(*cases: Case) -> None:
    """The same weights here and there."""
    here = {}
    for name, build, data, rule in cases:  # before there is a Ray, as processes are forked
        torch.manual_seed(0)
        model = build()
        here[name] = fit(model, data(), rule, seed=3, round_number=1), model.state_dict()
    for name, build, data, rule in cases:
        torch.manual_seed(0)
        model, told, after, kept = build(), list[int](), Epochs(), Kept()
        begin = {key: value.clone() for key, value in model.state_dict().items()}
        info = train_over_ray.fit(
            model, data(), rule, seed=3, round_number=1, progress=told.append, after_epoch=after, checkpoint=kept
        )
        said, weights = here[name]
        clocks = {"images_per_s", "waiting_share"}
        print_line(
            case=name, same=equal(model.state_dict(), weights), learned=not equal(begin, weights),
            info={k: v for k, v in info.items() if k not in clocks} == {k: said[k] for k in said if k not in clocks},
            told=sum(told), steps=info["steps"], epochs=after.numbers, last=equal(after.weights, weights),
            kept=kept.saves,
        )  # fmt: skip


def two(folder: Path) -> None:
    """A machine dies, and no other is left: an error. With others the same call goes on, though another one dies."""
    rule, used = RULE.model_copy(update={"epochs": 30, "batch_size": 6}), folder / "used"
    used.mkdir()
    here = Slow()
    said = fit(here, partly_known(None), rule, seed=3, round_number=1)
    cluster = import_module("ray.cluster_utils").Cluster(initialize_head=True, head_node_args={"num_cpus": 1})
    others = [cluster.add_node(num_cpus=1)]
    os.environ["RAY_ADDRESS"] = cluster.address
    killed, deadly = list[int](), threading.Event()

    class Deadly(Kept):
        """With its next checkpoint a machine dies that trains; workers live a little longer, and may save another."""

        def save(self, tensors: Any, metadata: Any) -> None:
            super().save(tensors, metadata)
            if deadly.is_set():
                deadly.clear()
                victim = next(node for node in others if (used / node.node_id).exists())
                killed.append(int(metadata["step"]))
                others.remove(victim)
                cluster.remove_node(victim, allow_graceful=False)

    model, kept, told = Slow(used, 0.3), Deadly(), list[int]()

    def again() -> dict[str, float]:
        return train_over_ray.fit(
            model, partly_known(None), rule, seed=3, round_number=1, checkpoint=kept, progress=told.append
        )

    deadly.set()
    why = refusal(again)
    others += [cluster.add_node(num_cpus=1), cluster.add_node(num_cpus=1)]
    for path in used.iterdir():
        path.unlink()
    told.clear()
    deadly.set()
    info = again()
    print_line(
        why=why, killed=killed, same=equal(model.state_dict(), here.state_dict()), told=sum(told),
        steps=info["steps"], loss=info["loss"] == said["loss"], machines=len(list(used.iterdir())),
    )  # fmt: skip
    connect().shutdown()
    with suppress(Exception):
        cluster.shutdown()


def print_line(**said: object) -> None:
    sys.stdout.write(json.dumps(said) + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    {"one": one, "more": more, "two": two}[sys.argv[2]](Path(sys.argv[1]))
    os._exit(0)  # what is left of a cluster that lost a machine ends in errors
