"""What a GPU does with labelwise: speeds, detectors over five seeds, label dispersion. `gpu.sh` runs it; see there.

    python benchmarks/gpu.py speed --data .gpu/data --out runs/gpu
    python benchmarks/gpu.py boxes classes --data .gpu/data --out runs/gpu --minutes 5
    python benchmarks/gpu.py speed boxes classes --dry --out runs/gpu          # everything tiny, made data, on a CPU

boxes: bccd at 640 px from 4 images by 60 and 120 boxes, the recipe of bccd, but RetinaNet on a ShuffleNet x1.0 with
COCO weights: the largest body of a detector whose weights are at hand. (A ResNet-50 from scratch would learn nothing in
minutes; its speed is in `speed`.) Random images against k-center and entropy (sum), and everything labelled.

classes: CIFAR-10, ResNet-18, SGD and steps as in the document (001, sections 3.4.1 and 4.5.1), from 10 % of 50,000
images by 10 % to 30 %; fewer epochs than its 100, predictions recorded every few epochs, bf16. Label dispersion against
random; every method trains a first model of its own on the same images.

In --out: gpu_speed.csv, gpu_boxes.csv, gpu_classes.csv (mean and paired difference with Student's t and bootstrap
intervals) and the `_runs` behind the last two, each with card, versions, commit and seeds. What is not done after
--minutes is left out.
"""

from __future__ import annotations

import argparse
import os
import platform
import signal
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torchvision
from claims import by_round, rounded, write
from gpu_dry import make_data
from gpu_speed import speeds

from labelwise.project import opening
from labelwise.project.kept_pools import KeptPools
from labelwise.report.results import RunResult
from labelwise.report.spread import groups, values
from labelwise.study import history
from labelwise.study.compare import Comparison
from labelwise.types import LabelwiseError

BASE = "random_image"


@dataclass(frozen=True)
class Plan:
    """One comparison: what `labelwise compare` is told."""

    data: str
    methods: tuple[str, ...]
    seeds: int
    jobs: int
    settings: tuple[str, ...]
    all_data: bool = False


BOXES = Plan(
    "bccd",
    (BASE, "coreset_image", "entropy_sum_image"),
    5,
    8,
    (
        *("data.image_size_px=640", "model.backbone=shufflenet_v2_x1_0", "model.anchor_sizes=[32, 64, 128, 256]"),
        "model.weights=weights/shufflenet_v2_x1_0_nanodet_coco_backbone.pth",
        *("train.steps=320", "train.precision=bf16-mixed", "budget.start_images=4", "budget.per_round=[60, 120]"),
    ),
    all_data=True,
)
CLASSES = Plan(
    "cifar10_paper",
    (BASE, "dispersion"),
    3,
    3,
    (
        *("train.epochs=25", "train.step_epochs=[15, 20]", "train.record_every=3", "train.precision=bf16-mixed"),
        *("budget.start_images=0.10", "budget.per_round=[5000, 5000]"),
    ),
)
TINY_BOXES = Plan(
    "scenes",
    (BASE, "entropy_image"),
    2,
    1,
    (
        "data.scenes={train = 8, test = 4, size_px = 64, classes = 2}",
        *("data.image_size_px=64", "model.weights=none", "model.fpn_channels=16", "train.steps=1"),
        *("budget.start_images=2", "budget.per_round=[4]"),
    ),
)
TINY_CLASSES = Plan(
    "cifar10_paper",
    (BASE, "dispersion"),
    2,
    1,
    (
        *("data.root={data}/tiny.npz", "data.format=arrays", "data.image_size_px=32", "model.backbone=small"),
        *("model.width=4", "train.epochs=2", "train.step_epochs=[1]", "budget.start_images=8", "budget.per_round=[4]"),
    ),
)


def compare(
    plan: Plan, folder: Path, settings: tuple[str, ...], seconds: float, **more: Any
) -> tuple[Comparison, list[RunResult]]:
    """Runs a comparison for so long at most; the runs that were finished."""
    made = Comparison(folder, plan.data, plan.methods, tuple(range(plan.seeds)), settings, plan.all_data, **more)
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background jobs ignore it
    bell = threading.Timer(seconds, signal.raise_signal, (signal.SIGINT,))
    bell.daemon = True
    bell.start()
    try:
        made.run(plan.jobs, lambda _: None)
    except KeyboardInterrupt:
        print(f"{folder.name}: not all was done after {seconds:.0f} s", flush=True)
    except LabelwiseError as error:  # what did not fail is worth a table
        print(f"{folder.name}: {error}", flush=True)
    finally:
        bell.cancel()
    kept, found = KeptPools(), list[RunResult]()
    for project in made.projects():
        opened = opening.start(project, None, kept=kept)
        if opened.project.ledger.stage_done(opened.run.rounds - 1, "evaluate") is not None:
            found.append(history.run_result(opened, gallery=0))
        opened.project.close()
    return made, found


def lines(runs: list[RunResult]) -> Iterator[dict[str, object]]:
    """A line for each method, seed and round; quality in points."""
    for run in runs:
        for one in run.rounds:
            line: dict[str, object] = {"row": run.name, "seed": run.seed, "round": one.round, "images": one.cost_images}
            line |= {"metric": run.metric, "value": rounded(100 * one.quality)}
            line |= {f"{stage}_s": rounded(seconds) for stage, seconds in one.stage_seconds.items()}
            yield line


def summary(runs: list[RunResult]) -> Iterator[dict[str, object]]:
    """A line for each method and round, and for the mean of the rounds after the first, beside random's."""
    by_name = {group.name: group for group in groups(runs)}
    base = by_name.get(BASE)
    for name, group in by_name.items():
        paired = base is not None and name != BASE and not group.is_all_data
        seeds = [s for s in group.seeds if not paired or s in base.seeds]
        a = 100 * values(group, "quality")[[group.seeds.index(s) for s in seeds]]
        b = 100 * values(base, "quality")[[base.seeds.index(s) for s in seeds]] if paired else None
        for line, _ in by_round(a, b, group.rounds):
            yield {"row": name, "against": BASE if paired else "", "metric": group.metric} | line


def note(command: str, commit: str, *more: str) -> str:
    """What a CSV's figures hold for."""
    card = torch.cuda.get_device_name() if torch.cuda.is_available() else "no GPU"
    said = [f"command: benchmarks/gpu.py {command}", f"commit: {commit}", f"card: {card}"]
    said += [f"machine: {os.cpu_count()} cores, {platform.machine()}", f"date: {time.strftime('%Y-%m-%d')}"]
    said += [f"versions: torch {torch.__version__}, torchvision {torchvision.__version__}, CUDA {torch.version.cuda}, "]
    said[-1] += f"numpy {np.__version__}, python {platform.python_version()}"
    said += ["fp32: convolutions in TF32 on a GPU, as PyTorch has it unless told otherwise", *more]
    return "".join(f"# {line}\n" for line in said)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("parts", nargs="+", choices=("speed", "boxes", "classes"))
    parser.add_argument("--dry", action="store_true", help="tiny, on a CPU")
    parser.add_argument("--data", type=Path, help="what gpu_pack.py packed; none: made data")
    parser.add_argument("--out", type=Path, default=Path("runs/gpu"))
    parser.add_argument("--runs", type=Path, help="where the projects go; none: below --out")
    parser.add_argument("--seeds", type=int, help="of each comparison; none: the plan's")
    parser.add_argument("--jobs", type=int, help="processes of each comparison; none: the plan's")
    parser.add_argument("--minutes", type=float, default=5.0, help="of each comparison, at most")
    parser.add_argument(
        "--set", action="append", default=[], metavar="KEY=VALUE", help="another setting of a comparison"
    )
    given = parser.parse_args()
    if given.data is None and not given.dry:
        raise SystemExit("--data: the folder .gpu/data that benchmarks/gpu_pack.py makes; or --dry")
    given.out.mkdir(parents=True, exist_ok=True)
    data = make_data(given.out / "made") if given.data is None else given.data.absolute()
    os.environ["LABELWISE_DATA"] = str(data)
    commit = (data.parent / "commit.txt").read_text(encoding="utf-8") if given.data else "not known"
    command = " ".join(sys.argv[1:])
    for part in given.parts:
        began = time.perf_counter()
        if part == "speed":
            found = list(speeds(data, dry=given.dry))
            write(given.out / "gpu_speed.csv", found, note(command, commit))
        else:
            chosen = {"boxes": BOXES, "classes": CLASSES}[part]
            plan = {"boxes": TINY_BOXES, "classes": TINY_CLASSES}[part] if given.dry else chosen
            plan = replace(plan, seeds=given.seeds or plan.seeds, jobs=given.jobs or plan.jobs)
            settings = tuple(one.replace("{data}", str(data)) for one in plan.settings) + tuple(given.set)
            settings += ("train.accelerator=cpu",) if given.dry else ()
            folder = (given.runs or given.out / "runs").absolute() / part
            made, runs = compare(plan, folder, settings, 60 * given.minutes)
            more = (f"data: {plan.data}", f"settings: {'; '.join(settings)}", f"seeds: {made.seeds}")
            took = f"wall time: {time.perf_counter() - began:.0f} s, {plan.jobs} processes"
            write(given.out / f"gpu_{part}_runs.csv", list(lines(runs)), note(command, commit, *more, took))
            found = list(summary(runs))
            write(given.out / f"gpu_{part}.csv", found, note(command, commit, *more, took))
        print(f"\n{part}, {time.perf_counter() - began:.0f} s")
        for line in found:
            print(", ".join(f"{key} {value}" for key, value in line.items() if value != ""), flush=True)


if __name__ == "__main__":
    main()
