"""The commands that make and show projects: init, status, report."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table
from rich.text import Text

from labelwise.cli.console import ProjectOption, SetOption, app, bar, open_project, out, require_project, tell
from labelwise.cli.data import show_found, show_unused
from labelwise.errors import LabelwiseError

if TYPE_CHECKING:
    from labelwise.project.starter import NewProject


@app.command()
def init(
    folder: Annotated[Path, typer.Argument(help="The project folder to make.")],
    data: Annotated[
        str,
        typer.Option(
            "--data", help="Images or videos, annotated or not: COCO, YOLO, VOC, folders, archives; s3://BUCKET/FOLDER."
        ),
    ],
    classes: Annotated[
        str | None, typer.Option(help="Names of the classes of images without annotations: cat,dog")
    ] = None,
    recipe: Annotated[str | None, typer.Option(help="A recipe to start from, in place of the one that fits.")] = None,
    model: Annotated[
        str | None, typer.Option(help="frozen: a detector without training, for few and salient objects; or trained.")
    ] = None,
    machine: Annotated[
        str | None,
        typer.Option("--for", help="cpu or gpu: of what size the detector is; as this machine is, unless given."),
    ] = None,
    settings: SetOption = None,
) -> None:
    """Makes a project of any folder of images or videos: a short run.toml to read and change before `labelwise run`.

    It tells what it found, which part is labelled and which one tests, and how that is changed. While no round has
    begun, the same command may be given again with other options.

    Example: `labelwise init my-project --data ~/images --set budget.per_round=[200,200]`
    """
    from labelwise.data import listing, unread
    from labelwise.data.check import summarise
    from labelwise.project import starter

    names = [name.strip() for name in (classes or "").split(",") if name.strip()]
    made = starter.make(folder, data, recipe, names, settings or [], bar, model, machine)
    show_found(data, made.found)
    left = unread.unused(listing.below(made.found.root), made.found.pools.values())
    show_unused(unread.by_suffix(left))
    for line in [*made.messages, *(detector_lines(made) if recipe is None else [])]:
        out.print(line, markup=False, highlight=False, soft_wrap=True)
    pool, test = made.pool, made.test
    how = (
        f"none yet: add each with `labelwise add-class NAME --project {folder}`, or init again with --classes NAME,NAME"
    )
    listed = ", ".join(pool.classes) or how
    out.print(
        f"{len(pool)} images in the pool, {len(test) if test else 0} for testing, classes: {listed}",
        markup=False,
        soft_wrap=True,
    )
    told = [*pool.problems, *unread.problems(left, made.found.format, pool.problems)]
    if told:
        kinds = "; ".join(f"{kind.number} {kind.name}" for kind in summarise(told))
        tell(f"Problems in the data: {kinds}. `labelwise check {data}` shows them")
    out.print(f"Wrote {folder / 'run.toml'}. Next: {starter.next_step(folder, made)}", markup=False, soft_wrap=True)


def detector_lines(made: NewProject) -> list[str]:
    """Which detector a new project has and why; nothing where that cannot be measured."""
    from labelwise.project import frozen_weights

    weights, pool = frozen_weights.at_hand(frozen_weights.OBJECTS), made.pool
    if weights is None or made.run.classifies or pool.truth is None or not len(pool.truth):
        return []
    from labelwise.config.features import Features
    from labelwise.study import model_text, model_trial

    try:
        found = model_trial.of_data(pool, Features(body=frozen_weights.BODY, objects=str(weights)), bar=bar)
    except LabelwiseError as error:
        return [f"Detector: {made.run.model.name}; whether a frozen one would do was not measured: {error}"]
    if found is None:
        return []
    return [model_text.for_init(*found, made.run.model.name, frozen=made.run.reads_objects)]


@app.command()
def status(project: ProjectOption = Path()) -> None:
    """Shows what is done, what it cost and what comes next.

    Example: `labelwise status --project demo/entropy`
    """
    require_project(project)
    from labelwise import loop
    from labelwise.project import availability, glance, prices
    from labelwise.report import unit_split
    from labelwise.study import history, proposal_recall, stop

    opened, results = glance.look(project) or open_project(project), []
    columns = ("round", "done", opened.run.metric, "boxes", "queries", "images", "annotation")
    table = Table(*columns, title=f"{opened.run.name}: {project}")
    for round_number in range(opened.run.rounds):
        done = [name for name in loop.STAGES if opened.project.ledger.stage_done(round_number, name) is not None]
        if not done:
            break
        result = history.round_result(opened, round_number)
        results.append(result)
        quality = "-" if result.quality is None else f"{100 * result.quality:.1f}"
        minutes = f"{result.cost_seconds / 60:.0f} min"
        costs = (str(result.cost_boxes), str(result.cost_queries), str(result.cost_images), minutes)
        table.add_row(str(round_number), "all" if len(done) == len(loop.STAGES) else ", ".join(done), quality, *costs)
    out.print(table, *map(Text, history.agreement_lines(opened)), *map(Text, history.people_lines(opened)))
    told = [*history.given_lines(opened), *prices.lines(opened), *unit_split.lines(results)]
    for line in [*told, *proposal_recall.lines(opened)]:
        out.print(Text(line))
    if any(one.quality is not None for one in results):
        from labelwise.report import outlook

        out.print(*map(Text, outlook.lines(results, opened.run.metric, opened.run.budget.unit)), sep="\n")
    for line in availability.messages(opened):
        tell(line)
    due, stopped = loop.next_stage(opened), stop.kept(opened)
    if stopped is not None:
        out.print(Text(stopped.text))
        return
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
    from labelwise.report import page
    from labelwise.study import history

    results = [history.run_result(open_project(folder)) for folder in projects]
    title = results[0].name if len({r.name for r in results}) == 1 else "Comparison"
    page.write(output, results, title=title, baseline=baseline)
    out.print(f"Report: {output}")
