"""`benchmarks/gpu.sh --dry` runs every part on a CPU; what it writes says what it holds for."""

from __future__ import annotations

import csv
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


@pytest.mark.skipif(sys.platform == "win32", reason="a script of bash")
def test_the_dry_run_writes_every_table(tmp_path: Path) -> None:
    environment = {name: value for name, value in os.environ.items() if name != "LABELWISE_DATA"}
    environment |= {"OUT": str(tmp_path), "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT / "src")}
    environment["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{environment['PATH']}"
    command = ["bash", str(ROOT / "benchmarks/gpu.sh"), "--dry"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=500)
    assert done.returncode == 0, done.stderr[-2000:]
    tables = {}
    for part in ("speed", "boxes", "boxes_runs", "classes", "classes_runs"):
        lines = (tmp_path / f"gpu_{part}.csv").read_text(encoding="utf-8").splitlines()
        said = {line[2:].split(":")[0] for line in lines if line.startswith("#")}
        assert {"command", "commit", "card", "machine", "versions", "date"} <= said
        tables[part] = list(csv.DictReader(line for line in lines if not line.startswith("#")))
    assert {row["model"] for row in tables["speed"]} >= {"retinanet, small", "yolox_nano", "frozen"}
    assert all(float(row["predict_images_per_s"] or row["train_images_per_s"]) > 0 for row in tables["speed"])
    for part, methods in (("boxes", 2), ("classes", 2)):
        assert len(tables[f"{part}_runs"]) == methods * 2 * 2  # seeds, rounds
        paired = [row for row in tables[part] if row["against"] == "random_image"]
        assert paired and all(row["seeds"] == "2" and row["t_low"] for row in paired)
