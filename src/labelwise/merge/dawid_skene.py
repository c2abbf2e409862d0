"""Every person has a table of confusions, estimated together with the classes by EM; unit: probability, 0 to 1.

EM begins with the shares of the votes. A settled item keeps its class throughout, so that known questions teach the
tables. `smoothing` answers are added to every row of a person's table, divided as if that person erred alike in all
classes: with few answers per class a table is drawn to one number, how often the person is right (one answer more of
each kind). With `model`, what a model says of an item takes the place of the frequencies of the classes there: its
distribution to a power, times a factor per class, both fitted along with the tables, since a model that learnt from
people's answers is less sure than it may be, and one that learnt by heart is too sure.

Source: A. P. Dawid and A. M. Skene, "Maximum likelihood estimation of observer error-rates using the EM algorithm",
Applied Statistics 28 (1979), Eq. 2.3 to 2.5; A. Alexandari, A. Kundaje and A. Shrikumar, "Maximum likelihood with
bias-corrected calibration is hard-to-beat at label shift adaptation" (ICML 2020), for power and factors.
Differs from the paper: the added answers (`smoothing = 0` has none) and the model (`model = false`); a probability is
at least 1e-10, a model's at least 1e-3. 100 added answers and the whole distribution were better than 10, 30 and 60,
and than the model's likeliest class as one more person's answer, with simulated people (`benchmarks/consensus.py`,
seeds that its table does not have).
Fails when: most people are wrong most of the time (EM settles on a permutation of the classes), hardly anybody answers
what another one has answered, too, or the model makes people's own mistakes (it was trained on these very answers).

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
from scipy import sparse, special

from labelwise.types import Opinions

MODEL = True
"""Whether the rule looks at what a model says."""
LEAST = 1e-10
"""Least probability of a confusion or a class, so that one answer never rules a class out."""
LEAST_OF_MODEL = 1e-3
"""Least probability of a class by a model, so that it never outvotes people who agree."""
LARGEST_POWER = 10.0


def merge(
    opinions: Opinions, *, model: bool = True, smoothing: float = 100.0, steps: int = 100, tolerance: float = 1e-5
) -> Float64[np.ndarray, "items C"]:
    """Probability of every class of every item; ends when no probability changes by more than `tolerance`."""
    counts = opinions.counts
    many = counts.sum(axis=1, keepdims=True)
    posterior = np.divide(counts, many, out=np.full(counts.shape, 1 / max(opinions.classes, 1)), where=many > 0)
    posterior = opinions.settled(posterior)
    if not len(opinions.item):
        return posterior
    answers, said = _answers(opinions), many[:, 0] > 0
    fitted = _Model(opinions, said) if model and (opinions.modelled & said).any() else None
    for _ in range(steps):
        before = posterior
        frequency = posterior[said].sum(axis=0) + smoothing / opinions.classes
        expected = np.log(np.maximum(frequency / frequency.sum(), LEAST))
        confusions = np.log(_confusions(opinions, answers, posterior, smoothing))
        if fitted is not None:
            expected = fitted.expected(posterior, expected)
        posterior = opinions.settled(special.softmax(expected + answers @ confusions, axis=1))
        if np.abs(posterior - before).max() <= tolerance:
            break
    return posterior


class _Model:
    """A model's distribution to the power `power`, times a factor per class (logarithm: `shift`)."""

    def __init__(self, opinions: Opinions, said: np.ndarray) -> None:
        assert opinions.probs is not None
        self.rows = np.flatnonzero(opinions.modelled)
        self.taught = said[self.rows]
        self.logs = np.log(np.maximum(opinions.probs[self.rows], LEAST_OF_MODEL))
        self.power, self.shift = 1.0, np.zeros(opinions.classes)

    def expected(self, posterior: np.ndarray, otherwise: np.ndarray) -> Float64[np.ndarray, "items C"]:
        """Logarithm of what is expected of every item before its answers; of items without a model `otherwise`.

        Two steps towards the largest likelihood, each a scaling of the factors and a Newton step of the power; one
        object more of each class, and a power near 1, are taken for granted.
        """
        believed, logs = posterior[self.rows[self.taught]], self.logs[self.taught]
        for _ in range(2):
            own = special.softmax(self.shift + self.power * logs, axis=1)
            self.shift = self.shift + np.log((believed.sum(axis=0) + 1) / (own.sum(axis=0) + 1))
            own = special.softmax(self.shift + self.power * logs, axis=1)
            slope = ((believed - own) * logs).sum() - (self.power - 1)
            bend = (own * logs**2).sum() - ((own * logs).sum(axis=1) ** 2).sum() + 1
            self.power = float(np.clip(self.power + slope / bend, 0, LARGEST_POWER))
        out = np.tile(otherwise, (len(posterior), 1))
        out[self.rows] = special.log_softmax(self.shift + self.power * self.logs, axis=1)
        return out


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
        right = np.einsum("pcc->p", table)
        right, wrong = right + 1, table.sum(axis=(1, 2)) - right + 1
        share = (wrong / (right + wrong) / (n - 1))[:, None, None] * np.ones((1, n, n))
        share[:, np.arange(n), np.arange(n)] = (right / (right + wrong))[:, None]
        table = table + smoothing * share
    table = np.maximum(table, LEAST)
    found: np.ndarray = (table / table.sum(axis=1, keepdims=True)).reshape(people * n, n)
    return found
