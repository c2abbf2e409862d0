"""Images per second of training with each option of `[train]` and model beside none, in turn in one run.

    LABELWISE_DATA=data python benchmarks/train_options.py

RetinaNet on bccd at 256 px, batch 8, one thread: 15 images wholly looked over and 45 with one box each. Rounds of
training, each option once in every round, so that the machine's speed drifts for all of them alike; a figure is the
median over the rounds of images per second of processor time, a ratio the median of the pairs with "plain" of the
same round. Prints a table and writes `results/train_options.csv`.
"""

from __future__ import annotations

import argparse
import csv
import os
import platform
import subprocess
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torchvision

from labelwise.config.label_rule import LabelRule
from labelwise.config.sections import Train
from labelwise.data import voc
from labelwise.data.image_reader import Images
from labelwise.models import retinanet
from labelwise.stages.online_labels import OnlinePolicy
from labelwise.targets import partial
from labelwise.targets.count_thresholds import Recent, objects_per_image
from labelwise.train.augment import Augment
from labelwise.train.batches import TrainingSet
from labelwise.train.fit import fit
from labelwise.train.teacher import Teacher
from labelwise.types import Boxes, Labels, Pool, Rects

RESULTS = Path(__file__).parent / "results" / "train_options.csv"
RECIPE: dict[str, Any] = {"whole_share": 0.5, "warm_start": True, "scale": (0.6, 1.4), "photometric": 1.0}
OPTIONS: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "plain": ({}, {}),
    "whole_share 0.5": ({"whole_share": 0.5}, {}),
    "scale 0.6-1.4": ({"scale": (0.6, 1.4)}, {}),
    "iou_crop 0.5": ({"iou_crop": 0.5}, {}),
    "photometric 1": ({"photometric": 1.0}, {}),
    "normalise batch": ({}, {"normalise": "batch"}),
    "quality head": ({}, {"quality": True}),
    "teacher": ({"whole_share": 0.5, "warm_start": True, "teacher": "ema"}, {}),
    "the recipe": (RECIPE, {"normalise": "batch"}),
    "the recipe, teacher": (RECIPE | {"teacher": "ema"}, {"normalise": "batch"}),
}
"""Name -> settings of `[train]` and of `[model]`."""


def training_set(pool: Pool, rule: Train, rng: np.random.Generator) -> TrainingSet:
    """15 images wholly looked over, and 45 of which one box is known."""
    truth, n = pool.truth, len(pool)
    assert truth is not None
    chosen = rng.permutation(n)[:60]
    rows = [np.arange(truth.offsets[i], truth.offsets[i + 1])[: None if k < 15 else 1] for k, i in enumerate(chosen)]
    row = np.sort(np.concatenate(rows))
    size = np.stack([pool.width_px, pool.height_px], axis=1)[chosen[:15]]
    known = Labels(
        Boxes.from_rows(truth.image[row], truth.xyxy[row], truth.labels[row], n),
        Rects.from_rows(chosen[:15], np.concatenate([np.zeros_like(size), size], axis=1), n),
        Rects.empty(n),
        np.isin(np.arange(n), chosen),
    )
    nothing = np.zeros(0, np.float32)
    made = partial.targets(
        known, None, lambda _: (nothing > 0, nothing, nothing), "everywhere", pool.width_px, pool.height_px, pool.crowd
    )
    images = Images(pool, 256)
    images.warm(made.images)
    policy = LabelRule.model_validate({"policy": "dual", "class_thresholds": "counts"})
    per_image = objects_per_image(known, known.covered(pool), len(pool.classes))
    decide = OnlinePolicy(known, policy, 1, None, Recent(per_image))
    teacher = Teacher(decide) if rule.teacher else None
    return TrainingSet(images, made, np.arange(len(made)), Augment.of(rule), teacher)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--steps", type=int, default=10)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    torch.set_num_threads(1)
    pool = voc.read(Path(os.environ["LABELWISE_DATA"]) / "bccd" / "BCCD", "trainval")
    sets, rules = {}, {}
    for name, (settings, _) in OPTIONS.items():
        rule = Train(steps=options.steps, batch_size=8, threads=1, accelerator="cpu", **settings)
        rules[name], sets[name] = rule, training_set(pool, rule, np.random.default_rng(options.seed))
    speeds: dict[str, list[float]] = {name: [] for name in OPTIONS}
    for turn in range(options.rounds + 1):
        for name, rule in rules.items():
            torch.manual_seed(options.seed)
            model = retinanet.build(len(pool.classes), trainable_stages=3, **OPTIONS[name][1])
            began = time.process_time()
            fit(model, sets[name], rule, seed=options.seed, round_number=turn)
            if turn:  # the first one warms up
                speeds[name].append(8 * options.steps / (time.process_time() - began))
    commit = subprocess.run(["git", "describe", "--always", "--dirty"], capture_output=True, text=True, check=False)
    table = []
    for name, found in speeds.items():
        ratios = np.array(found) / np.array(speeds["plain"])
        low, middle, high = np.quantile(ratios, [0.25, 0.5, 0.75])
        row = {
            "option": name,
            "images_per_cpu_s": round(float(np.median(found)), 1),
            "to_plain": round(float(middle), 3),
            "quartiles": f"{low:.3f} to {high:.3f}",
            "rounds": options.rounds,
            "steps": options.steps,
            "seed": options.seed,
            "command": f"benchmarks/train_options.py --rounds {options.rounds} --steps {options.steps}",
            "commit": commit.stdout.strip(),
            "machine": f"{os.cpu_count()} x {platform.machine()}, {torch.backends.cpu.get_cpu_capability()}",
            "load": round(os.getloadavg()[0], 1),
            "torch": torch.__version__,
            "torchvision": torchvision.__version__,
            "python": platform.python_version(),
        }
        print(f"{name:20s} {row['images_per_cpu_s']:7.1f} images/s, {middle:.3f} of plain ({row['quartiles']})")
        table.append(row)
    with RESULTS.open("w", newline="") as file:
        writer = csv.DictWriter(file, list(table[0]))
        writer.writeheader()
        writer.writerows(table)


if __name__ == "__main__":
    main()
