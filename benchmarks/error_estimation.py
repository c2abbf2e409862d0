"""How well temporal coherence knows the errors of a detector: precision and recall against the ground truth.

    uv run python benchmarks/error_estimation.py runs/drones/random_r_seed0 runs/drones/random_r_seed1 ...

Every project must hold the predictions of a round on a video pool (`--round`). Estimated false positives stand beside
as many detections of lowest confidence; estimated misses (a candidate that overlaps a missed object of its class by IoU
> 0.5) beside as many detections from just below the confidence threshold. Labelled frames are left out. Results:
benchmarks/results/error_estimation.csv, one line per project, tracker and kind of error; the lines of a project and
tracker are written as soon as they are there, in place of older ones, so that several runs may share the file.
"""

from __future__ import annotations

import argparse
import csv
import os
import platform
import subprocess
import sys
import tempfile
from pathlib import Path
from time import perf_counter

import numpy as np
from filelock import FileLock

from labelwise.evaluate.true_errors import errors
from labelwise.project import opening
from labelwise.project.context import Context
from labelwise.project.round import Round
from labelwise.stages import tracking
from labelwise.stages.checkpoints import load_model
from labelwise.study import history
from labelwise.tracks import coherence
from labelwise.types import Boxes, Detections
from labelwise.types.overlap import iou_pairs, pairs

HERE = Path(__file__).parent
TRACKERS = {
    "flow, centre": {"tracker": "flow", "at": "centre"},
    "flow, median": {"tracker": "flow", "at": "median"},
    "Siamese": {"tracker": "siamese"},
}


def ratio(part: int, whole: int) -> float:
    return round(part / whole, 4) if whole else float("nan")


def hits(boxes: Boxes, truth: Boxes, missed: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Which boxes lie on a missed object of their class, and which missed objects have such a box."""
    a, b = pairs(boxes.offsets, truth.offsets)
    right = (boxes.labels[a] == truth.labels[b]) & missed[b] & (iou_pairs(boxes.xyxy[a], truth.xyxy[b]) > 0.5)
    return np.bincount(a[right], minlength=len(boxes)) > 0, np.bincount(b[right], minlength=len(truth)) > 0


def boxes_of(found: Detections, rows: np.ndarray) -> Boxes:
    return Boxes.from_rows(found.image[rows], found.boxes[rows], found.labels[rows], found.n_images)


def measure(context: Context, number: int, tracker: str) -> list[dict[str, object]]:
    pool, truth = context.pool, context.pool.truth
    assert truth is not None
    rule = context.run.tracks.model_copy(update=TRACKERS[tracker])
    context.run = context.run.model_copy(update={"tracks": rule})
    tracking.optical_flow(context)  # computed once for all, and not counted
    now = Round(context, number)
    every = now.detections()
    found = every.take(every.scores >= context.run.query.threshold)
    began = perf_counter()
    tracks = tracking.tracks_of(now, found, tracking.optical_flow(context), lambda: load_model(now.before))
    middle = perf_counter()
    said = coherence.estimate(found.offsets, found.boxes, found.labels, tracks)
    ended = perf_counter()
    # frames that are labelled by then are out: of them nothing needs to be estimated
    ledger = context.project.ledger
    asked = {query.image for earlier in range(number) for query in ledger.queries(earlier)}
    out = np.array([name in asked for name in pool.names]) & now.covered
    true = errors(found.offsets, found.boxes, found.labels, found.scores, truth, pool.crowd)
    rows = np.flatnonzero(~out[found.image])
    wrong, guessed = true.false_positive[rows], said.false_positive[rows]
    lowest = np.zeros(len(rows), bool)
    lowest[np.argsort(found.scores[rows], kind="stable")[: guessed.sum()]] = True
    missed = true.missed & ~out[truth.image]
    candidates = np.flatnonzero(said.false_negative & ~out[said.candidates.image])
    estimated = Boxes.from_rows(
        said.candidates.image[candidates],
        said.candidates.xyxy[candidates],
        said.candidates.labels[candidates],
        len(pool),
    )
    below = np.flatnonzero(~sure & ~out[every.image])
    next_best = boxes_of(every, below[np.argsort(-every.scores[below], kind="stable")[: len(candidates)]])
    lines = []
    shared = {
        "project": context.project.folder.name,
        "data": context.run.name,
        "seed": context.run.seed,
        "round": number,
        "tracker": tracker,
        "frames": int((~out).sum()),
        "detections": len(rows),
        "track_s": seconds(middle - began),
        "graph_s": seconds(ended - middle),
    }
    for name, chosen in (("temporal coherence", guessed), ("lowest confidence", lowest)):
        right = int((chosen & wrong).sum())
        lines.append(
            {**shared, "error": "FP", "by": name, "estimated": int(chosen.sum()), "true": int(wrong.sum())}
            | {"precision": ratio(right, int(chosen.sum())), "recall": ratio(right, int(wrong.sum()))}
        )
    for name, boxes in (("temporal coherence", estimated), ("next confidence", next_best)):
        good, hit = hits(boxes, truth, missed)
        lines.append(
            {**shared, "error": "FN", "by": name, "estimated": len(boxes), "true": int(missed.sum())}
            | {"precision": ratio(int(good.sum()), len(boxes)), "recall": ratio(int(hit.sum()), int(missed.sum()))}
        )
    return lines


def seconds(passed: float) -> float:
    return float(f"{passed:.2f}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("projects", nargs="+", type=Path)
    parser.add_argument("--round", type=int, default=1)
    parser.add_argument("--trackers", nargs="+", choices=[*TRACKERS], default=[*TRACKERS])
    given = parser.parse_args()
    commit = subprocess.run(["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=False)
    origin = {"commit": commit.stdout.strip(), "machine": f"{platform.machine()}, {os.cpu_count()} cores"}
    origin["versions"] = ", ".join(f"{k} {v}" for k, v in history.versions().items())
    origin["command"] = f"benchmarks/error_estimation.py {' '.join(sys.argv[1:])}"
    for folder in given.projects:
        for tracker in given.trackers:
            lines = measure(opening.start(folder, None), given.round, tracker)
            for line in lines:
                print("  ".join(f"{k}={v}" for k, v in line.items()), flush=True)
            keep([line | origin for line in lines])


def keep(lines: list[dict[str, object]]) -> None:
    """Writes these lines to the results, in place of older ones of the same project, round and tracker."""
    path = HERE / "results" / "error_estimation.csv"
    with FileLock(Path(tempfile.gettempdir()) / "labelwise_error_estimation.lock"):
        old = list(csv.DictReader(path.open(newline=""))) if path.exists() else []
        same = ("project", "round", "tracker")
        this = [str(lines[0][name]) for name in same]
        rows = [*(row for row in old if [row[name] for name in same] != this), *lines]
        rows.sort(key=lambda row: (str(row["project"]), [*TRACKERS].index(str(row["tracker"]))))
        with path.open("w", newline="") as file:
            writer = csv.DictWriter(file, [*lines[0]], lineterminator="\n")
            writer.writeheader()
            writer.writerows(rows)


if __name__ == "__main__":
    main()
