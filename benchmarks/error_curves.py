"""How well temporal coherence knows the errors of a detector at the very setting of `video_curves.py`.

    python benchmarks/error_curves.py RUNS... --seeds 10    # a folder of video_curves.py (--runs) per data seed
    python benchmarks/error_curves.py RUNS --first 1        # of data seed 1; lines of others stay as they are stored

Frozen detector, every fifth frame may be asked, k = 3, detections from the run's threshold on. Of every data set, model
seed and cycle the detections of the run "coherence both" are judged as that run judges them; `error_estimation.measure`
has the rules. In benchmarks/results: error_curves.csv (its lines), error_curves_summary.csv (means over the model
seeds; the paired difference to as many errors by confidence, with Student's t and bootstrap intervals at 95 %).
"""

from __future__ import annotations

import argparse
import csv
from itertools import product
from pathlib import Path

import numpy as np
from claims import by_round, note_of, write
from error_estimation import measure

from labelwise.project import opening
from labelwise.project.kept_pools import KeptPools

HERE = Path(__file__).parent
RUN = "coherence both"
GRAPH = "temporal coherence"


def summary(rows: list[dict[str, object]], rounds: list[int]) -> list[dict[str, object]]:
    """A line for each data set, kind of error, quantity and cycle."""
    found: list[dict[str, object]] = []
    for data, error in product(dict.fromkeys(row["data"] for row in rows), ("FP", "FN")):
        ours, other = (
            [row for row in rows if (row["data"], row["error"], row["by"] == GRAPH) == (data, error, graph)]
            for graph in (True, False)
        )
        for name in ("precision", "recall", "rank"):
            a, b = (np.array([row[name] for row in half], float).reshape(-1, len(rounds)) for half in (ours, other))
            for line, columns in by_round(a, b, rounds):
                by_confidence = round(float(b[:, columns].mean()), 3)
                found.append({"data": data, "error": error, "quantity": name} | line | {"by_confidence": by_confidence})
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", nargs="+", type=Path, help="folders of video_curves.py, each of other data")
    parser.add_argument("--seeds", type=int, default=10, help="model seeds")
    parser.add_argument("--rounds", type=int, nargs="+", default=[1, 3, 5])
    parser.add_argument("--first", type=int, default=0, help="data seed of the first folder")
    given = parser.parse_args()
    path, here = HERE / "results/error_curves.csv", [f"roads, seed {given.first + k}" for k in range(len(given.runs))]
    with path.open(newline="", encoding="utf-8") as file:
        stored = csv.DictReader(line for line in file if not line.startswith("#"))
        rows: list[dict[str, object]] = [dict(line) for line in stored if line["data"] not in here]
    kept = KeptPools()
    for data, folder in zip(here, given.runs, strict=True):
        for seed, at in product(range(given.seeds), given.rounds):
            context = opening.start(folder / f"{RUN}_seed{seed}", None, kept=kept)
            lines = measure(context, at, "as set", context.run.query.threshold)
            context.project.close()
            rows += [line | {"data": data} for line in lines]
            print("  ".join(f"{k}={v}" for k, v in lines[0].items()), flush=True)
    note = note_of("error_curves", None, range(given.seeds)).replace(
        "claims.py error_curves", "error_curves.py RUNS..."
    )
    note += f"# data: roads of video_curves.py, a seed for each folder of runs; this run: {', '.join(here)}\n"
    write(path, rows, note)
    write(HERE / "results/error_curves_summary.csv", table := summary(rows, given.rounds), note)
    for line in table:
        print(", ".join(f"{key} {value}" for key, value in line.items() if value != ""), flush=True)


if __name__ == "__main__":
    main()
