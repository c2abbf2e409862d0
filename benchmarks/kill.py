"""Kills a 3-round run with SIGKILL at random moments, restarts it each time, and compares it with an undisturbed run.

    uv run python benchmarks/kill.py --kills 20

Prints and writes benchmarks/results/kill.csv: final labels, picks, metrics equal or not, queries asked twice.
"""

from __future__ import annotations

import argparse
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from labelwise import opening

SMALL = [
    "data.scenes={train=40, test=12, seed=3, size_px=128}",
    "data.image_size_px=128",
    "model.head_convs=1",
    "model.fpn_channels=16",
    "train.epochs=3",
    "train.min_steps=18",
    "train.checkpoint_every_s=0",
    "train.threads=1",
    "predict.views=['flip', 'cutout']",
    "predict.shard_images=16",
    "budget.start_images=8",
    "budget.per_round=[6, 6]",
    "query.threshold=0.01",
    "labels.threshold=0.01",
    "predict.min_score=0.01",
    "model.score_threshold=0.01",
]
"""A run of 3 rounds that takes seconds."""


def start(folder: Path) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "labelwise", "run", "demo", "-p", str(folder)]
    for setting in SMALL:
        command += ["--set", setting]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(
        command,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # a shell's background jobs ignore Ctrl-C
    )


def fingerprint(folder: Path) -> dict[str, object]:
    """All that must not depend on when a run was killed."""
    opened = opening.start(folder, None)
    ledger = opened.project.ledger
    labels = ledger.labels(opened.pool)
    tables = (labels.annotations.xyxy, labels.annotations.labels, labels.annotations.offsets)
    picks = [(q.round, q.rank, q.image, q.box, q.label, q.score) for q in ledger.queries()]
    verdicts = [v for r in range(opened.run.rounds) for v in ledger.verdicts(r).values()]
    metrics = [opened.file(r, "metrics.json").read_text() for r in range(opened.run.rounds)]
    weights = [opened.file(r, "checkpoint.safetensors").read_bytes() for r in range(opened.run.rounds)]
    background = (labels.background.xyxy, labels.coverage.xyxy)
    return {
        "labels": [t.tobytes() for t in (*tables, *background)],
        "picks": picks,
        "answers": verdicts,
        "metrics": metrics,
        "weights": weights,
    }


def asked_twice(folder: Path) -> int:
    """Queries with more than one answer, or the same box asked again."""
    ledger = opening.start(folder, None).project.ledger
    queries = ledger.queries()
    answers = sum(cost.queries for cost in ledger.cost_by_round().values())
    return (answers - len(queries)) + (len(queries) - len({(q.image, q.box) for q in queries}))


def kill_and_restart(folder: Path, kills: int, rng: np.random.Generator, undisturbed_s: float) -> int:
    """Restarts until the run is complete; kills the first `kills` starts. Returns how many kills hit a living run."""
    hits = 0
    for _ in range(kills):
        process = start(folder)
        time.sleep(float(rng.uniform(0.1, 0.9) * undisturbed_s))
        if process.poll() is None:
            process.send_signal(signal.SIGKILL)
            hits += 1
        process.communicate()
    process = start(folder)
    output, _ = process.communicate()
    if process.returncode:
        raise RuntimeError(output.decode())
    return hits


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    rng = np.random.default_rng(given.seed)
    lines = ["run,kills,labels,picks,answers,metrics,weights,asked_twice"]
    with tempfile.TemporaryDirectory() as scratch:
        calm = Path(scratch) / "calm"
        began = time.monotonic()
        kill_and_restart(calm, 0, rng, 0)
        seconds = time.monotonic() - began
        expected = fingerprint(calm)
        print(f"undisturbed: {seconds:.1f} s, {len(expected['picks'])} queries", flush=True)  # type: ignore[arg-type]
        hits = number = 0
        while hits < given.kills:
            folder = Path(scratch) / f"killed{number}"
            number += 1
            shutil.rmtree(folder, ignore_errors=True)
            some = kill_and_restart(folder, min(5, given.kills - hits), rng, seconds)
            hits += some
            got = fingerprint(folder)
            same = [got[key] == expected[key] for key in expected]
            lines.append(",".join(map(str, [number, some, *same, asked_twice(folder)])))
            print(lines[-1], flush=True)
            (Path(__file__).parent / "results" / "kill.csv").write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
