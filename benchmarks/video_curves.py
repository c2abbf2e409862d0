"""Chapter 2 of 001 on a CPU: videos, 2 % of the film's frames labelled per cycle up to 12 %, every method side by side.

    LABELWISE_DATA=data python benchmarks/video_curves.py --seeds 50    # resumable; --summary: tables alone

Generated roads of 640 x 384 px (24 clips of the pool, 12 of the test; 4.6 objects per frame), every fifth frame may be
asked; detections, flow and links are of every frame (k = 3). The detector is the frozen one (ten proposals of
YOLOX-nano a frame; logistic regression of MobileNetV2's features of their crops): it trains in a second, so that many
seeds are possible. Compared, same start per seed: random frames, Random+R, least confidence, entropy, margin, temporal
coherence by FP, FN, both, and the oracles; beside them no new label, and everything labelled. In benchmarks/results:
video_curves.csv (a line per method, seed and cycle), video_curves_summary.csv (means; paired differences to Random+R
and to random frames; share of the full-data AP50).
"""

from __future__ import annotations

import argparse
import os
import time
from pathlib import Path

import numpy as np
from claims import by_round, note_of, rounded, write

from labelwise.generated import roads
from labelwise.project import opening
from labelwise.project.kept_pools import KeptPools
from labelwise.report.results import RunResult
from labelwise.report.spread import Group, groups, values
from labelwise.stages import tracking
from labelwise.study import history
from labelwise.study.compare import EVERYTHING_LABELLED, Comparison, Way

HERE = Path(__file__).parent
BASES = ("random_r", "random_image")
COHERENCE = 'query.score={{ name = "temporal_coherence", errors = "{}" }}'
ORACLE = 'query.score={{ name = "detection_errors", errors = "{}" }}'
WAYS = (
    *(Way(f"coherence {e}", "temporal_coherence", (COHERENCE.format(e),)) for e in ("fp", "fn", "both")),
    *(Way(f"oracle {e}", "oracle_fp", (ORACLE.format(e),)) for e in ("fp", "fn")),
)
METHODS = (*BASES, "coherence fp", "coherence fn", "coherence both", "frame_confidence", "frame_entropy",
           "frame_margin", "oracle fp", "oracle fn")  # fmt: skip
SETTINGS = (
    *("data.format=coco", "data.pool_split=train", "data.test_split=test", "data.image_size_px=416"),
    *("data.stride_frames=1", "data.test_stride_frames=5", "query.every_frames=5", "features.objects_most=10"),
    *("model.objectness=0.3", "budget.unit=frames"),
)
DATA = "drones+frozen"
"""A recipe of videos whose data is another here, and the frozen detector."""
CYCLES, SHARE = 5, 0.02


def prepare(folder: Path, data: str, settings: tuple[str, ...], share: float = SHARE) -> tuple[int, tuple[str, ...]]:
    """Optical flow once, for all runs; how many frames the film has, and the settings with `share` of it per cycle."""
    start = opening.start(folder / "_flow", f"{data}+temporal_coherence", [*settings, "budget.per_round=[1]"])
    frames = len(start.pool)
    tracking.optical_flow(start)
    start.project.close()
    each = round(share * frames)
    return frames, (*settings, f"budget.start_images={each}", f"budget.per_round=[{', '.join([str(each)] * CYCLES)}]")


def lines(runs: list[RunResult]) -> list[dict[str, object]]:
    """A line for each method, seed and cycle; AP50 in points."""
    found: list[dict[str, object]] = []
    for one in runs:
        for at in one.rounds:
            line = {"row": one.name, "seed": one.seed, "round": at.round, "frames": at.cost_images}
            line |= {"boxes": at.cost_boxes, "queries": at.cost_queries, "annotation_s": round(at.cost_seconds)}
            line |= {"AP50": rounded(100 * at.quality), "wall_s": round(sum(at.stage_seconds.values()), 1)}
            line |= {f"{stage}_s": rounded(seconds) for stage, seconds in at.stage_seconds.items()}
            found.append(line)
    return found


def summary(runs: list[RunResult]) -> list[dict[str, object]]:
    """A line for each method and cycle, and for the mean of the cycles after the first, beside either random; with the
    share of the AP50 of everything labelled (of the same cycle and seeds), the boxes and the seconds of annotation.
    """
    by_name = {group.name: group for group in groups(runs)}
    found: list[dict[str, object]] = []
    for name, group in by_name.items():
        for base in (by_name[one] for one in BASES if one in by_name and one != name):
            seeds = [seed for seed in group.seeds if seed in base.seeds]
            a, b = (100 * values(one, "quality")[[one.seeds.index(seed) for seed in seeds]] for one in (group, base))
            whole = _whole(by_name, seeds)
            for line, columns in by_round(a, b, group.rounds):
                more: dict[str, object] = {}
                if whole is not None:
                    more["percent_of_full"] = rounded(100 * a[:, columns].mean() / whole[:, columns].mean())
                for cost in ("cost_boxes", "cost_seconds"):
                    spent = values(group, cost)[[group.seeds.index(seed) for seed in seeds]]
                    more[cost] = rounded(spent[:, columns].mean())
                found.append({"row": name, "against": base.name} | line | more)
    return found


def _whole(by_name: dict[str, Group], seeds: list[int]) -> np.ndarray | None:
    whole = by_name.get(EVERYTHING_LABELLED)
    if whole is None or not set(seeds) <= set(whole.seeds):
        return None
    found = 100 * values(whole, "quality")[[whole.seeds.index(seed) for seed in seeds]]
    found[:, 0] = found[:, 1]  # its first model is that of all methods
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=50)
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--methods", nargs="+", default=METHODS)
    parser.add_argument("--runs", type=Path, default=HERE.parent / "runs/video_curves")
    parser.add_argument("--data", type=Path, help="roads written before; none: below --runs")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE")
    parser.add_argument("--summary", action="store_true")
    given = parser.parse_args()
    runs = given.runs.absolute()
    os.environ.setdefault("LABELWISE_CACHE", str(runs / "cache"))
    data = (given.data or runs / "roads").absolute()
    if not data.exists():
        roads.write(data, seed=0, preset="small", size_px=(640, 384))
    began = time.perf_counter()
    frames, settings = prepare(runs, DATA, (*SETTINGS, f"data.root={data}", *given.set))
    made = Comparison(runs, DATA, tuple(given.methods), tuple(range(given.seeds)), settings, bounds=True, ways=WAYS)
    if not given.summary:
        made.run(given.jobs, lambda rounds: print(f"{rounds} rounds more", flush=True) if rounds else None)
    kept, found = KeptPools(), list[RunResult]()
    for project in made.projects():
        opened = opening.start(project, None, kept=kept)
        if opened.project.ledger.stage_done(opened.run.rounds - 1, "evaluate") is not None:
            found.append(history.run_result(opened, gallery=0))
        opened.project.close()
    note = note_of("video_curves", None, made.seeds).replace("claims.py video_curves", "video_curves.py")
    note += f"# data: roads, seed 0, 640 x 384 px, {frames} pool frames\n# settings: {'; '.join(settings)}\n"
    note += f"# wall time: {time.perf_counter() - began:.0f} s, {given.jobs} processes\n"
    write(HERE / "results/video_curves.csv", lines(found), note)
    write(HERE / "results/video_curves_summary.csv", table := summary(found), note)
    for line in table:
        print(", ".join(f"{key} {value}" for key, value in line.items() if value != ""), flush=True)


if __name__ == "__main__":
    main()
