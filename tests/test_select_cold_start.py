"""BADGE, TypiClust, ProbCover and the core-set program: the picks of slow, obvious loops, also on degenerate input."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest

from labelwise.select import badge, coreset_milp, kcenter, probcover, typiclust
from labelwise.types import LabelwiseError

KINDS = ["normal", "lattice", "identical", "duplicates", "near duplicates", "offset"]


def make(kind: str, n: int, columns: int, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    if kind == "lattice":
        return rng.integers(0, 3, (n, columns)).astype(np.float32)
    if kind == "identical":
        return np.full((n, columns), 0.1, np.float32)
    x = rng.standard_normal((n, columns))
    if "duplicates" in kind:
        x = x[rng.integers(0, n // 4 + 1, n)]
    if kind == "near duplicates":
        x += 1e-6 * rng.standard_normal((n, columns))
    return (x + 1e3 * (kind == "offset")).astype(np.float32)


def make_probs(kind: str, n: int, classes: int, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    if kind == "sure":
        return np.eye(classes, dtype=np.float32)[rng.integers(0, classes, n)]
    if kind == "one class":
        return np.ones((n, 1), np.float32)
    probs = rng.dirichlet(np.full(classes, 0.3), n).astype(np.float32)
    if kind == "duplicates":
        probs = probs[rng.integers(0, n // 4 + 1, n)]
    return np.full((n, classes), 1 / classes, np.float32) if kind == "even" else probs


def squared(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    return ((a.astype(np.float64) - b.astype(np.float64)) ** 2).sum(axis=-1)


# BADGE


def slow_badge(probs, features, budget, rng) -> tuple[list[int], list[float]]:
    """The outer products, in float64."""
    a = probs.astype(np.float64)
    a[np.arange(len(a)), probs.argmax(axis=1)] -= 1
    g = np.einsum("nc,nd->ncd", a, features.astype(np.float64)).reshape(len(a), -1)
    norm = (g**2).sum(axis=1)
    picks, distances = [], []
    while len(picks) < min(budget, len(g)):
        left = [row for row in range(len(g)) if row not in picks]
        weight = np.min([squared(g, g[row]) for row in picks], axis=0) if picks else np.zeros(len(g))
        weight[weight < 1e-11 * norm.max()] = 0  # rounding of copies whose factors differ
        if weight.sum() == 0:
            picks.append(max(left, key=lambda row: (np.float64(norm[row]).round(9), -row)))
        else:
            point, row = rng.random() * weight.sum(), 0
            while weight[: row + 1].sum() <= point:
                row += 1
            picks.append(row)
        distances.append(weight[picks[-1]])
    return picks, distances


@pytest.mark.parametrize("p_kind", ["normal", "duplicates", "sure", "one class", "even"])
@pytest.mark.parametrize("kind", ["normal", "identical", "duplicates", "offset"])
def test_badge_makes_the_picks_of_the_outer_products(kind, p_kind):
    for seed, (n, budget) in enumerate([(80, 30), (40, 50), (1, 2)]):
        probs, features = make_probs(p_kind, n, 5, seed), make(kind, n, 6, seed)
        if kind == p_kind == "duplicates":  # the same rows are copies in both
            features = make("normal", n, 6)[np.unique(probs, axis=0, return_inverse=True)[1]]
        before = probs.copy(), features.copy()
        want, distances = slow_badge(probs, features, budget, np.random.default_rng(seed))
        rows, why = badge.select(probs, features, budget, np.random.default_rng(seed), explain=True)
        assert rows.tolist() == want
        np.testing.assert_allclose(why["squared_distance"], distances, rtol=1e-3, atol=1e-4 * max(distances))
        assert badge.select(probs, features, budget, np.random.default_rng(seed)).tolist() == want
        np.testing.assert_array_equal(probs, before[0])
        np.testing.assert_array_equal(features, before[1])


def test_badge_draws_with_chance_squared_distance():
    probs, features = make_probs("normal", 5, 3, 3), make("normal", 5, 4, 3)
    first = slow_badge(probs, features, 1, None)[0][0]
    a = probs - np.eye(3)[probs.argmax(axis=1)]
    g = np.einsum("nc,nd->ncd", a, features).reshape(5, -1)
    chance = squared(g, g[first]) / squared(g, g[first]).sum()
    rng, counts = np.random.default_rng(0), np.zeros(5)
    for _ in range(4000):
        rows, why = badge.select(probs, features, 2, rng, explain=True)
        counts[rows[1]] += 1
        assert why["chance"][1] == pytest.approx(chance[rows[1]], rel=1e-4)
    np.testing.assert_allclose(counts / 4000, chance, atol=0.03)


def test_badge_reads_any_layout_and_precision():
    probs, features = make_probs("normal", 60, 4), make("normal", 60, 5)
    want = badge.select(probs, features, 20, np.random.default_rng(1)).tolist()
    for p, h in (
        (np.asfortranarray(probs), np.asfortranarray(features)),
        (probs.astype(float), features.astype(float)),
    ):
        assert badge.select(p, h, 20, np.random.default_rng(1)).tolist() == want
    half = badge.select(probs.astype(np.float16), features.astype(np.float16), 60, np.random.default_rng(1))
    assert sorted(half.tolist()) == list(range(60))


@pytest.mark.parametrize(
    ("name", "at", "value", "message"),
    [
        ("probs", (7, 1), math.nan, r"^probs: row 7 is not a distribution"),
        ("probs", (7, 1), 3.0, r"^probs: row 7 is not a distribution"),
        ("probs", (7, 1), -0.5, r"^probs: row 7 is not a distribution"),
        ("features", (9, 2), math.nan, r"^features: row 9 has nan in column 2"),
        ("features", (9, 2), -math.inf, r"^features: row 9 has -inf in column 2"),
        ("features", (9, 2), 1e30, r"^features: row 9 has 1.*e\+30 in column 2"),
    ],
)
def test_badge_names_the_bad_row(name, at, value, message):
    menu = {"probs": make_probs("normal", 20, 3), "features": make("normal", 20, 4)}
    menu[name][at] = value
    with pytest.raises(LabelwiseError, match=message):
        badge.select(menu["probs"], menu["features"], 3, np.random.default_rng(0))


def test_badge_refuses_what_does_not_fit():
    p, h, rng = make_probs("normal", 6, 3), make("normal", 6, 4), np.random.default_rng(0)
    for probs, features in ((p, h[:5]), (p, h[0]), (p, h.astype(int)), (p[:, :0], h), (p, h[:, :0]), (p[0], h)):
        with pytest.raises(LabelwiseError, match=r"probs: |features: "):
            badge.select(probs, features, 2, rng)


# TypiClust


def slow_typiclust(x, known, cluster, budget, neighbours, small) -> tuple[list[int], list[float]]:
    members = {c: [r for r in range(len(x)) if cluster[r] == c] for c in set(cluster[: len(x)].tolist())}
    size = {c: int((cluster == c).sum()) for c in members}
    labelled = {c: int((cluster[len(x) :] == c).sum()) for c in members}
    order = sorted(members, key=lambda c: (size[c] <= small, labelled[c], -size[c], members[c][0]))
    picks, scores = [], []
    while len(picks) < min(budget, len(x)):
        large = [c for c in order if members[c] and size[c] > small]
        for c in large or [c for c in order if members[c]]:
            k = max(1, min(neighbours, len(members[c]) // 2))
            means = {}
            for row in members[c]:
                away = sorted(math.sqrt(squared(x[row], x[other])) for other in members[c] if other != row)
                means[row] = sum(away[:k]) / k if away else math.inf
            row = min(members[c], key=lambda r: (np.float64(means[r]).round(7), r))
            picks.append(row)
            scores.append(1 / (means[row] + 1e-5))
            members[c].remove(row)
    return picks[:budget], scores[:budget]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    ("n", "m", "budget", "most"), [(90, 6, 10, 500), (90, 0, 30, 4), (40, 3, 60, 500), (1, 0, 1, 9)]
)
def test_typiclust_makes_the_picks_of_the_plain_loop(kind, n, m, budget, most):
    both = make(kind, n + m, 3)
    x, known = both[m:], both[:m]
    seed = int(np.random.default_rng(5).integers(2**31))
    cluster = typiclust.clusters(np.concatenate([x, known]), min(m + min(budget, n), most), seed)
    want, scores = slow_typiclust(x, known, cluster, budget, 7, 5)
    for block in (1 << 21, 50):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(typiclust, "BLOCK", block)
            rows, why = typiclust.select(
                x,
                known,
                budget,
                np.random.default_rng(5),
                max_clusters=most,
                neighbours=7,
                small=5,
                normalise=False,
                explain=True,
            )
        assert len(set(rows.tolist())) == len(rows) == min(n, budget)
        if kind == "near duplicates":  # which of the neighbours are nearest is within the rounding
            np.testing.assert_allclose(why["score"], scores, rtol=0.1)
            continue
        np.testing.assert_allclose(why["score"], scores, rtol=1e-9)
        assert rows.tolist() == want
        assert why["cluster"].tolist() == cluster[rows].tolist()


def test_typiclust_prefers_large_clusters_without_labels():
    rng = np.random.default_rng(0)
    centres, sizes = np.array([[0, 0], [50, 0], [0, 50], [50, 50]]), [30, 20, 10, 3]
    x = np.concatenate([c + rng.standard_normal((s, 2)) for c, s in zip(centres, sizes, strict=True)]).astype(
        np.float32
    )
    known = np.float32([[0, 0]])
    rows, why = typiclust.select(x, known, 3, np.random.default_rng(1), small=5, normalise=False, explain=True)
    assert [int(np.searchsorted(np.cumsum(sizes), row, side="right")) for row in rows] == [1, 2, 0]
    assert why["size"].tolist() == [20, 10, 31] and why["labelled"].tolist() == [0, 0, 1]
    every = typiclust.select(x, known, 63, np.random.default_rng(1), small=5, normalise=False, max_clusters=4)
    assert sorted(every.tolist()) == list(range(63))
    assert every[-3:].min() >= 60, "the small cluster comes last"


def test_small_clusters_of_typiclust_scale_with_the_pool():
    x = make("normal", 120, 3)
    for n, most, small in ((120, 30, 1), (120, 6, 2), (120, 2, 5), (8, 500, 1)):

        def picks(small, n=n, most=most):
            rng = np.random.default_rng(3)
            return typiclust.select(x[:n], x[:0], 40, rng, max_clusters=most, small=small, normalise=False).tolist()

        assert picks(None) == picks(small)
    crowd, pairs = np.random.default_rng(0), np.float64([[9, 0], [9, 0.1], [0, 9], [0, 9.1], [9, 9], [9, 9.1]])
    both = np.concatenate([0.01 * crowd.standard_normal((60, 2)), pairs]).astype(np.float32)
    rng = np.random.default_rng
    rule, paper = (typiclust.select(both, both[:0], 4, rng(0), small=s, normalise=False) for s in (None, 5))
    assert set((rule[rule >= 60] - 60) // 2) == {0, 1, 2}, "each pair gets its label"
    assert (paper < 60).all(), "the paper's bound puts the pairs off"


def test_typiclust_with_mini_batches_is_the_same_twice_and_normalises():
    x = make("normal", 700, 5)
    first = typiclust.select(x, x[:3], 80, np.random.default_rng(2))
    again = typiclust.select(x, x[:3], 80, np.random.default_rng(2))
    longer = typiclust.select(x * np.float32(4), x[:3] * np.float32(8), 80, np.random.default_rng(2))
    assert first.tolist() == again.tolist() == longer.tolist()
    x[5] = 0  # has no direction
    assert len(typiclust.select(x, x[:0], 4, np.random.default_rng(2))) == 4


# ProbCover


def slow_probcover(x, known, delta, budget) -> tuple[list[int], list[int]]:
    ball = np.array([squared(x, row) <= delta**2 for row in x])
    free = np.array([all(squared(row, c) > delta**2 for c in known) for row in x])
    picks, gains, nearest = [], [], np.full(len(x), np.inf)
    for c in known:
        nearest = np.minimum(nearest, squared(x, c))
    while len(picks) < min(budget, len(x)):
        gain = (ball & free).sum(axis=1)
        row = int(gain.argmax())
        if gain[row] == 0:
            row = max((r for r in range(len(x)) if r not in picks), key=lambda r: (nearest[r], -r))
        picks.append(row)
        gains.append(gain[row])
        free &= ~ball[row]
        nearest = np.minimum(nearest, squared(x, x[row]))
    return picks, gains


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("n", "m", "budget"), [(150, 10, 40), (150, 0, 160), (1, 0, 1), (1, 2, 1)])
def test_probcover_makes_the_picks_of_the_plain_loop(kind, n, m, budget, monkeypatch):
    both = make(kind, n + m, 4)
    x, known = both[m:], both[:m]
    for delta in (0.0, 0.5, 1.0, math.sqrt(2), 3.0, 1e20):
        want, gains = slow_probcover(x, known, delta, budget)
        for block, some in ((1 << 21, 1 << 18), (70, 10)):
            monkeypatch.setattr(probcover, "BLOCK", block)
            monkeypatch.setattr(kcenter, "BLOCK", some)
            rows, why = probcover.select(x, known, budget, delta=delta, normalise=False, explain=True)
            assert rows.tolist() == want
            assert why["score"].tolist() == gains
            assert (np.diff(why["covered"]) >= 0).all() and why["covered"].max() <= 1


@pytest.mark.parametrize("kind", [*KINDS, "tiny", "huge"])
def test_the_pairs_are_those_of_the_formula(kind):
    scale = {"tiny": 1e-30, "huge": 1e13}.get(kind)
    x = make(kind, 120, 7) if scale is None else make("normal", 120, 7) * np.float32(scale)
    i, j = np.triu_indices(len(x), 1)
    d = squared(x[i], x[j])
    for limit in (0.0, float(np.median(d)), float(d.min()), float(d.max()), np.nextafter(d.max(), 0)):
        a, b, measured = probcover.pairs(x, limit, 10**6, measured=True)
        keep = d <= limit
        order = np.lexsort((b, a))
        assert a[order].tolist() == i[keep].tolist() and b[order].tolist() == j[keep].tolist()
        np.testing.assert_array_equal(measured[order], d[keep])
        assert len(probcover.pairs(x, limit, 10**6)[0]) == keep.sum()
    with pytest.raises(OverflowError):
        probcover.pairs(x, float(d.max()), len(d) - 1)
    np.testing.assert_array_equal(probcover.nearest(x[:90], x[90:]), [min(squared(row, x[90:])) for row in x[:90]])


def test_probcover_without_delta_takes_a_quantile_and_with_classes_the_purity():
    rng = np.random.default_rng(0)
    centres = np.array([[0, 0], [20, 0], [0, 20]])
    x = np.concatenate([c + rng.standard_normal((40, 2)) for c in centres]).astype(np.float32)
    distances = np.sqrt(squared(x[:, None], x[None]))
    rows, why = probcover.select(x, x[:0], 3, quantile=0.1, normalise=False, explain=True)
    assert why["delta"][0] == pytest.approx(np.quantile(distances[np.triu_indices(120, 1)], 0.1), rel=3e-9)
    assert sorted(rows // 40) == [0, 1, 2]
    label = np.arange(120) // 40
    other = np.where(label[:, None] == label, np.inf, distances).min(axis=1)
    for purity in (1.0, 0.95, 0.5):
        radius = probcover.select(x, x[:0], 1, classes=3, purity=purity, normalise=False, explain=True)[1]["delta"][0]
        assert (other > radius).mean() >= purity
        assert (other > radius * (1 + 1e-6)).mean() < purity, "the largest such radius"
    same = make("identical", 9, 2)
    assert probcover.select(same, same[:0], 9, classes=2).tolist() == list(range(9))
    assert len(probcover.select(x, x[:0], 5, classes=3, purity=0.0)) == 5


def test_probcover_says_when_the_graph_is_too_large(monkeypatch):
    monkeypatch.setattr(probcover, "MOST_PAIRS", 100)
    with pytest.raises(LabelwiseError, match="delta"):
        probcover.select(make("normal", 60, 3), make("normal", 2, 3), 5, delta=2.0)


# the core-set program


def covering_radius(x, known, chosen, spare) -> float:
    away = sorted(min((math.sqrt(squared(row, c)) for c in [*known, *x[list(chosen)]]), default=math.inf) for row in x)
    return away[len(x) - 1 - spare] if spare < len(x) else 0.0


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    ("n", "m", "budget", "outliers"), [(9, 2, 3, 0.0), (10, 0, 2, 0.0), (9, 1, 2, 0.12), (8, 0, 3, 0.3)]
)
def test_the_core_set_is_the_best_of_all_batches(kind, n, m, budget, outliers):
    for seed in range(3):
        both = make(kind, n + m, 2, seed)
        x, known, spare = both[m:], both[:m], int(outliers * n)
        best = min(covering_radius(x, known, batch, spare) for batch in itertools.combinations(range(n), budget))
        rows, why = coreset_milp.select(x, known, budget, outliers=outliers, explain=True)
        assert len(set(rows.tolist())) == budget
        assert covering_radius(x, known, rows, spare) == pytest.approx(best, rel=1e-12, abs=0)
        np.testing.assert_allclose(why["radius"], best, rtol=1e-12)
        np.testing.assert_allclose(why["bound"], best, rtol=1e-12)
        assert (why["greedy_radius"] >= why["radius"]).all()


def test_the_core_set_is_never_worse_than_greedy(monkeypatch):
    x, known = make("normal", 150, 4), make("normal", 5, 4, 1)
    greedy = kcenter.select(x, known, 12)
    rows, why = coreset_milp.select(x, known, 12, time_limit_s=0, explain=True)
    assert rows.tolist() == greedy.tolist() and why["radius"][0] == why["greedy_radius"][0]
    solve, limits = coreset_milp.optimize.milp, []
    spy = lambda *given, **more: limits.append(more["options"]["time_limit"]) or solve(*given, **more)  # noqa: E731
    monkeypatch.setattr(coreset_milp.optimize, "milp", spy)
    x, known = x[:60], known[:2]
    greedy = kcenter.select(x, known, 12)
    rows, why = coreset_milp.select(x, known, 12, time_limit_s=300, outliers=0.0, explain=True)
    assert max(limits) <= 150, "a step has half of the time left"
    assert covering_radius(x, known, rows, 0) == pytest.approx(why["radius"][0], rel=1e-12)
    assert why["bound"][0] <= why["radius"][0] < why["greedy_radius"][0]
    _, reasons = kcenter.select(x[rows], known, 12, explain=True)
    np.testing.assert_array_equal(why["score"], reasons["score"])
    monkeypatch.setattr(coreset_milp, "MOST_PAIRS", 10)
    assert coreset_milp.select(x, known, 12).tolist() == greedy.tolist()


def test_picks_that_the_program_leaves_over_go_to_the_farthest_rows():
    x = np.float32([[0], [1], [2], [10], [10], [10]])
    rows, why = coreset_milp.select(x, x[:0], 4, explain=True)
    assert why["radius"].tolist() == [0] * 4 and sorted(x[rows, 0].tolist()) == [0, 1, 2, 10]
    assert sorted(coreset_milp.select(make("identical", 5, 2), make("identical", 1, 2), 3).tolist()) == [0, 1, 2]


# all of them


@pytest.mark.parametrize("method", [typiclust, probcover, coreset_milp], ids=lambda m: m.__name__)
def test_features_are_checked(method):
    def call(features, labelled, budget=2):
        rng = (np.random.default_rng(0),) if method is typiclust else ()
        return method.select(features, labelled, budget, *rng)

    x = make("normal", 6, 3)
    for features, labelled in ((x, x[:, :2]), (x[0], x), (x.astype(int), x), (x, x[0]), (x[:, :0], x[:, :0])):
        with pytest.raises(LabelwiseError, match="features: "):
            call(features, labelled)
    for value in (np.nan, np.inf, 1e30):
        bad = x.copy()
        bad[4, 1] = value
        with pytest.raises(LabelwiseError, match=r"^features: row 4 has .* in column 1"):
            call(bad, x)
        with pytest.raises(LabelwiseError, match=r"^labelled_features: row 4\b"):
            call(x, bad)
    assert call(x, x, 0).shape == call(x[:0], x).shape == (0,)
    assert sorted(call(x, x[:0], 9)) == list(range(6))
    assert call(x.astype(np.float16), x.astype(np.float16)).shape == (2,)
    assert (
        call(np.asfortranarray(x), x[:0]).tolist() == call(x, x[:0]).tolist() == call(x.astype(float), x[:0]).tolist()
    )
    with pytest.raises(LabelwiseError, match="budget"):
        call(x, x, -1)


@pytest.mark.parametrize(
    ("method", "settings", "message"),
    [
        (typiclust, {"max_clusters": 0}, "max_clusters is 0"),
        (typiclust, {"neighbours": 0}, "neighbours is 0"),
        (typiclust, {"small": -1}, "small is -1"),
        (probcover, {"delta": -1.0}, "delta is -1"),
        (probcover, {"delta": math.nan}, "delta is nan"),
        (probcover, {"quantile": 1.5}, "quantile is 1.5"),
        (probcover, {"purity": math.nan}, "purity is nan"),
        (probcover, {"classes": 1}, "classes is 1"),
        (coreset_milp, {"outliers": 1.0}, "outliers is 1"),
        (coreset_milp, {"time_limit_s": -1.0}, "time_limit_s is -1"),
    ],
)
def test_settings_are_checked(method, settings, message):
    rng = (np.random.default_rng(0),) if method is typiclust else ()
    with pytest.raises(LabelwiseError, match=message):
        method.select(make("normal", 6, 3), make("normal", 2, 3), 2, *rng, **settings)
