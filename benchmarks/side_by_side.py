"""Methods side by side on one data recipe, several seeds each, as CSV: `labelwise compare` with the tables of a paper.

    uv run python benchmarks/side_by_side.py bccd ablation --seeds 0 1 2       # the rows of 000 Table 1
    uv run python benchmarks/side_by_side.py scenes methods --seeds 0 1 2      # image, box and region methods
    uv run python benchmarks/side_by_side.py bccd ablation --summary           # only the tables, from what is there

Every (method, seed) is a labelwise project under runs/<data>/: killed, it continues where it was; the two sets share
their runs. Round 0 (random images, first model) is run once per seed and copied. Results in benchmarks/results:
<set>_<data>.csv (one line per method, seed and round) and <set>_<data>_summary.csv (mean, std, paired differences to
the baselines with 95 % intervals).
"""

from __future__ import annotations

import argparse
import csv
import os
import subprocess
import sys
from pathlib import Path

import numpy as np

from labelwise.project import opening
from labelwise.report.comparison import pair
from labelwise.report.spread import l1_score
from labelwise.study import history
from labelwise.study.compare import Comparison

HERE = Path(__file__).parent
SETS = {
    "ablation": ["random", "entropy", "u", "u_cb", "u_cb_hpl", "u_cb_thpl", "u_cb_tspl"],
    "methods": [
        *("random_image", "entropy_image", "coreset_image", "cald"),
        *("random", "box_uncertainty_damped", "u_cb_tspl", "mural"),
    ],
    "images": [
        *("random_image", "margin_image", "entropy_image", "bald_image", "coreset_image", "dispersion"),
    ],
    "balance": ["random_image", "entropy_image", "entropy_cb", "coreset_image", "kcenter_cb"],
    "teacher": ["entropy_image", "ceal", "teacher_entropy", "teacher_dispersion"],
    "video": [
        *("random_image", "random_r", "frame_confidence", "frame_entropy", "frame_margin"),
        *("temporal_coherence", "oracle_fp", "random_r_propagate"),
    ],
    "features": ["random_image", "entropy_image", "svm_margin", "coreset_image"],
}
BASELINES = {
    "ablation": ("u", "random"),
    "methods": ("random_image", "random"),
    "images": ("random_image",),
    "balance": ("random_image", "entropy_image", "coreset_image"),
    "teacher": ("entropy_image",),
    "video": ("random_r", "random_image"),
    "features": ("random_image",),
}


def gather(comparison: Comparison) -> list[dict[str, object]]:
    found = []
    for row in comparison.methods:
        for seed in comparison.seeds:
            folder = comparison.project(row, seed)
            if not (folder / "run.toml").exists():
                continue
            opened = opening.start(folder, None)
            rare, metric = history.rare_classes(opened), opened.run.metric
            for number in range(opened.run.rounds):
                if opened.project.ledger.stage_done(number, "evaluate") is None:
                    break
                result = history.round_result(opened, number)
                rare_values = [v for c, v in result.per_class.items() if c in rare and v is not None]
                obtained = opened.project.ledger.annotation_rows(until_round=number)
                picks = np.bincount(obtained["label"][obtained["round"] == number], minlength=len(opened.pool.classes))
                share = picks[picks > 0] / max(picks.sum(), 1)
                wall = result.stage_seconds
                found.append(
                    {
                        "data": comparison.data,
                        "row": row,
                        "seed": seed,
                        "round": number,
                        "boxes": result.cost_boxes,
                        "queries": result.cost_queries,
                        "annotation_s": round(result.cost_seconds),
                        metric: round(100 * (result.quality or 0), 3),
                        "AP": round(100 * (result.ap or 0), 3),
                        f"rare_{metric}": round(100 * float(np.mean(rare_values)), 3) if rare_values else "",
                        "picks_l1": round(l1_score(picks.tolist()), 4) if picks.sum() else "",
                        "picks_entropy_nats": round(float(-(share * np.log(share)).sum()), 4),
                        "wall_s": round(sum(wall.values()), 1),
                        "score_select_s": round(wall.get("score", 0) + wall.get("select", 0), 3),
                    }
                )
    return found


def matrix(found: dict[tuple[int, int], float], seeds: list[int], rounds: list[int]) -> np.ndarray:
    """[seeds, rounds]; NaN where there is nothing."""
    return np.array([[found.get((seed, number), np.nan) for number in rounds] for seed in seeds])


def summarise(table: list[dict[str, object]], data: str, baselines: tuple[str, ...]) -> list[dict[str, object]]:
    """Mean and std per row and round; paired difference (same seed) against the baselines, per round and overall."""

    def values(row: str, column: str) -> dict[tuple[int, int], float]:
        return {(int(r["seed"]), int(r["round"])): float(r.get(column) or 0) for r in table if r["row"] == row}  # type: ignore[call-overload,arg-type]

    rows = list(dict.fromkeys(str(r["row"]) for r in table))
    metric = "AP50" if "AP50" in table[0] else "accuracy"
    lines: list[dict[str, object]] = []
    for row in rows:
        own = values(row, metric)
        last = max(number for _, number in own)
        seeds = [s for s in sorted({s for s, _ in own}) if (s, last) in own]
        for number in [*range(last + 1), "mean of 1.."]:
            rounds = list(range(1, last + 1)) if isinstance(number, str) else [int(number)]

            line: dict[str, object] = {"data": data, "row": row, "round": number, "seeds": len(seeds)}
            numbers = (metric, f"rare_{metric}", "AP", "picks_entropy_nats", "picks_l1")
            for column in (*numbers, "boxes", "queries", "annotation_s"):
                mean = matrix(values(row, column), seeds, rounds).mean(axis=1)
                line[column] = round(float(mean.mean()), 2)
                if column in (metric, f"rare_{metric}", "picks_l1"):
                    line[f"{column}_std"] = round(float(mean.std(ddof=1)), 2) if len(mean) > 1 else ""
            for base in baselines:
                a, b = (matrix(values(name, metric), seeds, rounds) for name in (row, base))
                if base in rows and base != row and len(seeds) > 1 and number != 0 and np.isfinite(b).all():
                    found = pair(a, b).overall
                    line[f"minus_{base}"] = round(float(found.mean[0]), 2)
                    line[f"minus_{base}_ci95"] = f"{found.low[0]:.2f} to {found.high[0]:.2f}"
            lines.append(line)
    return lines


def write(path: Path, table: list[dict[str, object]], note: str) -> None:
    columns = list(dict.fromkeys(key for line in table for key in line))
    with path.open("w", newline="") as file:
        file.write(note)
        writer = csv.DictWriter(file, columns)
        writer.writeheader()
        writer.writerows(table)


def note_of(arguments: list[str]) -> str:
    commit = subprocess.run(["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=False)
    cpu = next((x for x in Path("/proc/cpuinfo").read_text().splitlines() if "model name" in x), "unknown CPU")
    return (
        f"# command: benchmarks/side_by_side.py {' '.join(arguments)}\n# commit: {commit.stdout.strip()}\n"
        f"# machine: {cpu.split(':')[-1].strip()}, {os.cpu_count()} cores, one torch thread per run\n"
        f"# versions: {', '.join(f'{k} {v}' for k, v in history.versions().items())}\n"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", help="a data recipe: bccd, scenes, aquarium, ...")
    parser.add_argument("set", choices=[*SETS])
    parser.add_argument("--methods", nargs="+", help="other methods than those of the set")
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--set", action="append", default=[], dest="settings")
    parser.add_argument("--runs", type=Path, default=HERE.parent / "runs")
    parser.add_argument("--summary", action="store_true")
    given = parser.parse_args()
    methods = tuple(given.methods or SETS[given.set])
    comparison = Comparison(given.runs / given.data, given.data, methods, tuple(given.seeds), tuple(given.settings))
    if not given.summary:
        comparison.run(given.jobs, lambda rounds: print(f"{rounds} rounds done", flush=True) if rounds else None)
    table = gather(comparison)
    lines = summarise(table, given.data, BASELINES[given.set])
    note = note_of(sys.argv[1:])
    write(HERE / "results" / f"{given.set}_{given.data}.csv", table, note)
    write(HERE / "results" / f"{given.set}_{given.data}_summary.csv", lines, note)
    for line in lines:
        print("  ".join(f"{k}={v}" for k, v in line.items() if k != "data"))


if __name__ == "__main__":
    main()
