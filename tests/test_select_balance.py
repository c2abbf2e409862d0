"""Class-balanced selection: the program beside brute force, greedy k-center beside the plain loop of Algorithm 2."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import linprog

from labelwise.select import balance_kcenter, balance_program, kcenter, top
from labelwise.select._balance_target import l1_score, propose_lambda, target
from labelwise.types import LabelwiseError

NONE = np.zeros((0, 1))
NORMS = ["l1", "l2", "wasserstein"]


def make(n: int, classes: int, seed: int = 0, sharp: float = 2.0, tail: float = 1.0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    logits = sharp * rng.standard_normal((n, classes)) + np.log(np.geomspace(1, tail, classes))
    probs = np.exp(logits - logits.max(axis=1, keepdims=True))
    probs /= probs.sum(axis=1, keepdims=True)
    return -(probs * np.log(probs)).sum(axis=1), probs.astype(np.float32)


def distance(residual: np.ndarray, norm: str) -> float:
    """The three norms by their definitions."""
    if norm == "l2":
        return sum(float(r) ** 2 for r in residual)
    if norm == "l1":
        return sum(abs(float(r)) for r in residual)
    return sum(abs(math.fsum(residual[: c + 1])) for c in range(len(residual)))


def objective(rows, scores, probs, omega, lam, norm="l1") -> float:
    fill = probs[list(rows)].astype(np.float64).sum(axis=0)
    return lam * distance(omega - fill, norm) - math.fsum(scores[list(rows)])


def brute(scores, probs, omega, budget, lam, norm="l1") -> float:
    choices = itertools.combinations(range(len(scores)), min(budget, len(scores)))
    return min(objective(rows, scores, probs, omega, lam, norm) for rows in choices)


def one_hot(probs: np.ndarray) -> np.ndarray:
    return np.eye(probs.shape[1])[probs.argmax(axis=1)]


def slow_kcenter(features, labelled, probs, omega, budget, lam) -> tuple[list[int], list[float]]:
    """Algorithm 2, line by line."""
    x, p = features.astype(np.float64), probs.astype(np.float64)
    centres, picks, costs, left = [row.astype(np.float64) for row in labelled], [], [], omega.astype(np.float64)
    while len(picks) < min(budget, len(x)):
        best = (math.inf, -1)
        for row in sorted(set(range(len(x))) - set(picks)):
            nearest = math.sqrt(min((((x[row] - c) ** 2).sum() for c in centres), default=0.0))
            cost = lam * np.abs(left - p[row]).sum() - nearest
            if cost < best[0]:
                best = (cost, row)
        costs.append(-best[0])
        picks.append(best[1])
        left = left - p[best[1]]
        centres.append(x[best[1]])
    return picks, costs


def test_the_target_is_the_share_of_all_labels_after_the_round():
    assert target(np.full(5, 10), 20).tolist() == [4.0] * 5  # Eq. 4.5: b / C
    # b0 = 9, b = 3, cycle c = 3, so that 9 + 2 * 3 are labelled: max((3 * 3 + 9) / 3 - n, 0)
    assert target(np.array([9, 4, 2]), 3).tolist() == [0.0, 2.0, 4.0]
    assert target(np.array([2.5, 0.5]), 0).tolist() == [0.0, 1.0]
    for counts, message in ((np.array([1, -1]), "class 1 is -1"), (np.array([np.nan]), "class 0"), (np.ones(0), "per")):
        with pytest.raises(LabelwiseError, match=message):
            target(counts, 3)
        with pytest.raises(LabelwiseError, match=message):
            l1_score(counts)
    with pytest.raises(LabelwiseError, match="budget"):
        target(np.ones(2), -1)


def test_the_l1_score_runs_from_0_to_1():
    assert l1_score(np.array([0, 7, 0, 0])) == pytest.approx(1)
    assert l1_score(np.full(4, 3)) == l1_score(np.zeros(3)) == l1_score(np.array([5])) == 0
    # 3, 2, 1 of 6: |3 - 2| + 0 + |1 - 2| = 2 of 2 * 6 * 2 / 3 = 8
    assert l1_score(np.array([3, 2, 1])) == pytest.approx(0.25)


@settings(max_examples=150, deadline=None)
@given(data=st.data())
def test_the_program_is_bounded_below_and_near_brute_force(data):
    n, classes = data.draw(st.tuples(st.integers(1, 10), st.integers(1, 4)))
    budget, seed = data.draw(st.tuples(st.integers(0, n + 1), st.integers(0, 99)))
    norm, lam = data.draw(st.sampled_from(NORMS)), data.draw(st.sampled_from([0.0, 1e-9, 0.3, 2.0, 100.0]))
    scores, probs = make(n, classes, seed)
    if data.draw(st.booleans()):  # ties and twins
        probs, scores = one_hot(np.round(probs, 1)), np.round(scores)
    if data.draw(st.booleans()):
        twin = np.arange(n) // 2
        probs, scores = probs[twin], scores[twin]
    omega = data.draw(st.sampled_from([np.full(classes, min(budget, n) / classes), np.arange(classes) * 1.0]))
    found = balance_program.solve(scores, probs, omega, budget, lam=lam, norm=norm)
    least = brute(scores, probs, omega, budget, lam, norm)
    assert found.objective == pytest.approx(objective(found.rows, scores, probs, omega, lam, norm), abs=1e-9)
    assert found.bound <= least + 1e-7 * (1 + lam)
    assert found.objective >= least - 1e-7 * (1 + lam)
    hard = balance_program.solve(scores, probs, omega, budget, lam=lam, norm=norm, pseudo_labels=True)
    least = brute(scores, one_hot(probs), omega, budget, lam, norm)
    assert hard.objective >= least - 1e-7 * (1 + lam)
    if norm != "wasserstein":
        assert hard.objective == pytest.approx(least, abs=1e-7 * (1 + lam))
        assert hard.gap == 0


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("lam", [0.2, 0.7, 3.0])
def test_the_program_equals_brute_force_on_small_cases(norm, lam):
    for seed in range(25):
        scores, probs = make(12, 3, seed, tail=0.3)
        omega = np.array([2.0, 1.0, 1.0])
        got = balance_program.solve(scores, probs, omega, 4, lam=lam, norm=norm)
        least = brute(scores, probs, omega, 4, lam, norm)
        assert got.objective == pytest.approx(least, abs=1e-9)
        assert got.gap == 0 and got.bound == got.objective


def test_more_rows_than_can_be_tried_stay_within_the_gap():
    for seed in range(5):
        scores, probs = make(16, 4, seed)
        got = balance_program.solve(scores, probs, np.full(4, 1.5), 6, lam=1.0)
        least = brute(scores, probs, np.full(4, 1.5), 6, 1.0)
        assert got.bound <= least + 1e-9 <= got.objective + 2e-9


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize(("classes", "tail"), [(10, 1.0), (10, 0.01), (30, 0.01)])
def test_the_gap_is_small_and_the_bound_is_that_of_the_whole_lp(norm, classes, tail):
    scores, probs = make(3000, classes, 1, tail=tail)
    omega = np.full(classes, 300 / classes)
    got = balance_program.solve(scores, probs, omega, 300, lam=0.3, norm=norm)
    assert got.objective == pytest.approx(objective(got.rows, scores, probs, omega, 0.3, norm), rel=1e-9)
    assert 0 <= got.gap < (2e-3 if norm != "wasserstein" else 1e-2)
    if norm == "l1":
        n, p = len(scores), probs.astype(np.float64)
        a = np.block([[p.T, np.eye(classes), -np.eye(classes)], [np.ones((1, n)), np.zeros((1, 2 * classes))]])
        cost = np.concatenate([-scores, np.full(2 * classes, 0.3)])
        limits = [(0, 1)] * n + [(0, None)] * (2 * classes)
        whole = linprog(cost, A_eq=a, b_eq=np.append(omega, 300), bounds=limits, method="highs")
        assert got.bound == pytest.approx(whole.fun, rel=1e-7)
        assert got.balance_term < balance_program.solve(scores, probs, omega, 300, lam=0.0).balance_term


def test_pseudo_labels_are_the_program_with_certain_classes():
    scores, probs = make(400, 6, 3, tail=0.1)
    omega = np.full(6, 8.5)
    for norm in NORMS:
        hard = balance_program.solve(scores, probs, omega, 51, lam=0.4, norm=norm, pseudo_labels=True)
        sure = balance_program.solve(scores, one_hot(probs), omega, 51, lam=0.4, norm=norm)
        assert hard.objective == pytest.approx(sure.objective, rel=1e-4)
        assert hard.objective <= sure.objective + 1e-9
        assert hard.fill.tolist() == np.bincount(probs[hard.rows].argmax(axis=1), minlength=6).tolist()


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_scores_decide_alone_where_the_balance_term_cannot(dtype):
    scores, probs = make(300, 4)
    probs = probs.astype(dtype)
    best = top.select(scores, 20).tolist()
    too_much = balance_program.solve(scores, probs, np.full(4, 21.0), 20, lam=5.0)
    assert too_much.rows.tolist() == best and too_much.deciding == "score"
    assert too_much.balance_constant and "sums to 84, the budget is 20" in too_much.note
    nothing_wanted = balance_program.solve(scores, probs, np.zeros(4), 20, lam=5.0)
    assert nothing_wanted.rows.tolist() == best and nothing_wanted.balance_constant
    for lam in (0.0, 1e-12, 1e-300):
        found = balance_program.solve(scores, probs, np.full(4, 5.0), 20, lam=lam)
        assert found.rows.tolist() == best and found.deciding == "score" and not found.balance_constant
        assert found.gap < 1e-9
    everything = balance_program.solve(scores, probs, np.full(4, 5.0), 999, lam=1.0)
    assert len(everything.rows) == 300 and everything.note == "the budget leaves no choice"


@pytest.mark.parametrize("lam", [1e3, 1e7, 1e12, 1e100])
def test_a_large_lambda_leaves_the_balance(lam):
    scores, probs = make(500, 4, tail=0.05)
    omega = np.full(4, 10.0)
    found = balance_program.solve(scores, probs, omega, 40, lam=lam)
    moderate = balance_program.solve(scores, probs, omega, 40, lam=1.0)
    assert found.balance_term <= moderate.balance_term + 1e-9
    assert found.bound <= found.objective and np.isfinite(found.gap)
    assert found.deciding == ("balance" if lam > 1e6 * np.ptp(scores) else "both")
    alike = balance_program.solve(np.full(500, 3.0), probs, omega, 40, lam=0.1)
    assert alike.deciding == "balance"


def test_of_twins_the_lower_row_is_picked_and_the_higher_score():
    scores, probs = make(60, 3, 5)
    twin = np.random.default_rng(0).permutation(np.repeat(np.arange(60), 3))
    for norm in NORMS:
        rows = balance_program.select(scores[twin], probs[twin], np.full(3, 10.0), 30, lam=0.5, norm=norm)
        for row in rows:
            lower = [r for r in range(row) if twin[r] == twin[row]]
            assert set(lower) <= set(rows.tolist())
    same = np.full((50, 2), 0.5)
    assert balance_program.select(np.ones(50), same, np.full(2, 3.0), 6).tolist() == [0, 1, 2, 3, 4, 5]
    rising = np.arange(50) / 50
    assert balance_program.select(rising, same, np.full(2, 3.0), 3).tolist() == [49, 48, 47]
    assert balance_program.select(np.array([0.1, 0.9]), np.ones((2, 1)), np.array([5.0]), 1).tolist() == [1]


def test_picks_come_by_falling_score_with_reasons_that_add_up():
    scores, probs = make(300, 5, 2, tail=0.1)
    before, omega = probs.copy(), target(np.array([30, 20, 10, 5, 1]), 20)
    rows, why = balance_program.select(scores, probs, omega, 20, lam=0.7, explain=True)
    assert (np.diff(why["score"]) <= 0).all() and why["score"].tolist() == scores[rows].tolist()
    whole = objective(rows, scores, probs, omega, 0.7)
    for i, row in enumerate(rows):
        rest = [r for r in rows if r != row]
        without = objective(rest, scores, probs, omega, 0.7) - scores[row]
        assert why["balance"][i] == pytest.approx(without - whole, abs=1e-6)
    found = balance_program.solve(scores, probs, omega, 20, lam=0.7)
    assert set(why["objective"]) == {found.objective} and set(why["gap"]) == {found.gap}
    np.testing.assert_array_equal(probs, before)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"lam": -1.0}, "lam is -1"),
        ({"lam": math.nan}, "lam is nan"),
        ({"target": np.array([1.0, -2.0])}, "class 1 is -2"),
        ({"target": np.array([math.inf, 1.0])}, "class 0 is inf"),
        ({"target": np.ones(3)}, "target: expected"),
        ({"probs": np.array([[0.5, 0.5], [0.5, 0.6], [1.0, 0.0]])}, "probs: row 1 is not"),
        ({"probs": np.array([[0.5, 0.5], [1.5, -0.5], [1.0, 0.0]])}, "probs: row 1 is not"),
        ({"probs": np.array([[0.5, 0.5], [0.5, 0.5], [math.nan, 0.0]])}, "probs: row 2 is not"),
        ({"probs": np.ones((2, 2))}, "probs: expected"),
        ({"probs": np.ones((3, 2), int)}, "probs: expected"),
    ],
)
def test_what_cannot_be_balanced_is_refused(change, message):
    menu = {"probs": np.full((3, 2), 0.5), "target": np.ones(2), "lam": 1.0} | change
    with pytest.raises(LabelwiseError, match=message):
        balance_program.select(np.ones(3), menu["probs"], menu["target"], 2, lam=menu["lam"])
    with pytest.raises(LabelwiseError, match=message):
        balance_kcenter.select(np.ones((3, 1)), NONE, menu["probs"], menu["target"], 2, lam=menu["lam"])


def test_an_unknown_norm_is_refused():
    with pytest.raises(LabelwiseError, match="norm is 'l3'"):
        balance_program.solve(np.ones(3), np.full((3, 2), 0.5), np.ones(2), 2, norm="l3")


def test_lambda_is_the_smallest_after_which_the_distance_does_not_diminish():
    scores, probs = make(2000, 5, 4, tail=0.05)
    omega = target(np.full(5, 10), 100)
    found = propose_lambda(scores, probs, omega, 100, lams=(3.0, 0.05, 0.2, 0.5, 1.0, 2.0))
    assert found.lams.tolist() == [0.05, 0.2, 0.5, 1.0, 2.0, 3.0]
    # greater lambda, lower entropy and distance (Fig. 4.4): add up what the two solutions say of each other, each
    # being within its gap of the least objective
    objective = found.lams * found.distance - found.informativeness
    gap = np.abs(objective) * found.gap / (1 - found.gap) + 1e-9
    nearer = (gap[:-1] + gap[1:]) / np.diff(found.lams)
    assert (np.diff(found.distance) <= nearer).all()
    assert (np.diff(found.informativeness) <= gap[:-1] + found.lams[:-1] * nearer).all()
    assert found.informativeness[-1] < found.informativeness[0] - 0.5 and found.distance[-1] < found.distance[0] - 1
    np.testing.assert_allclose(found.l1, found.distance / 160, rtol=1e-5)  # 2 · 100 · 4 / 5
    at = found.lams.tolist().index(found.proposed)
    slack = 0.01 * (found.top[1] - found.distance.min())
    assert found.distance[at] <= found.distance.min() + slack
    assert (found.distance[:at] > found.distance.min() + slack).all()
    assert found.top[0] >= found.informativeness.max() - 1e-9
    assert found.top[1] >= found.distance.max() - 1e-9
    assert found.pseudo[1] >= found.distance.min() - 1e-9
    with pytest.raises(LabelwiseError, match="lams is empty"):
        propose_lambda(scores, probs, omega, 100, lams=())


@pytest.mark.parametrize("kind", ["normal", "lattice", "duplicates", "identical", "one class", "certain"])
@pytest.mark.parametrize(("n", "labelled", "budget"), [(60, 5, 25), (40, 0, 40), (30, 3, 45), (1, 0, 1)])
def test_kcenter_makes_the_picks_of_algorithm_2(kind, n, labelled, budget, monkeypatch):
    for lam, batch, seed in itertools.product((0.0, 0.5, 20.0), (256, 3), range(2)):
        monkeypatch.setattr(balance_kcenter, "BATCH", batch)
        monkeypatch.setattr(balance_kcenter, "BLOCK", 50 if batch == 3 else 1 << 22)
        rng = np.random.default_rng(seed)
        both, (_, probs) = rng.standard_normal((n + labelled, 4)).astype(np.float32), make(n, 5, seed, tail=0.1)
        if kind == "lattice":
            both, probs = rng.integers(0, 3, both.shape).astype(np.float32), one_hot(probs)
        if kind == "duplicates":
            both, probs = both[rng.integers(0, n // 4 + 1, len(both))], probs[np.arange(n) // 4]
        if kind == "identical":
            both, probs = np.full_like(both, 0.1), np.full((n, 5), 0.2, np.float32)
        if kind == "one class":
            probs = np.ones((n, 1), np.float32)
        if kind == "certain":
            probs = one_hot(probs)
        omega = np.full(probs.shape[1], min(n, budget) / probs.shape[1])
        want, costs = slow_kcenter(both[labelled:], both[:labelled], probs, omega, budget, lam)
        rows, why = balance_kcenter.select(
            both[labelled:], both[:labelled], probs, omega, budget, lam=lam, explain=True
        )
        assert rows.tolist() == want
        np.testing.assert_allclose(why["score"], costs, atol=1e-12)
        np.testing.assert_allclose(why["score"], why["distance"] - lam * why["balance"])


def test_a_grid_at_whose_end_the_distance_still_falls_goes_on():
    scores, probs = make(2000, 5, 4, tail=0.05)
    omega = target(np.full(5, 10), 100)
    short = propose_lambda(scores, probs, omega, 100, lams=(0.005, 0.01))
    assert short.lams.tolist()[:3] == [0.005, 0.01, 0.02] and len(short.lams) == 7
    assert short.still_falling == (short.proposed == short.lams[-1])
    assert short.still_falling and (np.diff(short.distance) <= 0).any()
    whole = propose_lambda(scores, probs, omega, 100)
    assert not whole.still_falling and whole.proposed < whole.lams[-1]
    flat = propose_lambda(scores, np.full_like(probs, 0.2), omega, 100, lams=(0.5,))
    assert flat.lams.tolist() == [0.5] and not flat.still_falling


def test_kcenter_without_lambda_is_kcenter_and_with_it_balances():
    rng, (_, probs) = np.random.default_rng(0), make(800, 8, 0, tail=0.02)
    x = rng.standard_normal((850, 12), dtype=np.float32)
    plain = balance_kcenter.select(x[50:], x[:50], probs, np.full(8, 10.0), 80, lam=0.0)
    assert plain.tolist() == kcenter.select(x[50:], x[:50], 80).tolist()
    rows = balance_kcenter.select(x[50:], x[:50], probs, np.full(8, 10.0), 80, lam=5.0)
    assert l1_score(probs[rows].sum(axis=0)) < 0.7 * l1_score(probs[plain].sum(axis=0))


def test_kcenter_names_the_bad_feature():
    x, p = np.ones((4, 2)), np.full((4, 2), 0.5)
    x[2, 1] = np.nan
    with pytest.raises(LabelwiseError, match=r"^features: row 2\b"):
        balance_kcenter.select(x, np.ones((1, 2)), p, np.ones(2), 2)
    with pytest.raises(LabelwiseError, match=r"^labelled_features: row 2\b"):
        balance_kcenter.select(np.ones((4, 2)), x, p, np.ones(2), 2)
    with pytest.raises(LabelwiseError, match="labelled_features: expected"):
        balance_kcenter.select(np.ones((4, 2)), np.ones((1, 3)), p, np.ones(2), 2)
