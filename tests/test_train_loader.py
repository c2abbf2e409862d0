"""The loader: the batches of one thread, whatever their number; nothing is lost where one cannot be made."""

from __future__ import annotations

import threading
import time
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from labelwise.config.sections import Train
from labelwise.models import retinanet
from labelwise.train import loader
from labelwise.train.augment import Augment
from labelwise.train.batches import TrainingSet
from labelwise.train.fit import fit
from labelwise.train.loader import Batch, Loader
from labelwise.types import LabelwiseError, Rects, Targets

N, SIDE = 7, 40
AUGMENT = Augment(flip=0.5, jitter=0.1, scale=(0.6, 1.4), iou_crop=0.5, photometric=1.0)


class Source:
    """Random images; number 5 of them can be missing, and reading can take a while."""

    def __init__(self, missing: bool = False, takes_s: float = 0.0) -> None:
        self.missing, self.takes_s = missing, takes_s
        self.pixels = np.random.default_rng(0).integers(0, 256, (N, 3, SIDE, SIDE), np.uint8)
        self.threads: set[str] = set()

    def __getitem__(self, image: int) -> tuple[np.ndarray, np.ndarray]:
        self.threads.add(threading.current_thread().name)
        time.sleep(self.takes_s)
        if self.missing and image == 5:
            raise LabelwiseError("image 5 is gone")
        return self.pixels[image], np.ones(2, np.float32)

    def crop(self, image: int, window: tuple[float, float, float, float]) -> tuple[np.ndarray, np.ndarray]:
        raise AssertionError("every entry is a whole image")


def training_set(source: Source) -> TrainingSet:
    window = np.tile(np.array([0, 0, SIDE, SIDE], np.float32), (N, 1))
    corner = np.random.default_rng(1).uniform(0, SIDE / 2, (N, 2))
    boxes = np.concatenate([corner, corner + SIDE / 3], axis=1).astype(np.float32)
    whole, ones = Rects(np.arange(N + 1), window), np.ones(N, np.float32)
    targets = Targets(
        np.arange(N), np.arange(N + 1), boxes, np.arange(N) % 2, ones, ones, np.zeros(N, np.int8), whole,
        Rects.empty(N), window, np.ones(N, np.bool_),
    )  # fmt: skip
    return TrainingSet(source, targets, np.arange(N), AUGMENT)


def made(source: Source, chosen: list[np.ndarray]) -> list[Batch]:
    with Loader(training_set(source), torch.device("cpu")) as one:
        return list(one.batches(chosen, np.random.default_rng(3)))


get = Source.__getitem__
CHOSEN = [np.array([0, 3, 5]), np.array([6]), np.array([1, 2, 4, 5]), *(np.array([k]) for k in range(N))]


@pytest.mark.parametrize("threads", [1, 3])
def test_batches_are_those_that_one_thread_makes_in_turn(threads: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loader, "MOST_THREADS", threads)
    monkeypatch.setattr(loader, "ON_A_CPU", threads)
    source = Source()
    data, rng = training_set(source), np.random.default_rng(3)
    for rows, batch in zip(CHOSEN, made(source, CHOSEN), strict=True):
        images, targets = data.batch(rows, rng)
        assert batch.state == rng.bit_generator.state
        assert all(torch.equal(a, b) for a, b in zip(batch.images, images, strict=True))
        for own, target in zip(batch.targets, targets, strict=True):
            assert own.keys() == target.keys() and all(torch.equal(own[key], target[key]) for key in own)
    assert len(source.threads - {"MainThread"}) in range(1, threads + 1)


def test_an_image_that_cannot_be_read_stops_the_training_at_its_step_and_no_thread_is_left() -> None:
    before = threading.active_count()
    with (
        pytest.raises(LabelwiseError, match="image 5 is gone"),
        Loader(training_set(Source(missing=True)), torch.device("cpu")) as one,
    ):
        taken = [batch.images for batch in one.batches(CHOSEN[1:], np.random.default_rng(3))]
        assert len(taken) == 1
    assert threading.active_count() == before


def test_a_step_waits_for_the_first_batch_and_hardly_for_those_made_meanwhile() -> None:
    with Loader(training_set(Source(takes_s=0.05)), torch.device("cpu")) as one:
        waits = [one.waited_s]
        for _ in one.batches(CHOSEN[-4:], np.random.default_rng(3)):
            waits.append(one.waited_s)
            time.sleep(0.2)
    assert waits[1] >= 0.05 and waits[-1] - waits[1] < 0.1


def test_the_number_of_threads_of_the_caller_stays() -> None:
    before = torch.get_num_threads()
    with Loader(training_set(Source()), torch.device("cpu")):
        assert torch.get_num_threads() == before
    assert torch.get_num_threads() == before


def test_every_thread_has_one_for_arithmetic(monkeypatch: pytest.MonkeyPatch) -> None:
    """A second team of OpenMP threads makes the model's own wait: half the speed on two cores."""
    source, seen, batch = Source(), [], TrainingSet.batch

    def noted(self: TrainingSet, rows: np.ndarray, *rest: Any) -> Any:
        seen.append(torch.get_num_threads())
        return batch(self, rows, *rest)

    monkeypatch.setattr(TrainingSet, "batch", noted)
    monkeypatch.setattr(Source, "__getitem__", lambda self, i: (seen.append(torch.get_num_threads()), get(self, i))[1])
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(2)
        made(source, CHOSEN)
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)
    assert len(seen) > len(CHOSEN) and set(seen) == {1}


def test_weights_do_not_depend_on_the_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    def trained() -> dict[str, Tensor]:
        torch.manual_seed(0)
        model = retinanet.build(2, fpn_channels=16, anchor_sizes=(16, 32, 64))
        rule = Train(steps=3, batch_size=3, accelerator="cpu", threads=1)
        said = fit(model, training_set(Source()), rule, seed=0, round_number=0)
        assert 0 <= said["waiting_share"] <= 1
        return model.state_dict()

    one = trained()
    monkeypatch.setattr(loader, "ON_A_CPU", 3)
    assert all(torch.equal(value, one[name]) for name, value in trained().items())
