"""Another opinion on what was answered, or a new question: what either is worth, on one scale (machinery).

Source: H. W. Goh and J. Mueller, "ActiveLab: active learning with re-labeling by multiple annotators" (arXiv
2301.11856), section 3.
Differs from the paper: the model's distributions are taken as they are, not scaled by a temperature.
Fails when: the model's confidence is of another kind on what was answered than on what is new (it learnt the answers).
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Float64

from labelwise.merge import crowdlab
from labelwise.types import Opinions


def worth(
    opinions: Opinions, new: Float64[np.ndarray, "m C"]
) -> tuple[Float64[np.ndarray, " items"], Float64[np.ndarray, " m"]] | None:
    """What another opinion on each item is worth, and an answer to each new question, 0 to 1; None where no item has
    several answers yet.

    It is what is missing to certainty once one more person of mean weight, who says nothing, is counted in: of an item
    the consensus has the weights of who answered and of the model behind it, of a new question the model's alone.

    Worked by hand: both people agree always, so their weight is 1, and their consensus is certain. Without a model a
    third one leaves 1 - (2 * 1 + 1/2) / 3 to doubt; a new question, of which nothing is known, 1/2.

    >>> item, person = np.divmod(np.arange(8), 2)
    >>> said = Opinions(item, person, item % 2, 4, 2, 2)
    >>> again, new = worth(said, np.full((1, 2), 0.5))
    >>> again.round(3).tolist(), new.tolist()
    ([0.167, 0.167, 0.167, 0.167], [0.5])
    """
    found = crowdlab.estimate(opinions)
    if found is None:
        return None
    even, more = 1 / opinions.classes, float(found.people.mean())
    said = np.bincount(opinions.item, found.people[opinions.person], minlength=opinions.items)
    behind = said + found.model * opinions.modelled
    sure = found.posterior[np.arange(opinions.items), found.consensus]
    again = 1 - (behind * sure + more * even) / (behind + more)
    of_new = 1 - (found.model * new.max(axis=1, initial=0.0) + more * even) / (found.model + more)
    return again, of_new
