"""Commands that open a project to other programs: mcp, serve-ml."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import Annotated

import typer

import labelwise
from labelwise.cli import live_run
from labelwise.cli.console import ProjectOption, app, err, open_project, out, require_project
from labelwise.errors import LabelwiseError

PANEL = "Exchange with other tools"


@app.command(rich_help_panel=PANEL)
def mcp(
    project: Annotated[Path, typer.Argument(help="The project folder.")],
    who: Annotated[str, typer.Option(help="The name under which the assistant answers.")] = "assistant",
) -> None:
    """Opens a project to an assistant by the Model Context Protocol, on standard input and output: status, ask (open
    questions with the image), answer, report.

    Example: `labelwise mcp my-project --who claude`
    """
    require_project(project)
    try:
        from labelwise.web import agent
    except ImportError as error:
        raise LabelwiseError(f'an MCP server needs the extra `mcp`: pip install "labelwise[mcp]" ({error})') from None
    opened = open_project(project)
    opened.tell = lambda line: err.print(line, markup=False, highlight=False)  # standard output is the protocol's
    tools = agent.Agent(opened, who)
    try:
        agent.server(tools, labelwise.__version__).run()
    finally:
        tools.close()


@app.command(rich_help_panel=PANEL)
def serve_ml(
    project: ProjectOption = Path(),
    host: Annotated[str, typer.Option(help="The address to listen at; 0.0.0.0 opens it to the network.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=1, max=65535)] = 9090,
    run: Annotated[
        bool, typer.Option("--run", help="Runs the project, too: rounds are trained as answers come.")
    ] = False,
) -> None:
    """Serves a project as the ML backend of Label Studio: tasks of `labelwise export queries` get the model's boxes,
    and what is submitted is stored at once.

    Example: `labelwise serve-ml --project my-project --run`
    """
    require_project(project)
    try:
        from labelwise.web import ml_backend
    except ImportError as error:
        raise LabelwiseError(f'the ML backend needs the extra `web`: pip install "labelwise[web]" ({error})') from None
    backend = ml_backend.Backend(open_project(project))
    address = f"http://{'localhost' if host == '127.0.0.1' else host}:{port}/{ml_backend.secret_of(backend.ledger)}"
    out.print(f"In Label Studio: Settings, Model, Connect Model, Backend URL: {address}", soft_wrap=True, markup=False)
    out.print("Who knows this address can answer; keep it to yourselves.")
    with live_run.beside(project) if run else contextlib.nullcontext():
        ml_backend.run(backend, host, port)
