"""From a key to the paint, in a real Chromium: answers, edits among 500 boxes, 80 classes, an image of 24 megapixels.

    python benchmarks/page_speed.py --out benchmarks/results/page_speed.csv

Keys are pressed one after the other, each when the one before has been painted. A time is that from the event's own
time stamp (when the browser got the key) to the end of the frame that shows what it did: the page's listener asks for
the next animation frame, and a message sent from there comes when that frame's style, layout and paint are done. What
the graphics processor needs to bring the frame to a screen is not in it; there is none here.

`answer`: an answer and the next query; `next`, `move`, `class`, `remove`, `undo`, `redo`: edits among as many boxes;
`hide`: names, boxes; `zoom`: in and out. `server_ms` of the row `squares` is what the first square of the large image
takes, in which the server cuts it, and `p50_ms` what another one takes.
"""

from __future__ import annotations

import argparse
import csv
import importlib.metadata
import os
import platform
import shutil
import subprocess
import sys
import tempfile
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
from playwright.sync_api import sync_playwright

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))
from fakes.browser import Site
from fakes.editor import LARGE, Task, large_images, many_classes, unsure

COLUMNS = ("page", "boxes", "classes", "key", "keys", "p50_ms", "p95_ms", "most_ms", "server_ms")
WATCH = """() => {
  window.times = [];
  const { port1, port2 } = new MessageChannel(), begun = [];
  port1.onmessage = () => { for (const at of begun.splice(0)) window.times.push(performance.now() - at); };
  addEventListener("keydown", (event) => {
    begun.push(event.timeStamp);
    requestAnimationFrame(() => port2.postMessage(0));
  }, true);
}"""
FILL = """async (n) => {
  const { stage } = await import("/static/editing.js"), [width, height] = stage.size, side = Math.ceil(Math.sqrt(n));
  stage.boxes = Array.from({ length: n }, (_none, k) => {
    const x = (k % side) * width / side, y = Math.floor(k / side) * height / side;
    return { box: [x, y, x + 0.8 * width / side, y + 0.8 * height / side], label: k % 10, tag: stage.tagOf(k % 10) };
  });
  stage.selected = 0;
  stage.changed();
  stage.draw();
}"""
EDITS = {
    "next": ["]"] * 30,
    "move": ["ArrowRight", "ArrowLeft"] * 15,
    "class": [str(k % 10) for k in range(30)],
    "remove": ["Delete"] * 15,
    "undo": ["z"] * 30,
    "redo": ["y"] * 30,
    "hide": ["h"] * 30,
    "zoom": ["+", "+", "+", "-", "-", "-"] * 5,
}


def times(at: Task, keys: list[str], pause_ms: int = 60) -> np.ndarray:
    """Milliseconds of each key."""
    at.page.evaluate("window.times.length = 0")
    for key in keys:
        at.page.keyboard.press(key)
        at.page.wait_for_timeout(pause_ms)
    found = np.array(at.page.evaluate("window.times"))
    assert len(found) == len(keys), (len(found), keys)
    return found


def row(
    page: str, boxes: int, classes: int, key: str, found: np.ndarray, server_ms: float | None = None
) -> dict[str, Any]:
    p50, p95 = np.percentile(found, [50, 95]).round(1)
    numbers = {"keys": len(found), "p50_ms": p50, "p95_ms": p95, "most_ms": round(float(found.max()), 1)}
    made = {"page": page, "boxes": boxes, "classes": classes, "key": key, **numbers}
    return made | {"server_ms": "" if server_ms is None else round(server_ms, 1)}


def measured(browser: Any, folder: Path, n: int) -> list[dict[str, Any]]:
    rows = list[dict[str, Any]]()
    for page, how, keys in (
        ("box", {"unit": "box"}, ["a", "r"]),
        ("class", {"unit": "class", "draw": many_classes, "before": unsure}, ["1", "2", "a"]),
        ("image", {"unit": "image"}, ["n"]),
        ("image of 24 MP", {"unit": "image", "draw": large_images}, []),
    ):
        (folder / page).mkdir()
        site = Site(folder / page, n=n + 10 if keys else 3, **how)
        at = Task(browser, site, folder)
        at.page.evaluate(WATCH)
        classes = len(site.pool.classes)
        if keys:
            rows.append(row(page, 0, classes, "answer", times(at, (keys * n)[:n], pause_ms=700)))
        for boxes in (10, 500) if how["unit"] == "image" else ():
            at.page.evaluate(FILL, boxes)
            at.page.wait_for_timeout(500)
            rows += [row(page, boxes, classes, key, times(at, pressed)) for key, pressed in EDITS.items()]
        if page == "image of 24 MP":
            rows.append(row(page, 0, classes, "squares", *squares(at)))
        at.close()
        site.close()
        print(*rows[-16:], sep="\n", flush=True)
    return rows


def squares(at: Task) -> tuple[np.ndarray, float]:
    """Milliseconds that the server takes for squares of an image that it has cut, and for the first of another one."""
    script = """async (paths) => {
      const taken = [];
      for (const path of paths) {
        const begun = performance.now();
        await (await fetch(path)).blob();
        taken.push(performance.now() - begun);
      }
      return taken;
    }"""
    first, *others = at.page.evaluate(script, [f"/api/images/2/tiles/{k % 6}/{k // 6}" for k in range(24)])
    return np.array(others), first


def about() -> dict[str, str]:
    git = subprocess.run(["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=True)
    lines = Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").exists() else []
    cpu = next((line.split(":")[1].strip() for line in lines if "model name" in line), platform.processor())
    versions = ", ".join(f"{name} {importlib.metadata.version(name)}" for name in ("playwright", "fastapi"))
    return {
        "command": "python benchmarks/page_speed.py",
        "commit": git.stdout.strip(),
        "date": datetime.now(UTC).date().isoformat(),
        "machine": f"{cpu}, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}",
        "versions": f"python {platform.python_version()}, {versions}",
        "seed": "0",
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--answers", type=int, default=30, help="of each page")
    parser.add_argument("--out", type=Path, default=Path("page_speed.csv"))
    args = parser.parse_args()
    begun = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder, sync_playwright() as started:
        browser = started.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
        rows = measured(browser, Path(folder), args.answers)
        browser.close()
    with args.out.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, [*COLUMNS, *about()])
        writer.writeheader()
        writer.writerows(one | about() for one in rows)
    print(f"{LARGE[0]} x {LARGE[1]} pixels; {time.perf_counter() - begun:.0f} s")


if __name__ == "__main__":
    main()
