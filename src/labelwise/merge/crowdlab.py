"""Every person and the model weigh as much as they are better than a guess; unit: share of the weights, 0 to 1.

The posterior is a weighted mean of the model's distribution and of what each answer says: its class with the
probability with which people agree with the consensus, the others alike. A person weighs by agreement with others, the
model by agreement with the consensus, times the root of the mean number of answers. The consensus is the majority's,
then that of a first posterior.

Source: H. W. Goh, U. Tkachenko and J. Mueller, "CROWDLAB: supervised learning to infer consensus labels and quality
scores for data with multiple annotators" (arXiv 2210.06812), section 3.
Differs from the paper: of items that the model says nothing of, the answers alone decide; ties of the majority that
the model does not break go to the first answer.
Fails when: the model's errors are people's errors (it was trained on their answers to these very items), or one class
is so frequent that guessing it is better than people.

Worked by hand: without a model, and three people who always agree, the weight of each is 1: the posterior is theirs.

>>> from labelwise.types import Opinions
>>> item, person = np.divmod(np.arange(12), 3)
>>> merge(Opinions(item, person, np.array([0, 1, 0, 1])[item], 4, 3, 2)).round(3).tolist()
[[1.0, 0.0], [0.0, 1.0], [1.0, 0.0], [0.0, 1.0]]
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Float64, Int64

from labelwise.merge import majority
from labelwise.types import Opinions

MODEL = True
"""Whether the rule looks at what a model says."""
WEIGHS = False
"""Its numbers order items and are no probabilities: in training, merged classes weigh 1 (measured: 0 to 2 points)."""
LEAST = 1e-6
"""Least weight, and least error of a guess."""


@dataclass(frozen=True, slots=True, eq=False)
class Estimate:
    """The posterior, the consensus that weighed it, and the weights of the people and of the model."""

    posterior: Float64[np.ndarray, "items C"]
    consensus: Int64[np.ndarray, " items"]
    people: Float64[np.ndarray, " people"]
    model: float


def merge(opinions: Opinions) -> Float64[np.ndarray, "items C"]:
    """Probability of every class of every item; an item of which nobody says anything has the same for all classes."""
    found = estimate(opinions)
    return majority.merge(opinions) if found is None else opinions.settled(found.posterior)


def estimate(opinions: Opinions) -> Estimate | None:
    """The posterior with its weights; None where no item has several answers, which the weights are estimated from."""
    counts = opinions.counts
    many = counts.sum(axis=1)
    several = many > 1
    if not several.any():
        return None
    agreement = _agreement(opinions, counts, many)
    consensus = _majority(opinions, counts)
    posterior = _posterior(opinions, counts, several, agreement, consensus).posterior
    best = posterior.max(axis=1, keepdims=True)
    clear = (posterior == best).sum(axis=1) == 1
    consensus = np.where(clear, posterior.argmax(axis=1), consensus)
    return _posterior(opinions, counts, several, agreement, consensus)


def _majority(opinions: Opinions, counts: np.ndarray) -> Int64[np.ndarray, " items"]:
    """The class of most votes; of equally many the model's likeliest, then the first answer's."""
    most = counts == counts.max(axis=1, keepdims=True)
    said = np.nan_to_num(opinions.probs) if opinions.probs is not None else np.zeros(counts.shape)
    said = np.where(most, said, -1.0)
    tie = (said == said.max(axis=1, keepdims=True)).sum(axis=1) > 1
    found: np.ndarray = np.where(tie, majority.merge(replace(opinions, truth=None)).argmax(axis=1), said.argmax(axis=1))
    return found


def _agreement(opinions: Opinions, counts: np.ndarray, many: np.ndarray) -> Float64[np.ndarray, " people"]:
    """How often others gave a person's answer, per pair of answers; the mean where nobody answered the same."""
    others = many[opinions.item] - 1
    same = counts[opinions.item, opinions.label] - 1
    pairs = np.bincount(opinions.person, others, minlength=opinions.people)
    agreed = np.bincount(opinions.person, same, minlength=opinions.people)
    found = np.divide(agreed, pairs, out=np.full(opinions.people, np.nan), where=pairs > 0)
    filled: np.ndarray = np.where(np.isnan(found), np.nanmean(found), found)
    return filled


def _posterior(
    opinions: Opinions, counts: np.ndarray, several: np.ndarray, agreement: np.ndarray, consensus: np.ndarray
) -> Estimate:
    n, rows = opinions.classes, np.arange(opinions.items)
    many = counts.sum(axis=1)
    right = float((counts[rows, consensus][several] / many[several]).mean())
    wrong = (1 - right) / max(n - 1, 1)
    guess = max(1 - np.bincount(consensus[several], minlength=n).max() / several.sum(), LEAST)
    weight = np.maximum(1 - (1 - agreement) / guess, LEAST)
    of_answer = weight[opinions.person]
    cells = np.bincount(opinions.item * n + opinions.label, of_answer, minlength=opinions.items * n)
    said, total = cells.reshape(-1, n), np.zeros(opinions.items)
    np.add.at(total, opinions.item, of_answer)
    posterior = said * right + (total[:, None] - said) * wrong
    modelled, model = opinions.modelled, 0.0
    if opinions.probs is not None and (modelled & several).any():
        both = modelled & several
        error = float((opinions.probs[both].argmax(axis=1) != consensus[both]).mean())
        model = float(max(1 - error / guess, LEAST) * np.sqrt(many[many > 0].mean()))
        posterior += model * np.where(modelled[:, None], opinions.probs, 0.0)
        total = total + model * modelled
    even = np.full(posterior.shape, 1 / max(n, 1))
    out: np.ndarray = np.divide(posterior, total[:, None], out=even, where=total[:, None] > 0)
    return Estimate(out, consensus, weight, model)
