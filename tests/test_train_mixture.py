"""The share of wholly looked-over images: in every batch, every image equally often, against a plain loop."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from labelwise.targets import partial
from labelwise.train.mixture import OTHER, WHOLE, Mixture, mixture_of
from labelwise.types import Boxes, Labels, Rects


def plain(whole: np.ndarray, share: float, size: int, state: tuple[int, int], steps: int) -> list[list[int]]:
    """Slow: two decks of cards, shuffled anew when they are empty; a batch takes cards one by one."""
    decks: dict[int, list[int]] = {WHOLE: [], OTHER: []}
    shuffles = Counter[int]()

    def card(stream: int) -> int:
        if not decks[stream]:
            rows = [i for i, is_whole in enumerate(whole) if is_whole == (stream == WHOLE)]
            rng = np.random.default_rng((*state, shuffles[stream], stream))
            decks[stream] = [rows[k] for k in rng.permutation(len(rows))]
            shuffles[stream] += 1
        return decks[stream].pop(0)

    taken, batches = 0, []
    for step in range(steps):
        wanted = 0
        while taken + wanted + 1 <= share * size * (step + 1) + 1e-6:
            wanted += 1
        taken += wanted
        batches.append([card(WHOLE) for _ in range(wanted)] + [card(OTHER) for _ in range(size - wanted)])
    return batches


@settings(max_examples=60, deadline=None)
@given(
    whole=st.lists(st.booleans(), min_size=2, max_size=30).filter(lambda flags: 0 < sum(flags) < len(flags)),
    share=st.one_of(st.sampled_from([0.0, 0.25, 0.5, 0.75, 1.0]), st.floats(0, 1)),
    size=st.integers(1, 9),
    seed=st.integers(0, 9),
)
def test_the_mixture_against_a_plain_loop(whole: list[bool], share: float, size: int, seed: int) -> None:
    flags, steps = np.array(whole), 40
    mixture = Mixture(flags, share=share, size=size, seed=seed, round_number=3)
    batches = [mixture.batch(step) for step in range(steps)]
    assert [batch.tolist() for batch in batches] == plain(flags, share, size, (seed, 3), steps)
    again = Mixture(flags, share=share, size=size, seed=seed, round_number=3)
    assert again.batch(17).tolist() == batches[17].tolist()  # of (seed, round, step) alone
    for batch in batches:
        assert len(batch) == size
        assert abs(flags[batch].sum() - share * size) < 1 + 1e-5
    counts = np.bincount(np.concatenate(batches), minlength=len(flags))
    for kind in (counts[flags], counts[~flags]):
        assert kind.max() - kind.min() <= 1
    assert abs(counts[flags].sum() - share * size * steps) < 1 + 1e-5


def test_a_share_that_fits_is_in_every_batch_alike() -> None:
    flags = np.arange(172) < 15
    mixture = Mixture(flags, share=0.5, size=8, seed=0, round_number=1)
    assert {int(flags[mixture.batch(step)].sum()) for step in range(100)} == {4}


@pytest.mark.parametrize("whole", [[], [True, True], [False, False]])
def test_of_one_kind_alone_there_is_no_mixture(whole: list[bool]) -> None:
    assert mixture_of(np.array(whole, bool), share=0.5, size=4, seed=0, round_number=0) is None
    assert mixture_of(np.array([True, False]), share=None, size=4, seed=0, round_number=0) is None


@pytest.mark.parametrize(
    "regions, expected", [("coverage", [True, False, False]), ("both", [True, False, False, True])]
)
def test_the_targets_know_what_was_wholly_looked_over(regions: str, expected: list[bool]) -> None:
    """One image covered, one with a labelled region, one with a box alone, one of which nothing is known."""
    boxes = np.array([[1, 1, 3, 3], [1, 1, 3, 3], [1, 1, 3, 3]], np.float32)
    annotations = Boxes.from_rows(np.array([0, 1, 2]), boxes, np.zeros(3, int), 4)
    coverage = Rects.from_rows(np.array([0, 1]), np.array([[0, 0, 9, 9], [0, 0, 4, 9]]), 4)
    known = Labels(annotations, coverage, Rects.empty(4), np.array([True, True, True, False]))
    nine = np.full(4, 9)
    made = partial.targets(known, None, lambda _: (), "everywhere", nine, nine, None, regions=regions)  # type: ignore[arg-type,return-value]
    assert made.whole.tolist() == expected
    assert made.images.tolist() == [0, 1, 2, 1][: len(expected)]
