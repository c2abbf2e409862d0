"""All scores over a pool of 5,000,000 boxes, 20 classes, 4 views, streamed from Parquet: seconds and peak memory.

    python benchmarks/score_pool.py [--boxes 5000000] [--threads 2]

The pool is written once, shard by shard, into a temporary folder (about 3 GB; the same numbers for the same seed). Then
it is streamed: every shard is read and given to every method of `score/`, two shards at a time. Writes
benchmarks/results/score_pool.csv. Bars: 60 s and 2 GB resident on 2 cores.
"""

from __future__ import annotations

import argparse
import csv
import os
import platform
import resource
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ.setdefault(name, "1")  # before NumPy is imported: the threads are ours

import numpy as np  # noqa: E402
import pyarrow as pa  # noqa: E402

from labelwise import catalog  # noqa: E402
from labelwise.files.shards import DetectionWriter, stream_detections  # noqa: E402
from labelwise.types import Detections, ImageOutputs, Views  # noqa: E402

CLASSES, VIEWS, FEATURES, PER_IMAGE, SHARD = 20, 4, 16, 100, 500
RESULTS = Path(__file__).parent / "results" / "score_pool.csv"


def distributions(rng: np.random.Generator, *shape: int) -> np.ndarray:
    raw = rng.random(shape, dtype=np.float32) ** 6 + np.float32(1e-6)
    raw /= raw.sum(-1, keepdims=True)
    return raw


def write_pool(folder: Path, boxes: int) -> None:
    images = boxes // PER_IMAGE
    with DetectionWriter(folder, images, SHARD) as writer:
        for first in range(0, images, SHARD):
            rng = np.random.default_rng([0, first])
            here = min(SHARD, images - first)
            n = here * PER_IMAGE
            low = rng.random((n, 2), dtype=np.float32) * 400
            iou = rng.random((VIEWS, n), dtype=np.float32) * (rng.random((VIEWS, n)) > 0.1)
            views = Views(
                tuple(f"v{k}" for k in range(VIEWS)),
                distributions(rng, VIEWS, n, CLASSES),
                rng.random((VIEWS, n), dtype=np.float32),
                iou.astype(np.float32),
            )
            said = ImageOutputs(
                np.zeros((here, 0), np.float32), rng.random(here, dtype=np.float32), np.ones(here, np.bool_)
            )
            found = Detections(
                np.arange(here + 1, dtype=np.int64) * PER_IMAGE,
                np.concatenate([low, low + 1 + 100 * rng.random((n, 2), dtype=np.float32)], axis=1),
                distributions(rng, n, CLASSES),
                rng.random(n, dtype=np.float32),
                rng.random((n, FEATURES), dtype=np.float32),
                views,
                rng.random(n, dtype=np.float32),
                said,
            )
            writer.append(first, found)


def score_shard(found: Detections, seconds: dict[str, float]) -> int:
    assert found.views is not None and found.per_image is not None
    menu = {
        "n": len(found),
        "rng": np.random.default_rng(0),
        "counts": np.arange(CLASSES),
        "offsets": found.offsets,
        "view_probs": found.views.probs,
        "view_scores": found.views.scores,
        "view_iou": found.views.iou,
        "predicted_loss": found.per_image.predicted_loss,
        "labelled_probability": found.per_image.predicted_loss,
    }
    menu |= {k: getattr(found, k) for k in ("probs", "scores", "labels", "features", "tightness")}
    total = 0
    for name in catalog.names("score"):
        method = catalog.find("score", name)
        if set(method.inputs) - set(menu):
            continue  # of classifiers: it looks at no box
        began = time.thread_time()
        value = method.call(menu, {})
        seconds[name] += time.thread_time() - began
        assert len(value) == (found.n_images if of_images("score", name) else len(found))
        assert np.isfinite(value).all()
        total += len(value)
    return total


def measure(folder: Path, threads: int) -> dict[str, object]:
    seconds: dict[str, float] = defaultdict(float)
    wall, cpu = time.perf_counter(), time.process_time()
    reading = 0.0
    with ThreadPoolExecutor(threads) as pool:
        pending = []
        shards = stream_detections(folder)
        values = 0
        while True:
            began = time.perf_counter()
            shard = next(shards, None)
            reading += time.perf_counter() - began
            if shard is None:
                break
            pending.append(pool.submit(score_shard, shard[1], seconds))
            if len(pending) >= threads:
                values += pending.pop(0).result()
        values += sum(done.result() for done in pending)
    return {
        "wall_s": round(time.perf_counter() - wall, 1),
        "cpu_s": round(time.process_time() - cpu, 1),
        "waiting_for_reads_s": round(reading, 1),
        "peak_resident_gb": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6, 2),
        "scores": values,
        "methods": len(seconds),
        "cpu_s_per_method": " ".join(f"{k}:{v:.1f}" for k, v in sorted(seconds.items(), key=lambda x: -x[1])),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--boxes", type=int, default=5_000_000)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--folder", type=Path, help="keep the pool here; reused if it is there")
    parser.add_argument("--write", type=Path, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.write:
        write_pool(given.write, given.boxes)
        return
    pa.set_cpu_count(given.threads)
    with tempfile.TemporaryDirectory() as temporary:
        folder = (given.folder or Path(temporary)) / "pool"
        if not folder.exists():
            # in a process of its own, so that its memory does not count
            made = [sys.executable, str(Path(__file__)), "--boxes", str(given.boxes), "--write", str(folder)]
            subprocess.run(made, check=True)
        row: dict[str, object] = {"boxes": given.boxes, "classes": CLASSES, "views": VIEWS, "features": FEATURES}
        row |= {"threads": given.threads, **measure(folder, given.threads)}
        row["pool_gb"] = round(sum(p.stat().st_size for p in folder.iterdir()) / 1e9, 2)
    commit = subprocess.run(
        ["git", "describe", "--always", "--dirty"],
        capture_output=True,
        text=True,
        check=True,
        cwd=Path(__file__).parent,
    ).stdout.strip()
    cpu = next((x for x in Path("/proc/cpuinfo").read_text().splitlines() if "model name" in x), ": unknown")
    row |= {"load": os.getloadavg()[0], "machine": f"{os.cpu_count()} x {cpu.split(':')[1].strip()}", "commit": commit}
    row |= {"python": platform.python_version(), "numpy": np.__version__, "pyarrow": pa.__version__, "seed": 0}
    row["command"] = "python benchmarks/score_pool.py"
    with RESULTS.open("w", newline="") as file:
        writer = csv.DictWriter(file, list(row))
        writer.writeheader()
        writer.writerow(row)
    for key, value in row.items():
        print(f"{key}: {value}")


if __name__ == "__main__":
    main()
