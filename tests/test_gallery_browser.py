"""The owner's gallery in a real Chromium: marked by one key each, sent, taken back, filtered, mended in the large."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fakes.browser import BOX, CHROMIUM, SIZE, View

from labelwise import files
from labelwise.project.round import Round
from labelwise.types import Answer, Cost, Detections

pytestmark = [pytest.mark.slow, pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on this machine")]
CAT, DOG, BIRD = 0, 1, 2


def answered(here: Any, *said: tuple[str, str, list[Any]]) -> None:
    """The first queries with these answers: who, verdict, [(box, label)]."""
    for query, (who, verdict, objects) in zip(here.ledger.queries(1), said, strict=False):
        answer = Answer(query.id, verdict, [box for box, _ in objects], [label for _, label in objects], who, 2.0)
        with here.ledger.write() as connection:
            here.ledger.record_within(connection, [(query, answer, Cost(len(objects), 1, 0, 2.0))])


def gallery(view: View, query: str = "") -> None:
    view.page.goto(f"http://127.0.0.1:{view.site.port}/gallery{query}")
    view.wait_for_text("#counts", r"\d+ (label|answer)")


def labels(here: Any) -> list[int]:
    return [int(label) for label in here.ledger.annotation_rows()["label"]]


def box_of(x: float) -> tuple[float, float, float, float]:
    return (x, 150.0, x + 120.0, 260.0)


def test_wrong_labels_are_marked_by_a_key_each_and_sent(site: Any, chromium: Any, tmp_path: Path) -> None:
    here = site("box", 8)
    answered(here, *(("Ada", "object", [(BOX, CAT if k < 6 else DOG)]) for k in range(8)))
    view = View(chromium, here, tmp_path, first=False)
    view.page.goto(f"http://127.0.0.1:{here.port}/owner")
    view.page.get_by_role("link", name="Labels").click()
    view.wait_for_text("#counts", "^8 labels$")
    view.page.select_option("#label", str(CAT))
    view.wait_for_text("#counts", "^6 labels$")
    view.page.locator("#tiles").focus()
    view.keys("x", "ArrowRight", "3", "ArrowRight", "d")
    view.wait_for_text("#counts", "6 labels · 3 marked")
    assert view.page.locator("#tiles .mark").all_inner_texts() == ["no object", "→ bird", "labelled twice"]
    view.picture("gallery_marked_1366")
    view.page.select_option("#label", str(DOG))
    view.wait_for_text("#message", "3 marks are not sent")
    assert view.page.input_value("#label") == str(CAT), "a filter loses no mark"
    view.keys("s")
    view.wait_for_text("#counts", "^3 labels$")
    assert sorted(labels(here)) == [CAT, CAT, CAT, DOG, DOG, BIRD]
    view.keys("z")
    view.wait_for_text("#counts", "^6 labels$")
    assert sorted(labels(here)) == [CAT] * 6 + [DOG] * 2
    view.page.locator("#tiles figure").nth(4).click()
    view.wait_for_text("#counts", "1 marked")
    view.page.get_by_role("button", name="fish").click()
    view.page.get_by_role("button", name="Send 1").click()
    view.wait_for_text("#message", "1 corrected")
    assert sorted(labels(here))[-1] == 4 and view.complaints == []
    assert here.ledger.cost_by_round()[1].queries == 9, "what was taken back costs its time alone"


def test_a_label_is_mended_in_the_large_and_added_where_there_was_none(
    site: Any, chromium: Any, tmp_path: Path
) -> None:
    here = site("box", 3)
    answered(here, ("Ada", "object", [(box_of(180), DOG)]), ("Bo", "background", []))
    view = View(chromium, here, tmp_path, first=False)
    gallery(view)
    view.keys("o")
    view.page.locator("#item").wait_for()
    view.wait_for_text("#item-title", "dog")
    view.page.wait_for_timeout(500)
    view.drag((240, 205), (260, 205))
    view.keys("1")
    view.picture("gallery_item_1366")
    view.keys("a")
    view.wait_for_text("#message", "1 corrected")
    rows = here.ledger.annotation_rows()
    assert rows["label"].tolist() == [CAT]
    np.testing.assert_allclose(rows["xyxy"][0], box_of(200), atol=1.5)
    view.page.select_option("#verdict", "background")
    view.wait_for_text("#counts", "^1 answer$")
    view.page.locator("#tiles figure").first.click()
    assert view.page.locator("#tiles .mark").count() == 0, "there is no label to withdraw"
    view.keys("2")
    view.wait_for_text("#counts", "1 marked")
    view.keys("s")
    view.wait_for_text("#counts", "^2 labels$")  # nothing is answered so any more: the filter is gone
    assert labels(here) == [CAT, DOG] and view.complaints == []


def test_the_gallery_on_a_phone(site: Any, chromium: Any, tmp_path: Path) -> None:
    here = site("box", 6)
    answered(here, *(("Ada", "object", [(BOX, CAT)]) for _ in range(6)))
    boxes = np.array([BOX] * 6, np.float32)
    probs = np.full((6, len(here.pool.classes)), 0.01, np.float32)
    probs[:, DOG] = [0.9, 0.2, 0.8, 0.1, 0.1, 0.1]
    probs[:, CAT] = 0.3
    found = Detections(np.arange(7), boxes, probs, np.full(6, 0.9, np.float32), probs[:, :0])
    files.write_detections(Round(here.opened, 1).folder.predictions(), found)
    view = View(chromium, here, tmp_path, width=390, height=844, has_touch=True, device_scale_factor=2, first=False)
    gallery(view, "?doubtful=true")
    view.wait_for_text("#counts", "^2 labels$")
    view.wait_for_text("#tiles figure >> nth=0", "swapped: dog")
    view.page.locator("#tiles figure").first.tap()
    view.wait_for_text("#counts", "1 marked")
    view.picture("gallery_390")
    view.page.locator("#class-list button").nth(DOG).tap()
    view.page.get_by_role("button", name="Send 1").tap()
    view.wait_for_text("#counts", "^1 label$")
    view.page.locator("#tiles figure").first.dblclick()
    view.page.locator("#item").wait_for()
    view.page.wait_for_timeout(500)
    view.picture("gallery_item_390")
    view.page.get_by_role("button", name="No object").last.tap()
    view.wait_for_text("#counts", "^0 labels$")
    view.page.locator("#empty").get_by_text("Nothing is doubtful").wait_for()
    assert view.page.evaluate("document.documentElement.scrollWidth") <= 390
    assert sorted(labels(here)) == [CAT, CAT, CAT, CAT, DOG] and view.complaints == []


def test_classes_of_whole_images_that_are_wrong_are_answered_by_one_key(
    site: Any, chromium: Any, tmp_path: Path
) -> None:
    here = site("class", 5)
    whole = (0.0, 0.0, float(SIZE[0]), float(SIZE[1]))
    answered(here, *(("Ada", "all", [(whole, DOG)]) for _ in range(5)))
    view = View(chromium, here, tmp_path, first=False)
    gallery(view, f"?label={DOG}")
    view.page.locator("#tiles figure").nth(1).click()
    view.page.locator("#tiles figure").nth(3).click()
    view.keys("s")
    view.wait_for_text("#message", "Say which class they are")
    view.keys("1")
    view.wait_for_text("#tiles figure >> nth=1", "→ cat")
    view.picture("gallery_classes_1366")
    view.keys("s")
    view.wait_for_text("#counts", "^3 labels$")
    assert sorted(labels(here)) == [CAT, CAT, DOG, DOG, DOG]
    assert here.opened.known().covered(here.pool).sum() == 5 and view.complaints == []


def test_an_annotator_sees_no_gallery(site: Any, chromium: Any, tmp_path: Path) -> None:
    here = site("box", 2)
    view = View(chromium, here, tmp_path, first=False)
    view.page.goto(here.link("Bo", "annotator"))
    view.wait_for_text("#who", "^Bo$")
    view.page.goto(f"http://127.0.0.1:{here.port}/gallery")
    view.wait_for_text("#message", "only the owner")
