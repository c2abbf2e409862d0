"""A new user's path on real sets, and on one of them in eight layouts: check, init, run one round, export, read back.

    LABELWISE_DATA=../shared/data python benchmarks/user_paths.py --work FOLDER [--output CSV]

Each command in a fresh process; the training is a few steps. A row per set: what every command came to, in seconds, and
the boxes that were read, exported and read back. bccd is turned into the layouts by `labelwise convert` and by `flat`.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from labelwise.data import find
from labelwise.types import Pool

SETS = {
    "bccd": [],
    "aquarium": [],
    "fod_a": ["data.stride_frames=40"],
    "drone_video_dev": ["data.stride_frames=60"],
    "cifar10": ["data.most_images=300"],
}
TINY = ["train.steps=4", "train.min_steps=0", "data.image_size_px=128", 'model.weights="none"', "budget.per_round=[10]"]


def corners(pool: Pool, i: int) -> list[tuple[str, list[float]]]:
    """(class, box) of the objects of an image."""
    assert pool.truth is not None
    rows = slice(*pool.truth.offsets[i : i + 2])
    boxes = zip(pool.truth.labels[rows].tolist(), pool.truth.xyxy[rows].tolist(), strict=True)
    return [(pool.classes[label], box) for label, box in boxes]


def labelme(pool: Pool, i: int) -> tuple[str, str]:
    """Suffix and text of one image's labels."""
    shapes = [{"label": c, "points": [b[:2], b[2:]], "shape_type": "rectangle"} for c, b in corners(pool, i)]
    said = {"imagePath": Path(pool.names[i]).name, "imageWidth": int(pool.width_px[i])}
    return ".json", json.dumps(said | {"shapes": shapes, "imageHeight": int(pool.height_px[i]), "imageData": None})


def labelimg(pool: Pool, i: int) -> tuple[str, str]:
    """XML beside the image, as labelImg writes it."""
    rows = "".join(
        f"<object><name>{c}</name><bndbox><xmin>{b[0] + 1}</xmin><ymin>{b[1] + 1}</ymin><xmax>{b[2]}</xmax>"
        f"<ymax>{b[3]}</ymax></bndbox></object>"
        for c, b in corners(pool, i)
    )
    return ".xml", f"<annotation><filename>{Path(pool.names[i]).name}</filename>{rows}</annotation>"


def flat(pool: Pool, root: Path, split: str, text: Callable[[Pool, int], tuple[str, str]]) -> None:
    """Images of a split in one folder, with a file of labels beside each."""
    (root / split).mkdir(parents=True)
    for i, name in enumerate(pool.names):
        (root / split / Path(name).name).symlink_to(pool.path(i).resolve())
        suffix, said = text(pool, i)
        (root / split / Path(name).with_suffix(suffix).name).write_text(said, encoding="utf-8")


def table(pool: Pool, root: Path, split: str) -> None:
    """TensorFlow's CSV beside the images, as Roboflow writes it."""
    (root / split).mkdir(parents=True)
    lines = ["filename,width,height,class,xmin,ymin,xmax,ymax"]
    for i, name in enumerate(pool.names):
        (root / split / Path(name).name).symlink_to(pool.path(i).resolve())
        head = f"{Path(name).name},{pool.width_px[i]},{pool.height_px[i]}"
        lines += [",".join([head, c, *map(str, b)]) for c, b in corners(pool, i)]
    (root / split / "_annotations.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")


def run(*command: str) -> tuple[int, float, str]:
    """Exit code, seconds and output of a labelwise command."""
    start = time.perf_counter()
    done = subprocess.run(
        [sys.executable, "-m", "labelwise", *command], capture_output=True, text=True, timeout=900, check=False
    )
    return done.returncode, round(time.perf_counter() - start, 1), done.stdout if not done.returncode else done.stderr


def path(name: str, data: Path, settings: list[str], work: Path) -> dict[str, Any]:
    """A row of the table."""
    row: dict[str, Any] = {"set": name}
    project = work / f"project {name}"
    shutil.rmtree(project, ignore_errors=True)
    code, row["check_s"], said = run("check", str(data), "--json")
    if code:
        return row | {"went_wrong": f"check: {said[-300:]}"}
    report = json.loads(said)
    row |= {"format": report["format"], "splits": json.dumps(report["splits"])}
    row["problems"] = sum(problem["count"] for problem in report["problems"])
    sets = [part for setting in settings for part in ("--set", setting)]
    code, row["init_s"], said = run("init", str(project), "--data", str(data), *sets)
    if code:
        return row | {"went_wrong": f"init: {said[-300:]}"}
    smaller = ["data.image_size_px=32"] if name == "cifar10" else []
    tiny = [part for setting in [*TINY, *smaller] for part in ("--set", setting)]
    code, row["run_s"], said = run("run", "-p", str(project), *tiny)
    if code:
        return row | {"went_wrong": f"run: {said[-300:]}"}
    code, row["export_s"], said = run("export", "labels", "--to", "coco", "-p", str(project))
    if code:
        return row | {"went_wrong": f"export: {said[-300:]}"}
    back = find.read(project / "export" / "labels_coco", "train", "coco")
    row["exported_images"], row["exported_boxes"] = len(back), 0 if back.truth is None else len(back.truth)
    row["problems_read_back"] = len(back.problems)
    return row


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--output", type=Path, default=Path(__file__).parent / "results" / "user_paths.csv")
    parser.add_argument("--only", default="")
    given = parser.parse_args()
    given.work.mkdir(parents=True, exist_ok=True)
    home = Path(os.environ["LABELWISE_DATA"])
    places = {name: (home / name, settings) for name, settings in SETS.items()}
    for to in ("coco", "yolo", "voc", "cvat"):
        folder = given.work / f"bccd as {to}"
        if not folder.exists():
            run("convert", str(home / "bccd"), "--to", to, "-o", str(folder))
        places[f"bccd as {to}"] = folder, []
    own: dict[str, Callable[[Pool, Path, str], None]] = {
        "labelImg": lambda pool, root, split: flat(pool, root, split, labelimg),
        "labelme": lambda pool, root, split: flat(pool, root, split, labelme),
        "TensorFlow CSV": table,
    }
    for layout, write in own.items():
        folder = given.work / f"bccd as {layout}"
        for split in () if folder.exists() else ("train", "val"):
            write(find.read(home / "bccd", split), folder, split)
        places[f"bccd as {layout}"] = folder, []
    copied = given.work / "bccd as copied COCO"
    if not copied.exists():
        run("convert", str(home / "bccd"), "--to", "coco", "--copy", "-o", str(copied))
    places["bccd as copied COCO"] = copied, []
    rows = []
    for name, (data, settings) in places.items():
        if given.only in name:
            rows.append(path(name, data, settings, given.work))
            print(rows[-1], flush=True)
    fields = list(dict.fromkeys(key for row in rows for key in row))
    with given.output.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, fields, lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


if __name__ == "__main__":
    main()
