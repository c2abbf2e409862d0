"""How long scoring takes: consistency over views (000, Eq. 2-3), all boxes of a pool at once, on one core.

    OMP_NUM_THREADS=1 python benchmarks/score_consistency.py

Four ways over the same arrays: ours; a loop over images that is vectorised within an image; a loop over images, boxes
and views with a lean divergence; and the same with `scipy.stats.entropy`, as CALD's published code has it. The loops
are timed on the first images only and scaled by the number of boxes. Every row is the run of least CPU time among
`--repeat` (the machine may be shared, so that wall time says less); all must agree within 1e-5.
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
import tracemalloc
from collections.abc import Callable
from pathlib import Path

for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ.setdefault(name, "1")  # before NumPy is imported: one core

import numpy as np  # noqa: E402
import scipy  # noqa: E402
from scipy.special import rel_entr  # noqa: E402
from scipy.stats import entropy  # noqa: E402

from labelwise.score import consistency  # noqa: E402
from labelwise.types.disk import replacing  # noqa: E402

BETA = 1.3
Arrays = tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, np.ndarray]


def make(n: int, views: int, classes: int) -> Arrays:
    """Peaked distributions as a detector gives them; one counterpart in ten is missing."""
    rng = np.random.default_rng(0)

    def distributions(*shape: int) -> np.ndarray:
        raw = rng.random(shape, dtype=np.float32) ** 6
        raw /= raw.sum(-1, keepdims=True)
        return raw

    iou = rng.random((views, n), dtype=np.float32)
    iou[rng.random((views, n)) < 0.1] = 0
    scores, view_scores = rng.random(n, dtype=np.float32), rng.random((views, n), dtype=np.float32)
    return distributions(n, classes), scores, distributions(views, n, classes), view_scores, iou


def first(arrays: Arrays, start: int, stop: int) -> Arrays:
    probs, scores, view_probs, view_scores, iou = arrays
    return (
        probs[start:stop],
        scores[start:stop],
        view_probs[:, start:stop],
        view_scores[:, start:stop],
        iou[:, start:stop],
    )


def lean(p: np.ndarray, m: np.ndarray) -> float:
    return float(rel_entr(p, m).sum())


def loop_over_boxes(arrays: Arrays, per_image: int, divergence: Callable[..., float] = lean) -> np.ndarray:
    probs, scores, view_probs, view_scores, iou = arrays
    out = []
    for start in range(0, len(probs), per_image):
        for i in range(start, min(start + per_image, len(probs))):
            terms = []
            for v in range(len(iou)):
                js, seen = np.log(2), 0.0
                if iou[v, i] > 0:
                    m = 0.5 * (probs[i] + view_probs[v, i])
                    js, seen = 0.5 * (divergence(probs[i], m) + divergence(view_probs[v, i], m)), view_scores[v, i]
                terms.append(abs(0.5 * (scores[i] + seen) * (1 - js) + iou[v, i] - BETA))
            out.append(max(BETA, 2 - BETA) - np.mean(terms))
    return np.array(out)


def loop_over_images(arrays: Arrays, per_image: int) -> np.ndarray:
    n = len(arrays[0])
    parts = []
    for start in range(0, n, per_image):
        p, s, q, t, iou = first(arrays, start, min(start + per_image, n))
        m = 0.5 * (p + q)
        with np.errstate(divide="ignore", invalid="ignore"):
            kl = [np.where(x > 0, x * np.log(x / m), 0).sum(-1) for x in (p, q)]
        js = np.where(iou > 0, 0.5 * (kl[0] + kl[1]), np.log(2))
        inner = 0.5 * (s + np.where(iou > 0, t, 0)) * (1 - js) + iou
        parts.append(max(BETA, 2 - BETA) - np.abs(inner - BETA).mean(axis=0))
    return np.concatenate(parts)


def like_cald(arrays: Arrays, per_image: int) -> np.ndarray:
    return loop_over_boxes(arrays, per_image, entropy)


def best(run: Callable[[], np.ndarray], repeat: int) -> tuple[float, float, np.ndarray]:
    """CPU seconds and wall seconds of the run of least CPU time, and the result."""
    times = []
    for _ in range(repeat):
        cpu, wall = time.process_time(), time.perf_counter()
        result = run()
        times.append((time.process_time() - cpu, time.perf_counter() - wall))
    return *min(times), result


def peak_mib(run: Callable[[], np.ndarray]) -> float:
    tracemalloc.start()
    run()
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    return peak / 2**20


LOOPS = (
    ("loop over images, vectorised inside", loop_over_images, 100_000),
    ("loop over images and boxes", loop_over_boxes, 10_000),
    ("loop over images and boxes, scipy.stats.entropy", like_cald, 1_000),
)


def machine() -> dict[str, str]:
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    cpu = next((line.split(":")[1].strip() for line in lines if "model name" in line), platform.processor())
    git = subprocess.run(["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=False)
    dirty = subprocess.run(["git", "status", "--porcelain", "src"], capture_output=True, text=True, check=False)
    return {
        "command": "python " + " ".join(["benchmarks/score_consistency.py", *sys.argv[1:]]),
        "commit": git.stdout.strip() + ("+changes" if dirty.stdout.strip() else ""),
        "date": datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%d"),
        "machine": f"{cpu}, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}",
        "versions": f"python {platform.python_version()}, numpy {np.__version__}, scipy {scipy.__version__}",
        "threads": "1",
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--boxes", type=int, default=1_000_000)
    parser.add_argument("--views", type=int, default=4)
    parser.add_argument("--classes", type=int, nargs="+", default=[10, 20])
    parser.add_argument("--per-image", type=int, default=20)
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/score_consistency.csv"))
    args = parser.parse_args()
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})
    rows = []
    for classes in args.classes:
        arrays = make(args.boxes, args.views, classes)
        ours, wall, u = best(lambda: consistency.score(*arrays), args.repeat)  # noqa: B023
        timed = [("labelwise", ours, wall, args.boxes)]
        for name, loop, boxes in LOOPS:
            n = min(boxes, args.boxes)
            cpu, wall, slow = best(lambda: loop(first(arrays, 0, n), args.per_image), args.repeat)  # noqa: B023
            np.testing.assert_allclose(u[:n], slow, rtol=0, atol=1e-5)
            timed.append((name, cpu * args.boxes / n, wall * args.boxes / n, n))
        memory = peak_mib(lambda: consistency.score(*arrays))  # noqa: B023
        for name, cpu, wall, n in timed:
            rows.append(
                {"method": name, "boxes": args.boxes, "views": args.views, "classes": classes, "timed_boxes": n,
                 "cpu_seconds": f"{cpu:.2f}", "wall_seconds": f"{wall:.2f}", "cpu_times_ours": f"{cpu / ours:.1f}",
                 "peak_extra_mib": f"{memory:.0f}" if name == "labelwise" else ""}
            )  # fmt: skip
            print(rows[-1])
    columns = {**rows[0], **machine()}
    with replacing(args.out) as partial, partial.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(columns))
        writer.writeheader()
        writer.writerows({**row, **machine()} for row in rows)


if __name__ == "__main__":
    main()
