"""MaxHerding: the picks of a plain loop over every row and reference row, also on degenerate input."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from labelwise.select import _coverage, herding, kcenter
from labelwise.select.typiclust import points
from labelwise.types import LabelwiseError

KINDS = ["normal", "lattice", "identical", "duplicates", "near duplicates", "offset", "clusters"]


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
    if kind == "clusters":
        x = 3 * x[rng.integers(0, 5, n) % n] + 0.1 * rng.standard_normal((n, columns))
    return (x + 1e3 * (kind == "offset")).astype(np.float32)


def slow(x, known, weight, width, budget) -> tuple[list[int], list[float]]:
    """The definition. `weight`: of the reference rows, by row."""
    wide, rows = x.astype(np.float64), np.array(sorted(weight))
    w = np.array([weight[row] for row in rows])
    away = ((wide[rows][:, None] - wide[None]) ** 2).sum(axis=-1)
    kernel = np.exp(-(1 / width**2) * away)
    covered = np.zeros(len(rows))
    for c in known.astype(np.float64):
        covered = np.maximum(covered, np.exp(-(1 / width**2) * ((wide[rows] - c) ** 2).sum(axis=1)))
    quantum, picks, gains = 2.0**-40 * float(w.sum()), [], []
    while len(picks) < min(budget, len(x)):
        gain = np.array([(w * np.maximum(kernel[:, row] - covered, 0)).sum() for row in range(len(x))])
        quanta = np.round(gain / quantum)
        quanta[picks] = -1
        row = int(quanta.argmax())
        if quanta[row] <= 0:
            break
        picks.append(row)
        gains.append(float(gain[row]))
        covered = np.maximum(covered, kernel[:, row])
    return picks, gains


def agree(x, known, budget, scores=None, reference=None, **given_settings) -> None:
    weighed = scores is not None
    rows, why = herding.select(
        scores if weighed else np.ones(len(x)), x, known, budget, weight="scores" if weighed else "even",
        reference=reference, explain=True, **given_settings,
    )  # fmt: skip
    m = min(len(x), reference or len(x))
    own = points(x, known, given_settings.get("normalise", True))
    weight = {int(i * len(x) // m): (float(scores[i * len(x) // m]) if weighed else 1.0) * len(x) / m for i in range(m)}
    want, gains = slow(*own, weight, why["width"][0], budget) if any(weight.values()) else ([], [])
    assert rows[: len(want)].tolist() == want
    scale = sum(weight.values())
    np.testing.assert_allclose(why["score"], gains + [0] * (len(rows) - len(want)), rtol=1e-9, atol=1e-11 * scale)
    assert len(set(rows.tolist())) == len(rows) == min(budget, len(x))
    assert (np.diff(why["covered"]) >= 0).all() and why["covered"].max(initial=0) <= 1 + 1e-9
    left = np.delete(np.arange(len(x)), want)
    rest = kcenter.select(own[0][left], np.concatenate([own[1], own[0][want]]), len(rows) - len(want))
    assert rows[len(want) :].tolist() == left[np.asarray(rest)].tolist(), "what adds nothing follows by distance"


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("n", "columns", "m", "budget"), [(60, 5, 6, 25), (50, 1, 0, 55), (1, 3, 0, 1), (1, 3, 2, 2)])
def test_the_picks_are_those_of_the_plain_loop(kind, n, columns, m, budget, monkeypatch):
    both = make(kind, n + m, columns)
    x, known = both[m:], both[:m]
    scores = np.random.default_rng(1).random(n) * (np.arange(n) % 5 > 0)
    for width in (1.0, 0.05, 4.0, "labelled", "median"):
        for normalise in (True, False):
            agree(x, known, budget, width=width, normalise=normalise)
            agree(x, known, budget, scores, 23, width=width, normalise=normalise)
    monkeypatch.setattr(_coverage, "CANDIDATE_BLOCK", 7)
    monkeypatch.setattr(_coverage, "REFERENCE_BLOCK", 5)
    monkeypatch.setattr(_coverage, "EXACT", 3)
    monkeypatch.setattr(_coverage, "FEW", 1)
    agree(x, known, budget, scores, width=1.0)
    agree(x, known, budget, width="median", normalise=False)


@settings(deadline=None, max_examples=60, derandomize=True)
@given(
    st.integers(1, 60), st.integers(1, 6), st.integers(0, 4), st.integers(1, 60), st.sampled_from(KINDS),
    st.sampled_from([0.01, 0.3, 1.0, 10.0, "labelled", "median"]), st.booleans(), st.integers(1, 80), st.integers(0, 9),
)  # fmt: skip
def test_any_small_pool_gives_the_picks_of_the_plain_loop(n, d, m, budget, kind, width, weigh, reference, seed):
    both = make(kind, n + m, d, seed)
    scores = np.random.default_rng(seed).integers(0, 3, n) / 2 if weigh else None
    agree(both[m:], both[:m], budget, scores, reference, width=width, normalise=bool(seed % 2))


def test_short_lists_and_loose_bounds_change_no_pick(monkeypatch):
    """Lists of a few rows, whose bounds run out at every pick."""
    made, init = make("clusters", 400, 4), _coverage.Coverage.__init__

    def shorter(self, *arrays):
        init(self, *arrays)
        self.length = 3

    monkeypatch.setattr(_coverage.Coverage, "__init__", shorter)
    agree(made, made[:3] + 1, 60)
    agree(make("duplicates", 200, 3), made[:0, :3], 60, width=0.2)


def test_the_first_picks_stay_for_every_budget_and_layout():
    x = make("normal", 120, 6)
    many = herding.select(np.ones(120), x, x[:2], 60)
    for budget in (0, 1, 7, 59):
        assert herding.select(np.ones(120), x, x[:2], budget).tolist() == many[:budget].tolist()
    for other in (np.asfortranarray(x), x.astype(np.float64)):
        assert herding.select(np.ones(120), other, x[:2].astype(other.dtype), 60).tolist() == many.tolist()
    assert sorted(herding.select(np.ones(120), x, x[:0], 999).tolist()) == list(range(120))


def test_the_width_is_the_smallest_distance_between_labelled_rows_that_are_no_copies():
    known = np.float32([[0, 0], [0, -0.0], [3, 4], [3, 6.5], [3, 4]])
    x = np.float32([[0, 0], [1, 0], [0, 2]])
    width = {}
    for rule in ("labelled", "median"):
        for m in (0, 1, 2, 5):
            why = herding.select(np.ones(3), x, known[:m], 1, width=rule, normalise=False, explain=True)[1]
            width[rule, m] = why["width"][0]
    assert [width["labelled", m] for m in (0, 1, 2, 5)] == [1, 1, 1, 2.5]
    assert {width["median", m] for m in (0, 1, 2, 5)} == {2.0}
    rng = np.random.default_rng(3)
    near = rng.standard_normal((200, 7)).astype(np.float32)
    distance = np.sqrt(((near[:, None].astype(float) - near[None]) ** 2).sum(axis=-1))[np.triu_indices(200, 1)]
    why = herding.select(np.ones(3), near[:3], near, 1, width="labelled", normalise=False, explain=True)[1]
    assert why["width"][0] == pytest.approx(distance.min(), rel=1e-12)


def test_weights_move_the_picks_and_zeros_leave_them_to_distance():
    x = make("clusters", 60, 3)
    group = ((x[:, None] - x[None]) ** 2).sum(axis=-1) < 4
    scores = np.where(group[7], 5.0, 0.01)
    assert group[7][herding.select(scores, x, x[:0], 1, weight="scores", normalise=False)[0]]
    none = herding.select(np.zeros(60), x, x[:2], 9, weight="scores", normalise=False)
    assert none.tolist() == np.asarray(kcenter.select(x, x[:2], 9)).tolist()
    assert herding.select(-scores, x, x[:2], 3).tolist() == herding.select(scores, x, x[:2], 3).tolist(), "not weighed"


def test_centred_rows_are_those_without_the_mean():
    x = make("normal", 80, 5) + np.float32(20)
    moved = (x - x.mean(axis=0, dtype=np.float64).astype(np.float32)).astype(np.float32)
    got = herding.select(np.ones(80), x, x[:3], 20, centre=True)
    known = x[:3] - x.mean(axis=0, dtype=np.float64).astype(np.float32)
    assert got.tolist() == herding.select(np.ones(80), moved, known, 20).tolist()
    assert got.tolist() != herding.select(np.ones(80), x, x[:3], 20).tolist()


def test_a_large_pool_is_covered_where_a_part_of_it_stands_for_all():
    x = make("normal", 9000, 3)
    rows, why = herding.select(np.ones(9000), x, x[:0], 40, explain=True)
    part = np.arange(4444) * 9000 // 4444
    kernel = np.exp(-((points(x, x[:0], True)[0][part][:, None] - points(x, x[:0], True)[0][rows][None]) ** 2).sum(-1))
    assert why["covered"][-1] == pytest.approx(kernel.max(axis=1).mean(), rel=1e-5)


def test_memory_stays_below_two_and_a_half_times_the_features(monkeypatch):
    import tracemalloc

    for name in ("CANDIDATE_BLOCK", "REFERENCE_BLOCK"):
        monkeypatch.setattr(_coverage, name, 64)
    monkeypatch.setattr(_coverage, "EXACT", 1 << 14)
    x = make("normal", 6000, 64)
    for reference in (None, 500):
        tracemalloc.start()
        herding.select(np.ones(len(x)), x, x[:0], 20, reference=reference)
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert peak <= 2.5 * x.nbytes, "the small blocks and columns of one number a row included"


@pytest.mark.parametrize(
    ("settings_given", "message"),
    [
        ({"width": 0.0}, "width is 0"),
        ({"width": math.nan}, "width is nan"),
        ({"width": "wide"}, "width is 'wide'"),
        ({"reference": 0}, "reference is 0"),
    ],
)
def test_settings_are_checked(settings_given, message):
    with pytest.raises(LabelwiseError, match=message):
        herding.select(np.ones(6), make("normal", 6, 3), make("normal", 2, 3), 2, **settings_given)


def test_inputs_are_checked():
    x = make("normal", 6, 3)
    for value in (np.nan, np.inf, 1e30):
        bad = x.copy()
        bad[4, 1] = value
        for centre in (False, True):
            with pytest.raises(LabelwiseError, match=r"^features: row 4 has .* in column 1"):
                herding.select(np.ones(6), bad, x, 2, centre=centre)
            with pytest.raises(LabelwiseError, match=r"^labelled_features: row 4\b"):
                herding.select(np.ones(6), x, bad, 2, centre=centre)
    for scores, message in ((np.float32([1, 2, -1, 0, 0, 0]), "row 2 is -1"), (np.full(6, np.nan), "row 0 is nan")):
        with pytest.raises(LabelwiseError, match=message):
            herding.select(scores, x, x, 2, weight="scores")
    with pytest.raises(LabelwiseError, match="one per row"):
        herding.select(np.ones(5), x, x, 2, weight="scores")
    with pytest.raises(LabelwiseError, match="budget"):
        herding.select(np.ones(6), x, x, -1)
    assert herding.select(np.ones(0), x[:0], x, 3).shape == (0,)
