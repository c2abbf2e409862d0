"""Every person has a table of confusions, estimated together with the classes by EM; unit: probability, 0 to 1.

EM begins with the shares of the votes. A settled item keeps its class throughout, so that known questions teach the
tables. `smoothing` answers are added to every row of a person's table, divided as if that person erred alike in all
classes: with few answers per class a table is drawn to one number, how often the person is right. As many items are
added to the frequencies of the classes, alike for all. With `model`, a model is one more person: of every item of which
it says something, it says its likeliest class.

Source: A. P. Dawid and A. M. Skene, "Maximum likelihood estimation of observer error-rates using the EM algorithm",
Applied Statistics 28 (1979), Eq. 2.3 to 2.5.
Differs from the paper: the added answers (`smoothing = 0` is the paper's) and the model (`model = false`); a
probability is at least 1e-10. 10 added answers were better than 4, 1 and 0 with simulated people
(`benchmarks/consensus.py`, seeds that its table does not have).
Fails when: most people are wrong most of the time (EM settles on a permutation of the classes), or hardly anybody
answers what another one has answered, too.

Worked by hand: two people agree on all four items, the third says 0 of everything. The votes begin 2 to 1; three equal
answers of class 0 say less than two of class 1 against one.

>>> from labelwise.types import Opinions
>>> said = np.array([[0, 0, 0], [0, 0, 0], [1, 1, 0], [1, 1, 0]])
>>> item, person = np.divmod(np.arange(12), 3)
>>> merge(Opinions(item, person, said.ravel(), 4, 3, 2), smoothing=0).round(3).tolist()
[[1.0, 0.0], [1.0, 0.0], [0.0, 1.0], [0.0, 1.0]]
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Float64
from scipy import sparse

from labelwise.types import Opinions

MODEL = True
"""Whether the rule looks at what a model says."""
LEAST = 1e-10
"""Least probability of a confusion or a class, so that one answer never rules a class out."""


def merge(
    opinions: Opinions, *, model: bool = True, smoothing: float = 10.0, steps: int = 100, tolerance: float = 1e-5
) -> Float64[np.ndarray, "items C"]:
    """Probability of every class of every item; ends when no probability changes by more than `tolerance`."""
    opinions = _with_model(opinions) if model else opinions
    counts = opinions.counts
    many = counts.sum(axis=1, keepdims=True)
    posterior = np.divide(counts, many, out=np.full(counts.shape, 1 / max(opinions.classes, 1)), where=many > 0)
    posterior = opinions.settled(posterior)
    if not len(opinions.item):
        return posterior
    answers, said = _answers(opinions), many[:, 0] > 0
    for _ in range(steps):
        before = posterior
        frequency = posterior[said].sum(axis=0) + smoothing / opinions.classes
        prior = np.maximum(frequency / frequency.sum(), LEAST)
        confusions = np.log(_confusions(opinions, answers, posterior, smoothing))
        log_odds = np.log(prior) + answers @ confusions
        posterior = np.exp(log_odds - log_odds.max(axis=1, keepdims=True))
        posterior = opinions.settled(posterior / posterior.sum(axis=1, keepdims=True))
        if np.abs(posterior - before).max() <= tolerance:
            break
    return posterior


def _with_model(opinions: Opinions) -> Opinions:
    """The model as one more person."""
    rows = np.flatnonzero(opinions.modelled)
    if opinions.probs is None or not len(rows):
        return opinions
    said = opinions.probs[rows].argmax(axis=1)
    return Opinions(
        np.append(opinions.item, rows),
        np.append(opinions.person, np.full(len(rows), opinions.people)),
        np.append(opinions.label, said),
        opinions.items,
        opinions.people + 1,
        opinions.classes,
        opinions.truth,
    )


def _answers(opinions: Opinions) -> sparse.csr_array:
    """[items, people x C]: who said what of an item."""
    column = opinions.person * opinions.classes + opinions.label
    shape = (opinions.items, opinions.people * opinions.classes)
    return sparse.csr_array((np.ones(len(column)), (opinions.item, column)), shape=shape)


def _confusions(
    opinions: Opinions, answers: sparse.csr_array, posterior: np.ndarray, smoothing: float
) -> Float64[np.ndarray, "peopleC C"]:
    """Row (person, what was said), column true class: probability of the answer."""
    people, n = opinions.people, opinions.classes
    table = (answers.T @ posterior).reshape(people, n, n)
    if smoothing and n > 1:
        right = np.einsum("pcc->p", table) + smoothing / n
        wrong = table.sum(axis=(1, 2)) + smoothing - right
        share = (wrong / (right + wrong) / (n - 1))[:, None, None] * np.ones((1, n, n))
        share[:, np.arange(n), np.arange(n)] = (right / (right + wrong))[:, None]
        table = table + smoothing * share
    table = np.maximum(table, LEAST)
    found: np.ndarray = (table / table.sum(axis=1, keepdims=True)).reshape(people * n, n)
    return found
