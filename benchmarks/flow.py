"""How well boxes are followed on real clips, what the flow costs, and whether cuts are found.

    python benchmarks/flow.py DRONE_VIDEO_DEV --weights SHUFFLENET_V2_X0_5_IMAGENET

Every `--every`-th clip by name, `--frames` frames of it from frame `--start` on. A ground-truth box is moved by 1, 2, 3
and 5 frames in both directions and compared with the box of its class nearest to it there (there are no track
identities); a track that has ended counts as IoU 0. A row is one tracker: the mean IoU and the share above 0.5 per
distance, CPU milliseconds and bytes per frame (both directions, reading included). The rows "time" are the CPU
milliseconds of one direction on grey images of 640 x 360, reading excluded. "splices": the last frame of each clip,
then the first of another. "follow": 129,000 frames with 5 boxes each, ±3 frames, random flow.
Times are CPU times (`time.process_time`), wall times beside them: other work may have run on the machine.
"""

from __future__ import annotations

import argparse
import csv
import datetime
import importlib.metadata
import os
import platform
import subprocess
import tempfile
import time
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import cv2
import numpy as np
import torch
import torchvision

from labelwise.data import video
from labelwise.tracks import flow as dense
from labelwise.tracks import follow, siamese
from labelwise.tracks._tables import record
from labelwise.types import Clips, Pool, Tracks, image_of
from labelwise.types.disk import replacing
from labelwise.types.overlap import iou_matrix

DISTANCES = (1, 2, 3, 5)
Row = dict[str, object]


class Part:
    """Some frames of some clips of both splits, their pixels in memory."""

    def __init__(self, root: Path, every: int, start: int, frames: int) -> None:
        pixels, boxes, labels, counts, clip, first, last = [], [], [], [], [], [], []
        pools = [video.read(root, split) for split in ("train", "test")]
        clips = sorted((name, p, c) for p, pool in enumerate(pools) for c, name in enumerate(pool.clips.names))
        for number, (_, p, c) in enumerate(clips[::every]):
            pool: Pool = pools[p]
            images = np.flatnonzero(pool.clips.video == c)
            first.append(pool.frames(int(images[0])))
            for image in images[start : start + frames].tolist():
                rows = slice(pool.truth.offsets[image], pool.truth.offsets[image + 1])
                pixels.append(pool.frames(image))
                boxes.append(pool.truth.xyxy[rows])
                labels.append(pool.truth.labels[rows])
                counts.append(rows.stop - rows.start)
                clip.append(number)
            last.append(pixels[-1])
        self.pixels, self.first, self.last = pixels, first, last
        self.boxes, self.labels = np.concatenate(boxes), np.concatenate(labels)
        self.offsets = np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)
        frame = np.concatenate([np.arange(n) for n in np.bincount(clip)])
        self.clips = Clips(tuple(f"clip {i}" for i in range(clip[-1] + 1)), np.array(clip), frame, frame / 30.0)
        self.height, self.width = np.array([image.shape[:2] for image in pixels], np.int64).T


def score(part: Part, tracks: Tracks) -> Row:
    """Mean IoU and share above 0.5 for every distance."""
    found: dict[int, list[float]] = {distance: [] for distance in DISTANCES}
    for row, here in enumerate(image_of(part.offsets).tolist()):
        for column, step in enumerate(tracks.steps.tolist()):
            there = here + step
            same_clip = 0 <= there < len(part.clips) and part.clips.video[there] == part.clips.video[here]
            if abs(step) not in found or not same_clip:
                continue
            rows = np.arange(part.offsets[there], part.offsets[there + 1])
            rows = rows[part.labels[rows] == part.labels[row]]
            if len(rows):
                kept = tracks.image[row, column] >= 0
                box = tracks.boxes[row, column].astype(np.float64)
                found[abs(step)].append(float(iou_matrix(box[None], part.boxes[rows]).max()) if kept else 0.0)
    out: Row = {"boxes": len(part.boxes)}
    for distance, values in found.items():
        out[f"iou_{distance}"] = f"{np.mean(values):.3f}"
        out[f"above_half_{distance}"] = f"{np.mean(np.array(values) > 0.5):.3f}"
    return out


def timed(call: Callable[[], object]) -> tuple[object, float, float]:
    wall, cpu = time.perf_counter(), time.process_time()
    made = call()
    return made, time.process_time() - cpu, time.perf_counter() - wall


def by_flow(part: Part, **settings: object) -> list[Row]:
    """Both ways to read the flow, and not to move at all."""
    n, rows = len(part.pixels), []
    with tempfile.TemporaryDirectory() as folder:
        args = n, part.clips, part.width, part.height, part.pixels.__getitem__, Path(folder)
        flow, cpu, wall = timed(lambda: dense.compute(*args, **settings, threads=1))
        size = sum(path.stat().st_size for path in Path(folder).iterdir())
        for at in ("centre", "median"):
            tracks = follow.follow(part.offsets, part.boxes, flow, part.width, part.height, frames=5, at=at)
            rows.append(
                {
                    "what": f"flow, {at}",
                    **settings,
                    **score(part, tracks),
                    "frames": n,
                    "cpu_ms_per_frame": f"{cpu / n * 1e3:.2f}",
                    "wall_ms_per_frame": f"{wall / n * 1e3:.2f}",
                    "bytes_per_frame": size // n,
                    "cuts": len(flow.problems),
                }
            )
    return rows


def without_moving(part: Part) -> Row:
    here, k = image_of(part.offsets), max(DISTANCES)
    steps = np.concatenate([np.arange(-k, 0), np.arange(1, k + 1)])
    there = here[:, None] + steps
    inside = (there >= 0) & (there < len(part.clips))
    tracks = Tracks(np.where(inside, there, -1), np.repeat(part.boxes[:, None], 2 * k, axis=1))
    return {"what": "no motion", **score(part, tracks), "frames": len(part.pixels)}


def by_features(part: Part, weights: Path, scale: float, **settings: object) -> Row:
    """The Siamese tracker on ShuffleNetV2 x0.5, up to stride 8; the images enlarged by `scale`."""
    net = torchvision.models.shufflenet_v2_x0_5(weights=None)
    net.load_state_dict(torch.load(weights, map_location="cpu", weights_only=True), strict=False)
    body = torch.nn.Sequential(net.conv1, net.maxpool, net.stage2).eval()
    spent = [0.0]

    def features(x: torch.Tensor) -> torch.Tensor:
        made, cpu, _ = timed(lambda: body(x))
        spent[0] += cpu
        return made

    def image(i: int) -> torch.Tensor:
        pixels = cv2.resize(part.pixels[i], None, fx=scale, fy=scale, interpolation=cv2.INTER_LINEAR)
        return torch.from_numpy(pixels).permute(2, 0, 1).float() / 255

    n = len(part.pixels)
    joined = np.append(part.clips.video[1:] == part.clips.video[:-1], False)
    args = part.offsets, part.boxes, image, np.full((n, 2), scale), joined, part.width, part.height, features
    tracks, cpu, wall = timed(lambda: siamese.follow(*args, frames=5, **settings))
    return {
        "what": f"siamese, images x {scale:g}",
        **settings,
        **score(part, tracks),
        "frames": n,
        "cpu_ms_per_frame": f"{cpu / n * 1e3:.2f}",
        "wall_ms_per_frame": f"{wall / n * 1e3:.2f}",
        "cpu_ms_per_step_of_a_box": f"{(cpu - spent[0]) / max(1, (tracks.image >= 0).sum()) * 1e3:.3f}",
        "cpu_ms_of_features": f"{spent[0] / n * 1e3:.2f}",
    }


def time_at_640_360(part: Part, preset: str) -> Row:
    cv2.setNumThreads(1)
    grey = [cv2.resize(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY), (640, 360)) for image in part.pixels[:21]]
    engine = cv2.DISOpticalFlow_create(("ultrafast", "fast", "medium").index(preset))
    engine.calc(grey[0], grey[1], None)
    _, cpu, wall = timed(lambda: [engine.calc(a, b, None) for a, b in pairwise(grey)])
    return {
        "what": "time of one direction, 640 x 360",
        "preset": preset,
        "frames": 20,
        "cpu_ms_per_frame": f"{cpu / 20 * 1e3:.2f}",
        "wall_ms_per_frame": f"{wall / 20 * 1e3:.2f}",
        "bytes_per_frame": record(45, 80).itemsize,
    }


def splices(part: Part) -> Row:
    """Two images per clip: the end of one, the beginning of another."""
    n = len(part.first)
    pairs = [(i, (i + step) % n) for step in range(1, min(n, 6)) for i in range(n)]
    pixels = [image for i, j in pairs for image in (part.last[i], part.first[j])]
    frame = np.tile([0, 1], len(pairs))
    clips = Clips(tuple(f"{i} {j}" for i, j in pairs), np.repeat(np.arange(len(pairs)), 2), frame, frame / 30.0)
    height, width = np.array([image.shape[:2] for image in pixels], np.int64).T
    with tempfile.TemporaryDirectory() as folder:
        flow = dense.compute(len(pixels), clips, width, height, pixels.__getitem__, Path(folder), threads=1)
    return {"what": "splices", "preset": "ultrafast", "frames": len(pairs), "cuts": int((~flow.joined[::2]).sum())}


def follow_many(at: str, clips: int = 430, length: int = 300, each: int = 5) -> Row:
    rng, n = np.random.default_rng(0), clips * length
    table = np.zeros(length, record(45, 80))
    table["flow"] = rng.normal(0, 3, table["flow"].shape)
    joined = np.tile(np.arange(length) < length - 1, clips)
    grid, cell = np.tile([[80, 45]], (n, 1)), np.full((n, 2), 8.0)
    flow = dense.Flow((table,) * clips, np.arange(clips + 1) * length, joined, cell, grid)
    corner = rng.uniform(0, 300, (n * each, 2))
    boxes = np.concatenate([corner, corner + rng.uniform(10, 60, corner.shape)], axis=1).astype(np.float32)
    offsets = np.arange(n + 1, dtype=np.int64) * each
    _, cpu, wall = timed(lambda: follow.follow(offsets, boxes, flow, np.full(n, 640), np.full(n, 360), at=at))
    return {
        "what": f"follow, {at}",
        "frames": n,
        "boxes": n * each,
        "cpu_seconds": f"{cpu:.2f}",
        "wall_seconds": f"{wall:.2f}",
    }


def about(args: argparse.Namespace) -> Row:
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    cpu = next((line.split(":")[1].strip() for line in lines if "model name" in line), platform.processor())
    git = subprocess.run(["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=False)
    names = ("numpy", "opencv-python-headless", "torch", "torchvision", "av")
    return {
        "command": f"python benchmarks/flow.py DRONE_VIDEO_DEV --every {args.every} --frames {args.frames}",
        "commit": git.stdout.strip() + "+changes",
        "date": datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%d"),
        "machine": f"{cpu}, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}",
        "versions": f"python {platform.python_version()}, "
        + ", ".join(f"{name} {importlib.metadata.version(name)}" for name in names),
        "seed": 0,
        "threads": 1,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path, help="the folder drone_video_dev")
    parser.add_argument("--weights", type=Path, help="shufflenet_v2_x0_5_imagenet_backbone.pth; without it no siamese")
    parser.add_argument("--every", type=int, default=5, help="every so many clips")
    parser.add_argument("--start", type=int, default=60)
    parser.add_argument("--frames", type=int, default=30, help="frames of each clip")
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/flow.csv"))
    args = parser.parse_args()
    torch.set_num_threads(1)
    part = Part(args.data, args.every, args.start, args.frames)
    jobs: list[Callable[[], list[Row]]] = [lambda: [without_moving(part)]]
    for settings in (
        {"preset": "ultrafast"},
        {"preset": "fast"},
        {"preset": "ultrafast", "cell_px": 4},
        {"preset": "ultrafast", "cell_px": 16},
        {"preset": "ultrafast", "flow_px": 320},
        {"preset": "ultrafast", "flow_px": 960},
        {"preset": "medium"},
    ):
        whole = {"flow_px": 640, "cell_px": 8, **settings}
        jobs.append(lambda whole=whole: by_flow(part, **whole))
    jobs += [lambda at=at: [follow_many(at)] for at in ("centre", "median")]
    jobs += [lambda preset=preset: [time_at_640_360(part, preset)] for preset in ("ultrafast", "fast", "medium")]
    jobs.append(lambda: [splices(part)])
    if args.weights:
        jobs += [lambda scale=scale: [by_features(part, args.weights, scale)] for scale in (1.0, 2.0)]
        jobs.append(lambda: [by_features(part, args.weights, 2.0, scales=(0.9638, 1.0, 1.0375))])
    rows: list[Row] = []
    for job in jobs:
        rows += job()
        print(*rows[-2:], sep="\n", flush=True)
        write(args.out, [{**row, **about(args)} for row in rows])


def write(path: Path, rows: list[Row]) -> None:
    names = list(dict.fromkeys(name for row in rows for name in row))
    last = list(about(argparse.Namespace(every=0, frames=0)))
    with replacing(path) as partial, partial.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, [*(name for name in names if name not in last), *last])
        writer.writeheader()
        writer.writerows(rows)


if __name__ == "__main__":
    main()
