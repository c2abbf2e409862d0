"""Selectors: the contract of every file in the folder, and fast code beside slow references."""

from __future__ import annotations

import importlib
import inspect
import math
from pathlib import Path

import numpy as np
import pytest
from fakes.menu import made

import labelwise.select
from labelwise.config.inputs import INPUTS
from labelwise.select import balance_frequency, balance_kcenter, diverse_prototype, top
from labelwise.select._order import significant
from labelwise.select._product import product
from labelwise.types import LabelwiseError

FOLDER = Path(labelwise.select.__file__).parent
MODULES = [importlib.import_module(f"labelwise.select.{p.stem}") for p in FOLDER.glob("*.py") if p.stem != "__init__"]
METHODS = sorted((m for m in MODULES if hasattr(m, "select")), key=lambda m: m.__name__)


def make_menu(n: int, budget: int, seed: int = 0, ties: bool = False) -> dict:
    menu = made("select", n, seed=seed, images=n + 5)
    menu |= {"budget": budget, "target": menu["target"] + budget / 5, "videos": np.sort(menu["videos"])}
    return menu | ({"scores": np.random.default_rng(seed).integers(0, 4, n) / 4} if ties else {})


def inputs(method) -> list[str]:
    parameters = inspect.signature(method.select).parameters.values()
    return [p.name for p in parameters if p.kind is p.POSITIONAL_OR_KEYWORD]


def call(method, menu: dict, **settings):
    return method.select(*(menu[name] for name in inputs(method)), **settings)


def reference(scores, budget) -> list[int]:
    """Highest score first, ties by the lower row."""
    return sorted(range(len(scores)), key=lambda row: (-scores[row], row))[:budget]


def weighted(menu: dict, sigma: float = 1.0) -> list[float]:
    """Eq. 1 of 000, row by row."""
    pairs = zip(menu["scores"], menu["labels"], strict=True)
    return [float(u) * math.exp(-float(menu["frequency"][label]) / sigma) for u, label in pairs]


@pytest.mark.parametrize("method", METHODS, ids=lambda m: m.__name__)
def test_contract(method):
    assert set(inputs(method)) <= set(INPUTS["select"]) and "budget" in inputs(method)
    assert "Source:" in method.__doc__ and "Fails when:" in method.__doc__
    assert ">>>" in method.__doc__ + (method.select.__doc__ or "")
    for n, budget in ((60, 7), (60, 60), (60, 61), (60, 0), (0, 5), (1, 1)):
        rows = call(method, make_menu(n, budget))
        assert rows.dtype == np.int64 and rows.shape == (min(n, budget),)
        assert len(set(rows.tolist())) == len(rows) and all(0 <= r < n for r in rows)
        explained, reasons = call(method, make_menu(n, budget), explain=True)
        assert explained.tolist() == rows.tolist(), "same input, same picks"
        assert "score" in reasons and all(r.shape == rows.shape for r in reasons.values())
    for budget in (-1, 2.5):
        with pytest.raises(LabelwiseError, match="budget"):
            call(method, make_menu(10, budget))
    if "scores" not in inputs(method):
        return
    menu = make_menu(30, 5)
    menu["scores"][17] = np.nan
    with pytest.raises(LabelwiseError, match=r"row 17\b"):
        call(method, menu)


@pytest.mark.parametrize("method", [top, balance_frequency], ids=lambda m: m.__name__)
def test_picks_do_not_depend_on_the_order_of_the_rows(method):
    menu, moved = make_menu(80, 30), np.random.default_rng(1).permutation(80)
    picks = call(method, menu)
    menu.update(scores=menu["scores"][moved], labels=menu["labels"][moved])
    assert moved[call(method, menu)].tolist() == picks.tolist()


@pytest.mark.parametrize("ties", [False, True])
@pytest.mark.parametrize(("n", "budget"), [(500, 3), (500, 62), (500, 63), (500, 499), (500, 900), (8, 1), (0, 3)])
def test_against_the_slow_reference(n, budget, ties):
    for seed in range(5):
        menu = make_menu(n, budget, seed, ties)
        assert call(top, menu).tolist() == reference(menu["scores"].tolist(), budget)
        for sigma in (1.0, 0.1):
            rows = call(balance_frequency, menu, sigma=sigma)
            assert rows.tolist() == reference(weighted(menu, sigma), budget)


def test_balance_explains_itself_and_a_small_sigma_prefers_rare_classes():
    menu = make_menu(40, 40)
    rows, why = call(balance_frequency, menu, sigma=0.5, explain=True)
    np.testing.assert_allclose(why["informativeness"] * why["factor"], why["score"])
    np.testing.assert_allclose(why["factor"], np.exp(-why["frequency"] / 0.5))
    np.testing.assert_allclose(why["score"], np.array(weighted(menu, 0.5))[rows])
    menu["scores"][:] += 1  # with a tiny sigma, the class alone decides
    rare_first = call(balance_frequency, menu, sigma=1e-3)
    assert (np.diff(menu["frequency"][menu["labels"][rare_first]]) >= 0).all()


def test_without_known_frequencies_balance_is_top():
    menu = make_menu(40, 10)
    menu["frequency"][:] = 0
    assert call(balance_frequency, menu).tolist() == call(top, menu).tolist()


@pytest.mark.parametrize(
    ("change", "settings", "message"),
    [
        ({}, {"sigma": 0.0}, "sigma"),
        ({}, {"sigma": math.nan}, "sigma"),
        ({"labels": np.array([0, 9, 1])}, {}, "row 1 is class 9"),
        ({"labels": np.array([0, -1, 1])}, {}, "row 1 is class -1"),
        ({"labels": np.array([0, 1])}, {}, "labels"),
        ({"scores": np.array([0.5, 0.5, -0.1])}, {}, "row 2"),
        ({"frequency": np.array([0.5, math.nan])}, {}, "class 1"),
        ({"frequency": np.array([0.9, 0.9])}, {}, "sums to 1.8"),
    ],
)
def test_balance_refuses_bad_input(change, settings, message):
    menu = {"scores": np.ones(3), "labels": np.array([0, 1, 1]), "frequency": np.array([0.3, 0.7]), "budget": 2}
    with pytest.raises(LabelwiseError, match=message):
        call(balance_frequency, menu | change, **settings)


def test_the_balance_of_an_image_is_the_mean_factor_of_its_boxes():
    frequency = np.array([0.7, 0.3])
    mix = np.array([[1.0, 0.0], [0.25, 0.75], [0.0, 0.0]])
    rows, why = balance_frequency.select(np.ones(3), mix, frequency, 3, explain=True)
    assert rows.tolist() == [2, 1, 0]
    expected = [1.0, 0.25 * math.exp(-0.7) + 0.75 * math.exp(-0.3), math.exp(-0.7)]
    np.testing.assert_allclose(why["factor"], expected)
    one_hot = np.eye(5)[np.array([3, 1, 4])]
    menu = make_menu(3, 3)
    boxes = balance_frequency.select(menu["scores"], np.array([3, 1, 4]), menu["frequency"], 3)
    assert boxes.tolist() == balance_frequency.select(menu["scores"], one_hot, menu["frequency"], 3).tolist()
    for bad in (mix * 2, -mix, mix[:, :1]):
        with pytest.raises(LabelwiseError, match="labels: "):
            balance_frequency.select(np.ones(3), bad, frequency, 3)


@pytest.mark.parametrize("method", METHODS, ids=lambda m: m.__name__)
def test_a_stable_selector_picks_the_same_first_rows_for_every_budget(method):
    assert isinstance(method.PREFIX_STABLE, bool)
    if method.PREFIX_STABLE:
        many = call(method, make_menu(60, 40))
        for budget in (1, 7, 39):
            assert call(method, make_menu(60, budget)).tolist() == many[:budget].tolist()


@pytest.mark.parametrize("method", [m for m in METHODS if getattr(m, "IN_PARTS", False)], ids=lambda m: m.__name__)
@pytest.mark.parametrize("seed", range(5))
def test_the_picks_of_all_are_those_of_the_picks_of_parts(method, seed):
    rng, menu = np.random.default_rng(seed), make_menu(90, 12)
    menu["scale"] = rng.integers(0, 3, 90)
    menu["scores"] = np.where(rng.random(90) < 0.5, menu["scores"].round(1), menu["scores"])  # with ties
    of_rows = [name for name in inputs(method) if INPUTS["select"][name].axis == "candidates"]

    def pick(rows: np.ndarray) -> np.ndarray:
        return rows[call(method, menu | {name: menu[name][rows] for name in of_rows})]

    parts = [pick(part) for part in np.array_split(np.arange(90), [3, 40, 41])]
    assert [len(part) for part in parts] == [3, 12, 1, 12]
    assert pick(np.sort(np.concatenate(parts))).tolist() == pick(np.arange(90)).tolist()


def test_scores_that_only_the_order_of_a_sum_tells_apart_are_equal():
    one = np.array([0.1, 0.2, 0.3, 0.4, 0.7])
    sums = np.array([sum(one), sum(one[::-1]), one[[0, 2, 4, 1, 3]].sum(), one[[4, 0, 1, 2, 3]].sum()])
    sums = np.append(sums, np.nextafter(sums[0], 9))
    assert len(set(sums.tolist())) > 1, "else this shows nothing"
    assert top.select(sums, 5).tolist() == [0, 1, 2, 3, 4]
    assert top.select(np.append(sums, sums[0] * (1 + 1e-9)), 2).tolist() == [5, 0]
    values = np.random.default_rng(0).standard_normal(1000) * 10.0 ** np.arange(-150, 150, 0.3)
    np.testing.assert_allclose(significant(values), values, rtol=2.0**-40)
    np.testing.assert_array_equal(significant(-values), -significant(values))
    assert significant(np.array([0.0, -0.0, 3.0], np.float32)).tolist() == [0, 0, 3]


def test_a_flag_that_the_processor_raises_falsely_is_no_warning():
    # OpenBLAS' SkylakeX kernel multiplies memory of its stack that nobody wrote, and drops the result
    with np.errstate(invalid="warn"):
        assert np.isnan(product(np.full((1, 5), np.inf), np.zeros((5, 1)))).all()


def test_a_cosine_on_the_threshold_is_similar():
    feature = np.full((3, 37), 0.1, np.float32) * np.float32([[1], [3], [7]])  # the same direction: a cosine of 1
    given = (np.array([3.0, 2, 1]), np.arange(4), np.array([[0.25, 0.75]] * 3), np.full(3, 0.75), feature)
    reasons = diverse_prototype.select(*given, np.array([9, 1]), 2, intra=1.0, explain=True)[1]
    assert reasons["quota"].tolist() == [1, 0], "the second is filled up by score, not picked as different"


def test_costs_that_only_rounding_tells_apart_are_a_tie():
    # rows at one distance from the centre, in directions that round differently: the lower one whatever its last bits
    turn = np.linspace(0.1, 1.4, 50)
    x, probs = np.column_stack([np.cos(turn), np.sin(turn)]) * 0.7, np.full((50, 2), 0.5)
    assert len(set((x**2).sum(axis=1).tolist())) > 1, "else this shows nothing"
    for order in (np.arange(50), np.random.default_rng(0).permutation(50)):
        picks = balance_kcenter.select(x[order], np.zeros((1, 2)), probs, np.ones(2), 1)
        assert picks.tolist() == [0]
