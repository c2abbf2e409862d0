"""The forecast of a learning curve, and what is said and done with it."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from labelwise.report import forecast, outlook, page
from labelwise.report.forecast import PRIOR, Mixture, fitted, shapes
from labelwise.report.results import RoundResult, RunResult
from labelwise.types import LabelwiseError


def reference(x, y, at, prior=PRIOR):
    """Weight, mean and standard deviation of every component, one after the other, by conditioning one Gaussian."""
    u = np.append(x, at) / x[-1]
    found = []
    for g in shapes(u):
        for k in forecast.GRID:
            for m in forecast.GRID:
                noise, drift = prior.noise * np.exp(prior.spread * k), prior.drift * np.exp(prior.spread * m)
                time = np.log(u / u[0])
                joint = 0.25 + prior.slope_std**2 * np.outer(g, g) + drift**2 * np.minimum.outer(time, time)
                joint = joint + noise**2 * np.eye(len(u))
                mean = 0.5 + prior.slope * g
                known = stats.multivariate_normal(mean[:-1], joint[:-1, :-1])
                log = known.logpdf(y) - k**2 / 2 - m**2 / 2
                gain = np.linalg.solve(joint[:-1, :-1], joint[:-1, -1])
                found.append((log, mean[-1] + gain @ (y - mean[:-1]), joint[-1, -1] - gain @ joint[:-1, -1]))
    log, mean, variance = np.array(found).T
    weight = np.exp(log - log.max())
    return weight / weight.sum(), mean, np.sqrt(variance)


@pytest.mark.parametrize("n", [3, 6])
def test_a_value_is_that_of_gaussians_conditioned_one_by_one(n):
    rng = np.random.default_rng(n)
    x = np.cumsum(rng.uniform(10, 60, n))
    y = 0.4 + 0.1 * np.log(x / x[0]) + rng.normal(0, 0.01, n)
    found = fitted(x, y).value(1.5 * x[-1])
    for ours, theirs in zip((found.weight, found.mean, found.std), reference(x, y, 1.5 * x[-1]), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-5, atol=1e-9)


def test_shapes_are_0_and_of_slope_1_at_the_present_cost():
    step = 1e-6
    around = shapes(np.array([1 - step, 1.0, 1 + step]))
    np.testing.assert_allclose(around[:, 1], 0, atol=1e-12)
    np.testing.assert_allclose((around[:, 2] - around[:, 0]) / (2 * step), 1, rtol=1e-4)


def test_a_trend_is_a_gain_without_drift_and_a_curve_that_levels_off_is_seen():
    x = 60.0 * np.arange(1, 25)
    flat = 0.8 - 0.5 * np.exp(-np.arange(1, 25) / 2) + np.random.default_rng(0).normal(0, 0.003, 24)
    at = x[17] + 60
    trend, gain = fitted(x[:18], flat[:18]).trend(at), fitted(x[:18], flat[:18]).gain(at)
    assert trend.below(0.005) > 0.95
    assert np.ptp(trend.interval(0.8)) < np.ptp(gain.interval(0.8))
    rising = 0.2 + 0.1 * np.log(x[:6] / 60)
    assert fitted(x[:6], rising).trend(x[5] + 60).below(0.005) < 0.05


def test_a_mixture_has_the_quantiles_of_its_draws():
    mixture = Mixture(np.array([0.3, 0.7]), np.array([0.2, 0.6]), np.array([0.05, 0.1]))
    rng = np.random.default_rng(0)
    which = rng.choice(2, 200_000, p=mixture.weight)
    draws = rng.normal(mixture.mean[which], mixture.std[which])
    for share in (0.025, 0.5, 0.9):
        assert mixture.quantile(share) == pytest.approx(np.quantile(draws, share), abs=0.003)
        assert mixture.below(mixture.quantile(share)) == pytest.approx(share, abs=1e-4)


@settings(max_examples=40, deadline=None)
@given(st.lists(st.floats(0.0, 1.0), min_size=3, max_size=8), st.floats(1.01, 2.9), st.floats(1.0, 1e6))
def test_intervals_are_ordered_and_do_not_depend_on_the_unit_of_cost(qualities, ahead, unit):
    x, y = np.cumsum(np.arange(1.0, len(qualities) + 1)), np.array(qualities)
    value, scaled = fitted(x, y).value(ahead * x[-1]), fitted(unit * x, y).value(unit * ahead * x[-1])
    (low_95, high_95), (low, high) = value.interval(0.95), value.interval(0.8)
    assert low_95 < low < value.quantile(0.5) < high < high_95
    assert scaled.quantile(0.5) == pytest.approx(value.quantile(0.5), abs=1e-4)


def test_curves_that_it_was_made_for_are_held_by_its_intervals():
    """Curves drawn from the model itself: the share held is that of the interval, within chance."""
    rng, held = np.random.default_rng(1), []
    for _ in range(300):
        x = np.array([100.0, 200, 300, 400, 600])
        u = x / x[-2]
        g = shapes(u)[rng.integers(len(shapes(u)))]
        noise, drift = np.exp(rng.normal(np.log([PRIOR.noise, PRIOR.drift]), PRIOR.spread))
        walk = np.concatenate([[0], np.cumsum(rng.normal(0, drift * np.sqrt(np.diff(np.log(u)))))])
        y = 0.5 + rng.normal(PRIOR.slope, PRIOR.slope_std) * g + walk + rng.normal(0, noise, len(x))
        low, high = fitted(x[:-1], y[:-1]).value(x[-1]).interval(0.8)
        held.append(low <= y[-1] <= high)
    assert 0.72 <= np.mean(held) <= 0.88


@pytest.mark.parametrize(
    ("cost", "quality", "message"),
    [
        ([100, 200], [0.3, 0.4], "too little to tell"),
        ([100, 100, 200], [0.3, 0.4, 0.5], "rise"),
        ([0, 100, 200], [0.3, 0.4, 0.5], "above 0"),
        ([100, 200, 300], [0.3, float("nan"), 0.5], "quality at each"),
    ],
)
def test_what_cannot_be_fitted_is_refused(cost, quality, message):
    with pytest.raises(LabelwiseError, match=message):
        fitted(np.array(cost, float), np.array(quality))


def test_a_forecast_too_far_ahead_is_refused():
    fit = fitted(np.array([100.0, 200, 300]), np.array([0.3, 0.4, 0.5]))
    with pytest.raises(LabelwiseError, match="3 times what was spent"):
        fit.value(901)
    with pytest.raises(LabelwiseError, match="between 0 and 1"):
        fit.value(400).quantile(1.0)


def run_of(qualities, seed=0, name="ours", unit="boxes"):
    rounds = [
        RoundResult(k, 50 * (k + 1), 60 * (k + 1), 10 * (k + 1), 360.0 * (k + 1), quality=q)
        for k, q in enumerate(qualities)
    ]
    return RunResult(name, seed, ("cat", "dog"), rounds, budget_unit=unit)


def test_an_outlook_speaks_in_every_cost():
    found = outlook.of_rounds(run_of([0.3, 0.4, 0.45, 0.5]).rounds, "AP50", "boxes")
    assert [step.spent for step in found.steps] == pytest.approx([50, 100, 200])
    assert [step.queries for step in found.steps] == pytest.approx([60, 120, 240])
    assert [step.hours for step in found.steps] == pytest.approx([0.1, 0.2, 0.4])
    assert "The next 50 boxes (about 6 min of annotation) should bring" in found.sentences[0]
    assert all(s.low_95 < s.low < s.value < s.high < s.high_95 for s in found.steps)
    assert outlook.lines(run_of([0.3, 0.4, 0.45, 0.5]).rounds, "AP50", "boxes")[-1].startswith("AP50: ▃▄▄▅|")


@pytest.mark.parametrize(
    ("qualities", "message"),
    [([0.3], "1 round with"), ([0.3, 0.4], "2 rounds with"), ([0.3, None, 0.4], "2 rounds with")],
)
def test_too_little_to_tell_is_said(qualities, message):
    found = outlook.of_rounds(run_of(qualities).rounds, "AP50", "boxes")
    assert not found.steps and message in found.sentences[0]


def test_seeds_make_the_forecast_of_a_mean_narrower_and_the_report_shows_it():
    rng = np.random.default_rng(0)
    runs = [run_of(np.array([0.3, 0.4, 0.46, 0.5]) + rng.normal(0, 0.003, 4), seed) for seed in range(8)]
    one = outlook.of_rounds(runs[0].rounds, "AP50", "boxes").steps[0]
    text = page.html(runs, title="t")
    assert "What more labels would buy" in text and "Forecast of AP50 of ours" in text
    group = outlook.outlook(page.groups(runs)[0], picture=False)
    assert group.steps[0].high - group.steps[0].low < one.high - one.low
