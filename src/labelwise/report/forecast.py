"""What the next labels buy: a run's own learning curve, continued, with its uncertainty.

The quality at cost x is a curve, plus what this run drifts away from it, plus the noise of one training and test:

    y(x) = a + b g(x / now) + drift(log x) + noise,

with g out of `SHAPES`: logarithm, power laws (also of rising slope: an early curve is S-shaped) and exponential
approaches, each with g = 0 and slope 1 at the present cost, so that a is the quality now and b the slope now (per
e-fold of cost) in each of them. The drift is a random walk in log x. For every shape, noise and drift on a grid the
posterior is Gaussian and its evidence known; a forecast is their mixture, weighted by evidence times prior (Bayesian
model averaging). The prior of slope, noise and drift (`PRIOR`) is that of other runs: with three points of its own
a run cannot tell noise from curve.

Three things can be asked. `value`: what will be *measured* at a cost; that is what an interval can be checked by, and
benchmarks/forecast.py does so on stored curves. `gain`: how much curve and drift rise, noise apart. `trend`: how much
the curve alone rises; a stop is decided by it, for what has no direction is no reason to go on or to stop.

Source: families as in Viering and Loog, "The shape of learning curves: a review" (2022); stopping by the expected gain
is one of 13 rules of Pullar-Strecker et al. (Machine Learning, 2022).
Differs from the paper: they fit by least squares; with 3 to 8 rounds its intervals (bootstrap over rounds) are far too
narrow (measured beside ours in benchmarks/results/forecast.csv), so the rounds are not drawn again here.
Fails when: the settings change half way, or the future is unlike the past: a class that appears late, a model that
begins to overfit. Below `ENOUGH` rounds, or further than `FURTHEST` times the cost so far, nothing is said.

A curve that gains 10 points with every doubling of its cost; the next doubling is expected to bring as much or less:

>>> fit = fitted(np.array([100.0, 200, 400, 800]), np.array([0.3, 0.4, 0.5, 0.6]))
>>> 0.64 < fit.value(1600).quantile(0.5) < 0.72, fit.gain(1600).below(0.005) < 0.05
(True, True)
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float64, Int64
from scipy import optimize, special

from labelwise.types import LabelwiseError

ENOUGH = 3
"""Rounds with a measured quality and a cost of their own from which a forecast is given."""
FURTHEST = 3.0
"""A forecast is given up to so many times the cost so far."""

POWERS = (-1.0, -0.5, 0.0, 0.5, 1.0, 2.0, 4.0)
"""u^-p: a straight line, a root, the logarithm (0), power laws that level off."""
PACES = (1.0, 2.0, 4.0, 8.0, 16.0)
"""Exponential approaches: how many times the rest shrinks by e up to the present cost."""
DEEPEST = 1000.0


@dataclass(frozen=True, slots=True)
class Prior:
    """What other runs were like, in fractions: slope per e-fold of cost, and log-normal noise and drift.

    `noise`, `drift`: medians of the standard deviation (drift: per root of an e-fold); `spread`: of their logarithms.
    The values maximise the mean log score of the stored studies, six families each as one (benchmarks/forecast.py,
    which reports on each family with a prior of the others).
    """

    slope: float = 0.083
    slope_std: float = 0.058
    noise: float = 0.01
    drift: float = 0.02
    spread: float = 1.0


PRIOR = Prior()
GRID = np.linspace(-2, 2, 7)
"""Noise and drift, in spreads of their logarithm."""


@dataclass(frozen=True, slots=True, eq=False)
class Mixture:
    """A mixture of Gaussians: of a quality or a gain, as fractions."""

    weight: Float64[np.ndarray, " m"]
    mean: Float64[np.ndarray, " m"]
    std: Float64[np.ndarray, " m"]

    def below(self, value: float) -> float:
        """Probability of less than this."""
        return float(self.weight @ special.ndtr((value - self.mean) / self.std))

    def quantile(self, share: float) -> float:
        """The value below which this share lies."""
        if not 0 < share < 1:
            raise LabelwiseError(f"quantile {share}: expected a share between 0 and 1")
        far = 40 * self.std
        ends = float((self.mean - far).min()), float((self.mean + far).max())
        return float(optimize.brentq(lambda v: self.below(v) - share, *ends, xtol=1e-7))

    def interval(self, confidence: float) -> tuple[float, float]:
        """The central interval."""
        return self.quantile((1 - confidence) / 2), self.quantile((1 + confidence) / 2)


@dataclass(frozen=True, slots=True, eq=False)
class Fit:
    """A fitted curve: the rounds, and per component (shape x noise x drift) its weight and what its posterior needs."""

    cost: Float64[np.ndarray, " n"]
    prior: Prior
    weight: Float64[np.ndarray, " m"]
    shape: Int64[np.ndarray, " m"]
    noise: Float64[np.ndarray, " m"]
    drift: Float64[np.ndarray, " m"]
    inverse: Float64[np.ndarray, "m n n"]
    solved: Float64[np.ndarray, "m n"]

    def value(self, cost: float) -> Mixture:
        """What will be measured at a cost."""
        u = np.append(self.cost, self._known(cost)) / self.cost[-1]
        shared = _curves(u, self.prior)[self.shape] + self.drift[:, None, None] ** 2 * _walk(u)
        cross, own = shared[:, :-1, -1], shared[:, -1, -1] + self.noise**2
        mean = CENTRE + self.prior.slope * shapes(u)[self.shape, -1]
        return self._posterior(mean, cross, own)

    def gain(self, cost: float) -> Mixture:
        """How much the curve and its drift rise from the present cost to this one, noise apart."""
        u = np.append(self.cost, self._known(cost)) / self.cost[-1]
        shared = _curves(u, self.prior)[self.shape] + self.drift[:, None, None] ** 2 * _walk(u)
        cross = shared[:, :-1, -1] - shared[:, :-1, -2]
        own = shared[:, -1, -1] - 2 * shared[:, -1, -2] + shared[:, -2, -2]
        return self._posterior(self.prior.slope * shapes(u)[self.shape, -1], cross, own)

    def trend(self, cost: float) -> Mixture:
        """How much the curve alone rises: b g. The drift has no direction, so this is what the labels buy."""
        u = np.append(self.cost, self._known(cost)) / self.cost[-1]
        basis, variance = shapes(u)[self.shape], self.prior.slope_std**2
        rise = basis[:, -1]
        return self._posterior(self.prior.slope * rise, variance * rise[:, None] * basis[:, :-1], variance * rise**2)

    def _known(self, cost: float) -> float:
        now = float(self.cost[-1])
        if not now <= cost <= FURTHEST * now * (1 + 1e-9):
            raise LabelwiseError(
                f"forecast at a cost of {cost:g}: expected {now:g} to {FURTHEST * now:g}, {FURTHEST:g} times what was "
                "spent so far; further a curve cannot be seen"
            )
        return cost

    def _posterior(self, mean: np.ndarray, cross: np.ndarray, own: np.ndarray) -> Mixture:
        """Of something whose prior mean, covariance with the rounds and variance these are, per component."""
        mean = mean + (cross * self.solved).sum(axis=1)
        variance = own - np.einsum("mi,mij,mj->m", cross, self.inverse, cross)
        return Mixture(self.weight, mean, np.sqrt(np.maximum(variance, 1e-14)))


CENTRE, CENTRE_STD = 0.5, 0.5
"""The quality now, before anything was measured: anywhere."""


def shapes(u: Float64[np.ndarray, " n"]) -> Float64[np.ndarray, "s n"]:
    """The shapes at the costs u (1: now): 0 and of slope 1 there; cut off at -`DEEPEST`, where nothing can be told."""
    rows = [np.log(u) if p == 0 else (1 - u**-p) / p for p in POWERS]
    rows += [(1 - np.exp(-k * (u - 1))) / k for k in PACES]
    found: np.ndarray = np.maximum(np.stack(rows), -DEEPEST)
    return found


def _curves(u: Float64[np.ndarray, " n"], prior: Prior) -> Float64[np.ndarray, "s n n"]:
    """Covariance of a + b g at these costs, of each shape."""
    basis = shapes(u)
    covariance: np.ndarray = CENTRE_STD**2 + prior.slope_std**2 * basis[:, :, None] * basis[:, None, :]
    return covariance


def _walk(u: Float64[np.ndarray, " n"]) -> Float64[np.ndarray, "n n"]:
    """Covariance of a random walk in log cost that begins at the first round."""
    time = np.log(u / u[0])
    earlier: np.ndarray = np.minimum(time[:, None], time[None, :])
    return earlier


def fitted(cost: Float64[np.ndarray, " n"], quality: Float64[np.ndarray, " n"], prior: Prior = PRIOR) -> Fit:
    """Fits a run's rounds: cost so far, rising, and the quality there (a fraction).

    Raises:
        LabelwiseError: fewer than `ENOUGH` rounds; a cost that does not rise, or is 0; a quality that is no number.
    """
    cost, quality = np.asarray(cost, np.float64), np.asarray(quality, np.float64)
    if len(cost) < ENOUGH or cost.shape != quality.shape:
        raise LabelwiseError(
            f"forecast of {len(cost)} rounds: too little to tell; expected {ENOUGH} or more with a measured quality"
        )
    if not (np.isfinite(quality).all() and (cost > 0).all() and (np.diff(cost) > 0).all()):
        raise LabelwiseError("forecast: expected costs above 0 that rise from round to round, and a quality at each")
    u = cost / cost[-1]
    basis, curves, walk = shapes(u), _curves(u, prior), _walk(u)
    grid = np.stack([g.ravel() for g in np.meshgrid(np.arange(len(basis)), GRID, GRID, indexing="ij")])
    shape = grid[0].astype(int)
    noise, drift = prior.noise * np.exp(prior.spread * grid[1]), prior.drift * np.exp(prior.spread * grid[2])
    covariance = curves[shape] + drift[:, None, None] ** 2 * walk + noise[:, None, None] ** 2 * np.eye(len(u))
    rest = quality - CENTRE - prior.slope * basis[shape]
    inverse = np.linalg.inv(covariance)
    solved = np.einsum("mij,mj->mi", inverse, rest)
    evidence = -0.5 * (rest * solved).sum(axis=1) - 0.5 * np.linalg.slogdet(covariance)[1]
    evidence += -0.5 * grid[1] ** 2 - 0.5 * grid[2] ** 2
    weight = special.softmax(evidence)
    return Fit(cost, prior, weight, shape, noise, drift, inverse, solved)
