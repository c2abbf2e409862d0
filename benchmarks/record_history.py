"""What recording label dispersion costs: one recorded epoch beside one inference pass and one training epoch.

    uv run python benchmarks/record_history.py

9,000 unlabelled squares of 32 px, 1,000 labelled, the small classifier of the recipe cifar10. CPU seconds (the machine
may be busy), median of the repeats. Results: benchmarks/results/record_history.csv.
"""

from __future__ import annotations

import argparse
import csv
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch

from labelwise.models.classifier import build
from labelwise.predict.classify import classes, distributions
from labelwise.predict.recorder import Recorder
from labelwise.study import history

HERE = Path(__file__).parent


def cpu_s(work: Callable[[], object]) -> float:
    began = time.process_time()
    work()
    return time.process_time() - began


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=7)
    given = parser.parse_args()
    torch.set_num_threads(1)
    rng = np.random.default_rng(0)
    squares = torch.from_numpy(rng.integers(0, 256, (10_000, 3, 32, 32), dtype=np.uint8))
    wanted = np.arange(1_000, 10_000)
    model = build(10, backbone="small", width=16).eval()
    with tempfile.TemporaryDirectory() as folder:
        recorder = Recorder(Path(folder) / "history.npy", squares, wanted, 10, epochs=given.repeats)
        work = {
            "recorded epoch": [lambda e=e: recorder(model, e) for e in range(given.repeats)],
            "inference pass (classes)": [lambda: classes(model, squares, wanted, 512)] * given.repeats,
            "predict pass (distributions)": [lambda: distributions(model, squares, wanted, 512)] * given.repeats,
        }
        model(squares[:512].float())  # warm
        found: dict[str, list[float]] = {name: [] for name in work}
        for k in range(given.repeats):  # taking turns, so that other load meets all alike
            for name, jobs in work.items():
                found[name].append(cpu_s(jobs[k]))
    base = float(np.median(found["inference pass (classes)"]))
    commit = subprocess.run(["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=False)
    with (HERE / "results" / "record_history.csv").open("w", newline="") as file:
        file.write(
            f"# command: benchmarks/record_history.py {' '.join(sys.argv[1:])}\n# commit: {commit.stdout.strip()}\n"
        )
        file.write(f"# versions: {', '.join(f'{k} {v}' for k, v in history.versions().items())}\n")
        writer = csv.writer(file)
        writer.writerow(["what", "images", "cpu_s_median", "cpu_s_min", "over_inference_pass", "bytes_per_image"])
        for name, seconds in found.items():
            middle = float(np.median(seconds))
            row = [name, len(wanted), f"{middle:.3f}", f"{min(seconds):.3f}", f"{middle / base:.3f}"]
            writer.writerow([*row, 1 if name == "recorded epoch" else ""])
            print(*row)


if __name__ == "__main__":
    main()
