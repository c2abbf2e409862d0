"""The commands that run: run, and one for each stage."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from labelwise import catalog
from labelwise.cli.console import (
    ProjectOption,
    SetOption,
    app,
    bar,
    open_project,
    out,
    plain,
    require_project,
    resumable,
    tell,
)


@app.command()
def run(
    recipe: Annotated[str | None, typer.Argument(help="Recipes or run.toml files, joined by +.")] = None,
    project: ProjectOption = Path(),
    settings: SetOption = None,
    oracle: Annotated[str | None, typer.Option(help="Who answers: oracle (simulated) or people.")] = None,
    engine: Annotated[
        str | None,
        typer.Option(help="Where models look at the pool, and train.devices train: here, or ray (many machines)."),
    ] = None,
) -> None:
    """Runs all rounds of a recipe or of a project; continues where a killed run stopped. With `--oracle people`
    every round waits for the answers that come from `labelwise serve`.

    Example: `labelwise run bccd+u_cb_tspl --project runs/bccd --set seed=1`
    """
    given = [f"ask.who={oracle}"] if oracle else []
    given += [f"{section}.engine={engine}" for section in ("predict", "train")] if engine else []
    _run(recipe, project, [*(settings or []), *given])


def _run(recipe: str | None, folder: Path, settings: list[str]) -> None:
    if recipe is None:
        require_project(folder)
    else:
        catalog.recipe_files(recipe)  # a wrong name, too, is an error before anything heavy is loaded
    from labelwise import loop
    from labelwise.cli.projects import write_report
    from labelwise.project import opening

    with resumable(folder):
        opened = opening.start(folder, recipe, settings, bar)
        opened.tell = tell
        for round_number in loop.run(opened):
            _print_round(opened, round_number)
    write_report([folder], folder / "report.html", None)


def _print_round(opened: Any, round_number: int) -> None:
    from labelwise.study import history

    result = history.round_result(opened, round_number)
    quality = "no test split" if result.quality is None else f"{opened.run.metric} {100 * result.quality:.1f}"
    what = "labelled images" if opened.run.classifies else "boxes"
    out.print(
        f"round {round_number}: [bold]{quality}[/], {result.cost_boxes} {what}, {result.cost_queries} queries, "
        f"{result.cost_seconds / 60:.0f} min of annotation; {sum(result.stage_seconds.values()):.0f} s"
    )
    for name, message in result.skipped:
        out.print(f"  skipped {plain(name)}: {plain(message)}")


@app.command()
def redo(
    round_number: Annotated[int, typer.Argument(metavar="round", min=0, help="The round.")],
    stage: Annotated[str, typer.Argument(help="predict, score, select, label, train or evaluate.")],
    project: ProjectOption = Path(),
) -> None:
    """Does a stage again with the present settings and what is known of its round now, and what depends on it.

    A lost or damaged file needs no redo: `labelwise run` finds it. Answers are never asked again.

    Example: `labelwise redo 1 train --project demo/entropy`
    """
    require_project(project)
    from labelwise import loop

    with resumable(project):
        loop.redo(open_project(project), round_number, stage)
    out.print(f"round {round_number}: {stage} done again")


def _stage_command(name: str, what: str) -> None:
    def command(project: ProjectOption = Path()) -> None:
        require_project(project)
        from labelwise import loop

        with resumable(project):
            opened = open_project(project)
            opened.tell = tell
            round_number = loop.run_next(opened, name)
        out.print(f"round {round_number}: {name} done")

    command.__doc__ = f"{what}\n\nExample: `labelwise {name} --project demo/entropy`"
    app.command(name, rich_help_panel="One stage of the current round")(command)


_stage_command("predict", "Runs the model of the round before over the pool, once per view.")
_stage_command("score", "Scores how much each candidate is worth labelling.")
_stage_command("select", "Ranks the candidates for the budget.")
_stage_command("ask", "Lets the oracle, or people, answer until the budget is spent.")
_stage_command("label", "Builds the training targets by the label policy.")
_stage_command("train", "Trains the model of this round.")
_stage_command("evaluate", "Measures AP on the test split.")
