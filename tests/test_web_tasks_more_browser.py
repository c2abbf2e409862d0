"""Scripted tasks beside drawing, in a real Chromium: many classes, large images, a server out of reach, a phone."""

from __future__ import annotations

import io
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fakes.browser import BOX, CHROMIUM, View
from fakes.editor import LARGE, MANY, STRIPES, Task, large_images, many_classes, unsure
from PIL import Image

pytestmark = [pytest.mark.slow, pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on this machine")]
PHONE = {"width": 390, "height": 844, "has_touch": True, "is_mobile": True, "device_scale_factor": 2}
GUIDELINES = "# Cats\n\nWhiskers **count**,\nears too.\n\n- no drawings\n- <b>no</b> statues\n"
TASKS: list[tuple[str, dict[str, Any], Callable[[Task], None]]] = []


def task(project: str, **how: Any) -> Callable[[Callable[[Task], None]], Callable[[Task], None]]:
    """A task on one of the projects below; `how` its window is."""

    def kept(do: Callable[[Task], None]) -> Callable[[Task], None]:
        TASKS.append((project, how, do))
        return do

    return kept


@pytest.fixture(scope="module")
def projects(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[str], Any]]:
    """Projects by name, each opened when the first task wants it."""
    pytest.importorskip("uvicorn")
    pytest.importorskip("fastapi")
    from fakes.browser import Site

    made: dict[str, Any] = {}
    kinds: dict[str, dict[str, Any]] = {
        "box": {"unit": "box", "n": 60},
        "many": {"unit": "class", "n": 50, "draw": many_classes, "before": unsure},
        "large": {"unit": "image", "n": 8, "draw": large_images},
        "region": {"unit": "region", "n": 8},
    }

    def opened(name: str) -> Any:
        if name not in made:
            made[name] = Site(tmp_path_factory.mktemp(name), **kinds[name])
            (made[name].opened.project.folder / "guidelines.md").write_text(GUIDELINES, encoding="utf-8")
        return made[name]

    yield opened
    for one in made.values():
        one.close()


@task("many")
def keys_1_to_5_are_the_likeliest_classes(at: Task) -> None:
    buttons = at.page.locator("#class-list button").all_inner_texts()
    assert [text.split("\n")[0] for text in buttons[:5]] == [MANY[k] for k in (41, 7, 60, 22, 13)]
    assert "%" in buttons[0] and at.answer("2")["labels"] == [7]


@task("many")
def a_class_is_found_by_typing(at: Task) -> None:
    at.keys("c")
    at.page.keyboard.type("77")
    assert at.answer("Enter")["labels"] == [77]


@task("many")
def a_class_that_was_used_has_a_key_and_keeps_it(at: Task) -> None:
    at.keys("c")
    at.page.keyboard.type("77")
    at.answer("Enter")
    key = at.page.locator("#class-list button", has_text="kind 77").locator("kbd").inner_text()
    assert key in "67890"
    at.keys("c")
    at.page.keyboard.type("66")
    at.answer("Enter")
    assert at.answer(key)["labels"] == [77]
    assert at.page.locator("#class-list button", has_text="kind 77").locator("kbd").inner_text() == key


@task("many")
def all_eighty_classes_are_there(at: Task) -> None:
    assert at.count("#class-list button") == len(MANY)
    last = at.page.locator("#class-list button").last
    last.scroll_into_view_if_needed()
    box = last.bounding_box()
    assert box is not None and box["height"] >= 30 and box["y"] + box["height"] <= 768
    last.click()
    at.wait_for_text("#counts", "1 by you")


@task("many")
def a_person_gives_a_class_a_key(at: Task) -> None:
    at.keys("v")
    at.page.select_option("#own-class", "kind 50")
    at.page.fill("#own-key", "a")
    at.page.keyboard.press("Enter")
    at.wait_for_text("#own-problem", "does something else")
    at.page.fill("#own-key", "j")
    at.page.keyboard.press("Enter")
    at.wait_for_text("#own-keys", "J: kind 50")
    at.page.keyboard.press("Escape")
    assert at.answer("j")["labels"] == [50]
    at.page.reload()
    at.wait_for_text("#file", "rank")
    assert at.answer("j")["labels"] == [50], "it is kept"


@task("many")
def the_order_may_be_fixed(at: Task) -> None:
    at.keys("v")
    at.page.uncheck("#likeliest")
    at.keys("Escape")
    assert at.answer("2")["labels"] == [1]


@task("many")
def the_name_of_a_file_gives_nothing_away(at: Task) -> None:
    names = at.site.pool.names
    assert at.said("#file").startswith("image ")
    everything = "document.documentElement.outerHTML"
    assert not [name for name in names if name in at.page.evaluate(everything)]
    at.keys("g")
    at.wait_for_text("#file", "images · round 1$")
    assert not [name for name in names if name in at.page.evaluate(everything)]
    at.keys("g")
    at.wait_for_text("#file", "rank")


@task("many")
def a_grid_is_answered(at: Task) -> None:
    at.keys("g")
    at.wait_for_text("#file", r"^\d+ images")
    before = len(at.site.answers())
    at.keys(" ", "ArrowRight", " ")
    at.wait_for_text("#hint", "^2 of")
    at.keys("3")
    at.wait_for_text("#counts", "2 by you")
    assert [row["labels"] for row in at.site.stored(before + 2)].count([60]) >= 2


@task("large")
def a_small_object_is_seen_with_its_own_pixels(at: Task) -> None:
    assert not at.page.locator(".tiles image").count()
    zoom_to(at, STRIPES)
    x, y = at.screen(STRIPES[0], (STRIPES[1] + STRIPES[3]) / 2)
    right, _ = at.screen(STRIPES[2], STRIPES[1])
    width, until, columns = (right - x) / (STRIPES[2] - STRIPES[0]), time.time() + 60, list[int]()
    while time.time() < until:  # the server cuts the image once, the browser decodes it
        shot = at.page.screenshot(clip={"x": x, "y": y, "width": right - x, "height": 2})
        row = np.asarray(Image.open(io.BytesIO(shot)).convert("L"), int)[0]
        columns = [int(row[int((k + 0.5) * width)]) for k in range(STRIPES[2] - STRIPES[0])]
        if min(columns[1::2]) > 200 and max(columns[::2]) < 55:
            break
        time.sleep(0.3)
    assert width >= 8 and min(columns[1::2]) > 200 and max(columns[::2]) < 55, columns


@task("large")
def a_small_object_is_drawn_to_the_pixel(at: Task) -> None:
    zoom_to(at, STRIPES)
    at.drag(STRIPES[:2], STRIPES[2:])
    np.testing.assert_allclose(at.answer("a")["boxes"], [STRIPES], atol=0.2)


@task("large")
def squares_are_fetched_for_what_is_seen_alone(at: Task) -> None:
    asked: list[str] = []
    at.page.on("request", lambda request: asked.append(request.url) if "/tiles/" in request.url else None)
    at.page.wait_for_timeout(500)
    assert asked == [], "the whole image needs none"
    zoom_to(at, STRIPES)
    at.page.locator(".tiles image").first.wait_for(state="attached")
    assert 1 <= len(set(asked)) <= 12, "of 24, those on the way included"
    assert any(url.endswith("/tiles/3/2") for url in asked)
    at.keys("w")
    at.page.locator(".tiles").wait_for(state="hidden")
    assert at.view()[2] >= LARGE[0]


def zoom_to(at: Task, box: tuple[float, float, float, float]) -> None:
    at.page.mouse.move(*at.screen((box[0] + box[2]) / 2, (box[1] + box[3]) / 2))
    for _ in range(12):
        at.page.mouse.wheel(0, -240)
    at.page.wait_for_timeout(300)
    assert at.view()[2] < 200


@task("box")
def out_of_reach_for_a_minute(at: Task) -> None:
    """Answers wait, the badge stays whatever else is said, and all is stored when the server is back."""
    badge = at.page.locator("#offline")
    assert badge.is_hidden()
    at.page.clock.install()
    at.context.set_offline(True)
    ranks = [at.rank]
    at.keys("a")
    badge.wait_for()
    ranks.append(at.rank)
    at.keys("r")
    at.page.clock.run_for(60_000)
    at.wait_for_text("#offline", "^Offline: 2 answers are kept here$")
    at.keys("v", "Escape")
    assert badge.is_visible() and not [row for row in at.site.answers() if row["rank"] in ranks]
    at.context.set_offline(False)
    for _ in range(12):
        at.page.clock.run_for(10_000)
        at.page.wait_for_timeout(100)
        if badge.is_hidden():
            break
    assert badge.is_hidden()
    assert [at.stored(rank)["verdict"] for rank in ranks] == ["object", "background"]
    at.complaints[:] = [line for line in at.complaints if "ERR_INTERNET_DISCONNECTED" not in line]


@task("box")
def a_reload_out_of_reach_loses_no_answer(at: Task) -> None:
    at.page.route("**/api/answers", lambda route: route.abort())
    at.page.on("dialog", lambda dialog: dialog.accept())
    ranks = [at.rank]
    at.keys("a")
    at.page.locator("#offline").wait_for()
    ranks.append(at.rank)
    at.keys("d")
    at.page.unroute("**/api/answers")
    at.page.reload()
    at.wait_for_text("#file", "rank")
    at.page.locator("#offline").wait_for(state="hidden")
    assert at.rank not in ranks, "what is answered is not asked again"
    assert [at.stored(rank)["verdict"] for rank in ranks] == ["object", "duplicate"]
    at.complaints[:] = [line for line in at.complaints if "ERR_FAILED" not in line]


@task("box")
def the_guidelines_are_text(at: Task) -> None:
    at.page.reload()  # the owner wrote them a moment ago
    at.wait_for_text("#file", "rank")
    at.page.click("#guidelines-button")
    assert at.page.locator("#guidelines h3").inner_text() == "Cats"
    assert at.page.locator("#guidelines p").inner_text() == "Whiskers count, ears too."
    assert at.page.locator("#guidelines li").all_inner_texts() == ["no drawings", "<b>no</b> statues"]
    at.keys("Escape")
    at.keys("i")
    assert at.page.locator("#guide[open]").count() == 1
    at.keys("Escape")
    assert at.answer("a")["verdict"] == "object"


@task("box")
def a_box_is_pulled_and_accepted(at: Task) -> None:
    x2, y2 = BOX[2] + 4, BOX[3] + 4
    at.drag((x2, y2), (x2 + 12, y2 - 8))
    np.testing.assert_allclose(at.answer("a")["boxes"], [[BOX[0] + 4, BOX[1] + 4, x2 + 12, y2 - 8]], atol=0.6)


@task("box", **PHONE)
def a_box_on_a_phone(at: Task) -> None:
    at.page.tap("#tour-close")
    rank = at.rank
    at.page.tap("[data-verdict=reject]")
    at.wait_for_text("#counts", "1 by you")
    assert at.page.evaluate("document.documentElement.scrollWidth") <= 390
    assert at.stored(rank)["verdict"] == "background"


@task("box", **PHONE)
def the_view_of_a_phone_is_chosen(at: Task) -> None:
    at.page.tap("#view-button")
    at.page.select_option("#theme", "dark")
    box = at.page.locator("#view").bounding_box()
    assert box is not None and box["x"] >= 0 and box["x"] + box["width"] <= 390 and box["y"] + box["height"] <= 844
    at.page.tap("#view-close")
    assert at.page.get_attribute("html", "data-theme") == "dark"


@task("region", **PHONE)
def two_fingers_zoom_on_a_phone(at: Task) -> None:
    wide = at.view()[2]
    session = at.context.new_cdp_session(at.page)
    x, y = at.screen(300, 200)
    for kind, apart in (("touchStart", 20), ("touchMove", 40), ("touchMove", 60), ("touchEnd", None)):
        points = [] if apart is None else [{"x": x - apart, "y": y, "id": 0}, {"x": x + apart, "y": y, "id": 1}]
        session.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": points})
    assert at.view()[2] < 0.7 * wide and not at.count("#stage rect.own")


@task("region", **PHONE)
def a_box_of_a_region_stays_in_it(at: Task) -> None:
    at.page.tap("#tour-close")
    at.page.wait_for_timeout(500)  # a touch soon after a tap is a part of it to Chromium
    at.touch((200, 150), (600, 400))
    at.boxes(1)
    rank = at.rank
    at.page.tap("[data-verdict=accept]")
    np.testing.assert_allclose(at.stored(rank)["boxes"], [[200, 150, 450, 325]], atol=1.5)


@pytest.mark.parametrize("project, how, do", TASKS, ids=[do.__name__ for *_, do in TASKS])
def test_a_task(
    project: str, how: dict[str, Any], do: Callable[[Task], None], projects: Any, window: Any, tmp_path: Path
) -> None:
    at = Task(window, projects(project), tmp_path, **how)
    try:
        do(at)
        assert at.complaints == []
    finally:
        at.close()


def test_german_comes_by_the_browsers_language(projects: Any, window: Any, tmp_path: Path) -> None:
    at = View(window, projects("box"), tmp_path, first=False, who="Frau Ä", locale="de-DE")
    at.wait_for_text("#question", "^Ist das: dog")
    at.wait_for_text("#verdicts", "Kein Objekt")
    at.wait_for_text("#tools", "Ansicht")
    assert at.page.get_attribute("#find", "placeholder") == "tippen zum Finden, Enter nimmt sie"
    at.context.close()
    assert at.complaints == []
