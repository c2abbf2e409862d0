"""Thresholds by counts: against loops, on degenerate input, kept with a training, and in the stage."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest

from labelwise.config.label_rule import LabelRule
from labelwise.labels import dual
from labelwise.project.round import Round
from labelwise.stages import thresholds
from labelwise.targets.count_thresholds import IMAGES, Recent, count_thresholds, objects_per_image
from labelwise.types import Boxes, Detections, Labels, Rects


def slow(scores: np.ndarray, label: np.ndarray, n_images: int, per_image: np.ndarray) -> list[float]:
    out = []
    for one, objects in enumerate(per_image):
        own = sorted(scores[label == one].tolist(), reverse=True)
        wanted = int(objects * n_images + 0.5)
        out.append(2.0 if wanted == 0 else 0.0 if wanted > len(own) else own[wanted - 1])
    return out


@pytest.mark.parametrize("seed", range(20))
def test_thresholds_against_a_loop(seed: int) -> None:
    rng = np.random.default_rng(seed)
    n, classes, images = int(rng.integers(0, 80)), int(rng.integers(1, 5)), int(rng.integers(1, 6))
    scores = rng.choice(np.linspace(0.05, 1, 11, dtype=np.float32), n)  # many ties
    label, per_image = rng.integers(0, classes, n), rng.choice([0.0, 0.05, 0.5, 2.0, 30.0], classes)
    got, expected = count_thresholds(scores, label, images, per_image), slow(scores, label, images, per_image)
    for one in range(classes):
        if expected[one] > 1:
            assert 1 < got[one] < 1.001, "nothing reaches it"
        else:
            assert got[one] == expected[one]
        sure = int((scores[label == one] >= got[one]).sum())
        wanted = int(per_image[one] * images + 0.5)
        assert sure >= min(wanted, int((label == one).sum())), "at least as many as objects, more only by ties"
    keep, w_cls, _ = dual.weigh(scores, got[label].astype(np.float64))
    assert np.array_equal(w_cls > 0, scores >= got[label]) and keep.shape == scores.shape


def test_a_model_that_grows_surer_finds_no_more_objects() -> None:
    rng = np.random.default_rng(0)
    scores, label = rng.uniform(0.05, 0.5, 300).astype(np.float32), rng.integers(0, 2, 300)
    per_image = np.array([1.5, 0.2])
    for surer in (1.0, 1.4, 1.9):
        found = count_thresholds(scores * np.float32(surer), label, 40, per_image)
        sure = scores * np.float32(surer) >= found[label]
        assert np.bincount(label[sure], minlength=2).tolist() == [60, 8]


def test_objects_are_counted_on_whole_images_alone() -> None:
    boxes = np.tile(np.array([0, 0, 4, 4], np.float32), (5, 1))
    table = Boxes(np.array([0, 2, 4, 5, 5]), boxes, np.array([0, 0, 0, 1, 1]))
    known = Labels(table, Rects.empty(4), Rects.empty(4), np.ones(4, bool))
    whole = np.array([True, True, False, False])
    assert objects_per_image(known, whole, 3).tolist() == [3.5 / 2, 1.5 / 2, 0.5 / 2]


def found_on(count: list[int], start: float) -> Detections:
    n = sum(count)
    scores = np.linspace(start, start / 2, n, dtype=np.float32)
    probs = np.tile(np.array([[0.7, 0.3], [0.2, 0.8]], np.float32), (n, 1))[:n]
    boxes = np.tile(np.array([0, 0, 4, 4], np.float32), (n, 1))
    return Detections(np.append(0, np.cumsum(count)).astype(np.int64), boxes, probs, scores, probs[:, :0])


def test_the_last_images_are_remembered_and_kept_with_a_training() -> None:
    recent, per_image = Recent(np.array([1.0, 0.5])), np.array([1.0, 0.5])
    assert recent.tensors() == {}
    shown: list[tuple[np.ndarray, np.ndarray]] = []
    for turn in range(40):
        found = found_on([turn % 4, 0, 3], 0.9 - turn / 100)
        got = recent.thresholds(found)
        for a, b in zip(found.offsets[:-1], found.offsets[1:], strict=True):
            shown.append((found.scores[a:b], found.labels[a:b]))
        last = shown[-IMAGES:]
        scores, label = (np.concatenate([one[i] for one in last]) for i in (0, 1))
        assert np.array_equal(got, count_thresholds(scores, label, len(last), per_image))
        again = Recent(per_image)
        again.load(recent.tensors())
        assert np.array_equal(again.thresholds(found), Recent(per_image, recent.label, recent.scores).thresholds(found))


@pytest.mark.parametrize(
    ("number", "whole"),
    [(1, [True, False, False, False]), (1, [False] * 4), (1, [True] * 4), (0, [True, False, False, False])],
)
def test_the_stage_counts_on_what_was_looked_over(
    monkeypatch: pytest.MonkeyPatch, number: int, whole: list[bool]
) -> None:
    covered, found = np.array(whole), found_on([0, 4, 3, 0], 0.8)  # the last image cannot be read
    boxes = np.array([[0, 0, 4, 4]], np.float32)
    known = Labels(Boxes(np.array([0, 1, 1, 1, 1]), boxes, np.array([0])), Rects.empty(4), Rects.empty(4), covered)
    rule = LabelRule.model_validate({"policy": "dual", "class_thresholds": "counts"})
    pool = SimpleNamespace(classes=("a", "b"), available=np.append(np.ones(len(covered) - 1, bool), False))
    context = SimpleNamespace(pool=pool, run=SimpleNamespace(labels=rule, predict=SimpleNamespace(proposals=None)))
    monkeypatch.setattr(Round, "shards", lambda now, columns, images: [(0, found)])
    monkeypatch.setattr(Round, "known", known)
    monkeypatch.setattr(Round, "covered", covered)
    now = Round(context, number)
    got, follows = thresholds.upper_thresholds(now), thresholds.recent(now)
    assert got is not None
    if number and covered.any() and not covered.all():
        expected = count_thresholds(found.scores, found.labels, 2, np.array([1.5, 0.5]))
        assert np.array_equal(got, expected) and now.info["class_thresholds"] == expected.round(4).tolist()
    else:
        assert np.isnan(got).all(), "nothing to count, or nothing to count on"
    assert (follows is None) == (not covered.any())
    if follows is not None and not covered.all():
        assert follows.per_image.tolist() == [1.5, 0.5]
