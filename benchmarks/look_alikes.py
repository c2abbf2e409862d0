"""How many copies `labelwise check` finds, how many different images it takes for one, with what stride tracks hold.

    python benchmarks/look_alikes.py bccd=DATA/bccd aquarium=DATA/aquarium fod_a=DATA/fod_a roads= drones=DATA/drones

Of every data set (a name without a folder: generated road scenes): images looked at, different ones, those like one of
another split. Copies of `--copies` images at even distances, made anew in several ways, are found where they look like
their original. Pairs that look the same: all, and those that are two stills or frames of two clips. There should be
none of the latter, but for skies without an object (drones), one ground under two things (fod_a), bursts (aquarium).
Beside it a difference hash of 9 x 8 cells (64 bits), the same where at most 4 bits differ. Then with what stride tracks
hold. Writes results/look_alikes.csv.
"""

from __future__ import annotations

import argparse
import csv
import datetime
import importlib.metadata
import io
import os
import platform
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image

from labelwise.cli import look_alikes
from labelwise.data import recognise, redundancy
from labelwise.data.image_reader import pixels_of
from labelwise.generated import roads
from labelwise.types.disk import replacing

RESULTS = Path(__file__).parent / "results" / "look_alikes.csv"
BITS = 4


def saved(pixels: np.ndarray, quality: int) -> np.ndarray:
    held = io.BytesIO()
    Image.fromarray(pixels).save(held, "JPEG", quality=quality)
    return np.asarray(Image.open(held).convert("RGB"))


def brighter(pixels: np.ndarray, factor: float) -> np.ndarray:
    return np.clip(pixels * factor, 0, 255).astype(np.uint8)


def smaller(pixels: np.ndarray) -> np.ndarray:
    height, width = pixels.shape[:2]
    return np.asarray(Image.fromarray(pixels).resize((width // 2, height // 2), Image.Resampling.BILINEAR))


COPIES: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "jpeg_60": lambda pixels: saved(pixels, 60),
    "jpeg_30": lambda pixels: saved(pixels, 30),
    "brighter_8": lambda pixels: brighter(pixels, 1.08),
    "darker_8": lambda pixels: brighter(pixels, 0.92),
    "brighter_8_jpeg_60": lambda pixels: saved(brighter(pixels, 1.08), 60),
    "half_size": smaller,
}


def dhash(pixels: np.ndarray) -> np.ndarray:
    grey = Image.fromarray(pixels).convert("L").resize((9, 8), Image.Resampling.BOX)
    return np.packbits(np.diff(np.asarray(grey).astype(int), axis=1) > 0)


def pairs(near: Callable[[int], np.ndarray], clip: np.ndarray) -> tuple[int, int]:
    """Pairs that look the same: all, and those that are of two clips, or of stills."""
    found = wrong = 0
    for row in range(len(clip) - 1):
        same = near(row)[row + 1 :]
        found += int(same.sum())
        wrong += int((same & ((clip[row + 1 :] != clip[row]) | (clip[row] < 0))).sum())
    return found, wrong


def measure(name: str, root: Path, copies: int) -> list[dict[str, object]]:
    found = recognise.look(root, most=None)
    thumbnails: dict[str, np.ndarray] = {}
    hashes, clip, places = [], [], []
    wanted = redundancy.sample(sum(map(len, found.pools.values())))
    began = time.perf_counter()
    number = 0
    for part, pool in enumerate(found.pools.values()):
        for i, image in enumerate(pool.names):
            number += 1
            if not wanted[number - 1] or image in thumbnails:
                continue
            pixels = pixels_of(pool, i)
            thumbnails[image] = redundancy.thumbnail(pixels)
            hashes.append(dhash(pixels))
            clip.append(-1 if pool.clips is None else part * 100_000 + int(pool.clips.video[i]))
            places.append((pool, i))
    read_s, began = time.perf_counter() - began, time.perf_counter()
    alike = redundancy.alike([(split, pool.names) for split, pool in found.pools.items()], thumbnails)
    compare_s = time.perf_counter() - began
    rows, bits = redundancy.features(np.stack(list(thumbnails.values()))), np.stack(hashes)
    own = {"data": name}
    out: list[dict[str, object]] = [
        own | {"what": f"split {one.split}", "images": one.images, "looked_at": one.looked_at}
        | {"different": one.different, "like_another_split": one.elsewhere}
        for one in alike
    ]  # fmt: skip
    out[0] |= {"read_s": round(read_s, 1), "compare_s": round(compare_s, 2)}
    chosen = np.linspace(0, len(rows) - 1, copies).round().astype(int)
    for kind, copy in COPIES.items():
        made = [copy(pixels_of(*places[k])) for k in chosen.tolist()]
        theirs = redundancy.features(np.stack([redundancy.thumbnail(one) for one in made]))
        seen = [bool(redundancy.any_alike(theirs[k : k + 1], rows[i : i + 1])[0]) for k, i in enumerate(chosen)]
        far = np.bitwise_count(np.stack([dhash(one) for one in made]) ^ bits[chosen]).sum(axis=1)
        both = {"found": round(np.mean(seen), 3), "found_dhash": round(float((far <= BITS).mean()), 3)}
        out.append(own | {"what": f"copies {kind}", "images": copies} | both)
    of = np.array(clip)
    ours = pairs(lambda row: redundancy.any_alike(rows, rows[row : row + 1]), of)
    theirs = pairs(lambda row: np.bitwise_count(bits ^ bits[row]).sum(axis=1) <= BITS, of)
    out.append(own | {"what": "pairs alike", "found": ours[0], "found_dhash": theirs[0]})
    out.append(own | {"what": "of two clips, or stills", "found": ours[1], "found_dhash": theirs[1]})
    tracks = look_alikes.tracks(found)
    for one in tracks.support.shares if tracks.support else ():
        held = tracks.support.held(one)
        counts = {"boxes": one.boxes, "linked": one.linked, "spots": one.spots, "returned": one.returned}
        row = own | {"what": f"stride {one.stride}", "found": round(held or 0, 3), **counts}
        out.append(row | {"read_s": round(tracks.seconds, 1)})
    return out


def about() -> dict[str, object]:
    git = subprocess.run(["git", "describe", "--always", "--dirty"], capture_output=True, text=True, check=True)
    with Path("/proc/cpuinfo").open(encoding="utf-8") as file:
        cpu = next(line.split(":")[1].strip() for line in file if line.startswith("model name"))
    names = ("numpy", "pillow", "opencv-python-headless", "av")
    return {
        "command": f"python benchmarks/look_alikes.py {' '.join(arg.split('=')[0] for arg in sys.argv[1:])}",
        "commit": git.stdout.strip(),
        "date": datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%d"),
        "machine": f"{cpu}, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}",
        "versions": f"python {platform.python_version()}, "
        + ", ".join(f"{name} {importlib.metadata.version(name)}" for name in names),
        "seed": 0,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", nargs="+", metavar="NAME=FOLDER")
    parser.add_argument("--copies", type=int, default=200)
    args = parser.parse_args()
    rows: list[dict[str, object]] = []
    origin = about()
    with tempfile.TemporaryDirectory() as folder:
        for one in args.data:
            name, _, root = one.partition("=")
            place = Path(root) if root else Path(folder) / name
            if not root:
                roads.write(place, preset="small", seed=0)
            rows += [row | origin for row in measure(name, place, args.copies)]
            print(name, "done", flush=True)
            names = list(dict.fromkeys(key for row in rows for key in row))
            names = [key for key in names if key not in origin] + list(origin)
            with replacing(RESULTS) as partial, partial.open("w", newline="", encoding="utf-8") as file:
                writer = csv.DictWriter(file, names)
                writer.writeheader()
                writer.writerows(rows)


if __name__ == "__main__":
    main()
