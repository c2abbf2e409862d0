"""Throughput of `--engine ray` with 1 and 2 actors on 2 cores, beside this process: images a second.

    OMP_NUM_THREADS=1 python benchmarks/ray_actors.py [--images 3000] [--repeats 3]

A RetinaNet of random weights predicts drawn scenes at 320 px with one view more (a flip), as the stage predict does:
`here` in this process with one thread, then by Ray with clusters of 1 and of 2 cores, one thread an actor. `start_s` is
what Ray takes until it is there, `s` the pass with its actors' start. The files are compared, byte for byte. Writes
benchmarks/results/ray_actors.csv: a row for every pass. Takes about 8 minutes on quiet cores.
"""

from __future__ import annotations

import argparse
import csv
import os
import platform
import shutil
import subprocess
import tempfile
import time
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
import torch

from labelwise import files
from labelwise.data import find
from labelwise.data.image_reader import Images
from labelwise.generated import scenes
from labelwise.models import retinanet
from labelwise.predict import detect
from labelwise.stages import ray_predictions

RESULTS, SHARD, SIZE_PX = Path(__file__).parent / "results" / "ray_actors.csv", 25, 320
SETTINGS: dict[str, Any] = {
    "views": [("flip", {})],
    "seed": 0,
    "round_number": 1,
    "batch_size": 8,
    "min_score": 0.0,
    "keep": [],
}


def measure(images: Images, folder: Path, actors: int) -> dict[str, float]:
    """Seconds of a pass; 0 actors: in this process."""
    torch.manual_seed(0)
    model = retinanet.build(3, weights="none").eval()
    n, started = len(images), time.perf_counter()
    wanted = np.arange(n)
    if not actors:
        with files.DetectionWriter(folder, n, SHARD) as writer:
            detect.predict(model, images, wanted, writer, n_images=n, shard_images=SHARD, **SETTINGS)
        return {"start_s": 0.0, "s": time.perf_counter() - started}
    import ray

    ray.init(num_cpus=actors, include_dashboard=False, log_to_driver=False, logging_level="ERROR")
    start_s = time.perf_counter() - started
    try:
        one = ray_predictions.DetectorPass((model,), images.pool, SIZE_PX, wanted, SETTINGS)
        ray_predictions.predict(one, folder, shard_images=SHARD, progress=lambda _n: None)
    finally:
        ray.shutdown()
    return {"start_s": start_s, "s": time.perf_counter() - started - start_s}


def content(folder: Path) -> list[bytes]:
    return [path.read_bytes() for path in sorted(folder.iterdir())]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=3000)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--out", type=Path, default=RESULTS)
    given = parser.parse_args()
    torch.set_num_threads(1)
    command = ["git", "describe", "--always", "--dirty"]
    commit = subprocess.run(command, capture_output=True, text=True, check=False, cwd=Path(__file__).parent).stdout
    cpu = next((x for x in Path("/proc/cpuinfo").read_text().splitlines() if "model name" in x), ": unknown")
    about = {"machine": f"{os.cpu_count()} x {cpu.split(':')[1].strip()}", "commit": commit.strip(), "seed": 0}
    about |= {"python": platform.python_version(), "torch": torch.__version__}
    about["command"] = f"python benchmarks/ray_actors.py --images {given.images} --repeats {given.repeats}"
    rows = []
    with tempfile.TemporaryDirectory() as place:
        home = Path(place)
        scenes.write(home / "data", train=given.images, test=1, size_px=SIZE_PX)
        pool, here = find.read(home / "data", "train"), home / "here"
        for repeat in range(given.repeats):
            for actors in (0, 1, 2):
                folder, load = here if not actors else home / "ray", os.getloadavg()[0]
                shutil.rmtree(folder, ignore_errors=True)
                took = measure(Images(pool, SIZE_PX, cache_bytes=0), folder, actors)
                same = content(folder) == content(here)
                row = {"engine": "ray" if actors else "here", "actors": actors, "repeat": repeat, "images": len(pool)}
                row |= {k: round(v, 2) for k, v in took.items()} | {"images_per_s": round(len(pool) / took["s"], 2)}
                rows.append(row | {"same_bytes": same, "load": round(load, 1)} | about)
                print(rows[-1], flush=True)
    with given.out.open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)


if __name__ == "__main__":
    main()
