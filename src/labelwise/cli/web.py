"""The command of the labelling page: serve."""

from __future__ import annotations

import threading
import time
import webbrowser
from pathlib import Path
from typing import Annotated

import typer

from labelwise.cli.console import ProjectOption, app, open_project, out, require_project
from labelwise.errors import LabelwiseError


@app.command()
def add_class(
    name: Annotated[str, typer.Argument(help="The new class.")],
    project: ProjectOption = Path(),
    none_so_far: Annotated[
        bool, typer.Option(help="What was looked over until now holds none of it, by your word: it counts as it is.")
    ] = False,
) -> None:
    """Adds a class to the list while people answer (the owner may do it on the page as well).

    What was looked over before counts as not looked over: nobody looked for this class there. Boxes stay. Queries of
    this round that were skipped because the class was missing are asked again.

    Example: `labelwise add-class forklift --project runs/yard`
    """
    opened = open_project(project)
    number = opened.add_class(name, "owner", none_so_far=none_so_far)
    out.print(f"{name} is class number {number}; people who answer now see it.", markup=False)


@app.command()
def serve(
    project: ProjectOption = Path(),
    host: Annotated[str, typer.Option(help="The address to listen at; 0.0.0.0 opens it to the network.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535)] = 8765,
    host_name: Annotated[list[str] | None, typer.Option(help="Another name of this machine (repeat).")] = None,
    invite: Annotated[list[str] | None, typer.Option(help="Prints an invitation link for NAME (repeat).")] = None,
    https: Annotated[bool, typer.Option(help="Browsers come by https, through a proxy before this server.")] = False,
    browser: Annotated[bool, typer.Option(help="Opens the page in your browser.")] = True,
) -> None:
    """Opens the page on which people answer; `labelwise run --oracle people` asks and trains beside it.

    Example: `labelwise serve --project runs/cats --invite Ada --invite Bo`
    """
    require_project(project)
    try:
        from labelwise.web import server
    except ImportError as error:
        raise LabelwiseError(f"the page needs the extra `web`: install labelwise[web] ({error})") from None

    opened = open_project(project)
    if opened.run.ask.who != "people":
        out.print(
            "The simulated oracle answers this project: `labelwise run --oracle people` makes it wait for people."
        )
    page = server.Page(opened, secure=https)
    names = frozenset({host, *(host_name or [])}) - {"0.0.0.0", "::"}
    at = f"{'https' if https else 'http'}://{(host_name or [host if host != '0.0.0.0' else '127.0.0.1'])[0]}:{port}"
    link = f"{at}/enter#{page.people.invite('owner', 'owner', time.time(), keep_password=True)}"
    out.print(f"Your own link (keep it to yourself): {link}", soft_wrap=True, highlight=False)
    for name in invite or []:
        secret = page.people.invite(name, "annotator", time.time())
        out.print(f"Link for {name}: {at}/enter#{secret}", soft_wrap=True, highlight=False, markup=False)
    invited = sum(person["invited"] for person in page.people.everyone())
    if invited < opened.run.ask.overlap:
        out.print(
            f"Every query waits for {opened.run.ask.overlap} people (ask.overlap) and {invited} are invited: "
            "invite more here or on the owner's page, or set ask.deadline_h. Without either a round does not end."
        )
    if browser and host in ("127.0.0.1", "localhost"):
        threading.Timer(1.0, webbrowser.open, [link]).start()  # when the server listens
    server.run(page, host, port, server.LOOPBACK | names)
