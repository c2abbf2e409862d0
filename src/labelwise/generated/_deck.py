"""How many objects an image of generated scenes holds, and of which classes: dealt from one deck of exact counts."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from jaxtyping import Float64, Int64


def shares(classes: int, imbalance: float, most: float | None) -> Float64[np.ndarray, " classes"]:
    """The share of each class: falling geometrically from the first to the last one, `imbalance` times rarer.

    With `most` the first class has that share instead, and the fall is among the others (VOC: a person in 5 of 13).

    >>> shares(3, 4, None).round(3).tolist(), shares(3, 2, 0.4).round(3).tolist()
    ([0.571, 0.286, 0.143], [0.4, 0.4, 0.2])
    """
    first = 0 if most is None else 1
    rest = classes - first
    fall = imbalance ** (-np.arange(rest) / max(rest - 1, 1))
    fall = fall / fall.sum()
    return fall if most is None else np.concatenate([[most], (1 - most) * fall])


def deal(
    rng: np.random.Generator, n: int, digits: tuple[int, int], mean: float | None, share: np.ndarray
) -> Iterator[Int64[np.ndarray, " k"]]:
    """The classes of every image, dealt from one shuffled deck that holds each class in exact proportion.

    An image holds `digits[0]` to `digits[1]` objects, each number as often; with `mean` they fall geometrically from
    the fewest on (most images hold one or two things), and are so many on average but for those above the most.
    """
    if mean is None:
        counts = rng.integers(digits[0], digits[1] + 1, n)
    else:
        counts = np.minimum(digits[0] - 1 + rng.geometric(1 / (mean - digits[0] + 1), n), digits[1])
    exact = share * counts.sum()
    per_class = np.floor(exact).astype(int)
    per_class[np.argsort(per_class - exact, kind="stable")[: counts.sum() - per_class.sum()]] += 1
    deck = rng.permutation(np.repeat(np.arange(len(share)), per_class))
    yield from np.split(deck, np.cumsum(counts)[:-1])
