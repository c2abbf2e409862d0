"""The command that compares methods side by side: compare."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from labelwise.cli.console import SetOption, app, bar, open_project, out, tell
from labelwise.cli.studies import on_terminal
from labelwise.errors import LabelwiseError

if TYPE_CHECKING:
    from labelwise.report.results import RunResult
    from labelwise.study.compare import Comparison


@app.command()
def compare(
    recipes: Annotated[
        list[str] | None,
        typer.Argument(help="Method recipes; the first is the baseline. With --units: the one data recipe."),
    ] = None,
    data: Annotated[
        list[str] | None,
        typer.Option("--data", help="The data recipe that all run on [default: scenes]; several (repeat): a ranking."),
    ] = None,
    seeds: Annotated[int, typer.Option(min=1, help="Seeds 0, 1, ... of each; no verdict below 8.")] = 3,
    folder: Annotated[
        Path | None, typer.Option(help="Where the runs go [default: runs/compare/DATA; runs/units/DATA].")
    ] = None,
    units: Annotated[
        bool, typer.Option("--units", help="Images, regions, boxes at equal seconds: which unit pays for this data?")
    ] = False,
    all_data: Annotated[
        bool, typer.Option("--all-data", help="Trains on the whole pool too: which share of that is reached?")
    ] = False,
    bounds: Annotated[
        bool, typer.Option("--bounds", help="Adds no new label and everything labelled: each method's share of that.")
    ] = False,
    effect: Annotated[
        float, typer.Option(min=0, help="Points: a 95 % interval that is wider calls nothing better or worse.")
    ] = 10.0,
    jobs: Annotated[
        int | None, typer.Option(min=1, help="Processes, each with one thread for arithmetic [default: the cores].")
    ] = None,
    engine: Annotated[str, typer.Option(help="Where runs go: here, or ray (a task each).")] = "here",
    settings: SetOption = None,
    background: Annotated[bool, typer.Option("--background", help="Go on without this terminal.")] = False,
) -> None:
    """Runs several methods side by side, several seeds each, and writes one report; continues where it was stopped.

    With --units it needs a data recipe alone: images, regions with coverage and boxes, each asked at random and by a
    score, from the same start at equal seconds of annotation, between no new label and everything labelled (--bounds).
    It ends with a verdict: which unit pays, and why. A round has the seconds that the data recipe's own budget would
    cost as random whole images; --set budget.per_round=[600,600] sets others.
    `labelwise compare bccd --units --seeds 8`

    With several --data it ranks the methods over them, with critical differences: `--data mnist --data cifar10`.

    Example: `labelwise compare random_image random u_cb_tspl mural --data bccd --seeds 8`
    """
    from labelwise.study.compare import Comparison, label

    names, given = recipes or [], tuple(settings or ())
    beds = _beds(names, data or ["scenes"], units)
    root = folder or Path("runs") / ("units" if units else "compare")
    places = [folder if folder and len(beds) == 1 else root / label(bed) for bed in beds]
    if units:
        from labelwise.study import unit_runs

        comparisons = [replace(unit_runs.comparison(places[0], beds[0], range(seeds), given, bar), all_data=all_data)]
    else:
        fixed = tuple(names), tuple(range(seeds)), given, all_data, bounds
        comparisons = [Comparison(place, bed, *fixed) for place, bed in zip(places, beds, strict=True)]
    total = sum(one.check() for one in comparisons)
    report = root / "ranking.html" if len(beds) > 1 else places[0] / "report.html"
    if background:
        switches = ["--units"] * units + ["--all-data"] * all_data + ["--bounds"] * bounds
        place = str(places[0] if len(beds) == 1 else root)
        options = [("--folder", place), ("--effect", str(effect)), ("--seeds", str(seeds)), ("--engine", engine)]
        options += [("--jobs", str(jobs))] if jobs else []
        options += [("--data", bed) for bed in beds] + [("--set", value) for value in given]
        _go_on(["compare", *([] if units else names), *switches, *chain.from_iterable(options)], report, total)
        return
    with _resumable_comparison(), bar(f"{len(comparisons[0].methods)} methods x {seeds} seeds: rounds", total) as step:
        for one in comparisons:
            one.run(jobs or cores(), step, engine)
    if units:
        write_verdict(comparisons[0], report)
    else:
        _write_reports(dict(zip(beds, comparisons, strict=True)), label(names[0]), effect, report)


def _beds(names: list[str], beds: list[str], units: bool) -> list[str]:
    """The data recipes; with --units it is the one name."""
    from labelwise.study.compare import label

    if units and (len(names) > 1 or len(beds) > 1):
        raise LabelwiseError(
            f"compare --units takes one data recipe, not {max(len(names), len(beds))}: `labelwise compare {beds[0]} "
            "--units`. Methods of your own are compared without --units"
        )
    if len({label(bed) for bed in beds}) < len(beds):
        raise LabelwiseError(f"compare: a data recipe is given twice: {', '.join(beds)}")
    return names or beds if units else beds


def _go_on(arguments: list[str], report: Path, total: int) -> None:
    """Goes on without this terminal."""
    from labelwise.study.compare import in_background

    number, log = in_background(arguments, report.parent), report.parent / "compare.log"
    out.print(f"Process {number} runs {total} rounds. Its log: {log}; its report, when done: {report}")


def cores() -> int:
    """How many processors this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _report(comparison: Comparison, baseline: str, effect: float) -> list[RunResult]:
    """Writes the report of a comparison, with the gallery of the first seed of every method; gives its results."""
    from labelwise.project import opening
    from labelwise.project.kept_pools import KeptPools
    from labelwise.report import page
    from labelwise.study import history

    kept = KeptPools()
    results: list[RunResult] = []
    with bar("read the results", len(comparison.projects())) as advance:
        for folder in comparison.projects():
            opened = opening.start(folder, None, kept=kept)
            first = opened.run.name not in {result.name for result in results}
            results.append(history.run_result(opened, gallery=12 if first else 0))
            opened.project.close()
            advance(1)
    output = comparison.folder / "report.html"
    title = results[0].name if len({result.name for result in results}) == 1 else "Comparison"
    page.write(output, results, title=title, baseline=baseline, effect=effect)
    for line in page.conclusions(results, baseline):
        tell(line)
    out.print(f"Report: {output}")
    return results


def _write_reports(comparisons: Mapping[str, Comparison], baseline: str, effect: float, ranking: Path) -> None:
    """Writes the report of every data set, and of several the ranking over them."""
    results = {bed: _report(one, baseline, effect) for bed, one in comparisons.items()}
    if len(results) > 1:
        _write_ranking(ranking, results)


def _write_ranking(output: Path, results: Mapping[str, Sequence[RunResult]]) -> None:
    """Writes the ranking over several data sets, and says it."""
    from labelwise.report import critical_difference

    found = critical_difference.write(output, results)
    for line in found.sentences:
        tell(line)
    out.print(f"Report: {output}")


def write_verdict(comparison: Comparison, output: Path) -> None:
    """Writes the report of `compare --units`, and prints its end: which unit pays."""
    from labelwise.report import page
    from labelwise.study import history, unit_runs

    results = [history.run_result(open_project(folder)) for folder in comparison.projects()]
    verdict = unit_runs.verdict(comparison, results)
    page.write(output, results, title="Which unit pays", baseline=unit_runs.BASELINE, units=verdict)
    for table in verdict.tables:
        out.print(on_terminal(table))
    for line in verdict.sentences:
        tell(line)
    out.print(f"Report: {output}")


@contextmanager
def _resumable_comparison() -> Iterator[None]:
    try:
        yield
    except KeyboardInterrupt:
        raise LabelwiseError("stopped. Every finished stage is kept; the same command continues") from None
