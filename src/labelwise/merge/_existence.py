"""A detector's confidence as the chance that somebody sees an object there (machinery).

A confidence is no probability: a weak detector says 0.2 of objects that everybody sees. A rule that takes it as one
hears "no object" from the model nearly everywhere, and CROWDLAB, which measures the model by how well it agrees with a
consensus that the model itself decided where two people differ, believes it.

Source: J. Platt, "Probabilistic outputs for support vector machines" (1999): a logistic function of the confidence.
Differs from the paper: it is fitted to the shares of the answers that see an object, with a Gaussian prior at the
confidence as it is, so that few answers change little; a larger confidence never means a smaller chance.
Fails when: people's errors go with the confidence (small objects that both miss).
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from scipy import optimize, special

from labelwise.types import Opinions

LEAST = 1e-3
"""A confidence is taken to be at least this, and at most 1 less this."""


def calibrated(opinions: Opinions, none: int) -> Opinions:
    """The opinions with the model's chance of class `none`, "no object", set right; without a model as they are.

    Nine people of ten see the objects of which the model says 0.2, and one of ten what it does not see; 40 items are
    not many, so that the chance stays nearer to the confidence:

    >>> item, person = np.divmod(np.arange(400), 10)
    >>> said = np.where((item < 20) == (person > 0), 0, 1)
    >>> probs = np.repeat([[0.2, 0.8], [0.05, 0.95]], 20, axis=0)
    >>> found = calibrated(Opinions(item, person, said, 40, 10, 2, probs=probs), 1)
    >>> found.probs[[0, 39], 0].round(1).tolist()
    [0.8, 0.1]
    """
    modelled, said = opinions.modelled, opinions.counts
    some = modelled & (said.sum(axis=1) > 0)
    if opinions.probs is None or none >= opinions.classes or not some.any():
        return opinions
    many = said[some].sum(axis=1)
    seen = many - said[some, none]
    given = special.logit(np.clip(1 - opinions.probs[:, none], LEAST, 1 - LEAST))
    x = given[some]

    def loss(v: np.ndarray) -> tuple[float, np.ndarray]:
        z = v[0] + v[1] * x
        error = many * special.expit(z) - seen
        value = (many * np.logaddexp(0, z) - seen * z).sum() + 0.5 * (v[0] ** 2 + (v[1] - 1) ** 2)
        return float(value), np.array([error.sum() + v[0], error @ x + v[1] - 1])

    bounds = [(None, None), (0, None)]
    at, slope = optimize.minimize(loss, np.array([0.0, 1.0]), jac=True, method="L-BFGS-B", bounds=bounds).x
    chance = special.expit(at + slope * given)
    probs = opinions.probs.copy()
    rest = np.delete(np.arange(opinions.classes), none)
    before = probs[:, rest].sum(axis=1, keepdims=True)
    even = np.full((len(probs), len(rest)), 1 / max(len(rest), 1))
    share = np.divide(probs[:, rest], before, out=even, where=before > 0)
    probs[:, rest], probs[:, none] = share * chance[:, None], 1 - chance
    probs[~modelled] = np.nan
    return replace(opinions, probs=probs)
