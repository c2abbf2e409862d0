"""The commands that make and show projects: init, status, report."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table
from rich.text import Text

from labelwise.cli.console import ProjectOption, SetOption, app, bar, open_project, out, require_project


@app.command()
def init(
    folder: Annotated[Path, typer.Argument(help="The project folder to make.")],
    data: Annotated[Path, typer.Option("--data", help="Images and annotations: COCO, YOLO, VOC, or a bare folder.")],
    recipe: Annotated[str, typer.Option(help="The recipe to start from.")] = "starter",
    settings: SetOption = None,
) -> None:
    """Makes a project for your own data: a run.toml to read and change before `labelwise run`.

    Example: `labelwise init my-project --data ~/images --set budget.per_round=[200,200]`
    """
    from labelwise import opening

    opened = opening.start(folder, recipe, [f"data.root={data.resolve()}", *(settings or [])], bar)
    pool, test = opened.pool, opened.test
    out.print(
        f"{len(pool)} images in the pool, {len(test) if test else 0} for testing, classes: {', '.join(pool.classes)}"
    )
    if pool.problems:
        out.print(f"{len(pool.problems)} problems in the data; see them with `labelwise check {data}`")
    out.print(f"Wrote {folder / 'run.toml'}. Next: `labelwise run --project {folder}`")


@app.command()
def status(project: ProjectOption = Path()) -> None:
    """Shows what is done, what it cost and what comes next.

    Example: `labelwise status --project demo`
    """
    opened = open_project(project)
    from labelwise import history, loop

    columns = ("round", "done", opened.run.metric, "boxes", "queries", "images", "annotation")
    table = Table(*columns, title=f"{opened.run.name}: {project}")
    for round in range(opened.run.rounds):
        done = [name for name in loop.STAGES if opened.project.ledger.stage_done(round, name) is not None]
        if not done:
            break
        result = history.round_result(opened, round)
        quality = "-" if result.quality is None else f"{100 * result.quality:.1f}"
        minutes = f"{result.cost_seconds / 60:.0f} min"
        costs = (str(result.cost_boxes), str(result.cost_queries), str(result.cost_images), minutes)
        table.add_row(str(round), "all" if len(done) == len(loop.STAGES) else ", ".join(done), quality, *costs)
    out.print(table, *map(Text, history.agreed(opened)))
    due = loop.next_stage(opened)
    out.print(
        "All rounds are done." if due is None else f"Next: round {due[0]}, {due[1]} (`labelwise run -p {project}`)"
    )


@app.command()
def report(
    projects: Annotated[
        list[Path], typer.Argument(help="One or more project folders; seeds of one name are averaged.")
    ],
    output: Annotated[Path, typer.Option("--output", "-o", help="The HTML file to write.")] = Path("report.html"),
    baseline: Annotated[str | None, typer.Option(help="The run that the others are compared with.")] = None,
) -> None:
    """Writes one static HTML file: learning curves, class histograms, galleries, tables.

    Example: `labelwise report runs/tspl_seed* runs/random_seed* --baseline random -o report.html`
    """
    write_report(projects, output, baseline)


def write_report(projects: list[Path], output: Path, baseline: str | None) -> None:
    """Writes the report of one project, or of several side by side."""
    for folder in projects:
        require_project(folder)
    from labelwise import history
    from labelwise.report import page

    results = [history.run_result(open_project(folder)) for folder in projects]
    title = results[0].name if len({r.name for r in results}) == 1 else "Comparison"
    page.write(output, results, title=title, baseline=baseline)
    out.print(f"Report: {output}")
