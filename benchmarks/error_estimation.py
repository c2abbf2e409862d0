"""How well temporal coherence knows the errors of a detector: precision and recall against the ground truth.

    uv run python benchmarks/error_estimation.py runs/drones/random_r_seed0 runs/drones/random_r_seed1 ...

Every project must hold the predictions of a round on a video pool (`--round`). Detections from `--threshold` on are
judged. Estimated false positives stand beside as many detections of lowest confidence; estimated misses (a candidate
that overlaps a missed object of its class by IoU > 0.5) beside as many detections from just below that threshold.
`rank`: Spearman's correlation of a frame's estimated with its true errors. Only frames count that may be asked and
are not labelled. `rule`: what is no candidate (`tracks.candidate_overlap`), and what else is set. Results:
benchmarks/results/error_estimation_rules.csv, two lines per project, rule and kind of error; the lines of a project
and rule are written as soon as they are there, in place of older ones, so that several runs may share the file.
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
from scipy.stats import spearmanr

from labelwise.evaluate.true_errors import errors
from labelwise.ledger import records
from labelwise.project import opening
from labelwise.project.context import Context
from labelwise.project.round import Round
from labelwise.stages import tracking
from labelwise.stages.checkpoints import load_model
from labelwise.study import history
from labelwise.types import Boxes, Detections
from labelwise.types.overlap import iou_pairs, pairs

HERE = Path(__file__).parent
RULES: dict[str, dict[str, object]] = {
    "as set": {},
    "no link (text)": {"candidate_overlap": 0.5},
    "overlap 0.3": {"candidate_overlap": 0.3},
    "overlap 0.1": {"candidate_overlap": 0.1},
    "no overlap (Fig. 2.2b)": {"candidate_overlap": 0.0},
    "overlap 0.3, k = 1": {"candidate_overlap": 0.3, "frames": 1},
    "overlap 0.3, checked flow": {"candidate_overlap": 0.3, "return_within": 0.25},
    "overlap 0.3, median": {"candidate_overlap": 0.3, "at": "median"},
    "overlap 0.3, labels not clamped": {"candidate_overlap": 0.3, "clamp_labelled": False},
    "Siamese": {"tracker": "siamese"},
}
"""What is set of `tracks` in place of the project's own; all but the first and the last are measured by default."""


def ratio(part: int, whole: int) -> float:
    return round(part / whole, 4) if whole else float("nan")


def hits(boxes: Boxes, truth: Boxes, missed: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Which boxes lie on a missed object of their class, and which missed objects have such a box."""
    a, b = pairs(boxes.offsets, truth.offsets)
    right = (boxes.labels[a] == truth.labels[b]) & missed[b] & (iou_pairs(boxes.xyxy[a], truth.xyxy[b]) > 0.5)
    return np.bincount(a[right], minlength=len(boxes)) > 0, np.bincount(b[right], minlength=len(truth)) > 0


def boxes_of(found: Detections, rows: np.ndarray) -> Boxes:
    return Boxes.from_rows(found.image[rows], found.boxes[rows], found.labels[rows], found.n_images)


def measure(context: Context, number: int, rule_name: str, threshold: float) -> list[dict[str, object]]:
    pool, truth = context.pool, context.pool.truth
    assert truth is not None
    rule = context.run.tracks.model_copy(update=RULES[rule_name])
    seen = records.instant_of(records.of_stage(context.project.ledger, number, "score"))  # no later round's labels
    context = context.at(seen, context.run.model_copy(update={"tracks": rule}))
    moving = tracking.optical_flow(context)  # computed once for all, and not counted
    now = Round(context, number)
    every = now.detections()
    sure = every.scores >= threshold
    found = every.take(sure)
    began = perf_counter()
    tracks = tracking.tracks_of(now, found, tracking.among(moving, now.predicted), lambda: load_model(now.before))
    middle = perf_counter()
    known = tracking.known_errors(found, now.known, now.covered) if rule.clamp_labelled else None
    said = tracking.judged(found, tracks, rule, known)
    ended = perf_counter()
    out = ~(now.askable & now.predicted) | now.covered
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
    per_frame = {
        "FP": (said.fp, np.bincount(found.image[true.false_positive], minlength=len(pool)), found.image[rows[lowest]]),
        "FN": (said.fn, np.bincount(truth.image[true.missed], minlength=len(pool)), next_best.image),
    }
    ranks = {
        (kind, by): correlation(values[~out], errors_[~out])
        for kind, (graph, errors_, other) in per_frame.items()
        for by, values in (("graph", graph), ("other", np.bincount(other, minlength=len(pool))))
    }
    lines = []
    shared = {
        "project": context.project.folder.name,
        "data": context.run.name,
        "seed": context.run.seed,
        "round": number,
        "rule": rule_name,
        "threshold": threshold,
        "objects_per_frame": ratio(int((~out)[truth.image].sum()), int((~out).sum())),
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
            | {"rank": ranks["FP", "graph" if name == "temporal coherence" else "other"]}
        )
    for name, boxes in (("temporal coherence", estimated), ("next confidence", next_best)):
        good, hit = hits(boxes, truth, missed)
        lines.append(
            {**shared, "error": "FN", "by": name, "estimated": len(boxes), "true": int(missed.sum())}
            | {"precision": ratio(int(good.sum()), len(boxes)), "recall": ratio(int(hit.sum()), int(missed.sum()))}
            | {"rank": ranks["FN", "graph" if name == "temporal coherence" else "other"]}
        )
    return lines


def correlation(a: np.ndarray, b: np.ndarray) -> float:
    return round(float(spearmanr(a, b).statistic), 4) if len(a) and np.ptp(a) and np.ptp(b) else float("nan")


def seconds(passed: float) -> float:
    return float(f"{passed:.2f}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("projects", nargs="+", type=Path)
    parser.add_argument("--round", type=int, default=1)
    parser.add_argument("--rules", nargs="+", choices=[*RULES], default=[*RULES][1:-1])
    parser.add_argument("--threshold", type=float, default=0.5, help="detections from this confidence on are judged")
    given = parser.parse_args()
    commit = subprocess.run(["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=False)
    origin = {"commit": commit.stdout.strip(), "machine": f"{platform.machine()}, {os.cpu_count()} cores"}
    origin["versions"] = ", ".join(f"{k} {v}" for k, v in history.versions().items())
    origin["command"] = f"benchmarks/error_estimation.py {' '.join(sys.argv[1:])}"
    for folder in given.projects:
        for rule in given.rules:
            lines = measure(opening.start(folder, None), given.round, rule, given.threshold)
            for line in lines:
                print("  ".join(f"{k}={v}" for k, v in line.items()), flush=True)
            keep([line | origin for line in lines])


def keep(lines: list[dict[str, object]]) -> None:
    """Writes these lines to the results, in place of older ones of the same project, round, rule and threshold."""
    path = HERE / "results" / "error_estimation_rules.csv"
    with FileLock(Path(tempfile.gettempdir()) / "labelwise_error_estimation.lock"):
        old = list(csv.DictReader(path.open(newline=""))) if path.exists() else []
        same = ("project", "round", "rule", "threshold")
        this = [str(lines[0][name]) for name in same]
        rows = [*(row for row in old if [row[name] for name in same] != this), *lines]
        rows.sort(key=lambda row: (str(row["project"]), str(row["threshold"]), [*RULES].index(str(row["rule"]))))
        with path.open("w", newline="") as file:
            writer = csv.DictWriter(file, [*lines[0]], lineterminator="\n")
            writer.writeheader()
            writer.writerows(rows)


if __name__ == "__main__":
    main()
