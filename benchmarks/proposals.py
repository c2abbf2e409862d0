"""Share of the objects that YOLOX-nano's class-agnostic proposals find, untrained: recall at IoU 0.5 by their number.

    LABELWISE_DATA=../shared/data OMP_NUM_THREADS=1 python benchmarks/proposals.py

Needs the folder with `fod_a`, `bccd`, `aquarium` and `weights/yolox_nano_coco.safetensors` (or --weights yolox_nano).
The order of the proposals ("objectness", not "confidence") was chosen on fod_a's pool (`--split train`); the test
splits are read with that choice, at two sizes; nms_iou 0.6 is what was used before and was not tuned. A box counts as
found when one of the best k proposals of its image overlaps it by IoU 0.5. No seed: nothing is drawn. Seconds are
processor time of one thread, decoding apart.
"""

from __future__ import annotations

import argparse
import csv
import datetime
import os
import platform
import subprocess
import sys
import time
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")  # before torch is imported

import numpy as np
import torch
import torchvision

from labelwise.data import find
from labelwise.data.image_reader import Images
from labelwise.models import yolox_files
from labelwise.models.proposals import proposals
from labelwise.models.yolox_network import YoloxNetwork
from labelwise.types import Pool, image_of
from labelwise.types.disk import replacing
from labelwise.types.overlap import iou_pairs, pairs

SPLITS = {
    "fod_a": {"train": ("train",), "test": ("test",)},
    "bccd": {"train": ("trainval",), "test": ("test",)},
    "aquarium": {"train": ("train",), "test": ("valid", "test")},
}
COUNTS = (1, 5, 10, 30, 100)
BATCH = 16


def read(root: Path, name: str, split: str) -> Pool:
    return find.join([find.read(root / name, part) for part in SPLITS[name][split]])


def first_hit(
    pool: Pool, numbers: np.ndarray, model: YoloxNetwork, size_px: int, rank: str, nms_iou: float
) -> tuple[np.ndarray, float, float]:
    """Of every true box of these images the number of the first proposal that overlaps it by IoU 0.5 (0 = the best);
    and the CPU seconds of the proposals, and proposals an image.
    """
    images, truth = Images(pool, size_px, cache_bytes=0), pool.truth
    assert truth is not None
    size = torch.from_numpy(np.stack([pool.width_px, pool.height_px], 1))
    hits, cpu, made = [], 0.0, 0
    for rows in np.array_split(numbers, -(-len(numbers) // BATCH)):
        batch = [torch.from_numpy(images[i][0].copy()) for i in rows]
        began = time.process_time()
        found = proposals(
            model, batch, size_px=size_px, count=max(COUNTS), nms_iou=nms_iou, rank=rank, original_px=size[rows]
        )
        cpu += time.process_time() - began
        made += len(found)
        offsets, true = (
            found.offsets.numpy(),
            np.concatenate([truth.xyxy[truth.offsets[i] : truth.offsets[i + 1]] for i in rows]),
        )
        a, b = pairs(np.concatenate([[0], np.cumsum(np.diff(truth.offsets)[rows])]), offsets)
        good = iou_pairs(true[a], found.boxes.numpy()[b]) >= 0.5
        hit = np.full(len(true), max(COUNTS))
        np.minimum.at(hit, a[good], (b - offsets[image_of(offsets)[b]])[good])
        hits.append(hit)
    return np.concatenate(hits), cpu, made / len(numbers)


def machine() -> dict[str, str]:
    def git(*arguments: str) -> str:
        return subprocess.run(["git", *arguments], capture_output=True, text=True, check=False).stdout.strip()

    changed = "+changes" if git("status", "--porcelain", "--untracked-files=no") else ""
    versions = {"python": platform.python_version(), "torch": torch.__version__, "torchvision": torchvision.__version__}
    load = f", load {os.getloadavg()[0]:.1f}" if hasattr(os, "getloadavg") else ""
    return {
        "command": " ".join(["python", "benchmarks/proposals.py", *sys.argv[1:]]),
        "commit": git("rev-parse", "--short", "HEAD") + changed,
        "date": datetime.date.today().isoformat(),
        "machine": f"{_processor()}, {os.cpu_count()} cores{load}",
        "versions": ", ".join(f"{k} {v}" for k, v in {**versions, "numpy": np.__version__}.items()),
        "seed": "none: nothing is drawn",
        "threads": str(torch.get_num_threads()),
    }


def _processor() -> str:
    info = Path("/proc/cpuinfo")
    names = [line for line in info.read_text().splitlines() if "model name" in line] if info.is_file() else []
    return names[0].split(":")[1].strip() if names else platform.machine()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=Path(os.environ.get("LABELWISE_DATA", "../shared/data")))
    parser.add_argument("--weights", help="a file or a known name; the default lies beside the data")
    parser.add_argument("--sets", nargs="+", default=list(SPLITS), choices=list(SPLITS))
    parser.add_argument("--split", default="test", choices=["train", "test"])
    parser.add_argument("--every", type=int, default=1, help="every n-th image alone")
    parser.add_argument("--size-px", type=int, nargs="+", default=[416])
    parser.add_argument("--rank", nargs="+", default=["objectness"], choices=["objectness", "confidence"])
    parser.add_argument("--nms-iou", type=float, nargs="+", default=[0.6])
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/proposals.csv"))
    args = parser.parse_args()
    torch.set_num_threads(1)
    model = yolox_files.load(args.weights or args.data / "weights" / "yolox_nano_coco.safetensors")
    rows = []
    for name in args.sets:
        pool = read(args.data, name, args.split)
        numbers = np.arange(0, len(pool), args.every)
        for size_px, rank, nms_iou in [(s, r, n) for s in args.size_px for r in args.rank for n in args.nms_iou]:
            hit, cpu, made = first_hit(pool, numbers, model, size_px, rank, nms_iou)
            rows.append(
                {"data": name, "split": args.split, "every": args.every, "images": len(numbers), "boxes": len(hit),
                 "size_px": size_px, "rank": rank, "nms_iou": nms_iou,
                 **{f"recall_at_{k}": f"{100 * (hit < k).mean():.1f}" for k in COUNTS},
                 "proposals_per_image": f"{made:.1f}", "cpu_ms_per_image": f"{1000 * cpu / len(numbers):.1f}"}
            )  # fmt: skip
            print(", ".join(f"{key} {value}" for key, value in rows[-1].items()), flush=True)
    told = machine()
    old = list(csv.DictReader(args.out.open(encoding="utf-8"))) if args.out.is_file() else []
    key = ("data", "split", "every", "size_px", "rank", "nms_iou")
    new = {tuple(str(row[k]) for k in key) for row in rows}
    old = [row for row in old if tuple(row[k] for k in key) not in new]
    with replacing(args.out) as partial, partial.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, [*rows[0], *told])
        writer.writeheader()
        writer.writerows([*old, *({**row, **told} for row in rows)])


if __name__ == "__main__":
    main()
