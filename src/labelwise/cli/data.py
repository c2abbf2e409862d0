"""The commands that look: check (a data set), list (methods and recipes)."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table

from labelwise import catalog
from labelwise.cli.console import app, bar, out, plain
from labelwise.errors import LabelwiseError


@app.command()
def check(
    data: Annotated[Path, typer.Argument(help="A data set (COCO, YOLO, VOC, a folder of images), or a project.")],
    format_name: Annotated[
        str | None, typer.Option("--format", help="The format, if it is not found by itself.")
    ] = None,
    every: Annotated[
        bool, typer.Option("--all", help="Every single problem, not three examples of each kind.")
    ] = False,
    restore: Annotated[
        bool, typer.Option("--restore", help="Of a project: go back to the copy of its ledger.")
    ] = False,
) -> None:
    """Shows what is wrong in a data set and how each thing is handled; of a project, whether its ledger and its files
    are whole, and what to do where they are not.

    Example: `labelwise check data/aquarium`
    """
    from labelwise.cli import health

    if restore or (data / "run.toml").is_file():
        health.restore(data) if restore else health.check(data)
        return
    from labelwise.data.check import check as check_data
    from labelwise.data.check import summarise

    with bar("check", 0) as advance:
        problems = check_data(data, format_name, progress=advance)
    table = Table(title=f"{data}: {len(problems)} problems")
    for column in ("problem", "count", "where", "what", "handling"):
        table.add_column(column, overflow="fold")
    for kind in summarise(problems, len(problems) if every else 3):
        for number, problem in enumerate(kind.examples):
            first = ("", "") if number else (kind.name, str(kind.number))
            table.add_row(*first, *map(plain, (problem.where, problem.what, problem.handling)))
    out.print(table if problems else f"{data}: nothing wrong found")


@app.command("list")
def list_(
    folder: Annotated[str | None, typer.Argument(help=f"One of: recipes, {', '.join(catalog.VERBS)}.")] = None,
) -> None:
    """Lists methods (of one folder: with unit, inputs, settings and source), or recipes.

    Example: `labelwise list score`
    """
    known = ["recipes", *catalog.VERBS]
    if folder is not None and folder not in known:
        raise LabelwiseError(catalog.unknown("folder", folder, known))
    for name in [folder] if folder else known:
        if name == "recipes":
            table = Table("recipe", "what it is", title="recipes")
            for recipe, path in catalog.recipes().items():
                table.add_row(recipe, plain(path.read_text(encoding="utf-8").split("\n", 1)[0].lstrip("# ")))
        else:
            table = _methods(name) if folder else Table("method", "what it does", title=name)
            for method in catalog.names(name) if folder is None else ():
                table.add_row(method, plain(catalog.summary(name, method)))
        out.print(table)


def _alternatives(names: list[str]) -> str:
    return " or ".join(filter(None, (", ".join(names[:-1]), names[-1])))


def _methods(folder: str) -> Table:
    """Everything about the methods of a folder: units, inputs, settings, source."""
    from labelwise import units
    from labelwise.config.inputs import of_images

    every = _alternatives(units.names())
    per_image = _alternatives([name for name in units.names() if units.find(name).ONE_PER_IMAGE])
    table = Table("method", "about", title=folder, show_lines=True)
    for name in catalog.names(folder):
        method = catalog.find(folder, name)
        parameters = method.settings.items()
        facts = {
            "unit": per_image if folder == "score" and of_images(folder, name) else every,
            "inputs": ", ".join(method.inputs),
            "settings": ", ".join(f"{k}={p.default!r}" if p.default is not p.empty else k for k, p in parameters),
            "source": catalog.origin(folder, name),
            "not carried": "".join(f"\n- {line}" for line in method.constant("CANNOT_CARRY", ())),
        }
        if folder != "score":
            del facts["unit"]
        lines = [f"[dim]{key}:[/] {plain(value)}" for key, value in facts.items() if value]
        table.add_row(name, "\n".join([plain(catalog.summary(folder, name)), *lines]))
    return table
