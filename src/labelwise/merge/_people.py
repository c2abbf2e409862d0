"""How often each person is right, with an interval, judged by class posteriors (machinery).

Source: Wilson, "Probable inference, the law of succession, and statistical inference", JASA 22 (1927), for the
interval; Cohen's kappa for how much better than guessing, "slight" up to 0.2 by Landis and Koch, Biometrics 33 (1977).
Differs from the paper: that an item's class is not certain widens the interval (fewer answers count).
Fails when: everybody makes the same mistakes; these pass for the truth, unless known questions are asked.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float64, Int64

from labelwise.types import Opinions

SLIGHT = 0.2
"""Cohen's kappa up to which agreement is no more than slight."""
Z = 1.959964
"""Standard deviations of an interval of 95 %."""


@dataclass(frozen=True, slots=True, eq=False)
class People:
    """Per person: answers that count here, how often they are right with its interval of 95 %, and whether they are
    noise: even at the interval's upper end hardly better than guessing with the same habits. `known`: answers to
    settled items.
    """

    answers: Int64[np.ndarray, " people"]
    right: Float64[np.ndarray, " people"]
    low: Float64[np.ndarray, " people"]
    high: Float64[np.ndarray, " people"]
    noise: Bool[np.ndarray, " people"]
    known: Int64[np.ndarray, " people"]


def people(opinions: Opinions, posterior: Float64[np.ndarray, "items C"]) -> People:
    """How good everybody is where `posterior` is what is believed; NaN where somebody has no answer.

    Worked by hand: of 4 answers on certain items 3 are right; Wilson's interval of 3 in 4 is 0.30 to 0.95.

    >>> item = np.arange(4)
    >>> truth = np.eye(2)[[0, 0, 1, 1]]
    >>> found = people(Opinions(item, np.zeros(4, np.int64), np.array([0, 0, 1, 0]), 4, 1, 2), truth)
    >>> found.right.tolist(), found.low.round(2).tolist(), found.high.round(2).tolist()
    ([0.75], [0.3], [0.95])
    """
    n, person = opinions.people, opinions.person
    answers = np.bincount(person, minlength=n)
    chance_right = posterior[opinions.item, opinions.label]
    with np.errstate(invalid="ignore", divide="ignore"):
        right = np.bincount(person, chance_right, minlength=n) / answers
        doubt = np.bincount(person, chance_right * (1 - chance_right), minlength=n) / answers**2
        spread = right * (1 - right)
        effective = np.where(spread > 0, spread / (spread / answers + doubt), answers)
        low, high = _wilson(right, effective)
        believed = np.zeros((n, opinions.classes))
        np.add.at(believed, person, posterior[opinions.item])
        said = np.bincount(person * opinions.classes + opinions.label, minlength=n * opinions.classes)
        chance = (believed * said.reshape(n, -1)).sum(axis=1) / answers**2
        kappa = (high - chance) / (1 - chance)
    settled = np.zeros(len(person), np.bool_) if opinions.truth is None else opinions.truth[opinions.item] >= 0
    known = np.bincount(person[settled], minlength=n)
    return People(answers, right, low, high, np.nan_to_num(kappa, nan=1.0) < SLIGHT, known)


def _wilson(share: np.ndarray, n: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    middle = (share + Z**2 / (2 * n)) / (1 + Z**2 / n)
    half = Z * np.sqrt(share * (1 - share) / n + Z**2 / (4 * n**2)) / (1 + Z**2 / n)
    return np.clip(middle - half, 0, 1), np.clip(middle + half, 0, 1)
