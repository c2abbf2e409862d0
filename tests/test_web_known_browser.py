"""Known questions, guidelines and how good people are, in a real Chromium."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from fakes.browser import BOX, CHROMIUM, View

from labelwise.ledger import known_questions
from labelwise.ledger.known_questions import Known
from labelwise.queue.leases import Leases
from labelwise.types import Answer, Query

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on this machine"),
]
CAT, DOG = 0, 1


def test_a_known_question_is_followed_by_what_is_right_and_told_to_the_owner_alone(
    site: Any, chromium: Any, tmp_path: Path
) -> None:
    here = site("box", 3)
    opened = here.opened
    opened.run = opened.run.model_copy(update={"ask": opened.run.ask.model_copy(update={"feedback": 2})})
    here.page.leases = Leases(here.ledger, 120, 1, True)
    (opened.project.folder / "guidelines.md").write_text("# Cats\n\nWhiskers count.", encoding="utf-8")
    right = Answer(0, "object", [BOX], [CAT], "")
    some = [Known(Query(0, 0, here.pool.names[2], "box", BOX, DOG), right, None, shown) for shown in (0, 0)]
    with here.ledger.write() as connection:
        known_questions.add(connection, 1, some)

    view = View(chromium, here, tmp_path)
    view.keys("i")
    view.wait_for_text("#guidelines", "Whiskers count")
    view.picture("guidelines_1366")
    view.keys("Escape")
    view.keys("a")  # as the page proposes: a dog
    view.wait_for_text("#message", "answer to your last question was known: Object cat")
    view.picture("feedback_1366")
    view.keys("1")
    view.wait_for_text("#message", "Right")
    assert [answer["labels"] for answer in here.stored(2)] == [[DOG], [CAT]]
    assert not len(here.ledger.labels(here.pool).annotations), "known questions leave no label"

    view.page.goto(f"http://127.0.0.1:{here.port}/owner")
    view.wait_for_text("#good", "Ada.*22.*50")
    view.page.locator("#good").scroll_into_view_if_needed()
    view.picture("quality_1366")
    assert view.complaints == []
