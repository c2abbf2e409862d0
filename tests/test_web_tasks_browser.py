"""Scripted tasks where boxes are drawn, in a real Chromium: each by somebody new, asserted in the ledger or the page.

They share one project and one browser; what concerns classes, large images and a server out of reach is in
`test_web_tasks_more_browser.py`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fakes.browser import CHROMIUM, SIZE
from fakes.editor import SUGGESTED, Task, predicted

from labelwise.ledger.suggestions import actions

pytestmark = [pytest.mark.slow, pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on this machine")]
BOXES = [(20.0 + 60 * k, 20.0 + 20 * k, 60.0 + 60 * k, 60.0 + 20 * k) for k in range(10)]
TASKS: list[Callable[[Task], None]] = []


def task(do: Callable[[Task], None]) -> Callable[[Task], None]:
    TASKS.append(do)
    return do


@pytest.fixture(scope="module")
def here(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    pytest.importorskip("uvicorn")
    pytest.importorskip("fastapi")
    from fakes.browser import Site

    made = Site(tmp_path_factory.mktemp("drawn"), "image", 120, before=predicted)
    yield made
    made.close()


@task
def draws_a_box(at: Task) -> None:
    at.keys("1")  # the model takes most of what it found for dogs
    at.draw_all((100, 50, 220, 140))
    got = at.answer("a")
    assert (got["verdict"], got["labels"]) == ("all", [1])
    np.testing.assert_allclose(got["boxes"], [[100, 50, 220, 140]], atol=1)


@task
def draws_a_box_in_a_box(at: Task) -> None:
    at.drag((100, 50), (400, 300))
    at.keys("Escape")
    at.drag((200, 100), (300, 200))
    at.boxes(2)
    at.page.mouse.click(*at.screen(250, 150))  # the inner one lies above
    at.keys("Delete")
    at.boxes(1)
    np.testing.assert_allclose(at.answer("a")["boxes"], [[100, 50, 400, 300]], atol=1)


@task
def a_drag_moves_the_chosen_box(at: Task) -> None:
    at.drag((100, 50), (200, 150))
    at.drag((150, 100), (250, 130))
    at.boxes(1)
    np.testing.assert_allclose(at.answer("a")["boxes"], [[200, 80, 300, 180]], atol=1)


@task
def a_drag_with_shift_draws_in_the_chosen_box(at: Task) -> None:
    at.drag((100, 50), (300, 250))
    at.draw_all((150, 100, 250, 200))
    np.testing.assert_allclose(at.answer("a")["boxes"], [[100, 50, 300, 250], [150, 100, 250, 200]], atol=1)


@task
def a_box_that_is_not_chosen_is_not_moved(at: Task) -> None:
    at.drag((100, 50), (200, 150))
    at.keys("Escape")
    at.drag((120, 70), (180, 130))
    np.testing.assert_allclose(at.answer("a")["boxes"], [[100, 50, 200, 150], [120, 70, 180, 130]], atol=1)


@task
def a_corner_is_pulled(at: Task) -> None:
    at.drag((100, 50), (200, 150))
    at.drag((200, 150), (260, 170))
    np.testing.assert_allclose(at.answer("a")["boxes"], [[100, 50, 260, 170]], atol=1)


@task
def a_box_stays_in_the_image(at: Task) -> None:
    at.drag((500, 400), (900, 900))
    np.testing.assert_allclose(at.answer("a")["boxes"], [[500, 400, *SIZE]], atol=1)


@task
def ten_edits_are_undone(at: Task) -> None:
    at.draw_all(*BOXES)
    at.boxes(10)
    at.keys(*["Control+z"] * 10)
    at.boxes(0)
    assert at.said("#hint") == "No box drawn yet."


@task
def ten_edits_are_undone_and_done_again(at: Task) -> None:
    at.draw_all(*BOXES)
    at.keys(*["z"] * 10)
    at.boxes(0)
    at.keys(*["Control+y"] * 10)
    at.boxes(10)
    np.testing.assert_allclose(at.answer("a")["boxes"], BOXES, atol=1)


@task
def a_reload_loses_no_box(at: Task) -> None:
    at.draw_all(*BOXES[:3])
    at.page.reload()
    at.boxes(3)
    at.keys("z")
    at.boxes(0)  # a draft is one edit
    at.keys("y")
    np.testing.assert_allclose(at.answer("a")["boxes"], BOXES[:3], atol=1)


@task
def a_reload_while_a_box_is_drawn_loses_that_box_alone(at: Task) -> None:
    at.draw_all(*BOXES[:2])
    at.page.mouse.move(*at.screen(300, 300))
    at.page.mouse.down()
    at.page.mouse.move(*at.screen(400, 400))
    at.boxes(3)
    at.page.reload()
    at.boxes(2)


@task
def a_crash_loses_no_box(at: Task) -> None:
    rank = at.rank
    at.draw_all(*BOXES[:4])
    at.boxes(4)
    at.page.close()  # with no word to the server: what it held is still held
    at.page = at.context.new_page()
    at.page.set_default_timeout(60_000)
    at.page.goto(f"http://127.0.0.1:{at.site.port}/")
    at.wait_for_text("#file", f"rank {rank + 1}$")
    at.boxes(4)


@task
def an_answer_that_is_taken_back_has_its_boxes(at: Task) -> None:
    rank = at.rank
    at.draw_all(*BOXES[:2])
    at.answer("a")
    at.keys("z")
    at.wait_for_text("#file", f"rank {rank + 1}$")
    at.boxes(2)
    at.keys("Escape", "]", "Delete")
    at.boxes(1)
    assert len(at.answer("a")["boxes"]) == 1


@task
def there_is_nothing_in_here(at: Task) -> None:
    got = at.answer("n")
    assert (got["verdict"], got["boxes"]) == ("all", [])


@task
def enter_where_nothing_is_drawn_asks_once_more(at: Task) -> None:
    rank = at.rank
    at.keys("Enter")
    at.wait_for_text("#message", "^No box is drawn")
    assert at.rank == rank and at.answer("Enter")["boxes"] == []


@task
def nothing_in_here_is_refused_where_there_is_a_box(at: Task) -> None:
    at.draw_all(BOXES[0])
    at.keys("n")
    at.wait_for_text("#message", "^There are boxes")
    assert len(at.answer("a")["boxes"]) == 1


@task
def all_suggestions_are_taken_by_one_key(at: Task) -> None:
    at.wait_for_text("#offered", "^3 suggestions of the model")
    at.keys("e")
    got = at.answer("a")
    np.testing.assert_allclose(got["boxes"], SUGGESTED)
    assert got["labels"] == [1, 2, 3] and done(at) == {"verify": 3, "mend": 0, "draw": 0, "reject": 0}


@task
def taking_all_is_one_edit(at: Task) -> None:
    at.wait_for_text("#offered", "^3 suggestions")
    at.keys("e")
    at.boxes(3)
    at.keys("z")
    at.boxes(0)
    at.wait_for_text("#offered", "^3 suggestions")


@task
def one_suggestion_is_taken_and_mended_one_refused(at: Task) -> None:
    at.wait_for_text("#offered", "^3 suggestions")
    at.keys("t", "ArrowRight", "ArrowRight", "x", "t")
    assert len(at.answer("a")["boxes"]) == 2
    assert done(at) == {"verify": 1, "mend": 1, "draw": 0, "reject": 1}


@task
def a_key_moves_the_threshold(at: Task) -> None:
    at.wait_for_text("#offered", "^3 suggestions")
    at.keys(">", ">", ">")
    at.wait_for_text("#offered", "^2 suggestions")
    assert at.said("#threshold-at") == "65 %"
    at.keys("e")
    assert at.answer("a")["labels"] == [1, 2]


@task
def a_suggestion_that_is_drawn_over_goes(at: Task) -> None:
    at.wait_for_text("#offered", "^3 suggestions")
    at.keys("1")
    at.draw_all(SUGGESTED[0])
    at.wait_for_text("#offered", "^2 suggestions")
    assert len(at.answer("a")["boxes"]) == 1 and done(at)["draw"] == 1


@task
def a_class_changes_the_chosen_box(at: Task) -> None:
    at.keys("1")
    at.draw_all(BOXES[0], BOXES[1])
    at.keys("3")
    assert at.said("#hint") == "2 boxes drawn; chosen: horse."
    assert at.answer("a")["labels"] == [1, 3]


@task
def everything_by_the_keyboard(at: Task) -> None:
    at.keys("b", "Shift+Alt+ArrowRight", "Alt+ArrowLeft", "ArrowUp", "2", "Escape", "5", "b")
    got = at.answer("Enter")
    assert got["labels"] == [2, 4]
    assert got["boxes"][0][2] - got["boxes"][0][0] == got["boxes"][1][2] - got["boxes"][1][0] + 10
    assert got["boxes"][0][1] == got["boxes"][1][1] - 1


@task
def names_are_hidden_then_boxes(at: Task) -> None:
    at.draw_all(BOXES[0])
    name, box = at.page.locator("#stage text.own"), at.page.locator("#stage rect.own")
    assert name.is_visible()
    at.keys("h")
    assert not name.is_visible() and box.is_visible() and at.said("#hidden") == "Names are hidden (H)"
    at.keys("h")
    assert not box.is_visible() and at.said("#hidden") == "Boxes are hidden (H)"
    at.draw_all(BOXES[1])  # what is drawn is seen
    assert at.page.locator("#stage rect.own").first.is_visible() and not name.first.is_visible()
    at.keys("h", "h")
    assert name.first.is_visible() and at.page.locator("#hidden").is_hidden()


@task
def brightness_and_contrast(at: Task) -> None:
    shown = "getComputedStyle(document.querySelector('#stage > image')).filter"
    assert at.page.evaluate(shown) == "none"
    at.keys("v")
    at.page.locator("#brightness").press("ArrowRight")
    at.page.locator("#contrast").press("ArrowLeft")
    assert at.page.evaluate(shown) == "brightness(1.1) contrast(0.9)"
    at.page.click("#as-it-is")
    assert at.page.evaluate(shown) == "none"
    at.keys("Escape")


@task
def every_class_has_a_colour(at: Task) -> None:
    at.keys("1")
    at.draw_all(BOXES[0])
    at.keys("Escape", "2")
    at.draw_all(BOXES[1])
    strokes = "[...document.querySelectorAll('#stage rect.own')].map((one) => getComputedStyle(one).stroke)"
    dots = "[...document.querySelectorAll('#class-list i')].slice(0, 2).map((one) => getComputedStyle(one).background)"
    first, second = at.page.evaluate(strokes)
    assert first != second and [first in at.page.evaluate(dots)[0], second in at.page.evaluate(dots)[1]] == [True, True]
    at.keys("v")
    at.page.uncheck("#colours")
    first, second = at.page.evaluate(strokes)
    assert first == second and not at.count("#class-list i")


@task
def a_theme_is_chosen_and_kept(at: Task) -> None:
    back = "getComputedStyle(document.body).backgroundColor"
    before = at.page.evaluate(back)
    at.keys("v")
    at.page.select_option("#theme", "dark")
    dark = at.page.evaluate(back)
    at.page.select_option("#theme", "light")
    assert at.page.evaluate(back) == before != dark, "the system is a light one"
    at.page.select_option("#theme", "dark")
    at.page.reload()
    at.wait_for_text("#file", "rank")
    assert at.page.evaluate(back) == dark


@task
def the_language_is_chosen_and_kept(at: Task) -> None:
    at.keys("v")
    at.page.select_option("#language", "de")
    at.wait_for_text("#question", "^Markiere jedes Objekt im Bild$")
    assert at.page.get_attribute("html", "lang") == "de" and "Hier ist nichts" in at.said("#verdicts")
    at.draw_all(BOXES[0])
    assert at.said("#hint").startswith("1 Box gezeichnet; gewählt:")
    at.page.reload()
    at.wait_for_text("#hint", "^1 Box gezeichnet")


@task
def the_edges_of_the_image_fill_the_view(at: Task) -> None:
    x, y, w, h = at.view()
    assert y == 0 and h == SIZE[1] and x + w / 2 == pytest.approx(SIZE[0] / 2), "its whole height, and in the middle"
    at.page.mouse.move(*at.screen(630, 470))
    for _ in range(6):
        at.page.mouse.wheel(0, -200)
    at.page.wait_for_timeout(200)
    k = at.view()[2] / at.page.evaluate("document.querySelector('#stage').clientWidth")
    x, y, w, h = at.view()
    assert x + w <= SIZE[0] + 81 * k and y + h <= SIZE[1] + 81 * k, "no more than a margin beyond the edges"
    at.keys("w")
    assert at.view()[3] == SIZE[1]


@task
def five_hundred_boxes_are_edited(at: Task) -> None:
    grid = [(8 + 25 * i, 8 + 23 * j, 24 + 25 * i, 22 + 23 * j) for j in range(20) for i in range(25)]
    script = """async (boxes) => {
      const { stage } = await import('/static/editing.js');
      stage.boxes = boxes.map((box) => ({ box, label: 0, tag: 'cat' }));
      stage.selected = 0;
      stage.changed();
      stage.draw();
    }"""
    at.page.evaluate(script, grid)
    at.boxes(500)
    at.keys("]", "Delete", "z", "ArrowRight")
    got = at.answer("a")
    moved = [(a, b) for a, b in zip(grid, got["boxes"], strict=True) if list(a) != b]
    assert [[a[0] + 1, a[1], a[2] + 1, a[3]] for a, _ in moved] == [b for _, b in moved] and len(moved) == 1


@task
def a_skip_has_its_reason(at: Task) -> None:
    got = at.answer("s", "3")
    assert (got["verdict"], got["note"]) == ("skipped", "the rules do not say")


@task
def four_sentences_for_the_first_time(at: Task) -> None:
    said = []
    for k in range(4):
        assert at.said("#tour-at") == f"{k + 1} of 4"
        said.append(at.said("#tour-text"))
        if k < 3:
            at.page.click("#tour-next")
    assert len(set(said)) == 4 and all(text.count(".") == 1 for text in said), "four sentences"
    assert at.page.locator("#tour-next").is_hidden()
    at.page.click("#tour-close")
    at.page.reload()
    at.wait_for_text("#file", "rank")
    assert at.page.locator("#tour").is_hidden()


@task
def the_counts_agree(at: Task) -> None:
    for k in range(1, 4):
        at.answer("n")
        at.wait_for_text("#counts", rf"^Round 1: \d+ answered, {k} by you$")
    at.keys("z")
    at.wait_for_text("#message", "Taken back")
    at.wait_for_text("#counts", r"answered, 2 by you$")
    answered = int(at.said("#counts").split(":")[1].split()[0])
    assert answered == len(at.site.answers()) == at.site.page.progress(person(at))["answered"]


def person(at: Task) -> Any:
    from labelwise.queue.accounts import Person

    return Person(at.who, "owner", "")


def done(at: Task) -> dict[str, int]:
    """What became of the suggestions of this person's answers."""
    found = next(row for row in actions(at.site.ledger) if row["who"] == at.who)
    return {key: value for key, value in found.items() if key != "who"}


@pytest.mark.parametrize("do", TASKS, ids=lambda do: do.__name__)
def test_a_task(do: Callable[[Task], None], here: Any, window: Any, tmp_path: Path) -> None:
    at = Task(window, here, tmp_path)
    try:
        do(at)
        assert at.complaints == []
    finally:
        at.close()
