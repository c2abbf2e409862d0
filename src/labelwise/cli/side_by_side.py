"""The command that compares methods side by side: compare."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from labelwise.cli.console import SetOption, app, bar, open_project, out, tell
from labelwise.cli.projects import write_report
from labelwise.cli.studies import on_terminal
from labelwise.errors import LabelwiseError

if TYPE_CHECKING:
    from labelwise.study.compare import Comparison


@app.command()
def compare(
    recipes: Annotated[
        list[str] | None,
        typer.Argument(help="Method recipes; the first is the baseline. With --units: the one data recipe."),
    ] = None,
    data: Annotated[str, typer.Option("--data", help="The data recipe that all of them run on.")] = "scenes",
    seeds: Annotated[int, typer.Option(min=1, help="Seeds 0, 1, ... of each.")] = 3,
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
    jobs: Annotated[int, typer.Option(min=1, help="Runs at a time, one torch thread each.")] = 2,
    settings: SetOption = None,
    background: Annotated[bool, typer.Option("--background", help="Go on without this terminal.")] = False,
) -> None:
    """Runs several methods side by side, several seeds each, and writes one report; continues where it was stopped.

    With --units it needs a data recipe alone: images, regions with coverage and boxes, each asked at random and by a
    score, from the same start at equal seconds of annotation, between no new label and everything labelled (--bounds).
    It ends with a verdict: which unit pays, and why. A round has the seconds that the data recipe's own budget would
    cost as random whole images; --set budget.per_round=[600,600] sets others.
    `labelwise compare bccd --units --seeds 6`

    Example: `labelwise compare random_image random u_cb_tspl mural --data bccd --seeds 3`
    """
    from labelwise.study.compare import Comparison, in_background, label

    names = recipes or []
    if units:
        if len(names) > 1:
            raise LabelwiseError(
                f"compare --units takes one data recipe, not {len(names)}: `labelwise compare {data} --units`. Methods "
                "of your own are compared without --units"
            )
        data = names[0] if names else data
    chosen = folder or Path("runs") / ("units" if units else "compare") / label(data)
    if units:
        from labelwise.study import unit_runs

        comparison = unit_runs.comparison(chosen, data, range(seeds), settings or [], bar)
        comparison = replace(comparison, all_data=all_data)
    else:
        every = tuple(range(seeds))
        comparison = Comparison(chosen, data, tuple(names), every, tuple(settings or ()), all_data, bounds)
    total = comparison.check()
    if background:
        arguments = ["compare", *names, "--data", data, "--seeds", str(seeds), "--folder", str(chosen)]
        arguments += ["--units"] * units + ["--all-data"] * all_data + ["--bounds"] * bounds
        arguments += ["--jobs", str(jobs), *(part for value in settings or () for part in ("--set", value))]
        number, log = in_background(arguments, chosen), chosen / "compare.log"
        out.print(
            f"Process {number} runs {total} rounds. Its log: {log}; its report, when done: {chosen / 'report.html'}"
        )
        return
    with _resumable_comparison(), bar(f"{len(comparison.methods)} methods x {seeds} seeds: rounds", total) as advance:
        comparison.run(jobs, advance)
    if units:
        write_verdict(comparison, chosen / "report.html")
    else:
        write_report(comparison.projects(), chosen / "report.html", label(names[0]))


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
