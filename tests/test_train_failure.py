"""A training that has learned nothing is told, one that has is not."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from labelwise import files, loop
from labelwise.project import opening
from labelwise.train import failure
from labelwise.train.augment import Augment
from labelwise.train.batches import TrainingSet
from labelwise.train.images import ImageSet
from labelwise.types import Rects, Targets

sys.path.insert(0, str(Path(__file__).parents[1] / "benchmarks"))
import kill

N, PER_IMAGE = 6, 4


class Source:
    def __getitem__(self, image: int, /) -> tuple[np.ndarray, np.ndarray]:
        return np.full((3, 40, 40), image, np.uint8), np.ones(2, np.float32)


def boxes_of(image: int) -> np.ndarray:
    low = np.array([[3 + image, 2], [20, 3 + image], [2, 22], [22, 20 + image]], np.float32)
    return np.concatenate([low, low + 9], axis=1)


def data(weight: float = 1.0) -> TrainingSet:
    n = N * PER_IMAGE
    window = np.tile(np.array([[0, 0, 40, 40]], np.float32), (N, 1))
    weights = np.full(n, weight, np.float32)
    targets = Targets(
        np.arange(N), np.arange(0, n + 1, PER_IMAGE), np.concatenate([boxes_of(i) for i in range(N)]),
        np.arange(n) % 2, weights, weights, np.zeros(n, np.int8), Rects(np.arange(N + 1), window), Rects.empty(N),
        window,
    )  # fmt: skip
    return TrainingSet(Source(), targets, np.arange(N), Augment(flip=1, scale=(0.5, 0.6), photometric=1))


class Detector(nn.Module):
    """Finds the first `right` true boxes of every image, and many others that it is less sure of."""

    def __init__(self, right: int, wrong_class: bool = False) -> None:
        super().__init__()
        self.linear = nn.Linear(1, 1)
        self.right, self.wrong_class = right, wrong_class

    def forward(self, images: list[Tensor]) -> list[dict[str, Tensor]]:
        assert not self.training
        number = round(float(images[0].mean()) * 255)
        true = torch.from_numpy(boxes_of(number))
        boxes = torch.cat([true[: self.right], torch.tensor([[0.0, 0, 40, 40]]).repeat(PER_IMAGE, 1), true])
        labels = torch.cat(
            [torch.arange(self.right) % 2, torch.zeros(PER_IMAGE, dtype=torch.long), torch.arange(4) % 2]
        )
        probs = torch.eye(2)[1 - labels if self.wrong_class else labels]
        return [{"boxes": boxes, "scores": torch.linspace(0.9, 0.1, len(boxes)), "probs": probs}]


def test_a_detector_is_judged_by_its_surest_detections() -> None:
    assert failure.find(Detector(right=1), data(), 40, 2.0, 1.0) is None
    assert failure.find(Detector(right=0), data(), 40, 2.0, 1.0) == (
        "its surest detections find 0 of 24 boxes of its own training images"
    )
    assert failure.find(Detector(right=4, wrong_class=True), data(), 40, 2.0, 1.0) is not None
    assert failure.find(Detector(right=0), data(weight=0.1), 40, 2.0, 1.0) is None  # no box that anybody is sure of


def test_a_loss_that_has_not_fallen_is_told_and_few_steps_are_not_judged() -> None:
    good = Detector(right=4)
    assert failure.find(good, data(), 40, 1.0, 1.0) == "the loss has not fallen (1 at first, 1 at last)"
    assert failure.find(good, data(), 40, None, 1.0) is None
    assert failure.find(good, data(), 19, 1.0, 1.0) is None


class Classifier(nn.Module):
    def __init__(self, constant: bool) -> None:
        super().__init__()
        self.linear, self.constant = nn.Linear(1, 1), constant

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        said = torch.zeros(len(images)) if self.constant else (images.mean((1, 2, 3)) > 0.05).float()
        return torch.stack([0.5 - said, said], 1), images.flatten(1)


@pytest.mark.parametrize("constant, classes, told", [(True, 2, True), (False, 2, False), (True, 1, False)])
def test_a_classifier_that_gives_one_class_is_told(constant: bool, classes: int, told: bool) -> None:
    squares = torch.arange(30, dtype=torch.uint8).view(30, 1, 1, 1).repeat(1, 3, 4, 4)
    rule: Any = Augment()
    images = ImageSet(squares, np.arange(30), np.arange(30) % classes, np.ones(30, np.float32), rule)
    assert (failure.find(Classifier(constant), images, 40, 2.0, 1.0) is not None) == told


ALL = [
    "train.min_steps=0",
    "train.max_steps=none",
    "train.steps=21",
    "train.whole_share=0.5",
    "train.scale=[0.6, 1.4]",
    "train.iou_crop=0.5",
    "train.photometric=1.0",
    "train.warm_start=true",
    "train.warm_lr=1e-9",
    "train.weight_decay=0",
    "budget.per_round=[4]",
]


def test_a_run_with_every_option_keeps_its_steps_and_its_warm_rate(tmp_path: Path) -> None:
    """At a rate of next to nothing a round that goes on ends at the weights that it began with: batch norms aside."""
    told: list[str] = []
    opened = opening.start(tmp_path / "p", "demo", [*kill.SMALL, *ALL])
    opened.tell = told.append
    list(loop.run(opened))
    info = [opened.project.ledger.stage_done(r, "train") or {} for r in (0, 1)]
    assert [one["steps"] for one in info] == [21, 21]
    assert info[0]["loss_fresh"] == info[1]["loss_fresh"] > 0
    found = [files.read_tensors(opened.project.round_folder(r) / "checkpoint.safetensors")[0] for r in (0, 1)]
    same = [np.abs(found[0][k] - v).max() for k, v in found[1].items() if k.endswith("weight")]
    assert max(same) < 1e-6
    assert any("learns_nothing" in one for one in info) == any("has learned nothing" in line for line in told)
