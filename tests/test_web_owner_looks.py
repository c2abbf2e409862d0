"""The owner's page and the report in a real Chromium: reasons in words, both themes, a phone; nothing is cut off."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from fakes.browser import BOX, CHROMIUM, View

from labelwise import files
from labelwise.project.round import Round
from labelwise.types import BECAUSE, Query

pytestmark = [pytest.mark.slow, pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on this machine")]
WHY = "The model hesitates between dog (42 %) and cat (39 %). dog is rare: 30 % of the labels."
LOOKS = [("light", 1366, 900), ("dark", 1366, 900), ("dark", 390, 844), ("light", 390, 844)]


def shades(page: Any, selector: str) -> tuple[int, int]:
    """How bright the text of an element and the page behind it are, 0 to 765."""
    script = """(selector) => [getComputedStyle(document.querySelector(selector)).color,
        getComputedStyle(document.body).backgroundColor].map((c) => c.match(/[0-9.]+/g).slice(0, 3).map(Number))"""
    text, back = (sum(rgb) for rgb in page.evaluate(script, selector))
    return round(text), round(back)


def test_the_owner_sees_what_is_asked_and_why(site: Any, chromium: Any, tmp_path: Path) -> None:
    here = site("box", 3)
    name = here.pool.names[2]
    asked = Query(1, 9, name, "box", (430.0, 60.0, 540.0, 170.0), 1, 0.8, {"score": 0.8, BECAUSE: WHY})
    here.ledger.add_queries(1, [asked, replace(asked, rank=10, box=BOX, reason={})])
    here.ledger.mark_started(0, "evaluate")
    for number, quality in ((0, 0.21), (1, 0.34)):
        path = Round(here.opened, number).folder.metrics
        path.parent.mkdir(parents=True, exist_ok=True)
        files.write_json(path, {"ap50": quality})
    view = View(chromium, here, tmp_path)
    assert view.page.locator("#because").is_hidden(), "no reason in words, no line"
    for _ in range(3):
        view.keys("a")
    view.wait_for_rank(9)
    view.wait_for_text("#because", WHY.replace("(", r"\(").replace(")", r"\)"))
    view.picture("why_1366")
    assert view.complaints == []
    for theme, width, height in LOOKS:
        owner = View(chromium, here, tmp_path, width=width, height=height, first=False, color_scheme=theme)
        owner.page.goto(f"http://127.0.0.1:{here.port}/owner")
        owner.page.locator("#thumbnails li").nth(1).wait_for()
        owner.wait_for_text("#thumbnails", "hesitates between dog")
        owner.wait_for_text("#people", "Ada.*owner.*valid")
        owner.page.locator("#curve svg path").first.wait_for(state="attached")
        line = "getComputedStyle([...document.querySelectorAll('#curve path')].find((p) => p.style.stroke)).stroke"
        assert owner.page.evaluate(line).startswith("rgb"), "the curve has the colours of the page"
        assert owner.page.evaluate("document.documentElement.scrollWidth") <= width
        owner.page.wait_for_function("document.querySelector('#thumbnails image').getBBox().width > 0")
        text, back = shades(owner.page, "#thumbnails p")
        assert (text < 200 < 600 < back) if theme == "light" else (back < 150 < 500 < text)
        owner.page.wait_for_timeout(600)
        owner.page.screenshot(path=str(owner.folder / f"owner_{theme}_{width}.png"), full_page=True)
        assert owner.complaints == []
        owner.context.close()


def test_a_report_has_one_chart_first_and_no_table_is_cut_off(chromium: Any, tmp_path: Path) -> None:
    from test_report import run

    from labelwise.report import page

    gains = {"random": 0.0, "entropy": 0.1}
    runs = [run(name, seed, [0.2, 0.3 + more, 0.4 + more]) for name, more in gains.items() for seed in (0, 1)]
    path = tmp_path / "report.html"
    page.write(path, runs, title="What asking brings", baseline="random")
    for theme, width, height in LOOKS:
        context = chromium.new_context(viewport={"width": width, "height": height}, color_scheme=theme)
        shown = context.new_page()
        shown.goto(path.as_uri())
        assert shown.locator("main section").first.get_attribute("id") == "first"
        assert shown.locator("#first svg.chart").count() == 1
        assert shown.locator("#curves details:not([open])").count() == 1, "charts that are alike are folded away"
        assert shown.evaluate("document.documentElement.scrollWidth") <= width
        sound = """() => [...document.querySelectorAll('.scroll')]
            .filter((box) => box.querySelector('table') && box.offsetParent)
            .every((box) => getComputedStyle(box).overflowX === 'auto'
                && box.getBoundingClientRect().right <= innerWidth + 1)"""
        assert shown.evaluate(sound), "tables scroll within"
        stuck = "() => getComputedStyle(document.querySelector('thead')).position"
        assert shown.evaluate(stuck) == "sticky"
        shown.screenshot(path=str(tmp_path / f"report_{theme}_{width}.png"))
        context.close()
