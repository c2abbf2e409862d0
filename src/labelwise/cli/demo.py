"""The first command to try: demo."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from labelwise.cli.console import SetOption, app, bar, open_project, out, tell
from labelwise.errors import LabelwiseError

if TYPE_CHECKING:
    from labelwise.report.results import RunResult


@app.command()
def demo(
    folder: Annotated[Path, typer.Argument(help="Where it goes; continued if it is there.")] = Path("demo"),
    settings: SetOption = None,
) -> None:
    """Draws the frames of a watch camera, asks about them at random and by entropy, side by side, and reports.

    Most frames are empty, so that it matters which are asked about. Both begin with the same images and the same first
    model, and ask in three rounds: how many questions does each need? Each is a project: FOLDER/random, FOLDER/entropy.

    Example: `labelwise demo`
    """
    from labelwise.report import page
    from labelwise.study import first_look, history

    made = first_look.demo(folder, settings or [])
    total = made.check()
    tell(f"Two methods, {total} rounds in all: a minute or two. Log of each: {folder}/*.log")
    try:
        with bar("rounds", total) as advance:
            made.run(2, advance)
    except KeyboardInterrupt:
        raise LabelwiseError(f"stopped. Every finished stage is kept; `labelwise demo {folder}` continues") from None
    results = [history.run_result(open_project(project)) for project in made.projects()]
    first, report = first_look.look(made), folder / "report.html"
    page.write(report, results, title="What to ask first", baseline=first_look.RANDOM, first=first)
    for result in results:
        _print(result)
    tell(first.sentence)
    out.print(f"Next: open {report}, then `labelwise init my-project --data FOLDER` with your own images.")


def _print(result: RunResult) -> None:
    """A line for each round of a run."""
    for found in result.rounds:
        quality = "no test split" if found.quality is None else f"{result.metric} {100 * found.quality:.1f}"
        spent = (
            f"{found.cost_queries} queries, {found.cost_boxes} boxes, {found.cost_seconds / 60:.0f} min of annotation"
        )
        tell(f"{result.name}, round {found.round}: {quality}, {spent}")
