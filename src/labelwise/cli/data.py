"""The commands that look, and one that writes data: check, convert, list (methods and recipes)."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table

from labelwise import catalog
from labelwise.cli.console import app, bar, err, out, plain, tell
from labelwise.errors import LabelwiseError

if TYPE_CHECKING:
    from labelwise.data.recognise import Found
    from labelwise.types import Problem

FormatOption = Annotated[str | None, typer.Option("--format", help="The format, if it is not found by itself.")]
FirstPixelOption = Annotated[
    int | None, typer.Option("--first-pixel", min=0, max=1, help="Pixels of VOC count from 0 or 1, if nobody can tell.")
]
WRITABLE = list(catalog.writable())


@app.command()
def check(
    data: Annotated[str, typer.Argument(help="A data set in any layout (a folder, s3://...), or a project.")],
    format_name: FormatOption = None,
    every: Annotated[
        bool, typer.Option("--all", help="Every single problem, not three examples of each kind.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object for other programs.")] = False,
    first_pixel: FirstPixelOption = None,
    restore: Annotated[
        bool, typer.Option("--restore", help="Of a project: go back to the copy of its ledger.")
    ] = False,
    contents: Annotated[
        bool | None,
        typer.Option(
            "--contents/--headers",
            help="Every image decoded and compared, or headers alone [default: contents; of an object store headers]",
        ),
    ] = None,
) -> None:
    """Shows what a data set holds, which of its files were not used, what is wrong in it and how each thing is handled,
    how many of its images look the same, and of videos with what stride tracks hold; of a project, whether its ledger
    and its files are whole, and what to do where they are not.

    Of images in an object store it says first what will be fetched.

    Example: `labelwise check data/aquarium`
    """
    from labelwise.cli import health

    if restore or (Path(data) / "run.toml").is_file():
        if as_json:
            raise LabelwiseError("--json is of data sets, not of projects: leave it out")
        health.restore(Path(data)) if restore else health.check(Path(data))
        return
    from labelwise.cli import look_alikes
    from labelwise.data import bars
    from labelwise.data.check import look
    from labelwise.project import data_root

    with data_root.readable(data, bar) as root:
        far = data_root.size_in_store(root)
        full = far is None if contents is None else contents
        if far is None:
            with bar("check", 0) as advance:
                report = look(root, format_name, full, advance, first_pixel)
        else:
            err.print(_fetches(data, *far, full), markup=False, highlight=False, soft_wrap=True)
            with bars.shown(bar):
                report = look(root, format_name, full, None, first_pixel)
        report = report.named(str(root), data)
        tracks = look_alikes.tracks(report.found) if full else look_alikes.Tracks()
    if as_json:
        said = {**report.as_json(None if every else 20), "tracks": tracks.as_json()}
        typer.echo(json.dumps(said, ensure_ascii=False, indent=1))
        return
    show_found(data, report.found)
    show_unused(report.unused)
    show_problems(data, report.problems, every)
    look_alikes.show(report.alike, tracks)


def _fetches(data: str, images: int, size: int | None, full: bool) -> str:
    """What `check` will fetch from a store."""
    what = f"{data}: {images} images" + ("" if size is None else f", {size / 1e6:.1f} MB")
    if full:
        return f"{what}. All of them are fetched, to decode and compare them (--headers: at most 64 KB of each)"
    return f"{what}. At most 64 KB of each are fetched, for its header (--contents fetches all, to decode and compare)"


def show_found(data: str | Path, found: Found) -> None:
    """Format, splits with images and boxes, classes of a data set."""
    from labelwise.data import recognise

    tell(f"{data}: {found.format}")
    table = Table("split", "holds", "annotations")
    for row in recognise.describe(found):
        table.add_row(*map(plain, row))
    out.print(table)
    if found.classes:
        tell(f"{len(found.classes)} classes: {', '.join(found.classes)}")


def show_unused(unused: Mapping[str, int]) -> None:
    """How many files of each suffix were not used."""
    if unused:
        listed = ", ".join(f"{n} {suffix or 'without suffix'}" for suffix, n in unused.items())
        tell(f"Files not used: {listed}")


def show_problems(data: str | Path, problems: Sequence[Problem], every: bool) -> None:
    """A table of all problems by kind."""
    from labelwise.data.check import summarise

    total = sum(problem.count for problem in problems)
    table = Table(title=f"{data}: {total} problems")
    for column in ("problem", "count", "where", "what", "handling"):
        table.add_column(column, overflow="fold")
    for kind in summarise(problems, len(problems) if every else 3):
        for number, problem in enumerate(kind.examples):
            first = ("", "") if number else (kind.name, str(kind.number))
            table.add_row(*first, *map(plain, (problem.where, problem.what, problem.handling)))
    out.print(table if problems else f"{data}: nothing wrong found")


@app.command()
def convert(
    data: Annotated[str, typer.Argument(help="A data set in any layout (a folder, s3://...).")],
    to: Annotated[str, typer.Option("--to", metavar=f"<{'|'.join(WRITABLE)}>", help="The layout to write.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="The folder to write; new or empty.")],
    format_name: FormatOption = None,
    copy: Annotated[bool, typer.Option("--copy", help="Copy the images.")] = False,
    link: Annotated[bool, typer.Option("--link", help="Link the images.")] = False,
    first_pixel: FirstPixelOption = None,
) -> None:
    """Writes a data set in another layout, all of its splits, and tells what that cannot carry.

    Without --copy and --link COCO names the images where they are, by paths from the new folder; VOC and YOLO link
    them, as they find labels by the place of the image. From an object store images are fetched.

    Example: `labelwise convert data/aquarium --to yolo -o aquarium_yolo --copy`
    """
    if copy and link:
        raise LabelwiseError("--copy and --link: give one of the two")
    if to not in WRITABLE:
        raise LabelwiseError(catalog.unknown("format to write", to, WRITABLE))
    from labelwise.data import bars, image_store, recognise
    from labelwise.data.convert import convert as write
    from labelwise.project import data_root

    whole, parts = (bars.silent, bar) if image_store.is_url(data) else (bar, bars.silent)  # what is fetched has its own
    with data_root.readable(data, bar) as root, bars.shown(parts):
        with whole("read", 0) as advance:
            found = recognise.look(root, format_name, advance, most=None, first_pixel=first_pixel)
        with whole("write", sum(map(len, found.pools.values()))) as advance:
            lost = write(found, to, output, "copy" if copy else "link" if link else None, advance)
    show_found(data, found)
    tell(f"Wrote {output} as {to}")
    for line in lost:
        tell(f"  not carried: {line}")
    kinds = {problem.kind for pool in found.pools.values() for problem in pool.problems}
    if kinds:
        tell(f"Problems in the data ({', '.join(sorted(kinds))}): `labelwise check {data}` shows them")


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
