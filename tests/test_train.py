"""Training: resumes to the same weights, stops at a loss that is not finite, schedules, two processes learn alike."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Callable, Iterable, Mapping
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from labelwise.config.sections import Train
from labelwise.models import retinanet
from labelwise.train.augment import Augment
from labelwise.train.batches import TrainingSet
from labelwise.train.body import compiled_body
from labelwise.train.fit import fit
from labelwise.train.loader import Batch
from labelwise.train.schedule import Plan, learning_rate_factor, plan_of
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
        Rects.empty(n), whole.xyxy, np.arange(n) < 2,
    )  # fmt: skip
    return TrainingSet(Source(), targets, np.arange(n), Augment(flip=flip, jitter=0.1))


def seeded() -> Mean:
    torch.manual_seed(1)
    return Mean()


def trained(checkpoint: Kept | None = None, seed: int = 0, rule: Train = RULE) -> dict[str, Tensor]:
    model = seeded()
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


def test_a_share_of_every_batch_holds_an_object_where_most_images_are_empty(monkeypatch: pytest.MonkeyPatch) -> None:
    full = training_set()
    offsets = np.array([0, 1, 1, 1, 1, 2, 2])
    one = np.ones(2, np.float32)
    targets = Targets(
        np.arange(6), offsets, full.targets.boxes[:2], np.zeros(2, np.int64), one, one, np.zeros(2, np.int8),
        full.targets.negatives, Rects.empty(6), full.targets.windows, np.ones(6, np.bool_),
    )  # fmt: skip
    data = TrainingSet(Source(), targets, np.array([5, 4, 2, 1, 0]), Augment())
    assert data.occupied.tolist() == [False, True, False, False, True]
    seen: list[int] = []
    batch = data.batch

    def noted(chosen: np.ndarray, rng: np.random.Generator, *each: Callable[..., Iterable[Any]]) -> object:
        seen.append(int(data.occupied[chosen].sum()))
        return batch(chosen, rng, *each)

    monkeypatch.setattr(data, "batch", noted)
    rule = RULE.model_copy(update={"steps": 6, "object_share": 0.75, "batch_size": 4})
    fit(seeded(), data, rule, seed=0, round_number=0)
    assert seen == [3] * 6
    with pytest.raises(ValueError, match="both fill the batch"):
        Train(object_share=0.5, whole_share=0.5)


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"steps": 14},
        {"steps": 2},
        {"steps": 14, "whole_share": 0.5},
        {"whole_share": 0.3, "scale": (0.6, 1.4), "iou_crop": 0.5, "photometric": 1.0},
        {"batch_size": 6, "accumulate": 3, "mosaic": 0.5},
    ],
)
def test_a_training_that_is_killed_at_any_step_ends_in_the_same_weights(settings: dict[str, object]) -> None:
    rule = RULE.model_validate(RULE.model_dump() | settings)
    steps = plan_of(6, rule).steps
    kept = Kept()
    whole = trained(kept, rule=rule)
    assert kept.saves == steps - 1
    for until in range(1, steps):
        kept = Kept(until)
        trained(kept, rule=rule)
        assert kept.state is not None
        assert kept.state[1]["step"] == str(until)
        resumed = trained(Kept(0, state=kept.state), rule=rule)
        assert all(torch.equal(whole[k], resumed[k]) for k in whole)


def test_a_resumed_training_says_of_itself_what_an_undisturbed_one_does() -> None:
    found = []
    for state in (None, Kept(8)):
        if state is not None:
            trained(state)
        info = fit(
            seeded(), training_set(), RULE, seed=0, round_number=2, checkpoint=state and Kept(0, state=state.state)
        )
        del info["images_per_s"], info["waiting_share"]
        found.append(info)
    assert found[0] == found[1]
    assert set(found[0]) == {"steps", "epochs", "loss", "loss_first", "loss_last"}


def test_a_checkpoint_of_an_older_version_is_gone_on_with() -> None:
    kept = Kept(6)  # the end of the second epoch
    whole = trained(kept)
    assert kept.state is not None
    tensors, said = kept.state
    old = {name: value for name, value in tensors.items() if name != "losses"}
    kept.state = (old, {name: said[name] for name in ("seed", "round", "epochs")} | {"epoch": "2"})
    assert all(torch.equal(whole[k], v) for k, v in trained(Kept(0, state=kept.state)).items())


def test_steps_are_kept_exactly_and_begin_as_the_epochs_do() -> None:
    kept = Kept(5)
    trained(kept, rule=RULE.model_copy(update={"schedule": "constant"}))
    first = Kept(5)
    trained(first, rule=RULE.model_copy(update={"schedule": "constant", "steps": 7}))
    assert kept.state is not None and first.state is not None
    same = [torch.equal(torch.from_numpy(kept.state[0][k]), torch.from_numpy(first.state[0][k])) for k in kept.state[0]]
    assert all(same)
    whole = trained(rule=RULE.model_copy(update={"steps": 18}))
    assert all(torch.equal(whole[k], v) for k, v in trained().items())


def test_after_epoch_is_called_at_the_cut_last_epoch_too() -> None:
    called: list[int] = []
    info = fit(
        Mean(), training_set(), RULE.model_copy(update={"steps": 7}), seed=0, round_number=2,
        after_epoch=lambda _model, epoch: called.append(epoch),
    )  # fmt: skip
    assert called == [0, 1, 2]
    assert (info["steps"], info["epochs"]) == (7, 3)


def test_steps_do_not_go_with_the_least_and_most_steps() -> None:
    with pytest.raises(ValueError, match=r"train\.steps = 7 says exactly .* train\.min_steps = 3 \(set it to 0\)"):
        Train(steps=7, min_steps=3)
    with pytest.raises(ValueError, match=r"train\.max_steps = 9 \(set it to none\)"):
        Train(steps=7, max_steps=9)
    assert Train.model_validate({"steps": 7, "max_steps": "none", "scale": "none"}) == Train(steps=7)
    with pytest.raises(ValueError, match="least first"):
        Train(scale=(1.4, 0.6))


def test_a_checkpoint_of_another_round_is_not_used() -> None:
    kept = Kept(1)
    whole = trained(kept)
    assert kept.state is not None
    foreign = Kept(0, state=(kept.state[0], {**kept.state[1], "round": "9"}))
    assert all(torch.equal(whole[k], v) for k, v in trained(foreign).items())


@pytest.mark.parametrize("devices", [1, 2])
def test_a_loss_that_is_not_finite_names_the_images_of_the_batch(devices: int) -> None:
    rule = RULE.model_copy(update={"devices": devices})
    with pytest.raises(
        LabelwiseError, match=r"^round 2, epoch 0: the loss is not finite \(loss=nan\).*pool numbers \d.*check`$"
    ):
        fit(Mean(poison=True, plain=True), training_set(), rule, seed=0, round_number=2)


def test_a_batch_that_memory_does_not_hold_is_told_with_a_way_out() -> None:
    class Large(Mean):
        least = 1

        def forward(self, images: list[Tensor], targets: list[dict[str, Tensor]]) -> dict[str, Tensor]:
            if len(images) > self.least:
                raise torch.OutOfMemoryError("no memory")
            return super().forward(images, targets)

    with pytest.raises(LabelwiseError, match=r"does not hold 2 images of a batch at once: set train.accumulate = 2 "):
        fit(Large(plain=True), training_set(), RULE, seed=0, round_number=2)
    with pytest.raises(LabelwiseError, match=r"does not hold 1 images of a batch at once: lower train.batch_size"):
        Large.least = 0
        fit(Large(plain=True), training_set(), RULE.model_copy(update={"batch_size": 1}), seed=0, round_number=2)
    Large.least = 1
    rule = RULE.model_copy(update={"accumulate": 2})
    assert fit(Large(plain=True), training_set(), rule, seed=0, round_number=2)["steps"] == 18


def test_nothing_to_train_on_is_an_error() -> None:
    data = training_set()
    with pytest.raises(LabelwiseError, match="no image to train on"):
        fit(
            Mean(),
            TrainingSet(data.images, data.targets, np.zeros(0, np.int64), Augment()),
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
    assert plan_of(80, rule).epochs == 4
    assert plan_of(15, rule.model_copy(update={"min_steps": 100})).epochs == 50
    assert plan_of(800, rule.model_copy(update={"max_steps": 150})).epochs == 2
    assert plan_of(1, rule).epochs == 4
    for images in (1, 7, 8, 9, 1100, 3859):  # of 1,100 images min = max = 200 makes 138 steps, of 3,859 makes 483
        plan = plan_of(images, rule.model_copy(update={"steps": 200}))
        assert sum(plan.batches(epoch) for epoch in range(plan.epochs)) == plan.steps == 200
        assert plan.per_epoch == -(-images // 8)


def test_learning_rate_warms_up_and_falls() -> None:
    cosine = [learning_rate_factor(s, Plan(100, 10), Train()) for s in range(100)]
    assert cosine[0] == 0.1
    assert max(cosine) == cosine[9] == 1.0
    assert np.all(np.diff(cosine[10:]) < 0)
    assert cosine[-1] < 0.01
    step = [
        learning_rate_factor(s, Plan(260, 10), Train(schedule="step", step_epochs=(20,), epochs=26)) for s in range(260)
    ]
    assert step[199] == 1.0
    assert step[200] == pytest.approx(0.1)
    assert learning_rate_factor(50, Plan(100, 10), Train(schedule="constant")) == 1.0


@pytest.mark.parametrize("more", [{}, {"steps": 5, "whole_share": 0.5}])
def test_two_processes_learn_what_one_learns(more: dict[str, object]) -> None:
    found = []
    for devices in (1, 2):
        torch.manual_seed(1)
        model = Mean(plain=True)
        data = training_set(flip=0)
        data.augment = Augment()
        rule = RULE.model_copy(update={"devices": devices, "batch_size": 6, "optimiser": "sgd", **more})
        info = fit(model, data, rule, seed=0, round_number=2)
        assert info["steps"] == more.get("steps", RULE.epochs)
        found.append(model.state_dict())
    torch.testing.assert_close(found[0], found[1])
    torch.manual_seed(1)
    assert not torch.equal(found[1]["linear.weight"], Mean(plain=True).state_dict()["linear.weight"])


def test_processes_draw_companions_of_their_own(tmp_path: Path) -> None:
    class Noted(Source):
        def __getitem__(self, image: int, /) -> tuple[np.ndarray, np.ndarray]:
            with (tmp_path / str(os.getpid())).open("a") as file:
                file.write(f"{image} ")
            return super().__getitem__(image)

    data = training_set()
    data.images, data.augment = Noted(), Augment(mosaic=1.0)
    rule = RULE.model_copy(update={"devices": 2, "batch_size": 6, "epochs": 8})
    fit(Mean(plain=True), data, rule, seed=0, round_number=2)
    read = [np.array(path.read_text().split(), int).reshape(-1, 4) for path in tmp_path.iterdir()]
    assert len(read) == 2 and read[0].shape == read[1].shape == (24, 4)
    assert (read[0][:, 0] != read[1][:, 0]).all() and (read[0][:, 1:] != read[1][:, 1:]).mean() > 0.5


@pytest.mark.parametrize("devices, accumulate", [(1, 3), (1, 4), (1, 99), (2, 2)])
def test_parts_of_a_batch_learn_what_it_learns_at_once(devices: int, accumulate: int) -> None:
    found = []
    for more in ({}, {"devices": devices, "accumulate": accumulate}):
        torch.manual_seed(1)
        model, data = Mean(plain=True), training_set(flip=0)
        data.augment = Augment()
        rule = RULE.model_copy(update={"batch_size": 6, "optimiser": "sgd", **more})
        info = fit(model, data, rule, seed=0, round_number=2)
        found.append(model.state_dict() | {"loss": torch.tensor([info["loss"], info["loss_first"]])})
    if devices > 1:  # a process says its own loss
        del found[0]["loss"], found[1]["loss"]
    torch.testing.assert_close(found[0], found[1], atol=1e-6, rtol=1e-5)


def test_parts_hold_every_image_once_and_a_classifiers_two_or_more() -> None:
    for n, count in product(range(1, 9), (1, 2, 3, 5, 20)):
        images = torch.arange(n)
        for targets, least in (([{"k": i} for i in range(n)], 1), ({"labels": images + 10}, 2)):
            parts = list(Batch(images, targets, {}).parts(count))
            assert torch.equal(torch.cat([part.images for part, _ in parts]), images)
            assert [len(part.images) / n for part, _ in parts] == [share for _, share in parts]
            assert len(parts) <= count and (n < least or min(len(part.images) for part, _ in parts) >= least)
            if isinstance(targets, dict):
                assert torch.equal(torch.cat([part.targets["labels"] for part, _ in parts]), images + 10)
            else:
                assert [one for part, _ in parts for one in part.targets] == targets


def test_a_compiled_body_has_the_names_and_losses_of_before() -> None:
    torch.manual_seed(0)
    model, seen = retinanet.build(2, fpn_channels=16), []
    images = [torch.rand(3, 64, 64)]
    targets = [{"boxes": torch.tensor([[8.0, 8, 40, 40]]), "labels": torch.tensor([1])}]
    for compiled in (False, True):
        with compiled_body(model, compiled, backend="eager"):
            names = [n for n, m in model.named_modules() if m._compiled_call_impl is not None]
            assert names == ["backbone.body"] * compiled
            torch.manual_seed(0)
            seen.append((list(model.state_dict()), {k: v.detach() for k, v in model(images, targets).items()}))
    assert not any(module._compiled_call_impl for module in model.modules())
    assert seen[0][0] == seen[1][0]
    torch.testing.assert_close(seen[0][1], seen[1][1])


@pytest.mark.parametrize("system, start", [("linux", "fork"), ("darwin", "spawn"), ("win32", "spawn")])
def test_processes_are_forked_on_linux_alone(monkeypatch: pytest.MonkeyPatch, system: str, start: str) -> None:
    def strategy(**settings: object) -> None:
        raise LookupError(settings["start_method"])

    monkeypatch.setattr("labelwise.train.fit.DDPStrategy", strategy)
    monkeypatch.setattr("sys.platform", system)
    with pytest.raises(LookupError, match=start):
        fit(Mean(), training_set(flip=0), RULE.model_copy(update={"devices": 2}), seed=0, round_number=1)
