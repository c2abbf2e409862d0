"""The command of the labelling page: serve."""

from __future__ import annotations

import contextlib
import html
import ipaddress
import os
import threading
import time
import webbrowser
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from labelwise.cli import live_run
from labelwise.cli.console import ProjectOption, app, open_project, out, require_project
from labelwise.errors import LabelwiseError

LOOPBACK = ("127.0.0.1", "::1")
OPENED = ".open.html"
"""In the project folder: what sends the owner's browser to the page, for a moment."""
READABLE = (
    "Without --https, whoever is on the way between a browser and this server can read and change all of it: the links "
    "and cookies by which people enter (who has one answers in their name), the images, the answers. Put a proxy that "
    "speaks https before it and start with --https, or listen at 127.0.0.1 and come by an ssh tunnel."
)


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
    proxy: Annotated[
        list[str] | None,
        typer.Option(
            help="With --https: the proxy's address or network, whose x-forwarded-for is believed (repeat); "
            "else that of this machine."
        ),
    ] = None,
    browser: Annotated[bool, typer.Option(help="Opens the page in your browser.")] = True,
    live: Annotated[
        bool,
        typer.Option(help="Runs the project, too; trains and ranks after every few answers (models frozen, head)."),
    ] = False,
) -> None:
    """Opens the page on which people answer; `labelwise run --oracle people` asks and trains beside it.

    With `--live` that is done here, at the lowest priority, and the model learns within the round: a question profits
    from the answers before it (`ask.live_answers`, 5).

    Example: `labelwise serve --project runs/cats --live --invite Ada --invite Bo`
    """
    proxies = _proxies(proxy or (), https=https)
    require_project(project)
    try:
        from labelwise.web import server
    except ImportError as error:
        raise LabelwiseError(f"the page needs the extra `web`: install labelwise[web] ({error})") from None
    opened = open_project(project, live_run.settings_of(project) if live else ())
    if live:
        with opened.project.lock():  # refused here, and not by a process that nobody looks at
            pass
    if opened.run.ask.who != "people":
        out.print(
            "The simulated oracle answers this project: `labelwise run --oracle people` makes it wait for people."
        )
    page = server.Page(opened, secure=https)
    shown = f"[{host}]" if ":" in host else host
    names = frozenset(name.lower() for name in (shown, *(host_name or []))) - {"0.0.0.0", "[::]"}
    here = {"0.0.0.0": "127.0.0.1", "[::]": "[::1]"}.get(shown, shown)
    name = (host_name or [here])[0]
    at = f"https://{name}" if https else f"http://{name}:{port}"  # the proxy listens where https does
    if not https and not _is_loopback(host):
        out.print(READABLE, markup=False, style="bold")
    link = f"{at}/enter#{page.people.invite('owner', 'owner', time.time(), keep_password=True)}"
    out.print(f"Your own link (keep it to yourself): {link}", soft_wrap=True, highlight=False, markup=False)
    for guest in invite or []:
        secret = page.people.invite(guest, "annotator", time.time())
        out.print(f"Link for {guest}: {at}/enter#{secret}", soft_wrap=True, highlight=False, markup=False)
    invited = sum(person["invited"] for person in page.people.everyone())
    if invited < opened.run.ask.overlap:
        out.print(
            f"Every query waits for {opened.run.ask.overlap} people (ask.overlap) and {invited} are invited: "
            "invite more here or on the owner's page, or set ask.deadline_h. Without either a round does not end."
        )
    note = opened.project.folder / OPENED
    if browser and host in ("127.0.0.1", "localhost"):
        threading.Timer(1.0, _show, [link, note]).start()  # when the server listens
    with live_run.beside(project) if live else contextlib.nullcontext():
        try:
            server.run(page, host, port, server.LOOPBACK | names, proxies)
        finally:
            note.unlink(missing_ok=True)


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _proxies(given: Sequence[str], *, https: bool) -> Sequence[str]:
    """The addresses whose word is taken for where a request comes from."""
    if given and not https:
        raise LabelwiseError("--proxy names what stands before a server that browsers reach by https: add --https")
    for address in given:
        try:
            ipaddress.ip_network(address)
        except ValueError as error:
            raise LabelwiseError(f"--proxy {address}: {error}; expected an address or network, 10.0.0.2") from None
    return (given or LOOPBACK) if https else ()


def _show(link: str, path: Path) -> None:
    """Opens a link in the browser by a file that nobody else may read, for anybody may read a command line."""
    text = f'<!doctype html><meta http-equiv="refresh" content="0; url={html.escape(link)}">'
    with contextlib.suppress(OSError):  # the link is printed, too
        path.unlink(missing_ok=True)
        with os.fdopen(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600), "w", encoding="utf-8") as file:
            file.write(text)
        webbrowser.open(path.resolve().as_uri())
