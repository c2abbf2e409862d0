"""Tracks of a class on the page: which boxes are one track, what is told of them, the strip; and in a real Chromium."""

from __future__ import annotations

from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fakes.browser import CHROMIUM, View, moved
from PIL import Image

from labelwise import files
from labelwise.ledger import known_questions
from labelwise.ledger.known_questions import Known
from labelwise.project.round import Round
from labelwise.types import Answer, Cost, LabelwiseError, Query

pytest.importorskip("fastapi", reason="no FastAPI: uv sync --extra serve")
GONE, GHOST = 9, 12
"""Where the model of `followed` missed the object, and where it saw one more."""


def followed(context: Any, frames: int = 30) -> None:
    """A round whose model finds the object in every frame but one, where the graph says so, and one that is none."""
    image = np.array([k for k in range(frames) if k != GONE] + [GHOST, 3, GONE, 20])
    boxes = np.array([moved(int(k)) for k in image])
    boxes[frames - 1 :] = [[10, 10, 40, 40], [12, 300, 60, 360], moved(GONE), [12, 300, 60, 360]]
    n, k = len(image), np.arange(len(image))
    label = np.where(k == frames, 2, 1)
    table = {"image": image, "is_candidate": k >= n - 2, "label": label, "score": np.where(k >= n - 2, 0, 0.9)}
    table |= dict(zip(("x1", "y1", "x2", "y2"), boxes.astype(np.float32).T, strict=True))
    table["wrong"] = np.isin(k, [frames - 1, n - 2])
    row = {int(image[i]): int(i) for i in range(frames - 1)} | {GONE: n - 2}
    pairs = np.sort([(row[i], row[i + 1]) for i in range(frames - 1)], axis=1)
    folder = Round(context, 1).folder
    files.write_table(folder.errors, table)
    files.write_table(folder.links, {"a": np.append(pairs[:, 0], frames), "b": np.append(pairs[:, 1], n - 1)})


@pytest.fixture
def strips(site: Any) -> Any:
    from labelwise.web.track_strips import TrackStrips

    here = site("frame", 20)
    followed(here.opened)
    return TrackStrips(here.opened, here.page.shown)


def test_tracks_of_a_class_come_the_longest_first(strips: Any) -> None:
    found = strips.of_class(1, 0, "Ada")
    whole, ghost = found["tracks"]
    assert (found["round"], found["total"], found["problem"]) == (1, 2, "")
    assert [frame["number"] for frame in whole["frames"]] == list(range(30)) and GONE in whole["stills"]
    assert {frame["number"]: frame["kind"] for frame in whole["frames"] if frame["kind"] != "found"} == {GONE: "missed"}
    np.testing.assert_allclose([frame["box"] for frame in whole["frames"]], [moved(k) for k in range(30)])
    assert [(frame["number"], frame["kind"]) for frame in ghost["frames"]] == [(GHOST, "false")]
    assert [len(one["frames"]) for one in strips.of_class(2, 0, "Ada")["tracks"]] == [1], "no part of a track: no miss"
    assert strips.of_class(0, 0, "Ada")["tracks"] == strips.of_class(1, 2, "Ada")["tracks"] == []
    with pytest.raises(LabelwiseError, match="class 11"):
        strips.of_class(11, 0, "Ada")


def test_a_strip_is_a_picture_of_its_stills(strips: Any) -> None:
    whole = strips.of_class(1, 0, "Ada")["tracks"][0]
    frames = [whole["frames"][k]["number"] for k in whole["stills"]]
    picture = np.asarray(Image.open(BytesIO(strips.strip(1, whole["track"], frames))), float)
    assert len(frames) in (11, 12) and picture.shape == (96, 96 * len(frames), 3)
    first, last = picture[:, :96], picture[:, -96:]
    assert np.abs(first[30:66, 30:66] - last[30:66, 30:66]).mean() < 12, "the object stays in the middle"
    for number, track in ((2, 0), (1, 99)):
        with pytest.raises(LabelwiseError, match="another round"):
            strips.strip(number, track, [0])


def test_without_followed_detections_the_page_says_why(site: Any) -> None:
    from labelwise.web.track_strips import TrackStrips

    here = site("box", 2)
    found = TrackStrips(here.opened, here.page.shown).of_class(0, 0, "Ada")
    assert found["tracks"] == [] and "temporal_coherence" in found["problem"]


def test_a_frame_of_a_known_question_is_left_out(strips: Any) -> None:
    """Its verdicts are those of its label."""
    here = strips.context
    right = Answer(0, "all", [tuple(moved(GONE))], [1], "")
    with here.project.ledger.write() as connection:
        known_questions.add(connection, 1, [Known(Query(1, 0, here.pool.names[GONE], "image"), right, None, 3)])
    whole = strips.of_class(1, 0, "Ada")["tracks"][0]
    assert [frame["number"] for frame in whole["frames"]] == [k for k in range(30) if k != GONE]


@pytest.mark.slow
@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on this machine")
def test_a_class_is_chosen_and_a_click_shows_the_frame(site: Any, chromium: Any, tmp_path: Path) -> None:
    here = site("frame", 20)
    followed(here.opened)
    query = here.ledger.queries(1)[7]  # of frame 12
    here.ledger.record(query, Answer(query.id, "all", [tuple(moved(GHOST))], [1], "Ada"), Cost(), "oracle")
    view = View(chromium, here, tmp_path)
    view.page.locator("#tracks-link").click()
    view.wait_for_text("#state", "0 tracks of cat")
    view.page.locator("#class").select_option("dog")
    view.wait_for_text("#state", "Round 1: 2 tracks of dog")
    titles = view.page.locator(".track h2").all_inner_texts()
    assert "30 frames" in titles[0] and "1 likely missed" in titles[0] and "1 likely false" in titles[1]
    assert view.page.locator(".track").first.locator("button").count() in (11, 12)
    view.page.wait_for_function(
        "() => [...document.querySelectorAll('.still image')].every((one) => one.getAttribute('href'))"
    )
    view.page.wait_for_load_state("networkidle")
    view.picture("tracks_1366")
    view.page.locator(".track").nth(1).locator("button").click()
    view.wait_for_text("#frame-title", "12.png.*likely false with 0.90")
    assert view.page.locator("#picture rect.known").count() == 1, "what is known of the frame"
    view.page.wait_for_load_state("networkidle")
    view.picture("tracks_frame_1366")
    view.page.keyboard.press(".")
    view.wait_for_text("#frame-title", "13.png.*the track is not here")
    view.page.keyboard.press(",")
    view.page.keyboard.press("Escape")
    assert view.page.locator("#frame[open]").count() == 0
    view.page.locator(".track").first.locator("button").nth(4).click()
    view.wait_for_text("#frame-title", "found with 0.90")
    view.page.set_viewport_size({"width": 390, "height": 844})
    view.picture("tracks_390")
    assert view.complaints == []
