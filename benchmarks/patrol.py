r"""A watch camera of mostly empty frames: what does a question find, and how many questions does a level take?

    python benchmarks/patrol.py --seeds 1 2 3 4 5 6 7 8 --jobs 2 --set train.threads=1
    python benchmarks/patrol.py --seeds 1 2 3 4 5 6 7 8 --at-once 8 --jobs 2 --set train.threads=1 \
        --set train.accelerator=cpu                                       # on 16 cores: some 6 minutes
    python benchmarks/patrol.py --seeds 1 2 3 4 5 6 7 8 --summary         # the tables, from what is there

A seed has its own frames (`data.patrol.seed`), start images, first model. All rows of a seed go on from that model and
train the same number of steps, between *no new label* and *everything labelled*. Every run is a labelwise project below
--runs: killed, the same command continues. Results in benchmarks/results: patrol.csv, a line for each row, seed and
round; patrol_summary.csv, paired differences to random images with Student's t intervals over seeds, and what random's
AP50 after its last round cost, in questions and in annotation seconds, as a share of what it cost at random: seed by
seed, without the common start (`labelwise compare` counts the start, and crosses mean curves).
Constants were chosen on generator seed 100; seed 0, the demo, was looked at meanwhile and is left out.
"""

from __future__ import annotations

import argparse
import csv
import os
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np

from labelwise.project import opening
from labelwise.report.bootstrap import bootstrap
from labelwise.report.comparison import pair
from labelwise.report.results import RunResult
from labelwise.report.showcase import saving
from labelwise.study import history
from labelwise.study.compare import Comparison, Way

HERE = Path(__file__).parent
BASE = "random images"
NEAR = '{name="top", keep=3}'
WAYS = (
    Way(BASE, "random_image"),
    Way("entropy (sum)", "entropy_sum_image"),
    Way("entropy (sum), then k-center", "entropy_sum_image", (f'query.select=[{NEAR}, "kcenter"]',)),
    Way("entropy (mean)", "entropy_image"),
    Way("margin (sum)", "margin_image", ("query.aggregate=sum",)),
)


def comparison(given: argparse.Namespace, seed: int) -> Comparison:
    """The runs of a seed."""
    settings = (f"data.patrol.seed={seed}", *given.settings)
    methods = tuple(way.name for way in WAYS[: given.rows])
    return Comparison(given.runs / f"data{seed}", "patrol", methods, (seed,), settings, bounds=given.bounds, ways=WAYS)


def lines_of(run: RunResult) -> list[dict[str, object]]:
    """A line of the table for each round of a run."""
    lines: list[dict[str, object]] = []
    for found in run.rounds:
        rare = [value for name, value in found.per_class.items() if name in run.rare_classes and value is not None]
        lines.append(
            {
                "row": run.name,
                "seed": run.seed,
                "round": found.round,
                "questions": found.cost_queries,
                "objects": found.cost_boxes,
                "annotation_s": round(found.cost_seconds),
                "AP50": round(100 * (found.quality or 0), 3),
                "AP": round(100 * (found.ap or 0), 3),
                "rare_AP50": round(100 * float(np.mean(rare)), 3) if rare else "",
                "wall_s": round(sum(found.stage_seconds.values()), 1),
            }
        )
    return lines


def summarise(runs: list[RunResult]) -> list[dict[str, object]]:
    """Means of every row; differences and costs against random images, of the seeds that both have finished."""
    names = list(dict.fromkeys(run.name for run in runs))
    of = {(run.name, run.seed): run for run in runs}
    last = max(found.round for run in runs for found in run.rounds)
    done = {key for key, run in of.items() if run.rounds[-1].round == last}
    lines: list[dict[str, object]] = []
    for name in names:
        seeds = sorted(seed for row, seed in done if row == name)
        own = np.array([[100 * (r.quality or 0) for r in of[name, seed].rounds] for seed in seeds])
        if not len(own):
            continue
        line: dict[str, object] = {"row": name, "seeds": len(seeds)}
        line |= {f"AP50_{number}": round(float(own[:, number].mean()), 2) for number in range(last + 1)}
        for key, field in (("objects", "cost_boxes"), ("questions", "cost_queries"), ("annotation_s", "cost_seconds")):
            line[key] = round(float(np.mean([getattr(of[name, seed].rounds[-1], field) for seed in seeds])))
        common = [seed for seed in seeds if (BASE, seed) in done]
        if name != BASE and len(common) > 1:
            line |= against(([of[name, seed] for seed in common], [of[BASE, seed] for seed in common]))
        lines.append(line)
    return lines


def against(both: tuple[list[RunResult], list[RunResult]]) -> dict[str, object]:
    """Row minus random images, paired by seed, after each round and over them; the costs of the same AP50."""
    a, b = (np.array([[100 * (r.quality or 0) for r in run.rounds[1:]] for run in runs]) for runs in both)
    found = pair(a, b)
    out: dict[str, object] = {"minus_random": interval(*(float(v[0]) for v in vars_of(found.overall)))}
    for number in range(a.shape[1]):
        out[f"minus_random_{number + 1}"] = interval(*(float(v[number]) for v in vars_of(found.rounds)))
    for cost, word in (("cost_queries", "questions"), ("cost_seconds", "seconds")):
        each = [saving(score, chance, cost) for score, chance in zip(*both, strict=True)]
        asked, chance = np.array([s.asked for s in each]), np.array([s.at_random for s in each])
        out[f"{word}_reached"] = f"{int(np.isfinite(asked).sum())} of {len(asked)}"
        ratio = asked / chance
        share = bootstrap(lambda rows, ratio=ratio: ratio[rows].mean(axis=1), len(ratio))
        out[f"{word}_share"] = interval(share.value, share.low, share.high)
        out[f"{word}_share_median"] = round(float(np.median(np.where(np.isfinite(asked), asked / chance, np.inf))), 3)
    return out


def vars_of(interval_: object) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    return interval_.mean, interval_.low, interval_.high  # type: ignore[attr-defined]


def interval(mean: float, low: float, high: float) -> str:
    return f"{mean:.2f} ({low:.2f} to {high:.2f})"


def write(path: Path, table: list[dict[str, object]], note: str) -> None:
    columns = list(dict.fromkeys(key for line in table for key in line))
    with path.open("w", newline="") as file:
        file.write(note)
        writer = csv.DictWriter(file, columns)
        writer.writeheader()
        writer.writerows(table)


def note_of() -> str:
    commit = subprocess.run(["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=False)
    cpu = next((x for x in Path("/proc/cpuinfo").read_text().splitlines() if "model name" in x), ":unknown")
    return (
        f"# command: benchmarks/patrol.py {' '.join(sys.argv[1:])}\n# commit: {commit.stdout.strip()}\n"
        f"# machine: {cpu.split(':')[-1].strip()}, {os.cpu_count()} cores; seconds under load\n"
        f"# versions: {', '.join(f'{k} {v}' for k, v in history.versions().items())}\n"
    )


def progress_of(seed: int) -> Callable[[int], None]:
    """Says how many rounds of a seed are done since it last said so."""
    return lambda rounds: print(f"seed {seed}: {rounds} more rounds", flush=True) if rounds else None


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", nargs="+", type=int, default=list(range(1, 9)))
    parser.add_argument("--rows", type=int, default=3, help="so many of the methods, in their order")
    parser.add_argument("--jobs", type=int, default=1, help="runs of a seed at a time")
    parser.add_argument("--at-once", type=int, default=1, help="seeds at a time")
    parser.add_argument("--set", action="append", default=[], dest="settings")
    parser.add_argument("--runs", type=Path, default=HERE.parent / "runs" / "patrol")
    parser.add_argument("--no-bounds", action="store_false", dest="bounds")
    parser.add_argument("--summary", action="store_true")
    given = parser.parse_args()
    made = [comparison(given, seed) for seed in given.seeds]
    failed: list[BaseException] = []
    if not given.summary:
        with ThreadPoolExecutor(given.at_once) as pool:
            begun = [pool.submit(one.run, given.jobs, progress_of(one.seeds[0])) for one in made]
        failed = [error for one in begun if (error := one.exception()) is not None]
    runs = []
    for folder in (folder for one in made for folder in one.projects()):
        opened = opening.start(folder, None)
        if opened.project.ledger.stage_done(0, "evaluate") is not None:
            runs.append(history.run_result(opened, gallery=0))
    write(HERE / "results" / "patrol.csv", [line for run in runs for line in lines_of(run)], note_of())
    lines = summarise(runs)
    write(HERE / "results" / "patrol_summary.csv", lines, note_of())
    for line in lines:
        print("  ".join(f"{k}={v}" for k, v in line.items()))
    if failed:
        raise failed[0]


if __name__ == "__main__":
    main()
