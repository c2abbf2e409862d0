"""AP50 of the detectors after the same processor time of training on the same few labelled images.

    LABELWISE_DATA=data python benchmarks/detectors_at_equal_time.py --minutes 2           # killed, it continues
    LABELWISE_DATA=data python benchmarks/detectors_at_equal_time.py --minutes 2 --sets bccd --seeds 3 --summary

RetinaNet, YOLOX-nano (with mosaic, too) and the frozen detector, each by its recipe, on bccd, aquarium and fod_a: the
images of a seed are drawn at random, wholly labelled, and the same for all; round 0 of `labelwise run`. `--minutes` is
of one core, processor time, of training alone: the number of steps follows from a dozen steps that are timed before.
The frozen detector trains in a second; its features, which are computed once and kept, are told apart (`prepare_s`).
`--images`: so many labelled images; as the recipes begin without it. Test parts as the recipes have them. A row for
each run; none of it was chosen on a test part (YOLOX's learning rate and frozen norms: on a quarter of bccd's pool).
"""

from __future__ import annotations

import argparse
import csv
import datetime
import os
import platform
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")  # before torch is imported

import numpy as np
import torch

from labelwise import loop
from labelwise.project import opening
from labelwise.project.context import Context
from labelwise.project.round import Round
from labelwise.types.disk import replacing

RESULTS = Path(__file__).parent / "results" / "detectors_at_equal_time.csv"
RETINANET = 'model={name="retinanet", backbone="shufflenet_v2_x0_5", weights="weights/%s", normalise="batch"}'
IMAGENET = RETINANET % "shufflenet_v2_x0_5_imagenet_backbone.pth"
COMMON = ("train.scale=[0.6, 1.4]", "train.photometric=1", "train.batch_size=8", "train.warm_start=false")
ALIKE = (
    *COMMON,
    "train.threads=1",
    "query.unit=image",
    "query.score=random",
    "query.select=top",
    "labels.policy=ignore",
)
SETS = {"bccd": "bccd", "fod_a": "fod_a_frozen", "aquarium": "aquarium"}
"""Recipe of every set."""
DETECTORS: dict[str, tuple[str, dict[str, tuple[str, ...]]]] = {
    "frozen": ("+frozen", {}),
    "retinanet": ("", {"fod_a": (IMAGENET,), "aquarium": ('model.normalise="batch"',)}),
    "yolox": ("+yolox", {}),
    "yolox_mosaic": ("+yolox", dict.fromkeys(SETS, ("train.mosaic=0.5",))),
}
"""Layer over the recipe of the set, and settings by set."""


def opened(folder: Path, data: str, detector: str, seed: int, images: int | None, more: Sequence[str]) -> Context:
    layer, own = DETECTORS[detector]
    settings = [*ALIKE, *own.get(data, ()), f"seed={seed}", "budget.per_round=[]", "ask.who=oracle", *more]
    if images is not None:
        settings.append(f"budget.start_images={images}")
    if detector == "frozen" or data == "fod_a":
        settings.append(f"features.folder={folder.parent / '_features'}")
    return opening.start(folder, SETS[data] + layer, settings)


def trained(context: Context) -> tuple[float, float]:
    """Runs round 0; CPU seconds of its training, and images a CPU second of the prediction on the test part."""
    spent = {}
    for _ in loop.STAGES:
        due = loop.next_stage(context)
        assert due is not None
        if due[1] == "train" and context.run.reads_objects:
            for part in ("pool", "test"):
                context.objects(part)  # computed once and kept: not the training
        elif due[1] == "evaluate" and not context.run.reads_objects:
            context.images("test").warm(range(len(context.test or ())))  # nor is decoding the prediction
        began = time.process_time()
        loop.run_next(context, due[1])
        spent[due[1]] = time.process_time() - began
    return spent["train"], len(context.test or ()) / max(spent["evaluate"], 1e-9)


def rate(runs: Path, data: str, detector: str) -> float:
    """Steps a CPU second, of twelve after four to warm up."""
    seconds = []
    for steps in (4, 16):
        folder = Path(tempfile.mkdtemp(dir=runs))
        context = opened(folder / "p", data, detector, 0, None, [f"train.steps={steps}", "train.min_steps=0"])
        for name in loop.STAGES[: loop.STAGES.index("train")]:
            loop.run_next(context, name)
        began = time.process_time()
        loop.run_next(context, "train")
        seconds.append(time.process_time() - began)
        context.project.close()
        shutil.rmtree(folder)
    return 12 / max(seconds[1] - seconds[0], 1e-9)


def run(
    runs: Path, data: str, detector: str, seed: int, minutes: float, images: int | None, steps_a_s: float
) -> dict[str, Any]:
    folder = runs / f"{data}_{detector}_{seed}"
    shutil.rmtree(folder, ignore_errors=True)
    steps = max(1, round(60 * minutes * steps_a_s))
    more = [] if detector == "frozen" else [f"train.steps={steps}", "train.min_steps=0"]
    begun = time.process_time()
    context = opened(folder, data, detector, seed, images, more)
    train_s, predicted = trained(context)
    metrics, targets = Round(context, 0).metrics, Round(context, 0).targets
    row = {
        "data": data, "detector": detector, "seed": seed, "minutes": minutes, "images": len(targets),
        "boxes": len(targets.boxes), "steps": 0 if detector == "frozen" else steps, "train_s": round(train_s, 1),
        "train_images_per_s": round(8 * steps_a_s, 1) if detector != "frozen" else "",
        "predict_images_per_s": round(predicted, 1) if detector != "frozen" else "",
        "prepare_s": round(time.process_time() - begun - train_s, 1) if detector == "frozen" else "",
        "ap50": round(100 * metrics["ap50"], 2), "ap": round(100 * metrics["ap"], 2),
    }  # fmt: skip
    context.project.close()
    shutil.rmtree(folder)
    return row


def machine() -> dict[str, str]:
    commit = subprocess.run(["git", "describe", "--always", "--dirty"], capture_output=True, text=True, check=False)
    return {
        "command": " ".join(["python", "benchmarks/detectors_at_equal_time.py", *sys.argv[1:]]),
        "commit": commit.stdout.strip(),
        "date": datetime.date.today().isoformat(),
        "machine": f"{os.cpu_count()} x {platform.machine()}, {torch.backends.cpu.get_cpu_capability()}, one thread, "
        f"load {os.getloadavg()[0]:.1f}",
        "versions": f"python {platform.python_version()}, torch {torch.__version__}, numpy {np.__version__}",
    }


def summary(rows: Sequence[dict[str, Any]]) -> None:
    """Mean AP50 of every set, minutes, images and detector, and the paired difference to RetinaNet."""
    keys = sorted({(r["data"], r["minutes"], r["images"]) for r in rows})
    for key in keys:
        mine = [r for r in rows if (r["data"], r["minutes"], r["images"]) == key]
        base = {r["seed"]: float(r["ap50"]) for r in mine if r["detector"] == "retinanet"}
        for name in DETECTORS:
            found = {r["seed"]: float(r["ap50"]) for r in mine if r["detector"] == name}
            both = [found[s] - base[s] for s in found if s in base]
            if not found:
                continue
            mean = np.mean(list(found.values()))
            line = f"{' '.join(map(str, key))} images, {name}: AP50 {mean:.1f}, {len(found)} seeds"
            if both and name != "retinanet":
                line += f", minus RetinaNet {np.mean(both):+.1f} ({min(both):+.1f} to {max(both):+.1f})"
            print(line)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=2.0)
    parser.add_argument("--images", type=int, help="labelled images; none: as the recipe of the set begins")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--sets", nargs="+", default=list(SETS), choices=list(SETS))
    parser.add_argument("--detectors", nargs="+", default=list(DETECTORS), choices=list(DETECTORS))
    parser.add_argument("--runs", type=Path, default=Path("runs/detectors_at_equal_time"))
    parser.add_argument("--summary", action="store_true", help="only the table, from what is there")
    args = parser.parse_args()
    torch.set_num_threads(1)
    rows = list(csv.DictReader(RESULTS.open(encoding="utf-8"))) if RESULTS.is_file() else []
    runs = args.runs.absolute()
    runs.mkdir(parents=True, exist_ok=True)
    asked, rates = str(args.images or ""), dict[tuple[str, str], float]()
    for seed in range(args.seeds if not args.summary else 0):
        for data in args.sets:
            for detector in args.detectors:
                key = {
                    "data": data,
                    "detector": detector,
                    "seed": str(seed),
                    "minutes": str(args.minutes),
                    "asked": asked,
                }
                if any(all(row[k] == v for k, v in key.items()) for row in rows):
                    continue
                if detector != "frozen" and (data, detector) not in rates:
                    rates[data, detector] = rate(runs, data, detector)
                found = run(runs, data, detector, seed, args.minutes, args.images, rates.get((data, detector), 0.0))
                print(", ".join(f"{k} {v}" for k, v in found.items()), flush=True)
                rows.append({k: str(v) for k, v in (found | {"asked": asked} | machine()).items()})
                with replacing(RESULTS) as partial, partial.open("w", newline="", encoding="utf-8") as file:
                    writer = csv.DictWriter(file, list(rows[-1]))
                    writer.writeheader()
                    writer.writerows(rows)
    summary(rows)


if __name__ == "__main__":
    main()
