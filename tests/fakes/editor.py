"""Projects for the scripted tasks of the editor, and a person who does them in a window of a real Chromium."""

from __future__ import annotations

import itertools
import json
import time
from pathlib import Path
from typing import Any

import numpy as np
from fakes.browser import SIZE, Site, View, images
from PIL import Image

from labelwise import files
from labelwise.project.context import Context
from labelwise.project.round import Round
from labelwise.types import Detections

MANY = tuple(f"kind {k:02d}" for k in range(80))
LARGE = (6000, 4000)
STRIPES = (4000, 2600, 4020, 2620)
"""An object of 20 pixels in the large image: columns of one pixel, black and white in turn."""
SUGGESTED = ((60.0, 330.0, 190.0, 430.0), (200.0, 150.0, 320.0, 260.0), (430.0, 60.0, 540.0, 170.0))
SCORES = (0.9, 0.8, 0.6)


def many_classes(root: Path, n: int) -> None:
    images(root, n, MANY)


def large_images(root: Path, n: int) -> None:
    """Grey images of 24 million pixels with one small object of stripes."""
    images(root, 0)
    pixels = np.full((LARGE[1], LARGE[0], 3), 100, np.uint8)
    x1, y1, x2, y2 = STRIPES
    pixels[y1:y2, x1:x2] = np.where(np.arange(x2 - x1) % 2, 255, 0)[None, :, None]
    table = json.loads((root / "annotations.json").read_text())
    for i in range(n):
        Image.fromarray(pixels).save(root / "images" / f"{i:02d}.png", compress_level=1)
        table["images"].append({"id": i, "file_name": f"{i:02d}.png", "width": LARGE[0], "height": LARGE[1]})
        box = {"category_id": 0, "bbox": [0, 0, *LARGE], "iscrowd": 0}
        table["annotations"].append({"id": i, "image_id": i, **box})
    (root / "annotations.json").write_text(json.dumps(table))


def predicted(opened: Context) -> None:
    """Of every image the model found the three objects, as the classes 1, 2 and 3 (dog, bird, horse)."""
    n, n_classes = len(opened.pool), len(opened.pool.classes)
    probs = np.full((3, n_classes), 0.1 / (n_classes - 1), np.float32)
    probs[[0, 1, 2], [1, 2, 3]] = 0.9
    _write(opened, np.tile(np.array(SUGGESTED, np.float32), (n, 1)), np.tile(probs, (n, 1)), np.tile(SCORES, n), 3)


def unsure(opened: Context) -> None:
    """The model takes every image for one of the kinds 41, 7, 60, 22 and 13, the likeliest first."""
    n, shares = len(opened.pool), np.full(len(MANY), 0.001, np.float32)
    shares[[41, 7, 60, 22, 13]] = [0.4, 0.3, 0.1, 0.08, 0.05]
    whole = np.tile(np.array([[0, 0, *SIZE]], np.float32), (n, 1))
    _write(opened, whole, np.tile(shares / shares.sum(), (n, 1)), np.full(n, 0.4), 1)


def _write(opened: Context, boxes: np.ndarray, probs: np.ndarray, scores: np.ndarray, each: int) -> None:
    offsets = np.arange(len(opened.pool) + 1, dtype=np.int64) * each
    features = np.zeros((len(boxes), 0), np.float32)
    found = Detections(offsets, boxes, probs.astype(np.float32), scores.astype(np.float32), features)
    files.write_detections(Round(opened, 1).folder.predictions(), found)


class Task(View):
    """Somebody new in a window of their own, on a project that others use too."""

    numbers = itertools.count()

    def __init__(self, browser: Any, site: Site, folder: Path, **how: Any) -> None:
        self.who = f"Person {next(self.numbers)}"
        super().__init__(browser, site, folder, first=False, who=self.who, **how)
        self.wait_for_text("#file", r"rank \d+$")

    @property
    def rank(self) -> int:
        """The query that is shown."""
        return int(self.page.inner_text("#file").split()[-1]) - 1

    def answer(self, *keys: str) -> dict[str, Any]:
        """Presses keys that answer; the answer as it is stored."""
        rank = self.rank
        self.keys(*keys)
        return self.stored(rank)

    def stored(self, rank: int) -> dict[str, Any]:
        """The answer to the query of this rank, once it is stored."""
        until = time.time() + 60
        while time.time() < until:
            found = [row for row in self.site.answers() if row["rank"] == rank]
            if found:
                return found[0]
            time.sleep(0.05)
        raise AssertionError(f"no answer to the query of rank {rank}: {self.page.inner_text('body')}")

    def draw_all(self, *boxes: tuple[float, float, float, float]) -> None:
        """Draws boxes, wherever."""
        self.page.keyboard.down("Shift")
        for x1, y1, x2, y2 in boxes:
            self.drag((x1, y1), (x2, y2))
        self.page.keyboard.up("Shift")

    def boxes(self, n: int) -> None:
        """Waits until the page shows so many boxes."""
        self.wait_for_count("#stage rect.own", n)

    def said(self, selector: str) -> str:
        return str(self.page.inner_text(selector))

    def view(self) -> list[float]:
        """What is seen: left, top, width, height in pixels of the image."""
        return [float(v) for v in self.page.get_attribute("#stage", "viewBox").split()]

    def count(self, selector: str) -> int:
        return int(self.page.locator(selector).count())

    def close(self) -> None:
        self.context.close()
