"""Thresholds by class from the answers: against loops, by hand, and in the policies that take them."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from labelwise.config.label_rule import LabelRule
from labelwise.config.sections import Predict
from labelwise.labels import dual, hard, noisy, task_soft
from labelwise.ledger.asked_again import AGAIN
from labelwise.ledger.reviews import DOUBT
from labelwise.project.round import Round
from labelwise.stages import thresholds
from labelwise.targets.class_thresholds import class_thresholds, compare_with_answers
from labelwise.types import Boxes, Detections, Labels, LabelwiseError, Pool, Query, Rects


def slow_threshold(confidence: list[float], right: list[bool], precision: float) -> float:
    for t in sorted(confidence):
        from_t = [r for c, r in zip(confidence, right, strict=True) if c >= t]
        if (sum(from_t) + 1) / (len(from_t) + 2) >= precision - 1e-12:
            return t
    return min(1.0, max(precision, float(np.nextafter(np.float32(max(confidence)), np.float32(2)))))


@pytest.mark.parametrize("seed", range(20))
def test_thresholds_against_a_loop(seed: int) -> None:
    rng = np.random.default_rng(seed)
    n = int(rng.integers(0, 60))
    confidence = rng.choice(np.linspace(0.05, 1, 9, dtype=np.float32), n)  # many ties
    label, right = rng.integers(0, 4, n), rng.random(n) < confidence
    for precision, least in ((0.5, 10), (0.8, 5), (0.75, 1)):
        got = class_thresholds(confidence, label, right, 5, precision=precision, least=least)
        pooled = slow_threshold(confidence.tolist(), right.tolist(), precision) if n >= least else np.nan
        for one in range(5):
            mine = label == one
            enough = mine.sum() >= least
            own = slow_threshold(confidence[mine].tolist(), right[mine].tolist(), precision) if enough else pooled
            np.testing.assert_equal(got[one], own)


def test_nothing_answered_is_no_threshold_and_all_wrong_is_above_all_that_was_asked() -> None:
    nothing = np.zeros(0, np.float32), np.zeros(0, np.int64), np.zeros(0, bool)
    assert np.isnan(class_thresholds(*nothing, 3, precision=0.8)).all()
    for sure, want in ((0.9, 0.9), (0.3, 0.8), (1.0, 1.0)):
        wrong = np.full(12, sure, np.float32), np.zeros(12, np.int64), np.zeros(12, bool)
        got = class_thresholds(*wrong, 2, precision=0.8)
        assert got.tolist() == pytest.approx([want, want]), "the pool of all classes is the same"
        assert not hard.weigh(wrong[0], got[wrong[1]])[0].any() or sure == 1


def test_what_an_answer_says_of_a_box_by_hand() -> None:
    boxes = np.array([[0, 0, 8, 8], [10, 0, 18, 8], [20, 0, 28, 8], [30, 0, 38, 8], [0, 0, 8, 8]], np.float32)
    scores = np.array([0.9, 0.8, 0.7, 0.6, 0.5], np.float32)
    probs = np.tile(np.array([[0.6, 0.4]], np.float32), (5, 1))
    found = Detections(np.array([0, 4, 5]), boxes, probs, scores, np.zeros((5, 0), np.float32))
    # image 0: an object of class 0 under box 0 (drawn larger), one of class 1 under box 1, box 2 rejected, box 3 open
    annotations = Boxes(np.array([0, 2, 2]), np.array([[0, 0, 9, 9], [10, 0, 18, 8]], np.float32), np.array([0, 1]))
    known = Labels(annotations, Rects.empty(2), Rects(np.array([0, 1, 1]), boxes[2:3]), np.array([True, False]))
    image = np.array([1, 0, 0, 0, 0])
    order = [4, 2, 0, 3, 1]
    confidence, label, right = compare_with_answers(image, boxes[order], np.zeros(5, np.int64), known, found)
    assert confidence.tolist() == pytest.approx([0.7, 0.9, 0.8])
    assert label.tolist() == [0, 0, 0] and right.tolist() == [False, True, False]
    elsewhere = boxes[:1] + 3  # a box that the predictions do not hold: nothing is known of its confidence
    assert len(compare_with_answers(np.array([0]), elsewhere, np.array([0]), known, found)[0]) == 0
    assert len(compare_with_answers(image[:0], boxes[:0], image[:0], known, found)[0]) == 0


def test_policies_take_the_threshold_of_the_class() -> None:
    scores = np.array([0.5, 0.5, 0.5, 0.04], np.float32)
    threshold = np.array([0.4, 0.6, np.nan, 0.02])
    assert hard.weigh(scores, threshold, tau_cls=0.45)[0].tolist() == [True, False, True, True]
    keep, w_cls, w_box = dual.weigh(scores, threshold, upper=0.7)
    assert keep.tolist() == [True, True, True, True]
    assert w_cls.tolist() == pytest.approx([0.5, 0, 0, 0.04]) and w_box.tolist() == w_cls.tolist()
    assert dual.weigh(scores, weight="hard")[1].tolist() == [1, 1, 1, 0]
    assert dual.weigh(scores)[0].tolist() == [True, True, True, False]
    with pytest.raises(LabelwiseError, match="thresholds by class of row 1"):
        hard.weigh(scores, np.array([0.5, 1.5, 0.5, 0.5]))
    with pytest.raises(LabelwiseError, match="upper one first"):
        dual.weigh(scores, upper=0.05, lower=0.3)


def test_noisy_flat_weighs_every_candidate_alike() -> None:
    scores, ratio = np.array([0.9, 0.3], np.float32), np.array([2, 0.1])
    assert noisy.weigh(scores, ratio)[1].tolist() == pytest.approx([0.5, 0.05])
    keep, w_cls, w_box = noisy.weigh(scores, ratio, damping=0.25, weight="flat")
    assert keep.all() and w_cls.tolist() == [0.25, 0.25] == w_box.tolist()


def test_the_setting_is_refused_where_the_policy_does_not_take_it() -> None:
    assert LabelRule.model_validate({"policy": "dual", "class_thresholds": "answers"}).class_thresholds == "answers"
    with pytest.raises(ValueError, match="takes no thresholds by class"):
        LabelRule.model_validate({"policy": "task_soft", "class_thresholds": "answers"})


def test_tspl_sees_every_candidate_down_to_005() -> None:
    """Eq. 5 ignores what is 0.1 or less: nothing before it makes background of that."""
    from labelwise import catalog

    least = LabelRule().threshold
    assert least == Predict().min_score == 0.05
    for model in ("retinanet", "faster_rcnn"):
        assert catalog.find("models", model).settings["score_threshold"].default <= least
    scores = np.array([0.05, 0.1, 0.2], np.float32)
    keep, w_cls, _ = task_soft.weigh(scores, scores)
    assert keep.all() and w_cls.tolist() == pytest.approx([0, 0, 0.2])


def test_the_stage_takes_the_confidence_from_the_round_that_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    """The same box has another confidence in every round; each question counts with that of its own."""
    boxes = np.array([[0, 0, 8, 8], [10, 0, 18, 8]], np.float32)
    marks = Rects(np.array([0, 1]), boxes[1:])
    known = Labels(Boxes(np.array([0, 1]), boxes[:1], np.array([0])), Rects.empty(1), marks, np.array([True]))

    def predicted(now: Round, images: np.ndarray) -> Detections:
        assert images.tolist() == [True]
        scores = np.array([0.5, 0.25], np.float32) * np.float32(now.number)
        return Detections(np.array([0, 2]), boxes, np.ones((2, 1), np.float32), scores, np.zeros((2, 0), np.float32))

    asked = {
        1: [Query(1, 0, "a", "box", tuple(boxes[0].tolist()), 0), Query(1, 1, "gone", "box", (0, 0, 1, 1), 0)],
        2: [Query(2, 0, "a", "box", tuple(boxes[1].tolist()), 0), Query(2, 1, "a", "image")],
    }
    again = {"a review": (5, {DOUBT: 0.5}), "asked again": (6, {AGAIN: 1}), "a known question": (-1, {})}
    asked[2] += [Query(2, rank, "a", "box", tuple(boxes[0].tolist()), 0, 0.0, why) for rank, why in again.values()]
    rule = LabelRule.model_validate({"policy": "dual", "class_thresholds": "answers"})
    pool = Pool(Path("data"), ("cell",), ("a",), np.array([20]), np.array([9]))
    ledger = SimpleNamespace(queries=lambda number: asked.get(number, []))
    context = SimpleNamespace(
        pool=pool,
        run=SimpleNamespace(labels=rule, predict=SimpleNamespace(proposals=None)),
        project=SimpleNamespace(ledger=ledger),
        known=lambda: known,
    )
    monkeypatch.setattr(Round, "detections_in", predicted)
    seen: list[tuple[list[float], list[bool]]] = []
    real = thresholds.class_thresholds

    def spy(confidence, label, right, n_classes, *, precision):
        seen.append((confidence.tolist(), right.tolist()))
        return real(confidence, label, right, n_classes, precision=precision, least=1)

    monkeypatch.setattr(thresholds, "class_thresholds", spy)
    now = Round(context, 2)
    found = thresholds.upper_thresholds(now)
    assert seen == [([0.5, 0.5], [True, False])]
    assert found is not None and found.tolist() == [0.8]  # 2/4 right from 0.5 on: not enough
    assert now.info == {"answered_boxes": 2, "class_thresholds": [0.8]}
    first = Round(context, 0)
    monkeypatch.setattr(thresholds, "class_thresholds", real)
    assert np.isnan(thresholds.upper_thresholds(first)).all() and first.info["class_thresholds"] == [None]
