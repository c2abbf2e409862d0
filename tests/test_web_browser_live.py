"""`labelwise serve --live` in a real Chromium: the model learns while a person answers, and the owner sees it."""

from __future__ import annotations

import re
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from fakes.browser import CHROMIUM, View
from test_frozen_detector import detector as detector  # a fixture
from test_frozen_detector import settings_of

from labelwise import loop
from labelwise.cli import live_run
from labelwise.files.round_files import STAGES
from labelwise.ledger import live_updates
from labelwise.project import opening

pytestmark = [pytest.mark.slow, pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on this machine")]


class LiveSite:
    """A project after its first round, the server of its page, and its run beside it."""

    def __init__(self, folder: Path, settings: list[str]) -> None:
        import uvicorn

        from labelwise.web import server

        begun = opening.start(folder, "scenes", settings)
        for name in STAGES:
            loop.run_next(begun, name)
        begun.project.close()
        self.opened = opening.start(folder, None, ["ask.who=people", "ask.live_answers=3"])
        self.page = server.Page(self.opened)
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        config = uvicorn.Config(server.create(self.page), host="127.0.0.1", port=self.port, log_level="error")
        self.server = uvicorn.Server(config)
        self.thread = threading.Thread(target=self.server.run)
        self.thread.start()
        self.run = live_run.LiveRun(folder)

    def link(self, name: str, role: Any = "owner") -> str:
        return f"http://127.0.0.1:{self.port}/enter#{self.page.people.invite(name, role, time.time())}"

    def close(self) -> None:
        self.run.stop()
        self.server.should_exit = True
        self.thread.join()
        self.opened.project.close()


@pytest.fixture
def live_site(tmp_path: Path, detector: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[LiveSite]:
    monkeypatch.setattr(live_run, "NICE", 0)  # or it may wait for ever on a machine that runs more tests
    own = ('model={name="frozen"}', "query.unit=box", "budget.unit=queries", "budget.per_round=[40]")
    margin = ('query.score="margin"', 'query.select="top"')
    made = LiveSite(tmp_path / "p", settings_of(detector, *own, *margin))
    yield made
    made.close()


def test_a_person_answers_and_the_queue_learns(live_site: LiveSite, chromium: Any, tmp_path: Path) -> None:
    ledger = live_site.opened.project.ledger
    view = View(chromium, live_site, tmp_path, first=False)  # type: ignore[arg-type]
    view.wait_for_rank(0)
    seen = list[str]()
    for k in range(16):
        view.page.locator("#file").filter(has_text="rank").filter(has_not_text=seen[-1] if seen else "\0").wait_for()
        seen.append(view.page.inner_text("#file"))
        view.keys("r" if k % 3 else "a")
        if k % 4 == 3:  # a person looks at the next one for a while
            wanted = k // 4 + 1
            wait(lambda wanted=wanted: sum(one.round == 1 for one in live_updates.every(ledger)) >= wanted)
    view.keys("z")
    view.wait_for_text("#message", "Taken back")
    view.keys("r")
    wait(lambda: len(ledger.verdicts(1)) == 16)
    assert len(set(seen)) == 16
    assert {re.sub(r".*(round \d+), .*", r"\1", text) for text in seen} == {"round 1"}
    updates = [one for one in live_updates.every(ledger) if one.round == 1]
    asked = {query.rank: query for query in ledger.queries(1) if query.id in ledger.verdicts(1)}
    late = [rank for rank in asked if rank >= (updates[1].first_rank or 0)]
    assert late, "what was asked last is of a model that knows what was answered first"
    view.page.goto(f"http://127.0.0.1:{live_site.port}/owner")
    view.wait_for_text("#live", r"Live: AP50 \d+\.\d after \d+ answers")
    assert view.page.locator("#live polyline").count() == 1
    view.picture("owner_live_1366")
    assert view.complaints == []


def wait(what: Any) -> None:
    until = time.time() + 120
    while not what():
        assert time.time() < until
        time.sleep(0.05)
