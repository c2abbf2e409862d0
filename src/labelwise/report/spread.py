"""Runs that share a name are repetitions: their mean and standard deviation, and how unequal class counts are.

Values are arrays `[seeds, rounds]` with NaN where a seed has no such round or the metric was not measured.
The standard deviation is the sample's (n - 1); with fewer than two values there is none (NaN).

>>> spread(np.array([[0.5, 0.6], [0.7, np.nan]]))  # mean 0.6; deviations -0.1, +0.1: sqrt(0.02 / 1) = 0.1414
(array([0.6, 0.6]), array([0.14142136,        nan]), array([2, 1]))
>>> imbalance([8, 2, 0])  # 8 / 2 among the two classes that occur; one is absent
(4.0, 1)
>>> round(entropy_nats([1, 1, 0]), 4), round(entropy_nats([3, 1]), 4)  # ln 2; 0.75 ln(4/3) + 0.25 ln 4
(0.6931, 0.5623)
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float64, Int64

from labelwise.report.results import RoundResult, RunResult
from labelwise.types import LabelwiseError


@dataclass(frozen=True, slots=True, eq=False)
class Group:
    """The runs of one name, by rising seed; `rounds` are the round numbers that any of them has."""

    name: str
    runs: tuple[RunResult, ...]
    classes: tuple[str, ...]
    rounds: tuple[int, ...]

    @property
    def metric(self) -> str:
        """Name of the quality: "AP50" or "accuracy"."""
        return self.runs[0].metric if self.runs else "AP50"

    def name_of(self, quantity: str) -> str:
        """A metric as it is called."""
        names = {"quality": self.metric, "ap": "AP", "ap75": "AP75", "rare_quality": f"rare-class {self.metric}"}
        return names[quantity]

    @property
    def is_all_data(self) -> bool:
        """Whether the first model was trained on the whole pool already: what the others are measured against."""
        return all(run.rounds and 0 < run.pool_images <= run.rounds[0].cost_images for run in self.runs)

    @property
    def seeds(self) -> tuple[int, ...]:
        return tuple(run.seed for run in self.runs)


def groups(runs: Sequence[RunResult]) -> list[Group]:
    """One group per name, in the order in which the names first appear."""
    out = []
    metrics = sorted({run.metric for run in runs})
    if len(metrics) > 1:
        raise LabelwiseError(
            f"report: runs measured in {' and in '.join(metrics)} can't be compared; report them apart"
        )
    for name in dict.fromkeys(run.name for run in runs):
        own = sorted((run for run in runs if run.name == name), key=lambda run: run.seed)
        seeds = [run.seed for run in own]
        if len(set(seeds)) < len(seeds):
            raise LabelwiseError(
                f"report: run {name!r} is given twice with one seed (seeds {seeds}); "
                "expected one run per name and seed. Give runs with other settings other names."
            )
        classes = tuple(dict.fromkeys(c for run in own for c in run.classes))
        out.append(Group(name, tuple(own), classes, tuple(sorted({r.round for run in own for r in run.rounds}))))
    return out


def read(run: RunResult, result: RoundResult, quantity: str) -> float:
    """One number of one round, by the name of its field, or "rare_quality"; NaN where there is none."""
    if quantity == "rare_quality":
        known = [v for c in run.rare_classes if (v := result.per_class.get(c)) is not None and math.isfinite(v)]
        return sum(known) / len(known) if known else math.nan
    value: float | None = getattr(result, quantity)
    return math.nan if value is None else float(value)


def values(group: Group, quantity: str) -> Float64[np.ndarray, "seeds rounds"]:
    """One row per seed, one column per round of the group."""
    out = np.full((len(group.runs), len(group.rounds)), np.nan)
    for row, run in enumerate(group.runs):
        for result in run.rounds:
            out[row, group.rounds.index(result.round)] = read(run, result, quantity)
    return out


def spread(
    table: Float64[np.ndarray, "seeds rounds"],
) -> tuple[Float64[np.ndarray, " rounds"], Float64[np.ndarray, " rounds"], Int64[np.ndarray, " rounds"]]:
    """Mean, sample standard deviation and number of values per column, NaN left out."""
    known = np.isfinite(table)
    n = known.sum(axis=0)
    total = np.where(known, table, 0.0).sum(axis=0)
    mean = np.divide(total, n, out=np.full(n.shape, np.nan), where=n > 0)
    squares = np.where(known, (table - mean) ** 2, 0.0).sum(axis=0)
    std = np.sqrt(np.divide(squares, n - 1, out=np.full(n.shape, np.nan), where=n > 1))
    return mean, std, n


def results_of(group: Group, round_number: int) -> list[RoundResult]:
    """What every seed of the group says of one round."""
    return [r for run in group.runs for r in run.rounds if r.round == round_number]


def settings_changed(group: Group) -> list[bool]:
    """Per round of the group: whether a setting of any of its runs changed there."""
    return [any(result.changed for result in results_of(group, number)) for number in group.rounds]


def seed_counts(group: Group, round_number: int, distribution: str) -> list[Mapping[str, float]]:
    """The `class_counts_...` mappings of the seeds that recorded one."""
    return [counts for r in results_of(group, round_number) if (counts := getattr(r, distribution))]


def mean_counts(group: Group, round_number: int, distribution: str) -> list[float]:
    """Mean over the seeds of a `class_counts_...` mapping, one number per class of the group."""
    found = seed_counts(group, round_number, distribution)
    return [sum(float(f.get(c, 0)) for f in found) / max(len(found), 1) for c in group.classes]


def l1_score(counts: Iterable[float]) -> float:
    """L1 distance to equal counts over its largest value 2b(C - 1)/C (001, Eq. 4.10): 0 even, 1 all in one class.

    >>> l1_score([3, 1]), l1_score([0, 4])
    (0.5, 1.0)
    """
    listed = list(counts)
    total, n = sum(listed), len(listed)
    largest = 2 * total * (n - 1) / n if n else 0.0
    return sum(abs(c - total / n) for c in listed) / largest if largest > 0 else math.nan


def imbalance(counts: Iterable[float]) -> tuple[float, int]:
    """Largest count over smallest among the classes that occur (000, figure 1), and how many classes do not occur."""
    listed = list(counts)
    present = [c for c in listed if c > 0]
    return (max(present) / min(present) if present else math.nan), len(listed) - len(present)


def entropy_nats(counts: Iterable[float]) -> float:
    """Entropy of the class distribution, natural logarithm; ln(number of classes) where all are equally frequent."""
    present = [c for c in counts if c > 0]
    total = sum(present)
    return -sum(c / total * math.log(c / total) for c in present) + 0.0 if present else math.nan
