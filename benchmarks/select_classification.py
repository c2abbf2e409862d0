"""How long BADGE, TypiClust, ProbCover, the core-set program and the classic scores take beside their peers.

    python benchmarks/select_classification.py --peers PEERS_VENV/bin/python

Every method runs in a process of its own on the same generated arrays (float32). "definition" is the published method
written plainly in NumPy. The peers need an environment with `scikit-activeml`, `modAL-python`, `baal` and
`setuptools<81`; without `--peers` they are left out. A row is the run of least wall time among `--repeat`; of the slow
peers and definitions there is one run.

`same_picks` counts the picks that equal ours in order, `same_set` those in any order; for the scores these are the 500
highest. The definitions of BADGE draw from the same stream of uniform numbers as ours, scikit-activeml from another, so
that only its first pick must agree. Its ProbCover breaks ties at random; its TypiClust has another rule (k = 5, as many
clusters as labels, those with labels skipped). Compare `quality`: the share of the pool within δ of a labelled row or a
pick (probcover), the number of different picks (typiclust), the covering radius (core-set; lower is better, ours may
take 20 s). `peak_mib` is the resident memory that the call added to a process that held the arrays. The CPU
seconds tell more than the wall seconds where the load of the machine (in its column) is above its cores.
"""

from __future__ import annotations

import argparse
import csv
import datetime
import importlib.metadata
import json
import os
import platform
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

SEED, DELTA = 0, 0.9
Arrays = dict[str, np.ndarray]
SHAPES = {  # rows, columns, classes, labelled, picks
    "badge": (20_000, 256, 10, 0, 50),
    "badge, 100 classes": (20_000, 256, 100, 0, 500),
    "typiclust": (20_000, 256, 10, 100, 500),
    "probcover": (10_000, 256, 10, 100, 300),
    "core-set": (1_000, 8, 10, 20, 40),
    "entropy": (20_000, 1, 100, 0, 500),
    "margin": (20_000, 1, 100, 0, 500),
    "bald": (20_000, 1, 100, 0, 500),
}


def make(group: str, rows: int = 0) -> Arrays:
    """Features of length 1 around 50 centres, labelled rows of the same kind, and softmax-like distributions."""
    n, columns, classes, labelled, _ = SHAPES[group]
    n, rng = rows or n, np.random.default_rng(SEED)
    centres = rng.standard_normal((50, columns), dtype=np.float32)
    x = centres[rng.integers(0, 50, n + labelled)] * np.float32(1.2)
    x += rng.standard_normal(x.shape, dtype=np.float32)
    x /= np.linalg.norm(x, axis=1, keepdims=True)
    members = 10 if group == "bald" else 1
    probs = rng.random((members, n, classes), dtype=np.float32) ** 8
    probs /= probs.sum(axis=2, keepdims=True)
    return {"x": x[labelled:], "known": x[:labelled], "probs": probs[0], "samples": probs}


def top(score: np.ndarray, k: int) -> list[int]:
    return np.argsort(-np.asarray(score, np.float64), kind="stable")[:k].tolist()


def ours_badge(a: Arrays, k: int) -> list[int]:
    from labelwise.select import badge

    return badge.select(a["probs"], a["x"], k, np.random.RandomState(SEED)).tolist()  # type: ignore[arg-type,union-attr]


def ours_typiclust(a: Arrays, k: int) -> list[int]:
    from labelwise.select import typiclust

    return typiclust.select(a["x"], a["known"], k, np.random.default_rng(SEED)).tolist()  # type: ignore[union-attr]


def ours_probcover(a: Arrays, k: int) -> list[int]:
    from labelwise.select import probcover

    return probcover.select(a["x"], a["known"], k, delta=DELTA, normalise=False).tolist()  # type: ignore[union-attr]


def ours_core_set(a: Arrays, k: int) -> list[int]:
    from labelwise.select import coreset_milp

    rows = coreset_milp.select(a["x"], a["known"], k, outliers=0.0, time_limit_s=20.0)
    return rows.tolist()  # type: ignore[union-attr]


def greedy(a: Arrays, k: int) -> list[int]:
    from labelwise.select import kcenter

    return kcenter.select(a["x"], a["known"], k).tolist()  # type: ignore[union-attr]


def ours_score(name: str) -> Callable[[Arrays, int], list[int]]:
    def run(a: Arrays, k: int) -> list[int]:
        from labelwise.score import bald, entropy, margin

        if name == "bald":
            members = a["samples"]
            return top(bald.score(members[0], members[1:], np.ones(members[1:].shape[:2], np.float32)), k)
        return top({"entropy": entropy, "margin": margin}[name].score(a["probs"]), k)

    return run


def plain_badge(a: Arrays, k: int) -> list[int]:
    """The N x C D embeddings."""
    factor = a["probs"].astype(np.float64)
    factor[np.arange(len(factor)), factor.argmax(axis=1)] -= 1
    g = (factor[:, :, None] * a["x"][:, None, :]).reshape(len(factor), -1)
    rng, norm = np.random.RandomState(SEED), (g**2).sum(axis=1)
    rows, nearest = [int(norm.argmax())], np.full(len(g), np.inf)
    while len(rows) < k:
        nearest = np.minimum(nearest, np.maximum(norm + norm[rows[-1]] - 2 * (g @ g[rows[-1]]), 0))
        nearest[rows] = 0
        total = np.cumsum(nearest)
        rows.append(int(np.searchsorted(total, rng.random() * total[-1], side="right")))
    return rows


def factored_badge(a: Arrays, k: int) -> list[int]:
    """The factors, in float64 throughout."""
    p, h = a["probs"].astype(np.float64), a["x"].astype(np.float64)
    p[np.arange(len(p)), p.argmax(axis=1)] -= 1
    rng, norm = np.random.RandomState(SEED), (p**2).sum(axis=1) * (h**2).sum(axis=1)
    rows, nearest = [int(norm.argmax())], np.full(len(p), np.inf)
    while len(rows) < k:
        last = rows[-1]
        nearest = np.minimum(nearest, np.maximum(norm + norm[last] - 2 * (p @ p[last]) * (h @ h[last]), 0))
        nearest[rows] = 0
        total = np.cumsum(nearest)
        rows.append(int(np.searchsorted(total, rng.random() * total[-1], side="right")))
    return rows


def plain_typiclust(a: Arrays, k: int) -> list[int]:
    """Our clusters; the turns as in the published code, with the paper's distance."""
    from scipy.spatial.distance import cdist

    from labelwise.select import typiclust

    n, both = len(a["x"]), np.concatenate([a["x"], a["known"]])
    seed = int(np.random.default_rng(SEED).integers(2**31))
    unit, _ = typiclust.points(both, both[:0], True)
    cluster = typiclust.clusters(unit, min(len(both) - n + k, 500), seed)
    size, labelled = np.bincount(cluster), np.bincount(cluster[n:], minlength=cluster.max() + 1)
    first = np.full(len(size), n)
    np.minimum.at(first, cluster[:n], np.arange(n))
    order = [c for c in np.lexsort((first, -size, labelled)) if size[c] > 5]
    free, rows = np.ones(n, bool), []
    while len(rows) < k:
        for c in order:
            here = np.flatnonzero((cluster[:n] == c) & free)
            if len(here) and len(rows) < k:
                away = np.sort(cdist(unit[here], unit[here]), axis=1)[:, 1 : 1 + max(1, min(20, len(here) // 2))]
                rows.append(int(here[away.mean(axis=1).argmin()] if len(here) > 1 else here[0]))
                free[rows[-1]] = False
    return rows


def plain_probcover(a: Arrays, k: int) -> list[int]:
    """All distances at once; degrees counted anew for every pick."""
    x, known = a["x"], a["known"]
    ball = squared(x, x) <= DELTA**2
    free = (squared(x, known) > DELTA**2).all(axis=1)
    rows: list[int] = []
    while len(rows) < k and free.any():
        rows.append(int(ball[:, free].sum(axis=1).argmax()))
        free &= ~ball[rows[-1]]
    return rows


def squared(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    x, y = x.astype(np.float64), y.astype(np.float64)
    return (x**2).sum(axis=1)[:, None] + (y**2).sum(axis=1) - 2 * (x @ y.T)


def scikit_activeml(name: str) -> Callable[[Arrays, int], list[int]]:
    def run(a: Arrays, k: int) -> list[int]:
        from skactiveml import pool
        from skactiveml.base import SkactivemlClassifier

        both, m = np.concatenate([a["known"], a["x"]]), len(a["known"])
        known = np.full(len(both), np.nan)
        known[:m] = 0
        if name == "Badge":

            class Told(SkactivemlClassifier):
                def fit(self, *_: Any, **__: Any) -> Any:
                    return self

                def predict_proba(self, _: np.ndarray) -> np.ndarray:
                    return a["probs"]

            query = pool.Badge(random_state=SEED)
            return [int(r) for r in query.query(both, known, clf=Told(classes=[0, 1]), fit_clf=False, batch_size=k)]
        more = {"deltas": [DELTA]} if name == "ProbCover" else {}
        chosen = getattr(pool, name)(random_state=SEED, **more).query(both, known, batch_size=k)
        return [int(row) - m for row in chosen]

    return run


def scikit_activeml_score(name: str) -> Callable[[Arrays, int], list[int]]:
    def run(a: Arrays, k: int) -> list[int]:
        from skactiveml.pool import uncertainty_scores

        return top(uncertainty_scores(a["probs"], method=name), k)

    return run


def modal(name: str) -> Callable[[Arrays, int], list[int]]:
    def run(a: Arrays, k: int) -> list[int]:
        from modAL.uncertainty import classifier_entropy, classifier_margin

        class Told:
            def predict_proba(self, _: np.ndarray) -> np.ndarray:
                return a["probs"]

        if name == "entropy":
            return top(classifier_entropy(Told(), a["x"]), k)
        return top(-classifier_margin(Told(), a["x"]), k)

    return run


def baal(name: str) -> Callable[[Arrays, int], list[int]]:
    def run(a: Arrays, k: int) -> list[int]:
        from baal.active import heuristics

        kind = getattr(heuristics, name)()
        given = a["samples"].transpose(1, 2, 0) if name == "BALD" else a["probs"][:, :, None]
        score = np.asarray(kind.get_uncertainties(given), np.float64)
        return top(score if kind.reversed else -score, k)

    return run


OURS: dict[tuple[str, str], Callable[[Arrays, int], list[int]]] = {
    ("badge", "labelwise"): ours_badge,
    ("badge", "definition, outer products"): plain_badge,
    ("badge, 100 classes", "labelwise"): ours_badge,
    ("badge, 100 classes", "definition, factored, float64"): factored_badge,
    ("typiclust", "labelwise"): ours_typiclust,
    ("typiclust", "definition on our clusters"): plain_typiclust,
    ("probcover", "labelwise"): ours_probcover,
    ("probcover", "definition"): plain_probcover,
    ("core-set", "labelwise"): ours_core_set,
    ("core-set", "labelwise kcenter (greedy)"): greedy,
    ("entropy", "labelwise"): ours_score("entropy"),
    ("margin", "labelwise"): ours_score("margin"),
    ("bald", "labelwise"): ours_score("bald"),
}
PEERS: dict[tuple[str, str], tuple[Callable[[Arrays, int], list[int]], str]] = {
    ("badge", "scikit-activeml Badge"): (scikit_activeml("Badge"), "scikit-activeml"),
    ("typiclust", "scikit-activeml TypiClust"): (scikit_activeml("TypiClust"), "scikit-activeml"),
    ("probcover", "scikit-activeml ProbCover"): (scikit_activeml("ProbCover"), "scikit-activeml"),
    ("core-set", "scikit-activeml CoreSet"): (scikit_activeml("CoreSet"), "scikit-activeml"),
    ("entropy", "scikit-activeml"): (scikit_activeml_score("entropy"), "scikit-activeml"),
    ("entropy", "modAL"): (modal("entropy"), "modAL-python"),
    ("entropy", "baal Entropy"): (baal("Entropy"), "baal"),
    ("margin", "scikit-activeml"): (scikit_activeml_score("margin_sampling"), "scikit-activeml"),
    ("margin", "modAL"): (modal("margin"), "modAL-python"),
    ("margin", "baal Margin"): (baal("Margin"), "baal"),
    ("bald", "baal BALD"): (baal("BALD"), "baal"),
}
SAME = {"definition, outer products", "definition, factored, float64", "definition on our clusters", "definition"}


def memory(which: str) -> float:
    """VmRSS or VmHWM of this process, MiB."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return float(next(line.split()[1] for line in lines if line.startswith(which))) / 2**10


def one(group: str, name: str, repeat: int) -> None:
    """The child process: times one method and prints what it saw."""
    function = OURS[group, name] if (group, name) in OURS else PEERS[group, name][0]
    function(make(group, 300), 5)  # imports and the threads' start
    arrays = make(group)
    Path("/proc/self/clear_refs").write_text("5")  # forgets the peak so far (Linux)
    before, times, rows = memory("VmRSS"), [], []
    for _ in range(repeat):
        wall, cpu = time.perf_counter(), time.process_time()
        rows = function(arrays, SHAPES[group][-1])
        times.append((time.perf_counter() - wall, time.process_time() - cpu))
    version = importlib.metadata.version(PEERS[group, name][1]) if (group, name) in PEERS else ""
    wall, cpu = min(times)
    print(json.dumps({"wall": wall, "cpu": cpu, "peak": memory("VmHWM") - before, "version": version, "rows": rows}))


def run(python: str, group: str, name: str, repeat: int, threads: int) -> dict[str, Any]:
    limits = {f"{library}_NUM_THREADS": str(threads) for library in ("OMP", "OPENBLAS", "MKL")}
    command = [python, "-W", "ignore", __file__, "--one", group, name, "--repeat", str(repeat)]
    done = subprocess.run(command, env={**os.environ, **limits}, capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(f"{group}, {name} failed:\n{done.stderr}")
    return json.loads(done.stdout.splitlines()[-1])  # type: ignore[no-any-return]


def quality(group: str, rows: list[int]) -> str:
    a = make(group)
    if group == "typiclust":
        return f"{len(set(rows))}"
    away = squared(a["x"], np.concatenate([a["known"], a["x"][rows]])).min(axis=1)
    if group == "probcover":
        return f"{(away <= DELTA**2).mean():.4f}"
    return f"{np.sqrt(max(away.max(), 0)):.4f}" if group == "core-set" else ""


def machine(versions: list[str], threads: int) -> dict[str, str]:
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    cpu = next((line.split(":")[1].strip() for line in lines if "model name" in line), platform.processor())
    git = subprocess.run(["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=False)
    dirty = subprocess.run(["git", "status", "--porcelain", "src"], capture_output=True, text=True, check=False)
    import sklearn

    own = [f"python {platform.python_version()}", f"numpy {np.__version__}", f"scikit-learn {sklearn.__version__}"]
    return {
        "command": "python benchmarks/select_classification.py --peers PYTHON",
        "commit": git.stdout.strip() + ("+changes" if dirty.stdout.strip() else ""),
        "date": datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%d"),
        "machine": f"{cpu}, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}",
        "versions": ", ".join([*own, *sorted(set(versions))]),
        "seed": str(SEED),
        "threads": str(threads),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--peers", help="the Python of an environment with the peers")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--group", choices=SHAPES, help="this group only; nothing is written")
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/select_classification.csv"))
    parser.add_argument("--one", nargs=2, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.one:
        return one(*args.one, args.repeat)
    rows, versions = [], []
    for group in [args.group] if args.group else SHAPES:
        names = [(n, sys.executable) for g, n in OURS if g == group]
        names += [(n, args.peers) for g, n in PEERS if g == group and args.peers]
        fast = group in ("entropy", "margin", "bald")
        seen = {
            name: run(python, group, name, args.repeat if fast or name == "labelwise" else 1, args.threads)
            for name, python in names
        }
        ours, keys = seen["labelwise"], ("rows", "columns", "classes", "labelled", "picks")
        for name, s in seen.items():
            same = sum(a == b for a, b in zip(s["rows"], ours["rows"], strict=False))
            versions += [f"{PEERS[group, name][1]} {s['version']}"] if (group, name) in PEERS else []
            if name in SAME and same != len(s["rows"]):
                print(f"{group}, {name}: only {same} of {len(s['rows'])} picks are ours", file=sys.stderr)
            rows.append({
                "task": group, "method": name, **dict(zip(keys, SHAPES[group], strict=True)),
                "wall_seconds": f"{s['wall']:.3f}", "cpu_seconds": f"{s['cpu']:.3f}",
                "wall_times_ours": f"{s['wall'] / ours['wall']:.2f}", "peak_mib": f"{s['peak']:.0f}",
                "same_picks": same, "same_set": len(set(s["rows"]) & set(ours["rows"])),
                "quality": quality(group, s["rows"]) if group in ("typiclust", "probcover", "core-set") else "",
            })  # fmt: skip
            print(rows[-1], flush=True)
    if args.group:
        return None
    about = machine(versions, args.threads)
    from labelwise.types.disk import replacing

    with replacing(args.out) as partial, partial.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, [*rows[0], *about])
        writer.writeheader()
        writer.writerows({**row, **about} for row in rows)
    return None


if __name__ == "__main__":
    main()
