"""The fuzzer's small version: a few damaged inputs of every layout; and what it counts as a fault."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "benchmarks"))
import fuzz
from fuzz_layouts import layouts

from labelwise.data import check as data_check
from labelwise.types import LabelwiseError

LAYOUTS = dict(layouts())
INPUTS = 12


@pytest.mark.parametrize("name", LAYOUTS)
def test_damaged_files_are_read_or_told(name: str) -> None:
    before = fuzz.baseline(LAYOUTS[name])
    outcomes = [fuzz.one(name, LAYOUTS[name], seed, before, None) for seed in range(INPUTS)]
    assert [found for found in outcomes if found[0] not in ("read", "told", "error", "fewer")] == []
    assert len(outcomes) == INPUTS


@pytest.mark.parametrize(
    ("error", "outcome"),
    [(KeyError("x"), "fault: traceback"), (MemoryError(), "fault: memory"), (LabelwiseError("x"), "error")],
)
def test_what_counts_as_a_fault(
    error: BaseException, outcome: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def look(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr(data_check, "look", look)
    assert fuzz.judge(tmp_path, None, False)[0] == outcome


def test_a_loss_that_nobody_tells_is_silent(tmp_path: Path) -> None:
    fuzz.place(LAYOUTS["coco"], tmp_path)
    assert fuzz.judge(tmp_path, (2, 4), True)[0] == "silent"
    assert fuzz.judge(tmp_path, (2, 4), False)[0] == "fewer"
    assert fuzz.judge(tmp_path, (2, 3), True)[0] == "read"
