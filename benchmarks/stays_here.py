"""What a round does in one process though `--engine ray` is set: CPU seconds for a million images.

    OMP_NUM_THREADS=1 python benchmarks/stays_here.py [--images 100000]

A head and a frozen detector predict drawn features (384 columns; 10 classes; 30 objects an image) and write the files,
as the stage predict does. Beside them, of a few drawn images of 320 px, what goes over Ray: the body that computes such
features. Of scores see benchmarks/million.py. Writes benchmarks/results/stays_here.csv. Takes half a minute.
"""

from __future__ import annotations

import argparse
import csv
import os
import platform
import subprocess
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
import torch

from labelwise import catalog, files
from labelwise.config.features import Features
from labelwise.predict.classify import classify
from labelwise.project.kept_features import FrozenFeatures
from labelwise.project.objects import FrozenObjects
from labelwise.project.whole_images import WholeImages
from labelwise.stages import frozen_detector
from labelwise.stages.image_features import FrozenTable

RESULTS, WIDTH, CLASSES, OBJECTS, LOOKED_AT = Path(__file__).parent / "results" / "stays_here.csv", 384, 10, 30, 96


def head(folder: Path, n: int) -> Callable[[], int]:
    """A classifier that is a linear layer over kept features."""
    rng = np.random.default_rng(0)
    features = FrozenFeatures(rng.standard_normal((n, 1, WIDTH), np.float32), 0, np.arange(n), {})
    model = catalog.find("models", "head").call({"n_classes": CLASSES, "width": WIDTH}, {}).eval()

    def run() -> int:
        with files.DetectionWriter(folder, n, 512) as writer:
            classify(model, FrozenTable(features), np.arange(n), writer, size_px=np.full((n, 2), 320), shard_images=512)
        return n

    return run


def detector(folder: Path, n: int) -> Callable[[], int]:
    """A frozen detector over a tenth of the images, as its kept objects take thirty times the memory."""
    n, rng = n // 10, np.random.default_rng(0)
    rows, boxes = n * OBJECTS, np.array([10, 10, 90, 90], np.float32)
    features, sure = rng.standard_normal((rows, WIDTH), np.float32), rng.random(rows, np.float32)
    objects = FrozenObjects(np.arange(n + 1) * OBJECTS, np.tile(boxes, (rows, 1)), sure, features, {})
    model = catalog.find("models", "frozen").call({"n_classes": CLASSES, "width": WIDTH}, {}).eval()
    model.solve(features[:2000], rng.integers(0, CLASSES + 1, 2000), np.ones(2000))

    def run() -> int:
        found = frozen_detector.detect(model, objects, np.full((n, 2), 320), 0.05)
        with files.DetectionWriter(folder, n, 512) as writer:
            writer.append(0, found)
        return n

    return run


def body(_folder: Path, _n: int) -> Callable[[], int]:
    """Frozen features of images, as they are computed once."""
    looker, rng = WholeImages(Features(body="efficientnet_lite0"), True, "cpu"), np.random.default_rng(0)
    looker.begin()
    images = rng.integers(0, 255, (LOOKED_AT, 320, 320, 3), dtype=np.uint8)

    def run() -> int:
        return len(looker.run([looker.read(one, 0) for one in images], lambda _done: None))

    return run


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=100_000)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--out", type=Path, default=RESULTS)
    given = parser.parse_args()
    torch.set_num_threads(1)
    asked = ["git", "describe", "--always", "--dirty"]
    commit = subprocess.run(asked, capture_output=True, text=True, check=False, cwd=Path(__file__).parent).stdout
    cpu = next((x for x in Path("/proc/cpuinfo").read_text().splitlines() if "model name" in x), ": unknown")
    about = {"machine": f"{os.cpu_count()} x {cpu.split(':')[1].strip()}", "commit": commit.strip(), "seed": 0}
    about |= {"python": platform.python_version(), "torch": torch.__version__}
    about["command"] = f"python benchmarks/stays_here.py --images {given.images} --repeats {given.repeats}"
    rows = list[dict[str, Any]]()
    for name, make in (("head", head), ("frozen detector", detector), ("body of the features", body)):
        with tempfile.TemporaryDirectory() as place:
            run = make(Path(place) / "predictions", given.images)
            for repeat in range(given.repeats):
                began, wall, load = sum(os.times()[:2]), time.perf_counter(), os.getloadavg()[0]
                n = run()
                spent, took = sum(os.times()[:2]) - began, time.perf_counter() - wall
                row = {"what": name, "images": n, "repeat": repeat, "s": round(took, 3), "cpu_s": round(spent, 3)}
                rows.append(row | {"cpu_s_per_million": round(1e6 * spent / n, 1), "load": round(load, 1)} | about)
                print(rows[-1], flush=True)
    with given.out.open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)


if __name__ == "__main__":
    main()
