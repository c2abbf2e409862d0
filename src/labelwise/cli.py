"""The command line: one command per stage, and demo, init, check, run, compare, status, list, report.

Exit codes: 0 done, 1 failed with a message, 2 wrong usage.
"""

from __future__ import annotations

import importlib
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, ProgressColumn, Task, TextColumn, TimeRemainingColumn
from rich.table import Table
from rich.text import Text

from labelwise import catalog
from labelwise.types import LabelwiseError

app = typer.Typer(
    no_args_is_help=True,
    rich_markup_mode="markdown",
    pretty_exceptions_enable=False,
    add_completion=False,
    help="Decides **what to label next** and trains on what came back. Start with `labelwise demo`.",
)
out, err = Console(), Console(stderr=True)

ProjectOption = Annotated[Path, typer.Option("--project", "-p", help="The project folder.")]
SetOption = Annotated[
    list[str] | None, typer.Option("--set", "-s", help="Overrides one setting: key.sub=value (repeat).")
]


class _Rate(ProgressColumn):
    """Items per second."""

    def render(self, task: Task) -> Text:
        return Text(f"{task.speed:.1f}/s" if task.speed else "-/s", style="dim")


@contextmanager
def bar(description: str, total: int) -> Iterator[Callable[[int], None]]:
    """A progress bar with rate and time left."""
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), _Rate(), TimeRemainingColumn())
    with Progress(*columns, console=err) as progress:
        task = progress.add_task(description, total=total)

        def advance(n: int) -> None:
            progress.update(task, advance=n)
            _stop_if_pressed()

        _stop_if_pressed()
        yield advance


def main() -> None:
    """Entry point: turns errors that a user can act on into one message and exit code 1."""
    try:
        app(standalone_mode=True)
    except LabelwiseError as error:
        err.print(f"[bold red]error:[/] {_plain(error)}", highlight=False, soft_wrap=True)
        sys.exit(1)


@contextmanager
def _resumable(folder: Path) -> Iterator[None]:
    """Turns Ctrl-C into a message that says how to go on; the stage in progress is rolled back by the store.

    Python's exception may be lost in a library's callback, so the key is remembered, and heard at the next progress.
    """

    def press(number: int, _frame: object) -> None:
        _pressed.append(number)
        raise KeyboardInterrupt

    before = signal.getsignal(signal.SIGINT)
    hears = threading.current_thread() is threading.main_thread() and before is not signal.SIG_IGN  # as after `nohup`
    if hears:
        signal.signal(signal.SIGINT, press)
    try:
        yield
    except KeyboardInterrupt:
        raise LabelwiseError(
            f"stopped. Everything before the stage in progress is kept; `labelwise run --project {folder}` continues"
        ) from None
    finally:
        _pressed.clear()
        if hears:
            signal.signal(signal.SIGINT, before)


_pressed: list[int] = []
"""Signals of Ctrl-C that are not answered yet."""


def _stop_if_pressed() -> None:
    if _pressed:
        raise KeyboardInterrupt


def _plain(text: object) -> str:
    return str(text).replace("[", "\\[")


# --------------------------------------------------------------------------------------------------------- the runs


@app.command()
def demo(
    folder: Annotated[Path, typer.Argument(help="Where the project goes; continued if it is there.")] = Path("demo"),
    settings: SetOption = None,
) -> None:
    """Generates a data set, runs 3 rounds of box queries on it and writes the report.

    Example: `labelwise demo`
    """
    _run("demo", folder, settings or [])
    out.print(
        f"Next: open {folder / 'report.html'}, then `labelwise init my-project --data FOLDER` with your own images."
    )


@app.command()
def run(
    recipe: Annotated[str | None, typer.Argument(help="Recipes or run.toml files, joined by +.")] = None,
    project: ProjectOption = Path(),
    settings: SetOption = None,
    oracle: Annotated[str | None, typer.Option(help="Who answers: oracle (simulated) or people.")] = None,
) -> None:
    """Runs all rounds of a recipe or of a project; continues where a killed run stopped. With `--oracle people`
    every round waits for the answers that come from `labelwise serve`.

    Example: `labelwise run bccd+u_cb_tspl --project runs/bccd --set seed=1`
    """
    _run(recipe, project, [*(settings or []), *([f"ask.who={oracle}"] if oracle else [])])


def _run(recipe: str | None, folder: Path, settings: list[str]) -> None:
    from labelwise import context, loop

    with _resumable(folder):
        opened = context.start(folder, recipe, settings, bar)
        for round in loop.run(opened):
            _print_round(opened, round)
    write_report([folder], folder / "report.html", None)


def _print_round(opened: Any, round: int) -> None:
    from labelwise import history

    result = history.round_result(opened, round)
    quality = "no test split" if result.quality is None else f"{opened.run.metric} {100 * result.quality:.1f}"
    what = "labelled images" if opened.run.classifies else "boxes"
    out.print(
        f"round {round}: [bold]{quality}[/], {result.cost_boxes} {what}, {result.cost_queries} queries, "
        f"{result.cost_seconds / 60:.0f} min of annotation; {sum(result.stage_seconds.values()):.0f} s"
    )
    for name, message in result.skipped:
        out.print(f"  skipped {_plain(name)}: {_plain(message)}")


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
    from labelwise import context

    opened = context.start(folder, recipe, [f"data.root={data.resolve()}", *(settings or [])], bar)
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
    from labelwise import context, history, loop

    opened = context.start(project, None, [], bar)
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
    from labelwise import context, history
    from labelwise.report import page

    results = [history.run_result(context.start(folder, None, [], bar)) for folder in projects]
    title = results[0].name if len({r.name for r in results}) == 1 else "Comparison"
    page.write(output, results, title=title, baseline=baseline)
    out.print(f"Report: {output}")


# --------------------------------------------------------------------------------------------------- data and methods


@app.command()
def check(
    data: Annotated[Path, typer.Argument(help="A COCO, YOLO or VOC data set, or a folder with images.")],
    format: Annotated[str | None, typer.Option(help="The format, if it is not found by itself.")] = None,
    all: Annotated[bool, typer.Option("--all", help="Every single problem, not three examples of each kind.")] = False,
) -> None:
    """Shows what is wrong in a data set and how each thing is handled.

    Example: `labelwise check data/aquarium`
    """
    from labelwise.data.check import check as check_data
    from labelwise.data.check import summarise

    with bar("check", 0) as advance:
        problems = check_data(data, format, progress=advance)
    table = Table(title=f"{data}: {len(problems)} problems")
    for column in ("problem", "count", "where", "what", "handling"):
        table.add_column(column, overflow="fold")
    for kind in summarise(problems, len(problems) if all else 3):
        for number, problem in enumerate(kind.examples):
            first = ("", "") if number else (kind.name, str(kind.number))
            table.add_row(*first, *map(_plain, (problem.where, problem.what, problem.handling)))
    out.print(table if problems else f"{data}: nothing wrong found")


@app.command("list")
def list_(
    folder: Annotated[str | None, typer.Argument(help=f"One of: recipes, {', '.join(catalog.VERBS)}.")] = None,
) -> None:
    """Lists methods (of one folder: with unit, inputs, settings and source), or recipes.

    Example: `labelwise list score`
    """
    from labelwise import context

    known = ["recipes", *catalog.VERBS]
    if folder is not None and folder not in known:
        raise LabelwiseError(catalog.unknown("folder", folder, known))
    for name in [folder] if folder else known:
        if name == "recipes":
            table = Table("recipe", "what it is", title="recipes")
            for recipe, path in context.recipes().items():
                table.add_row(recipe, _plain(path.read_text(encoding="utf-8").split("\n", 1)[0].lstrip("# ")))
        else:
            table = _methods(name) if folder else Table("method", "what it does", title=name)
            for method in catalog.names(name) if folder is None else ():
                table.add_row(method, _plain(catalog.summary(name, method)))
        out.print(table)


def _methods(folder: str) -> Table:
    """Everything about the methods of a folder: units, inputs, settings, source."""
    from labelwise.config import IMAGE_INPUTS

    table = Table("method", "about", title=folder, show_lines=True)
    for name in catalog.names(folder):
        method = catalog.find(folder, name)
        parameters = method.settings.items()
        facts = {
            "unit": "image" if IMAGE_INPUTS & set(method.inputs) else "box, image or region",
            "inputs": ", ".join(method.inputs),
            "settings": ", ".join(f"{k}={p.default!r}" if p.default is not p.empty else k for k, p in parameters),
            "source": catalog.source(folder, name),
        }
        if folder != "score":
            del facts["unit"]
        lines = [f"[dim]{key}:[/] {_plain(value)}" for key, value in facts.items() if value]
        table.add_row(name, "\n".join([_plain(catalog.summary(folder, name)), *lines]))
    return table


# ---------------------------------------------------------------------------------------------------- stage by stage


def _stage_command(name: str, what: str) -> None:
    def command(project: ProjectOption = Path()) -> None:
        from labelwise import context, loop

        with _resumable(project):
            round = loop.run_next(context.start(project, None, [], bar), name)
        out.print(f"round {round}: {name} done")

    command.__doc__ = f"{what}\n\nExample: `labelwise {name} --project demo`"
    app.command(name, rich_help_panel="One stage of the current round")(command)


_stage_command("predict", "Runs the model of the round before over the pool, once per view.")
_stage_command("score", "Scores how much each candidate is worth labelling.")
_stage_command("select", "Ranks the candidates for the budget.")
_stage_command("ask", "Lets the oracle, or people, answer until the budget is spent.")
_stage_command("label", "Builds the training targets by the label policy.")
_stage_command("train", "Trains the model of this round.")
_stage_command("evaluate", "Measures AP on the test split.")

for more in ("cli_compare", "cli_images", "cli_web", "cli_exchange"):
    importlib.import_module(f"labelwise.{more}")  # adds its commands to `app`
