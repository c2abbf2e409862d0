"""Choice by quota: class quotas and turns of the scales, beside slow references."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest

from labelwise.select import quota, scale_aware, top
from labelwise.types import LabelwiseError


def slow_turns(scores: list[float], scale: list[float], budget: int) -> list[int]:
    """Algorithm 2 of 003: a queue per scale, one candidate per scale and turn."""
    queues = [
        sorted((row for row in range(len(scores)) if scale[row] == s), key=lambda row: (-scores[row], row))
        for s in sorted(set(scale))
    ]
    picks: list[int] = []
    while len(picks) < budget and any(queues):
        for queue in queues:
            if queue and len(picks) < budget:
                picks.append(queue.pop(0))
    return picks


@pytest.mark.parametrize("scales", [[1], [2.34, 1.0, 1.5], list(range(9))])
@pytest.mark.parametrize(("n", "budget"), [(60, 0), (60, 1), (60, 17), (60, 60), (60, 99), (1, 1), (0, 3)])
def test_scale_aware_against_the_slow_reference(n, budget, scales):
    for seed in range(8):
        rng = np.random.default_rng(seed)
        scores = rng.integers(0, 4, n) / 4 if seed % 2 else rng.random(n)
        scale = np.array(scales)[(rng.random(n) ** 3 * len(scales)).astype(int)]  # some scales have few rows
        rows = scale_aware.select(scores, scale, budget)
        assert rows.tolist() == slow_turns(scores.tolist(), scale.tolist(), budget)


def test_scale_aware_with_one_scale_is_top_and_explains_itself():
    scores = np.random.default_rng(0).random(20, dtype=np.float32)
    assert scale_aware.select(scores, np.ones(20), 7).tolist() == top.select(scores, 7).tolist()
    scale = np.arange(20) % 3
    rows, why = scale_aware.select(scores, scale, 9, explain=True)
    assert why["scale"].tolist() == scale[rows].tolist() == [0, 1, 2] * 3
    assert why["score"].tolist() == scores[rows].tolist()


def test_scale_aware_stays_exact_for_integer_scores_and_does_not_change_its_input():
    scores, scale = np.array([1, 3, 2], np.uint8), np.array([2.0, 2.0, 1.0])
    before = scores.copy(), scale.copy()
    assert scale_aware.select(scores, scale, 3).tolist() == [2, 1, 0]
    assert (scores == before[0]).all() and (scale == before[1]).all()


@pytest.mark.parametrize(
    ("scale", "message"),
    [
        (np.array([1, np.nan, 2]), "row 1"),
        (np.array([1, 2, np.inf]), "row 2"),
        (np.array([1, 2]), "scale"),
        (np.array(["a", "b", "c"]), "scale"),
    ],
)
def test_scale_aware_refuses_bad_scales(scale, message):
    with pytest.raises(LabelwiseError, match=message):
        scale_aware.select(np.ones(3), scale, 2)


def slow_quota(available: list[int], counts: list[int], k: int, power: int) -> list[int]:
    """Shares in exact fractions; a class that is too small is filled, and the rest shared anew."""
    weights = [Fraction(1, (c + 1) ** power) for c in counts]
    quotas, is_open = [0] * len(counts), {c for c, a in enumerate(available) if a}
    while is_open:
        left, total = k - sum(quotas), sum(weights[c] for c in is_open)
        share = {c: left * weights[c] / total for c in is_open}
        full = {c for c in is_open if share[c] >= available[c]}
        if not full:
            for c in is_open:
                quotas[c] = int(share[c])
            for c in sorted(is_open, key=lambda c: (-(share[c] % 1), counts[c] if power else 0, c))[: k - sum(quotas)]:
                quotas[c] += 1
            break
        for c in full:
            quotas[c] = available[c]
        is_open -= full
    return quotas


def slow_select(scores: list[float], labels: list[int], counts: list[int], budget: int, power: int) -> list[int]:
    """Class -1: no object. Quotas by `slow_quota`, then the class that is furthest behind its quota picks."""
    n, classes = len(scores), range(len(counts))
    queues = {c: sorted((r for r in range(n) if labels[r] == c), key=lambda r: (-scores[r], r)) for c in (*classes, -1)}
    k = min(budget, n)
    with_object = n - len(queues[-1])
    quotas = slow_quota([len(queues[c]) for c in classes], counts, min(k, with_object), power)
    picks, taken = [], [0] * len(counts)
    while len(picks) < min(k, with_object):
        behind = [c for c in classes if taken[c] < quotas[c]]
        c = min(behind, key=lambda c: (Fraction(2 * taken[c] + 1, 2 * quotas[c]), counts[c] if power else 0, c))
        picks.append(queues[c][taken[c]])
        taken[c] += 1
    return picks + queues[-1][: k - len(picks)]


def random_input(rng: np.random.Generator, n: int, classes: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    scores = rng.integers(0, 4, n) / 4 if rng.random() < 0.5 else rng.random(n)
    labels = (rng.random(n) ** rng.choice([1, 4]) * classes).astype(np.int64)  # often common classes and empty ones
    return scores, labels, rng.choice([0, 1, 2, 3, 9, 40, 1000], classes)


@pytest.mark.parametrize("power", [0, 1, 2])
@pytest.mark.parametrize("classes", [1, 2, 5, 30])
@pytest.mark.parametrize("n", [0, 1, 7, 80])
def test_quota_against_the_slow_reference(n, classes, power):
    rng = np.random.default_rng(n * classes)
    for budget in (0, 1, 2, n // 3, n // 2, max(0, n - 1), n, n + 5):
        for _ in range(5):
            scores, labels, counts = random_input(rng, n, classes)
            expected = slow_select(scores.tolist(), labels.tolist(), counts.tolist(), budget, power)
            assert quota.select(scores, labels, counts, budget, power=float(power)).tolist() == expected


@pytest.mark.parametrize("budget", [0, 1, 13, 40, 55, 60, 61])
def test_quota_by_class_mix_against_the_slow_reference(budget):
    for seed in range(10):
        rng = np.random.default_rng(seed)
        mix = rng.integers(0, 3, (60, 4)) / 4 * (rng.random((60, 1)) > 0.3)  # ties, and rows without an object
        scores, _, counts = random_input(rng, 60, 4)
        labels = [row.index(max(row)) if max(row) > 0 else -1 for row in mix.tolist()]
        rows, why = quota.select(scores, mix, counts, budget, explain=True)
        assert rows.tolist() == slow_select(scores.tolist(), labels, counts.tolist(), budget, 1)
        assert why["class"].tolist() == [labels[r] for r in rows]


def test_quota_of_empty_rows_only_and_of_no_class():
    scores = np.array([0.1, 0.9, 0.5])
    assert quota.select(scores, np.zeros((3, 4)), np.zeros(4, int), 2).tolist() == [1, 2]
    assert quota.select(scores, np.zeros((3, 0)), np.zeros(0, int), 2).tolist() == [1, 2]
    assert quota.select(np.zeros(0), np.zeros(0, int), np.zeros(0, int), 2).shape == (0,)


def test_quota_explains_itself_and_every_first_part_keeps_the_proportion():
    rng = np.random.default_rng(0)
    scores, labels, counts = rng.random(900), np.repeat([0, 1, 2], 300), np.array([0, 1, 3])
    rows, why = quota.select(scores, labels, counts, 70, explain=True)
    assert np.bincount(why["class"]).tolist() == [40, 20, 10]  # 1 : 1/2 : 1/4
    assert (why["quota"] == np.array([40, 20, 10])[why["class"]]).all()
    assert (why["score"] == scores[rows]).all() and (why["class"] == labels[rows]).all()
    for part in range(1, 71):
        seen = np.bincount(why["class"][:part], minlength=3)
        assert (np.abs(seen - part * np.array([40, 20, 10]) / 70) < 1).all()


def test_quota_does_not_depend_on_the_order_of_the_rows():
    rng, moved = np.random.default_rng(1), np.random.default_rng(2).permutation(80)
    scores, labels, counts = rng.permutation(80) / 80, rng.integers(0, 5, 80), rng.integers(0, 40, 5)
    picks = quota.select(scores, labels, counts, 30)
    assert moved[quota.select(scores[moved], labels[moved], counts, 30)].tolist() == picks.tolist()


def test_quota_with_a_huge_power_takes_the_rarest_classes_first():
    scores, labels = np.linspace(0, 1, 9), np.arange(9) % 3
    rows, why = quota.select(scores, labels, np.array([50, 10**6, 700]), 7, power=1e4, explain=True)
    assert np.bincount(why["class"]).tolist() == [3, 1, 3] and len(set(rows.tolist())) == 7


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"power": -1.0}, "power"),
        ({"power": np.nan}, "power"),
        ({"labels": np.array([0, 2, 1])}, "row 1 is class 2"),
        ({"labels": np.array([0, -1, 1])}, "row 1 is class -1"),
        ({"labels": np.array([0.0, 1.0, 1.0])}, "labels: expected"),
        ({"labels": np.array([0, 1])}, "labels: expected"),
        ({"labels": np.zeros((3, 3))}, "class mix"),
        ({"labels": np.array([[0, 1], [0, np.nan], [1, 0]])}, "row 1"),
        ({"labels": np.array([[0, 1], [0, 1], [-1, 0]])}, "row 2"),
        ({"counts": np.array([3, -1])}, "class 1 is -1"),
        ({"counts": np.array([[3, 1]])}, "counts"),
    ],
)
def test_quota_refuses_bad_input(change, message):
    good = {"scores": np.ones(3), "labels": np.array([0, 1, 1]), "counts": np.array([4, 2]), "budget": 2}
    with pytest.raises(LabelwiseError, match=message):
        quota.select(**(good | change))
