"""What an hour of video costs: optical flow once, in seconds and GB, and tracking in the rounds after it.

    python benchmarks/hour_of_video.py DRONE_VIDEO_DEV --runs 320:10 320:60 640:5 640:15    # longest side: minutes

The clips of the folder (30 frames a second, 640 x 512 px) are joined, over and over, to one film of so many minutes:
the 49 clips of one encoder, whose packets are copied. An own detector (`labelwise.open`) asks about every fifth frame
of it by temporal coherence, detections, flow and links being of every frame, k = 3. Its detections are made up: the
labelled object and four more that stand still in each clip; a tenth missed, corners off by 3 %, half a false alarm per
frame, other ones in every round. A row of benchmarks/results/hour_of_video.csv is one film: the first round that
predicts computes the flow (on images of that longest side), the later ones read it. `track`: flow and following;
`graph`: candidates, links and cut; `stage`: the whole stage score, with its tables; `ask`: the call that asks, with
the check of the detections and the selection. `later`: the median of the rounds after the first; `later_percent`:
their track and graph as a share of the first round's. Wall times, at a `load` before; `cpu`: of the process.
"""

from __future__ import annotations

import argparse
import os
import resource
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from fractions import Fraction
from itertools import islice
from multiprocessing import get_context
from pathlib import Path
from statistics import median

import av
import numpy as np
from claims import note_of, write

import labelwise
from labelwise.data import find

HERE = Path(__file__).parent
RATE, SIZE = 30, (640, 512)
STILL, MISSED, OFF, ALARMS = 4, 0.1, 0.03, 0.5
EVERY, BUDGET = 5, 50


def film(data: Path, path: Path, frames: int) -> np.ndarray:
    """Joins the clips until there are so many frames; their objects, xyxy [frames, 1 + STILL, 4] (NaN: none)."""
    rng, boxes, start = np.random.default_rng(0), list[np.ndarray](), 0
    pools = [find.read(data, split, "video") for split in ("train", "test")]
    clips = sorted((name, k, pool) for pool in pools for k, name in enumerate(pool.clips.names))
    with av.open(str(path), "w") as out:
        stream, head = None, b""
        while start < frames:
            for name, k, pool in clips if start < frames else ():
                first, count = int(np.flatnonzero(pool.clips.video == k)[0]), 0
                with av.open(str(data / name)) as source:
                    read = source.streams.video[0]
                    if stream is None:
                        stream, head = out.add_stream_from_template(read), read.codec_context.extradata
                    if read.codec_context.extradata != head:
                        continue  # one film has one head: 11 of the 60 clips have another
                    for packet in islice(source.demux(read), min(read.frames, frames - start)):
                        packet.pts = packet.dts = round(Fraction(start + count, RATE) / packet.time_base)  # no B-frames
                        packet.stream, count = stream, count + 1
                        out.mux(packet)
                there = np.full((count, 1 + STILL, 4), np.nan)
                for i, image in enumerate(range(first, first + count)):
                    one = pool.truth.xyxy[pool.truth.offsets[image] : pool.truth.offsets[image + 1]][:1]
                    there[i, : len(one)] = one
                corner = rng.uniform(0, np.array(SIZE) - 60, (STILL, 2))
                there[:, 1:] = np.concatenate([corner, corner + rng.uniform(20, 60, (STILL, 2))], axis=1)
                boxes.append(there)
                start += count
    return np.concatenate(boxes)


def detections(objects: np.ndarray, seed: int) -> dict[str, np.ndarray]:
    """What a detector that errs says of every frame."""
    rng = np.random.default_rng([1, seed])
    image, kind = np.nonzero(~np.isnan(objects[..., 0]) & (rng.random(objects.shape[:2]) >= MISSED))
    boxes, alarms = objects[image, kind], np.flatnonzero(rng.random(len(objects)) < ALARMS)
    side = np.tile(boxes[:, 2:] - boxes[:, :2], 2)
    boxes = boxes + rng.normal(0, OFF, boxes.shape) * side
    corner = rng.uniform(0, np.array(SIZE) - 60, (len(alarms), 2))
    boxes = np.concatenate([boxes, np.concatenate([corner, corner + rng.uniform(20, 60, corner.shape)], axis=1)])
    boxes = np.clip(boxes, 0, np.tile(SIZE, 2))
    label = np.concatenate([kind > 0, rng.random(len(alarms)) < 0.5]).astype(np.int64)
    whole = (boxes[:, 2:] > boxes[:, :2] + 1).all(axis=1)
    score = rng.uniform(0.5, 1, len(boxes))
    rows = {"image": np.concatenate([image, alarms]), "boxes": boxes, "scores": score, "labels": label}
    return {name: values[whole] for name, values in rows.items()}


def measure(data: Path, longest_px: int, minutes: float, later: int) -> dict[str, object]:
    """One film: the first round that predicts, and `later` more."""
    frames = round(60 * RATE * minutes)
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder)
        os.environ["LABELWISE_CACHE"] = str(home / "cache")
        objects = film(data, home / "film.mp4", frames)
        load, began = os.getloadavg()[0], time.perf_counter()
        project = labelwise.open(home / "project", images=home / "film.mp4", classes=["flies", "stands"])
        row: dict[str, object] = {"longest_px": longest_px, "minutes": minutes, "frames": len(project.images)}
        row |= {"film_MB": round((home / "film.mp4").stat().st_size / 1e6, 1), "load": round(load, 1)}
        row["open_s"] = round(time.perf_counter() - began, 1)
        how = {"unit": "frame", "score": "temporal_coherence", "select": "temporal_spread", "budget": BUDGET}
        done = list[dict[str, float]]()
        for number in range(1, later + 2):
            said = detections(objects, number)
            began, cpu = time.perf_counter(), time.process_time()
            queries = project.ask(said, every_frames=EVERY, tracks={"flow_px": longest_px}, **how)
            took = {"ask_s": time.perf_counter() - began, "ask_cpu_s": time.process_time() - cpu}
            for query in queries:
                known = objects[project.pool.number_of[query.image]]
                kinds = np.flatnonzero(~np.isnan(known[:, 0]))
                project.answer(query, boxes=known[kinds], labels=(kinds > 0).astype(int))
            project.finish()
            done.append(stage(home / "project", number) | took)
        held = {name: size(home / "cache" / name) for name in ("flow", "frames")}
    first, rest = done[0], {key: median(one[key] for one in done[1:]) for key in done[0]}
    flow_s, flow_cpu_s = (first[key] - rest[key] for key in ("track_s", "ask_cpu_s"))
    row |= {"detections": len(said["image"]), "flow_s": flow_s, "flow_cpu_s": flow_cpu_s}
    row["flow_cpu_ms_per_frame"] = 1e3 * flow_cpu_s / frames
    row |= {"flow_GB": held["flow"] / 1e9, "flow_KB_per_frame": held["flow"] / 1e3 / frames}
    row["frames_GB"] = held["frames"] / 1e9
    row |= {f"first_{key}": value for key, value in first.items()} | {f"later_{key}": rest[key] for key in rest}
    share = (rest["track_s"] + rest["graph_s"]) / (first["track_s"] + first["graph_s"])
    row |= {"later_percent": 100 * share, "later_ask_cpu_percent": 100 * rest["ask_cpu_s"] / first["ask_cpu_s"]}
    row["memory_GB"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
    return {key: round(value, 3) if isinstance(value, float) else value for key, value in row.items()}


def size(folder: Path) -> int:
    """Bytes on the disk."""
    return sum(path.stat().st_blocks * 512 for path in folder.rglob("*") if path.is_file())


def stage(folder: Path, number: int) -> dict[str, float]:
    """Seconds of the stage score of a round, and of its tracks and graph."""
    from labelwise.project.project_folder import Project

    opened = Project.open(folder)
    said = opened.ledger.stage_done(number, "score") or {}
    opened.close()
    return {"track_s": said["track_s"], "graph_s": said["graph_s"], "stage_s": said["wall_s"]}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path, help="the folder drone_video_dev")
    parser.add_argument("--runs", nargs="+", default=["320:10", "320:60", "640:5", "640:15"], metavar="PX:MINUTES")
    parser.add_argument("--later", type=int, default=3, help="rounds after the first")
    parser.add_argument("--out", type=Path, default=HERE / "results/hour_of_video.csv")
    given = parser.parse_args()
    rows = list[dict[str, object]]()
    for run in given.runs:
        px, minutes = run.split(":")
        with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as apart:  # its own memory, its own cache
            rows.append(apart.submit(measure, given.data, int(px), float(minutes), given.later).result())
        print(", ".join(f"{key} {value}" for key, value in rows[-1].items()), flush=True)
        note = note_of("hour_of_video", None, [0]).replace("claims.py hour_of_video --seeds 1", "hour_of_video.py")
        write(given.out, rows, note + f"# runs: {' '.join(given.runs)}, {given.later} later rounds\n")


if __name__ == "__main__":
    main()
