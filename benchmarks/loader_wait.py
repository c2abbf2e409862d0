"""How long training waits for its images: batches made in turn, as before, and ahead of the step in a thread.

    LABELWISE_DATA=data python benchmarks/loader_wait.py

The recipe of bccd (RetinaNet, zoom and photometric changes, batches of 8) at 256, 640 and 1024 px with one and two
threads for the model, with the images kept in memory as they are read, and with every image read anew, as of a pool
larger than memory. Both ways in turn in every round, from equal weights; medians over the rounds, and whether the
weights came out equal.
Writes `results/loader_wait.csv`. On a GPU: `gpu_speed.py`.
"""

from __future__ import annotations

import argparse
import os
import platform
import subprocess
import time
from itertools import product
from pathlib import Path

import numpy as np
import torch
import torchvision
from claims import write
from gpu_speed import InTurn, training_set

from labelwise.config.sections import Train
from labelwise.data import voc
from labelwise.data.image_reader import Images
from labelwise.models import retinanet
from labelwise.train.batches import TrainingSet
from labelwise.train.fit import fit
from labelwise.types import Pool

HERE = Path(__file__).parent
SIZES_PX = (256, 640, 1024)


def trained(data: TrainingSet | InTurn, n_classes: int, steps: int, threads: int) -> tuple[dict[str, float], bytes]:
    """What a training says of itself, and its weights."""
    torch.manual_seed(0)
    model = retinanet.build(n_classes, trainable_stages=3, normalise="batch")
    rule = Train(steps=steps, batch_size=8, accelerator="cpu", threads=threads)
    said = fit(model, data, rule, seed=0, round_number=0)
    return said, b"".join(value.numpy().tobytes() for value in model.state_dict().values())


def line(pool: Pool, size_px: int, cached: bool, threads: int, given: argparse.Namespace) -> dict[str, object]:
    """Both ways at one size."""
    ahead = training_set(pool, Images(pool, size_px))
    if not cached:
        ahead.images = Images(pool, size_px, 0)
    found: dict[str, list[dict[str, float]]] = {"in_turn": [], "ahead": []}
    equal = True
    for _ in range(given.rounds):
        weights = []
        for name, data in (("in_turn", InTurn(ahead)), ("ahead", ahead)):
            said, bytes_ = trained(data, len(pool.classes), given.steps, threads)
            found[name].append(said)
            weights.append(bytes_)
        equal &= weights[0] == weights[1]
    out: dict[str, object] = {"size_px": size_px, "threads": threads, "images": "in memory" if cached else "read anew"}
    for name, rows in found.items():
        out[f"{name}_images_per_s"] = round(float(np.median([row["images_per_s"] for row in rows])), 2)
        out[f"{name}_waiting_share"] = round(float(np.median([row["waiting_share"] for row in rows])), 3)
    ratio = [b["images_per_s"] / a["images_per_s"] for a, b in zip(found["in_turn"], found["ahead"], strict=True)]
    out |= {"ahead_to_in_turn": round(float(np.median(ratio)), 3), "ratio_low": round(min(ratio), 3)}
    return out | {"ratio_high": round(max(ratio), 3), "equal_weights": equal, "load": round(os.getloadavg()[0], 1)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--steps", type=int, default=8)
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    given = parser.parse_args()
    pool = voc.read(Path(os.environ["LABELWISE_DATA"]) / "bccd/BCCD", "test")
    lines = []
    for size_px, threads, cached in product(SIZES_PX, given.threads, (True, False)):
        lines.append(line(pool, size_px, cached, threads, given))
        print(lines[-1], flush=True)
    commit = subprocess.run(["git", "describe", "--always", "--dirty"], capture_output=True, text=True, check=False)
    said = [
        f"command: benchmarks/loader_wait.py --rounds {given.rounds} --steps {given.steps} "
        f"--threads {' '.join(map(str, given.threads))}"
    ]
    said += [f"commit: {commit.stdout.strip()}", f"date: {time.strftime('%Y-%m-%d')}, seed 0"]
    said += [f"machine: {os.cpu_count()} x {platform.machine()}, {torch.backends.cpu.get_cpu_capability()}"]
    said += [f"versions: torch {torch.__version__}, torchvision {torchvision.__version__}, numpy {np.__version__}"]
    note = "".join(f"# {one}\n" for one in said)
    write(HERE / "results" / "loader_wait.csv", lines, note)


if __name__ == "__main__":
    main()
