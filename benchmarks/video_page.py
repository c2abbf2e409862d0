"""What the suggestions of labelled frames save on the page, in a real Chromium, and how far they hold along the flow.

    python benchmarks/video_page.py DRONE_VIDEO_DEV --out benchmarks/results/video_page.csv

Two sources: the real clips (`drones`, one object in most frames) and generated roads (`roads`, several). Of each,
`--frames` frames are asked about, in the order of clips; the frame `gap` frames before each is labelled with the truth.
A scripted person who knows the truth answers them twice. "offered": every suggestion that overlaps an object of its
class by an IoU of 0.5 or more is taken (all by one key where all do, else one by one), any other is refused, all by
keys; what nothing suggests is drawn with the mouse. "drawn": every object is drawn with the mouse, its class by a key.

`script_s` are seconds per frame at the script's own pace, from the frame on the screen to its answer in the ledger:
what the page and the server take. `table_s` are the seconds per frame of a person by the table of costs (`ask.cost`):
the frame inspected, each box verified, mended, drawn or rejected. `iou`: of the answers' boxes with the truth.
The rows "follow" are the truth followed over `gap` frames: the share of boxes that still overlap by 0.5, or by 0.7.
"""

from __future__ import annotations

import argparse
import csv
import importlib.metadata
import os
import platform
import shutil
import socket
import subprocess
import tempfile
import threading
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import uvicorn
from playwright.sync_api import Page as Window
from playwright.sync_api import sync_playwright

from labelwise.ask.cost import DEFAULT as COST
from labelwise.ledger.import_export import current_answers
from labelwise.ledger.suggestions import actions
from labelwise.project import opening
from labelwise.project.clip_flow import film_of, flow_of, part_of
from labelwise.tracks import follow
from labelwise.types import Answer, Cost, Query
from labelwise.types.overlap import iou_matrix
from labelwise.web import server
from labelwise.web.film import REACH
from labelwise.web.shown import Shown

SAME = 0.5
COLUMNS = (
    *("source", "way", "gap", "frames", "boxes", "verify", "mend", "draw", "reject", "keys", "drags"),
    *("script_s", "table_s", "iou", "above_half", "above_0.7"),
)
NOTHING = {"offers": [], "lent": [], "track": [], "waits": False, "problem": ""}
RECIPE = """name = "{name}"
model = {{name = "retinanet", weights = "none"}}
[data]
{data}
[query]
unit = "frame"
score = "random"
select = "temporal_spread"
[ask]
who = "people"
[labels]
policy = "background"
[budget]
unit = "frames"
per_round = [100]
"""


class Site:
    """A project in which some frames are labelled and others asked about, and its server."""

    def __init__(self, name: str, data: str, folder: Path, n: int, gap: int) -> None:
        recipe = folder / "recipe.toml"
        recipe.write_text(RECIPE.format(name=name, data=data))
        self.opened = opening.start(folder / "project", str(recipe), [])
        self.ledger, self.pool = self.opened.project.ledger, self.opened.pool
        self.ledger.add_images(self.pool)
        self.asked = self._choose(n, gap)
        for number, images in ((0, [k - gap for k in self.asked]), (1, self.asked)):
            self.ledger.mark_started(number, "ask")
            names = [self.pool.names[k] for k in images]
            self.ledger.add_queries(number, [Query(number, rank, name, "image") for rank, name in enumerate(names)])
        known = [(query, self.truth_of(query)) for query in self.ledger.queries(0)]
        self.ledger.record_many([(query, answer, Cost(queries=1)) for query, answer in known], "oracle")
        self.ledger.mark_done(0, "ask", {}, 0.0)
        self.page = server.Page(self.opened)
        for image in self.asked:  # the flow is there: a person has waited for it once per film
            flow_of(self.opened, part_of(self.opened, image, REACH), self.page.shown.pixels)
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        config = uvicorn.Config(server.create(self.page), host="127.0.0.1", port=self.port, log_level="error")
        self.server = uvicorn.Server(config)
        self.thread = threading.Thread(target=self.server.run)
        self.thread.start()

    def _choose(self, n: int, gap: int) -> list[int]:
        """Frames with objects whose labelled frame has some, too: two or more of a clip, far apart."""
        truth, clips = self.pool.truth, self.pool.clips
        many, found = np.diff(truth.offsets), list[int]()
        for video in range(len(clips.names)):
            of = np.flatnonzero(clips.video == video)
            fits = [int(k) for k in of[gap:] if many[k] and many[k - gap]]
            found += fits[gap :: max(2 * gap + 1, len(fits) // 2)][:2]
        return found[:n]

    def truth_of(self, query: Query) -> Answer:
        rows = slice(*self.pool.truth.offsets[self.pool.number_of[query.image] :][:2])
        boxes = [tuple(map(float, box)) for box in self.pool.truth.xyxy[rows]]
        return Answer(query.id, "all", boxes, self.pool.truth.labels[rows].tolist())

    def close(self) -> None:
        self.server.should_exit = True
        self.thread.join()
        self.opened.project.close()


class Person:
    """Answers in a window, and counts keys and drags."""

    def __init__(self, window: Window, site: Site) -> None:
        self.window, self.site, self.keys, self.drags, self.seconds = window, site, 0, 0, 0.0
        window.goto(f"http://127.0.0.1:{site.port}/enter#{site.page.people.invite('Ada', 'owner', time.time())}")

    def press(self, *keys: str) -> None:
        for key in keys:
            self.window.keyboard.press(key)
            self.keys += 1

    def draw(self, box: Any, label: int) -> None:
        self.press("Escape", str(label + 1))
        matrix = "document.querySelector('#stage').getScreenCTM()"
        script = f"([x, y]) => {{ const p = new DOMPoint(x, y).matrixTransform({matrix}); return [p.x, p.y]; }}"
        start, end = self.window.evaluate(script, list(box[:2])), self.window.evaluate(script, list(box[2:]))
        self.window.keyboard.down("Shift")  # also where a suggestion or another box is
        self.window.mouse.move(*start)
        self.window.mouse.down()
        self.window.mouse.move(*end, steps=2)
        self.window.mouse.up()
        self.window.keyboard.up("Shift")
        self.drags += 1

    def answer(self, query: Query, *, offered: bool) -> None:
        self.window.locator("#file").filter(has_text=f"rank {query.rank + 1}").wait_for()
        truth = self.site.truth_of(query)
        offers = list[dict[str, Any]]()
        if offered:
            self.window.locator("#offered").filter(has_text="labelled frame").wait_for()  # the motion has been computed
            offers = self.site.page.film.offers(query.id)["offers"]
            said = f"{len(offers)} suggestion" if offers else "No suggestion"
            self.window.locator("#offered").filter(has_text=said).wait_for()
        begun, missing = time.perf_counter(), list(range(len(truth.boxes)))
        if offered:
            fits = [self.hit(offer, truth) for offer in offers]
            if all(k is not None for k in fits) and fits:
                self.press("e")
            else:
                self.press(*("x" if k is None else "t" for k in fits))
            missing = [k for k in missing if k not in fits]
        for k in missing:
            self.draw(truth.boxes[k], truth.labels[k])
        self.press("Enter")
        while len(self.site.ledger.verdicts(1)) <= query.rank:
            time.sleep(0.002)
        self.seconds += time.perf_counter() - begun

    def hit(self, offer: dict[str, Any], truth: Answer) -> int | None:
        """The object that a suggestion is of."""
        iou = iou_matrix(np.array([offer["box"]]), np.array(truth.boxes))[0]
        iou[np.array(truth.labels) != offer["label"]] = 0
        return int(iou.argmax()) if iou.max() >= SAME else None


def answered(name: str, data: str, way: str, n: int, gap: int, pictures: Path | None) -> dict[str, object]:
    """One row: `n` frames answered in one way."""
    with tempfile.TemporaryDirectory() as folder, sync_playwright() as started:
        site = Site(name, data, Path(folder), n, gap)
        browser = started.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
        window = browser.new_page(viewport={"width": 1366, "height": 768})
        window.set_default_timeout(120_000)
        if way == "drawn":
            window.route("**/offers", lambda route: route.fulfill(json=NOTHING))
        person = Person(window, site)
        for query in site.ledger.queries(1):
            if pictures is not None and way == "offered" and query.rank in (0, 7):
                person.window.locator("#offered").filter(has_text="suggestion").wait_for()
                person.window.wait_for_timeout(500)
                person.window.screenshot(path=pictures / f"{name}_{gap}_{query.rank}.png")
            person.answer(query, offered=way == "offered")
        mine = [(query, answer) for query, answer in current_answers(site.ledger) if query.round == 1]
        ious = [iou_matrix(np.array(a.boxes), np.array(site.truth_of(q).boxes)).max(axis=1) for q, a in mine if a.boxes]
        done = (
            actions(site.ledger) or [{"verify": 0, "mend": 0, "reject": 0, "draw": sum(len(a.boxes) for _, a in mine)}]
        )[0]
        browser.close()
        site.close()
    counts = {key: done[key] for key in ("verify", "mend", "draw", "reject")}
    return {
        **{"source": name, "way": way, "gap": gap, "frames": len(mine), "boxes": sum(map(len, ious))},
        **counts,
        **{"keys": person.keys, "drags": person.drags, "script_s": round(person.seconds / len(mine), 3)},
        **{"table_s": round(table_s(counts, len(mine)), 2), "iou": round(float(np.concatenate(ious).mean()), 3)},
    }


def followed(name: str, data: str, gaps: list[int]) -> list[dict[str, object]]:
    """How far the truth's boxes hold along the flow: of every 5th clip."""
    ious: dict[int, list[np.ndarray]] = {gap: [] for gap in gaps}
    with tempfile.TemporaryDirectory() as folder:
        recipe = Path(folder) / "recipe.toml"
        recipe.write_text(RECIPE.format(name=name, data=data))
        opened = opening.start(Path(folder) / "project", str(recipe), [])
        pool, shown = opened.pool, Shown(opened)
        for video in range(0, len(pool.clips.names), 5):
            film = film_of(opened, int(np.flatnonzero(pool.clips.video == video)[0]))
            offsets = pool.truth.offsets[film.start : film.stop + 1]
            boxes, rows = pool.truth.xyxy[offsets[0] : offsets[-1]], slice(film.start, film.stop)
            flow = flow_of(opened, film, shown.pixels)
            sizes = pool.width_px[rows], pool.height_px[rows]
            tracks = follow.follow(offsets - offsets[0], boxes, flow, *sizes, frames=max(gaps))
            here = np.repeat(np.arange(len(film)), np.diff(offsets))
            for gap in gaps:
                there = here + gap
                rows_there = [np.arange(*(offsets[k : k + 2] - offsets[0])) if k < len(film) else [] for k in there]
                column = max(gaps) + gap - 1
                ious[gap] += [
                    np.array([iou_matrix(tracks.boxes[i, column][None].astype(float), boxes[rows].astype(float)).max()])
                    for i, rows in enumerate(rows_there)
                    if len(rows)
                ]
        opened.project.close()
    found = {gap: np.concatenate(ious[gap]) for gap in gaps}
    half = {gap: {"above_half": round(float((iou > 0.5).mean()), 3)} for gap, iou in found.items()}
    more = {gap: {"above_0.7": round(float((iou > 0.7).mean()), 3)} for gap, iou in found.items()}
    first = {"source": name, "way": "follow"}
    return [
        first | {"gap": gap, "boxes": len(iou), "iou": round(float(iou.mean()), 3)} | half[gap] | more[gap]
        for gap, iou in found.items()
    ]


def table_s(done: dict[str, int], frames: int) -> float:
    """Seconds per frame by the table of costs: what each answer would cost whose time nobody measured."""
    each = {"verify": COST.verify, "mend": COST.verify + COST.adjust, "draw": COST.draw, "reject": COST.reject}
    return COST.inspect + sum(each[way] * done[way] for way in each) / frames


def about() -> dict[str, str]:
    git = subprocess.run(["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=True)
    lines = Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").exists() else []
    cpu = next((line.split(":")[1].strip() for line in lines if "model name" in line), platform.processor())
    versions = ", ".join(f"{name} {importlib.metadata.version(name)}" for name in ("numpy", "playwright", "fastapi"))
    return {
        "command": "python benchmarks/video_page.py DRONE_VIDEO_DEV",
        "commit": git.stdout.strip(),
        "date": datetime.now(UTC).date().isoformat(),
        "machine": f"{cpu}, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}",
        "versions": f"python {platform.python_version()}, {versions}",
        "seed": "0",
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("drones", type=Path)
    parser.add_argument("--frames", type=int, default=20)
    parser.add_argument("--gaps", type=int, nargs="+", default=[5, 15])
    parser.add_argument("--sources", nargs="+", default=["drones", "roads"])
    parser.add_argument("--out", type=Path, default=Path("video_page.csv"))
    parser.add_argument("--pictures", type=Path, help="a folder for screenshots")
    args = parser.parse_args()
    sources = {
        "drones": f'root = "{args.drones.resolve().as_posix()}"\nformat = "video"\npool_split = "train"',
        "roads": 'roads = { preset = "small", seed = 0 }',
    }
    rows = list[dict[str, object]]()
    for name in args.sources:
        data = sources[name]
        for gap in args.gaps:
            for way in ("offered", "drawn"):
                rows.append(answered(name, data, way, args.frames, gap, args.pictures))
                print(rows[-1], flush=True)
        rows += followed(name, data, [1, 5, 10, 15])
        print(*rows[-4:], sep="\n", flush=True)
    fresh = not args.out.exists()  # else the rows are added
    with args.out.open("a", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, [*COLUMNS, *about()], restval="")
        if fresh:
            writer.writeheader()
        writer.writerows(row | about() for row in rows)


if __name__ == "__main__":
    main()
