"""What a choice of frames or boxes is worth on runway debris, with the frozen detector: many seeds, equal seconds.

    LABELWISE_DATA=data python benchmarks/fod_a.py --seeds 50 --jobs 2           # killed, it continues
    python benchmarks/fod_a.py --seeds 50 --summary                              # the tables, from what is there

`labelwise compare` on the recipe `fod_a_frozen`: all 3,859 frames of 91 clips, all 795 test frames of other clips, 60
frames drawn at the start, then 3 rounds of 900 annotation seconds; every method of a seed has the same start. Frames
cost what looking and drawing cost, boxes a verification each (the cost table). In benchmarks/results:
fod_a_frozen_runs.csv, a line for each method, seed and round; fod_a_frozen.csv, means and paired differences to random
images with Student's t and bootstrap intervals over seeds, and the share of random's seconds that its last AP50 takes.
Classes apart: `ap50` of all 31; `ap50_apart` without the three whose clips are in both splits; `ap50_rare` of the
classes below half of the mean count in the pool, `ap50_common` of the others, both without those three.
The test part was used to report; crops, C and the powers of the confidence were chosen on the pool (decision 0015).
"""

from __future__ import annotations

import argparse
import csv
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from claims import by_round, note_of, rounded, write
from claims_sets import Set

from labelwise.project import opening
from labelwise.project.kept_pools import KeptPools
from labelwise.report.reach import pairing, share_needed
from labelwise.report.results import RunResult
from labelwise.report.spread import Group, groups
from labelwise.study import history
from labelwise.study.compare import Comparison, Way

HERE = Path(__file__).parent
BASE = "random_image"
METHODS = (
    *(BASE, "entropy_sum_image", "margin_image", "coreset_image", "margin_kcenter", "herding", "typiclust"),
    *("box_random_ignore", "coreset_box", "margin_kcenter_box"),
)
SETTINGS = ("labels.policy=ignore",)
IN_BOTH_SPLITS = ("Wood", "Tape", "AdjustableWrench")
"""Classes with one clip, which was cut: its end is in the test part."""
QUANTITIES = ("ap50", "ap50_apart", "ap50_rare", "ap50_common")


def comparison(given: argparse.Namespace) -> Comparison:
    """The runs, with features that all of them share."""
    folder = given.runs.absolute()
    settings = (f"features.folder={given.features or folder / '_features'}", *SETTINGS)
    return Comparison(folder, "fod_a_frozen", METHODS, tuple(range(given.seeds)), settings, bounds=True)


def results(made: Comparison) -> list[RunResult]:
    """Every finished run."""
    kept, found = KeptPools(), list[RunResult]()
    for folder in made.projects():
        opened = opening.start(folder, None, kept=kept)
        if opened.project.ledger.stage_done(opened.run.rounds - 1, "evaluate") is not None:
            found.append(history.run_result(opened, gallery=0))
        opened.project.close()
    return found


def classes_of(run: RunResult, quantity: str) -> list[str]:
    """The classes that a quantity is the mean of."""
    names = [c for c in run.classes if quantity == "ap50" or c not in IN_BOTH_SPLITS]
    if quantity in ("ap50_rare", "ap50_common"):
        names = [c for c in names if (c in run.rare_classes) == (quantity == "ap50_rare")]
    return names


def table(group: Group, quantity: str) -> np.ndarray:
    """[seeds, rounds] in points."""
    out = np.full((len(group.runs), len(group.rounds)), np.nan)
    for row, run in enumerate(group.runs):
        names = classes_of(run, quantity)
        for column, one in enumerate(run.rounds):
            found = [one.per_class[c] for c in names if one.per_class.get(c) is not None]
            out[row, column] = 100 * np.mean(np.array(found, float)) if found else np.nan
    return out


def lines(runs: Sequence[RunResult]) -> Iterator[dict[str, object]]:
    """A line for each method, seed and round."""
    for group in groups(runs):
        tables = {q: table(group, q) for q in QUANTITIES}
        for row, run in enumerate(group.runs):
            for column, one in enumerate(run.rounds):
                line: dict[str, object] = {"row": run.name, "seed": run.seed, "round": one.round}
                line |= {q: rounded(tables[q][row, column]) for q in QUANTITIES}
                line |= {"boxes": one.cost_boxes, "questions": one.cost_queries, "seconds": round(one.cost_seconds)}
                yield line | {"machine_s": rounded(sum(one.stage_seconds.values()))}


def summarise(runs: Sequence[RunResult]) -> Iterator[dict[str, object]]:
    """A line for each method, quantity and round, and for the mean of the rounds after the first."""
    by_name = {group.name: group for group in groups(runs)}
    base = by_name[BASE]
    for name, group in by_name.items():
        seeds = [s for s in group.seeds if s in base.seeds]
        rows, same = ([g.seeds.index(s) for s in seeds] for g in (group, base))
        for quantity in QUANTITIES:
            a, b = table(group, quantity)[rows], table(base, quantity)[same]
            for line, _ in by_round(a, None if name == BASE else b, group.rounds):
                about: dict[str, object] = {"row": name, "quantity": quantity}
                if name != BASE and quantity == "ap50" and line["round"] == "mean":
                    about |= needed(group, base)
                yield about | line


def needed(group: Group, base: Group) -> dict[str, object]:
    """The share of the baseline's seconds and questions at which a method has the baseline's last AP50."""
    out: dict[str, object] = {}
    for cost in ("seconds", "queries"):
        both = pairing(group, base, f"cost_{cost}")
        share = None if both is None else share_needed(both.own, both.base)
        if share is not None:
            out |= {f"{cost}_share": rounded(share.value), f"{cost}_low": rounded(share.low)}
            out |= {f"{cost}_high": rounded(share.high)}
    return out


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=8)
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--runs", type=Path, default=Path("runs/fod_a"))
    parser.add_argument("--features", type=Path, help="where kept features are; none: below --runs")
    parser.add_argument("--summary", action="store_true", help="only the tables, from what is there")
    given = parser.parse_args()
    made = comparison(given)
    if not given.summary:
        made.run(given.jobs, lambda _: None)
    runs = results(made)
    about = Set("fod_a, frozen detector", made.data, tuple(Way(m, m) for m in METHODS), SETTINGS, given.seeds)
    note = note_of("fod_a", about, made.seeds).replace("claims.py fod_a", "fod_a.py")
    write(HERE / "results" / "fod_a_frozen_runs.csv", list(lines(runs)), note)
    found = list(summarise(runs))
    write(HERE / "results" / "fod_a_frozen.csv", found, note)
    writer = csv.DictWriter(sys.stdout, list(dict.fromkeys(k for line in found for k in line)))
    writer.writeheader()
    writer.writerows([line for line in found if line["round"] == "mean"])


if __name__ == "__main__":
    main()
