"""The command for images that are gone, unreadable or not what they were when labelled."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table

from labelwise.cli.console import app, open_project, out, plain, tell
from labelwise.errors import LabelwiseError

MOST = 200
"""Images that are listed."""


@app.command()
def images(
    project: Annotated[Path, typer.Argument(help="The project folder.")] = Path(),
    keep: Annotated[list[str] | None, typer.Option("--keep", help="A changed image whose labels still fit.")] = None,
    keep_all: Annotated[bool, typer.Option("--keep-all", help="The labels of all changed images still fit.")] = False,
    forget: Annotated[
        list[str] | None, typer.Option("--forget", help="A changed image: withdraw its labels, it may be asked again.")
    ] = None,
) -> None:
    """Lists images that are gone, unreadable or changed since they were labelled, and what becomes of their labels.

    Example: `labelwise images my-project --forget train/0017.jpg`
    """
    opened = open_project(project)
    from labelwise.ledger import image_files
    from labelwise.project import availability as of_pool

    ledger = opened.project.ledger
    if keep or keep_all or forget:
        if both := sorted(set(keep or ()) & set(forget or ())):
            raise LabelwiseError(f"{both[0]} is to be kept and to be forgotten; say one of the two")
        with opened.project.lock():
            ledger.add_images(opened.pool)
            of_pool.look(opened)
            changed = [name for name, state in image_files.unavailable(ledger).items() if state.why == "changed"]
            kept = [name for name in changed if name not in (forget or ())] if keep_all else keep or []
            if forget:
                had = of_pool.forget(opened, forget, "owner")
                tell(f"Withdrew {sum(had.values())} labels of {len(had)} images; they may be asked again.")
            if kept:
                of_pool.keep(opened, kept, "owner")
                tell(f"Kept the labels of {len(kept)} images.")
    lines = of_pool.messages(opened)
    if not lines:
        tell("Every image of the pool is there, as it was when it was labelled.")
        return
    table = Table("image", "why", "what")
    states = image_files.unavailable(ledger)
    for name in sorted(opened.pool.names[i] for i in opened.pool.unavailable)[:MOST]:
        number = opened.pool.names.index(name)
        state = states.get(name)
        table.add_row(plain(name), "new" if state is None else state.why, plain(opened.pool.unavailable[number]))
    out.print(table)
    for line in lines:
        tell(line)
