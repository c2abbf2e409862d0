"""The numeric tests once more under other kernels of the BLAS, and the same picks of every selector under each.

NumPy and SciPy bring an OpenBLAS that chooses its kernel by the processor; the last bits of a product hang on it and on
the number of threads, those of a logarithm on NumPy's own vector instructions. `OPENBLAS_CORETYPE`, OpenBLAS' threads
and `NPY_DISABLE_CPU_FEATURES` stand for other machines.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from functools import cache
from pathlib import Path

import numpy as np
import pytest

TESTS = Path(__file__).parent
KERNELS = ("Haswell", "SkylakeX", "Zen")
OLDER = ("Nehalem", "Sandybridge")
NUMERIC = (
    *("select", "select_balance", "select_cold_start", "select_diversity", "select_image", "select_quota"),
    *("select_herding", "frontier"),
    *("score", "score_image", "tracks_graph", "labels", "labels_partial", "labels_windows"),
    *("evaluate_detection", "predict_match"),
)
ASK = """
import json, numpy, scipy.linalg, threadpoolctl
print(json.dumps([i["architecture"] for i in threadpoolctl.threadpool_info() if i["internal_api"] == "openblas"]))
"""


def run(command: list[str], kernel: str, threads: int, **more: str) -> subprocess.CompletedProcess[str]:
    given = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST_")}
    count = str(threads)
    given |= {"OPENBLAS_CORETYPE": kernel, "OPENBLAS_NUM_THREADS": count, "OMP_NUM_THREADS": count, **more}
    return subprocess.run([sys.executable, *command], env=given, cwd=TESTS.parent, capture_output=True, text=True)


@cache
def runs_as(kernel: str) -> list[str]:
    """The kernels that the libraries really run when asked for this one."""
    found: list[str] = json.loads(run(["-c", ASK], kernel, 1).stdout)
    return found


def need(kernel: str) -> None:
    found = runs_as(kernel)
    if not found:
        pytest.skip("NumPy and SciPy of this machine use another BLAS than OpenBLAS, which has no kernels to choose")
    if set(found) != {kernel}:
        pytest.skip(f"asked for the kernel {kernel}, OpenBLAS runs {' and '.join(sorted(set(found)))}: tested as such")


@cache
def picks(kernel: str, threads: int, disabled: str = "") -> dict[str, list[int]]:
    more = {"NPY_DISABLE_CPU_FEATURES": disabled} if disabled else {}
    found = run(["-W", "error", str(TESTS / "fakes" / "picks.py")], kernel, threads, **more)
    assert found.returncode == 0, found.stderr
    rows: dict[str, list[int]] = json.loads(found.stdout)
    return rows


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("kernel", KERNELS)
def test_the_numeric_tests_hold_under_every_kernel(kernel: str, threads: int) -> None:
    need(kernel)
    files = [str(TESTS / f"test_{name}.py") for name in NUMERIC]
    found = run(["-m", "pytest", "-p", "no:cacheprovider", "-p", "no:xdist", *files], kernel, threads)
    assert found.returncode == 0, found.stdout[-6000:] + found.stderr[-2000:]


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("kernel", [*KERNELS, *OLDER])
def test_every_selector_makes_the_same_picks_under_every_kernel(kernel: str, threads: int) -> None:
    need(kernel)
    want, got = picks("", 1), picks(kernel, threads)
    assert len(want) > 600
    assert [case for case in want if got[case] != want[case]] == []


def test_every_selector_makes_the_same_picks_without_newer_vector_instructions() -> None:
    newer = np.show_config(mode="dicts")["SIMD Extensions"].get("found", [])  # type: ignore[index]
    if not newer:
        pytest.skip("NumPy finds no vector instructions here that it could leave out")
    want, got = picks("", 1), picks("", 1, ",".join(newer))
    assert [case for case in want if got[case] != want[case]] == []
