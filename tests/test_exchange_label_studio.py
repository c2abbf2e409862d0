"""A real Label Studio server: queries go there, are answered by its interface and by its page, and come back.

Slow (the server migrates its database first). Its program is found by $LABEL_STUDIO or on the PATH, and no dependency:

    python3 -m venv ls && ls/bin/pip install label-studio
    LABEL_STUDIO=ls/bin/label-studio pytest -m slow tests/test_exchange_label_studio.py

$LABEL_STUDIO_URL names a server that runs already, with the user and token below.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from test_exchange import CLASSES, PROJECT, Box, Reply, by_label_studio, choice, known, pool, query, rectangle
from test_exchange_project import state
from typer.testing import CliRunner

from labelwise import cli
from labelwise.exchange import label_studio
from labelwise.exchange.label_studio_server import Server
from labelwise.generated import scenes
from labelwise.project import opening
from labelwise.project.context import Context
from labelwise.types import LabelwiseError, Query

pytestmark = pytest.mark.slow

SIDE_PX = 96
TOKEN = "0123456789abcdef0123456789abcdef01234567"
MAIL, PASSWORD = "ann@example.org", "a-long-password-1"
WAIT_S = 600


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


@pytest.fixture(scope="module")
def studio(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a fresh server."""
    running = os.environ.get("LABEL_STUDIO_URL")
    if running:
        yield running
        return
    program = os.environ.get("LABEL_STUDIO") or shutil.which("label-studio")
    if program is None:
        pytest.skip("no Label Studio: give its program by $LABEL_STUDIO")
    folder, port = tmp_path_factory.mktemp("studio"), free_port()
    url = f"http://127.0.0.1:{port}"
    command = [program, "start", "--no-browser", "--data-dir", str(folder), "--port", str(port)]
    command += ["--username", MAIL, "--password", PASSWORD, "--user-token", TOKEN, "--enable-legacy-api-token"]
    environment = {**os.environ, "HOME": str(folder), "COLLECT_ANALYTICS": "false", "LATEST_VERSION_CHECK": "false"}
    environment |= {
        "ML_BLOCK_LOCAL_IP": "false",
        "SSRF_PROTECTION_ENABLED": "false",
    }  # our ML backend is of this machine
    environment.pop("PYTHONPATH", None)
    with (folder / "log").open("w") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log, env=environment, start_new_session=True)
        try:
            began = time.monotonic()
            while not answers(f"{url}/health"):
                assert process.poll() is None, (folder / "log").read_text()[-2000:]
                assert time.monotonic() - began < WAIT_S, (folder / "log").read_text()[-2000:]
                time.sleep(1)
            yield url
        finally:
            os.killpg(process.pid, signal.SIGTERM)
            process.wait(30)


def answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=5) as reply:
            return int(reply.status) == 200
    except (OSError, urllib.error.HTTPError):
        return False


@pytest.fixture
def images(tmp_path: Path) -> Iterator[str]:
    """Where Label Studio finds the images."""

    class Quiet(SimpleHTTPRequestHandler):
        def end_headers(self) -> None:
            self.send_header("Access-Control-Allow-Origin", "*")  # its page draws on a canvas
            super().end_headers()

        def log_message(self, _format: str, *args: Any) -> None:
            pass

    scenes.write(tmp_path / "d", train=10, test=1, size_px=SIDE_PX, digits=(2, 4), scale=(0.2, 0.4))
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(tmp_path / "d")))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}/{{name}}"
    server.shutdown()
    server.server_close()


def twin(tmp_path: Path, name: str) -> Context:
    """A project that waits for people; every call makes the same."""
    settings = [f"data.root={tmp_path / 'd'}", 'data.pool_split="train"', "ask.who=people"]
    opened = opening.start(tmp_path / name, "starter", settings)
    opened.project.ledger.add_images(opened.pool)
    return opened


def ask(opened: Context, round_number: int) -> None:
    """25 boxes in round 0, 25 regions in round 1."""
    names = opened.pool.names
    if round_number == 0:
        boxes = [(3.0 + k, 10.5, 40.0 + k, 50.25 + k / 3) for k in range(25)]
        asked = [Query(0, k, names[k % 10], "box", box, 3, 0.5, {"entropy": 0.5}) for k, box in enumerate(boxes)]
    else:
        regions = [(float(k), 0.0, 60.0 + k, 64.0) for k in range(25)]
        asked = [Query(1, k, names[k % 10], "region", box, None, 0.5, {}) for k, box in enumerate(regions)]
    opened.project.ledger.mark_started(round_number, "ask")
    opened.project.ledger.add_queries(round_number, asked)


def said(opened: Context, round_number: int) -> dict[int, Reply]:
    """What Ann says: every verdict, boxes as they are and moved, none to two objects in a region."""
    classes, found = opened.pool.classes, {}
    for asked in opened.project.ledger.queries(round_number):
        assert asked.id is not None and asked.box is not None
        x1, y1, x2, y2 = asked.box
        k = asked.rank
        if asked.unit == "box":
            moved = (x1 + (k % 3), y1 + 0.5, x2, y2 - (k % 2)), classes[k % len(classes)]
            words = (Reply("accept", (moved,)), Reply("reject"), Reply("duplicate"), Reply("skip"))
            found[asked.id] = words[0] if k < 15 else words[k % 4]
        else:
            objects = tuple(
                ((x1 + 5 * j, y1 + 5, x1 + 5 * j + 20, y1 + 30.5), classes[(k + j) % len(classes)])
                for j in range(k % 3)
            )
            found[asked.id] = Reply("skip") if k % 8 == 7 else Reply("complete", objects)
    return found


def by_the_page(opened: Context, round_number: int) -> None:
    """The same answers on labelwise's own page."""
    from starlette.testclient import TestClient
    from test_web import Browser

    from labelwise.web import server

    page = server.Page(opened)
    client = TestClient(server.create(page), base_url="http://127.0.0.1:8765")
    ann = Browser(client, page.people.invite(f"Ann {round_number}", "annotator", time.time()))
    words, number = said(opened, round_number), {name: k for k, name in enumerate(opened.pool.classes)}
    verdicts = {"accept": "object", "reject": "background", "complete": "all", "skip": "skipped"}
    while taken := ann.next(most=1):
        [query] = taken
        word, objects = words[query["query"]]
        drawn = {"boxes": [list(box) for box, _ in objects], "labels": [number[name] for _, name in objects]}
        reply = ann.say(query, verdicts.get(word, word), **(drawn if word in ("accept", "complete") else {}))
        assert reply.status_code == 200, reply.text


def called(url: str, path: str, body: dict[str, Any]) -> Any:
    headers = {"Authorization": f"Token {TOKEN}", "Content-Type": "application/json"}
    request = urllib.request.Request(url + path, json.dumps(body).encode(), headers, method="POST")
    with urllib.request.urlopen(request, timeout=60) as reply:
        return json.loads(reply.read())


def run(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> str:
    monkeypatch.setenv("LABEL_STUDIO_API_KEY", TOKEN)
    result = CliRunner().invoke(cli.app, arguments, env={"COLUMNS": "300"})
    assert result.exit_code == 0, (result.output, result.exception)
    return result.output


def send(url: str, images: str, opened: Context, round_number: int, monkeypatch: pytest.MonkeyPatch) -> int:
    """The open queries of a round to the server; the number of the project there."""
    where = ["--project", str(opened.project.folder), "--round", str(round_number), "--images", images, "--server", url]
    shown = run(monkeypatch, "export", "queries", "--to", "label_studio", *where)
    return int(shown.partition("/projects/")[2].partition(":")[0])


def test_the_ledger_is_the_one_that_the_page_writes(
    studio: str, images: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ours, theirs = twin(tmp_path, "page"), twin(tmp_path, "studio")
    for round_number in (0, 1):
        for opened in (ours, theirs):
            ask(opened, round_number)
        by_the_page(ours, round_number)
        number = send(studio, images, theirs, round_number, monkeypatch)
        tasks = Server(studio, TOKEN).fetch(number)
        assert len(tasks) == 25
        for task in json.loads(by_label_studio(numbered(tasks), said(theirs, round_number), (SIDE_PX, SIDE_PX))):
            [annotation] = task["annotations"]
            sent = {"result": annotation["result"], "lead_time": 3.5}
            called(studio, f"/api/tasks/{task['source']}/annotations/", sent)
        assert "25 answers recorded, 0 were there" in run(
            monkeypatch, "import", str(number), "--server", studio, "--project", str(theirs.project.folder)
        )
        assert "0 answers recorded, 25 were there" in run(
            monkeypatch, "import", str(number), "--server", studio, "--project", str(theirs.project.folder)
        )
        assert ours.project.ledger.verdicts(round_number) == theirs.project.ledger.verdicts(round_number)
    (_, cost, *known), (_, other_cost, *other) = state(ours), state(theirs)
    assert (cost.boxes, cost.queries, cost.images) == (other_cost.boxes, other_cost.queries, other_cost.images)
    assert cost.queries == 50 and cost.boxes >= 20
    for table, same in zip(known, other, strict=True):
        assert len(table) == len(same)
        for row, twin_row in zip(table, same, strict=True):
            assert row == pytest.approx(twin_row, abs=0.01)
    labels = [one.project.ledger.labels(one.pool).annotations for one in (ours, theirs)]
    assert labels[0].labels.tolist() == labels[1].labels.tolist()
    assert labels[0].offsets.tolist() == labels[1].offsets.tolist()
    for opened in (ours, theirs):
        opened.project.close()


def numbered(tasks: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The tasks with their number kept, which `by_label_studio` replaces."""
    return [{**task, "source": task["id"]} for task in tasks]


def test_a_box_is_answered_on_its_own_page(
    studio: str, images: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    playwright = pytest.importorskip("playwright.sync_api")
    chromium = shutil.which("chromium") or shutil.which("chromium-browser")
    if chromium is None:
        pytest.skip("no Chromium on the PATH")
    opened = twin(tmp_path, "ui")
    ask(opened, 0)
    number = send(studio, images, opened, 0, monkeypatch)
    first = Server(studio, TOKEN).fetch(number)[0]
    artefacts = Path(os.environ.get("CI_ARTIFACTS", tmp_path))
    with playwright.sync_playwright() as play:
        browser = play.chromium.launch(executable_path=chromium, args=["--no-sandbox", "--disable-gpu"])
        page = browser.new_page(viewport={"width": 1366, "height": 768})
        page.set_default_timeout(120_000)
        page.goto(f"{studio}/user/login/")
        page.fill("input[name=email]", MAIL)
        page.fill("input[name=password]", PASSWORD)
        page.press("input[name=password]", "Enter")
        page.wait_for_url(lambda url: "/login" not in url)
        page.goto(f"{studio}/projects/{number}/data?task={first['id']}")
        page.wait_for_selector("text=accept")
        page.wait_for_timeout(3000)
        page.screenshot(path=artefacts / "label_studio_box.png")
        assert page.get_by_text("There was an issue loading").count() == 0, "the image is shown"
        page.get_by_text("accept", exact=False).last.click()
        page.keyboard.press("Control+Enter")
        page.wait_for_timeout(3000)
        page.screenshot(path=artefacts / "label_studio_done.png")
        browser.close()
    done = Server(studio, TOKEN).fetch(number)[0]
    assert len(done["annotations"]) == 1, "it was submitted"
    project = str(opened.project.folder)
    shown = run(monkeypatch, "import", str(number), "--server", studio, "--project", project, "--unfinished")
    assert "1 answers recorded" in shown
    [query] = [q for q in opened.project.ledger.queries(0) if q.rank == 0]
    assert opened.project.ledger.verdicts(0) == {query.id: "object"}
    labels = opened.project.ledger.labels(opened.pool).annotations
    assert labels.xyxy.tolist() == [pytest.approx(query.box, abs=0.01)] and labels.labels.tolist() == [3]
    opened.project.close()


# ---- the interface alone: pages of tasks, the export file, classification, refusals --------------------------------


@pytest.fixture
def server(studio: str) -> Server:
    return Server(studio, TOKEN)


def answered(server: Server, unit: str, n: int) -> tuple[Any, Any, dict[int, Reply]]:
    """Sends n queries, answers them through the interface as the page of Label Studio would, and fetches them."""
    rng, images = np.random.default_rng(7), pool(n)
    queries, said = [], {}
    for k in range(n):
        x, y = rng.uniform(0, 300, 2).tolist()
        area: Box = (x, y, x + 120.5, y + 100.25)
        queries.append(query(k, unit, None if unit == "image" else area))
        inner: Box = (x + 10, y + 7.77, x + 90.123456789, y + 66)
        words = ("accept", "reject", "duplicate", "skip") if unit == "box" else ("complete", "complete", "skip")
        word = words[k % len(words)]
        drawn = ((inner, CLASSES[k % 3]),) if word == "accept" or (word == "complete" and k % 2) else ()
        said[k] = Reply(word, drawn)
    sent = label_studio.tasks(queries, images, known(images), project=PROJECT)
    number = server.create(f"labelwise test {unit}", label_studio.config(queries, images))
    ids = server.send(number, sent)
    for k, (number_there, task) in enumerate(zip(ids, sent, strict=True)):
        result = [r for p in task["predictions"] for r in p["result"]]
        for box, name in said[k].objects:
            own = f"q-{k}" if unit == "box" else f"n-{k}"
            result = [r for r in result if r["id"] != own] + [rectangle(own, box, name)]
        body = {"result": [*result, choice("verdict", said[k].word)], "lead_time": 2.5}
        if said[k].word == "skip" and k % 2:
            body = {"result": [], "was_cancelled": True, "lead_time": 1.0}
        server._call("POST", f"/api/tasks/{number_there}/annotations/", body)
    found = label_studio.read(json.dumps(server.fetch(number)).encode(), queries, images, PROJECT)
    exported = json.dumps(server._call("GET", f"/api/projects/{number}/export?exportType=JSON")).encode()
    assert label_studio.read(exported, queries, images, PROJECT)[1] == []
    assert len(label_studio.read(exported, queries, images, PROJECT)[0]) == n, "the export file says the same"
    server._call("DELETE", f"/api/projects/{number}/")
    return found, queries, said


@pytest.mark.parametrize(("unit", "n"), [("box", 110), ("region", 20), ("image", 6)])
def test_a_real_server_takes_the_queries_and_gives_the_answers_back(server: Server, unit: str, n: int) -> None:
    (found, problems), _, said = answered(server, unit, n)
    assert problems == []
    assert sorted(a.query for a in found) == list(range(n)), "several pages, each query once"
    verdicts = {"accept": "object", "reject": "background", "complete": "all", "skip": "skipped"}
    for answer in found:
        word, objects = said[answer.query]
        assert answer.verdict == verdicts.get(word, word)
        assert [CLASSES[label] for label in answer.labels] == [name for _, name in objects]
        wanted = np.array([box for box, _ in objects]).reshape(-1, 4)
        assert np.abs(np.array(answer.boxes).reshape(-1, 4) - wanted).max(initial=0) < 1e-6
        assert answer.seconds > 0


def test_a_real_server_takes_the_configuration_of_classification(server: Server) -> None:
    queries, images = [query(0, "image"), query(1, "image")], pool(2)
    number = server.create("labelwise test class", label_studio.config(queries, images, one_class=True))
    ids = server.send(number, label_studio.tasks(queries, images, project=PROJECT, one_class=True))
    server._call("POST", f"/api/tasks/{ids[0]}/annotations/", {"result": [choice("class", CLASSES[2])]})
    rows = json.dumps(server.fetch(number)).encode()
    found, problems = label_studio.read(rows, queries, images, PROJECT, one_class=True, unfinished=True)
    assert [(a.query, a.verdict, a.labels) for a in found] == [(0, "all", (2,))]
    assert [(p.kind, p.handling) for p in problems] == [("half-finished", "left open")]
    server._call("DELETE", f"/api/projects/{number}/")


def test_a_real_server_that_says_no_is_an_error(server: Server) -> None:
    with pytest.raises(LabelwiseError, match="status 401"):
        Server(server.url, "0" * 40).create("x", "<View/>")
    with pytest.raises(LabelwiseError, match="status 404"):
        server.fetch(99999999)
