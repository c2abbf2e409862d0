"""Ranks over data sets: numbers by hand and of Demsar's paper, ties, and what cannot be ranked."""

from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np
import pytest

from labelwise.report import critical_difference
from labelwise.report.results import RoundResult, RunResult
from labelwise.types import LabelwiseError


def test_critical_values_of_the_paper_and_a_test_by_hand() -> None:
    """Demsar 2006, Table 5 (a): q of 2 to 5 methods; section 3.2.4: CD 1.25 of 4 methods on 14 data sets, rounded."""
    for k, q in ((2, 1.960), (3, 2.343), (4, 2.569), (5, 2.728)):
        found = critical_difference.rank(np.tile(np.arange(k, dtype=float), (14, 1)))
        assert found.critical == pytest.approx(q * np.sqrt(k * (k + 1) / (6 * 14)), abs=1e-3)
    # ranks 1 2 3, 1 3 2, 2 1 3: sums 4, 6, 8; 12 / (3 * 3 * 4) * (16 + 36 + 64) - 3 * 3 * 4 = 2.667; p = exp(-1.333)
    found = critical_difference.rank(np.array([[9.0, 8, 7], [9, 7, 8], [8, 9, 7]]))
    assert found.mean == pytest.approx([4 / 3, 2, 8 / 3]) and found.p == pytest.approx(np.exp(-4 / 3))


@pytest.mark.parametrize("seed", range(20))
def test_ties_against_all_groups(seed: int) -> None:
    """The bars are the largest groups of neighbours within the critical difference."""
    found = critical_difference.rank(np.random.default_rng(seed).integers(0, 4, (6, 7)).astype(float))
    mean = np.sort(found.mean)
    pairs = [(a, b) for a, b in itertools.combinations(range(7), 2) if mean[b] - mean[a] <= found.critical + 1e-9]
    largest = [(a, b) for a, b in pairs if not any(c <= a and b <= d and (c, d) != (a, b) for c, d in pairs)]
    assert list(found.ties) == largest


def test_all_equal_two_methods_and_what_cannot_be_ranked() -> None:
    same = critical_difference.rank(np.ones((3, 4)))
    assert same.mean.tolist() == [2.5] * 4 and same.p == 1 and same.ties == ((0, 3),)
    two = critical_difference.rank(np.array([[1.0, 2.0]] * 5))
    assert np.isnan(two.p) and two.critical == pytest.approx(1.96 * np.sqrt(6 / 30), abs=1e-3) and two.ties == ()
    for bad in (np.ones((1, 3)), np.ones((3, 1)), np.full((2, 2), np.nan), np.ones(3)):
        with pytest.raises(LabelwiseError, match="expected at least two of each"):
            critical_difference.rank(bad)


def results(names: str, seeds: int, lift: float = 0.0) -> list[RunResult]:
    return [
        RunResult(n, s, ("a",), [RoundResult(k, 9, 9, 9, 9.0, quality=0.5 + k * (lift + 0.1 * i)) for k in (0, 1)])
        for i, n in enumerate(names)
        for s in range(seeds)
    ]


def test_the_page_has_methods_that_every_data_set_has_and_common_seeds(tmp_path: Path) -> None:
    lacking = [run for run in results("abcd", 3) if not (run.name == "b" and run.seed == 2)]
    given = {f"set{k}": results("abc", 2) for k in range(7)} | {"last": lacking}
    found = critical_difference.write(tmp_path / "ranking.html", given)
    assert [row[:2] for row in found.table.rows] == [["c", "1.00"], ["b", "2.00"], ["a", "3.00"]]
    assert "set0 (2 seeds)" in found.table.note and "last (2 seeds)" in found.table.note
    assert found.sentences[0] == "Lowest mean rank over 8 data sets: c (1.00 of 3)."
    assert "Further behind than the critical difference, 1.17: a" in found.sentences[1]
    text = (tmp_path / "ranking.html").read_text("utf-8")
    assert "<svg" in text and "critical difference 1.17" in text
    equal = critical_difference.ranking({"x": results("ab", 1), "y": results("ba", 1)})
    assert "No method is further behind" in equal.sentences[1]
