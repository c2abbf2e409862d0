"""Questions about labels, known questions with guidelines, and questions asked again, in a real Chromium; on a phone,
too.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from fakes.browser import BOX, CHROMIUM, SIZE, View

from labelwise.ledger import known_questions
from labelwise.ledger.asked_again import AGAIN
from labelwise.ledger.known_questions import Known
from labelwise.ledger.reviews import REVIEWS
from labelwise.queue.leases import Leases
from labelwise.types import Answer, Cost, Query

pytestmark = [pytest.mark.slow, pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on this machine")]
CAT, DOG = 0, 1
WHOLE = (0.0, 0.0, float(SIZE[0]), float(SIZE[1]))


def labelled(here: Any, n: int, verdict: str, box: Any, label: int) -> list[Query]:
    """The first `n` questions, answered by Bo; they are gone from what is asked."""
    first = here.ledger.queries(1)[:n]
    for query in first:
        answer = Answer(query.id, verdict, [box], [label], "Bo", 2.0)
        with here.ledger.write() as connection:
            here.ledger.record_within(connection, [(query, answer, Cost(1, 1, 0, 2.0))])
    return list(first)


def about_labels(here: Any, queries: list[Query], likely: str) -> None:
    """Whether each label is right."""
    rows = here.ledger.annotation_rows()
    for k, query in enumerate(queries):
        reason = {"kind": "swapped", "doubt": 0.8, "model": likely, REVIEWS: float(rows["id"][k])}
        box = query.box and tuple(rows["xyxy"][k].tolist())
        made = replace(query, rank=20 + k, box=box, label=int(rows["label"][k]), reason=reason, id=None)
        here.ledger.add_queries(1, [made])


@pytest.mark.parametrize("width, height", [(1366, 768), (390, 844)])
def test_a_queue_of_doubtful_labels(site: Any, chromium: Any, tmp_path: Path, width: int, height: int) -> None:
    here = site("box", 4)
    about_labels(here, labelled(here, 4, "object", BOX, DOG), "cat")
    view = View(chromium, here, tmp_path, width=width, height=height, first=False)
    view.wait_for_rank(20)
    view.wait_for_text("#question", "^Is this label right: dog[?]$")
    assert view.page.locator("#stage rect.own").count() == 1 and view.page.locator("#stage rect.known").count() == 0
    view.page.locator("#why summary").click()
    view.wait_for_text("#reasons", "swapped.*cat")
    view.picture(f"review_{width}")
    view.keys("a")
    view.wait_for_rank(21)
    view.keys("1")
    view.wait_for_rank(22)
    view.keys("r")
    view.wait_for_rank(23)
    view.keys("z")
    view.wait_for_rank(22)
    view.keys("d")
    view.wait_for_rank(23)
    here.stored(7)
    assert sorted(here.ledger.annotation_rows()["label"].tolist()) == [CAT, DOG, DOG] and view.complaints == []


def test_whether_the_class_of_an_image_is_right(site: Any, chromium: Any, tmp_path: Path) -> None:
    here = site("class", 2)
    about_labels(here, labelled(here, 2, "all", WHOLE, DOG), "cat")
    view = View(chromium, here, tmp_path, first=False)
    view.wait_for_text("#question", "^Is this label right[?]$")
    view.wait_for_text("#hint", "^Labelled: dog$")
    view.picture("review_class_1366")
    view.keys("a")
    view.wait_for_rank(21)
    view.keys("1")
    view.wait_for_text("#question", "Nothing to answer now")
    here.stored(4)
    assert sorted(here.ledger.annotation_rows()["label"].tolist()) == [CAT, DOG] and view.complaints == []


def test_guidelines_feedback_and_a_question_asked_again_on_a_phone(site: Any, chromium: Any, tmp_path: Path) -> None:
    here = site("box", 3)
    opened = here.opened
    opened.run = opened.run.model_copy(update={"ask": opened.run.ask.model_copy(update={"feedback": 2})})
    here.page.leases = Leases(here.ledger, 120, 1, True, True)
    (opened.project.folder / "guidelines.md").write_text("# Cats\n\nWhiskers count.", encoding="utf-8")
    [first] = labelled(here, 1, "object", BOX, DOG)
    here.ledger.add_queries(1, [replace(first, rank=30, reason={AGAIN: first.id or 0}, id=None)])
    right = Answer(0, "object", [BOX], [CAT], "")
    with here.ledger.write() as connection:
        known_questions.add(connection, 1, [Known(Query(0, 0, here.pool.names[2], "box", BOX, DOG), right, None, 0)])
    view = View(chromium, here, tmp_path, width=390, height=844, has_touch=True, device_scale_factor=2)
    view.keys("?")
    view.wait_for_text("#guidelines", "Whiskers count")
    view.picture("guidelines_390")
    view.keys("Escape")
    view.page.locator("#verdicts button").first.tap()
    view.wait_for_text("#message", "answer to your last question was known: Object cat")
    view.picture("feedback_390")
    view.keys("a", "a")
    view.wait_for_rank(30)
    assert view.page.locator("#stage rect.known").count() == 0, "nothing shows what was said before"
    view.keys("1")
    view.wait_for_text("#question", "Nothing to answer now")
    here.stored(5)
    assert here.ledger.annotation_rows()["label"].tolist() == [DOG] * 3, "another opinion is no label"
    assert view.page.evaluate("document.documentElement.scrollWidth") <= 390 and view.complaints == []
