"""Chapter 2 of 001 on a GPU, on real films: drone_video_dev, Faster R-CNN that goes on from cycle to cycle.

    LABELWISE_DATA=data python benchmarks/gpu_video.py pack         # writes .gpu: wheels, the films, weights
    python benchmarks/gpu_video.py run --out "$OUT" --minutes 8     # there, after installing .gpu/wheels
    python benchmarks/gpu_video.py run --dry --out runs/dry         # a few films, tiny, on a CPU

The methods, cycles and tables of `video_curves.py`. The films are unpacked to frames of 320 px with OpenCV (a machine
without PyAV), in the layout of MOT; the split by clip is that of the format `video`. Every fifth frame may be asked;
detections, flow and links are of every frame. What is not done after --minutes is left out.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import sys
import time
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import gpu_pack
from claims import write
from gpu import Plan, compare, note
from video_curves import METHODS, SHARE, WAYS, lines, prepare, summary

ROOT = Path(__file__).parents[1]
SIZE = 320, 256
SETTINGS = (
    *("data.format=mot", "data.image_size_px=320", "data.test_stride_frames=5", "data.cache_gb=8"),
    *("query.every_frames=5", "query.threshold=0.5"),
    *("model.name=faster_rcnn", "model.backbone=shufflenet_v2_x1_0", "model.normalise=batch"),
    "model.weights=weights/shufflenet_v2_x1_0_nanodet_coco_backbone.pth",
    *("train.batch_size=12", "train.steps=300", "train.min_steps=0", "train.max_steps=none"),
    *("train.warm_start=true", "train.warm_lr=1e-3", "budget.unit=frames"),
)
DRY = ("train.steps=2", "model.fpn_channels=16", "train.accelerator=cpu", "model.weights=none")


def pack(source: Path, target: Path) -> None:
    """Wheels, the films with their labels and split, and the weights, into the git-ignored folder `.gpu`."""
    from labelwise.data import find

    shutil.rmtree(target, ignore_errors=True)
    (target / "wheels").mkdir(parents=True)
    gpu_pack.wheels(target / "wheels")
    films = target / "data/films"
    shutil.copytree(source / "drone_video_dev/videos", films / "videos")
    shutil.copyfile(source / "drone_video_dev/labels.json", films / "labels.json")
    split = {}
    for name in ("train", "test"):
        clips = find.read(source / "drone_video_dev", name, "video").clips
        split[name] = [] if clips is None else [Path(one).name for one in clips.names]
    (films / "split.json").write_text(json.dumps(split), encoding="utf-8")
    shutil.copytree(source / "bccd/BCCD", target / "data/bccd/BCCD")  # for `gpu.sh speed boxes` on the same machine
    gpu_pack.weights(source / "weights", target / "data/weights")
    (target / "commit.txt").write_text(gpu_pack.said("git", "describe", "--always", "--dirty"), encoding="utf-8")
    print(f".gpu {gpu_pack.size_of(list(target.rglob('*'))) / 2**20:.1f} MiB")


def unpack(films: Path, target: Path, most: int | None = None) -> None:
    """Every film as a folder of frames with a text of boxes, as MOT has them; what is there already stays."""
    split = json.loads((films / "split.json").read_text(encoding="utf-8"))
    entries = json.loads((films / "labels.json").read_text(encoding="utf-8"))
    of_file = {Path(entry["file"]).name: entry for entry in entries.values()}
    classes = sorted({box[0] for entry in of_file.values() for boxes in entry["labels"] for box in boxes})
    jobs = [
        (films, target / part, name, of_file[name], classes) for part, names in split.items() for name in names[:most]
    ]
    with ProcessPoolExecutor() as pool:
        list(pool.map(_film, jobs))


def _film(job: tuple[Path, Path, str, dict[str, object], list[str]]) -> None:
    import cv2

    films, part, name, entry, classes = job
    home = part / Path(name).stem
    if (home / "gt/labels.txt").exists():
        return
    (home / "img1").mkdir(parents=True, exist_ok=True)
    (home / "gt").mkdir(exist_ok=True)
    film, rows = cv2.VideoCapture(str(films / "videos" / name)), []
    labels: list[list[list[object]]] = entry["labels"]  # type: ignore[assignment]
    for k, boxes in enumerate(labels):
        there, pixels = film.read()
        if not there:
            break
        height, width = pixels.shape[:2]
        sx, sy = SIZE[0] / width, SIZE[1] / height
        small = cv2.resize(pixels, SIZE, interpolation=cv2.INTER_AREA)
        cv2.imwrite(str(home / f"img1/{k:06d}.jpg"), small, [cv2.IMWRITE_JPEG_QUALITY, 95])
        for label, *numbers in boxes:
            x, y, w, h = (float(str(one)) for one in numbers)
            box = [(x - 1) * sx + 1, (y - 1) * sy + 1, w * sx, h * sy]
            rows.append(f"{k},-1,{','.join(f'{v:.3f}' for v in box)},1,{classes.index(str(label)) + 1},1\n")
    (home / "gt/gt.txt").write_text("".join(rows), encoding="utf-8")
    (home / "gt/labels.txt").write_text("\n".join(classes) + "\n", encoding="utf-8")


def run(out: Path, runs: Path, plan: Plan, minutes: float, commit: str, share: float) -> None:
    """The comparison, for so long at most, and its tables."""
    began = time.perf_counter()
    frames, settings = prepare(runs, plan.data, plan.settings, share)
    print(f"{frames} frames, flow after {time.perf_counter() - began:.0f} s", flush=True)
    left = 60 * minutes - (time.perf_counter() - began)
    made, found = compare(plan, runs / "drones", settings, left, bounds=True, ways=WAYS)
    took = f"wall time: {time.perf_counter() - began:.0f} s, {plan.jobs} processes"
    more = (f"data: drone_video_dev, {frames} pool frames", f"settings: {'; '.join(settings)}", f"seeds: {made.seeds}")
    said = note(f"gpu_video.py {' '.join(sys.argv[1:])}", commit, *more, took)
    write(out / "gpu_video.csv", lines(found), said)
    write(out / "gpu_video_summary.csv", table := summary(found), said)
    print(took)
    for line in table:
        print(", ".join(f"{key} {value}" for key, value in line.items() if value != ""), flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("pack", "run"))
    parser.add_argument("--dry", action="store_true", help="few films, tiny, on a CPU")
    parser.add_argument("--data", type=Path, default=ROOT / ".gpu/data", help="what was packed")
    parser.add_argument("--out", type=Path, default=Path("runs/gpu_video"))
    parser.add_argument("--minutes", type=float, default=8.0)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--jobs", type=int, default=12)
    parser.add_argument("--share", type=float, default=SHARE, help="of the film's frames, labelled per cycle")
    parser.add_argument("--runs", type=Path, help="where the projects go; none: below --out")
    parser.add_argument("--methods", nargs="+", default=METHODS)
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE")
    given = parser.parse_args()
    if given.what == "pack":
        pack(Path(os.environ.get("LABELWISE_DATA", "data")), given.data.parent)
        return
    given.out.mkdir(parents=True, exist_ok=True)
    runs = (given.runs or given.out / "runs").absolute()
    os.environ["LABELWISE_DATA"], os.environ["LABELWISE_CACHE"] = str(given.data.absolute()), str(runs / "cache")
    began = time.perf_counter()
    unpack(given.data / "films", runs / "frames", 2 if given.dry else None)
    print(f"frames after {time.perf_counter() - began:.0f} s", flush=True)
    settings = (*SETTINGS, f"data.root={runs / 'frames'}", *(DRY if given.dry else ()), *given.set)
    plan = Plan("drones", tuple(given.methods), 1 if given.dry else given.seeds, given.jobs, settings)
    commit = (given.data.parent / "commit.txt").read_text(encoding="utf-8")
    run(given.out, runs, plan, given.minutes, commit, given.share)


if __name__ == "__main__":
    main()
