"""The labelling page in a real Chromium: a person's path by keyboard, mouse and touch, asserted against the ledger.

Screenshots go to $CI_ARTIFACTS (default: the test's temporary folder); look at them after a change of the page.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fakes.browser import BOX, CHROMIUM, SIZE, View

pytestmark = [pytest.mark.slow, pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on this machine")]


def test_twenty_boxes_by_keyboard_mouse_and_touch(site: Any, chromium: Any, tmp_path: Path) -> None:
    """Twenty by the keyboard alone, one adjusted by mouse and one by touch; rejected, skipped, undone."""
    here = site("box", 22)
    view = View(chromium, here, tmp_path, has_touch=True)
    page = view.page
    asked = (BOX[0] + 4, BOX[1] + 4, BOX[2] + 4, BOX[3] + 4)
    assert page.inner_text("#question") == "Is this: dog?"
    view.picture("box_1366")
    view.keys("a")  # 0: as it is
    view.wait_for_rank(1)
    view.keys("ArrowLeft", "ArrowLeft", "ArrowUp", "Shift+ArrowRight", "Shift+Alt+ArrowDown", "Enter")  # 1: nudged
    view.wait_for_rank(2)
    view.keys("1")  # 2: another class
    view.wait_for_rank(3)
    view.keys("c")  # 3: a class by typing
    page.keyboard.type("zeb")
    view.keys("Enter")
    view.wait_for_rank(4)
    view.keys("r")  # 4: no object
    view.wait_for_rank(5)
    view.keys("d")  # 5: duplicate
    view.wait_for_rank(6)
    view.keys("s")  # 6: skipped
    view.picture("skip_1366")
    view.keys("1")
    view.wait_for_rank(7)
    view.drag((asked[2], asked[3]), (asked[2] + 20, asked[3] + 10))  # 7: by mouse
    view.picture("box_dragged_1366")
    view.keys("a")
    view.wait_for_rank(8)
    view.touch((asked[0], asked[1]), (asked[0] - 10, asked[1] - 6))  # 8: by touch
    view.keys("a")
    view.wait_for_rank(9)
    view.keys("x", "z")  # 9: rejected, taken back, accepted
    view.wait_for_text("#message", "Taken back")
    view.wait_for_rank(9)
    view.keys("a")
    for rank in range(10, 22):
        view.wait_for_rank(rank)
        view.keys("0" if rank % 2 else "x")
    got = here.stored(22)
    assert [row["rank"] for row in got] == list(range(22))
    verdicts = ["object"] * 4 + ["background", "duplicate", "skipped"] + ["object"] * 3 + ["background", "object"] * 6
    assert [row["verdict"] for row in got] == verdicts
    assert got[0]["boxes"] == [list(asked)] and got[0]["labels"] == [1]
    assert got[1]["boxes"] == [[asked[0] - 2, asked[1] - 1, asked[2] - 1, asked[3] + 9]]
    assert (got[2]["labels"], got[3]["labels"], got[11]["labels"]) == ([0], [10], [9])
    assert got[6]["note"] == "cannot tell what it is"
    np.testing.assert_allclose(got[7]["boxes"], [[asked[0], asked[1], asked[2] + 20, asked[3] + 10]], atol=0.6)
    np.testing.assert_allclose(got[8]["boxes"], [[asked[0] - 10, asked[1] - 6, asked[2], asked[3]]], atol=0.6)
    assert all(0 < row["seconds"] < 60 for row in got)
    page.wait_for_selector("#cover", state="visible")
    view.picture("waiting_1366")
    page.goto(f"http://127.0.0.1:{here.port}/owner")
    page.get_by_text("Work by kind of answer").click()
    page.wait_for_selector("#work td")
    assert "Ada" in page.inner_text("#people")
    view.picture("owner_1366")
    assert view.complaints == []


def test_a_query_that_this_window_answered_otherwise_is_told_and_the_next_is_shown(
    site: Any, chromium: Any, tmp_path: Path
) -> None:
    here = site("box", 3)
    view = View(chromium, here, tmp_path)

    def twice(route: Any) -> None:
        """What the window says is stored by another request of it first, and says something else."""
        body = json.loads(route.request.post_data) | {"verdict": "background", "boxes": [], "labels": [], "most": 0}
        assert route.fetch(post_data=json.dumps(body)).status == 200
        route.continue_()

    view.page.route("**/api/answers", twice, times=1)
    view.keys("a")
    view.wait_for_text(
        "#message", r"Not stored: query \d+ was answered before .* \(background\), and that stands.*undo"
    )
    view.picture("contradiction_1366")
    view.wait_for_rank(1)
    view.keys("a")
    view.wait_for_rank(2)
    view.keys("a")
    assert [row["verdict"] for row in here.stored(3)] == ["background", "object", "object"]
    assert [line for line in view.complaints if "409" not in line] == []


def test_a_region_and_an_image_on_a_phone(site: Any, chromium: Any, tmp_path: Path) -> None:
    here = site("region", 3)
    view = View(chromium, here, tmp_path, width=390, height=844, has_touch=True, device_scale_factor=2)
    view.page.tap("#class-list button:nth-child(3)")
    view.touch((200, 150), (320, 260))
    view.touch((160, 280), (600, 400))  # drawn beyond the region: kept inside
    view.picture("region_390")
    view.page.tap("[data-verdict=accept]")
    view.wait_for_rank(1)
    view.touch((200, 150), (320, 260))
    view.page.tap("[data-verdict=remove]")
    view.page.tap("[data-verdict=nothing]")  # looked at and empty
    view.wait_for_rank(2)
    view.keys("b", "1", "Shift+ArrowRight", "Enter")  # drawn by the keyboard
    got = here.stored(3)
    assert [row["verdict"] for row in got] == ["all"] * 3 and got[1]["boxes"] == []
    assert got[0]["labels"] == [2, 2] and got[2]["labels"] == [0]
    np.testing.assert_allclose(got[0]["boxes"], [[200, 150, 320, 260], [160, 280, 450, 325]], atol=1.5)
    assert np.diff(here.ledger.labels(here.pool).coverage.offsets).tolist() == [1, 1, 1]
    assert view.complaints == []


def test_a_box_on_a_phone(site: Any, chromium: Any, tmp_path: Path) -> None:
    here = site("box", 2)
    view = View(chromium, here, tmp_path, width=390, height=844, has_touch=True, is_mobile=True, device_scale_factor=2)
    view.picture("box_390")
    view.page.tap("[data-verdict=reject]")
    view.wait_for_rank(1)
    view.page.tap("#class-list button:nth-child(2)")
    assert [row["verdict"] for row in here.stored(2)] == ["background", "object"]
    wide = view.page.evaluate("document.documentElement.scrollWidth")
    assert wide <= 390, "nothing is cut off at the side"
    assert view.complaints == []


def test_images_are_drawn_on_and_classes_take_one_key(site: Any, chromium: Any, tmp_path: Path) -> None:
    here = site("image", 2)
    view = View(chromium, here, tmp_path)
    view.keys("3")
    view.drag((200, 150), (320, 260))
    view.keys("1")
    view.drag((430, 60), (540, 170))
    view.picture("image_1366")
    view.keys("[", "Delete", "Enter")
    view.wait_for_rank(1)
    view.keys("s")
    view.page.fill("#skip-note", "mirror image")
    view.keys("Enter")
    got = here.stored(2)
    assert [row["verdict"] for row in got] == ["all", "skipped"] and got[1]["note"] == "mirror image"
    assert got[0]["labels"] == [0]
    np.testing.assert_allclose(got[0]["boxes"], [[430, 60, 540, 170]], atol=1)
    assert view.complaints == []


def test_a_class_is_one_key(site: Any, chromium: Any, tmp_path: Path) -> None:
    here = site("class", 4)
    view = View(chromium, here, tmp_path)
    view.picture("class_1366")
    for rank, key in enumerate(("1", "3", "Enter", "0")):
        view.wait_for_rank(rank)
        view.keys(key)
    got = here.stored(4)
    assert [row["labels"] for row in got] == [[0], [2], [1], [9]]
    assert all(row["boxes"] == [[0, 0, *SIZE]] for row in got)
    assert view.complaints == []


class Drawn:
    """A browser whose page has a unit's question and buttons, as somebody who adds the unit writes them."""

    def __init__(self, browser: Any, unit: str, *rows: str) -> None:
        self.browser, self.unit, self.rows = browser, unit, rows

    def new_context(self, **how: Any) -> Any:
        context = self.browser.new_context(**how)
        context.route("**/units.js*", self._draw)
        return context

    def _draw(self, route: Any) -> None:
        reply, rows = route.fetch(), iter(self.rows)
        text = re.sub(
            r"^    image: \[", lambda at: f"    {self.unit}: {next(rows)},\n{at[0]}", reply.text(), flags=re.M
        )
        route.fulfill(response=reply, body=text)


def test_a_unit_of_ones_own_is_answered_by_its_buttons_and_their_keys(site: Any, chromium: Any, tmp_path: Path) -> None:
    rows = '["Is there any object?", ""]', '[["present", "There is one", "A", true], ["empty", "Nothing", "N"]]'
    here = site("fakes.presence", 4)
    view = View(Drawn(chromium, "presence", *rows), here, tmp_path)
    for rank, key in enumerate(("a", "n", "r")):  # R is no button of this unit
        view.wait_for_rank(min(rank, 2))
        view.keys(key)
    view.page.click("text=Nothing")
    view.wait_for_rank(3)
    view.keys("?", "Escape", "Enter")
    view.page.click("text=There is one")
    assert [row["verdict"] for row in here.stored(4)] == ["present", "empty", "empty", "present"]
    assert all(row["boxes"] == [] for row in here.answers())
    assert view.complaints == []


def test_a_grid_is_answered_by_one_key(site: Any, chromium: Any, tmp_path: Path) -> None:
    here = site("class", 16, kinds=2)  # the predicted class is dog, cat, dog, cat …
    view = View(chromium, here, tmp_path)
    view.keys("g")
    view.wait_for_text("#file", "^8 images")
    captions = view.page.locator("#grid p").all_inner_texts()
    assert captions == ["dog?"] * 8, "only images of the class that the first one was predicted to be"
    view.keys(" ", "ArrowRight", "ArrowRight", " ", "ArrowDown")
    view.page.locator("#grid [role=option]").nth(4).click()
    view.wait_for_text("#hint", "^3 of 8 chosen")
    view.picture("grid_1366")
    view.keys("3")  # three birds by one key
    view.wait_for_text("#file", "^5 images")
    view.keys("e", "a")  # the rest are what they were predicted to be
    view.wait_for_text("#question", "Which class are these images")
    here.stored(8)
    view.page.locator("#grid p").first.filter(has_text="cat?").wait_for()
    view.keys("s", "2")  # the first of the cats alone
    got = here.stored(9)
    assert [row["rank"] for row in got] == [0, 1, 2, 4, 6, 8, 10, 12, 14]
    assert [row["labels"] for row in got if row["rank"] != 1] == [[2], [1], [2], [1], [2], [1], [1], [1]]
    assert (got[1]["verdict"], got[1]["note"]) == ("skipped", "the image is broken or missing")
    assert all(row["seconds"] < 30 for row in got)
    view.keys("g")
    view.wait_for_text("#question", "Which class is this image")
    assert view.complaints == []


def test_from_key_to_the_next_query(site: Any, chromium: Any, tmp_path: Path) -> None:
    """The wait that a person feels: from the key to the next query on the screen."""
    here = site("box", 20)
    view = View(chromium, here, tmp_path)
    script = """async () => {
      const file = document.querySelector('#file'), times = [];
      for (let k = 0; k < 10; k++) {
        const before = file.textContent, begun = performance.now();
        document.body.dispatchEvent(new KeyboardEvent('keydown', { key: 'a', bubbles: true }));
        while (file.textContent === before) await new Promise((go) => requestAnimationFrame(go));
        times.push(performance.now() - begun);
        await new Promise((go) => setTimeout(go, 1500));
      }
      return times;
    }"""
    times = view.page.evaluate(script)
    (view.folder / "key_to_next_ms.json").write_text(json.dumps(times))
    assert np.median(times) <= 100
    assert view.complaints == []
