"""The inputs of `../shared/cases/foreign`, on which labelwise failed once, by the script that lies beside them."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

CASES = Path(__file__).parents[2] / "shared" / "cases"
FOREIGN = sorted(path.name for path in (CASES / "foreign").iterdir()) if (CASES / "foreign").is_dir() else []


@pytest.mark.parametrize("part", range(4))
def test_every_case_is_right(part: int) -> None:
    if not FOREIGN:
        pytest.skip("no cases: the folder ../shared/cases/foreign is not there")
    command = [sys.executable, str(CASES / "run_cases.py"), str(CASES / "foreign"), *FOREIGN[part::4]]
    command += ["--labelwise", f"{sys.executable} -m labelwise"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=600, check=False)
    assert done.returncode == 0 and "cases right" in done.stdout, done.stdout + done.stderr
