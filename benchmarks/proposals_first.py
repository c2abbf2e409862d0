"""A project from zero labels: how many objects box questions about proposed boxes find, and what a found box costs.

    LABELWISE_DATA=data python benchmarks/proposals_first.py --seeds 50

Of every set as many images are drawn by seed as hold about 32 objects (fod_a 31, aquarium 5, bccd 3); YOLOX-nano,
which knows nothing of the set, proposes up to 30 boxes an image, and the simulated oracle answers 64 box questions, the
surest first: round 1 of `labelwise run` with `predict.proposals` and `budget.start_images=0`. Only the pools are read;
nothing was chosen on them but the order of the proposals and their suppression (`proposals.py`: fod_a's pool). Seconds
by the cost table: a question is a verification (2 s); `as_is_s` takes a box that overlaps its object by IoU 0.5 as it
is, `mended_s` draws every one anew (the table's `adjust`: what `labelwise run` counts); `mean_iou` tells how well they
fit. Drawing: every one of the same images is inspected, every object drawn. A row for each seed, and the means of it.
"""

from __future__ import annotations

import argparse
import csv
import datetime
import json
import os
import platform
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")  # before torch is imported

import numpy as np
import torch

from labelwise import loop
from labelwise.ask.cost import DEFAULT
from labelwise.data import find
from labelwise.project import opening
from labelwise.project.round import Round
from labelwise.types import Pool
from labelwise.types.disk import replacing
from labelwise.types.overlap import iou_matrix

RESULTS = Path(__file__).parent / "results" / "proposals_first.csv"
SETS = {"fod_a": (31, "train"), "aquarium": (5, "train"), "bccd": (3, "trainval")}
"""Images that hold about 32 objects, and the split that they are of."""
SETTINGS = (
    *("data.format=coco", 'model={name="retinanet", weights="none"}', "labels.policy=ignore", "train.threads=1"),
    *("query.unit=box", "query.score=random", "query.select=top", "budget.unit=queries", "budget.start_images=0"),
)


def written(folder: Path, pool: Pool, images: np.ndarray) -> None:
    """These images and their boxes as a COCO data set of their own."""
    truth = pool.truth
    assert truth is not None
    (folder / "images").mkdir(parents=True)
    files = [f"images/{k}{Path(pool.names[i]).suffix}" for k, i in enumerate(images.tolist())]
    for file, i in zip(files, images.tolist(), strict=True):
        (folder / file).symlink_to(Path(pool.root) / pool.names[i])
    size = zip(pool.width_px[images].tolist(), pool.height_px[images].tolist(), strict=True)
    shown = [
        {"id": k, "file_name": file, "width": w, "height": h}
        for k, (file, (w, h)) in enumerate(zip(files, size, strict=True))
    ]
    boxes = [(k, row) for k, i in enumerate(images.tolist()) for row in np.flatnonzero(truth.image == i)]
    said = [
        {"id": n, "image_id": k, "category_id": int(truth.labels[row]), "iscrowd": 0, "area": float(w * h),
         "bbox": [float(x), float(y), float(w), float(h)]}
        for n, (k, row) in enumerate(boxes)
        for x, y, w, h in [(*truth.xyxy[row, :2], *(truth.xyxy[row, 2:] - truth.xyxy[row, :2]))]
    ]  # fmt: skip
    classes = [{"id": k, "name": name} for k, name in enumerate(pool.classes)]
    text = json.dumps({"images": shown, "annotations": said, "categories": classes})
    (folder / "annotations.json").write_text(text, encoding="utf-8")


def found(runs: Path, data: str, pool: Pool, seed: int, questions: int, weights: str) -> dict[str, Any]:
    """Asks the questions of one seed; what they found and cost."""
    images, folder = SETS[data][0], runs / f"{data}_{seed}"
    shutil.rmtree(folder, ignore_errors=True)
    drawn = np.sort(np.random.default_rng(seed).permutation(len(pool))[:images])
    written(folder / "data", pool, drawn)
    own = [f"seed={seed}", f"data.root={folder / 'data'}", f"budget.per_round=[{questions}]"]
    context = opening.start(folder / "p", "box_random_ignore", [*SETTINGS, *own, f"predict.proposals={weights}"])
    while (due := loop.next_stage(context)) != (1, "label"):
        assert due is not None
        loop.run_next(context, due[1])
    cost, objects = context.project.ledger.cost_by_round()[1], len(context.pool.truth or ())
    overlap = [float(iou_matrix(query, box).max()) for query, box in hits(Round(context, 1))]
    context.project.close()
    shutil.rmtree(folder)
    return {
        "data": data, "seed": seed, "images": images, "objects": objects, "questions": cost.queries,
        "found": cost.boxes, "of_32": round(32 * cost.boxes / max(objects, 1), 2),
        "mean_iou": round(float(np.mean(overlap)), 3) if overlap else "",
        "as_is_s_per_box": round(DEFAULT.verify * cost.queries / max(cost.boxes, 1), 2),
        "mended_s_per_box": round(cost.seconds / max(cost.boxes, 1), 2),
        "drawing_s_per_box": round((DEFAULT.inspect * images + DEFAULT.draw * objects) / max(objects, 1), 2),
    }  # fmt: skip


def hits(now: Round) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """The asked and the true box of every question that found an object."""
    known = now.context.known().annotations
    for query in now.queries():
        truth = known.xyxy[known.image == now.pool.number_of[query.image]]
        asked = np.array([query.box], np.float64)
        if len(truth) and iou_matrix(asked, truth.astype(np.float64)).max() >= 0.5:
            yield asked, truth.astype(np.float64)


def machine() -> dict[str, str]:
    commit = subprocess.run(["git", "describe", "--always", "--dirty"], capture_output=True, text=True, check=False)
    return {
        "command": " ".join(["python", "benchmarks/proposals_first.py", *sys.argv[1:]]),
        "commit": commit.stdout.strip(),
        "date": datetime.date.today().isoformat(),
        "machine": f"{os.cpu_count()} x {platform.machine()}, {torch.backends.cpu.get_cpu_capability()}",
        "versions": f"python {platform.python_version()}, torch {torch.__version__}, numpy {np.__version__}",
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=50)
    parser.add_argument("--questions", type=int, default=64)
    parser.add_argument("--sets", nargs="+", default=list(SETS), choices=list(SETS))
    parser.add_argument("--weights", default="weights/yolox_nano_coco.safetensors")
    parser.add_argument("--runs", type=Path, default=Path("runs/proposals_first"))
    args = parser.parse_args()
    torch.set_num_threads(1)
    rows = list[dict[str, Any]]()
    for data in args.sets:
        pool = find.read(Path(os.environ["LABELWISE_DATA"]) / data, SETS[data][1])
        mine = [found(args.runs.absolute(), data, pool, k, args.questions, args.weights) for k in range(args.seeds)]
        names = [name for name, value in mine[0].items() if isinstance(value, (int, float)) and name != "seed"]
        tables = {name: np.array([row[name] for row in mine], float) for name in names}
        mean = {name: round(float(table.mean()), 2) for name, table in tables.items()}
        error = 1.96 * tables["of_32"].std(ddof=1) / np.sqrt(len(mine)) if len(mine) > 1 else np.nan
        most = (tables["of_32"] >= 30).mean()
        print(
            f"{data}: of 32 objects {mean['of_32']} +- {error:.2f} ({100 * most:.0f} % of the draws 30 or more), {mean}"
        )
        rows += [*mine, {"data": data, "seed": "mean", **mean}]
    told = machine()
    with replacing(RESULTS) as partial, partial.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, [*rows[0], *told])
        writer.writeheader()
        writer.writerows([row | told for row in rows])


if __name__ == "__main__":
    main()
