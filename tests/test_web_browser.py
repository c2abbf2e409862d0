"""The labelling page in a real Chromium: a person's path by keyboard, mouse and touch, asserted against the ledger.

Screenshots go to $CI_ARTIFACTS (default: the test's temporary folder); look at them after a change of the page.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import socket
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageDraw

from labelwise import loop
from labelwise.project import opening
from labelwise.types import Query

CHROMIUM = shutil.which("chromium")
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on this machine"),
]
CLASSES = ("cat", "dog", "bird", "horse", "fish", "cow", "sheep", "duck", "goose", "hen", "zebra")
SIZE = (640, 480)
BOX = (200.0, 150.0, 320.0, 260.0)


def images(root: Path, n: int) -> None:
    (root / "images").mkdir(parents=True)
    records = []
    for i in range(n):
        rng = np.random.default_rng(i)
        slope = np.linspace(40, 110, SIZE[0])[None, :, None] + rng.normal(0, 6, (*SIZE[::-1], 3))
        picture = Image.fromarray(slope.clip(0, 255).astype(np.uint8))
        draw = ImageDraw.Draw(picture)
        draw.rectangle(BOX, fill=(30 + 20 * (i % 8), 160, 90))
        draw.ellipse((430, 60, 540, 170), fill=(190, 120, 40))
        draw.rectangle((60, 330, 190, 430), fill=(90, 90, 200))
        picture.save(root / "images" / f"{i:02d}.png")
        records.append({"id": i, "file_name": f"{i:02d}.png", "width": SIZE[0], "height": SIZE[1]})
    whole = [{"id": i, "image_id": i, "category_id": 0, "bbox": [0, 0, *SIZE], "iscrowd": 0} for i in range(n)]
    names = [{"id": k, "name": name} for k, name in enumerate(CLASSES)]
    (root / "annotations.json").write_text(json.dumps({"images": records, "annotations": whole, "categories": names}))


def with_test_split(root: Path) -> list[str]:
    """A test split that holds the images of the pool, so that there is a curve; the settings that name the two."""
    for split in ("pool", "test"):
        shutil.copy(root / "annotations.json", root / f"{split}.json")
    (root / "annotations.json").unlink()
    return ["data.pool_split=pool", "data.test_split=test"]


def film(root: Path, n: int) -> None:
    """A folder of frames: one film of `n` frames and ten more."""
    images(root, n + 10)
    (root / "images").rename(root / "clip")
    (root / "annotations.json").unlink()


class Site:
    """A project that people answer, its server in a thread, and the owner's link."""

    def __init__(self, folder: Path, unit: str, n: int, *, kinds: int = 1, asks: bool = True) -> None:
        import uvicorn

        from labelwise.web import server

        (film if unit == "frame" else images)(folder / "data", max(n, 2))
        recipe = folder / "recipe.toml"
        classifies = unit == "class"
        query = (
            'score = "entropy"\nselect = "top"\nunit = "image"' if classifies else f'unit = "{unit}"\nthreshold = 0.05'
        )
        budget = 'unit = "images"' if classifies else ""
        rest = '[labels]\npolicy = "background"' if classifies else '[predict]\nviews = ["flip"]'
        recipe.write_text(
            f'name = "farm"\nmodel = "{"classifier" if classifies else "fakes.detector"}"\n'
            f'[data]\nroot = "{(folder / "data").as_posix()}"\n[query]\n{query}\n{rest}\n'
            f'[ask]\nwho = "people"\npoll_s = 0.1\n[train]\nepochs = 1\n'
            f"[budget]\n{budget}\nper_round = [{n}]\nstart_images = 2\n"
        )
        tested = [] if asks else with_test_split(folder / "data")
        names = ", ".join(f'"{name}"' for name in CLASSES)
        frames = ['data.format="frames"', f"data.classes=[{names}]"] if unit == "frame" else []
        self.opened = opening.start(folder / "project", str(recipe), frames + tested)
        self.ledger, self.pool = self.opened.project.ledger, self.opened.pool
        self.ledger.add_images(self.pool)
        kind = "image" if unit in ("class", "frame") else unit
        box = {"box": (BOX[0] + 4, BOX[1] + 4, BOX[2] + 4, BOX[3] + 4), "region": (150.0, 100.0, 450.0, 325.0)}.get(
            kind
        )
        label = 1 if unit in ("box", "class") else None
        reason = {"consistency": 0.62, "frequency": 0.9}
        queries = [
            Query(
                1, k, self.pool.names[k], kind, box, None if label is None else label - k % kinds, 0.9 - k / 100, reason
            )  # type: ignore[arg-type]
            for k in range(n)
        ]
        if unit == "frame":
            queries = [replace(query, image=self.pool.names[5 + query.rank]) for query in queries]
        if asks:
            self.ledger.mark_started(1, "ask")
            self.ledger.add_queries(1, queries)
        self.page = server.Page(self.opened)
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        config = uvicorn.Config(server.create(self.page), host="127.0.0.1", port=self.port, log_level="error")
        self.server = uvicorn.Server(config)
        self.thread = threading.Thread(target=self.server.run)
        self.thread.start()
        until = time.time() + 60
        while not self.server.started and time.time() < until:
            time.sleep(0.05)

    def link(self, name: str, role: Any = "owner") -> str:
        return f"http://127.0.0.1:{self.port}/enter#{self.page.people.invite(name, role, time.time())}"

    def answers(self) -> list[dict[str, Any]]:
        """The answers that count, in the order of their queries."""
        with self.ledger.read() as connection:
            rows = connection.exec_driver_sql(
                "SELECT q.rank, a.verdict, a.boxes, a.labels, a.note, a.seconds FROM answers a JOIN queries q ON "
                "q.id = a.query_id WHERE a.id NOT IN (SELECT answer_id FROM withdrawn) ORDER BY q.rank"
            ).mappings()
            return [{**row, "boxes": json.loads(row["boxes"]), "labels": json.loads(row["labels"])} for row in rows]

    def stored(self, n: int) -> list[dict[str, Any]]:
        """The answers, once there are `n` of them."""
        until = time.time() + 30
        while len(self.answers()) < n and time.time() < until:
            time.sleep(0.05)
        return self.answers()

    def close(self) -> None:
        self.server.should_exit = True
        self.thread.join()
        self.opened.project.close()


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    pytest.importorskip("uvicorn")
    pytest.importorskip("fastapi")
    monkeypatch.syspath_prepend(str(Path(__file__).parent))
    with contextlib.ExitStack() as stack:

        def opened(unit: str, n: int, **how: Any) -> Site:
            made = Site(tmp_path, unit, n, **how)
            stack.callback(made.close)
            return made

        yield opened


@pytest.fixture
def chromium() -> Iterator[Any]:
    sync_api = pytest.importorskip("playwright.sync_api")
    with sync_api.sync_playwright() as started:
        browser = started.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox", "--disable-gpu"])
        yield browser
        browser.close()


class View:
    """One window; anything that the page complains about in the console is a failure."""

    def __init__(
        self,
        browser: Any,
        site: Site,
        folder: Path,
        *,
        width: int = 1366,
        height: int = 768,
        first: bool = True,
        who: str = "Ada",
        **how: Any,
    ) -> None:
        self.site = site
        self.folder = Path(os.environ.get("CI_ARTIFACTS", folder))
        self.folder.mkdir(parents=True, exist_ok=True)
        self.context = browser.new_context(viewport={"width": width, "height": height}, **how)
        self.page = self.context.new_page()
        self.page.set_default_timeout(60_000)
        self.complaints: list[str] = []
        self.page.on("console", lambda m: self.complaints.append(m.text) if m.type in ("error", "warning") else None)
        self.page.on("pageerror", lambda e: self.complaints.append(str(e)))
        self.page.goto(site.link(who))
        self.page.wait_for_selector("#who", state="attached")
        if first:
            self.wait_for_rank(0)

    def wait_for_rank(self, rank: int) -> None:
        self.wait_for_text("#file", rf"rank {rank + 1}$")

    def wait_for_text(self, selector: str, pattern: str) -> None:
        """Without `wait_for_function`, which the page's content policy forbids."""
        try:
            self.page.locator(selector).filter(has_text=re.compile(pattern)).wait_for(state="attached")
        except Exception as error:
            said = [self.page.inner_text("body"), *self.complaints]
            raise AssertionError(f"{selector} never said {pattern!r}; the page says: {said}") from error

    def keys(self, *keys: str) -> None:
        for key in keys:
            self.page.keyboard.press(key)

    def tab_to(self, element: str, back: bool = True) -> None:
        """Moves the focus by the tab key alone."""
        for _ in range(60):
            if self.page.evaluate("document.activeElement?.id") == element:
                return
            self.keys("Shift+Tab" if back else "Tab")
        raise AssertionError(f"the tab key never reaches {element}")

    def picture(self, name: str) -> None:
        self.page.wait_for_timeout(400)
        self.page.screenshot(path=str(self.folder / f"{name}.png"))

    def screen(self, x: float, y: float) -> tuple[float, float]:
        """Where a pixel of the image is on the screen."""
        matrix = "document.querySelector('#stage').getScreenCTM()"
        script = f"([x, y]) => {{ const p = new DOMPoint(x, y).matrixTransform({matrix}); return [p.x, p.y]; }}"
        sx, sy = self.page.evaluate(script, [x, y])
        return float(sx), float(sy)

    def drag(self, start: tuple[float, float], end: tuple[float, float]) -> None:
        self.page.mouse.move(*self.screen(*start))
        self.page.mouse.down()
        self.page.mouse.move(*self.screen((start[0] + end[0]) / 2, (start[1] + end[1]) / 2))
        self.page.mouse.move(*self.screen(*end))
        self.page.mouse.up()

    def touch(self, start: tuple[float, float], end: tuple[float, float]) -> None:
        session = self.context.new_cdp_session(self.page)
        points = [
            self.screen(start[0] + (end[0] - start[0]) * k / 4, start[1] + (end[1] - start[1]) * k / 4)
            for k in range(5)
        ]
        for kind, point in [("touchStart", points[0]), *(("touchMove", p) for p in points[1:]), ("touchEnd", None)]:
            touches = [] if point is None else [{"x": point[0], "y": point[1]}]
            session.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": touches})


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
    view.page.tap("[data-verdict=accept]")  # looked at and empty
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
        context.route("**/app.js*", self._draw)
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
    captions = view.page.locator("#grid figcaption").all_inner_texts()
    assert captions == ["dog?"] * 8, "only images of the class that the first one was predicted to be"
    view.keys(" ", "ArrowRight", "ArrowRight", " ", "ArrowDown")
    view.page.locator("#grid figure").nth(4).click()
    view.wait_for_text("#hint", "^3 of 8 chosen")
    view.picture("grid_1366")
    view.keys("3")  # three birds by one key
    view.wait_for_text("#file", "^5 images")
    view.keys("e", "a")  # the rest are what they were predicted to be
    view.wait_for_text("#question", "Which class are these images")
    here.stored(8)
    view.page.locator("#grid figcaption").first.filter(has_text="cat?").wait_for()
    view.keys("s", "2")  # the first of the cats alone
    got = here.stored(9)
    assert [row["rank"] for row in got] == [0, 1, 2, 4, 6, 8, 10, 12, 14]
    assert [row["labels"] for row in got if row["rank"] != 1] == [[2], [1], [2], [1], [2], [1], [1], [1]]
    assert (got[1]["verdict"], got[1]["note"]) == ("skipped", "the image is broken or missing")
    assert all(row["seconds"] < 30 for row in got)
    view.keys("g")
    view.wait_for_text("#question", "Which class is this image")
    assert view.complaints == []


def test_a_frame_shows_its_neighbours(site: Any, chromium: Any, tmp_path: Path) -> None:
    here = site("frame", 3)
    view = View(chromium, here, tmp_path)
    view.wait_for_rank(0)
    assert view.page.locator("#strip figure").count() == 5
    assert view.page.locator("#strip figcaption").all_inner_texts()[2] == "this one"
    view.keys("2")
    view.drag((200, 150), (320, 260))
    view.picture("frame_1366")
    view.keys("Enter")
    view.wait_for_rank(1)
    view.keys("Enter")
    view.wait_for_rank(2)
    view.keys("s", "1")
    got = here.stored(3)
    assert [row["verdict"] for row in got] == ["all", "all", "skipped"] and got[0]["labels"] == [1]
    assert got[1]["boxes"] == [] and np.diff(here.ledger.labels(here.pool).coverage.offsets).sum() == 2
    assert view.complaints == []


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
    view.page.locator("#curve circle").nth(1).wait_for(state="attached")
    view.picture("curve_1366")
    cost = here.ledger.cost_by_round()
    assert cost[0].images == 2 and cost[1].boxes == 6 and view.page.locator("#curve circle").count() == 2
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
    assert "xad1s" not in page.url and page.evaluate("localStorage.length") == 0
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
