"""What it is worth to learn within a round: live updates against rounds of 100 questions, on runway debris.

    LABELWISE_DATA=data python benchmarks/live.py --seeds 6                 # killed, it continues
    python benchmarks/live.py --seeds 6 --summary                           # the tables, from what is there

`labelwise compare` on the recipe `fod_a_frozen`: all 3,859 frames, the frozen detector, 60 frames drawn at the start,
then three rounds of 100 questions, answered by the simulated oracle. Every method is run twice from the same start of
each seed: "rounds" trains and ranks after each round, "live" after every 10 answers too (`ask.live_answers`); nothing
else differs. Both are judged after 100, 200 and 300 answers by the model that all answers so far make. In
benchmarks/results: live_runs.csv, a line for each method, way, seed and round; live.csv, means and paired differences,
live minus rounds, with Student's t and bootstrap intervals over seeds. How long an update takes and what a person
notices of it: live_page.py.
"""

from __future__ import annotations

import argparse
import csv
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from claims import by_round, note_of, rounded, write
from claims_sets import Set
from fod_a import QUANTITIES, table

from labelwise.ledger import live_updates
from labelwise.project import opening
from labelwise.project.kept_pools import KeptPools
from labelwise.report.results import RunResult
from labelwise.report.spread import groups
from labelwise.study import history
from labelwise.study.compare import Comparison, Way

HERE = Path(__file__).parent
SETTINGS = ("labels.policy=ignore", "budget.unit=queries", "budget.per_round=[100, 100, 100]")
LIVE = "ask.live_answers=10"
TOP = ("query.score=margin", "query.select=top")
METHODS = {
    "margin box": ("box_random_ignore", TOP),
    "margin image": ("margin_image", ()),
}
WAYS = tuple(
    Way(f"{name} {how}", recipe, (*own, *more))
    for name, (recipe, own) in METHODS.items()
    for how, more in (("rounds", ()), ("live", (LIVE,)))
)


def comparison(given: argparse.Namespace) -> Comparison:
    """The runs, with features that all of them share."""
    folder = given.runs.absolute()
    settings = (f"features.folder={given.features or folder / '_features'}", *SETTINGS)
    names = tuple(way.name for way in WAYS)
    return Comparison(folder, "fod_a_frozen", names, tuple(range(given.seeds)), settings, ways=WAYS)


def results(made: Comparison) -> tuple[list[RunResult], dict[tuple[str, int], float]]:
    """Every finished run, and the mean seconds of its updates."""
    kept, found, seconds = KeptPools(), list[RunResult](), {}
    for folder in made.projects():
        opened = opening.start(folder, None, kept=kept)
        if opened.project.ledger.stage_done(opened.run.rounds - 1, "evaluate") is not None:
            found.append(history.run_result(opened, gallery=0))
            took = [one.seconds for one in live_updates.every(opened.project.ledger)]
            seconds[found[-1].name, found[-1].seed] = sum(took) / max(len(took), 1)
        opened.project.close()
    return found, seconds


def lines(runs: Sequence[RunResult], seconds: dict[tuple[str, int], float]) -> Iterator[dict[str, object]]:
    """A line for each method, way, seed and round."""
    for group in groups(runs):
        tables = {q: table(group, q) for q in QUANTITIES}
        for row, run in enumerate(group.runs):
            for column, one in enumerate(run.rounds):
                line: dict[str, object] = {"row": run.name, "seed": run.seed, "round": one.round}
                line |= {q: rounded(tables[q][row, column]) for q in QUANTITIES}
                line |= {"boxes": one.cost_boxes, "questions": one.cost_queries, "seconds": round(one.cost_seconds)}
                yield line | {"update_s": rounded(seconds[run.name, run.seed])}


def summarise(runs: Sequence[RunResult]) -> Iterator[dict[str, object]]:
    """A line for each method, way, quantity and round, and for the mean of the rounds after the first."""
    by_name = {group.name: group for group in groups(runs)}
    for name in METHODS:
        pair = [by_name.get(f"{name} {how}") for how in ("rounds", "live")]
        if pair[0] is None or pair[1] is None:
            continue
        seeds = [s for s in pair[0].seeds if s in pair[1].seeds]
        for quantity in QUANTITIES:
            rounds, live = (table(g, quantity)[[g.seeds.index(s) for s in seeds]] for g in pair if g is not None)
            for how, values, base in (("rounds", rounds, None), ("live", live, rounds)):
                for line, _ in by_round(values, base, pair[0].rounds):
                    yield {"method": name, "way": how, "quantity": quantity} | line


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=6)
    parser.add_argument("--jobs", type=int, default=1)
    parser.add_argument("--runs", type=Path, default=Path("runs/live"))
    parser.add_argument("--features", type=Path, help="where kept features are; none: below --runs")
    parser.add_argument("--summary", action="store_true", help="only the tables, from what is there")
    given = parser.parse_args()
    made = comparison(given)
    if not given.summary:
        made.run(given.jobs, lambda _: None)
    runs, seconds = results(made)
    about = Set("fod_a, live updates", made.data, WAYS, SETTINGS, given.seeds)
    note = note_of("live", about, made.seeds).replace("claims.py live", "live.py")
    write(HERE / "results" / "live_runs.csv", list(lines(runs, seconds)), note)
    found = list(summarise(runs))
    write(HERE / "results" / "live.csv", found, note)
    writer = csv.DictWriter(sys.stdout, list(dict.fromkeys(k for line in found for k in line)))
    writer.writeheader()
    writer.writerows([line for line in found if line["quantity"] == "ap50"])


if __name__ == "__main__":
    main()
