"""Label policies: the contract of every file, the weights of Eq. 5 and 6 at their edges, frequency."""

from __future__ import annotations

import importlib
import inspect
from pathlib import Path

import numpy as np
import pytest
from fakes.menu import made

import labelwise.labels
from labelwise.config.inputs import INPUTS
from labelwise.labels import dual, hard, noisy, task_hard, task_soft
from labelwise.targets.frequency import frequency
from labelwise.types import LabelwiseError

FOLDER = Path(labelwise.labels.__file__).parent
MODULES = [importlib.import_module(f"labelwise.labels.{p.stem}") for p in FOLDER.glob("*.py") if p.stem != "__init__"]
POLICIES = sorted((m for m in MODULES if hasattr(m, "weigh")), key=lambda m: m.__name__)


def inputs(policy) -> list[str]:
    parameters = inspect.signature(policy.weigh).parameters.values()
    return [p.name for p in parameters if p.kind is p.POSITIONAL_OR_KEYWORD]


def call(policy, scores, consistency):
    """`probs` and whatever else goes along with the scores, row by row."""
    menu = made("labels", len(scores), seed=3)
    order = np.argsort(np.argsort(scores))  # the same row for the same score, wherever it stands
    menu |= {row.name: menu[row.name].take(order, row.position) for row in INPUTS["labels"].values() if row.shape}
    menu |= {"scores": scores, "consistency": consistency}
    return policy.weigh(*(menu[name] for name in inputs(policy)))


def test_all_policies_of_the_design_are_there():
    names = {m.__name__.rsplit(".", 1)[1] for m in POLICIES}
    assert names >= {"background", "ignore", "noisy", "hard", "task_hard", "task_soft"}


@pytest.mark.parametrize("policy", POLICIES, ids=lambda m: m.__name__)
def test_contract(policy):
    assert set(inputs(policy)) <= set(INPUTS["labels"])
    assert policy.NEGATIVES in ("everywhere", "known")
    assert "Source:" in policy.__doc__ and "Fails when:" in policy.__doc__ and ">>>" in policy.__doc__
    rng = np.random.default_rng(0)
    scores, consistency = rng.random(50, dtype=np.float32), rng.random(50, dtype=np.float32)
    keep, w_cls, w_box = call(policy, scores, consistency)
    for column, dtype in ((keep, np.bool_), (w_cls, np.float32), (w_box, np.float32)):
        assert column.shape == (50,) and column.dtype == dtype
    assert ((w_cls >= 0) & (w_cls <= 1) & (w_box >= 0) & (w_box <= 1)).all()
    assert not w_cls[~keep].any() and not w_box[~keep].any()
    moved = rng.permutation(50)
    for column, again in zip((keep, w_cls, w_box), call(policy, scores[moved], consistency[moved]), strict=True):
        assert column[moved].tolist() == again.tolist()
    assert [len(column) for column in call(policy, scores[:0], consistency[:0])] == [0, 0, 0]
    if "probs" in inputs(policy):
        bad_probs = made("labels", 50)["probs"]
        bad_probs[23, 0] = np.nan
        menu = made("labels", 50) | {"probs": bad_probs}
        with pytest.raises(LabelwiseError, match=r"row 23\b"):
            policy.weigh(*(menu[name] for name in inputs(policy)))
    for name in {"scores", "consistency"} & set(inputs(policy)):
        bad = {"scores": scores, "consistency": consistency}
        for value in (np.nan, -0.1, 1.5):
            bad[name] = bad[name].copy()
            bad[name][23] = value
            with pytest.raises(LabelwiseError, match=r"row 23\b"):
                call(policy, **bad)


def slow_weight(value: float, upper: float, lower: float) -> float:
    """Eq. 5 of 000, one box."""
    if value >= upper:
        return 1.0
    return value if value > lower else 0.0


def test_soft_weights_follow_eq_5_and_6_up_to_the_edges():
    edges = [0, 0.0999, 0.1, 0.1001, 0.3, 0.3001, 0.5, 0.6999, 0.7, 0.7999, 0.8, 0.8001, 1]
    a, b = (x.ravel().astype(np.float32) for x in np.meshgrid(edges, edges))
    keep, w_cls, w_box = task_soft.weigh(a, b)
    assert keep.all(), "also where both weights are 0"
    for got, values, upper, lower in ((w_cls, a, 0.8, 0.1), (w_box, b, 0.7, 0.3)):
        expected = [slow_weight(float(v), float(np.float32(upper)), float(np.float32(lower))) for v in values]
        np.testing.assert_allclose(got, expected, atol=1e-7)


def test_hard_is_task_hard_of_one_criterion_and_soft_with_equal_thresholds():
    rng = np.random.default_rng(1)
    scores, cons = (rng.choice([0.2, 0.7, 0.8, 0.9], 64).astype(np.float32) for _ in "ab")
    keep, w_cls, w_box = task_hard.weigh(scores, cons)
    assert keep.tolist() == ((w_cls + w_box) > 0).tolist()
    assert w_cls.tolist() == hard.weigh(scores)[1].tolist() == (scores >= np.float32(0.8)).tolist()
    assert w_box.tolist() == (cons >= np.float32(0.7)).tolist()
    _, soft_cls, soft_box = task_soft.weigh(scores, cons, tau_cls=(0.8, 0.8), tau_box=(0.7, 0.7))
    assert (soft_cls.tolist(), soft_box.tolist()) == (w_cls.tolist(), w_box.tolist())


def test_policies_refuse_what_they_cannot_use():
    scores = np.full(3, 0.5, np.float32)
    for policy in (task_hard, task_soft):
        with pytest.raises(LabelwiseError, match=r"needs the consistency .* views"):
            policy.weigh(scores, None)
        with pytest.raises(LabelwiseError, match="shape"):
            policy.weigh(scores, scores[:2])
    for wrong in (lambda: hard.weigh(scores, tau_cls=1.2), lambda: noisy.weigh(scores, scores, damping=-1)):
        with pytest.raises(LabelwiseError, match="expected"):
            wrong()
    with pytest.raises(LabelwiseError, match="upper one first"):
        task_soft.weigh(scores, scores, tau_cls=(0.1, 0.8))


def test_frequency_against_a_loop():
    rng = np.random.default_rng(2)
    labels, conf = rng.integers(0, 6, 300), rng.random(300, dtype=np.float32)
    counts = np.zeros(7)
    for label, c in zip(labels, conf, strict=True):
        counts[label] += slow_weight(float(c), 0.8, 0.1)
    got = frequency(labels, conf, 7)
    assert got.dtype == np.float64
    np.testing.assert_allclose(got, counts / counts.sum(), atol=1e-9)
    hard_counts = np.bincount(labels[conf >= 0.8], minlength=7)
    np.testing.assert_allclose(frequency(labels, conf, 7, tau=(0.8, 0.8)), hard_counts / hard_counts.sum())


def test_frequency_of_nothing_is_zero_and_bad_input_is_named():
    nothing = np.zeros(0, np.int64), np.zeros(0, np.float32)
    assert frequency(*nothing, 3).tolist() == [0, 0, 0]
    assert frequency(np.array([0, 2]), np.array([0.05, 0.1], np.float32), 3).tolist() == [0, 0, 0]
    with pytest.raises(LabelwiseError, match="row 1 is of class 3"):
        frequency(np.array([0, 3]), np.array([0.5, 0.5], np.float32), 3)
    with pytest.raises(LabelwiseError, match=r"row 1\b"):
        frequency(np.array([0, 1]), np.array([0.5, np.nan], np.float32), 3)


def slow_dual(score, number, upper, lower, weight, box, least_box):
    """One candidate: kept, weight of the class, weight of the box."""
    sure, keep = score >= np.float32(upper), score >= np.float32(min(lower, upper))
    w_cls = (score if weight == "soft" else 1) if sure else 0
    if not sure or box == "none" or number < np.float32(least_box):
        return keep, w_cls, 0
    return keep, w_cls, w_cls if box == "confidence" else number


@pytest.mark.parametrize("weight", ["soft", "hard"])
@pytest.mark.parametrize("box", ["confidence", "consistency", "quality", "tightness", "none"])
@pytest.mark.parametrize("least_box", [0.0, 0.5])
def test_dual_weighs_the_boxes_as_it_is_told(weight, box, least_box):
    rng = np.random.default_rng(3)
    edges = np.array([0, 0.05, 0.3, 0.5, 0.75, 1], np.float32)
    scores = rng.choice(edges, 80)
    known = {name: rng.choice(edges, 80) for name in ("consistency", "quality", "tightness")}
    given = {box: known[box]} if box in known else {}
    got = dual.weigh(scores, **given, weight=weight, box=box, least_box=least_box)
    number = known.get(box, scores)
    want = [slow_dual(s, n, 0.3, 0.05, weight, box, least_box) for s, n in zip(scores, number, strict=True)]
    for column, expected in zip(got, zip(*want, strict=True), strict=True):
        assert column.tolist() == list(expected)
    plain = dual.weigh(scores, weight=weight)
    assert got[0].tolist() == plain[0].tolist() and got[1].tolist() == plain[1].tolist()
    if box == "confidence" and not least_box:
        assert got[2].tobytes() == plain[1].tobytes(), "as it was before there was a choice"


def test_dual_says_which_input_is_missing_and_refuses_strange_ones():
    scores = np.full(3, 0.5, np.float32)
    for box in ("consistency", "quality", "tightness"):
        with pytest.raises(LabelwiseError, match=f'box = "{box}" needs the {box} of the candidates'):
            dual.weigh(scores, box=box)
        with pytest.raises(LabelwiseError, match=f"dual: {box} of row 1"):
            dual.weigh(scores, **{box: np.array([0.5, 1.5, np.nan], np.float32)}, box=box)
    with pytest.raises(LabelwiseError, match="least_box is 2"):
        dual.weigh(scores, least_box=2)
