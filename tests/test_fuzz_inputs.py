"""The fuzzer's small version for what is given beside data sets: run files, predictions, answers, requests, arrays."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "benchmarks"))
import fuzz
import fuzz_inputs

INPUTS = 25


def test_the_fuzzer_knows_every_subject() -> None:
    assert tuple(fuzz_inputs.SUBJECTS) == fuzz.SUBJECTS


@pytest.mark.filterwarnings("ignore:overflow encountered:RuntimeWarning", "ignore::DeprecationWarning")
@pytest.mark.parametrize("name", fuzz_inputs.SUBJECTS)
def test_damaged_inputs_are_taken_or_refused_with_a_message(name: str, tmp_path: Path) -> None:
    if name == "page":
        pytest.importorskip("fastapi.testclient", reason="the extra `web` and an HTTP client are not installed")
    damage = fuzz_inputs.SUBJECTS[name](tmp_path)
    outcomes = [fuzz.attempted(name, damage, seed, None) for seed in range(INPUTS)]
    assert [found for found in outcomes if found[0] not in ("read", "error")] == []
    assert {found[0] for found in outcomes} == {"read", "error"} or name == "run file, changed"
    assert all(why.partition(" -> ")[2] for outcome, why, _ in outcomes if outcome == "error"), "an error says why"
