"""A run that ends because the next round is not worth its cost, and goes on when that is decided anew."""

from __future__ import annotations

import os
import shutil
import socket
import sys
import threading
import time
from pathlib import Path

import pytest
from typer.testing import CliRunner

from labelwise import loop
from labelwise.cli import app
from labelwise.errors import LabelwiseError
from labelwise.project import opening
from labelwise.study import stop

sys.path.insert(0, str(Path(__file__).parents[1] / "benchmarks"))
import kill

ALWAYS = ["budget.stop={gain_below = 90.0, confidence = 0.6}"]
NEVER = ["budget.stop={gain_below = 0.001, confidence = 0.999}"]


def run(folder: Path, recipe: str | None, settings: list[str]) -> tuple[list[int], list[str]]:
    told: list[str] = []
    opened = opening.start(folder, recipe, settings)
    opened.tell = told.append
    done = list(loop.run(opened))
    opened.project.close()
    return done, told


@pytest.fixture(scope="module")
def stopped(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of four rounds that stops before the last one."""
    folder = tmp_path_factory.mktemp("stop") / "run"
    small = [*kill.SMALL, "train.epochs=1", "train.min_steps=2", "budget.per_round=[6, 6, 6]"]
    done, told = run(folder, "demo", [*small, *ALWAYS])
    assert done == [0, 1, 2] and any(line.startswith("Stopped before round 3") for line in told)
    return folder


def test_it_stays_stopped_and_status_says_so(stopped: Path) -> None:
    done, told = run(stopped, None, [])
    assert done == [] and any("change or remove budget.stop" in line for line in told)
    shown = " ".join(CliRunner().invoke(app, ["status", "--project", str(stopped)]).output.split())
    assert "Stopped before round 3" in shown and "less than 90 with a probability" in shown
    assert "should bring" in shown


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("chromium") is None, reason="no Chromium on this machine")
def test_the_owners_page_draws_the_forecast_and_says_that_the_run_has_stopped(stopped: Path, tmp_path: Path) -> None:
    uvicorn, sync_api = pytest.importorskip("uvicorn"), pytest.importorskip("playwright.sync_api")
    from labelwise.web import server

    opened = opening.start(stopped, None, [])
    page = server.Page(opened)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    served = uvicorn.Server(uvicorn.Config(server.create(page), host="127.0.0.1", port=port, log_level="error"))
    thread = threading.Thread(target=served.run)
    thread.start()
    try:
        with sync_api.sync_playwright() as playwright:
            browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
            view = browser.new_page(viewport={"width": 1366, "height": 900})
            problems: list[str] = []
            view.on("pageerror", lambda error: problems.append(str(error)))
            view.goto(f"http://127.0.0.1:{port}/enter#{page.people.invite('me', 'owner', time.time())}")
            view.wait_for_timeout(1000)
            view.goto(f"http://127.0.0.1:{port}/owner")
            view.wait_for_selector('#curve svg[aria-label*="by round"]')
            told = view.inner_text("#forecast")
            assert "should bring" in told and "Stopped before round 3" in told
            dashed = "[...document.querySelectorAll('#curve path')].filter((p) => p.style.strokeDasharray).length"
            assert view.evaluate(dashed) == 1, "what lies ahead"
            assert view.locator('#curve use[style*="fill-opacity"]').count() == 2, "its two ranges"
            view.screenshot(path=Path(os.environ.get("CI_ARTIFACTS", tmp_path)) / "owner_forecast.png")
            browser.close()
        assert problems == []
    finally:
        served.should_exit = True
        thread.join()
        opened.project.close()


def test_no_stage_runs_by_hand_where_it_has_stopped(stopped: Path) -> None:
    opened = opening.start(stopped, None, [])
    with pytest.raises(LabelwiseError, match="Stopped before round 3"):
        loop.run_next(opened, "predict")
    opened.project.close()


def test_another_rule_goes_on_and_a_round_that_has_begun_is_finished(stopped: Path) -> None:
    opened = opening.start(stopped, None, NEVER)
    assert loop.run_next(opened, "predict") == 3
    opened.project.close()
    opened = opening.start(stopped, None, ALWAYS)
    assert not stop.due(opened, 3) and stop.kept(opened) is None
    assert list(loop.run(opened)) == [3]
    opened.project.close()


def test_a_rule_without_sense_is_refused(tmp_path: Path) -> None:
    for rule in ("{gain_below = 0.0}", "{gain_below = 1.0, confidence = 0.4}", "{confidence = 0.9}"):
        with pytest.raises(LabelwiseError, match=r"budget\.stop"):
            opening.start(tmp_path / "run", "demo", [f"budget.stop={rule}"])
