"""k-center greedy and weighted k-means++: the picks of slow, obvious loops, on random and degenerate features."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from labelwise.select import kcenter, kmeans_plusplus
from labelwise.types import LabelwiseError

NONE = np.zeros((0, 1), np.float32)


def squared(features: np.ndarray, centre: np.ndarray) -> np.ndarray:
    return ((features.astype(np.float64) - centre.astype(np.float64)) ** 2).sum(axis=1)


def slow_kcenter(features, labelled, budget) -> tuple[list[int], list[float]]:
    nearest, picks, distances = np.full(len(features), np.inf), [], []
    for centre in labelled:
        nearest = np.minimum(nearest, squared(features, centre))
    while len(picks) < min(budget, len(features)):
        if len(labelled) == 0 and not picks:
            to_mean = squared(features, features.mean(axis=0, dtype=np.float64))
            picks.append(int(to_mean.argmin()))
            distances.append(math.sqrt(to_mean.min()))
        else:
            left = set(range(len(features))) - set(picks)
            picks.append(max(left, key=lambda row: (nearest[row], -row)))
            distances.append(math.sqrt(nearest[picks[-1]]))
        nearest = np.minimum(nearest, squared(features, features[picks[-1]]))
    return picks, distances


def check_kmeans_plusplus(scores, features, picks, rng) -> None:
    """Every pick is that of the plain loop after the picks before it; a draw may hit the next row within rounding."""
    assert picks[0] == max(range(len(scores)), key=lambda row: (scores[row], -row))
    norm, astray = squared(features, features.mean(axis=0, dtype=np.float64)), 0
    for i in range(1, len(picks)):
        every = np.array([squared(features, features[row]) for row in picks[:i]])
        nearest, centre = every.min(axis=0), np.asarray(picks)[every.argmin(axis=0)]
        weight = scores * nearest
        if weight.sum() == 0:
            left = [row for row in range(len(scores)) if row not in picks[:i]]
            assert picks[i] == max(left, key=lambda row: (scores[row], -row))
            continue
        rounding = (2 * features.shape[1] + 16) * 2.0**-23 * (norm + norm[centre])  # of float32; exact below it
        slack = float((scores * np.where(nearest > rounding, rounding, 0)).sum()) + 1e-12 * float(weight.sum())
        point, total = rng.random() * weight.sum(), np.cumsum(weight)
        assert weight[picks[i]] > 0
        beyond = max(total[picks[i]] - weight[picks[i]] - point, point - total[picks[i]])
        assert beyond <= slack
        astray += beyond > 0
    assert astray <= 1


def make(kind: str, n: int, columns: int, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    if kind == "lattice":
        return rng.integers(0, 4, (n, columns)).astype(np.float32)
    if kind == "identical":
        return np.full((n, columns), 0.1, np.float32)
    x = rng.standard_normal((n, columns))
    if kind == "duplicates":
        x = x[rng.integers(0, n // 4 + 1, n)]
    if kind == "near duplicates":
        x = x[rng.integers(0, n // 4 + 1, n)] + 1e-6 * rng.standard_normal((n, columns))
    if kind == "offset":
        x += 1e3
    if kind == "far clusters":
        x += 1e4 * rng.integers(-1, 2, (n, 1))
    if kind == "outlier":
        x[n // 2] *= 1e8
    scale = {"tiny": 1e-30, "huge": 1e25}.get(kind, 1.0)
    return (x * scale).astype(np.float32)


KINDS = ["normal", "lattice", "identical", "duplicates", "near duplicates", "offset", "far clusters", "outlier"]


@pytest.mark.parametrize("kind", [*KINDS, "tiny", "huge"])
@pytest.mark.parametrize(("n", "columns", "labelled"), [(300, 7, 20), (150, 1, 3), (200, 33, 0), (1, 4, 2), (1, 4, 0)])
def test_kcenter_makes_the_picks_of_the_plain_loop(kind, n, columns, labelled, monkeypatch):
    both = make(kind, n + labelled, columns)
    features, centres = both[labelled:], both[:labelled]
    before = both.copy()
    want, distances = slow_kcenter(features, centres, 50)
    for short, block, per_product in ((1024, 1 << 18, 256), (8, 500, 3)):
        for name, value in (("SHORT", short), ("BLOCK", block), ("CENTRES", per_product)):
            monkeypatch.setattr(kcenter, name, value)
        rows, reasons = kcenter.select(features, centres, 50, explain=True)
        assert rows.tolist() == want
        np.testing.assert_array_equal(reasons["score"], distances)
        assert kcenter.select(features, centres, 50).tolist() == want
    np.testing.assert_array_equal(both, before)


@settings(max_examples=100, deadline=None)
@given(data=st.data())
def test_kcenter_on_whatever_hypothesis_finds(data):
    n, m, columns = data.draw(st.tuples(st.integers(1, 12), st.integers(0, 4), st.integers(1, 3)))
    numbers = st.floats(-1e6, 1e6, width=32) | st.integers(-2, 2).map(float)
    both = data.draw(hnp.arrays(np.float32, (n + m, columns), elements=numbers))
    budget = data.draw(st.integers(0, n + 1))
    want, distances = slow_kcenter(both[m:], both[:m], budget)
    length, kcenter.SHORT = kcenter.SHORT, data.draw(st.sampled_from([1, 3, 1024]))
    try:
        rows, reasons = kcenter.select(both[m:], both[:m], budget, explain=True)
    finally:
        kcenter.SHORT = length
    assert rows.tolist() == want
    np.testing.assert_array_equal(reasons["score"], distances)


@pytest.mark.parametrize("kind", KINDS)
def test_kcenter_with_a_list_shorter_than_the_pool(kind):
    both = make(kind, 5_100, 16)
    want, _ = slow_kcenter(both[100:], both[:100], 80)
    assert kcenter.select(both[100:], both[:100], 80).tolist() == want


def test_kcenter_reads_any_layout_and_precision():
    both = make("normal", 320, 9)
    want, _ = slow_kcenter(both[20:], both[:20], 40)
    turned = np.asfortranarray(both)
    assert kcenter.select(turned[20:], turned[:20], 40).tolist() == want
    wide = both.astype(np.float64) + 1e-9
    assert kcenter.select(wide[20:], wide[:20], 40).tolist() == slow_kcenter(wide[20:], wide[:20], 40)[0]
    half = both.astype(np.float16)
    assert kcenter.select(half[20:], half[:20], 40).tolist() == slow_kcenter(half[20:], half[:20], 40)[0]


def test_when_all_distances_are_zero_the_lowest_rows_follow():
    features = np.float32([[1], [0], [1], [0], [1]])
    rows, reasons = kcenter.select(features, np.float32([[0]]), 4, explain=True)
    assert rows.tolist() == [0, 1, 2, 3]
    assert reasons["score"].tolist() == [1, 0, 0, 0]


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_a_feature_that_is_not_finite_is_named(value):
    features, labelled = make("normal", 50, 3), make("normal", 9, 3)
    features[41, 1] = value
    with pytest.raises(LabelwiseError, match=r"^features: row 41\b.*column 1"):
        kcenter.select(features, labelled, 5)
    with pytest.raises(LabelwiseError, match=r"row 41\b.*column 1"):
        kmeans_plusplus.select(np.ones(50), features, 5, np.random.default_rng(0))
    labelled[7, 2] = value
    with pytest.raises(LabelwiseError, match=r"^labelled_features: row 7\b"):
        kcenter.select(make("normal", 50, 3), labelled, 5)


def test_what_cannot_be_compared_is_refused():
    x, rng = make("normal", 6, 3), np.random.default_rng(0)
    for features, labelled in ((x, x[:, :2]), (x[0], x), (x.astype(int), x), (x, x[0]), (x[:, :0], x[:, :0])):
        with pytest.raises(LabelwiseError, match="features: "):
            kcenter.select(features, labelled, 2)
    with pytest.raises(LabelwiseError, match="row 3"):
        kcenter.select(np.where(np.arange(6)[:, None] == 3, 1e200, x.astype(float)), x, 2)
    for features in (x[:5], x[0], x.astype(int), x[:, :0], x * np.float32(1e30)):
        with pytest.raises(LabelwiseError, match="features: "):
            kmeans_plusplus.select(np.ones(6), features, 2, rng)
    with pytest.raises(LabelwiseError, match="row 2 is -1"):
        kmeans_plusplus.select(np.array([1, 1, -1, 1, 1, 1.0]), x, 2, rng)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("n", "columns", "budget"), [(120, 5, 40), (30, 1, 60), (1, 3, 2), (25, 3, 25)])
def test_kmeans_plusplus_makes_the_picks_of_the_plain_loop(kind, n, columns, budget):
    for seed in range(3):
        features = make(kind, n, columns, seed)
        before = features.copy()
        scores = np.random.default_rng(seed).integers(0, 4, n) / 3
        got = kmeans_plusplus.select(scores, features, budget, np.random.default_rng(seed)).tolist()
        assert len(got) == len(set(got)) == min(n, budget)
        check_kmeans_plusplus(scores, features, got, np.random.default_rng(seed))
        np.testing.assert_array_equal(features, before)


def test_kmeans_plusplus_draws_with_chance_score_times_squared_distance():
    features, scores = np.float32([[0], [1], [2], [3]]), np.array([1.0, 0.9, 0.3, 0.4])
    rng, counts = np.random.default_rng(0), np.zeros(4)
    for _ in range(4000):
        rows, reasons = kmeans_plusplus.select(scores, features, 2, rng, explain=True)
        counts[rows[1]] += 1
    chance = scores * [0, 1, 4, 9] / (scores @ [0, 1, 4, 9])
    np.testing.assert_allclose(counts / 4000, chance, atol=0.03)
    np.testing.assert_allclose(reasons["chance"], [1, chance[rows[1]]])
    np.testing.assert_allclose(reasons["squared_distance"], [0, rows[1] ** 2])
    assert reasons["score"].tolist() == scores[rows].tolist()


def test_kmeans_plusplus_without_weights_takes_the_highest_scores():
    scores, rng = np.array([0.2, 0.5, 0.5, 0.1]), np.random.default_rng(0)
    assert kmeans_plusplus.select(scores, make("identical", 4, 3), 3, rng).tolist() == [1, 2, 0]
    assert kmeans_plusplus.select(np.zeros(4), make("normal", 4, 3), 3, rng).tolist() == [0, 1, 2]
    first_then_scored = kmeans_plusplus.select(np.array([0, 1, 0, 0.5]), make("normal", 4, 3), 4, rng)
    assert first_then_scored.tolist() == [1, 3, 0, 2]
