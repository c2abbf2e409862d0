"""Every state of the page in both themes and on a phone: axe-core finds no violation (and the pictures are there to be
looked at, in $CI_ARTIFACTS).

axe-core (MPL-2.0) is not part of this repository: the tests take it from the package `axe-playwright-python` of the
development group, or from the file that LABELWISE_AXE names, and skip where there is neither.
"""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from fakes.browser import CHROMIUM
from fakes.editor import Task, many_classes, predicted, unsure


def axe_script() -> Path | None:
    named = os.environ.get("LABELWISE_AXE")
    found = importlib.util.find_spec("axe_playwright_python")
    if named:
        return Path(named)
    places = found.submodule_search_locations if found is not None else None
    return next((path for place in places or () for path in Path(place).glob("axe.min.js")), None)


AXE = axe_script()
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on this machine"),
    pytest.mark.skipif(AXE is None, reason="no axe-core: uv sync --group dev, or LABELWISE_AXE=axe.min.js"),
]
LOOKS: list[dict[str, Any]] = [
    {"color_scheme": "light"},
    {"color_scheme": "dark"},
    {"color_scheme": "light", "width": 390, "height": 844, "has_touch": True, "is_mobile": True},
    {"color_scheme": "dark", "width": 390, "height": 844, "has_touch": True, "is_mobile": True},
]
NAMES = ["light", "dark", "phone_light", "phone_dark"]


@pytest.fixture(scope="module")
def projects(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[str], Any]]:
    pytest.importorskip("uvicorn")
    pytest.importorskip("fastapi")
    from fakes.browser import Site

    made: dict[str, Any] = {}
    kinds: dict[str, dict[str, Any]] = {
        "box": {"unit": "box", "n": 40},
        "image": {"unit": "image", "n": 40, "before": predicted},
        "many": {"unit": "class", "n": 40, "draw": many_classes, "before": unsure},
        "frame": {"unit": "frame", "n": 20},
    }

    def opened(name: str) -> Any:
        if name not in made:
            made[name] = Site(tmp_path_factory.mktemp(name), **kinds[name])
            text = "# What counts\n\n- cats and dogs\n- no statues\n\nA tail alone is no cat.\n"
            (made[name].opened.project.folder / "guidelines.md").write_text(text, encoding="utf-8")
        return made[name]

    yield opened
    for one in made.values():
        one.close()


class Looked:
    """Looks at one state after the other: axe, a picture, nothing cut off at the side."""

    def __init__(self, at: Task, look: str) -> None:
        self.at, self.look, self.found = at, look, list[str]()
        assert AXE is not None
        script = AXE.read_text(encoding="utf-8")
        at.page.route("**/axe.min.js", lambda route: route.fulfill(body=script, content_type="text/javascript"))

    def __call__(self, state: str) -> None:
        page = self.at.page
        if not page.evaluate("typeof axe === 'object'"):
            page.add_script_tag(url="/static/axe.min.js")  # from the page's own address: its content policy holds
        done = page.evaluate("() => axe.run(document, { resultTypes: ['violations'] })")
        for one in done["violations"]:
            where = [(node["target"], node["failureSummary"]) for node in one["nodes"]]
            self.found.append(f"{state}: {one['id']}: {one['help']}: {where}")
        self.at.picture(f"{state}_{self.look}")
        if page.evaluate("document.documentElement.scrollWidth > innerWidth"):
            self.found.append(f"{state}: wider than the window")


def of_boxes(at: Task, look: Looked) -> None:
    look("box_first")
    at.page.click("#tour-close")
    look("box")
    at.page.evaluate("document.querySelector('#help-button').click()")
    look("help")
    at.keys("Escape")
    at.page.click("#guidelines-button")
    look("guidelines")
    at.keys("Escape")
    at.page.click("#view-button")
    look("view")
    at.keys("Escape")
    at.page.click("[data-do=skip]")
    look("skip")
    at.keys("Escape")
    at.page.click("#password-button")
    look("password")
    at.keys("Escape")
    at.page.fill("#find", "unicorn")
    look("missing_class")
    at.page.get_by_role("button", name="Add this class").click()
    look("add_class")
    at.keys("Escape")
    at.page.click("summary")
    look("why")
    at.context.set_offline(True)
    at.page.click("[data-verdict=reject]")
    at.page.locator("#offline").wait_for()
    look("offline")
    at.context.set_offline(False)


def of_images(at: Task, look: Looked) -> None:
    at.page.click("#tour-close")
    at.wait_for_text("#offered", "^3 suggestions")
    look("image_suggestions")
    at.page.click("[data-do=take-all]")
    at.boxes(3)
    at.keys("]")
    look("image_boxes")
    at.keys("h", "h")
    look("image_hidden")


def of_classes(at: Task, look: Looked) -> None:
    at.page.click("#tour-close")
    look("class")
    at.page.click("#grid-button")
    at.wait_for_text("#file", "images · round")
    at.keys(" ")
    look("grid")


def of_films(at: Task, look: Looked) -> None:
    at.page.click("#tour-close")
    look("film")
    at.page.click("[data-do=after]")
    at.wait_for_text("#where", "frame")
    look("film_step")


def of_entering(at: Task, look: Looked) -> None:
    at.page.click("#leave-button")
    at.page.wait_for_selector("#login")
    look("enter")
    at.page.fill("#name", "Ada")
    at.page.fill("#password", "a wrong password")
    at.keys("Enter")
    at.wait_for_text("#refused", "do not fit")
    look("enter_refused")


STATES: list[tuple[str, Callable[[Task, Looked], None]]] = [
    ("box", of_boxes),
    ("image", of_images),
    ("many", of_classes),
    ("frame", of_films),
    ("box", of_entering),
]


@pytest.mark.parametrize("look", NAMES)
@pytest.mark.parametrize("project, states", STATES, ids=[do.__name__ for _, do in STATES])
def test_axe_finds_nothing(
    project: str, states: Callable[[Task, Looked], None], look: str, projects: Any, window: Any, tmp_path: Path
) -> None:
    at = Task(window, projects(project), tmp_path, **LOOKS[NAMES.index(look)])
    try:
        looked = Looked(at, look)
        states(at, looked)
        assert not looked.found, "\n".join(looked.found)
    finally:
        at.close()
