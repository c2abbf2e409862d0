"""How long region candidates take (003, Algorithm 1): windows of 2048 x 1024 over images scaled by 1, 1.5 and 2.34.

    OMP_NUM_THREADS=1 python benchmarks/region_candidates.py

Three ways with the same result, which is checked: ours, all images of a scale in one call; a NumPy scan that counts the
boxes of every pixel origin by one matrix product per picked window; and a NumPy scan that paints every box's rectangle
of origins once, and takes it off when the box is covered. The scans are timed on the first images only and
scaled. Boxes have sizes and places like those of Cityscapes (generated). Every row is the run of least CPU time among
`--repeat`, on one core (the machine may be shared, so that wall time says less). `scale` = all is one call over the
images of all scales; there the scans are the sum over the scales.
"""

from __future__ import annotations

import argparse
import csv
import datetime
import os
import platform
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ.setdefault(name, "1")  # before NumPy is imported: one core

import numpy as np  # noqa: E402

from labelwise.types.disk import replacing  # noqa: E402
from labelwise.units._windows import windows  # noqa: E402

WIDTH, HEIGHT = WINDOW = 2048, 1024
SCALES = (1.0, 1.5, 2.34)
Pool = tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]


def make(images: int, per_image: int, scale: float, seed: int) -> Pool:
    """Boxes around the horizon, 4 to 700 pixels high, people and cars, cut to the image as a detector does."""
    rng, n = np.random.default_rng(seed), images * per_image
    x, y = rng.random(n) * WIDTH, rng.normal(480, 90, n)
    high = np.exp(rng.normal(3.8, 0.8, n)).clip(4, 700)
    wide = high * rng.choice([0.4, 1.5], n)
    boxes = np.stack([x - wide / 2, y - high / 2, x + wide / 2, y + high / 2], axis=1)
    boxes = np.clip(boxes, 0, [WIDTH, HEIGHT, WIDTH, HEIGHT]) * scale
    size = (int(WIDTH * scale), int(HEIGHT * scale))
    boxes = np.clip(boxes, 0, [*size, *size]).astype(np.float32)
    return np.arange(images + 1) * per_image, boxes, np.tile(size, (images, 1)), np.tile(WINDOW, (images, 1))


def first(pool: Pool, images: int) -> Pool:
    offsets, boxes, size, window = pool
    return offsets[: images + 1], boxes[: offsets[images]], size[:images], window[:images]


def join(pools: list[Pool]) -> Pool:
    starts = np.cumsum([0, *(len(p[1]) for p in pools)])
    offsets = [p[0][:-1] + start for p, start in zip(pools, starts, strict=False)]
    boxes, size, window = (np.concatenate([p[i] for p in pools]) for i in (1, 2, 3))
    return np.concatenate([*offsets, starts[-1:]]), boxes, size, window


def ours(pool: Pool) -> np.ndarray:
    found = windows(*pool)
    return np.concatenate([found.image[:, None], found.xyxy[:, :2]], axis=1).astype(np.int64)


def each_image(pool: Pool, scan: Callable[[np.ndarray, np.ndarray], list[tuple[int, int]]]) -> np.ndarray:
    offsets, boxes, size, window = pool
    out = []
    for i in range(len(size)):
        part = boxes[offsets[i] : offsets[i + 1]].astype(np.float64)
        out += [(i, *at) for at in scan(part, size[i] - window[i])]
    return np.array(out, np.int64).reshape(-1, 3)


def by_product(boxes: np.ndarray, last: np.ndarray) -> list[tuple[int, int]]:
    """Contained in x and contained in y are separate, so that all pixels are one product of 0/1 matrices."""
    contains = [
        (np.arange(last[a] + 1)[:, None] <= boxes[:, a])
        & (boxes[:, a + 2] <= np.arange(last[a] + 1)[:, None] + WINDOW[a])
        for a in (0, 1)
    ]
    columns, lines = (c.astype(np.float32) for c in contains)
    picked: list[tuple[int, int]] = []
    is_open = np.ones(len(boxes), bool)
    while True:
        depth = columns[:, is_open] @ lines[:, is_open].T
        at = np.unravel_index(depth.argmax(), depth.shape)
        if not depth[at]:
            return picked
        picked.append((int(at[0]), int(at[1])))
        is_open &= ~(contains[0][at[0]] & contains[1][at[1]])


def by_painting(boxes: np.ndarray, last: np.ndarray) -> list[tuple[int, int]]:
    low = np.maximum(np.ceil(boxes[:, 2:]) - WINDOW, 0).astype(int)
    high = np.minimum(np.floor(boxes[:, :2]), last).astype(int)
    depth = np.zeros(last + 1, np.int16)
    for (x, y), (x2, y2) in zip(low, high, strict=True):
        depth[x : x2 + 1, y : y2 + 1] += 1
    picked: list[tuple[int, int]] = []
    is_open = (low <= high).all(axis=1)
    while is_open.any():
        at = np.array(np.unravel_index(depth.argmax(), depth.shape))
        picked.append((int(at[0]), int(at[1])))
        new = is_open & ((low <= at) & (at <= high)).all(axis=1)
        for (x, y), (x2, y2) in zip(low[new], high[new], strict=True):
            depth[x : x2 + 1, y : y2 + 1] -= 1
        is_open &= ~new
    return picked


SCANS = (("NumPy scan, matrix product", by_product), ("NumPy scan, painted rectangles", by_painting))


def best(run: Callable[[], np.ndarray], repeat: int) -> tuple[float, float, np.ndarray]:
    """CPU seconds and wall seconds of the run of least CPU time, and the result."""
    times = []
    for _ in range(repeat):
        cpu, wall = time.process_time(), time.perf_counter()
        result = run()
        times.append((time.process_time() - cpu, time.perf_counter() - wall))
    return *min(times), result


def machine(seed: int) -> dict[str, str]:
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    cpu = next((line.split(":")[1].strip() for line in lines if "model name" in line), platform.processor())
    git = subprocess.run(["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=False)
    dirty = subprocess.run(["git", "status", "--porcelain", "src"], capture_output=True, text=True, check=False)
    return {
        "command": "python " + " ".join(["benchmarks/region_candidates.py", *sys.argv[1:]]),
        "commit": git.stdout.strip() + ("+changes" if dirty.stdout.strip() else ""),
        "date": datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%d"),
        "machine": f"{cpu}, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}",
        "versions": f"python {platform.python_version()}, numpy {np.__version__}",
        "seed": str(seed),
        "threads": "1",
    }


def compare(args: argparse.Namespace) -> list[dict[str, str | int]]:
    pools = {str(s): make(args.images, args.boxes, s, args.seed + i) for i, s in enumerate(SCALES)}
    pools["all"] = join(list(pools.values()))
    rows: list[dict[str, str | int]] = []
    total = {name: np.zeros(2) for name, _ in SCANS}
    for scale, pool in pools.items():
        images = len(pool[2])
        cpu, wall, found = best(lambda: ours(pool), args.repeat)  # noqa: B023
        timed = [("labelwise", cpu, wall, images)]
        for name, scan in SCANS:
            if scale != "all":
                part = first(pool, args.scanned)
                times = best(lambda: each_image(part, scan), args.repeat)  # noqa: B023
                np.testing.assert_array_equal(found[found[:, 0] < args.scanned], times[2])
                scaled = np.array(times[:2]) * images / args.scanned
                total[name] += scaled
            else:
                scaled = total[name]
            timed.append((name, *scaled, args.scanned))
        for name, cpu_seconds, wall_seconds, n in timed:
            rows.append(
                {"method": name, "scale": scale, "images": images, "boxes_per_image": args.boxes, "timed_images": n,
                 "windows_per_image": f"{len(found) / images:.2f}", "cpu_seconds": f"{cpu_seconds:.2f}",
                 "wall_seconds": f"{wall_seconds:.2f}", "cpu_times_ours": f"{cpu_seconds / cpu:.1f}"}
            )  # fmt: skip
            print(rows[-1])
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=3000)
    parser.add_argument("--boxes", type=int, default=100)
    parser.add_argument("--scanned", type=int, default=20, help="images per scale on which the scans are timed")
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/region_candidates.csv"))
    args = parser.parse_args()
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})
    rows = compare(args)
    columns = {**rows[0], **machine(args.seed)}
    with replacing(args.out) as partial, partial.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(columns))
        writer.writeheader()
        writer.writerows({**row, **machine(args.seed)} for row in rows)


if __name__ == "__main__":
    main()
