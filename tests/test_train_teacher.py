"""The online teacher: its average, what gives way to its labels and what stays, its count, kills, and what is told."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from labelwise import config
from labelwise.catalog import recipe_files
from labelwise.config.label_rule import LabelRule
from labelwise.config.sections import Train
from labelwise.labels import dual
from labelwise.stages.online_labels import OnlinePolicy
from labelwise.targets.count_thresholds import Recent
from labelwise.train.augment import Augment
from labelwise.train.batches import TrainingSet
from labelwise.train.fit import fit
from labelwise.train.teacher import Decision, Teacher, find_drift
from labelwise.types import (
    ORIGIN_LABEL,
    ORIGIN_PSEUDO,
    Boxes,
    Detections,
    Labels,
    LabelwiseError,
    Rects,
    Targets,
)

RULE = Train(
    steps=9, batch_size=4, lr=0.05, threads=1, checkpoint_every_s=0, accelerator="cpu",
    whole_share=0.5, warm_start=True, teacher="ema",
)  # fmt: skip
SIZE_PX = 40
LENDS = "labels.propagate={frames=1}"


class Glance(nn.Module):
    """A detector that sees two boxes in every image; how sure it is hangs on its weights and on the image's colour."""

    def __init__(self) -> None:
        super().__init__()
        self.norm, self.linear = nn.BatchNorm1d(3), nn.Linear(3, 2)

    def forward(self, images: list[Tensor], targets: list[dict[str, Tensor]] | None = None):
        sure = self.linear(self.norm(torch.stack([image.mean((1, 2)) for image in images]))).sigmoid()
        if targets is not None and self.training:
            wanted = torch.stack([(t["boxes"].sum(1) * t["w_cls"]).sum() / 500 for t in targets])
            return {"loss": (sure.sum(1) - wanted).square().mean()}
        boxes = torch.tensor([[4.0, 4, 12, 12], [20, 20, 36, 32]])
        return [{"boxes": boxes, "scores": one, "probs": torch.eye(2)} for one in sure]


class Source:
    """Images of noise, twice as large as in the pool."""

    def __getitem__(self, image: int, /) -> tuple[np.ndarray, np.ndarray]:
        pixels = np.random.default_rng(image).integers(0, 255, (3, SIZE_PX, SIZE_PX), np.uint8)
        pixels.flags.writeable = False
        return pixels, np.array([2, 2], np.float32)


class Everything:
    """Every detection is a pseudo label that weighs its confidence; it remembers how often it was asked."""

    def __init__(self) -> None:
        self.count = 0

    def __call__(self, images: np.ndarray, found: Detections) -> Decision:
        self.count += 1
        return np.arange(len(found)), found.scores, found.scores, np.ones(len(found), bool)

    def tensors(self) -> dict[str, np.ndarray]:
        return {"count": np.array([self.count])}

    def load(self, tensors: Mapping[str, np.ndarray]) -> None:
        self.count = int(tensors["count"][0]) if tensors else 0


def training_set(teacher: Teacher | None, n: int = 6, whole: int = 2) -> TrainingSet:
    """Of every image one annotated box, and one pseudo box of those that nobody looked over."""
    each = np.array([[1, 1, 5, 5], [8, 8, 15, 15]], np.float32)
    count = np.where(np.arange(n) < whole, 1, 2)
    boxes = np.concatenate([each[:k] for k in count])
    origin = np.concatenate([[ORIGIN_LABEL, ORIGIN_PSEUDO][:k] for k in count]).astype(np.int8)
    ones, full = np.ones(len(boxes), np.float32), np.tile(np.array([0, 0, 20, 20], np.float32), (n, 1))
    targets = Targets(
        np.arange(n), np.append(0, count.cumsum()), boxes, np.zeros(len(boxes), np.int64), ones, ones, origin,
        Rects(np.arange(n + 1), full), Rects.empty(n), full, np.arange(n) < whole,
        Rects(np.arange(n + 1), full), np.full(n, 0.7, np.float32),
    )  # fmt: skip
    return TrainingSet(Source(), targets, np.arange(n), Augment(flip=0.5), teacher)


def seeded() -> Glance:
    torch.manual_seed(1)
    return Glance()


def test_the_average_is_that_of_a_plain_loop_over_the_steps() -> None:
    torch.manual_seed(0)
    student, teacher = seeded(), Teacher(Everything(), decay=0.9)
    teacher.begin(student)
    mean = {name: value.clone() for name, value in student.state_dict().items() if value.is_floating_point()}
    for _ in range(5):
        with torch.no_grad():
            for value in (*student.parameters(), *student.buffers()):
                value += torch.randn(value.shape) if value.is_floating_point() else 1
        teacher.follow(student)
        now = {name: value.clone() for name, value in student.state_dict().items() if value.is_floating_point()}
        mean = {name: 0.9 * mean[name] + 0.1 * value for name, value in now.items()}
    assert teacher.average is not None and not teacher.average.training
    found = teacher.average.module.state_dict()
    assert {"norm.running_mean", "norm.running_var", "linear.weight"} < set(mean)
    for name, value in mean.items():
        torch.testing.assert_close(found[name], value)


def test_the_teachers_boxes_take_the_place_of_the_pseudo_boxes_and_of_nothing_else() -> None:
    teacher = Teacher(Everything())
    data, model = training_set(teacher), seeded()
    teacher.begin(model)
    data.augment = Augment()
    _, targets = data.batch(np.array([0, 3]), np.random.default_rng(0))
    whole, part = targets
    assert whole["boxes"].tolist() == [[2, 2, 10, 10]], "an image that was looked over is left as it is"
    assert whole["doubt"].tolist() == [[0, 0, 40, 40]] and whole["doubt_scores"].tolist() == [np.float32(0.7)]
    assert part["boxes"].tolist() == [[2, 2, 10, 10], [4, 4, 12, 12], [20, 20, 36, 32]], "annotated first"
    assert part["labels"].tolist() == [0, 0, 1] and part["pseudo"].tolist() == [False, True, True]
    image = torch.from_numpy(np.array(Source()[3][0])).float().div(255)
    sure = model.eval()([image])[0]["scores"]
    torch.testing.assert_close(part["w_cls"], torch.cat((torch.ones(1), sure)))
    torch.testing.assert_close(part["w_box"], part["w_cls"])
    assert part["doubt"].tolist() == [[4, 4, 12, 12], [20, 20, 36, 32]]
    torch.testing.assert_close(part["doubt_scores"], sure)
    assert teacher.sure == [(2, 1)]


@pytest.mark.parametrize("share", [1.0, 0.9])
def test_a_batch_that_was_wholly_looked_over_needs_no_teacher(share: float) -> None:
    teacher = Teacher(Everything())
    data, model = training_set(teacher), seeded()
    teacher.begin(model)
    assert data.batch(np.array([0, 1]), np.random.default_rng(0))[1][0]["boxes"].shape == (1, 4)
    assert teacher.sure == [] and teacher.decide.tensors()["count"].tolist() == [0]
    info = fit(model, data, RULE.model_copy(update={"whole_share": share}), seed=0, round_number=1)
    assert info["steps"] == 9 and len(teacher.sure) == {1.0: 0, 0.9: 4}[share]


@pytest.mark.parametrize("share", [0.5, 0.75])
def test_two_processes_of_which_one_may_have_wholly_known_images_alone(share: float) -> None:
    rule = RULE.model_copy(update={"devices": 2, "whole_share": share, "steps": 3})
    model, begin = seeded(), seeded()
    assert fit(model, training_set(Teacher(Everything())), rule, seed=0, round_number=1)["steps"] == 3
    assert not torch.equal(model.linear.weight, begin.linear.weight) and model.linear.weight.isfinite().all()


def test_a_second_member_does_not_remember_the_batches_of_the_first() -> None:
    known = Labels(Boxes.empty(9), Rects.empty(9), Rects.empty(9), np.zeros(9, bool))
    policy = LabelRule.model_validate({"policy": "dual", "class_thresholds": "counts"})
    teacher = Teacher(OnlinePolicy(known, policy, 1, None, Recent(np.array([1.0, 0.5]))), decay=0.8)
    data = training_set(teacher)
    alone = seeded()
    fit(alone, data, RULE, seed=5, round_number=2)
    assert teacher.decide.tensors()
    again = seeded()
    fit(again, data, RULE, seed=5, round_number=2)
    assert all(torch.equal(value, again.state_dict()[name]) for name, value in alone.state_dict().items())


def test_the_policy_speaks_of_what_is_open_in_pixels_of_the_pools_image() -> None:
    """Image 7 of the pool: one box annotated, one marked as background, one inside coverage, one open, one unsure."""
    n = 9
    boxes = np.array([[0, 0, 4, 4], [6, 0, 9, 4], [0, 10, 4, 14], [10, 10, 16, 16], [1, 16, 4, 19]], np.float32)
    known = Labels(
        Boxes.from_rows(np.array([7]), boxes[:1], np.zeros(1, np.int64), n),
        Rects.from_rows(np.array([7]), np.array([[0, 9, 6, 15]], np.float32), n),
        Rects.from_rows(np.array([7]), boxes[1:2], n),
        np.arange(n) == 7,
    )
    scores = np.array([0.9, 0.8, 0.7, 0.6, 0.04], np.float32)
    probs = np.tile(np.array([0.2, 0.8], np.float32), (10, 1))
    twice = Detections(np.array([0, 5, 10]), np.tile(boxes, (2, 1)), probs, np.tile(scores, 2), probs[:, :0])
    decide = OnlinePolicy(known, LabelRule(policy={"name": "dual"}, threshold=0.05), 1, None)
    rows, w_cls, w_box, is_open = decide(np.array([7, 2]), twice)
    assert rows.tolist() == [3, 5, 6, 7, 8], "of image 2 nothing is known"
    expected = dual.weigh(twice.scores[rows])
    assert np.array_equal(w_cls, expected[1]) and np.array_equal(w_box, expected[2])
    assert is_open.tolist() == [False, False, False, True, True] + [True] * 5
    high = dataclasses.replace(decide, class_thresholds=np.array([np.nan, 0.65]))
    assert high(np.array([7, 2]), twice)[1].tolist() == [0, *scores[:3].tolist(), 0], "thresholds by class hold, too"


def test_what_is_known_of_some_images_is_that_of_each() -> None:
    rng, n = np.random.default_rng(0), 12

    def rects(k: int) -> np.ndarray:
        low = rng.uniform(0, 10, (k, 2))
        return np.concatenate([low, low + rng.uniform(1, 5, (k, 2))], axis=1).astype(np.float32)

    known = Labels(
        Boxes.from_rows(rng.integers(0, n, 20), rects(20), rng.integers(0, 3, 20), n),
        Rects.from_rows(rng.integers(0, 4, 5), rects(5), n),
        Rects.empty(n),
        rng.random(n) < 0.5,
    )  # fmt: skip
    images = np.array([5, 0, 5, 11, 3])
    got = known.take(images)
    for i, image in enumerate(images):
        one = known.of_images(slice(image, image + 1))
        rows = slice(got.annotations.offsets[i], got.annotations.offsets[i + 1])
        assert np.array_equal(got.annotations.xyxy[rows], one.annotations.xyxy)
        assert np.array_equal(got.annotations.labels[rows], one.annotations.labels)
        assert np.array_equal(got.coverage.of(i), one.coverage.xyxy)
        assert len(got.background.of(i)) == 0 and got.answered[i] == one.answered[0]
    assert len(known.take(np.zeros(0, np.int64)).annotations) == 0


class Kept:
    """A checkpoint in memory that forgets everything after `until` saves."""

    def __init__(self, until: int, state=None) -> None:
        self.until, self.saves, self.state = until, 0, state

    def load(self):
        return self.state

    def save(self, tensors, metadata) -> None:
        self.saves += 1
        if self.saves <= self.until:
            self.state = ({k: v.copy() for k, v in tensors.items()}, dict(metadata))


def trained(checkpoint: Kept, rule: Train = RULE) -> tuple[dict[str, Tensor], dict[str, float]]:
    model, teacher = seeded(), Teacher(Everything(), decay=0.8) if rule.teacher else None
    info = fit(model, training_set(teacher), rule, seed=0, round_number=2, checkpoint=checkpoint)
    return model.state_dict(), {
        name: value for name, value in info.items() if name not in ("images_per_s", "waiting_share")
    }


def test_killed_at_any_step_a_training_with_a_teacher_ends_in_the_same_weights_and_says_the_same() -> None:
    whole, said = trained(Kept(99))
    assert {"sure_first", "sure_last"} <= set(said)
    for until in range(1, 9):
        kept = Kept(until)
        trained(kept)
        assert kept.state is not None and kept.state[1]["step"] == str(until)
        resumed, again = trained(Kept(0, kept.state))
        assert all(torch.equal(whole[name], resumed[name]) for name in whole)
        assert again == said


def test_a_checkpoint_without_the_teachers_weights_is_begun_anew() -> None:
    alone = RULE.model_copy(update={"teacher": None})
    for first, second in ((alone, RULE), (RULE, alone)):
        kept = Kept(4)
        trained(kept, first)
        (found, said), (expected, told) = trained(Kept(0, kept.state), second), trained(Kept(99), second)
        assert said == told and all(torch.equal(found[name], expected[name]) for name in expected)


def test_where_everything_was_looked_over_there_is_nothing_to_teach() -> None:
    data = training_set(Teacher(Everything()), whole=6)
    assert data.teacher is None
    assert "sure_first" not in fit(seeded(), data, RULE, seed=0, round_number=1)


@pytest.mark.parametrize(
    ("sure", "told"),
    [([(14, 1)] * 5 + [(25, 1)] * 5, True), ([(25, 1)] * 5 + [(14, 1)] * 5, False), ([], False), ([(0, 4)] * 3, False)],
)
def test_growth_of_sure_boxes_is_found(sure: list[tuple[int, int]], told: bool) -> None:
    facts = Teacher(Everything(), sure=sure).facts()
    assert set(facts) == ({"sure_first", "sure_last"} if sure else set())
    assert (find_drift(facts) is not None) == told


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (["train.teacher=ema", "train.warm_start=false"], "set train.warm_start = true and train.whole_share = 0.5"),
        (["train.teacher=ema", "train.warm_start=true"], "set train.whole_share = 0.5"),
        (["train.teacher_decay=0.9"], 'set train.teacher = "ema"'),
        (["train.teacher=ema", "train.warm_start=true", "train.whole_share=0.5"], "take one that does not"),
        (
            ["labels.policy=dual", "train.teacher=ema", "train.warm_start=true", "train.whole_share=0.5", LENDS],
            "boxes that labels.propagate lends",
        ),
    ],
)
def test_settings_that_do_not_go_together_are_refused(settings: list[str], message: str) -> None:
    with pytest.raises(LabelwiseError, match="(?s)" + message.replace("[", r"\[")):
        config.load(recipe_files("demo"), settings)
    assert config.load(recipe_files("demo"), ["labels.policy=dual"]).train.teacher is None


def test_a_classifier_has_no_teacher_of_boxes(tmp_path: Path) -> None:
    teaches = ["train.teacher=ema", "train.warm_start=true", "train.whole_share=0.5", "labels.policy=background"]
    with pytest.raises(LabelwiseError, match=r"labels\.teacher"):
        config.load(recipe_files("mnist"), teaches)
