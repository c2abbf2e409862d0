"""Commands that exchange with other tools: export, import."""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from labelwise import catalog
from labelwise.cli.console import ProjectOption, app, open_project, out
from labelwise.errors import LabelwiseError

if TYPE_CHECKING:
    from labelwise.project.context import Context
    from labelwise.types import Problem

PANEL = "Exchange with other tools"
TOKEN = "LABEL_STUDIO_API_KEY"
MOST_PLACES = 20
"""So many problems of a kind are told one by one, before their count."""

ServerOption = Annotated[
    str | None,
    typer.Option(
        help=f"Address of a Label Studio server (its token: ${TOKEN}); of CVAT, to export ($CVAT_AUTH=USER:PASSWORD)."
    ),
]
TOOLS = catalog.names("exchange")
SETS = catalog.defining("data", "write")
TARGETS = [*TOOLS, *(name for name in SETS if name not in TOOLS)]


def _tool(name: str | None) -> str | None:
    return _among(name, TOOLS)


def _target(name: str | None) -> str | None:
    return _among(name, TARGETS)


def _among(name: str | None, known: list[str]) -> str | None:
    """A name that exists; a dotted one is a module of the user's own."""
    if name is not None and "." not in name and name not in known:
        raise typer.BadParameter(f"{name!r} is not one of {', '.join(map(repr, known))}.")
    return name


@app.command("export", rich_help_panel=PANEL)
def export_(
    what: Annotated[
        Literal["queries", "labels"],
        typer.Argument(help="queries: open questions, for a labelling tool. labels: the training set so far."),
    ],
    to: Annotated[
        str,
        typer.Option(
            "--to",
            callback=_target,
            metavar=f"<{'|'.join(TARGETS)}>",
            help=f"The tool; for labels the format: {', '.join(SETS[:-1])} or {SETS[-1]}.",
        ),
    ],
    project: ProjectOption = Path(),
    output: Annotated[Path | None, typer.Option("--output", "-o", help="The folder to write.")] = None,
    round_number: Annotated[
        int | None, typer.Option("--round", min=0, help="The round whose queries to export [default: last]")
    ] = None,
    images: Annotated[
        str | None, typer.Option(help="Where Label Studio finds an image; {name} is its name in the data set.")
    ] = None,
    server: ServerOption = None,
    link: Annotated[bool, typer.Option("--link", help="YOLO, VOC: link the images instead of copying them.")] = False,
) -> None:
    """Writes the open queries for a labelling tool, or the training set with its data card.

    What the format cannot carry is told. An image that nobody looked at is never exported as an empty one.

    Example: `labelwise export queries --to label_studio --project cats --output to_label`
    """
    opened = open_project(project)
    from labelwise.exchange import cvat_server, label_studio_server
    from labelwise.stages import interchange, training_export

    folder = output or project / "export" / f"{what}_{to}"
    if what == "labels":
        missing = training_export.write_set(opened, to, folder, copy_images=not link)
        out.print(f"Wrote {folder}; read {folder / 'DATA_CARD.md'}", soft_wrap=True, markup=False)
    elif server is not None and to == cvat_server.FORMAT:
        number = _send_to_cvat(server, opened, round_number)
        missing = list(interchange.cannot_carry(to))
        out.print(f"{server}/tasks/{number}: answer there, export as CVAT 1.1; then:", soft_wrap=True, markup=False)
        out.print(f"  labelwise import annotations.xml --from cvat --project {project}", soft_wrap=True, markup=False)
    elif server is not None:
        if to != label_studio_server.FORMAT:
            raise LabelwiseError(f"--server is of Label Studio or CVAT, not {to}: leave it out, and a file is written")
        number = _send(server, opened, round_number, images, folder)
        missing = list(interchange.cannot_carry(to))
        out.print(f"{server}/projects/{number}: answer there; then:", soft_wrap=True, markup=False)
        back = f"labelwise import {number} --server {server} --project {project}"
        out.print(f"  {back}", soft_wrap=True, markup=False)
    else:
        n, paths = interchange.write_queries(opened, to, folder, round_number, image_url=images)
        missing = list(interchange.cannot_carry(to))
        out.print(f"{n} open queries: {', '.join(map(str, paths))}", soft_wrap=True, markup=False)
        out.print(f"Then: labelwise import FILE --from {to} --project {project}", soft_wrap=True, markup=False)
    if missing:
        out.print("Not carried:")
        for line in missing:
            out.print(f"  - {line}", soft_wrap=True, markup=False, highlight=False)


@app.command("import", rich_help_panel=PANEL)
def import_(
    source: Annotated[str, typer.Argument(help="The file that came back; with --server the number of the project.")],
    tool: Annotated[
        str | None,
        typer.Option(
            "--from",
            callback=_tool,
            metavar=f"<{'|'.join(TOOLS)}>",
            help="The tool it comes from [default: seen]",
        ),
    ] = None,
    project: ProjectOption = Path(),
    server: ServerOption = None,
    who: Annotated[str | None, typer.Option(help="Who answered, where the file does not say.")] = None,
    unfinished: Annotated[
        bool, typer.Option("--unfinished", help="What is unfinished stays open; take the rest.")
    ] = False,
    second_opinions: Annotated[
        bool, typer.Option("--second-opinions", help="Keep answers to answered queries; the first counts.")
    ] = False,
    partial: Annotated[
        bool,
        typer.Option(
            "--partial",
            help="Leave out what does not fit (tasks of others, edited ones, unfinished ones); take the rest.",
        ),
    ] = False,
    rename: Annotated[
        list[str] | None,
        typer.Option("--rename", metavar="NAME=CLASS", help="A class that has another name in the tool (repeatable)."),
    ] = None,
) -> None:
    """Records the answers of a file, all or none: every problem is told, and then nothing is written.

    The same file a second time writes nothing. A skip beside somebody's answer is no answer.

    Example: `labelwise import export.json --from label_studio --project cats`
    """
    opened = open_project(project)
    from labelwise.data import text_files
    from labelwise.stages import interchange

    if server is not None:
        from labelwise.exchange.label_studio_server import FORMAT, Server

        if not source.isdecimal():
            raise LabelwiseError(f"{source!r}: with --server expected the number of a Label Studio project")
        content = json.dumps(Server(server, os.environ.get(TOKEN, "")).fetch(int(source))).encode()
        chosen = FORMAT
    else:
        content = text_files.content(Path(source))
        chosen = tool or interchange.tool_of(content)
    how = {"unfinished": unfinished, "second_opinions": second_opinions, "partial": partial}
    try:
        taken = interchange.take_in(opened, content, chosen, who=who, rename=_renamed(rename or []), **how)
    except LabelwiseError as error:
        raise LabelwiseError(f"{source}: {error}") from error
    _tell(taken.problems)
    refused = sum(problem.handling == interchange.REFUSED for problem in taken.problems)
    if refused:
        raise LabelwiseError(
            f"{source}: {refused} problems, nothing was written. Mend them and import the file again, or take the rest "
            "with --partial: what does not fit is left out and stays open"
        )
    still = f"; {taken.n_open} queries of these rounds are open still" if taken.n_open else ""
    out.print(f"{taken.written} answers recorded, {taken.known} were there before{still}", highlight=False)


def _renamed(pairs: list[str]) -> dict[str, str]:
    """Name in the tool -> class of ours."""
    found = {}
    for pair in pairs:
        name, equal, own = pair.rpartition("=")
        if not equal or not name or not own:
            raise LabelwiseError(f"--rename {pair!r}: expected NAME=CLASS, for example kitty=cat")
        found[name] = own
    return found


def _tell(problems: Sequence[Problem]) -> None:
    """Every kind of problem, with its first places."""
    seen: Counter[tuple[str, str]] = Counter()
    for problem in problems:
        seen[problem.kind, problem.handling] += 1
        if seen[problem.kind, problem.handling] <= MOST_PLACES:
            line = f"{problem.where}: {problem.kind}: {problem.what} ({problem.handling})"
            out.print(line, soft_wrap=True, markup=False, highlight=False)
    for (kind, handling), n in seen.items():
        if n > MOST_PLACES:
            line = f"{kind}: {n - MOST_PLACES} more ({handling})"
            out.print(line, soft_wrap=True, markup=False, highlight=False)


def _send(address: str, opened: Context, round_number: int | None, images: str | None, folder: Path) -> int:
    """Makes a Label Studio project of the open queries; its number there."""
    from labelwise.exchange import label_studio
    from labelwise.exchange.label_studio_server import FORMAT, Server
    from labelwise.stages import interchange

    queries = interchange.open_queries(opened, round_number)
    files = interchange.query_files(opened, FORMAT, queries, image_url=images)
    if interchange.draw(opened, (query.image for query in queries), folder / "images"):
        out.print(f"The frames to serve by {images or label_studio.LOCAL_FILES}: {folder / 'images'}", markup=False)
    server = Server(address, os.environ.get(TOKEN, ""))
    number = server.create(f"{opened.run.name}, round {queries[0].round}", files["config.xml"].decode())
    server.send(number, json.loads(files["tasks.json"]))
    return number


def _send_to_cvat(address: str, opened: Context, round_number: int | None) -> int:
    """Makes a CVAT task of the open queries; its number there."""
    from labelwise.data import bars
    from labelwise.exchange import cvat_server
    from labelwise.stages import interchange

    if interchange.has_no_files(opened.pool):
        raise LabelwiseError(
            "the images are frames of videos, or of an archive, and no files of their own: leave out --server, make "
            "the task in CVAT and upload what is written there"
        )
    queries = interchange.open_queries(opened, round_number)
    files = interchange.query_files(opened, cvat_server.FORMAT, queries)
    images = {query.image: opened.pool.path(opened.pool.number_of[query.image]) for query in queries}
    title = f"{opened.run.name}, round {queries[0].round}"
    with bars.shown(opened.bar):
        return cvat_server.send(address, os.environ.get(cvat_server.AUTH, ""), title, files, images)
