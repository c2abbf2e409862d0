"""How long MaxHerding takes beside a plain loop, on all rows as the reference, and on a million rows.

    python benchmarks/select_herding.py

Every case runs in a process of its own on generated features: `noise` (normal, the hardest: all gains are alike) and
`clusters` (100 of them, their centres as far apart as their spread). `reference` is how many rows stand for the pool.
The plain loop computes all gains anew for every pick, from a kernel in float64 that is held whole. A row is the run of
least wall time among `--repeat` (1 for the plain loop, all rows as the reference, and the million).

`same_picks` counts the picks that equal the plain loop's, in order; they must agree in all. `peak_mib` is the resident
memory that the call added to a process that held the features; `peak_of_features` is that over the features' size.
`floor_seconds` is the time to read all features once per pick, which a loop that looks at every row for every pick
cannot beat; `product_seconds` that of one matrix product of the pool and the reference, which every exact greedy
algorithm needs once for the first gains.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
from select_kcenter import machine, make, peak

Case = tuple[str, str, int, int, int, int, int]
"""method, data, rows, columns, labelled, picks, reference (0: the rule)"""

SMALL = (20_000, 256)
CASES: list[Case] = [
    ("labelwise", "noise", *SMALL, 100, 500, 0),
    ("plain loop", "noise", *SMALL, 100, 500, 0),
    ("labelwise", "noise", *SMALL, 0, 500, 0),
    ("labelwise", "clusters", *SMALL, 100, 500, 0),
    ("plain loop", "clusters", *SMALL, 100, 500, 0),
    ("labelwise", "clusters", *SMALL, 0, 500, 0),
    ("labelwise", "noise", *SMALL, 100, 500, 20_000),
    ("labelwise", "clusters", *SMALL, 100, 500, 20_000),
    ("labelwise", "noise", 1_000_000, 128, 100, 1_000, 0),
    ("labelwise", "clusters", 1_000_000, 128, 100, 1_000, 0),
]


def data(kind: str, n: int, columns: int, labelled: int) -> tuple[np.ndarray, np.ndarray]:
    x, known = make(n, columns, labelled)
    if kind == "clusters":
        rng = np.random.default_rng(1)
        centres = rng.standard_normal((100, columns), dtype=np.float32)
        for rows in (x, known):
            for part in range(0, len(rows), 4096):
                rows[part : part + 4096] += centres[rng.integers(0, 100, len(rows[part : part + 4096]))]
    return x, known


def labelwise(x: np.ndarray, known: np.ndarray, picks: int, reference: int) -> list[int]:
    from labelwise.select import herding

    return herding.select(np.ones(len(x)), x, known, picks, reference=reference or None).tolist()  # type: ignore[union-attr]


def plain(x: np.ndarray, known: np.ndarray, picks: int, reference: int) -> list[int]:
    """The definition, but for the distances, which are products in float64."""
    m = reference or min(len(x), max(2000, 40_000_000 // len(x)))
    wide = x / np.sqrt((x.astype(np.float64) ** 2).sum(axis=1))[:, None].astype(np.float32)
    own = known / np.sqrt((known.astype(np.float64) ** 2).sum(axis=1))[:, None].astype(np.float32)
    some = wide[np.arange(m) * len(x) // m].astype(np.float64)

    def kernel(rows: np.ndarray) -> np.ndarray:
        rows = rows.astype(np.float64)
        squared = (some**2).sum(axis=1)[:, None] + (rows**2).sum(axis=1) - 2 * some @ rows.T
        return np.exp(-np.maximum(squared, 0))

    covered = kernel(own).max(axis=1) if len(own) else np.zeros(m)
    every, chosen = kernel(wide).T.copy(), []
    for _ in range(picks):
        gain = np.concatenate(
            [np.maximum(every[a : a + 64] - covered, 0).sum(axis=1) for a in range(0, len(every), 64)]
        )
        gain[chosen] = -1
        chosen.append(int(np.round(gain / (m * 2.0**-40)).argmax()))
        covered = np.maximum(covered, every[chosen[-1]])
    return chosen


def one(case: Case, repeat: int) -> None:
    """The child process: times one case and prints what it saw."""
    method, kind, n, columns, labelled, picks, reference = case
    function = {"labelwise": labelwise, "plain loop": plain}[method]
    function(*data("noise", 300, columns, 4), 5, 0)  # imports and the threads' start
    x, known = data(kind, n, columns, labelled)
    before, times, rows = peak(), [], []
    for _ in range(repeat):
        wall, cpu = time.perf_counter(), time.process_time()
        rows = function(x, known, picks, reference)
        times.append((time.perf_counter() - wall, time.process_time() - cpu))
    after, flat, passes, products = peak(), x.reshape(-1), [], []
    some = x[: min(2000, n)]
    for _ in range(5):
        wall = time.perf_counter()
        float(flat @ flat)
        passes.append(time.perf_counter() - wall)
        wall = time.perf_counter()
        some @ some.T
        products.append((time.perf_counter() - wall) / len(some) ** 2)
    m = reference or min(n, max(2000, 40_000_000 // n))
    wall, cpu = min(times)
    print(json.dumps({"wall": wall, "cpu": cpu, "all": [t[0] for t in times], "before": before, "after": after, "m": m,
                      "pass": min(passes), "product": min(products) * n * m, "rows": rows}))  # fmt: skip


def run(case: Case, repeat: int, threads: int) -> dict:
    limits = {f"{library}_NUM_THREADS": str(threads) for library in ("OMP", "OPENBLAS", "MKL")}
    command = [sys.executable, __file__, "--one", json.dumps(case), "--repeat", str(repeat)]
    done = subprocess.run(command, env={**os.environ, **limits}, capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(f"{case} failed:\n{done.stderr}")
    return json.loads(done.stdout.splitlines()[-1])


def line(case: Case, seen: dict, plainly: dict | None) -> dict[str, object]:
    method, kind, n, columns, labelled, picks, _ = case
    size = 4 * columns * (n + labelled) / 2**20
    same = sum(a == b for a, b in zip(seen["rows"], plainly["rows"], strict=True)) if plainly else ""
    if plainly and same != picks:
        sys.exit(f"{case}: only {same} of {picks} picks are those of the plain loop")
    return {
        "method": method, "data": kind, "rows": n, "columns": columns, "labelled": labelled, "picks": picks,
        "reference": seen["m"], "wall_seconds": f"{seen['wall']:.3f}", "cpu_seconds": f"{seen['cpu']:.3f}",
        "same_picks": same, "peak_mib": f"{seen['after'] - seen['before']:.0f}",
        "peak_of_features": f"{(seen['after'] - seen['before']) / size:.2f}",
        "pass_seconds": f"{seen['pass']:.4f}", "floor_seconds": f"{seen['pass'] * picks:.2f}",
        "product_seconds": f"{seen['product']:.2f}",
    }  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--repeat", type=int, default=5)
    parser.add_argument("--cases", type=int, nargs="*", help="numbers of the cases (all)")
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/select_herding.csv"))
    parser.add_argument("--one", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.one:
        return one(tuple(json.loads(args.one)), args.repeat)
    cases = [CASES[k] for k in args.cases] if args.cases else CASES
    seen, rows = {}, []
    for case in cases:
        slow = case[0] == "plain loop" or case[2] > SMALL[0] or case[-1] == SMALL[0]
        seen[case] = run(case, 1 if slow else args.repeat, args.threads)
        print(case, f"{seen[case]['wall']:.2f} s of", [round(t, 2) for t in seen[case]["all"]], flush=True)
    about = machine([], args.threads) | {"command": "python benchmarks/select_herding.py"}
    for case in cases:
        rows.append(line(case, seen[case], seen.get(("plain loop", *case[1:]))))
    from labelwise.types.disk import replacing

    with replacing(args.out) as partial, partial.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, [*rows[0], *about])
        writer.writeheader()
        writer.writerows({**row, **about} for row in rows)
    return None


if __name__ == "__main__":
    main()
