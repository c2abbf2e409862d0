"""The command that explains settings: config."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table

from labelwise.cli.console import app, out, plain


@app.command("config")
def config_(
    part: Annotated[str | None, typer.Argument(help="A section (train) or a key (train.epochs); all, if none.")] = None,
    project: Annotated[Path | None, typer.Option("--project", "-p", help="Shows its values, too.")] = None,
) -> None:
    """Shows every setting of run.toml: type, default and what it means; of a project its value as well.

    What a method can be set to (the table below `query.score`, `model`, ...) is told by `labelwise list`.

    Example: `labelwise config train --project my-project`
    """
    from labelwise import config
    from labelwise.config import keys

    chosen = keys.settings(part)
    run = None if project is None else config.load(project / "run.toml")
    table = Table("setting", "type", "default", *(["value"] if run is not None else []), "what it means")
    for one in chosen:
        now = [] if run is None else [_marked(keys.current(run, one.key), one.default)]
        table.add_row(one.key, one.type, plain(one.default), *now, plain(one.meaning))
    out.print(table)


def _marked(value: str, default: str) -> str:
    """Bold where it is not the default."""
    return plain(value) if value == default else f"[bold]{plain(value)}[/]"
