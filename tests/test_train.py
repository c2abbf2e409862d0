"""Training: resumes to the same weights, stops at a loss that is not finite, schedules, two processes learn alike."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from labelwise.config.sections import Train
from labelwise.train.batches import TrainingSet
from labelwise.train.fit import epochs_of, fit, learning_rate_factor
from labelwise.types import LabelwiseError, Rects, Targets

RULE = Train(epochs=6, batch_size=2, lr=0.05, threads=1, checkpoint_every_s=0, accelerator="cpu")


class Mean(nn.Module):
    """Learns the mean colour of its images; batch norm and dropout make it depend on order and randomness."""

    def __init__(self, poison: bool = False, plain: bool = False) -> None:
        super().__init__()
        self.norm, self.drop = (nn.Identity(), nn.Identity()) if plain else (nn.BatchNorm1d(3), nn.Dropout(0.2))
        self.linear = nn.Linear(3, 1)
        self.poison = poison

    def forward(self, images: list[Tensor], targets: list[dict[str, Tensor]]) -> dict[str, Tensor]:
        x = torch.stack([image.mean((1, 2)) for image in images])
        wanted = torch.stack([t["boxes"].sum() / 100 for t in targets])
        loss = (self.linear(self.drop(self.norm(x))).squeeze(1) - wanted).square().mean()
        return {"loss": loss * (float("nan") if self.poison else 1.0)}


class Source:
    """Six images of noise, twice as large as in the pool."""

    def __getitem__(self, image: int, /) -> tuple[np.ndarray, np.ndarray]:
        pixels = np.random.default_rng(image).integers(0, 255, (3, 8, 10), np.uint8)
        return pixels, np.array([2, 2], np.float32)


@dataclasses.dataclass
class Kept:
    """A checkpoint in memory that forgets everything after `until` saves."""

    until: int = 99
    saves: int = 0
    state: tuple[Mapping[str, np.ndarray], Mapping[str, str]] | None = None

    def load(self) -> tuple[Mapping[str, np.ndarray], Mapping[str, str]] | None:
        return self.state

    def save(self, tensors: Mapping[str, np.ndarray], metadata: Mapping[str, str]) -> None:
        self.saves += 1
        if self.saves <= self.until:
            self.state = ({k: v.copy() for k, v in tensors.items()}, dict(metadata))


def training_set(flip: float = 0.5) -> TrainingSet:
    n = 6
    boxes = np.array([[0, 0, 1 + i / 10, 2] for i in range(n)], np.float32)
    ones = np.ones(n, np.float32)
    whole = Rects(np.arange(n + 1), np.tile(np.array([0, 0, 5, 4], np.float32), (n, 1)))
    targets = Targets(
        np.arange(n), np.arange(n + 1), boxes, np.zeros(n, np.int64), ones, ones, np.zeros(n, np.int8), whole,
        Rects.empty(n), whole.xyxy,
    )  # fmt: skip
    return TrainingSet(Source(), targets, np.arange(n), flip=flip, jitter=0.1)


def trained(checkpoint: Kept | None = None, seed: int = 0, rule: Train = RULE) -> dict[str, Tensor]:
    torch.manual_seed(1)
    model = Mean()
    fit(model, training_set(), rule, seed=seed, round_number=2, checkpoint=checkpoint)
    return model.state_dict()


def test_the_same_seed_gives_the_same_weights_and_leaves_torch_randomness_alone() -> None:
    torch.manual_seed(7)
    before = torch.random.get_rng_state()
    torch.manual_seed(1)
    model, expected = Mean(), trained()
    torch.random.set_rng_state(before)
    fit(model, training_set(), RULE, seed=0, round_number=2)
    assert torch.equal(torch.random.get_rng_state(), before)
    assert all(torch.equal(expected[k], v) for k, v in model.state_dict().items())
    other = trained(seed=1)
    assert not torch.equal(expected["linear.weight"], other["linear.weight"])


@pytest.mark.parametrize("until", [1, 3])
def test_a_training_that_is_resumed_ends_in_the_same_weights(until: int) -> None:
    kept = Kept(until)
    whole = trained(kept)
    assert kept.saves == RULE.epochs - 1
    assert kept.state is not None
    assert kept.state[1]["epoch"] == str(until)
    resumed = trained(Kept(0, state=kept.state))
    assert all(torch.equal(whole[k], resumed[k]) for k in whole)


def test_a_checkpoint_of_another_round_is_not_used() -> None:
    kept = Kept(1)
    whole = trained(kept)
    assert kept.state is not None
    foreign = Kept(0, state=(kept.state[0], {**kept.state[1], "round": "9"}))
    assert all(torch.equal(whole[k], v) for k, v in trained(foreign).items())


def test_a_loss_that_is_not_finite_names_the_images_of_the_batch() -> None:
    with pytest.raises(
        LabelwiseError, match=r"round 2, epoch 0: the loss is not finite \(loss=nan\).*pool numbers \d, \d"
    ):
        fit(Mean(poison=True), training_set(), RULE, seed=0, round_number=2)


def test_nothing_to_train_on_is_an_error() -> None:
    data = training_set()
    with pytest.raises(LabelwiseError, match="no image to train on"):
        fit(
            Mean(),
            TrainingSet(data.images, data.targets, np.zeros(0, np.int64), flip=0, jitter=0),
            RULE,
            seed=0,
            round_number=0,
        )


def test_boxes_scale_and_flip_with_the_image() -> None:
    image, target = training_set(flip=0).sample(3, np.random.default_rng(0))
    flipped, mirrored = training_set(flip=1).sample(3, np.random.default_rng(0))
    torch.testing.assert_close(target["boxes"], torch.tensor([[0, 0, 2.6, 4]]))
    torch.testing.assert_close(mirrored["boxes"], torch.tensor([[7.4, 0, 10, 4]]))
    torch.testing.assert_close(mirrored["negatives"], target["negatives"])
    assert torch.equal(flipped.flip(2), image)


def test_epochs_stretch_to_the_least_and_stop_at_the_most_steps() -> None:
    rule = Train(epochs=4, batch_size=8)
    assert epochs_of(80, rule) == 4
    assert epochs_of(15, rule.model_copy(update={"min_steps": 100})) == 50
    assert epochs_of(800, rule.model_copy(update={"max_steps": 150})) == 2
    assert epochs_of(1, rule) == 4


def test_learning_rate_warms_up_and_falls() -> None:
    cosine = [learning_rate_factor(s, 100, 10, Train()) for s in range(100)]
    assert cosine[0] == 0.1
    assert max(cosine) == cosine[9] == 1.0
    assert np.all(np.diff(cosine[10:]) < 0)
    assert cosine[-1] < 0.01
    step = [learning_rate_factor(s, 260, 10, Train(schedule="step", step_epochs=(20,), epochs=26)) for s in range(260)]
    assert step[199] == 1.0
    assert step[200] == pytest.approx(0.1)
    assert learning_rate_factor(50, 100, 10, Train(schedule="constant")) == 1.0


def test_two_processes_learn_what_one_learns() -> None:
    found = []
    for devices in (1, 2):
        torch.manual_seed(1)
        model = Mean(plain=True)
        data = training_set(flip=0)
        data.jitter = 0.0
        rule = RULE.model_copy(update={"devices": devices, "batch_size": 6, "optimiser": "sgd"})
        info = fit(model, data, rule, seed=0, round_number=2)
        assert info["steps"] == RULE.epochs
        found.append(model.state_dict())
    torch.testing.assert_close(found[0], found[1])
    torch.manual_seed(1)
    assert not torch.equal(found[1]["linear.weight"], Mean(plain=True).state_dict()["linear.weight"])


@pytest.mark.parametrize("system, start", [("linux", "fork"), ("darwin", "spawn"), ("win32", "spawn")])
def test_processes_are_forked_on_linux_alone(monkeypatch: pytest.MonkeyPatch, system: str, start: str) -> None:
    def strategy(**settings: object) -> None:
        raise LookupError(settings["start_method"])

    monkeypatch.setattr("labelwise.train.fit.DDPStrategy", strategy)
    monkeypatch.setattr("sys.platform", system)
    with pytest.raises(LookupError, match=start):
        fit(Mean(), training_set(flip=0), RULE.model_copy(update={"devices": 2}), seed=0, round_number=1)
