"""Lack of confidence, weighted for rare classes: numbers by hand, a slow reference, what is refused."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from labelwise.score.rare_confidence import score
from labelwise.types import LabelwiseError

SCORES = np.array([0.5, 0.75, 0.25], np.float32)
LABELS = np.array([0, 1, 0])
COUNTS = np.array([7, 1])


def slow(scores: np.ndarray, labels: np.ndarray, counts: np.ndarray, smoothing: float) -> list[float]:
    """Row by row: (1 - s) / p(l)."""
    found = []
    for s, label in zip(scores.tolist(), labels.tolist(), strict=True):
        share = (counts.tolist()[label] + smoothing) / (sum(counts.tolist()) + len(counts) * smoothing)
        found.append((1 - s) / share)
    return found


@pytest.mark.parametrize(
    ("smoothing", "expected"),
    [
        (1.0, [0.625, 1.25, 0.9375]),  # p = 8 / 10 and 2 / 10
        (0.0, [4 / 7, 2.0, 6 / 7]),  # 7 / 8 and 1 / 8
        (5.0, [0.75, 0.75, 1.125]),  # 12 / 18 and 6 / 18
    ],
)
def test_by_hand(smoothing: float, expected: list[float]) -> None:
    np.testing.assert_allclose(score(SCORES, LABELS, COUNTS, smoothing=smoothing), expected, rtol=1e-12)


def test_one_box_is_added_to_every_class_unless_told_otherwise() -> None:
    assert score(SCORES, LABELS, COUNTS).tolist() == score(SCORES, LABELS, COUNTS, smoothing=1.0).tolist()


@pytest.mark.parametrize("smoothing", [0.0, 0.5, 1.0])
def test_against_the_slow_reference(smoothing: float) -> None:
    rng = np.random.default_rng(4)
    counts, labels = rng.integers(1, 900, 30), rng.integers(0, 30, 500)
    scores = rng.random(500).astype(np.float32)
    got = score(scores, labels, counts, smoothing=smoothing)
    np.testing.assert_allclose(got, slow(scores, labels, counts, smoothing), rtol=1e-12)


def test_of_equal_confidence_the_rarer_class_comes_first() -> None:
    got = score(np.full(4, 0.5, np.float32), np.arange(4), np.array([50, 0, 400, 3]))
    assert np.argsort(-got).tolist() == [1, 3, 0, 2]


def test_classes_that_are_equally_frequent_rank_by_confidence_alone() -> None:
    scores = np.random.default_rng(0).random(60).astype(np.float32)
    got = score(scores, np.arange(60) % 3, np.full(3, 20))
    np.testing.assert_allclose(got, 3 * (1 - scores.astype(float)), rtol=1e-12)


def test_nothing_is_below_zero_by_a_rounding() -> None:
    assert score(np.array([1 + 1e-6, 1.0], np.float32), np.array([0, 1]), COUNTS).tolist() == [0.0, 0.0]


def test_nothing_labelled_yet_and_nothing_detected() -> None:
    assert score(SCORES, LABELS, np.array([0, 0])).tolist() == [1.0, 0.5, 1.5], "all classes are equally rare"
    assert score(SCORES[:0], LABELS[:0], COUNTS).shape == (0,)


def test_without_smoothing_only_a_predicted_class_needs_labels() -> None:
    assert score(SCORES[:1], np.array([1]), np.array([0, 4, 0]), smoothing=0.0).tolist() == [0.5]
    with pytest.raises(LabelwiseError, match=r"row 1 is class 2, which has no labels.* Set smoothing above 0"):
        score(SCORES[:2], np.array([1, 2]), np.array([0, 4, 0]), smoothing=0.0)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"smoothing": -0.5}, "smoothing is -0.5; expected a number >= 0"),
        ({"smoothing": np.nan}, "smoothing is nan"),
        ({"smoothing": np.inf}, "smoothing is inf"),
        ({"counts": np.array([7, -1])}, "class 1 is -1; expected a number of boxes"),
        ({"counts": np.array([np.inf, 1.0])}, "class 0 is inf"),
        ({"labels": np.array([0.0, 1.0, 0.0])}, "expected whole numbers, got float64"),
        ({"labels": np.array([0, 1, 2])}, "row 2 is class 2; expected 0 to 1"),
        ({"labels": np.array([0, -1, 0])}, "row 1 is class -1; expected 0 to 1"),
        ({"labels": LABELS[:2]}, "labels: expected shape"),
        ({"counts": np.array([[7, 1]])}, "counts: expected shape"),
        ({"scores": np.array([0.5, 0.5, 1.25], np.float32)}, "scores: row 2 is 1.25"),
        ({"scores": np.array([0.5, -0.25, 0.5], np.float32)}, "scores: row 1 is -0.25"),
        ({"scores": SCORES[:, None]}, "scores: expected shape"),
    ],
)
def test_what_makes_no_sense_is_refused_by_its_row(change: dict[str, Any], message: str) -> None:
    with pytest.raises(LabelwiseError, match=message):
        score(**({"scores": SCORES, "labels": LABELS, "counts": COUNTS} | change))
