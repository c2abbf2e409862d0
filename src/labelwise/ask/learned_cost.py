"""The cost table of a project's own people, learnt from how long their answers took.

An answer is a few actions of the table (an image: look it over once, draw each box). The seconds of each action are
those of least absolute error over all answers, relative to what is expected (where every answer is one action: its
median), with `STRENGTH` pseudo-answers at the table that the project was given, so that a kind nobody has answered yet
keeps its published time. A person's table is found the same way around everybody's, with as many pseudo-answers as the
spread within people is larger than between them (empirical Bayes). An answer that took more than `PAUSE` times what is
expected held a pause: it says nothing of the work. Medians sum to too few hours, for times have a long upper tail, so
each table is scaled, in the end, to the sum of the answers without their pauses.

Source: our own; shrinkage as in Efron and Morris, "Stein's estimation rule and its competitors" (JASA, 1973).
Differs from the paper: medians and pseudo-answers in place of means of known variance.
Fails when: people get faster over the weeks (all answers count alike), or pauses are as common as answers.

Ten answers of 4 s each to "is this an object?", published at 2 s:

>>> found = learn([Timing("ann", {"reject": 1}, 4.0)] * 100, CostTable())
>>> round(found.table("ann").reject, 1), found.table("ann").draw, round(found.seconds("ann", {"reject": 1}, 900.0), 1)
(4.0, 7.0, 4.0)
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields

import numpy as np
from jaxtyping import Float64

from labelwise.ask.cost import CostTable, expected_seconds

STRENGTH = 10.0
"""Pseudo-answers of the published table, for each action."""
LEAST, MOST = 2.0, 200.0
"""Pseudo-answers of everybody's table for a person's; one person alone: `STRENGTH`."""
PAUSE = 6.0
"""Times what is expected; more is a pause."""
ACTIONS = tuple(field.name for field in fields(CostTable))


@dataclass(frozen=True, slots=True)
class Timing:
    """One answer: whose, what was done how often (`ask.cost.actions`), and the measured seconds, above 0."""

    who: str
    actions: Mapping[str, int]
    seconds: float


@dataclass(frozen=True, slots=True)
class Learned:
    """A table for everybody, one for each person, and how many answers each was learnt from."""

    everybody: CostTable
    by_person: Mapping[str, CostTable]
    answers: Mapping[str, int]

    def table(self, who: str) -> CostTable:
        """A person's; of somebody new everybody's."""
        return self.by_person.get(who, self.everybody)

    def seconds(self, who: str, actions: Mapping[str, int], measured: float = 0.0) -> float:
        """What an answer cost: the measured seconds, or, without them or with a pause in them, what is expected."""
        expected = expected_seconds(actions, self.table(who))
        return measured if 0 < measured <= PAUSE * expected else expected


def learn(timings: Sequence[Timing], prior: CostTable, *, scale: bool = True) -> Learned:
    """The tables of people whose answers took so long; without answers, `prior` for all. `scale` False: medians alone,
    which say how long an answer usually takes, and too little of a sum.
    """
    if not timings:
        return Learned(prior, {}, {})
    done = np.array([[one.actions.get(name, 0) for name in ACTIONS] for one in timings], np.float64)
    seconds = np.array([one.seconds for one in timings], np.float64)
    who = np.array([one.who for one in timings])
    before = np.array([getattr(prior, name) for name in ACTIONS], np.float64)
    medians = _least_absolute(done, seconds, before, STRENGTH)
    strength = _strength(np.log(seconds / np.maximum(done @ medians, 1e-9)), who)
    of_all = _scale(done, seconds, medians) if scale else 1.0
    used = done.any(axis=0)
    tables, answers = {}, {}
    for person in dict.fromkeys(who.tolist()):
        own = who == person
        found = _least_absolute(done[own], seconds[own], medians, strength)
        found *= _scale(done[own], seconds[own], found, strength, of_all) if scale else 1.0
        tables[person], answers[person] = _table(np.where(used, found, before)), int(own.sum())
    return Learned(_table(np.where(used, medians * of_all, before)), tables, answers)


def _table(values: Float64[np.ndarray, " a"]) -> CostTable:
    return CostTable(**dict(zip(ACTIONS, map(float, values), strict=True)))


def _least_absolute(
    done: Float64[np.ndarray, "n a"],
    seconds: Float64[np.ndarray, " n"],
    prior: Float64[np.ndarray, " a"],
    strength: float,
) -> Float64[np.ndarray, " a"]:
    """Seconds per action of least absolute relative error, by reweighted least squares; never below a tenth of the
    prior.
    """
    known = prior > 0
    rows = np.concatenate([done, np.eye(len(prior))[known]])
    target = np.concatenate([seconds, prior[known]])
    weight = np.concatenate([np.ones(len(done)), np.full(int(known.sum()), strength)])
    scale = np.maximum(rows @ prior, 0.1)
    rows, target = rows / scale[:, None], target / scale
    found = prior.copy()
    for _ in range(50):
        each = weight / np.maximum(np.abs(target - rows @ found), 1e-3)
        found = np.linalg.lstsq((rows * each[:, None]).T @ rows, (rows * each[:, None]).T @ target, rcond=None)[0]
        found = np.maximum(found, prior / 10)
    return found


def _scale(
    done: Float64[np.ndarray, "n a"],
    seconds: Float64[np.ndarray, " n"],
    table: Float64[np.ndarray, " a"],
    strength: float = STRENGTH,
    prior: float = 1.0,
) -> float:
    """The sum of the answers without pauses over what the table expects of them; `strength` answers at the prior's."""
    expected = done @ table
    working = seconds <= PAUSE * expected
    if not working.any():
        return prior
    more = strength * float(expected[working].mean())
    return (float(seconds[working].sum()) + prior * more) / (float(expected[working].sum()) + more)


def _strength(logs: Float64[np.ndarray, " n"], who: np.ndarray) -> float:
    """How many answers of a person weigh as much as what is known of people: spread within over spread between."""
    names = np.unique(who)
    if len(names) < 2:
        return STRENGTH
    middle = np.array([np.median(logs[who == name]) for name in names])
    count = np.array([(who == name).sum() for name in names])
    rest = logs - middle[np.searchsorted(names, who)]
    within = (1.4826 * float(np.median(np.abs(rest)))) ** 2
    between = float(middle.var(ddof=1)) - float((1.57 * within / count).mean())
    return float(np.clip(within / max(between, 1e-9), LEAST, MOST))
