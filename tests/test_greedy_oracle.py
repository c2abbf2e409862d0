"""The greedy oracle against a plain loop; what it may look at; an upper line on data where labels matter."""

from __future__ import annotations

import numpy as np
import pytest

from labelwise.study.greedy_oracle import greedy_oracle, logistic, nearest, oracle_curve
from labelwise.types import LabelwiseError


def blobs(n: int, seed: int, classes: int = 4, spread: float = 0.9) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    y = rng.choice(classes, n, p=np.array([8, 4, 2, 1]) / 15)
    centre = np.array([[0.0, 0], [2, 0], [0, 2], [2, 2]])
    return centre[y] + rng.normal(0, spread, (n, 2)), y


def test_with_all_candidates_it_takes_the_best_of_a_plain_loop() -> None:
    x, y = blobs(40, 1)
    start, back = np.array([0, 1]), np.arange(30, 40)
    got = greedy_oracle(x, y, start, 3, nearest, held_back=back, candidates=100, rng=np.random.default_rng(0))
    chosen = [0, 1]
    for _ in range(3):
        best, most = -1, (-1.0, -np.inf)
        for i in range(30):
            if i in chosen:
                continue
            probs = nearest(x[[*chosen, i]], y[[*chosen, i]], 4)(x[back])
            right = float((probs.argmax(axis=1) == y[back]).mean())
            sure = round(float(np.log(np.maximum(probs[range(10), y[back]], 1e-12)).mean()), 10)
            if (right, sure) > most:
                best, most = i, (right, sure)
        chosen.append(best)
    assert got.tolist() == chosen[2:]


def test_it_never_takes_what_is_held_back_or_labelled_and_ends_with_the_pool() -> None:
    x, y = blobs(20, 2)
    start, back = np.arange(4), np.arange(12, 20)
    got = greedy_oracle(x, y, start, 50, nearest, held_back=back, candidates=3, rng=np.random.default_rng(0))
    assert sorted(got.tolist()) == list(range(4, 12))
    same = greedy_oracle(x, y, start, 50, nearest, held_back=back, candidates=3, rng=np.random.default_rng(0))
    assert got.tolist() == same.tolist()
    for first, held in ((start, np.zeros(0, int)), (start, start), (np.zeros(0, int), back)):
        with pytest.raises(LabelwiseError, match="held back"):
            greedy_oracle(x, y, first, 1, nearest, held_back=held, rng=np.random.default_rng(0))


def test_it_lies_above_random_with_a_logistic_head_on_a_test_part_that_it_never_saw() -> None:
    gains = []
    for seed in range(3):
        pool, test = blobs(200, seed), blobs(500, 100 + seed)
        start = np.array([int(np.flatnonzero(pool[1] == c)[0]) for c in (0, 1)])
        rng = np.random.default_rng(seed)
        found = oracle_curve(pool, test, start, [4, 6], logistic(), candidates=8, rng=rng)
        assert found.labels.tolist() == [2, 6, 12]
        rows = np.concatenate([start, np.random.default_rng(seed).permutation(200)[:10]])
        random = (logistic()(pool[0][rows], pool[1][rows], 4)(test[0]).argmax(axis=1) == test[1]).mean()
        gains.append(found.accuracy[-1] - random)
    assert np.mean(gains) > 0


def test_one_known_class_is_all_that_a_head_says() -> None:
    probs = logistic()(np.zeros((3, 2)), np.array([1, 1, 1]), 3)(np.zeros((2, 2)))
    assert probs.tolist() == [[0, 1, 0], [0, 1, 0]]
