"""A detector's confidence as a chance: beside a slow search, on degenerate input, and what CROWDLAB makes of both."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from labelwise.merge import crowdlab
from labelwise.merge._existence import LEAST, calibrated
from labelwise.types import Opinions

NONE = 2


def opinions(seed: int, confidence: np.ndarray, chance: np.ndarray, many: int = 2) -> Opinions:
    """People who see an object of class 0 or 1 with a chance, beside a model of that confidence."""
    rng, n = np.random.default_rng(seed), len(confidence)
    item = np.repeat(np.arange(n), many)
    seen = rng.random(len(item)) < chance[item]
    label = np.where(seen, item % 2, NONE)
    probs = np.stack([0.7 * confidence, 0.3 * confidence, 1 - confidence], axis=1)
    return Opinions(item, np.tile(np.arange(many), n), label, n, many, 3, probs=probs)


def loss(v: np.ndarray, given: Opinions) -> float:
    """The penalised loss of (at, slope), answer by answer."""
    total = 0.5 * (v[0] ** 2 + (v[1] - 1) ** 2)
    for item, label in zip(given.item, given.label, strict=True):
        p = min(max(1 - given.probs[item, NONE], LEAST), 1 - LEAST)
        z = v[0] + v[1] * np.log(p / (1 - p))
        total += np.log1p(np.exp(-z)) if label != NONE else np.log1p(np.exp(z))
    return float(total)


@pytest.mark.parametrize("seed", range(3))
def test_no_point_of_a_grid_is_better(seed: int) -> None:
    rng = np.random.default_rng([seed, 1])
    confidence = rng.uniform(0.02, 0.6, 40)
    given = opinions(seed, confidence, np.clip(1.5 * confidence, 0, 1))
    before, after = (np.log(p / (1 - p)) for p in (confidence, 1 - calibrated(given, NONE).probs[:, NONE]))
    slope, at = np.polyfit(before, after, 1)
    assert np.allclose(at + slope * before, after, atol=1e-6)
    least = min(loss(np.array([a, b]), given) for a in np.linspace(-4, 4, 33) for b in np.linspace(0, 3, 25))
    assert loss(np.array([at, slope]), given) <= least + 1e-6


def test_order_classes_and_silence_stay() -> None:
    rng = np.random.default_rng(0)
    confidence = np.sort(rng.uniform(0.02, 0.9, 50))
    given = opinions(0, confidence, 1 - confidence)  # people contradict: no larger chance for a larger confidence
    silent = given.probs.copy()
    silent[::7] = np.nan
    found = calibrated(replace(given, probs=silent), NONE).probs
    said = ~np.isnan(found).any(axis=1)
    assert np.array_equal(~said, np.isnan(silent).all(axis=1))
    assert np.allclose(found[said].sum(axis=1), 1) and (np.diff(found[said, NONE]) <= 1e-12).all()
    assert np.allclose(found[said, 0] / found[said, :2].sum(axis=1), 0.7)


@pytest.mark.parametrize("case", ["no model", "silent model", "no such class", "no answers"])
def test_nothing_changes_where_there_is_nothing_to_learn(case: str) -> None:
    given = opinions(0, np.full(5, 0.3), np.full(5, 0.8))
    none = np.zeros(0, np.int64)
    given = {
        "no model": replace(given, probs=None),
        "silent model": replace(given, probs=np.full((5, 3), np.nan)),
        "no such class": given,
        "no answers": replace(given, item=none, person=none, label=none),
    }[case]
    assert calibrated(given, 3 if case == "no such class" else NONE) is given


def test_a_weak_detector_does_not_talk_crowdlab_out_of_objects() -> None:
    rng = np.random.default_rng(0)
    real = np.arange(300) < 240
    confidence = np.where(real, rng.uniform(0.1, 0.4, 300), 0.05)
    given = opinions(1, confidence, np.where(real, 0.75, 0.05))
    as_it_is, fitted = (crowdlab.merge(one).argmax(axis=1) != NONE for one in (given, calibrated(given, NONE)))
    assert (as_it_is == real).mean() + 0.1 < (fitted == real).mean()
