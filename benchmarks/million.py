"""A round over a pool of 1,000,000 images and 10,000,000 boxes: seconds and memory of its stages.

    python benchmarks/million.py FOLDER [--images 100000 1000000] [--cases box default image] [--out CSV]

The detections are made up, and written as the stage predict writes them (10 boxes an image, 10 classes, features of 16
numbers, of the image 32); the images themselves are grey. Each stage runs in a process of its own, on two cores at
most: `open` is the pool, its names in the ledger, and the first round (200 images); `score`, `select` and `ask` (500
questions) are the stages of the second. `peak_gb` is the process' high-water mark (VmHWM), of which `begin_gb` were
there before the stage began: Python, its libraries, the table of the pool. Cases: `box` asks about boxes that spread
(entropy, the best 2000, then k-center on their features), `default` about boxes by the defaults of `query.select`,
`image` about whole images that spread. Bars: 4 GB, and from 100,000 to 1,000,000 images 11 times the seconds.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import platform
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ.setdefault(name, "1")

import numpy as np  # noqa: E402

BOXES, CLASSES, FEATURES, OF_IMAGE, SHARD = 10, 10, 16, 32, 512
SIZE_PX = (640, 480)
FIRST, ASKED = 200, 500
RESULTS = Path(__file__).parent / "results" / "million.csv"
SPREAD = [{"name": "top", "keep": 4.0}, {"name": "kcenter"}]
CASES: dict[str, dict[str, Any]] = {
    "box": {"unit": "box", "score": "entropy", "select": SPREAD},
    "default": {"unit": "box", "score": "entropy"},
    "image": {"unit": "image", "score": "entropy", "select": SPREAD},
}
STAGES = ("open", "score", "select", "ask")


def boxes_of(first: int, n_images: int) -> np.ndarray:
    """Corners of the boxes of a shard, float32 [boxes, 4]."""
    rng = np.random.default_rng([1, first])
    low = rng.random((n_images * BOXES, 2), dtype=np.float32) * np.float32([540, 380])
    return np.concatenate([low, low + 8 + 80 * rng.random(low.shape, dtype=np.float32)], axis=1)


def write(folder: Path, n_images: int) -> None:
    """The detections."""
    from labelwise import files
    from labelwise.types import Detections, ImageOutputs
    from labelwise.types.disk import without_force

    with without_force(), files.DetectionWriter(folder, n_images, SHARD) as writer:
        for first in range(0, n_images, SHARD):
            here, rng = min(SHARD, n_images - first), np.random.default_rng([0, first])
            n = here * BOXES
            probs = rng.random((n, CLASSES), dtype=np.float32) ** 6 + np.float32(1e-6)
            probs /= probs.sum(axis=1, keepdims=True)
            scores = -np.sort(-rng.random((here, BOXES), dtype=np.float32), axis=1).reshape(-1)
            features = rng.standard_normal((n, FEATURES), dtype=np.float32)
            of_image = rng.standard_normal((here, OF_IMAGE), dtype=np.float32)
            said = ImageOutputs(of_image, np.zeros(here, np.float32), np.ones(here, np.bool_))
            offsets = np.arange(here + 1, dtype=np.int64) * BOXES
            writer.append(first, Detections(offsets, boxes_of(first, here), probs, scores, features, per_image=said))


def grey(_image: int) -> np.ndarray:
    return np.full((SIZE_PX[1], SIZE_PX[0], 3), 128, np.uint8)


def pool_of(n_images: int) -> Any:
    """A table of images with one object each, where the surest detection is."""
    from labelwise.types import Boxes, Pool

    first = [boxes_of(k, min(SHARD, n_images - k))[::BOXES].copy() for k in range(0, n_images, SHARD)]
    width, height = (np.full(n_images, side, np.int64) for side in SIZE_PX)
    truth = Boxes(np.arange(n_images + 1), np.concatenate(first), np.arange(n_images) % CLASSES)
    names = tuple(f"camera{k // 10_000:03}/{k:09}.jpg" for k in range(n_images))
    classes = tuple(f"class {k}" for k in range(CLASSES))
    return Pool(Path("/made-up"), classes, names, width, height, truth=truth, frames=grey)


def memory_gb(field: str) -> float:
    """A line of the process' own account: VmHWM, VmRSS."""
    lines = Path("/proc/self/status").read_text(encoding="utf-8").splitlines()
    return int(next(line for line in lines if line.startswith(field)).split()[1]) / 1e6


def stage(project: Path, case: str, n_images: int, name: str) -> dict[str, float]:
    """Runs a stage in this process; what it took."""
    import importlib

    from labelwise import config
    from labelwise.project.context import Context
    from labelwise.project.project_folder import Project
    from labelwise.project.round import Round

    query = {"threshold": 0.05, **CASES[case]}
    run = config.parse(
        {
            "data": {"root": "/made-up"},
            "model": {"name": "retinanet", "weights": "none"},
            "query": query,
            "labels": {"policy": "ignore"},
            "budget": {"start_images": FIRST, "unit": "queries", "per_round": [ASKED]},
        },
        "million",
    )
    of = {each: importlib.import_module(f"labelwise.stages.{each}") for each in ("select", "ask", "score")}
    opened = Project.create(project, "", None) if name == "open" else None
    if opened is None:
        from labelwise.ledger.ledger import Ledger

        opened = Project(project, Ledger.open(project / "ledger.sqlite"))
    context = Context(opened, run, pool_of(n_images), None, FIRST)
    begin, wall, cpu = memory_gb("VmRSS"), time.perf_counter(), time.process_time()
    if name == "open":
        context.enter()
        for each in ("select", "ask"):
            opened.round_folder(0).mkdir(parents=True, exist_ok=True)
            getattr(of[each], each)(Round(context, 0))
    else:
        getattr(of[name], name)(Round(context, 1))
    took = {"s": time.perf_counter() - wall, "cpu_s": time.process_time() - cpu}
    opened.close()
    return {**took, "begin_gb": begin, "peak_gb": memory_gb("VmHWM")}


def measure(folder: Path, case: str, n_images: int) -> list[dict[str, Any]]:
    """A row for every stage of a case."""
    project, predictions = folder / f"{case}-{n_images}", folder / f"predictions-{n_images}"
    shutil.rmtree(project, ignore_errors=True)
    rows = []
    for name in STAGES:
        if name == "score":
            (project / "rounds" / "001").mkdir(parents=True)
            (project / "rounds" / "001" / "predictions").symlink_to(predictions)
        command = [sys.executable, __file__, str(project), "--stage", name, case, str(n_images)]
        load = os.getloadavg()[0]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            raise SystemExit(done.stderr)
        took = {key: round(value, 3) for key, value in json.loads(done.stdout.splitlines()[-1]).items()}
        row = {
            "case": case,
            "images": n_images,
            "boxes": n_images * BOXES,
            "stage": name,
            **took,
            "load": round(load, 1),
        }
        print(row, flush=True)
        rows.append(row)
    return rows


def digest(project: Path) -> str:
    """What was scored, ranked and asked: two versions agree if and only if these are equal."""
    import hashlib

    from labelwise import files
    from labelwise.ledger.ledger import Ledger

    found = hashlib.sha256()
    for path in (project / "rounds/001/scores.parquet", project / "rounds/001/picks.parquet"):
        for name, column in sorted(files.read_table(path).items()):
            found.update(name.encode())
            found.update("\n".join(column).encode() if column.dtype == object else column.tobytes())
    ledger = Ledger.open(project / "ledger.sqlite")
    found.update(repr([(q.rank, q.image, q.box, q.label, q.score) for q in ledger.queries()]).encode())
    ledger.close()
    return found.hexdigest()[:16]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--images", type=int, nargs="+", default=[100_000, 1_000_000])
    parser.add_argument("--cases", nargs="+", default=list(CASES), choices=list(CASES))
    parser.add_argument("--out", type=Path, default=RESULTS)
    parser.add_argument("--digest", action="store_true", help="print a hash of what was ranked and asked, too")
    parser.add_argument("--stage", nargs=3, help=argparse.SUPPRESS)
    parser.add_argument("--write", type=int, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.write:
        write(given.folder, given.write)
        return
    if given.stage:
        name, case, n_images = given.stage
        print(json.dumps(stage(given.folder, case, int(n_images), name)))
        return
    given.folder.mkdir(parents=True, exist_ok=True)
    rows = []
    for n_images in given.images:
        predictions = given.folder / f"predictions-{n_images}"
        if not predictions.exists():
            subprocess.run([sys.executable, __file__, str(predictions), "--write", str(n_images)], check=True)
        for case in given.cases:
            rows += measure(given.folder, case, n_images)
            if given.digest:
                print(case, n_images, digest(given.folder / f"{case}-{n_images}"), flush=True)
    save(rows, given.out)


def save(rows: list[dict[str, Any]], path: Path) -> None:
    """The table, with growth against the smallest pool."""
    least = min(row["images"] for row in rows)
    small = {(row["case"], row["stage"]): row for row in rows if row["images"] == least}
    command = ["git", "describe", "--always", "--dirty"]
    commit = subprocess.run(command, capture_output=True, text=True, check=False, cwd=Path(__file__).parent).stdout
    cpu = next((x for x in Path("/proc/cpuinfo").read_text().splitlines() if "model name" in x), ": unknown")
    about = {
        "machine": f"{os.cpu_count()} x {cpu.split(':')[1].strip()}",
        "commit": commit.strip(),
        "python": platform.python_version(),
        "numpy": np.__version__,
        "seed": 0,
        "command": " ".join(["python", *sys.argv]),
    }
    for row in rows:
        one = small[row["case"], row["stage"]]
        row |= {f"{k}_growth": round(row[k] / one[k], 2) for k in ("s", "cpu_s", "peak_gb")} | about
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)


if __name__ == "__main__":
    main()
