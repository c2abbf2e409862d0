"""Advice: what section 5.5 of 001 reports comes out again; thresholds, edges, bad input, plain text."""

from __future__ import annotations

import numpy as np
import pytest

from labelwise.study.advise import Advice, advise, text
from labelwise.types import LabelwiseError

CIFAR, TINY = 50_000, 90_000


@pytest.mark.parametrize(
    ("classes", "pool", "percent", "pretrained", "expected"),
    [
        (10, CIFAR, 0.1, True, "random"),  # "Random sampling outperforms AL methods when the budget is less than 1%"
        (10, CIFAR, 0.2, True, "random"),
        (10, CIFAR, 1, True, "active learning"),  # "from 1% budget onward"
        (10, CIFAR, 10, True, "active learning"),
        (10, CIFAR, 1, False, "random"),  # "trained from scratch, ... after labeling 10% of data"
        (10, CIFAR, 10, False, "either"),
        (10, CIFAR, 20, False, "active learning"),
        (100, CIFAR, 2, True, "random"),  # "regardless of using self-training"
        (100, CIFAR, 2, False, "random"),
        (100, CIFAR, 10, True, "either"),
        (100, CIFAR, 40, True, "active learning"),  # "almost after labeling 40% of dataset"
        (200, TINY, 10, True, "random"),  # "Random sampling shows superior performance"
        (200, TINY, 49, True, "random"),
        (200, TINY, 10, False, "either"),  # "required to exceed 10%"
        (200, TINY, 11, False, "active learning"),
    ],
)
def test_what_the_document_reports(classes, pool, percent, pretrained, expected):
    assert advise(classes, pool, round(pool * percent / 100), pretrained=pretrained).expected == expected


def test_the_threshold_is_a_line_and_from_scratch_a_share():
    line = [advise(c, 10**6, 0, pretrained=True).threshold_per_class for c in (10, 55, 100, 190)]
    assert line == [50, 125, 200, 350]
    assert advise(20, 4_000, 0, pretrained=False).threshold_per_class == 20
    assert (
        np.corrcoef([10, 100, 200], [50, 200, advise(200, TINY, 0, pretrained=True).threshold_per_class])[0, 1] > 0.99
    )


@pytest.mark.parametrize("pretrained", [True, False])
@pytest.mark.parametrize("classes", [2, 7, 10, 11, 99, 100, 101, 200, 1000])
def test_more_labels_never_speak_more_for_random(classes, pretrained):
    pool = 4_000_000
    ranks = [
        ("random", "either", "active learning").index(advise(classes, pool, b, pretrained=pretrained).expected)
        for b in range(0, pool, 3989)
    ]
    assert ranks == sorted(ranks)
    assert ranks[0] == 0 and ranks[-1] == 2


@pytest.mark.parametrize(("classes", "word"), [(5, "extrapolated"), (50, "interpolated"), (150, "extrapolated")])
def test_it_says_what_was_not_measured(classes, word):
    assert word in " ".join(advise(classes, CIFAR, 100, pretrained=True).evidence)


@pytest.mark.parametrize("classes", [10, 100])
def test_measured_thresholds_are_not_called_interpolated(classes):
    assert "polated" not in " ".join(advise(classes, CIFAR, 100, pretrained=True).evidence)


def test_a_pool_of_another_size_is_extrapolated_from_scratch():
    assert "extrapolated" in " ".join(advise(10, 1_000, 500, pretrained=False).evidence)
    assert "extrapolated" not in " ".join(advise(10, CIFAR, 500, pretrained=False).evidence)


def test_from_scratch_it_says_to_pretrain_while_that_pays():
    assert "Pre-train first" in " ".join(advise(10, CIFAR, 20_000, pretrained=False).evidence)
    assert "Pre-train first" not in " ".join(advise(10, CIFAR, 25_000, pretrained=False).evidence)
    assert "Pre-train first" not in " ".join(advise(10, CIFAR, 20_000, pretrained=True).evidence)


def test_a_pool_too_small_for_the_threshold_and_a_budget_of_the_whole_pool():
    small = advise(100, 5_000, 2_000, pretrained=True)
    assert small.expected == "random" and "cannot reach" in " ".join(small.evidence)
    whole = advise(10, 5_000, 5_000, pretrained=True)
    assert whole.expected == "either" and "nothing to choose" in whole.evidence[-1]


def test_no_labels_yet():
    advice = advise(10, 100, 0, pretrained=True)
    assert (advice.expected, advice.share, advice.per_class) == ("random", 0, 0)


@pytest.mark.parametrize(
    ("classes", "pool", "budget", "message"),
    [
        (1, 10, 5, "classes = 1: expected at least 2"),
        (-3, 10, 5, "classes = -3"),
        (2, 0, 0, "pool = 0: expected at least 1 image"),
        (2, -1, 0, "pool = -1"),
        (2, 10, 11, "budget = 11: expected 0 to 10"),
        (2, 10, -1, "budget = -1: expected 0 to 10"),
    ],
)
@pytest.mark.parametrize("pretrained", [True, False])
def test_bad_input_is_told(classes, pool, budget, message, pretrained):
    with pytest.raises(LabelwiseError, match=message):
        advise(classes, pool, budget, pretrained=pretrained)


@pytest.mark.parametrize("pretrained", [True, False])
def test_every_sentence_is_in_the_text_and_names_the_document(pretrained):
    advice = advise(37, 20_000, 3_000, pretrained=pretrained)
    told = text(advice)
    assert isinstance(advice, Advice)
    assert all(line in told for line in advice.evidence)
    assert "001" in told and "Fig. 5." in told
    assert "15.0 % of the pool" in told and "81.1 labels per class" in told
