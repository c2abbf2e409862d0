"""The owner's pages in a real Chromium: nothing English is left in German; a server that is gone, and back."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from fakes.browser import CHROMIUM, View
from test_web_texts import OF_PAGES

pytestmark = [pytest.mark.slow, pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on this machine")]
TEXTS = """() => {
  const found = [], walk = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (walk.nextNode()) found.push(walk.currentNode.data.trim());
  for (const name of ["aria-label", "placeholder", "title"])
    for (const made of document.querySelectorAll(`[${name}]`)) found.push(made.getAttribute(name));
  return found.filter(Boolean);
}"""
PAGES = {"": "#question", "owner": "#people td", "gallery": "#tiles figure, #empty:not([hidden])", "enter": "#login"}


@pytest.mark.parametrize("path", PAGES)
def test_no_english_text_is_left_on_a_page_in_german(path: str, site: Any, chromium: Any, tmp_path: Path) -> None:
    here = site("box", 3)
    view = View(chromium, here, tmp_path, first=False, locale="de-DE")
    view.wait_for_text("#file", "Rang 1$")
    view.keys("a")
    here.stored(1)
    view.page.goto(f"http://127.0.0.1:{here.port}/{path}")
    view.page.locator(PAGES[path]).first.wait_for()
    view.page.wait_for_timeout(1000)
    shown, english = set(view.page.evaluate(TEXTS)), {text for text, own in OF_PAGES if text != own}
    assert shown & {own for _, own in OF_PAGES}, "it speaks German"
    assert shown & english - {own for _, own in OF_PAGES} == set()
    assert view.page.evaluate("document.documentElement.scrollWidth") <= 1366
    view.picture(f"german_{path or 'labelling'}")
    assert view.complaints == []


def test_the_server_answers_in_german(site: Any, chromium: Any, tmp_path: Path) -> None:
    here = site("box", 2)
    view = View(chromium, here, tmp_path, first=False, locale="de-DE")
    view.wait_for_text("#file", "Rang 1$")
    view.page.goto(f"http://127.0.0.1:{here.port}/owner")
    view.page.fill("#class-name", "CAT")
    view.page.locator("#new-class button").click()
    view.page.locator("#add-go").click()
    view.wait_for_text("#add-problem", "^Die Klasse 'cat' gibt es schon; ihre Nummer ist 0$")
    view.keys("Escape")
    view.page.fill("#name", "oracle")
    view.page.locator("#invite button").click()
    view.wait_for_text("#message", "^'oracle' kann niemandes Name sein: erwartet sind 1 bis ")


@pytest.mark.parametrize("path", ["owner", "tracks", "gallery"])
def test_a_lost_server_is_said_until_it_is_back(path: str, site: Any, chromium: Any, tmp_path: Path) -> None:
    here = site("film box", 3)
    view = View(chromium, here, tmp_path)
    view.page.goto(f"http://127.0.0.1:{here.port}/{path}")
    ready = {"owner": "#rounds th", "tracks": "#class option", "gallery": "#label option"}[path]
    view.page.locator(ready).first.wait_for(state="attached")
    view.context.set_offline(True)
    view.wait_for_text("#message", "^The server cannot be reached. Try again when this message goes.$")
    view.page.wait_for_timeout(3500)  # it has asked again in vain
    assert view.page.locator("#message").is_visible()
    view.context.set_offline(False)
    view.page.locator("#message").wait_for(state="hidden")
    assert view.page.inner_text("#message") == ""


def test_a_click_on_a_tile_marks_it_and_another_unmarks_it(site: Any, chromium: Any, tmp_path: Path) -> None:
    """Drawn once each time, also where nothing can be marked."""
    here = site("box", 3)
    view = View(chromium, here, tmp_path)
    view.keys("a")
    here.stored(1)
    view.page.goto(f"http://127.0.0.1:{here.port}/gallery")
    tile = view.page.locator("#tiles figure").first
    tile.click()
    assert tile.get_attribute("aria-selected") == "true" and view.page.locator(".mark").count() == 1
    tile.click()
    assert tile.get_attribute("aria-selected") == "false" and view.page.locator(".mark").count() == 0
    assert view.complaints == []
