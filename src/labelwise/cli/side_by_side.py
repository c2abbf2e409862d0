"""The command that compares methods side by side: compare."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer

from labelwise.cli.console import SetOption, app, bar, out
from labelwise.cli.projects import write_report
from labelwise.errors import LabelwiseError


@app.command()
def compare(
    recipes: Annotated[list[str], typer.Argument(help="Method recipes; the first is the baseline.")],
    data: Annotated[str, typer.Option("--data", help="The data recipe that all of them run on.")] = "scenes",
    seeds: Annotated[int, typer.Option(min=1, help="Seeds 0, 1, ... of each.")] = 3,
    folder: Annotated[Path | None, typer.Option(help="Where the runs go [default: runs/compare/DATA].")] = None,
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

    Example: `labelwise compare random_image random u_cb_tspl mural --data bccd --seeds 3`
    """
    from labelwise.study.compare import Comparison, in_background, label

    chosen = folder or Path("runs") / "compare" / label(data)
    comparison = Comparison(chosen, data, tuple(recipes), tuple(range(seeds)), tuple(settings or ()), all_data, bounds)
    total = comparison.check()
    if background:
        arguments = ["compare", *recipes, "--data", data, "--seeds", str(seeds), "--folder", str(chosen)]
        arguments += ["--all-data"] * all_data + ["--bounds"] * bounds
        arguments += ["--jobs", str(jobs), *(part for value in settings or () for part in ("--set", value))]
        number, log = in_background(arguments, chosen), chosen / "compare.log"
        out.print(
            f"Process {number} runs {total} rounds. Its log: {log}; its report, when done: {chosen / 'report.html'}"
        )
        return
    with _resumable_comparison(), bar(f"{len(recipes)} methods x {seeds} seeds: rounds", total) as advance:
        comparison.run(jobs, advance)
    write_report(comparison.projects(), chosen / "report.html", label(recipes[0]))


@contextmanager
def _resumable_comparison() -> Iterator[None]:
    try:
        yield
    except KeyboardInterrupt:
        raise LabelwiseError("stopped. Every finished stage is kept; the same command continues") from None
