"""The MCP server: an assistant asks and answers by the client of the protocol, in memory and by standard input."""

from __future__ import annotations

import asyncio
import base64
import json
import os
import sys
from collections.abc import Awaitable, Callable
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from test_web import about, ask, project
from typer.testing import CliRunner

from labelwise import cli, loop
from labelwise.ledger import import_export
from labelwise.project import opening
from labelwise.project.context import Context
from labelwise.queue.leases import Leases
from labelwise.types import LabelwiseError

mcp = pytest.importorskip("mcp", reason="no MCP: uv sync --extra mcp")
agent = pytest.importorskip("labelwise.web.agent")
ROOT = Path(__file__).parents[1]


def talk(made: Any, work: Callable[[Any], Awaitable[None]]) -> None:
    """Work with a client of a server, or of a process."""

    async def whole() -> None:
        async with mcp.Client(made) as client:
            await work(client)

    asyncio.run(whole())


def said(result: Any) -> list[Any]:
    """The contents of a reply: JSON and texts as they are, images decoded."""
    assert not result.is_error, result.content
    found: list[Any] = []
    for part in result.content:
        if part.type == "image":
            assert part.mime_type == "image/jpeg"
            found.append(np.asarray(Image.open(BytesIO(base64.b64decode(part.data))).convert("RGB")))
        else:
            found.append(json.loads(part.text) if part.text.startswith("{") else part.text)
    return found


def opened_with(tmp_path: Path, *units: str, settings: tuple[str, ...] = (), **how: Any) -> Context:
    opened = project(tmp_path, *settings, **how)
    ask(opened, *(about(rank, opened, unit) for rank, unit in enumerate(units)))
    return opened


def test_an_assistant_sees_is_asked_and_answers_as_a_person_does(tmp_path: Path) -> None:
    opened = opened_with(tmp_path, "box", "box", "region", "image")
    tools = agent.Agent(opened, "claude")
    first, second, third, fourth = opened.project.ledger.queries(1)
    names = opened.pool.classes

    async def work(client: Any) -> None:
        assert [one.name for one in (await client.list_tools()).tools] == ["status", "ask", "answer", "report"]
        [standing] = said(await client.call_tool("status", {}))
        assert standing["standing"]["state"] == "open" and standing["standing"]["asked"] == 4
        assert standing["classes"] == list(names) and standing["you"] == "claude"
        text, pixels = said(await client.call_tool("ask", {}))
        assert text["query"] == first.id and text["box"] == list(first.box or ()) and text["class"] == names[1]
        assert list(text["verdicts"]) == ["object", "background", "duplicate", "skipped"] and text["shown at"] == 1.0
        assert pixels.shape == (48, 64, 3) and pixels[3, 10:20, 0].mean() > 120, "the asked box is drawn"
        texts = said(await client.call_tool("ask", {"most": 3}))
        assert [one["query"] for one in texts[::2]] == [first.id, second.id, third.id], "what it holds, and more"
        [done] = said(await client.call_tool("answer", {"query": first.id, "verdict": "object"}))
        assert done["counts"] and done["still yours"] == [second.id, third.id]
        box = [1, 1, 20.5, 20]
        moved = {"query": second.id, "verdict": "object", "boxes": [box], "labels": [names[0]]}
        said(await client.call_tool("answer", moved))
        outside = {"query": third.id, "verdict": "all", "boxes": [[5, 4, 20, 20], [40, 40, 60, 47]]}
        [done] = said(await client.call_tool("answer", outside | {"labels": [names[0], names[1]]}))
        assert "left out" in done["told"][0], "a region's answer is cut as on the page"
        last, _ = said(await client.call_tool("ask", {}))
        assert last["query"] == fourth.id and last["box"] is None
        said(await client.call_tool("answer", {"query": fourth.id, "verdict": "skipped", "note": "too dark"}))
        assert said(await client.call_tool("ask", {}))[0].startswith("Nothing is open for you")

    talk(agent.server(tools, "1"), work)
    found = {query.id: (given.who, given.verdict, list(given.boxes)) for query, given in
             import_export.current_answers(opened.project.ledger)}  # fmt: skip
    assert found[first.id] == ("claude", "object", [first.box])
    assert found[second.id] == ("claude", "object", [(1.0, 1.0, 20.5, 20.0)])
    assert found[third.id][2] == [(5.0, 4.0, 20.0, 20.0)] and found[fourth.id][1] == "skipped"
    rows = import_export.current_annotations(opened.project.ledger)
    assert {row["origin"] for row in rows} == {"person claude"}
    assert opened.project.ledger.cost().queries == 4 and opened.project.ledger.cost().seconds > 0
    opened.project.close()


def test_the_class_of_a_proposal_that_has_none_must_be_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    opened = opened_with(tmp_path, "box")
    tools = agent.Agent(opened, "claude")
    monkeypatch.setattr(tools._shown, "class_of", lambda query: None)  # who proposed the box knows no classes
    asked = json.loads(tools.ask(1)[0])
    assert asked["class"] is None
    with pytest.raises(LabelwiseError, match="say its class: labels = "):
        tools.answer(asked["query"], "object")
    tools.answer(asked["query"], "object", labels=[opened.pool.classes[0]])
    [(_, given)] = import_export.current_answers(opened.project.ledger)
    assert list(given.labels) == [0]
    opened.project.close()


def test_what_it_holds_nobody_else_is_asked_and_goes_back_at_its_end(tmp_path: Path) -> None:
    opened = opened_with(tmp_path, "box", "box")
    tools, people = agent.Agent(opened, "claude"), Leases(opened.project.ledger)
    held = tools.ask(1)[0]
    taken = people.take("Ada", "window-1", 0.0, most=2)
    assert [lease.query.rank for lease in taken] == [1] and json.loads(held)["query"] != taken[0].query.id
    people.release("Ada", "window-1")
    tools.close()
    assert len(people.take("Ada", "window-1", 0.0, most=2)) == 2
    opened.project.close()


def test_mistakes_are_told_and_store_nothing(tmp_path: Path) -> None:
    opened = opened_with(tmp_path, "box")
    tools = agent.Agent(opened, "claude")
    [query] = opened.project.ledger.queries(1)

    async def work(client: Any) -> None:
        async def refused(tool: str, what: str, **how: Any) -> None:
            result = await client.call_tool(tool, how)
            assert result.is_error and what in result.content[0].text, result.content

        await refused("answer", "is not in your hands; ask", query=query.id, verdict="object")
        await refused("ask", "expected 1 to 12", most=0)
        said(await client.call_tool("ask", {}))
        await refused("answer", "expected one of object, background", query=query.id, verdict="yes")
        await refused("answer", "class 'dog': expected one of cat", query=query.id, verdict="object", labels=["dog"])
        out = [[0, 0, 90, 20]]
        await refused("answer", "outside the image of 64 x 48", query=query.id, verdict="object", boxes=out)
        await refused("report", "no round is finished yet")

    talk(agent.server(tools, "1"), work)
    assert opened.project.ledger.verdicts(1) == {} and opened.project.ledger.cost().queries == 0
    for name in ("", "oracle", "a\nb"):
        with pytest.raises(LabelwiseError, match="cannot be a person's name"):
            agent.Agent(opened, name)
    opened.project.close()


def test_by_standard_input_nothing_but_the_protocol_comes_out(tmp_path: Path) -> None:
    opened = opened_with(tmp_path, "image", settings=("data.test_share=0.34",), images=12)
    folder, [query] = opened.project.folder, opened.project.ledger.queries(1)
    opened.project.close()
    path = os.pathsep.join((str(ROOT / "src"), str(ROOT / "tests")))
    command = mcp.StdioServerParameters(
        command=sys.executable, args=["-m", "labelwise", "mcp", str(folder), "--who", "claude"],
        env=os.environ | {"PYTHONPATH": path},
    )  # fmt: skip

    async def work(client: Any) -> None:
        text, pixels = said(await client.call_tool("ask", {"most": 2}))
        assert text["query"] == query.id and pixels.shape == (48, 64, 3)
        said(await client.call_tool("answer", {"query": query.id, "verdict": "all"}))

    talk(command, work)
    again = opening.start(folder, None)
    assert again.project.ledger.verdicts(1) == {query.id: "all"}
    again.project.close()


def test_the_report_is_written_and_said(tmp_path: Path) -> None:
    opened = project(tmp_path, 'ask.who="oracle"', "data.test_share=0.34", images=12)
    list(loop.run(opened))
    tools = agent.Agent(opened, "claude")
    text = tools.report()
    assert (opened.project.folder / "report.html").stat().st_size > 1000
    assert "round 1: AP50" in text and "Report: " in text
    assert json.loads(tools.status())["curve"][1]["boxes"] > 0
    with pytest.raises(LabelwiseError, match="the simulated oracle answers this project"):
        tools.ask()
    opened.project.close()


def test_without_the_package_the_command_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    project(tmp_path).project.close()
    monkeypatch.delattr("labelwise.web.agent")
    monkeypatch.delitem(sys.modules, "labelwise.web.agent")
    monkeypatch.setitem(sys.modules, "mcp.server.mcpserver", None)
    result = CliRunner().invoke(cli.app, ["mcp", str(tmp_path / "project")])
    assert isinstance(result.exception, LabelwiseError) and "labelwise[mcp]" in str(result.exception)
