"""Advice: what was measured comes out again, nothing outside it, and a larger pool never speaks against choosing."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from labelwise.study.advise import MEASURED, WORDS, advise, text
from labelwise.study.pick_accuracy import PickAccuracy, sentence
from labelwise.types import LabelwiseError

CIFAR, TINY = 50_000, 90_000
RESULTS = Path(__file__).parents[1] / "benchmarks" / "results"
ORDER = ("nothing to choose", "random", "not known", "either", "active learning")
FEATURES = st.sampled_from(sorted(WORDS))


@pytest.mark.parametrize(
    ("classes", "pool", "percent", "features", "expected"),
    [
        (
            10,
            CIFAR,
            0.2,
            "pretrained",
            "random",
        ),  # "Random sampling outperforms AL methods when the budget is less than 1%"
        (10, CIFAR, 1, "pretrained", "active learning"),  # "from 1% budget onward"
        (10, CIFAR, 10, "pretrained", "active learning"),
        (10, CIFAR, 1, "scratch", "random"),  # "trained from scratch, ... after labeling 10% of data"
        (10, CIFAR, 20, "scratch", "active learning"),
        (100, CIFAR, 2, "pretrained", "random"),  # "regardless of using self-training"
        (100, CIFAR, 2, "scratch", "random"),
        (100, CIFAR, 20, "pretrained", "either"),
        (100, CIFAR, 40, "pretrained", "active learning"),  # "almost after labeling 40% of dataset"
        (200, TINY, 10, "pretrained", "random"),  # "Random sampling shows superior performance"
        (200, TINY, 49, "pretrained", "random"),
        (200, TINY, 9, "scratch", "random"),
        (200, TINY, 11, "scratch", "active learning"),  # "required to exceed 10%"
    ],
)
def test_what_the_document_reports(classes, pool, percent, features, expected):
    assert advise(classes, pool, round(pool * percent / 100), features=features).expected == expected


def rows_of(name, **wanted):
    lines = (RESULTS / name).read_text(encoding="utf-8").splitlines()
    rows = csv.DictReader(line for line in lines if not line.startswith("#"))
    return [row for row in rows if all(row[key] == value for key, value in wanted.items())]


@pytest.mark.parametrize("labels", [10, 20, 40, 80, 160, 320, 640, 1600, 3200])
def test_what_our_own_runs_report_on_frozen_features(labels):
    """The advice is "active learning" where some method's whole interval is above random, by our own files."""
    files = ("claims_cold.csv", "claims_threshold.csv", "claims_middle.csv")
    rows = [row for f in files for row in rows_of(f, quantity="accuracy") if row["round"] != "mean" and row["minus"]]
    here = [row for row in rows if float(row["labels"]) == labels]
    ahead = any(float(row["t_low"]) > 0 for row in here)
    advice = advise(10, CIFAR, labels, features="frozen")
    assert len(here) and advice.expected == ("active learning" if ahead else "either")


@pytest.mark.parametrize("round_number", ["1", "3"])
def test_figures_of_the_runway_are_those_of_the_file(round_number):
    row = next(row for row in MEASURED if row.classes == 31)
    for method, word in (("herding", "MaxHerding"), ("coreset_image", "k-center")):
        found = rows_of("fod_a_frozen.csv", row=method, quantity="ap50", round=round_number)
        assert word in row.what and f"+{float(found[0]['minus']):.1f}" in row.what


@settings(max_examples=300, deadline=None)
@given(st.integers(2, 400), st.integers(1, 10**6), st.integers(0, 10**6), st.integers(0, 10**6), FEATURES)
def test_a_larger_pool_never_counts_against_choosing(classes, pool, more, budget, features):
    budget = min(budget, pool)
    small, large = (advise(classes, n, budget, features=features).expected for n in (pool, pool + more))
    assert ORDER.index(large) >= ORDER.index(small)
    assert small == large or small == "nothing to choose"


@pytest.mark.parametrize("features", ["scratch", "pretrained"])
@pytest.mark.parametrize("classes", [10, 37, 100, 150, 200])
def test_more_labels_never_speak_more_for_random(classes, features):
    said = [advise(classes, 10**7, classes * k, features=features).expected for k in range(1, 3000)]
    ranks = [("random", "either", "active learning").index(word) for word in said if word != "not known"]
    assert ranks == sorted(ranks) and len(ranks)


@settings(max_examples=300, deadline=None)
@given(st.integers(2, 400), st.floats(0, 5000), FEATURES)
def test_outside_what_was_measured_nothing_is_known(classes, per_class, features):
    rows = [row for row in MEASURED if row.features == features]
    measured = [row.classes for row in rows]
    advice = advise(classes, 10**8, int(per_class * classes), features=features)
    if not min(measured) <= classes <= max(measured):
        assert advice.expected == "not known"
    if advice.expected != "not known":
        assert advice.rows and all(row.low <= advice.per_class <= row.high for row in advice.rows)
        assert {row.classes for row in advice.rows} == {
            max(c for c in measured if c <= classes),
            min(c for c in measured if c >= classes),
        }


def test_between_two_measured_numbers_of_classes_both_must_agree():
    assert advise(50, CIFAR, 50 * 20, features="pretrained").expected == "random"
    assert advise(50, CIFAR, 50 * 60, features="pretrained").expected == "either"
    assert advise(150, 10**6, 150 * 240, features="pretrained").expected == "not known", (
        "no curve of 200 classes went on"
    )
    assert advise(20, CIFAR, 20 * 100, features="frozen").expected == "not known", "31 classes end at 8 labels each"


def test_rows_of_one_kind_do_not_overlap_and_have_a_source():
    for row in MEASURED:
        others = [o for o in MEASURED if o is not row and (o.features, o.classes) == (row.features, row.classes)]
        assert row.low < row.high and row.source and all(o.high <= row.low or o.low >= row.high for o in others)


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
def test_bad_input_is_told(classes, pool, budget, message):
    with pytest.raises(LabelwiseError, match=message):
        advise(classes, pool, budget, features="scratch")


def test_the_text_names_what_it_rests_on_and_says_when_nothing_is_known():
    told = text(advise(10, CIFAR, 100, features="frozen"))
    assert "Expect choosing" in told and "claims_cold.csv" in told and "10 labels per class (0.2 % of the pool)" in told
    told = text(advise(500, CIFAR, 1000, features="scratch"))
    assert "Not known" in told and "10 classes, 5 to 500 labels per class" in told and "Pre-train first" in told
    assert "nothing to choose" in text(advise(10, 100, 100, features="scratch"))


def test_the_difference_of_two_shares_has_the_interval_of_newcombe():
    """His example, 56 of 70 and 48 of 80: 0.2, 0.0524 to 0.3339 (1998, Table II, method 10)."""
    found = PickAccuracy(1, 10, 70, 56, 80, 48).difference()
    np.testing.assert_allclose(found, (0.2, 0.0524, 0.3339), atol=5e-5)


def test_sentences_about_picks():
    assert "does not know" in sentence(PickAccuracy(1, 10, 100, 20, 100, 80))
    assert "knows already" in sentence(PickAccuracy(1, 10, 100, 90, 100, 50))
    assert "as hard as random ones" in sentence(PickAccuracy(1, 10, 10, 5, 10, 6))
