"""How long the class-balanced choice takes and how near to optimal it is, beside solvers of the whole program.

    python benchmarks/select_balance.py [--million] [--kcenter]

Every method runs in a process of its own on the same generated class distributions (softmax of normal logits times 2,
float32; "long-tailed" adds logarithms of frequencies that fall to 1 in 100), with entropy as the score and λ 0.6 for 10
classes, else 2. `objective` is that of the picks (or, of a method named "LP", the value of the relaxation); `gap` is
relative to the LP bound that our own method reports, which the whole LPs confirm where they end: the script stops when
they differ by more than 1e-6. `milp` is given 30 seconds, and the smallest case only: at 45,000 rows it had not come
back after 72 s of CPU time. `top by score` shows what balance costs and brings. `l1_score` is Eq. 4.10 of the expected
classes of the picks. `peak_mib` is the resident memory that the call added to a process that held the arrays. Times are
of one call in a warm process: for ours the least of `--repeat`, for the others of one.
"""

from __future__ import annotations

import argparse
import csv
import datetime
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
import scipy

SEED = 0
CASES = [(5_000, 10, 500), (45_000, 10, 2_500), (45_000, 100, 2_500), (90_000, 200, 4_500)]
MILLION = (1_000_000, 100, 10_000)
LIMIT = 30.0
Result = tuple[list[int], float]
"""Picks (or none) and the value of the objective or of the relaxation."""


def make(pool: str, n: int, classes: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(SEED)
    p = rng.standard_normal((n, classes), dtype=np.float32)
    p *= 2
    if pool == "long-tailed":
        p += np.log(np.geomspace(1, 0.01, classes)).astype(np.float32)
    p -= p.max(axis=1, keepdims=True)
    np.exp(p, out=p)
    p /= p.sum(axis=1, keepdims=True)
    return np.concatenate([-(q * np.log(q)).sum(axis=1, dtype=np.float64) for q in np.array_split(p, 100)]), p


def value(scores: np.ndarray, probs: np.ndarray, omega: np.ndarray, rows: np.ndarray, lam: float) -> float:
    return float(lam * np.abs(omega - probs[rows].sum(axis=0, dtype=np.float64)).sum() - scores[rows].sum())


def labelwise(scores, probs, omega, budget, lam) -> Result:
    from labelwise.select import balance_program

    found = balance_program.solve(scores, probs, omega, budget, lam=lam)
    return found.rows.tolist(), found.bound


def pseudo(scores, probs, omega, budget, lam) -> Result:
    from labelwise.select import balance_program

    found = balance_program.solve(scores, probs, omega, budget, lam=lam, pseudo_labels=True)
    return found.rows.tolist(), value(scores, probs, omega, found.rows, lam)


def top(scores, probs, omega, budget, lam) -> Result:
    rows = np.argsort(-scores, kind="stable")[:budget]
    return rows.tolist(), value(scores, probs, omega, rows, lam)


def greedy(scores, probs, omega, budget, lam) -> Result:
    """One row after the other, each the best by the objective so far."""
    left, free, rows = omega.copy(), np.ones(len(scores), bool), []
    for _ in range(budget):
        cost = np.where(free, lam * np.abs(left.astype(np.float32) - probs).sum(axis=1) - scores, np.inf)
        rows.append(int(cost.argmin()))
        free[rows[-1]] = False
        left -= probs[rows[-1]]
    return rows, value(scores, probs, omega, np.array(rows), lam)


def whole(scores, probs, omega, budget, lam) -> tuple:
    n, classes = probs.shape
    a = np.zeros((classes + 1, n + 2 * classes))
    a[:classes, :n], a[classes, :n] = probs.T, 1
    a[:classes, n : n + classes], a[:classes, n + classes :] = np.eye(classes), -np.eye(classes)
    cost = np.concatenate([-scores, np.full(2 * classes, lam)])
    upper = np.where(np.arange(len(cost)) < n, 1, np.inf)
    return a, cost, np.append(omega, budget), upper


def linear(method: str) -> Callable[..., Result]:
    def run(scores, probs, omega, budget, lam) -> Result:
        from scipy.optimize import linprog

        a, cost, wanted, upper = whole(scores, probs, omega, budget, lam)
        limits = np.column_stack([np.zeros(len(cost)), upper])
        return [], float(linprog(cost, A_eq=a, b_eq=wanted, bounds=limits, method=method).fun)

    return run


def milp(scores, probs, omega, budget, lam) -> Result:
    from scipy.optimize import Bounds, LinearConstraint
    from scipy.optimize import milp as solve

    a, cost, wanted, upper = whole(scores, probs, omega, budget, lam)
    whole_numbers = (np.arange(len(cost)) < len(scores)).astype(int)
    found = solve(cost, constraints=LinearConstraint(a, wanted, wanted), bounds=Bounds(0, upper),
                  integrality=whole_numbers, options={"time_limit": LIMIT})  # fmt: skip
    if found.x is None:
        return [], float("nan")
    rows = np.flatnonzero(found.x[: len(scores)] > 0.5)
    return rows.tolist(), value(scores, probs, omega, rows, lam)


OURS, OURS_PSEUDO = "labelwise", "labelwise, pseudo labels"
METHODS: dict[str, Callable[..., Result]] = {
    OURS: labelwise,
    OURS_PSEUDO: pseudo,
    "top by score": top,
    "one-at-a-time greedy": greedy,
    "scipy linprog highs (LP)": linear("highs"),
    "scipy linprog highs-ipm (LP)": linear("highs-ipm"),
    "scipy milp, 30 s": milp,
}
UP_TO = dict.fromkeys(METHODS, 10**7) | {
    OURS: 10**9,
    OURS_PSEUDO: 10**9,
    "top by score": 10**9,
    "one-at-a-time greedy": 10**6,
    "scipy linprog highs (LP)": 10**6,
    "scipy milp, 30 s": 10**5,
}
"""Largest number of entries of P that a method is given."""


def peak() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**10  # KiB on Linux


def one(name: str, pool: str, shape: tuple[int, int, int], repeat: int) -> None:
    """The child process: times one method and prints what it saw."""
    from labelwise.select._balance_target import l1_score

    (n, classes, budget), function = shape, METHODS[name]
    lam = 0.6 if classes == 10 else 2.0
    function(*make(pool, 60, 3), np.full(3, 2.0), 6, lam)  # imports
    scores, probs = make(pool, n, classes)
    omega, before, times = np.full(classes, budget / classes), peak(), []
    for _ in range(repeat):
        wall, cpu = time.perf_counter(), time.process_time()
        rows, bound = function(scores, probs, omega, budget, lam)
        times.append((time.perf_counter() - wall, time.process_time() - cpu))
    picked = np.array(rows, np.int64)
    print(json.dumps({
        "wall": min(t[0] for t in times), "cpu": min(t[1] for t in times), "all": times, "added": peak() - before,
        "total": peak(), "value": value(scores, probs, omega, picked, lam) if rows else bound, "bound": bound,
        "picked": len(rows), "entropy": float(scores[picked].sum()), "lam": lam,
        "l1": l1_score(probs[picked].sum(axis=0, dtype=np.float64)) if rows else None,
    }))  # fmt: skip


def kcenter(pool: str, n: int, classes: int, budget: int, columns: int, labelled: int) -> None:
    """The child process of the greedy k-center, whose time has another shape."""
    from labelwise.select import balance_kcenter
    from labelwise.select._balance_target import l1_score

    rng = np.random.default_rng(SEED)
    x = rng.standard_normal((n + labelled, columns), dtype=np.float32)
    _, probs = make(pool, n, classes)
    omega, before = np.full(classes, budget / classes), peak()
    wall, cpu = time.perf_counter(), time.process_time()
    lam = 5 / classes if classes == 10 else 50 / classes
    rows = balance_kcenter.select(x[labelled:], x[:labelled], probs, omega, budget, lam=lam)
    wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    print(json.dumps({
        "wall": wall, "cpu": cpu, "added": peak() - before, "total": peak(), "lam": lam, "picked": len(rows),
        "l1": l1_score(probs[rows].sum(axis=0, dtype=np.float64)), "all": [(wall, cpu)],
    }))  # fmt: skip


def child(*arguments: object, threads: int) -> dict:
    limits = {f"{library}_NUM_THREADS": str(threads) for library in ("OMP", "OPENBLAS", "MKL")}
    done = subprocess.run([sys.executable, __file__, *map(str, arguments)], env={**os.environ, **limits},
                          capture_output=True, text=True, check=False)  # fmt: skip
    if done.returncode:
        sys.exit(f"{arguments} failed:\n{done.stderr}")
    return json.loads(done.stdout.splitlines()[-1])


def machine(arguments: list[str], threads: int) -> dict[str, str]:
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    cpu = next((line.split(":")[1].strip() for line in lines if "model name" in line), platform.processor())
    git = subprocess.run(["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=False)
    dirty = subprocess.run(["git", "status", "--porcelain", "src"], capture_output=True, text=True, check=False)
    return {
        "command": " ".join(["python benchmarks/select_balance.py", *arguments]),
        "commit": git.stdout.strip() + ("+changes" if dirty.stdout.strip() else ""),
        "date": datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%d"),
        "machine": f"{cpu}, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}",
        "versions": f"python {platform.python_version()}, numpy {np.__version__}, scipy {scipy.__version__}",
        "seed": str(SEED),
        "threads": str(threads),
    }


def line(name: str, pool: str, shape: tuple[int, int, int], seen: dict, ours: dict) -> dict[str, object]:
    if "(LP)" in name and abs(seen["value"] - ours["bound"]) > 1e-6 * abs(ours["bound"]):
        sys.exit(f"{name}: the LP has {seen['value']}, our bound is {ours['bound']}")
    gap = (seen["value"] - ours["bound"]) / abs(ours["bound"]) if "value" in seen else None
    print(name, pool, shape, {k: v for k, v in seen.items() if k != "bound"}, f"gap {gap}", flush=True)
    return {
        "method": name, "pool": pool, "rows": shape[0], "classes": shape[1], "picks": shape[2], "lam": seen["lam"],
        "wall_seconds": f"{seen['wall']:.3f}", "cpu_seconds": f"{seen['cpu']:.3f}",
        "wall_times_ours": f"{seen['wall'] / ours['wall']:.1f}" if "value" in seen else "",
        "objective": f"{seen['value']:.4f}" if "value" in seen else "",
        "lp_bound": f"{ours['bound']:.4f}" if "value" in seen else "", "gap": "" if gap is None else f"{gap:.2e}",
        "l1_score": "" if seen["l1"] is None else f"{seen['l1']:.5f}", "peak_mib": f"{seen['added']:.0f}",
        "process_peak_mib": f"{seen['total']:.0f}",
    }  # fmt: skip


def write(out: Path, rows: list[dict[str, object]], about: dict[str, str]) -> None:
    """After every row, as a later method may take long."""
    out.parent.mkdir(parents=True, exist_ok=True)
    from labelwise.types.disk import replacing

    with replacing(out) as partial, partial.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, [*rows[0], *about])
        writer.writeheader()
        writer.writerows({**row, **about} for row in rows)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--million", action="store_true", help="a million rows too")
    parser.add_argument("--kcenter", action="store_true", help="the greedy k-center too (512 columns, 5,000 labelled)")
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/select_balance.csv"))
    parser.add_argument("--one", nargs=5, help=argparse.SUPPRESS)
    parser.add_argument("--one-kcenter", nargs=6, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.one:
        name, pool, *shape = args.one
        return one(name, pool, tuple(map(int, shape)), args.repeat)  # type: ignore[arg-type]
    if args.one_kcenter:
        return kcenter(args.one_kcenter[0], *map(int, args.one_kcenter[1:]))
    rows, ours, about = [], {}, machine(sys.argv[1:], args.threads)
    for shape in [*CASES, *([MILLION] if args.million else [])]:
        for pool in ("uniform", "long-tailed"):
            for name in [m for m in METHODS if shape[0] * shape[1] <= UP_TO[m]]:
                repeat = args.repeat if name == OURS and shape != MILLION else 1
                seen = child("--repeat", repeat, "--one", name, pool, *shape, threads=args.threads)
                ours = seen if name == OURS else ours
                rows.append(line(name, pool, shape, seen, ours))
                write(args.out, rows, about)
    for shape in CASES[1:2] if args.kcenter else []:
        for pool in ("uniform", "long-tailed"):
            seen = child("--one-kcenter", pool, *shape, 512, 5_000, threads=args.threads)
            rows.append(line("labelwise balance_kcenter, 512 columns, 5000 labelled", pool, shape, seen, ours))
            write(args.out, rows, about)
    return None


if __name__ == "__main__":
    main()
