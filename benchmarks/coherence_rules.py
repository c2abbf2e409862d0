"""What the rules of temporal coherence's graph do: candidates, checked flow, costs, ties, and what is known of labels.

    LABELWISE_DATA=data python benchmarks/coherence_rules.py

The clips of drone_video_dev at the film's own rate, every frame looked at. Detectors made from the ground truth, whose
errors are known (seed 0, a tenth of the boxes):

* "perfect": the ground truth; every estimated error is an error of the graph;
* "flicker": boxes left out, and as many boxes anywhere in one frame alone;
* "displaced": boxes moved along one axis until they overlap the object by IoU 0.2 to 0.45, in one frame alone;
* "class": boxes of another class, in one frame alone;
* "lasting": for 15 frames on end all boxes of a clip left out; for 15 frames on end a box that stands still.

`fp_precision` ... `fn_recall` as in coherence_rate.py. `fp_rank`, `fn_rank`: Spearman's correlation of a frame's
estimated with its true errors, over the frames that count. Those are all; with `labelled` (a share of the frames, drawn
at random) the frames within k of a labelled one that are not labelled themselves, `clamped` or not: the same frames.
"""

from __future__ import annotations

import argparse
import csv
import os
import platform
import subprocess
import sys
import tempfile
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
from coherence_rate import clips, flow_of, hits, ratio, with_errors
from scipy.stats import spearmanr

from labelwise.stages.tracking import known_errors
from labelwise.study import history
from labelwise.tracks import coherence, flow, follow
from labelwise.tracks.neighbours import around
from labelwise.types import Boxes, Detections, Labels, Pool, Rects
from labelwise.types.disk import replacing

SHARE, LAST = 0.1, 15
Case = tuple[Boxes, np.ndarray, np.ndarray]
PLAIN: dict[str, Any] = {"candidate_overlap": 0.5, "return_within": None, "ties": "detector", "cost_fp": 1.0,
                         "cost_fn": 1.0, "cost_link": 1.0, "theta": 0.5}  # fmt: skip
"""Every box without a link is a candidate, all costs 1."""


def detector(kind: str, pool: Pool) -> Case:
    """Detections, which are false, and which objects are missed."""
    truth = pool.truth
    assert truth is not None and pool.clips is not None
    rng, n = np.random.default_rng(0), len(truth)
    if kind == "perfect":
        return truth, np.zeros(n, bool), np.zeros(n, bool)
    if kind == "flicker":
        return with_errors(truth, pool, SHARE, 0)
    if kind == "lasting":
        return lasting(truth, pool, rng)
    wrong, boxes, labels = rng.random(n) < SHARE, truth.xyxy.astype(np.float64).copy(), truth.labels.copy()
    if kind == "displaced":
        iou, axis = rng.uniform(0.2, 0.45, n), rng.integers(0, 2, n)
        by = (1 - iou) / (1 + iou) * rng.choice([-1, 1], n)
        step = np.eye(2)[axis] * (boxes[:, 2:] - boxes[:, :2]) * by[:, None]
        boxes[wrong] += np.tile(step, 2)[wrong]
    else:
        labels[wrong] = (labels[wrong] + 1) % len(pool.classes)
    return Boxes.from_rows(truth.image, boxes.astype(np.float32), labels, len(pool)), wrong, wrong


def lasting(truth: Boxes, pool: Pool, rng: np.random.Generator) -> Case:
    video = pool.clips.video  # type: ignore[union-attr]
    starts = np.flatnonzero(rng.random(len(pool)) < SHARE / LAST)
    run = np.minimum(starts[:, None] + np.arange(LAST), len(pool) - 1)
    missed = np.isin(truth.image, run[video[run] == video[starts][:, None]])
    begins = np.flatnonzero(rng.random(len(pool)) < SHARE / LAST)
    run = np.minimum(begins[:, None] + np.arange(LAST), len(pool) - 1)
    one, column = np.nonzero(video[run] == video[begins][:, None])
    like = rng.integers(0, len(truth), len(begins))
    size = truth.xyxy[like, 2:] - truth.xyxy[like, :2]
    corner = rng.random((len(begins), 2)) * (np.stack([pool.width_px, pool.height_px], axis=1)[begins] - size)
    alarms = np.concatenate([corner, corner + size], axis=1)[one]
    where = run[one, column]
    where, first = np.unique(where, return_index=True)  # one a frame
    one, alarms = one[first], alarms[first]
    image = np.concatenate([truth.image[~missed], where])
    boxes = np.concatenate([truth.xyxy[~missed], alarms]).astype(np.float32)
    labels = np.concatenate([truth.labels[~missed], truth.labels[like][one]])
    false = np.arange(len(image)) >= (~missed).sum()
    order = np.argsort(image, kind="stable")
    return Boxes.from_rows(image[order], boxes[order], labels[order], len(pool)), false[order], missed


def correlation(a: np.ndarray, b: np.ndarray) -> object:
    return f"{spearmanr(a, b).statistic:.4f}" if len(a) and np.ptp(a) and np.ptp(b) else ""


def measure(pools: list[tuple[Pool, flow.Flow]], kind: str, k: int, rule: dict[str, Any], share: float,
            clamped: bool) -> dict[str, object]:  # fmt: skip
    called, hit, per_frame = np.zeros(3, int), np.zeros(4, int), []
    for pool, moving in pools:
        assert pool.truth is not None and pool.clips is not None
        found, false, missed = detector(kind, pool)
        rest = {name: value for name, value in rule.items() if name != "return_within"}
        tracks = follow.follow(found.offsets, found.xyxy, moving, pool.width_px, pool.height_px, frames=k,
                               return_within=rule["return_within"])  # fmt: skip
        labelled = np.random.default_rng(1).random(len(pool)) < share
        counted = around(pool.clips.video, labelled, k) & ~labelled if share else np.ones(len(pool), bool)
        known = known_of(found, pool, labelled) if clamped else None
        said = coherence.estimate(found.offsets, found.xyxy, found.labels, tracks, known=known, **rest)
        here = counted[found.image]
        called += [(said.false_positive & here).sum(), (said.false_positive & false & here).sum(), (false & here).sum()]
        hit += hits(said, counted, pool.truth, missed)
        true_fp = np.bincount(found.image[false], minlength=len(pool))
        true_fn = np.bincount(pool.truth.image[missed], minlength=len(pool))
        per_frame.append(np.stack([said.fp, true_fp, said.fn, true_fn])[:, counted])
    fp, true_fp, fn, true_fn = np.concatenate(per_frame, axis=1)
    return {
        "frames": len(fp), "fp_called": called[0], "fp_precision": ratio(called[1], called[0]),
        "fp_recall": ratio(called[1], called[2]), "fn_called": hit[0], "fn_precision": ratio(hit[1], hit[0]),
        "fn_recall": ratio(hit[3], hit[2]), "fp_rank": correlation(fp, true_fp), "fn_rank": correlation(fn, true_fn),
    }  # fmt: skip


def known_of(found: Boxes, pool: Pool, labelled: np.ndarray) -> Any:
    """What the labels of whole frames tell."""
    truth = pool.truth
    assert truth is not None
    rows = labelled[truth.image]
    told = Boxes.from_rows(truth.image[rows], truth.xyxy[rows], truth.labels[rows], len(pool))
    labels = Labels(told, Rects.empty(len(pool)), Rects.empty(len(pool)), labelled)
    sure = np.eye(len(pool.classes), dtype=np.float32)[found.labels]
    scores, none = np.ones(len(found), np.float32), np.zeros((len(found), 0), np.float32)
    return known_errors(Detections(found.offsets, found.xyxy, sure, scores, none), labels, labelled)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--every", type=int, default=1, help="every so-many-th clip")
    parser.add_argument("--cache", type=Path, default=Path(tempfile.gettempdir()) / "labelwise_coherence_rate")
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/coherence_rules.csv"))
    given = parser.parse_args()
    films = [pool for pool in clips(Path(os.environ["LABELWISE_DATA"]) / "drone_video_dev", given.every) if len(pool)]
    pools = [(pool, flow_of(pool, given.cache)) for pool in films]
    git = subprocess.run(["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=False)
    about = {
        "clips": sum(len(np.unique(pool.clips.video)) for pool in films), "seed": 0,  # type: ignore[union-attr]
        "command": " ".join(["python benchmarks/coherence_rules.py", *sys.argv[1:]]),
        "commit": git.stdout.strip(), "date": datetime.now(UTC).strftime("%Y-%m-%d"),
        "machine": f"{platform.machine()}, {os.cpu_count()} cores",
        "versions": ", ".join(f"{name} {version}" for name, version in history.versions().items()),
    }  # fmt: skip
    rows: list[dict[str, object]] = []
    for k, kind, change, share, clamped in cases():
        rule = {**PLAIN, **change}
        found = measure(pools, kind, k, rule, share, clamped)
        row = {"k": k, "detector": kind, **rule, "labelled": share, "clamped": clamped, **found}
        print("  ".join(f"{name}={value}" for name, value in row.items()), flush=True)
        rows.append({**row, **about})
    with replacing(given.out) as partial, partial.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, [*rows[0]], lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


def cases() -> list[tuple[int, str, dict[str, Any], float, bool]]:
    """k, detector, change to the plain rule, share of labelled frames, clamped."""
    overlaps = [{"candidate_overlap": overlap} for overlap in (0.0, 0.1, 0.3, 0.4)]
    changes: list[dict[str, Any]] = [{}, *overlaps, {"theta": 0.3}, {"return_within": 0.25}, {"return_within": 0.1},
        {"candidate_overlap": 0.3, "return_within": 0.25}, {"cost_fp": 2.0}, {"cost_link": 0.5},
        {"ties": "present"}, {"ties": "absent"}, {"candidate_overlap": 0.3, "ties": "present"},
        {"candidate_overlap": 0.3, "ties": "absent"}]  # fmt: skip
    kinds = ("perfect", "flicker", "displaced", "class", "lasting")
    rows = [(k, kind, change, 0.0, False) for k in (3, 1) for change in changes for kind in kinds]
    known = [(share, clamped) for share in (0.02, 0.1, 0.2) for clamped in (False, True)]
    return rows + [(k, kind, {"candidate_overlap": 0.3}, share, clamped)
                   for k in (3, 1) for kind in ("flicker", "lasting") for share, clamped in known]  # fmt: skip


if __name__ == "__main__":
    main()
