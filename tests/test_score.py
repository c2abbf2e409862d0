"""Scores: the contract of every file in the folder, and fast code beside slow references."""

from __future__ import annotations

import importlib
import inspect
from pathlib import Path

import numpy as np
import pytest
from fakes.menu import SIZES, distributions, made
from scipy.special import entr, rel_entr

import labelwise.score
from labelwise.config.inputs import INPUTS
from labelwise.score import _rows, consistency, entropy, least_confidence, margin
from labelwise.types import LabelwiseError

FOLDER = Path(labelwise.score.__file__).parent
MODULES = [importlib.import_module(f"labelwise.score.{p.stem}") for p in FOLDER.glob("*.py") if p.stem != "__init__"]
METHODS = sorted((m for m in MODULES if hasattr(m, "score")), key=lambda m: m.__name__)
MENU = INPUTS["score"]
OF_CLASSIFIERS = {name for name, row in MENU.items() if row.task == "classification"}
"""A method that names one of these looks at no box; its contract is in test_classification.py."""
METHODS = [m for m in METHODS if not OF_CLASSIFIERS & set(inspect.signature(m.score).parameters)]
IMAGES = SIZES["images"]


def make_menu(n: int, classes: int = 5, views: int = 3, seed: int = 0) -> dict:
    return made("score", n, classes, seed, V=views)


def per_image(method) -> bool:
    return any(MENU[name].of_images for name in inputs(method))


def inputs(method) -> list[str]:
    parameters = inspect.signature(method.score).parameters.values()
    return [p.name for p in parameters if p.kind is p.POSITIONAL_OR_KEYWORD]


def call(method, menu: dict) -> np.ndarray:
    return method.score(*(menu[name] for name in inputs(method)))


def reordered(menu: dict, rows: np.ndarray) -> dict:
    """The boxes in another order."""
    per_box = [row for row in MENU.values() if row.axis == "boxes"]
    return menu | {row.name: menu[row.name].take(rows, row.position) for row in per_box}


def test_the_folder_holds_the_methods_of_the_issue():
    names = {m.__name__.rsplit(".", 1)[1] for m in METHODS}
    assert names >= {"random", "least_confidence", "entropy", "margin", "consistency"}


@pytest.mark.parametrize("method", METHODS, ids=lambda m: m.__name__)
def test_contract(method, monkeypatch):
    assert set(inputs(method)) <= set(MENU)
    assert "Source:" in method.__doc__ and "Fails when:" in method.__doc__
    assert ">>>" in method.__doc__ + (method.score.__doc__ or "")
    menu, n = make_menu(97), IMAGES if per_image(method) else 97
    before = {k: v.copy() for k, v in menu.items() if isinstance(v, np.ndarray)}
    got = call(method, menu)
    assert got.shape == (n,) and got.dtype == np.float64 and np.isfinite(got).all() and (got >= 0).all()
    assert all((menu[k] == v).all() for k, v in before.items()), "an input was changed"
    assert call(method, make_menu(0)).shape == (IMAGES if per_image(method) else 0,)
    assert call(method, make_menu(4, classes=1)).shape == (IMAGES if per_image(method) else 4,)
    if not per_image(method) and "rng" not in inputs(method):
        rows = np.random.default_rng(1).permutation(97)
        np.testing.assert_allclose(call(method, reordered(menu, rows)), got[rows], rtol=1e-6, atol=1e-6)
        monkeypatch.setattr(_rows, "BLOCK", 7)  # many blocks, the last one short
        np.testing.assert_allclose(call(method, menu), got, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize(
    ("method", "name"),
    [
        (m, k)
        for m in METHODS
        for k in inputs(m)
        if MENU[k].axis != "whole" and MENU[k].values not in ("class", "offsets")
    ],
    ids=str,
)
@pytest.mark.parametrize("value", [np.nan, -0.5, np.inf, 1.5])
def test_a_bad_row_is_named(method, name, value):
    menu = make_menu(50)
    menu["view_iou"][:, 41] = 1
    menu[name] = menu[name].astype(np.float64) if MENU[name].values == "count" else menu[name]
    bad = 4 if MENU[name].of_images else 41
    at = (1, bad) if MENU[name].axis == "boxes" and MENU[name].position else bad
    menu[name][at] = value
    if (MENU[name].values == "number" and np.isfinite(value)) or (MENU[name].values == "amount" and value == 1.5):
        assert np.isfinite(call(method, menu)).all(), "any number is a feature, and a loss may be above 1"
        return
    with pytest.raises(LabelwiseError, match=rf"\b{bad}\b"):
        call(method, menu)


def test_rows_that_disagree_or_do_not_sum_to_one_are_refused():
    menu = make_menu(6)
    with pytest.raises(LabelwiseError, match="sums to 2"):
        entropy.score(menu["probs"] * 2)
    with pytest.raises(LabelwiseError, match="shape"):
        consistency.score(*(menu[k][:5] if k == "scores" else menu[k] for k in inputs(consistency)))
    with pytest.raises(LabelwiseError, match="no views"):
        call(consistency, make_menu(6, views=0))
    for settings in ({"beta": np.nan}, {"beta": 3.0}, {"base": "10"}):
        with pytest.raises(LabelwiseError, match="expected"):
            consistency.score(*(menu[k] for k in inputs(consistency)), **settings)


@pytest.mark.parametrize("classes", [2, 3, 20])
def test_scores_of_the_distribution_against_references(classes):
    probs = distributions(np.random.default_rng(3), 200, classes)
    np.testing.assert_allclose(entropy.score(probs), entr(probs.astype(float)).sum(axis=1), atol=1e-6)
    two_best = np.sort(probs.astype(float), axis=1)[:, -2:]
    np.testing.assert_allclose(margin.score(probs), 1 - (two_best[:, 1] - two_best[:, 0]), atol=1e-7)
    np.testing.assert_allclose(least_confidence.score(probs), 1 - two_best[:, 1], atol=1e-7)


def test_for_two_classes_all_rank_alike():
    p = np.random.default_rng(0).permutation(np.linspace(0.001, 0.499, 100))
    probs = np.stack([p, 1 - p], axis=1)
    order = np.argsort(p).tolist()
    for method in (entropy, margin, least_confidence):
        assert np.argsort(method.score(probs)).tolist() == order


def slow_consistency(probs, scores, view_probs, view_scores, view_iou, beta=1.3, base="e") -> np.ndarray:
    """Eq. 2 and 3 of 000, box by box, in float64."""
    out = []
    for i in range(len(probs)):
        terms = []
        for v in range(len(view_iou)):
            iou, js, seen = float(view_iou[v, i]), np.log(2), 0.0
            if iou > 0:
                p, q = probs[i].astype(float), view_probs[v, i].astype(float)
                m = (p + q) / 2
                js, seen = (rel_entr(p, m).sum() + rel_entr(q, m).sum()) / 2, float(view_scores[v, i])
            js = js / np.log(2) if base == "2" else js
            terms.append(abs(0.5 * (float(scores[i]) + seen) * (1 - js) + iou - beta))
        out.append(max(beta, 2 - beta) - np.mean(terms))
    return np.array(out)


@pytest.mark.parametrize("settings", [{}, {"base": "2"}, {"beta": 0.4}])
@pytest.mark.parametrize("case", ["random", "same", "unmatched", "one_class", "many_classes"])
def test_consistency_against_the_slow_reference(case, settings):
    menu = make_menu(120, classes={"one_class": 1, "many_classes": 91}.get(case, 5))
    if case == "same":
        menu["view_probs"][:] = menu["probs"]
    if case == "unmatched":  # whatever stands in a row without counterpart does not count
        menu["view_iou"][:], menu["view_probs"][:], menu["view_scores"][:] = 0, np.nan, 1
    args = [menu[k] for k in inputs(consistency)]
    np.testing.assert_allclose(
        consistency.score(*args, **settings), slow_consistency(*args, **settings), rtol=0, atol=1e-5
    )


def test_consistency_is_never_negative_at_its_bounds():
    probs, zero, one = np.full((3, 4), 0.25, np.float32), np.zeros(3, np.float32), np.full(3, 1 + 1e-6, np.float32)
    lost = consistency.score(probs, zero, probs[None], zero[None], zero[None])  # x = 0: as far below β as possible
    sure = consistency.score(probs, one, probs[None], one[None], one[None], beta=0.7)  # x = 2, and a rounding more
    assert lost == pytest.approx([0, 0, 0], abs=1e-6) and (lost >= 0).all()
    assert sure == pytest.approx([0, 0, 0], abs=1e-6) and (sure >= 0).all()
