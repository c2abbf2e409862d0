"""A project that people answer, its server, and a window of a real Chromium: what the tests of the page share."""

from __future__ import annotations

import json
import os
import re
import shutil
import socket
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageDraw

from labelwise.project import opening
from labelwise.project.context import Context
from labelwise.types import Query

CHROMIUM = shutil.which("chromium")
CLASSES = ("cat", "dog", "bird", "horse", "fish", "cow", "sheep", "duck", "goose", "hen", "zebra")
SIZE = (640, 480)
BOX = (200.0, 150.0, 320.0, 260.0)


def images(root: Path, n: int, classes: Sequence[str] = CLASSES) -> None:
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
    names = [{"id": k, "name": name} for k, name in enumerate(classes)]
    (root / "annotations.json").write_text(json.dumps({"images": records, "annotations": whole, "categories": names}))


def with_test_split(root: Path) -> list[str]:
    """A test split that holds the images of the pool, so that there is a curve; the settings that name the two."""
    for split in ("pool", "test"):
        shutil.copy(root / "annotations.json", root / f"{split}.json")
    (root / "annotations.json").unlink()
    return ["data.pool_split=pool", "data.test_split=test"]


STEP = (3, 1)
"""By how many pixels the object at `BOX` of a film moves from frame to frame."""


def film(root: Path, n: int) -> None:
    """A folder of frames: one film of `n` frames and ten more. One object moves over still ground."""
    rng = np.random.default_rng(0)
    ground = rng.integers(60, 110, (SIZE[1] // 8, SIZE[0] // 8, 3)).repeat(8, 0).repeat(8, 1)
    x1, y1, x2, y2 = map(int, BOX)
    thing = rng.integers(120, 255, ((y2 - y1) // 10, (x2 - x1) // 10, 3)).repeat(10, 0).repeat(10, 1)
    (root / "clip").mkdir(parents=True)
    for i in range(n + 10):
        picture = ground.astype(np.uint8).copy()
        picture[y1 + STEP[1] * i : y2 + STEP[1] * i, x1 + STEP[0] * i : x2 + STEP[0] * i] = thing
        Image.fromarray(picture).save(root / "clip" / f"{i:02d}.png")


def moved(frames: int) -> list[float]:
    """Where the object of a film is so many frames after its first."""
    return [BOX[0] + STEP[0] * frames, BOX[1] + STEP[1] * frames, BOX[2] + STEP[0] * frames, BOX[3] + STEP[1] * frames]


class Site:
    """A project that people answer, its server in a thread, and the owner's link."""

    def __init__(
        self,
        folder: Path,
        unit: str,
        n: int,
        *,
        kinds: int = 1,
        asks: bool = True,
        draw: Callable[[Path, int], None] = images,
        before: Callable[[Context], None] | None = None,
    ) -> None:
        """`draw` makes the images and their file of annotations; `before` prepares the project that a page opens."""
        import uvicorn

        from labelwise.web import server

        unit, films = unit.removeprefix("film "), unit in ("frame", "film box")
        (film if films else draw)(folder / "data", max(n, 2))
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
        frames = ['data.format="frames"', f"data.classes=[{names}]"] if films else []
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
        if films:
            queries = [replace(query, image=self.pool.names[5 + query.rank]) for query in queries]
        if films and unit == "box":
            at = [moved(5 + query.rank) for query in queries]
            queries = [
                replace(query, box=(x1, y1, x2, y2)) for query, (x1, y1, x2, y2) in zip(queries, at, strict=True)
            ]
        if asks:
            self.ledger.mark_started(1, "ask")
            self.ledger.add_queries(1, queries)
        if before is not None:
            before(self.opened)
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

    def wait_for_count(self, selector: str, count: int) -> None:
        """Waits until the page shows so many of them."""
        found = f"() => document.querySelectorAll({selector!r}).length === {count}"
        self.page.wait_for_function(found, timeout=60_000)

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
