"""How long k-center greedy takes beside its peers, and on a million rows its memory and the bandwidth floor.

    python benchmarks/select_kcenter.py --peers PEERS_VENV/bin/python

Every method runs in a process of its own on the same generated features (normal, float32): first all methods on
20,000 x 256 with 100 labelled rows and 500 picks, then ours on 1,000,000 x 128 with 1,000 picks. The peers need an
environment with `lightly-mundig` and `scikit-activeml`; without `--peers` they are left out. A row is the run of least
wall time: among `--repeat` for ours on the first case, 2 for the others, 1 for the float64 loop.

`same_picks` counts the picks that equal ours, in order; ours and the plain loops must agree in all. `peak_mib` is the
resident memory that the call added to a process that held the features; `peak_of_features` is the sum of the two over
the features' size. `floor_seconds` is the time to read all features once per pick, which a loop that looks at every
row for every pick cannot beat.
"""

from __future__ import annotations

import argparse
import csv
import datetime
import importlib.metadata
import json
import os
import platform
import resource
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

SEED = 0
Arrays = tuple[np.ndarray, np.ndarray]


def make(n: int, columns: int, labelled: int) -> Arrays:
    rng = np.random.default_rng(SEED)
    return tuple(rng.standard_normal((m, columns), dtype=np.float32) for m in (n, labelled))  # type: ignore[return-value]


def labelwise(features: np.ndarray, labelled: np.ndarray, picks: int) -> list[int]:
    from labelwise.select import kcenter

    return kcenter.select(features, labelled, picks).tolist()  # type: ignore[union-attr]


def plain_gemv(features: np.ndarray, labelled: np.ndarray, picks: int) -> list[int]:
    """One float32 matrix-vector product per centre over all rows."""
    norm, rows = np.einsum("nd,nd->n", features, features), []
    nearest = np.full(len(features), np.inf, np.float32)
    for centre in labelled:
        np.minimum(nearest, norm - 2 * (features @ centre) + centre @ centre, out=nearest)
    for _ in range(picks):
        row = int(nearest.argmax())
        rows.append(row)
        np.minimum(nearest, norm - 2 * (features @ features[row]) + norm[row], out=nearest)
        nearest[row] = -1
    return rows


def plain_formula(features: np.ndarray, labelled: np.ndarray, picks: int) -> list[int]:
    """The definition of the picks: differences, squares and sums in float64."""
    nearest, rows = np.full(len(features), np.inf), []
    wide = features.astype(np.float64)
    for centre in labelled.astype(np.float64):
        np.minimum(nearest, ((wide - centre) ** 2).sum(axis=1), out=nearest)
    for _ in range(picks):
        row = int(nearest.argmax())
        rows.append(row)
        np.minimum(nearest, ((wide - wide[row]) ** 2).sum(axis=1), out=nearest)
        nearest[row] = -1
    return rows


def mundig(features: np.ndarray, labelled: np.ndarray, picks: int) -> list[int]:
    import lightly_mundig

    both = np.concatenate([labelled, features])
    selection = lightly_mundig.Selection()
    selection.add_diversifying_strategy(both, 1.0)
    m = len(labelled)
    chosen = selection.run_selection(list(range(m)), len(both), m + picks)
    return [row - m for row in chosen if row >= m]


def scikit_activeml(features: np.ndarray, labelled: np.ndarray, picks: int) -> list[int]:
    from skactiveml.pool import CoreSet

    both = np.concatenate([labelled, features])
    known = np.full(len(both), np.nan)
    known[: len(labelled)] = 0
    return [int(row) - len(labelled) for row in CoreSet(random_state=0).query(both, known, batch_size=picks)]


OURS: dict[str, Callable[..., list[int]]] = {
    "labelwise": labelwise,
    "plain loop, one float32 gemv per pick": plain_gemv,
    "plain loop, the formula in float64": plain_formula,
}
PEERS: dict[str, tuple[Callable[..., list[int]], str]] = {
    "lightly-mundig": (mundig, "lightly-mundig"),
    "scikit-activeml CoreSet": (scikit_activeml, "scikit-activeml"),
}


def peak() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**10  # KiB on Linux


def one(name: str, n: int, columns: int, labelled: int, picks: int, repeat: int) -> None:
    """The child process: times one method and prints what it saw."""
    function = OURS[name] if name in OURS else PEERS[name][0]
    small = make(300, columns, 4)
    function(*small, 5)  # imports and the threads' start
    arrays = make(n, columns, labelled)
    before, times = peak(), []
    for _ in range(repeat):
        wall, cpu = time.perf_counter(), time.process_time()
        rows = function(*arrays, picks)
        times.append((time.perf_counter() - wall, time.process_time() - cpu))
    after, flat = peak(), arrays[0].reshape(-1)
    passes = []
    for _ in range(5):
        wall = time.perf_counter()
        float(flat @ flat)
        passes.append(time.perf_counter() - wall)
    version = importlib.metadata.version(PEERS[name][1]) if name in PEERS else ""
    wall, cpu = min(times)
    print(json.dumps({"wall": wall, "cpu": cpu, "all": [t[0] for t in times], "before": before, "after": after,
                      "pass": min(passes), "version": version, "rows": rows}))  # fmt: skip


def run(python: str, name: str, shape: tuple[int, ...], repeat: int, threads: int) -> dict:
    limits = {f"{library}_NUM_THREADS": str(threads) for library in ("OMP", "OPENBLAS", "MKL", "RAYON")}
    command = [python, __file__, "--one", name, "--shape", *map(str, shape), "--repeat", str(repeat)]
    done = subprocess.run(command, env={**os.environ, **limits}, capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(f"{name} failed:\n{done.stderr}")
    return json.loads(done.stdout.splitlines()[-1])


def machine(versions: list[str], threads: int) -> dict[str, str]:
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    cpu = next((line.split(":")[1].strip() for line in lines if "model name" in line), platform.processor())
    git = subprocess.run(["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=False)
    dirty = subprocess.run(["git", "status", "--porcelain", "src"], capture_output=True, text=True, check=False)
    return {
        "command": "python benchmarks/select_kcenter.py --peers PYTHON",
        "commit": git.stdout.strip() + ("+changes" if dirty.stdout.strip() else ""),
        "date": datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%d"),
        "machine": f"{cpu}, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}",
        "versions": ", ".join([f"python {platform.python_version()}, numpy {np.__version__}", *versions]),
        "seed": str(SEED),
        "threads": str(threads),
    }


def line(name: str, shape: tuple[int, ...], seen: dict, ours: dict) -> dict[str, object]:
    n, columns, labelled, picks = shape
    size = 4 * columns * (n + labelled) / 2**20
    added = seen["after"] - seen["before"]
    same = sum(a == b for a, b in zip(seen["rows"], ours["rows"], strict=False))
    if name in OURS and same != picks:
        sys.exit(f"{name}: only {same} of {picks} picks are the same as ours")
    return {
        "method": name, "rows": n, "columns": columns, "labelled": labelled, "picks": picks,
        "wall_seconds": f"{seen['wall']:.3f}", "cpu_seconds": f"{seen['cpu']:.3f}",
        "wall_times_ours": f"{seen['wall'] / ours['wall']:.1f}", "same_picks": same,
        "same_set": len(set(seen["rows"]) & set(ours["rows"])), "peak_mib": f"{added:.0f}",
        "peak_of_features": f"{(added + size) / size:.2f}",
        "pass_seconds": f"{ours['pass']:.4f}", "floor_seconds": f"{ours['pass'] * picks:.2f}",
    }  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--peers", help="the Python of an environment with the peers")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--repeat", type=int, default=5)
    parser.add_argument("--shape", type=int, nargs=4, help="rows, columns, labelled, picks: this case only")
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/select_kcenter.csv"))
    parser.add_argument("--one", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.one:
        return one(args.one, *args.shape, args.repeat)
    small, large = tuple(args.shape or (20_000, 256, 100, 500)), (1_000_000, 128, 100, 1_000)
    cases = [(name, small, sys.executable) for name in OURS]
    cases += [(name, small, args.peers) for name in PEERS if args.peers]
    cases += [("labelwise", large, sys.executable)] if not args.shape else []
    rows, versions, ours = [], [], {}
    for name, shape, python in cases:
        repeat = args.repeat if name == "labelwise" and shape == small else min(args.repeat, 2)
        seen = run(python, name, shape, repeat if name != "plain loop, the formula in float64" else 1, args.threads)
        ours = seen if name == "labelwise" else ours
        versions += [f"{PEERS[name][1]} {seen['version']}"] if name in PEERS else []
        rows.append(line(name, shape, seen, ours))
        print(rows[-1], "all:", [round(t, 3) for t in seen["all"]], flush=True)
    about = machine(versions, args.threads)
    from labelwise.types.disk import replacing

    with replacing(args.out) as partial, partial.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, [*rows[0], *about])
        writer.writeheader()
        writer.writerows({**row, **about} for row in rows)
    return None


if __name__ == "__main__":
    main()
