"""Confirming proposed boxes against drawing them, by a scripted person in a real Chromium whose hands take their time.

    LABELWISE_DATA=data python benchmarks/proposals_page.py --seeds 0 1 2

The images of `proposals_first.py`: 31 of fod_a's pool, drawn by seed, about 32 objects, no label. Three ways through
the page as users have it (`labelwise serve` with `labelwise run` beside it):

* confirm: 64 box questions about what YOLOX-nano proposes, the surest first; a box that overlaps its object by an IoU
  of 0.5 is taken as it is. * mend: the same, but a box below 0.75 gets its corners dragged first.
* draw: the same images, every object drawn anew with the mouse.

The person knows the truth and names every class: by its key where it has one, else by typing until the list begins
with it. Every movement is waited for, so that the wall clock (`s`) and the page's own (`page_s`) measure both the
person and the page; with `--speed 4` a quarter of it is waited for and the rest is added. What the movements take
(`hand_s`) is the Keystroke-Level Model (Card, Moran and Newell, CACM 23(7), 1980: a key of an average non-secretary
typist 0.28 s, a hand from mouse to keys or back 0.40 s, a mental step 1.35 s; half a click 0.10 s: Kieras 2001) and,
for the mouse, Fitts' law with the coefficients of MacKenzie, Sellen and Buxton (CHI 1991; from memory: only the paper's
abstract could be looked up): pointing -107 + 223 ID ms, dragging 135 + 249 ID ms, ID = log2(distance / width + 1). The
width of an object's corner is a tenth of the object's shorter side on the screen, 4 pixels or more, and the hand
misses by it as the law has it (standard deviation width /
4.133). One mental step for every question or image, every further object, every class that has to be named, every box
that is mended, and to see that an image is complete. Keys at the left of the keyboard are pressed by the hand that
holds no mouse. People who draw with care take longer than such hands: 7 s a box by extreme clicking, 35 s the classic
way (`ask.cost`); so "draw" is a lower end.

In benchmarks/results/proposals_page.csv a row for each way and seed; a row that is there is kept. `half_`: after 32
questions. `class_s`: of `hand_s`, what naming classes takes. `mean_iou`: of the found objects' boxes with the truth.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import time
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")  # before torch is imported

import numpy as np
from claims import note_of, write
from live_page import kept, served
from playwright.sync_api import Page as Window
from playwright.sync_api import sync_playwright
from proposals_first import SETS, SETTINGS, written
from taught import paired

from labelwise import loop
from labelwise.data import find
from labelwise.ledger.import_export import current_answers
from labelwise.ledger.progress import by_person
from labelwise.project import opening
from labelwise.project.context import Context
from labelwise.types import Query
from labelwise.types.overlap import iou_matrix

HERE = Path(__file__).parent
KEY_S, HOME_S, MENTAL_S, BUTTON_S = 0.28, 0.40, 1.35, 0.10
POINT, DRAG = (-0.107, 0.223), (0.135, 0.249)
"""Intercept and slope of Fitts' law, seconds and seconds per bit."""
SAME, MENDED = 0.5, 0.75
IMAGES = SETS["fod_a"][0]
WAYS = ("confirm", "mend", "draw")
DRAWN = ("query.unit=image", "budget.unit=images", f"budget.start_images={IMAGES}", "budget.per_round=[1]")
FIRST = "() => Number(document.querySelector('#class-list [data-class]')?.dataset.class ?? -1)"
ON_SCREEN = """(points) => { const matrix = document.querySelector('#stage').getScreenCTM();
  return points.map(([x, y]) => { const p = new DOMPoint(x, y).matrixTransform(matrix); return [p.x, p.y]; }); }"""


def begin(folder: Path, way: str, seed: int, given: argparse.Namespace) -> None:
    """A project that asks people next."""
    pool = find.read(Path(os.environ["LABELWISE_DATA"]) / "fod_a", SETS["fod_a"][1])
    written(folder / "data", pool, np.sort(np.random.default_rng(seed).permutation(len(pool))[:IMAGES]))
    own = [f"seed={seed}", f"data.root={folder / 'data'}", "ask.who=people"]
    own += DRAWN if way == "draw" else [f"budget.per_round=[{given.questions}]", f"predict.proposals={given.weights}"]
    opened = opening.start(folder / "p", "box_random_ignore", [*SETTINGS, *own])
    while (due := loop.next_stage(opened)) is not None and due[1] != ("ask" if due[0] or way == "draw" else ""):
        loop.run_next(opened, due[1])
    opened.project.close()


class Hands:
    """Keys and mouse of a window, each as long as the model says."""

    def __init__(self, window: Window, seed: int, speed: float) -> None:
        self.speed = speed
        self.window, self.rng = window, np.random.default_rng([seed, 7])
        self.at, self.typing = np.array([683.0, 384.0]), False
        self.seconds, self.keys, self.drags = 0.0, 0, 0

    def wait(self, seconds: float) -> None:
        self.seconds += float(seconds)
        self.window.wait_for_timeout(1000 * seconds / self.speed)

    def think(self) -> None:
        self.wait(MENTAL_S)

    def key(self, name: str) -> None:
        self.wait(KEY_S)
        self.keys += 1
        self.window.keyboard.press(name)

    def home(self, typing: bool) -> None:
        """Both hands to the keys, or one back to the mouse."""
        self.wait(HOME_S * (typing != self.typing))
        self.typing = typing

    def move(self, to: Any, width_px: float, law: tuple[float, float] = POINT, within: Any = None) -> None:
        """`within`: corners of a rectangle on the screen that the hand does not leave."""
        to = np.asarray(to) + self.rng.normal(0, width_px / 4.133, 2)
        to = to if within is None else np.clip(to, within[0] + 1, within[1] - 1)
        bits = np.log2(np.hypot(*(to - self.at)) / width_px + 1)
        self.home(typing=False)
        self.wait(max(0.0, law[0] + law[1] * bits))
        self.window.mouse.move(*to, steps=4)
        self.at = to

    def drag(self, to: Any, width_px: float, within: Any) -> None:
        self.window.mouse.down()
        self.wait(BUTTON_S)
        self.move(to, width_px, DRAG, within)
        self.window.mouse.up()
        self.wait(BUTTON_S)
        self.drags += 1


class Person:
    """Answers as the truth has it."""

    def __init__(self, window: Window, opened: Context, way: str, hands: Hands) -> None:
        assert opened.pool.truth is not None
        self.window, self.opened, self.way, self.truth = window, opened, way, opened.pool.truth
        self.hands, self.found, self.class_s = hands, set[int](), 0.0

    def whole(self, seconds: float) -> float:
        """Seconds that were measured, with those that were not waited for."""
        return seconds + self.hands.seconds * (1 - 1 / self.hands.speed)

    def shown(self) -> Query:
        """The question on the screen."""
        found = re.search(r"round (\d+), rank (\d+)$", self.window.locator("#file").inner_text())
        assert found is not None
        number, rank = int(found[1]), int(found[2]) - 1
        return next(one for one in self.opened.project.ledger.queries(number) if one.rank == rank)

    def answer(self, query: Query) -> None:
        self.hands.think()
        rows = np.flatnonzero(self.truth.image == self.opened.pool.number_of[query.image])
        if self.way == "draw":
            return self.draw(rows)
        iou = iou_matrix(np.array([query.box], np.float64), self.truth.xyxy[rows].astype(np.float64))[0]
        if not len(rows) or iou.max() < SAME:
            return self.hands.key("r")
        row = int(rows[iou.argmax()])
        if row in self.found:
            return self.hands.key("d")
        self.found.add(row)
        if self.way == "mend" and iou.max() < MENDED:
            self.mend(row)
        name = self.opened.pool.classes[self.truth.labels[row]]
        if self.window.locator("#question").inner_text() == f"Is this: {name}?":
            return self.hands.key("a")
        return self.name(int(self.truth.labels[row]))

    def name(self, label: int) -> None:
        """Gives a class: by its key, or by typing."""
        begun, hands = self.hands.seconds, self.hands
        hands.think()
        keyed = self.window.locator(f'#class-list [data-class="{label}"] kbd')
        if keyed.count() and (key := keyed.inner_text().strip()):
            hands.key(key.lower())
        else:
            hands.home(typing=True)
            hands.key("c")
            for letter in self.opened.pool.classes[label]:
                hands.key("Space" if letter == " " else letter)
                if self.window.evaluate(FIRST) == label:
                    break
            hands.key("Enter")
        self.class_s += hands.seconds - begun

    def corners(self, row: int) -> tuple[np.ndarray, float, np.ndarray]:
        """An object's upper left and lower right corner on the screen, how wide a target each is, and the image's."""
        x1, y1, x2, y2 = self.truth.xyxy[row].tolist()
        image, pool = int(self.truth.image[row]), self.opened.pool
        size = [int(pool.width_px[image]), int(pool.height_px[image])]
        points = np.array(self.window.evaluate(ON_SCREEN, [[x1, y1], [x2, y2], [0, 0], size]))
        return points[:2], max(4.0, 0.1 * float((points[1] - points[0]).min())), points[2:]

    def mend(self, row: int) -> None:
        self.hands.think()
        points, width, within = self.corners(row)
        for handle, to in zip(("nw", "se"), points, strict=True):
            place = self.window.locator(f'#stage [data-handle="{handle}"]').bounding_box()
            assert place is not None
            middle = np.array([place["x"] + place["width"] / 2, place["y"] + place["height"] / 2])
            if np.abs(to - middle).max() > width / 2:
                self.hands.move(middle, min(place["width"], place["height"]) / 2)
                self.hands.drag(to, width, within)

    def draw(self, rows: np.ndarray) -> None:
        for k, row in enumerate(rows.tolist()):
            if k:
                self.hands.think()
            (start, end), width, within = self.corners(row)
            self.hands.move(start, width, within=within)
            self.hands.drag(end, width, within)
            chosen = self.window.locator('#class-list [aria-pressed="true"]').get_attribute("data-class")
            if chosen != str(self.truth.labels[row]):
                self.name(int(self.truth.labels[row]))
            self.found.add(row)
        if len(rows):
            self.hands.think()
        self.hands.key("a" if len(rows) else "n")


def answered(folder: Path, way: str, seed: int, given: argparse.Namespace) -> dict[str, Any]:
    """One row: all questions of one way."""
    questions, picture = IMAGES if way == "draw" else given.questions, given.picture
    half: dict[str, Any] = {"half_found": "", "half_s": ""}
    with served(folder / "p", "rounds", None) as link, sync_playwright() as started:
        opened = opening.start(folder / "p", None)
        browser = started.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
        window = browser.new_page(viewport={"width": 1366, "height": 768})
        window.set_default_timeout(300_000)
        window.goto(link)
        window.locator("#file").filter(has_text="rank").wait_for()
        window.locator("#tour-close").click()
        window.wait_for_load_state("networkidle")
        person = Person(window, opened, way, Hands(window, seed, given.speed))
        begun, before = time.perf_counter(), "(?!)"
        for k in range(questions):
            window.locator("#file").filter(has_text="rank").filter(has_not_text=re.compile(before)).wait_for()
            if k == 32 and way != "draw":
                half = {"half_found": len(person.found), "half_s": round(person.whole(time.perf_counter() - begun), 1)}
            before = f"{re.escape(window.locator('#file').inner_text())}$"
            person.answer(person.shown())
            if picture is not None and k == questions // 2:
                window.screenshot(path=picture.with_stem(f"{picture.stem}_{way}_{seed}"))
        seconds = person.whole(time.perf_counter() - begun)
        while sum(one["answers"] for one in by_person(opened.project.ledger)) < questions:
            time.sleep(0.05)
        browser.close()
    row = {"way": way, "seed": seed, "images": IMAGES, "objects": len(person.truth), "questions": questions}
    row |= found(opened, person) | half
    row |= {"s": round(seconds, 1), "hand_s": round(person.hands.seconds, 1), "class_s": round(person.class_s, 1)}
    row |= {"page_s": round(person.whole(sum(a.seconds for _, a in current_answers(opened.project.ledger))), 1)}
    row |= {"keys": person.hands.keys, "drags": person.hands.drags}
    opened.project.close()
    many = max(int(row["found"]), 1)
    row |= {f"{name}_per_box": round(float(row[name]) / many, 2) for name in ("s", "hand_s", "page_s")}
    return row | {"speed": given.speed, "load": round(os.getloadavg()[0], 1)}


def found(opened: Context, person: Person) -> dict[str, Any]:
    """Of the true objects those that a stored box of their class overlaps by half, and how well."""
    best = np.zeros(len(person.truth))
    for query, answer in current_answers(opened.project.ledger):
        rows = np.flatnonzero(person.truth.image == opened.pool.number_of[query.image])
        if answer.boxes and len(rows):
            iou = iou_matrix(person.truth.xyxy[rows].astype(np.float64), np.array(answer.boxes, np.float64))
            iou[person.truth.labels[rows][:, None] != np.array(answer.labels)[None]] = 0
            best[rows] = np.maximum(best[rows], iou.max(axis=1))
    hit = best >= SAME
    return {"found": int(hit.sum()), "mean_iou": round(float(best[hit].mean()), 3) if hit.any() else ""}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--ways", nargs="+", default=list(WAYS), choices=WAYS)
    parser.add_argument("--questions", type=int, default=64)
    parser.add_argument("--speed", type=float, default=1.0, help="so much faster than the model the hands are")
    parser.add_argument("--weights", default="weights/yolox_nano_coco.safetensors")
    parser.add_argument("--runs", type=Path, default=Path("runs/proposals_page"))
    parser.add_argument("--picture", type=Path, help="a screenshot in the middle of each run")
    parser.add_argument("--out", type=Path, default=HERE / "results" / "proposals_page.csv")
    given = parser.parse_args()
    rows = kept(given.out)
    done = {(row["way"], int(row["seed"])) for row in rows}
    note = note_of("proposals_page", None, given.seeds)
    told = f"proposals_page.py --seeds {' '.join(map(str, given.seeds))} --speed {given.speed:g}"
    note = note.replace(f"claims.py proposals_page --seeds {len(given.seeds)}", told)
    for seed in given.seeds:
        for way in given.ways:
            if (way, seed) in done:
                continue
            folder = given.runs.absolute() / f"{way}_{seed}"
            shutil.rmtree(folder, ignore_errors=True)
            begin(folder, way, seed, given)
            rows.append(answered(folder, way, seed, given))
            print(rows[-1], flush=True)
            write(given.out, rows, note)
    by = {(row["way"], int(row["seed"])): row for row in rows}
    for way in ("confirm", "mend"):
        both = [(by["draw", k], by[way, k]) for k in given.seeds if ("draw", k) in by and (way, k) in by]
        for name in ("s_per_box", "hand_s_per_box", "page_s_per_box", "mean_iou", "found"):
            a, b = (np.array([float(pair[side][name]) for pair in both]) for side in (0, 1))
            if len(both) > 1:
                mean, low, high = paired(a, b)
                print(f"{name}: draw {a.mean():.2f}, {way} {b.mean():.2f}; {mean:.2f} ({low:.2f} to {high:.2f})")


if __name__ == "__main__":
    main()
