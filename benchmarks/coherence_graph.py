"""How long the graph of temporal coherence takes (001, section 2.3.2): links, candidates and the exact minimum.

    python benchmarks/coherence_graph.py --peers PYTHON

Generated videos of 30 to 300 frames at 640 x 360, three classes: boxes that move smoothly and live 15 to 150 frames; a
share of them is missed, another share of the detections is false alarms in one frame alone; the tracks are the true
motion, three frames either way, with noise that grows with the step.

Every case runs on one core in a process of its own that loads the arrays. `link` is links.py (links and candidates),
`cut` is cut.py and the rule for ties. CPU seconds say more than wall seconds where other work shares the machine.
`peak_mib` is the most that the process held, `input_mib` what it held before. `decided` is the share of nodes that the
rules of cut.py settle before any maximum flow, `flows` how many flows there were. `fp_recall` is the share of the false
alarms that are estimated as such, `fp_precision` the share of estimated ones that are. The peer is PyMaxflow (GPL:
another environment, never a dependency), without `--peers` left out; `peer_seconds` (CPU) is to build and solve the
same graph; its cost and its largest set of true nodes must equal ours, or the benchmark stops.
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
import tempfile
import time
from pathlib import Path

for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ.setdefault(name, "1")  # before NumPy is imported: one core

import numpy as np  # noqa: E402

WIDTH, HEIGHT, CLASSES = 640, 360, 3
CASES = {
    "32k": (32_000, 5, 0.1, 0.1, (1.0, 1.0, 1.0)),
    "64k": (64_000, 5, 0.1, 0.1, (1.0, 1.0, 1.0)),
    "129k": (129_000, 5, 0.1, 0.1, (1.0, 1.0, 1.0)),
    "129k, other costs": (129_000, 5, 0.1, 0.1, (1.0, 0.7, 0.3)),
    "129k, flicker": (129_000, 5, 0.4, 0.4, (1.0, 1.0, 1.0)),
    "crowd": (3_200, 200, 0.1, 0.1, (1.0, 1.0, 1.0)),
}
"""Frames, detections a frame, share of missed objects, share of false alarms, costs of a FP, a FN and a link."""

SEED, K = 0, 3


def make(frames: int, per_frame: int, miss: float, alarms: float, k: int = K) -> dict[str, np.ndarray]:
    """Offsets, boxes, labels, the columns of the tracks, and which detections are false alarms."""
    rng = np.random.default_rng(SEED)
    lengths = rng.integers(30, 301, frames // 30 + 1)
    ends = np.minimum(np.cumsum(lengths), frames)
    starts = np.concatenate([[0], ends[:-1]])
    wanted = int(frames * per_frame * (1 - alarms))
    n_objects = int(2.5 * wanted / (82.5 * (1 - miss))) + 10  # the mean life is 82.5 frames; some lives are cut short
    n_alarms = frames * per_frame - wanted
    life = np.concatenate([rng.integers(15, 151, n_objects), np.ones(n_alarms, np.int64)])
    n = len(life)
    born = rng.integers(0, frames, n)
    video = np.searchsorted(ends, born, "right")
    high = np.exp(rng.normal(3.6, 0.5, n)).clip(12, 160)
    wide = high * rng.choice([0.45, 1.0, 1.8], n)
    centre = rng.random((n, 2)) * [WIDTH, HEIGHT]
    speed = rng.normal(0, 1.5, (n, 2))
    turn, phase = rng.normal(0, 0.05, n), rng.random(n) * 6
    kind = rng.integers(0, CLASSES, n)
    life = np.minimum(life, ends[video] - born)

    def where(one: np.ndarray, frame: np.ndarray) -> np.ndarray:
        age = (frame - born[one])[:, None]
        sway = 8 * np.sin(phase[one] + turn[one] * age[:, 0])[:, None]
        return centre[one] + speed[one] * age + sway

    one = np.repeat(np.arange(n), life)
    frame = np.arange(len(one)) - np.repeat(np.cumsum(life) - life, life) + born[one]
    seen = (rng.random(len(one)) >= miss) | (one >= n_objects)
    at = where(one, frame)
    seen &= ((at > 0) & (at < [WIDTH, HEIGHT])).all(axis=1) | (one >= n_objects)
    seen &= (np.cumsum(seen) <= wanted) | (one >= n_objects)
    one, frame, at = one[seen], frame[seen], at[seen]
    order = np.argsort(frame, kind="stable")
    one, frame, at = one[order], frame[order], at[order]
    half = np.stack([wide[one], high[one]], axis=1) / 2
    noise = rng.normal(0, 0.04, (len(one), 4)) * np.tile(half, 2)
    boxes = (np.concatenate([at - half, at + half], axis=1) + noise).astype(np.float32)

    image = np.full((len(one), 2 * k), -1, np.int64)
    moved = np.zeros((len(one), 2 * k, 4), np.float32)
    for column, step in enumerate([*range(-k, 0), *range(1, k + 1)]):
        there = where(one, frame + step)
        slip = rng.normal(0, 0.03 * abs(step) ** 0.5, (len(one), 2)) * half
        ok = (frame + step >= starts[video[one]]) & (frame + step < ends[video[one]])
        ok &= ((there > 0) & (there < [WIDTH, HEIGHT])).all(axis=1)
        image[ok, column] = (frame + step)[ok]
        moved[ok, column] = (boxes + np.tile(there - at + slip, 2))[ok]
    offsets = np.searchsorted(frame, np.arange(frames + 1))
    columns = {"offsets": offsets, "boxes": boxes, "labels": kind[one], "image": image, "moved": moved}
    return {**columns, "alarm": one >= n_objects}


def held() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**10  # KiB on Linux


def clock() -> np.ndarray:
    return np.array([time.process_time(), time.perf_counter()])


def one(name: str, folder: Path) -> None:
    """The child process: builds and labels one case, prints what it saw, and leaves the graph for the peer."""
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    from labelwise.tracks import coherence, cut
    from labelwise.tracks.links import link
    from labelwise.types import Tracks

    pool, costs = dict(np.load(folder / "pool.npz")), CASES[name][-1]
    alarm, tracks = pool.pop("alarm"), Tracks(pool.pop("image"), pool.pop("moved"))
    in_flow, flow = [], cut._flow

    def counted(lean: np.ndarray, *rest: np.ndarray) -> np.ndarray:
        in_flow.append(len(lean))
        return flow(lean, *rest)

    cut._flow = counted
    before, start = held(), clock()
    graph = link(**pool, tracks=tracks)
    linked = clock()
    there = coherence.label(graph, *costs)
    labelled, after = clock(), held()
    n, m, false = graph.n_detections, len(graph.links), ~there[: graph.n_detections]
    sparse = coo_array((np.ones(m, np.int8), graph.links.T), shape=(len(graph), len(graph)))
    flows, flow_nodes = len(in_flow), sum(in_flow)
    unary = np.zeros((2, len(graph)))
    unary[1, :n], unary[0, n:] = costs[:2]
    true = cut.minimum_cut(*unary, graph.links, costs[2])
    cost = [
        float(np.where(x, *unary).sum() + costs[2] * np.count_nonzero(np.diff(x[graph.links]))) for x in (there, true)
    ]
    np.savez(folder / "graph.npz", unary=unary, links=graph.links, weight=costs[2], true=true)
    print(json.dumps({
        "detections": n, "candidates": len(graph) - n, "links": m,
        "components": int(connected_components(sparse, directed=False)[0]),
        "link_cpu": (linked - start)[0], "link_wall": (linked - start)[1],
        "cut_cpu": (labelled - linked)[0], "cut_wall": (labelled - linked)[1],
        "input_mib": before, "peak_mib": after, "decided": 1 - flow_nodes / len(graph), "flows": flows,
        "fp": int(false.sum()), "fn": int(there[n:].sum()), "fp_recall": float(false[alarm].mean()),
        "fp_precision": float(alarm[false].mean()), "energy": cost[0], "energy_cut": cost[1],
    }))  # fmt: skip


def peer(folder: Path) -> None:
    """The same minimum by PyMaxflow, in its environment; costs times ten, so that they are whole."""
    import importlib.metadata

    import maxflow

    given = np.load(folder / "graph.npz")
    unary, links = np.rint(given["unary"] * 10).astype(np.int64), given["links"]
    weight, n = np.full(len(links), round(float(given["weight"]) * 10)), given["unary"].shape[1]
    start = clock()
    graph = maxflow.GraphInt(n, len(links))
    nodes = graph.add_grid_nodes(n)
    graph.add_grid_tedges(nodes, unary[1], unary[0])
    graph.add_edges(links[:, 0], links[:, 1], weight, weight)
    flow = graph.maxflow()
    true = ~graph.get_grid_segments(nodes)  # nodes that neither terminal reaches count as the source's: the largest set
    seconds = (clock() - start)[0]
    same = int(np.count_nonzero(true == given["true"]))
    version = importlib.metadata.version("PyMaxflow")
    print(json.dumps({"energy": flow / 10, "same": same, "seconds": seconds, "version": version}))


def run(python: str, *arguments: str) -> dict:
    done = subprocess.run([python, __file__, *arguments], capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(f"{arguments} failed:\n{done.stderr}")
    return json.loads(done.stdout.splitlines()[-1])


def machine(versions: set[str]) -> dict[str, str]:
    import scipy

    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    cpu = next((line.split(":")[1].strip() for line in lines if "model name" in line), platform.processor())
    git = subprocess.run(["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=False)
    dirty = subprocess.run(["git", "status", "--porcelain", "src"], capture_output=True, text=True, check=False)
    ours = [f"python {platform.python_version()}, numpy {np.__version__}, scipy {scipy.__version__}"]
    return {
        "command": "python benchmarks/coherence_graph.py --peers PYTHON",
        "commit": git.stdout.strip() + ("+changes" if dirty.stdout.strip() else ""),
        "date": datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%d"),
        "machine": f"{cpu}, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}",
        "versions": ", ".join([*ours, *sorted(versions)]),
        "seed": str(SEED),
        "threads": "1",
    }


def case(name: str, peers: str | None, versions: set[str]) -> dict[str, object]:
    frames, per_frame, miss, alarms, costs = CASES[name]
    with tempfile.TemporaryDirectory() as folder:
        np.savez(Path(folder) / "pool.npz", **make(frames, per_frame, miss, alarms))
        seen = run(sys.executable, "--one", name, "--folder", folder)
        if abs(seen["energy"] - seen["energy_cut"]) > 1e-6 * seen["energy"]:
            sys.exit(f"{name}: the rule for ties costs {seen['energy']}, the cut {seen['energy_cut']}")
        other = run(peers, "--peer", "--folder", folder) if peers else None
    nodes = seen["detections"] + seen["candidates"]
    if other:
        versions.add(f"PyMaxflow {other['version']}")
        if other["same"] != nodes or abs(other["energy"] - seen["energy"]) > 1e-6 * seen["energy"]:
            sys.exit(f"{name}: PyMaxflow {other['energy']}, ours {seen['energy']}; {other['same']} of {nodes} the same")
    cpu = seen["link_cpu"] + seen["cut_cpu"]
    texts = {key: f"{value:.4g}" if key.startswith(("fp_", "decided")) else f"{value:.2f}" if "_cpu" in key
             or "_wall" in key else f"{value:.0f}" for key, value in seen.items()}  # fmt: skip
    texts["energy"] = f"{seen['energy']:.1f}"
    return {
        "case": name, "frames": frames, "miss": miss, "alarms": alarms, "k": K, "costs": " ".join(map(str, costs)),
        **{key: text for key, text in texts.items() if key != "energy_cut"},
        "cpu_seconds": f"{cpu:.2f}", "wall_seconds": f"{seen['link_wall'] + seen['cut_wall']:.2f}",
        "cpu_us_per_detection": f"{cpu / seen['detections'] * 1e6:.1f}",
        "peer_seconds": f"{other['seconds']:.2f}" if other else "", "peer_same": other["same"] if other else "",
    }  # fmt: skip


def write(rows: list[dict[str, object]], versions: set[str], out: Path) -> None:
    about = machine(versions)
    from labelwise.types.disk import replacing

    with replacing(out) as partial, partial.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, [*rows[0], *about])
        writer.writeheader()
        writer.writerows({**row, **about} for row in rows)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--peers", help="the Python of an environment with PyMaxflow")
    parser.add_argument("--case", action="append", choices=list(CASES), help="this case only; may be repeated")
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/coherence_graph.csv"))
    for hidden in ("--one", "--folder"):
        parser.add_argument(hidden, help=argparse.SUPPRESS)
    parser.add_argument("--peer", action="store_true", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.one:
        return one(args.one, Path(args.folder))
    if args.peer:
        return peer(Path(args.folder))
    rows, versions = [], set()
    for name in args.case or CASES:
        rows.append(case(name, args.peers, versions))
        print(rows[-1], flush=True)
        write(rows, versions, args.out)  # after every case: a run that is stopped keeps what it has
    columns = ["case", "detections", "candidates", "links", "components", "decided", "link_cpu", "cut_cpu",
               "cpu_seconds", "wall_seconds", "peak_mib", "peer_seconds"]  # fmt: skip
    for row in [dict(zip(columns, columns, strict=True)), *rows]:
        print("  ".join(f"{row[column]!s:>12}" for column in columns))
    return None


if __name__ == "__main__":
    main()
