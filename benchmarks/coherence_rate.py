"""What the rate of the frames does to temporal coherence: a perfect detector on real clips, and one with known errors.

    LABELWISE_DATA=data python benchmarks/coherence_rate.py

The clips of drone_video_dev (every `--every`-th by name). "perfect": the ground truth is given as detections, so that
every false positive or miss that the graph estimates is an error of the graph. "errors": `--miss` of these boxes is
left out and as many boxes are added that show in one frame alone, anywhere, with the size and class of a true one;
drawn once on the film, the same for every row. Two ways to ask about every n-th frame:

* "tracks at film rate": detections, flow and links are of the film's own frames, of those within `reach` times k of a
  frame that may be asked (`tracks/neighbours.py`), or of all;
* "thinned pool": there is nothing but every n-th frame (`data.stride_frames`, refused since).

`candidate_overlap` as in `tracks`: 0.5 is every moved box without a link, 0 Fig. 2.2b.
All counts are of the frames that may be asked. `linked_j`: of the boxes that have a box of their class in the frame j
steps away, before or after, the share with a link into it. `fp_called`, `fn_called`: detections called false
positives, candidates called missed objects; `clips_with_wrong_fp` and `fp_wrong_in_worst_clip` tell where right
detections are. `other_verdicts`: detections judged otherwise than with all frames predicted; `other_frames`: frames
with another count of estimated errors. Flow is computed once per rate and kept in `--cache`.
"""

from __future__ import annotations

import argparse
import csv
import itertools
import os
import platform
import subprocess
import sys
import tempfile
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import numpy as np

from labelwise.data import long_tail, video
from labelwise.data.video import every
from labelwise.study import history
from labelwise.tracks import coherence, flow, follow
from labelwise.tracks.neighbours import around, pairs
from labelwise.types import Boxes, Pool, Tracks, image_of
from labelwise.types.disk import replacing
from labelwise.types.overlap import iou_pairs
from labelwise.types.overlap import pairs as box_pairs

STRIDES = (1, 5, 10, 20)
Row = dict[str, object]


def clips(root: Path, step: int) -> list[Pool]:
    """The pools of both splits with every so-many-th clip of all."""
    pools = [video.read(root, split) for split in ("train", "test")]
    names = sorted(name for pool in pools for name in pool.clips.names)[::step]
    wanted = [np.isin(np.array(pool.clips.names)[pool.clips.video], names) for pool in pools]
    return [long_tail.subset(pool, np.flatnonzero(part)) for pool, part in zip(pools, wanted, strict=True)]


def with_errors(truth: Boxes, pool: Pool, miss: float, seed: int) -> tuple[Boxes, np.ndarray, np.ndarray]:
    """Detections with misses and one-frame alarms: the boxes, which are alarms, and which true boxes are missed."""
    rng = np.random.default_rng(seed)
    missed = rng.random(len(truth)) < miss
    amount = round(miss * len(truth))
    like, where = rng.integers(0, len(truth), amount), rng.integers(0, len(pool), amount)
    size = truth.xyxy[like, 2:] - truth.xyxy[like, :2]
    room = np.stack([pool.width_px, pool.height_px], axis=1)[where] - size
    corner = rng.random((amount, 2)) * np.maximum(room, 0)
    image = np.concatenate([truth.image[~missed], where])
    xyxy = np.concatenate([truth.xyxy[~missed], np.concatenate([corner, corner + size], axis=1)]).astype(np.float32)
    labels = np.concatenate([truth.labels[~missed], truth.labels[like]])
    alarm = np.arange(len(image)) >= (~missed).sum()
    order = np.argsort(image, kind="stable")
    return Boxes.from_rows(image[order], xyxy[order], labels[order], len(pool)), alarm[order], missed


def linked(found: Boxes, tracks: Tracks, links: np.ndarray, counted: np.ndarray) -> np.ndarray:
    """[k, 2]: of the counted boxes that have their class in the frame j steps away, those linked into it, and all."""
    n, image, k = len(found), image_of(found.offsets), tracks.image.shape[1] // 2
    there = {(int(i), int(c)) for i, c in zip(image, found.labels, strict=True)}
    links = links[links[:, 1] < n]
    both = np.concatenate([links, links[:, ::-1]])
    joined = {(int(a), int(image[b])) for a, b in both}
    out = np.zeros((k, 2), np.int64)
    for row in np.flatnonzero(counted[image]).tolist():
        for column, step in enumerate(tracks.steps.tolist()):
            to = int(tracks.image[row, column])
            if to >= 0 and (to, int(found.labels[row])) in there:
                out[abs(step) - 1] += (row, to) in joined, 1
    return out


def take(boxes: Boxes, keep: np.ndarray) -> Boxes:
    rows = np.flatnonzero(keep)
    return Boxes.from_rows(image_of(boxes.offsets)[rows], boxes.xyxy[rows], boxes.labels[rows], len(boxes.offsets) - 1)


def judged(
    pool: Pool, moving: flow.Flow, found: Boxes, seen: np.ndarray, k: int, overlap: float
) -> tuple[Tracks, coherence.Estimate]:
    """The tracks and the verdicts where the model looked at the frames `seen` alone."""
    moving = replace(moving, joined=moving.joined & seen & np.append(seen[1:], False))
    tracks = follow.follow(found.offsets, found.xyxy, moving, pool.width_px, pool.height_px, frames=k)
    return tracks, coherence.estimate(found.offsets, found.xyxy, found.labels, tracks, candidate_overlap=overlap)


def hits(said: coherence.Estimate, counted: np.ndarray, truth: Boxes, missed: np.ndarray) -> np.ndarray:
    """Estimated misses in the counted frames, those that are true, true misses there, and those found."""
    rows = said.false_negative & counted[image_of(said.candidates.offsets)]
    boxes, true = take(said.candidates, rows), take(truth, missed & counted[truth.image])
    a, b = box_pairs(boxes.offsets, true.offsets)
    right = (iou_pairs(boxes.xyxy[a], true.xyxy[b]) > 0.5) & (boxes.labels[a] == true.labels[b])
    return np.array([len(boxes), len(np.unique(a[right])), len(true), len(np.unique(b[right]))])


class Sum:
    """What is counted over the pools of one row."""

    def __init__(self, k: int) -> None:
        self.count: dict[str, int] = {}
        self.links = np.zeros((k, 2), np.int64)
        self.misses = np.zeros(4, np.int64)

    def add(self, **more: int) -> None:
        for name, value in more.items():
            self.count[name] = self.count.get(name, 0) + int(value)

    def most(self, **more: int) -> None:
        for name, value in more.items():
            self.count[name] = max(self.count.get(name, 0), int(value))

    def row(self) -> Row:
        said, right, true, found = self.misses.tolist()
        c = self.count
        shares = {f"linked_{j + 1}": ratio(*pair) for j, pair in enumerate(self.links.tolist())}
        precision = {
            "fp_precision": ratio(c["fp_right"], c["fp_called"]),
            "fp_recall": ratio(c["fp_right"], c["alarms"]),
        }
        fn = {"fn_called": said, "fn_precision": ratio(right, said), "fn_recall": ratio(found, true)}
        return {**{k: v for k, v in c.items() if k != "fp_right"}, **shares, **precision, **fn}


def ratio(part: int, whole: int) -> object:
    return f"{part / whole:.4f}" if whole else ""


def measure(
    given: argparse.Namespace,
    pools: list[Pool],
    k: int,
    way: str,
    n: int,
    reach: int | None,
    errors: bool,
    overlap: float,
) -> Row:
    total = Sum(k)
    for film in pools:
        if not len(film):
            continue
        assert film.truth is not None and film.clips is not None
        nothing = np.zeros(len(film.truth), bool)
        drawn = with_errors(film.truth, film, given.miss, 0) if errors else (film.truth, nothing, nothing)
        found, alarm, missed = drawn
        asked = film.clips.every(n)
        if way == "thinned pool":
            pool = every(film, n)
            inside, true = asked[image_of(found.offsets)], asked[film.truth.image]
            found, alarm, missed = part(found, asked), alarm[inside], missed[true]
            counted, seen = np.ones(len(pool), bool), np.ones(len(pool), bool)
        else:
            pool, counted = film, asked
            seen = np.ones(len(pool), bool) if reach is None else around(film.clips.video, asked, reach * k)
            inside = seen[image_of(found.offsets)]
            found, alarm = take(found, inside), alarm[inside]
        moving = flow_of(pool, given.cache)
        tracks, said = judged(pool, moving, found, seen, k, overlap)
        image = image_of(found.offsets)
        fp = said.false_positive & counted[image]
        total.add(frames_asked=counted.sum(), frames_predicted=seen.sum(), flow_pairs=pairs(pool.clips.video, seen))
        total.add(boxes=counted[image].sum(), alarms=(alarm & counted[image]).sum())
        total.add(fp_called=fp.sum(), fp_right=(fp & alarm).sum())
        called = np.bincount(pool.clips.video[image[fp & ~alarm]], minlength=len(pool.clips.names))
        total.add(clips_with_wrong_fp=(called > 0).sum())
        total.most(fp_wrong_in_worst_clip=called.max())
        total.links += linked(found, tracks, said.links, counted)
        total.misses += hits(said, counted, pool.truth, missed)
        if way != "thinned pool" and reach is not None:
            whole = drawn[0]
            _, full = judged(pool, moving, whole, np.ones(len(pool), bool), k, overlap)
            here = counted[image_of(whole.offsets)]
            total.add(other_verdicts=(full.false_positive[here] != said.false_positive[counted[image]]).sum())
            total.add(other_frames=((full.fp != said.fp) | (full.fn != said.fn))[counted].sum())
    return {
        "k": k, "way": way, "detector": "errors" if errors else "perfect", "ask_every": n,
        "candidate_overlap": overlap,
        "reach": "" if way == "thinned pool" else "all" if reach is None else f"{reach}k", **total.row(),
    }  # fmt: skip


def part(boxes: Boxes, images: np.ndarray) -> Boxes:
    """The boxes of some images, which are numbered anew."""
    kept = take(boxes, images[image_of(boxes.offsets)])
    return Boxes(kept.offsets[np.append(np.flatnonzero(images), len(images))], kept.xyxy, kept.labels)


def flow_of(pool: Pool, cache: Path) -> flow.Flow:
    def read(image: int) -> np.ndarray:
        return pool.frames(image)  # type: ignore[misc]

    return flow.compute(len(pool), pool.clips, pool.width_px, pool.height_px, read, cache)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--every", type=int, default=1, help="every so-many-th clip")
    parser.add_argument("--frames", type=int, nargs="+", default=[3, 1], help="k: frames that boxes are followed")
    parser.add_argument("--overlaps", type=float, nargs="+", default=[0.3, 0.5, 0.1, 0.0],
                        help="tracks.candidate_overlap; all but the first with a reach of 2k alone")  # fmt: skip
    parser.add_argument("--miss", type=float, default=0.1)
    parser.add_argument("--cache", type=Path, default=Path(tempfile.gettempdir()) / "labelwise_coherence_rate")
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/coherence_rate.csv"))
    given = parser.parse_args()
    pools = clips(Path(os.environ["LABELWISE_DATA"]) / "drone_video_dev", given.every)
    git = subprocess.run(["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=False)
    about = {
        "clips": sum(len(np.unique(pool.clips.video)) for pool in pools),
        "film_frames": sum(map(len, pools)), "seed": 0,
        "command": " ".join(["python benchmarks/coherence_rate.py", *sys.argv[1:]]),
        "commit": git.stdout.strip(), "date": datetime.now(UTC).strftime("%Y-%m-%d"),
        "machine": f"{platform.machine()}, {os.cpu_count()} cores",
        "versions": ", ".join(f"{name} {version}" for name, version in history.versions().items()),
    }  # fmt: skip
    rows: list[Row] = []
    ways = dict.fromkeys([*(("tracks at film rate", reach) for reach in (1, 2, None)), ("thinned pool", None)])
    first, *others = given.overlaps
    settings = [*((first, *way) for way in ways), *((overlap, "tracks at film rate", 2) for overlap in others)]
    for k, errors, n, (overlap, way, reach) in itertools.product(given.frames, (False, True), STRIDES, settings):
        row = measure(given, pools, k, way, n, reach, errors, overlap)
        print("  ".join(f"{name}={value}" for name, value in row.items()), flush=True)
        rows.append({**row, **about})
    names = list(dict.fromkeys(name for row in rows for name in row))
    with replacing(given.out) as partial, partial.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, names, lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


if __name__ == "__main__":
    main()
