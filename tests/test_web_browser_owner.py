"""The owner in a real Chromium: the classes that are added, the curve, passwords."""

from __future__ import annotations

import threading
import time
from pathlib import Path
from typing import Any

import pytest
from fakes.browser import CHROMIUM, CLASSES, View

from labelwise import loop

pytestmark = [pytest.mark.slow, pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on this machine")]


def test_the_owners_browser_comes_by_a_file(
    site: Any, chromium: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No link on a command line: the file sends the browser on, with the link's secret."""
    from labelwise.cli import web as cli_web

    here, opened = site("box", 1), list[str]()
    monkeypatch.setattr("webbrowser.open", opened.append)
    cli_web._show(here.link("owner"), tmp_path / cli_web.OPENED)
    view = View(chromium, here, tmp_path)
    view.page.goto(opened[0])
    view.wait_for_text("#who", "^owner$")
    assert view.page.url == f"http://127.0.0.1:{here.port}/" and view.complaints == []


def test_the_owner_adds_a_class_where_it_is_missed(site: Any, chromium: Any, tmp_path: Path) -> None:
    """Typed on the page, asked once, there for the very query and for whoever is looking meanwhile."""
    here = site("box", 4)
    other = View(chromium, here, tmp_path, first=False, who="Bo")  # holds three queries
    other.wait_for_rank(0)
    view = View(chromium, here, tmp_path, first=False)
    view.wait_for_rank(3)
    view.keys("c")
    view.page.keyboard.type("Unicorn <b>")
    view.page.get_by_role("button", name="Add this class").click()
    assert "Add “Unicorn <b>” as a class?" in view.page.inner_text("#add-class")
    view.picture("add_class_1366")
    view.page.keyboard.press("Escape")
    assert here.opened.pool.classes == CLASSES, "nothing is added by Escape"
    view.page.get_by_role("button", name="Add this class").click()
    view.page.get_by_role("button", name="Add", exact=True).click()
    view.wait_for_text("#message", "There is a new class: Unicorn <b>")
    view.keys("c")
    view.page.keyboard.type("unic")
    view.keys("Enter")
    view.wait_for_text("#cover", "Nothing is open for you")
    assert here.ledger.classes()[-1] == "Unicorn <b>" and view.complaints == []
    other.keys("r")  # "no object", by somebody who has not heard of the class
    other.wait_for_text("#message", "Not stored: .*Unicorn <b> was added meanwhile")
    other.wait_for_rank(0)
    other.keys("r")
    other.wait_for_rank(1)
    got = here.stored(2)
    assert [(row["rank"], row["verdict"], row["labels"]) for row in got] == [(0, "background", []), (3, "object", [11])]
    assert len(other.complaints) == 1 and "409" in other.complaints[0]


@pytest.mark.parametrize("width, height", [(1366, 768), (390, 844)])
def test_the_owner_adds_a_class_that_people_missed(
    site: Any, chromium: Any, tmp_path: Path, width: int, height: int
) -> None:
    here = site("box", 2)
    view = View(chromium, here, tmp_path, width=width, height=height)
    view.keys("c")
    view.page.keyboard.type("Unicorn")
    view.keys("Enter")
    view.wait_for_rank(1)
    here.stored(1)
    view.page.goto(f"http://127.0.0.1:{here.port}/owner")
    view.page.locator("#missed button").click()
    view.page.get_by_label("No, I am sure").check()
    view.picture(f"add_class_owner_{width}")
    view.page.get_by_role("button", name="Add", exact=True).click()
    view.page.locator("#missing").wait_for(state="hidden")
    assert here.ledger.classes()[-1] == "Unicorn" and len(here.ledger.open_queries(1)) == 2
    view.page.fill("#class-name", "unicorn")
    view.page.locator("#new-class button").click()
    view.page.get_by_role("button", name="Add", exact=True).click()
    view.wait_for_text("#add-problem", "there is a class 'Unicorn' already")
    assert len(view.complaints) == 1 and "409" in view.complaints[0]


def test_a_class_that_is_missing_is_told_to_the_owner(site: Any, chromium: Any, tmp_path: Path) -> None:
    here = site("box", 2)
    view = View(chromium, here, tmp_path, width=390, height=844, has_touch=True, device_scale_factor=2)
    view.page.fill("#find", "Unicorn <b>")
    view.picture("missing_class_390")
    view.keys("Enter")
    view.wait_for_rank(1)
    assert here.stored(1)[0]["note"] == "missing class: Unicorn <b>"
    view.page.goto(f"http://127.0.0.1:{here.port}/owner")
    view.page.locator("#missed").filter(has_text="Unicorn <b>").wait_for()
    view.picture("owner_390")
    wide = view.page.evaluate("document.documentElement.scrollWidth")
    assert wide <= 390 and view.complaints == []


def test_a_round_is_finished_and_the_curve_is_seen(site: Any, chromium: Any, tmp_path: Path) -> None:
    """A whole run: the loop trains and asks in a thread, a person answers by keys, the curve is there."""
    here = site("box", 6, asks=False)
    done: list[int] = []
    run = threading.Thread(target=lambda: done.extend(loop.run(here.opened)))
    run.start()
    view = View(chromium, here, tmp_path, first=False)
    until = time.time() + 400
    while run.is_alive() and time.time() < until:
        if view.page.locator("#question").filter(has_text="Label every object").count():
            view.keys("b", "1", "Enter")  # round 0: whole images
        elif view.page.locator("#question").filter(has_text="Is this").count():
            view.keys("a")
        view.page.wait_for_timeout(300)
    run.join(5)
    assert done == [0, 1], "the loop went on by itself"
    view.wait_for_text("#cover", "All rounds are done")
    view.page.goto(f"http://127.0.0.1:{here.port}/owner")
    view.wait_for_count('#curve svg[aria-label*="by round"]', 1)
    view.picture("curve_1366")
    cost = here.ledger.cost_by_round()
    assert cost[0].images == 2 and cost[1].boxes == 6 and view.page.locator("#rounds tbody tr").count() == 2
    assert view.complaints == []


def test_a_password_is_set_and_used_by_keyboard_alone(site: Any, chromium: Any, tmp_path: Path) -> None:
    here = site("box", 2)
    view = View(chromium, here, tmp_path)
    page, typed = view.page, "ä long password"
    view.tab_to("password-button")
    view.picture("header_1366")
    view.keys("Enter")
    page.wait_for_selector("#account[open]")
    page.keyboard.type("xad1s")  # letters that answer elsewhere; too short
    view.picture("password_1366")
    view.keys("Enter")
    assert page.locator("#account[open] #new-password:invalid").count() == 1
    page.keyboard.type(typed)
    view.tab_to("password-shown")
    view.keys(" ")
    assert page.locator("#new-password").get_attribute("type") == "text"
    view.tab_to("account-back", back=False)
    view.keys("Shift+Tab", "Enter")
    view.wait_for_text("#message", "Your password is set: enter as Ada at http://127")
    assert not page.locator("#account[open]").count() and here.answers() == []
    view.tab_to("leave-button")
    view.keys("Enter")
    page.wait_for_url("**/enter")
    view.wait_for_text("#state", "If you have set a password")
    page.wait_for_selector("#login")
    assert here.page.leases.take("Bo", "tab-of-Bo", time.time())[0].query.rank == 0, "what she held was given back"
    here.page.leases.release("Bo", "tab-of-Bo")
    view.picture("enter_1366")
    assert view.complaints == []
    page.keyboard.type("Ada ")
    view.keys("Tab")
    page.keyboard.type("a wrong password")
    view.keys("Enter")
    view.wait_for_text("#refused", "do not fit")
    view.picture("enter_refused_1366")
    assert len(view.complaints) == 1 and "401" in view.complaints.pop()
    page.keyboard.type("xad1s" + typed)  # in the place of the wrong one, which is selected
    view.keys("Enter")
    view.wait_for_rank(0)
    view.keys("a")
    assert here.stored(1)[0]["verdict"] == "object"
    assert "xad1s" not in page.url and "xad1s" not in page.evaluate("JSON.stringify(localStorage)")
    view.page.goto(f"http://127.0.0.1:{here.port}/owner")
    view.wait_for_text("#people", "Adaownervalidset")
    assert view.complaints == []


def test_a_password_on_a_phone(site: Any, chromium: Any, tmp_path: Path) -> None:
    here = site("box", 2)
    view = View(chromium, here, tmp_path, width=390, height=844, has_touch=True, is_mobile=True, device_scale_factor=2)
    view.page.tap("#password-button")
    view.page.fill("#new-password", "a long password")
    view.picture("password_390")
    assert view.page.evaluate("document.documentElement.scrollWidth") <= 390
    view.page.tap("#account .main")
    view.wait_for_text("#message", "Your password is set")
    view.picture("password_set_390")
    view.page.tap("#leave-button")
    view.page.wait_for_selector("#login")
    view.page.fill("#name", "Ada")
    view.page.fill("#password", "a long password")
    view.picture("enter_390")
    assert view.page.evaluate("document.documentElement.scrollWidth") <= 390
    view.page.tap("#login .main")
    view.wait_for_rank(0)
    view.page.context.clear_cookies()
    view.page.reload()
    view.wait_for_text("#cover", "Enter with your password")
    view.picture("out_390")
    assert [c for c in view.complaints if "401" not in c] == []
