"""A data set of the size of COCO train2017 (118,000 images, 860,000 boxes): how long its commands take.

    uv run python benchmarks/coco_118k.py FOLDER [--images N] [--boxes N] [--polygons]

Makes the set once in FOLDER (tiny JPEG files, all different; the annotation file as COCO's own, with polygons where
that is asked), then runs every command in a fresh process and prints and writes
benchmarks/results/coco_118k.csv: command, seconds, CPU seconds, peak memory, the bar.
"""

from __future__ import annotations

import argparse
import io
import json
import os
import platform
import shutil
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import numpy as np
from PIL import Image

RESULTS = Path(__file__).parent / "results" / "coco_118k.csv"
LABELWISE = [sys.executable, "-m", "labelwise"]
SIZES = ((64, 48), (48, 64), (64, 64), (64, 43))
FIRST_STAGE = """
import sys
from pathlib import Path
from labelwise import loop
from labelwise.project import opening
opened = opening.start(Path(sys.argv[1]), None)
with opened.project.lock():
    loop.begin(opened)
    loop.run_stage(opened, 0, loop.STAGES[0])
"""


def make(folder: Path, n_images: int, n_boxes: int, polygons: bool) -> None:
    """Writes the data set."""
    rng = np.random.default_rng(0)
    images = folder / "train2017"
    images.mkdir(parents=True)
    bodies = []
    for width, height in SIZES:
        stream = io.BytesIO()
        Image.fromarray(rng.integers(0, 255, (height, width, 3), np.uint8)).save(stream, "JPEG", quality=10)
        bodies.append(stream.getvalue())
    for i in range(n_images):
        body, comment = bodies[i % len(SIZES)], f"image {i:09}".encode()
        head = b"\xff\xd8\xff\xfe" + (len(comment) + 2).to_bytes(2, "big") + comment
        (images / f"{i:012}.jpg").write_bytes(head + body[2:])
    entries = [
        {
            "license": 3,
            "file_name": f"{i:012}.jpg",
            "coco_url": f"http://images.cocodataset.org/train2017/{i:012}.jpg",
            "height": SIZES[i % len(SIZES)][1],
            "width": SIZES[i % len(SIZES)][0],
            "date_captured": "2013-11-14 11:18:45",
            "flickr_url": f"http://farm9.staticflickr.com/8186/{i:012}_z.jpg",
            "id": i,
        }
        for i in range(n_images)
    ]
    categories = [{"supercategory": f"group {k // 10}", "id": k + 1, "name": f"class {k}"} for k in range(80)]
    of_image = np.sort(rng.integers(0, n_images, n_boxes)).tolist()
    corners = rng.uniform(0, 30, (n_boxes, 2)).round(2)
    sides = rng.uniform(2, 12, (n_boxes, 2)).round(2)
    drawn = [json.dumps([rng.uniform(0, 40, 2 * n).round(2).tolist()]) for n in rng.integers(8, 45, 2000)]
    path = folder / "annotations" / "instances_train2017.json"
    path.parent.mkdir()
    with path.open("w", encoding="utf-8") as file:
        head = json.dumps(
            {"info": {"description": "made"}, "licenses": [], "images": entries, "categories": categories}
        )
        file.write(head[:-1] + ', "annotations": [')
        rows = zip(of_image, corners.tolist(), sides.tolist(), rng.integers(1, 81, n_boxes).tolist(), strict=True)
        for k, (image, (x, y), (w, h), category) in enumerate(rows):
            segmentation = drawn[k % len(drawn)] if polygons else "[]"
            file.write(
                f'{", " if k else ""}{{"segmentation": {segmentation}, "area": {w * h:.4f}, "iscrowd": 0, '
                f'"image_id": {image}, "bbox": [{x}, {y}, {w}, {h}], "category_id": {category}, "id": {900000 + k}}}'
            )
        file.write("]}")


def measure(*command: str) -> tuple[float, float, float]:
    """Seconds, CPU seconds and peak memory (GB) of a command."""
    started = time.monotonic()
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    _, status, used = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode not in (0, 1):
        print(f"  (ended with {process.returncode}: {' '.join(command)[:120]})")
    return time.monotonic() - started, used.ru_utime + used.ru_stime, used.ru_maxrss / 1e6


def first_reply(project: Path, port: int) -> tuple[float, float, float]:
    """Seconds of the page's first reply, once the server listens."""
    command = [*LABELWISE, "serve", "-p", str(project), "--port", str(port), "--no-browser"]
    server = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        deadline = time.monotonic() + 120
        while time.monotonic() < deadline:
            started = time.monotonic()
            try:
                urllib.request.urlopen(f"http://127.0.0.1:{port}/", timeout=60).read()
                return time.monotonic() - started, float("nan"), float("nan")
            except OSError:
                time.sleep(0.02)
        return float("inf"), float("nan"), float("nan")
    finally:
        server.kill()
        server.wait()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--images", type=int, default=118_000)
    parser.add_argument("--boxes", type=int, default=860_000)
    parser.add_argument("--polygons", action="store_true")
    given = parser.parse_args()
    data = given.folder / f"coco_{given.images}_{given.boxes}{'_polygons' if given.polygons else ''}"
    if not (data / "annotations" / "instances_train2017.json").is_file():
        shutil.rmtree(data, ignore_errors=True)
        make(data, given.images, given.boxes, given.polygons)
    project = given.folder / "project"
    shutil.rmtree(project, ignore_errors=True)
    settings = ["--set", "data.test_share=0.05"]
    cases = {
        "check": (30.0, lambda: measure(*LABELWISE, "check", str(data))),
        "init": (45.0, lambda: measure(*LABELWISE, "init", str(project), "--data", str(data), *settings)),
        "first stage": (45.0, lambda: measure(sys.executable, "-c", FIRST_STAGE, str(project))),
        "status": (1.0, lambda: measure(*LABELWISE, "status", "-p", str(project))),
        "first reply of the page": (1.0, lambda: first_reply(project, 18769)),
    }
    commit = subprocess.run(["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=False)
    lines = ["command,images,boxes,polygons,s,cpu_s,peak_gb,bar_s,commit,machine,python"]
    for name, (bar, run) in cases.items():
        figures = ",".join(f"{v:.2f}" for v in run())
        about = f"{commit.stdout.strip()},{platform.machine()} {os.cpu_count()} cores,{platform.python_version()}"
        lines.append(f"{name},{given.images},{given.boxes},{given.polygons},{figures},{bar},{about}")
        print(lines[-1], flush=True)
    RESULTS.write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
