"""Which kind of question? Box, image and region questions in one budget of seconds, against each kind alone.

    LABELWISE_DATA=data python benchmarks/mixed_units.py --seeds 5              # killed, it continues
    python benchmarks/mixed_units.py --seeds 5 --summary                        # the tables, from what is there

bccd, aquarium and fod_a with the frozen detector; of a seed all methods have the same start. `box`, `image` and
`region` ask about one unit by the same rule (`gain_per_second`), `mixed` about all three; `random_image` draws images.
Costs are those of the table (an image 7.8 s and 7 s a box; a box 2 s, or 9 s where it is an object). AP50 per hour is
the mean of the learning curve over the annotation seconds from the start to the end of the budget, linear between
rounds; paired over seeds, with Student's t intervals. In benchmarks/results: mixed_units_runs.csv, a line for each set,
method, seed and round, with the seconds of each unit; mixed_units.csv, means and paired differences.
The rule and its constants were chosen on a part of bccd's pool that was held back (docs/decisions/0024).
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
from claims import note_of, rounded, write
from scipy import stats

from labelwise.project import opening
from labelwise.project.kept_pools import KeptPools
from labelwise.report.results import RunResult
from labelwise.study import history
from labelwise.study.compare import Comparison, Way

HERE = Path(__file__).parent
UNITS = ("box", "image", "region")
WAYS = (
    Way("random_image", "random_image"),
    *(Way(unit, "mixed_units", (f'query.units=["{unit}"]',)) for unit in UNITS),
    Way("mixed", "mixed_units"),
)
METHODS = tuple(way.name for way in WAYS)
COMMON = (
    "labels.policy=ignore",
    "labels.images=answered",
    "query.score=random",
    "predict.views=[]",
    "query.threshold=0.05",
    "budget.unit=seconds",
)


class Set(NamedTuple):
    """A data recipe, its own settings, and the seconds of each of three rounds."""

    recipe: str
    settings: tuple[str, ...]
    seconds: int


SETS = {
    "bccd": Set("bccd+frozen", ("features.objects_most=50", "budget.start_images=2"), 300),
    "aquarium": Set(
        "aquarium+frozen", ("features.objects_most=25", "data.most_images=300", "budget.start_images=5"), 300
    ),
    "fod_a": Set("fod_a_frozen", ("query.every_frames=5", "budget.start_images=20"), 300),
}


def comparison(name: str, given: argparse.Namespace) -> Comparison:
    """The runs of a set."""
    one, folder = SETS[name], given.runs.absolute() / name
    rounds = f"budget.per_round=[{', '.join([str(one.seconds)] * 3)}]"
    features = f"features.folder={given.features or folder / '_features'}"
    return Comparison(
        folder, one.recipe, tuple(given.methods), tuple(range(given.seeds)), (features, *COMMON, *one.settings, rounds),
        ways=WAYS,
    )  # fmt: skip


def results(made: Comparison) -> list[RunResult]:
    """Every finished run."""
    kept, found = KeptPools(), list[RunResult]()
    for folder in made.projects():
        opened = opening.start(folder, None, kept=kept)
        if opened.project.ledger.stage_done(opened.run.rounds - 1, "evaluate") is not None:
            found.append(history.run_result(opened, gallery=0))
        opened.project.close()
    return found


def lines(name: str, runs: list[RunResult]) -> Iterator[dict[str, object]]:
    """A line for each method, seed and round."""
    for run in runs:
        for one in run.rounds:
            line: dict[str, object] = {"set": name, "method": run.name, "seed": run.seed, "round": one.round}
            line |= {
                "ap50": rounded(100 * (one.quality or 0.0)),
                "boxes": one.cost_boxes,
                "questions": one.cost_queries,
            }
            line["seconds"] = round(one.cost_seconds, 1)
            line |= {f"{unit}_s": round(one.by_unit[unit].seconds, 1) if unit in one.by_unit else 0 for unit in UNITS}
            yield line | {"machine_s": rounded(sum(one.stage_seconds.values()))}


def per_hour(run: RunResult, seconds: float) -> tuple[float, float]:
    """Mean AP50 over the seconds after the start, and AP50 at their end, in points."""
    at = np.array([one.cost_seconds for one in run.rounds])
    ap = 100 * np.array([one.quality or 0.0 for one in run.rounds])
    grid = at[0] + np.linspace(0, seconds, 1001)
    curve = np.interp(grid, at, ap)
    return float(curve.mean()), float(curve[-1])


def summarise(name: str, runs: list[RunResult]) -> Iterator[dict[str, object]]:
    """A line for each method: AP50 per hour and at the end, its split over the units, and what `mixed` has above it."""
    seconds, table = 3 * SETS[name].seconds, dict[str, dict[int, tuple[float, float]]]()
    for run in runs:
        table.setdefault(run.name, {})[run.seed] = per_hour(run, seconds)
    for method, own in table.items():
        both = np.array([[*own[seed], *table["mixed"][seed]] for seed in own if seed in table.get("mixed", {})])
        line: dict[str, object] = {"set": name, "method": method, "seeds": len(own)}
        line |= {"ap50_per_hour": rounded(both[:, 0].mean()), "ap50_at_end": rounded(both[:, 1].mean())}
        if method != "mixed":
            for k, what in enumerate(("per_hour", "at_end")):
                more = both[:, 2 + k] - both[:, k]
                half = stats.t.ppf(0.975, len(more) - 1) * more.std(ddof=1) / np.sqrt(len(more)) if len(more) > 1 else 0
                line |= {f"mixed_more_{what}": rounded(more.mean())}
                line |= {f"{what}_low": rounded(more.mean() - half), f"{what}_high": rounded(more.mean() + half)}
        spent = [one.by_unit for run in runs if run.name == method for one in run.rounds[1:]]
        total = max(sum(cost.seconds for found in spent for cost in found.values()), 1e-9)
        for unit in UNITS:
            line[f"{unit}_percent"] = rounded(100 * sum(one[unit].seconds for one in spent if unit in one) / total)
        yield line


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--jobs", type=int, default=1)
    parser.add_argument("--sets", nargs="+", default=list(SETS), choices=SETS)
    parser.add_argument("--methods", nargs="+", default=METHODS)
    parser.add_argument("--runs", type=Path, default=HERE.parent / "runs/mixed_units")
    parser.add_argument("--features", type=Path, help="features that were computed before; none: below --runs")
    parser.add_argument("--summary", action="store_true")
    given = parser.parse_args()
    rows, table = list[dict[str, object]](), list[dict[str, object]]()
    for name in given.sets:
        made = comparison(name, given)
        if not given.summary:
            made.run(given.jobs, lambda rounds: print(f"{rounds} rounds more", flush=True) if rounds else None)
        runs = results(made)
        rows += lines(name, runs)
        table += summarise(name, runs)
    note = note_of("mixed_units", None, range(given.seeds)).replace("claims.py mixed_units", "mixed_units.py")
    write(HERE / "results/mixed_units_runs.csv", rows, note)
    write(HERE / "results/mixed_units.csv", table, note)
    for line in table:
        print(", ".join(f"{key} {value}" for key, value in line.items() if value != ""), flush=True)


if __name__ == "__main__":
    main()
