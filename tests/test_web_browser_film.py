"""A film on the page, in a real Chromium: frames before and after, what labelled frames suggest, the same object."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fakes.browser import CHROMIUM, STEP, View, moved

from labelwise.ledger.suggestions import actions

pytestmark = [pytest.mark.slow, pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on this machine")]
FIRST = 5
"""The frame of the film that is asked about first."""


def suggested(here: Any) -> list[tuple[int, Any, str, str]]:
    """(rank of the query, box of the answer, what was done, origin) of every suggestion that was made."""
    with here.ledger.read() as connection:
        rows = connection.exec_driver_sql(
            "SELECT q.rank, s.number, s.action, s.origin FROM suggestions s JOIN answers a ON a.id = s.answer_id "
            "JOIN queries q ON q.id = a.query_id WHERE a.id NOT IN (SELECT answer_id FROM withdrawn) ORDER BY s.id"
        )
        return [tuple(row) for row in rows]


def test_a_frame_shows_its_neighbours(site: Any, chromium: Any, tmp_path: Path) -> None:
    here = site("frame", 3)
    view = View(chromium, here, tmp_path)
    strip = view.page.locator("#strip figcaption").all_inner_texts()
    assert (
        3 <= len(strip) <= 5 and strip.count("this one") == 1 and strip[0].startswith("−") and strip[-1].startswith("+")
    )
    view.keys("2")
    view.drag((200, 150), (320, 260))
    view.picture("frame_1366")
    view.keys("Enter")
    view.wait_for_rank(1)
    view.keys("Enter")
    view.wait_for_text("#message", "^No box is drawn")
    assert len(here.stored(1)) == 1, "an untouched frame is not empty by one key"
    view.keys("Enter")
    view.wait_for_rank(2)
    view.keys("s", "1")
    got = here.stored(3)
    assert [row["verdict"] for row in got] == ["all", "all", "skipped"] and got[0]["labels"] == [1]
    assert got[1]["boxes"] == [] and np.diff(here.ledger.labels(here.pool).coverage.offsets).sum() == 2
    assert view.complaints == []


def test_the_page_steps_through_the_film(site: Any, chromium: Any, tmp_path: Path) -> None:
    """By keys and buttons to frames whose boxes are known, at full size; nothing is answered there."""
    here = site("frame", 4)
    view = View(chromium, here, tmp_path)
    stage = view.page.locator("#stage > image")
    asked = stage.get_attribute("href")
    view.keys("1")
    view.drag(tuple(moved(FIRST)[:2]), tuple(moved(FIRST)[2:]))
    view.keys("Enter")
    view.wait_for_rank(1)
    view.keys("3")
    view.drag((420, 300), (520, 400))
    view.keys(",")
    view.wait_for_text("#where", r"^1 frame before \(−0\.\d\d s\)$")
    assert stage.get_attribute("href") == asked, "the frame that was answered, at its full size"
    assert view.page.locator("#stage rect.known").count() == 1 and not view.page.locator("#stage rect.own").count()
    view.picture("film_step_1366")
    view.drag((100, 300), (200, 400))  # moves the view, draws nothing
    view.keys("Enter")  # goes back, and does not answer
    view.page.locator("#where").wait_for(state="hidden")
    assert view.page.locator("#stage rect.own").count() == 1 and len(here.stored(1)) == 1
    view.page.click("[data-do=after]")
    view.page.click("[data-do=after]")
    view.wait_for_text("#where", r"^2 frames after \(\+0\.\d\d s\)$")
    view.keys("Escape")
    view.page.locator("#where").wait_for(state="hidden")
    view.page.locator("#strip button").first.click()
    view.wait_for_text("#where", "frames? before")
    for _ in range(FIRST + 1):
        view.keys(",")
        view.page.wait_for_timeout(100)
    view.wait_for_text("#where", "The film begins here")
    view.keys(".", "Escape", "Enter")
    view.wait_for_rank(2)
    assert [row["labels"] for row in here.stored(2)] == [[0], [2]] and view.complaints == []


def test_boxes_of_a_labelled_frame_are_taken_mended_and_refused(site: Any, chromium: Any, tmp_path: Path) -> None:
    """They come along the motion; what was done to each is in the ledger, and costs what it is."""
    here = site("frame", 6)
    view = View(chromium, here, tmp_path)
    offers = view.page.locator("#stage rect.offer")
    view.keys("2")
    view.drag(tuple(moved(FIRST)[:2]), tuple(moved(FIRST)[2:]))
    view.keys("Escape", "1")
    view.drag((420, 300), (520, 400))
    view.keys("Enter")
    view.wait_for_rank(1)
    view.wait_for_text("#offered", "^2 suggestions of 1 labelled frame$")
    view.picture("film_offers_1366")
    view.keys("e", "Enter")  # 1: both as they are
    view.wait_for_rank(2)
    view.wait_for_text("#offered", "^2 suggestions")
    view.keys("t", "x", "Enter")  # 2: one taken, one refused
    view.wait_for_rank(3)
    view.wait_for_text("#offered", "^1 suggestion ")
    x, y = (moved(FIRST + 3)[k] + moved(FIRST + 3)[k + 2] for k in (0, 1))
    view.drag((x / 2, y / 2), (x / 2 + 60, y / 2 + 40))  # 3: drawn over it, not moved
    assert offers.count() == 1 and view.page.locator("#stage rect.own").count() == 1
    view.keys("Delete")
    view.page.mouse.click(*view.screen(x / 2, y / 2))  # taken by a click
    view.keys("Shift+ArrowRight", "Shift+ArrowRight", "Enter")  # and mended
    view.wait_for_rank(4)
    view.wait_for_text("#offered", "^1 suggestion ")
    view.keys("t", "Enter")
    view.wait_for_rank(5)
    view.keys("z")  # 4: taken back, with what was taken
    view.wait_for_text("#message", "Taken back")
    view.wait_for_count("#stage rect.own", 1)
    view.keys("Enter")
    view.wait_for_rank(5)
    view.wait_for_text("#offered", "^1 suggestion ")
    view.keys("n")  # 5: there is nothing in here, whatever is suggested
    got = here.stored(6)
    assert [len(row["boxes"]) for row in got] == [2, 2, 1, 1, 1, 0]
    np.testing.assert_allclose(got[1]["boxes"][0], moved(FIRST + 1), atol=1.5)
    np.testing.assert_allclose(got[2]["boxes"][0], moved(FIRST + 2), atol=3)
    assert [row["labels"] for row in got] == [[1, 0], [1, 0], [1], [1], [1], []]
    done = [(0, "verify"), (1, "verify"), (0, "verify"), (None, "reject"), (0, "mend"), (0, "verify"), (None, "reject")]
    assert [(number, action) for _, number, action, _ in suggested(here)] == done
    assert {origin for *_, origin in suggested(here)} == {"flow"}
    assert actions(here.ledger) == [{"who": "Ada", "verify": 4, "mend": 1, "draw": 2, "reject": 2}]
    assert view.complaints == []


def test_an_answer_is_lent_to_a_frame_far_away(site: Any, chromium: Any, tmp_path: Path) -> None:
    """By one key, as it stands; near frames lend by the motion."""
    here = site("frame", 30)
    view = View(chromium, here, tmp_path)
    view.keys("l")
    view.wait_for_text("#message", "nothing to lend")
    view.drag(tuple(moved(FIRST)[:2]), tuple(moved(FIRST)[2:]))
    view.keys("Enter")
    view.wait_for_rank(1)
    for rank in range(1, 25):  # to a frame that the motion does not reach
        view.keys("s", "1")
        view.wait_for_rank(rank + 1)
    view.wait_for_text("#offered", "^No suggestion")
    view.page.locator("[data-do=lend]").wait_for()
    view.keys("l", "Enter")
    view.wait_for_rank(26)
    view.wait_for_text("#offered", "^1 suggestion ")
    view.keys("l", "Enter")
    got = here.stored(27)
    assert got[25]["boxes"] == got[0]["boxes"]
    x1, y1, x2, y2 = got[0]["boxes"][0]
    assert suggested(here)[0] == (25, 0, "verify", "lent") and suggested(here)[1] == (26, 0, "verify", "flow")
    assert abs(got[26]["boxes"][0][0] - x1) <= 2 * STEP[0]
    assert got[26]["boxes"][0][3] - got[26]["boxes"][0][1] == pytest.approx(y2 - y1)
    assert x2 > x1 and view.complaints == []


def test_a_box_query_shows_its_object_before_and_after(site: Any, chromium: Any, tmp_path: Path) -> None:
    here = site("film box", 3)
    view = View(chromium, here, tmp_path)
    boxes, frames = view.page.locator("#strip rect.own"), view.page.locator("#strip figure")
    view.wait_for_text("#offered", "^No suggestion")
    lefts_of = "[...document.querySelectorAll('#strip rect.own')].map((one) => one.getAttribute('x'))"
    apart = f"() => new Set({lefts_of}).size > 2"
    view.page.wait_for_function(apart, timeout=60_000)  # the flow is there
    assert boxes.count() == frames.count() >= 3
    lefts = np.array([float(boxes.nth(k).get_attribute("x")) for k in range(boxes.count())])
    shown = [int(picture.get_attribute("href").split("/")[3]) for picture in view.page.locator("#strip image").all()]
    np.testing.assert_allclose(np.diff(lefts), np.diff(shown) * STEP[0], atol=2)
    view.picture("film_track_1366")
    view.keys("a")
    view.wait_for_rank(1)
    view.wait_for_text("#offered", "^1 suggestion ")
    view.keys("t", "a")  # the box that the labelled frame suggests, in place of the candidate
    view.wait_for_rank(2)
    view.keys("a")
    got = here.stored(3)
    assert [row["verdict"] for row in got] == ["object"] * 3
    np.testing.assert_allclose(got[1]["boxes"][0], np.add(got[0]["boxes"][0], [*STEP, *STEP]), atol=2)
    assert suggested(here) == [(1, 0, "verify", "flow")] and view.complaints == []


def test_edits_come_back_by_keys_and_after_a_reload(site: Any, chromium: Any, tmp_path: Path) -> None:
    here = site("frame", 2)
    view = View(chromium, here, tmp_path)
    view.drag((100, 100), (300, 300))
    view.drag((150, 150), (200, 200))  # in a box that is chosen: it moves
    view.wait_for_count("#stage rect.own", 1)
    view.keys("Escape")
    view.drag((170, 170), (220, 220))  # in one that is not: nested
    view.wait_for_count("#stage rect.own", 2)
    view.page.keyboard.down("Shift")
    view.drag((180, 180), (200, 200))
    view.page.keyboard.up("Shift")
    view.wait_for_count("#stage rect.own", 3)
    view.keys("Control+z", "Control+z")
    view.wait_for_count("#stage rect.own", 1)
    view.keys("Control+y")
    view.wait_for_count("#stage rect.own", 2)
    view.page.reload()
    view.wait_for_rank(0)
    view.wait_for_count("#stage rect.own", 2)
    view.keys("Control+z", "z")  # to what was there when it was shown, then there is no answer to take back
    view.wait_for_text("#message", "no answer to take back")
    view.keys("Control+Shift+Z", "Enter")
    view.wait_for_rank(1)
    got = here.stored(1)[0]["boxes"]
    np.testing.assert_allclose(got, [[150, 150, 350, 350], [170, 170, 220, 220]], atol=1.5)
    # the reply to the answer may be under way: until then the page keeps the answer as unsent
    view.page.wait_for_function("() => Object.keys(localStorage).length === 0")
    assert len(view.complaints) == 1 and "409" in view.complaints[0]


def test_what_the_model_found_is_taken_by_confidence(
    site: Any, chromium: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In an image: one, all from a threshold on that keys move; only what is taken is a label."""
    from labelwise.web.predicted import Predicted

    a, b, c = (20.0, 20.0, 80.0, 80.0), (200.0, 150.0, 320.0, 260.0), (430.0, 60.0, 540.0, 170.0)
    found = [(a, 0, 0.9), (b, 1, 0.6), (c, 2, 0.4)]
    monkeypatch.setattr(Predicted, "boxes", lambda _self, _query, _image: found)
    here = site("image", 3)
    view = View(chromium, here, tmp_path)
    view.wait_for_text("#offered", "^2 suggestions of the model$")
    view.picture("model_offers_1366")
    view.keys("e", "Enter")  # 0: what the model is sure of
    view.wait_for_rank(1)
    view.keys("<", "<")
    view.wait_for_text("#offered", "^3 suggestions of the model$")
    view.keys(">", ">", ">", ">", ">")
    view.wait_for_text("#threshold-at", "^65 %$")
    view.wait_for_text("#offered", "^1 suggestion of the model$")
    view.keys("x", "<", "<", "t", "Enter")  # 1: the surest is refused, the next taken
    view.wait_for_rank(2)
    view.wait_for_text("#offered", "^2 suggestions of the model$")
    view.keys("n")  # 2
    got = here.stored(3)
    assert [row["boxes"] for row in got] == [[list(a), list(b)], [list(b)], []]
    done = [(0, 0, "verify"), (0, 1, "verify"), (1, None, "reject"), (1, 0, "verify"), (2, None, "reject")]
    assert [row[:3] for row in suggested(here)] == [*done, (2, None, "reject")], "what was not shown is not counted"
    assert {row[3] for row in suggested(here)} == {"model"} and view.complaints == []
