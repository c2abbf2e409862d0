"""Optical flow on disk, and the trackers on it: slow obvious references, cuts, broken frames, kills, real clips."""

from __future__ import annotations

import itertools
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from labelwise.tracks import _shots, siamese
from labelwise.tracks import flow as dense
from labelwise.tracks._engines import raft
from labelwise.tracks._tables import record
from labelwise.tracks.flow import Flow, compute, open_flow
from labelwise.tracks.follow import MIDDLE, POINTS, follow
from labelwise.types import Clips, LabelwiseError, Tracks, image_of

cv2 = pytest.importorskip("cv2", reason="OpenCV is not installed: uv sync --extra video")

SMALL = {"flow_px": 128, "cell_px": 8}
WIDTH, HEIGHT = 128, 96


def clips_of(*lengths: int) -> Clips:
    video = np.repeat(np.arange(len(lengths)), lengths)
    frame = np.concatenate([np.arange(n) for n in lengths] or [np.zeros(0, np.int64)])
    return Clips(tuple(f"clip_{i}" for i in range(len(lengths))), video, frame.astype(np.int64), frame / 25.0)


def texture(seed: int, height: int = 300, width: int = 300) -> np.ndarray:
    """Smooth noise in colour."""
    rng = np.random.default_rng(seed)
    image = cv2.GaussianBlur(rng.random((height, width, 3)).astype(np.float32), (0, 0), 4)
    image = (image - image.mean()) / image.std() * 50 + 128
    return np.clip(image, 0, 255).astype(np.uint8)


def panning(step: tuple[int, int], seed: int = 0) -> Callable[[int], np.ndarray]:
    """A camera over a texture: what is in the picture moves by `step` from each frame to the next."""
    big = texture(seed)

    def read(i: int) -> np.ndarray:
        x, y = 100 - step[0] * i, 100 - step[1] * i
        return big[y : y + HEIGHT, x : x + WIDTH]

    return read


def sizes(n: int) -> tuple[np.ndarray, np.ndarray]:
    return np.full(n, WIDTH), np.full(n, HEIGHT)


# --- the flow ---------------------------------------------------------------------------------------------------------


def test_a_pan_is_seen_in_both_directions_in_pixels_of_the_image(tmp_path: Path) -> None:
    for flow_px in (128, 64, 256):  # as it is, shrunk, enlarged
        flow = compute(5, clips_of(5), *sizes(5), panning((3, -2)), tmp_path, flow_px=flow_px)
        assert flow.joined.tolist() == [True] * 4 + [False]
        assert flow.problems == ()
        middle = flow.between(1)[:, 1:-1, 1:-1].astype(np.float64)
        assert np.abs(middle[0] - [3, -2]).mean() < 0.3
        assert np.abs(middle[1] - [-3, 2]).mean() < 0.3
        assert np.allclose(flow.cell_px, 8 * 128 / flow_px)


def test_a_second_call_computes_nothing_and_gives_the_same(tmp_path: Path) -> None:
    clips, seen = clips_of(4, 1, 3), []
    read = panning((1, 1))

    def counted(i: int) -> np.ndarray:
        seen.append(i)
        return read(i % 4)

    steps: list[int] = []
    first = compute(8, clips, *sizes(8), counted, tmp_path, **SMALL, progress=steps.append)
    assert sorted(seen) == list(range(8))
    assert sum(steps) == 8
    second = compute(8, clips, *sizes(8), counted, tmp_path, **SMALL, threads=1, progress=steps.append)
    assert len(seen) == 8
    assert sum(steps) == 16
    assert first.joined.tolist() == [True] * 3 + [False, False] + [True] * 2 + [False]
    for clip in range(3):
        assert (first.table(clip) == second.table(clip)).all()
    assert len(list(tmp_path.glob("*.npy"))) == 3
    compute(8, clips, *sizes(8), counted, tmp_path, flow_px=128, cell_px=16)  # other settings: other files
    assert len(seen) == 16
    open_flow(tmp_path, clips, *sizes(8), **SMALL)


def test_the_number_of_threads_changes_nothing(tmp_path: Path) -> None:
    clips = clips_of(3, 3, 3)
    made = [
        compute(9, clips, *sizes(9), lambda i: panning((2, 1))(i % 3), tmp_path / str(n), **SMALL, threads=n)
        for n in (1, 3)
    ]
    for clip in range(3):
        assert (made[0].table(clip) == made[1].table(clip)).all()


def test_nothing_is_open_without_the_flow_or_with_other_settings(tmp_path: Path) -> None:
    clips = clips_of(3)
    with pytest.raises(LabelwiseError, match="there is no flow of the clip clip_0"):
        open_flow(tmp_path, clips, *sizes(3), **SMALL)
    compute(3, clips, *sizes(3), panning((1, 0)), tmp_path, **SMALL)
    with pytest.raises(LabelwiseError, match="preset fast"):
        open_flow(tmp_path, clips, *sizes(3), **SMALL, preset="fast")
    with pytest.raises(LabelwiseError, match="clip_0"):
        open_flow(tmp_path, clips, np.full(3, WIDTH), np.full(3, HEIGHT - 1), **SMALL)


def test_a_damaged_file_is_an_error_to_open_and_is_computed_again(tmp_path: Path) -> None:
    clips = clips_of(3)
    flow = compute(3, clips, *sizes(3), panning((1, 0)), tmp_path, **SMALL)
    whole = flow.between(0).copy()
    (path,) = tmp_path.glob("*.npy")
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(LabelwiseError, match="damaged"):
        open_flow(tmp_path, clips, *sizes(3), **SMALL)
    assert (compute(3, clips, *sizes(3), panning((1, 0)), tmp_path, **SMALL).between(0) == whole).all()


KILLED = """
import sys, time
sys.path.insert(0, {tests!r})
from pathlib import Path
import test_tracks_flow as t

def read(i):
    if i >= 6:
        print("reached", flush=True)
        time.sleep(60)
    return t.panning((1, 1))(i % 3)

t.compute(12, t.clips_of(3, 3, 3, 3), *t.sizes(12), read, Path({folder!r}), **t.SMALL, threads=1)
"""


def test_a_killed_run_goes_on_with_the_clip_that_it_was_at(tmp_path: Path) -> None:
    code = KILLED.format(tests=str(Path(__file__).parent), folder=str(tmp_path))
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) as child:
        assert child.stdout is not None
        assert child.stdout.readline() == "reached\n"
        time.sleep(0.1)
        child.send_signal(signal.SIGKILL)
    assert len(list(tmp_path.glob("[!.]*.npy"))) == 2
    seen: list[int] = []

    def read(i: int) -> np.ndarray:
        seen.append(i)
        return panning((1, 1))(i % 3)

    clips = clips_of(3, 3, 3, 3)
    flow = compute(12, clips, *sizes(12), read, tmp_path, **SMALL)
    assert sorted(seen) == list(range(6, 12))
    assert flow.joined.sum() == 8


def test_flow_of_other_frames_of_the_same_names_is_not_taken_for_this(tmp_path: Path) -> None:
    clips = clips_of(4)
    right = compute(4, clips, *sizes(4), panning((3, 0)), tmp_path, **SMALL, stamps=list("abcd"))
    left = compute(4, clips, *sizes(4), panning((-3, 0)), tmp_path, **SMALL, stamps=list("abce"))
    assert np.sign(np.median(right.between(0)[0, ..., 0])) == -np.sign(np.median(left.between(0)[0, ..., 0])) != 0
    assert len(list(tmp_path.glob("*.npy"))) == 2
    again = open_flow(tmp_path, clips, *sizes(4), **SMALL, stamps=list("abcd"))
    assert (again.between(0) == right.between(0)).all()
    with pytest.raises(LabelwiseError, match="no flow of the clip"):
        open_flow(tmp_path, clips, *sizes(4), **SMALL)


def test_a_passing_error_ends_the_run_and_is_not_kept(tmp_path: Path) -> None:
    def read(i: int) -> np.ndarray:
        if i == 2:
            raise OSError("gone")
        return panning((1, 0))(i)

    with pytest.raises(LabelwiseError, match="gone"):
        compute(6, clips_of(6), *sizes(6), read, tmp_path, **SMALL)
    assert compute(6, clips_of(6), *sizes(6), panning((1, 0)), tmp_path, **SMALL).joined[:5].all()


def test_a_frame_that_cannot_be_read_is_joined_to_neither_neighbour(tmp_path: Path) -> None:
    def read(i: int) -> np.ndarray:
        if i == 2:
            raise LabelwiseError("broken")
        return panning((1, 0))(i)

    flow = compute(6, clips_of(6), *sizes(6), read, tmp_path, **SMALL)
    assert flow.joined.tolist() == [True, False, False, True, True, False]
    assert [(p.kind, p.where) for p in flow.problems] == [("unreadable frame", "clip_0 frame 2")]
    assert (flow.table(0)["flow"][1:3] == 0).all()


def test_an_error_that_is_no_broken_frame_stops_and_leaves_nothing(tmp_path: Path) -> None:
    def read(i: int) -> np.ndarray:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        compute(3, clips_of(3), *sizes(3), read, tmp_path, **SMALL)
    assert list(tmp_path.glob(".*")) + list(tmp_path.glob("*.npy")) == []


def test_frames_of_several_sizes_in_one_clip(tmp_path: Path) -> None:
    width, height = np.array([128, 128, 64, 64, 64]), np.array([96, 96, 96, 96, 96])
    big = texture(1)

    def read(i):
        return big[50 : 50 + height[i], 50 - i : 50 - i + width[i]]

    flow = compute(5, clips_of(5), width, height, read, tmp_path, flow_px=96, cell_px=8)
    assert flow.joined.tolist() == [True, False, True, True, False]
    assert flow.grid.tolist() == [[12, 9]] * 2 + [[8, 12]] * 3
    assert flow.between(0).shape == (2, 9, 12, 2)
    assert flow.between(2).shape == (2, 12, 8, 2)
    assert np.abs(flow.between(2)[0, 1:-1, 1:-1] - np.array([1, 0])).mean() < 0.3
    assert (flow.cell_px[:2] == 8 * 128 / 96).all()
    boxes = np.array([[20, 20, 44, 44]] * 2, np.float32)
    tracks = follow(np.array([0, 1, 1, 2, 2, 2]), boxes, flow, width, height, frames=3)
    assert tracks.image.tolist() == [[-1, -1, -1, 1, -1, -1], [-1, -1, -1, 3, 4, -1]]


def test_odd_pools(tmp_path: Path) -> None:
    none = compute(0, clips_of(), *sizes(0), panning((1, 0)), tmp_path, **SMALL)
    assert len(none.joined) == 0
    assert none.parts == ()
    one = compute(1, clips_of(1), *sizes(1), panning((1, 0)), tmp_path, **SMALL)
    assert one.joined.tolist() == [False]
    tracks = follow(np.array([0, 1]), np.array([[1, 2, 30, 40]], np.float32), one, *sizes(1))
    assert (tracks.image == -1).all()
    assert (tracks.boxes == 0).all()
    thin = compute(2, clips_of(2), np.full(2, 200), np.full(2, 3), lambda i: texture(0, 3, 200), tmp_path)
    assert thin.joined.tolist() == [True, False]


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"preset": "slow"}, "none of ultrafast, fast, medium"),
        ({"flow_px": 4}, "too small"),
        ({"cell_px": 0}, "too small"),
        ({"preset": "raft_small"}, "weights"),
        ({"weights": Path("x")}, "weights"),
    ],
)
def test_wrong_settings(tmp_path: Path, wrong: dict, said: str) -> None:
    with pytest.raises(LabelwiseError, match=said):
        compute(2, clips_of(2), *sizes(2), panning((1, 0)), tmp_path, **wrong)
    with pytest.raises(LabelwiseError, match="3 images, but the pool has 2"):
        compute(2, clips_of(3), *sizes(3), panning((1, 0)), tmp_path)


def test_without_opencv_the_error_names_the_extra(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "cv2", None)
    with pytest.raises(LabelwiseError, match="uv sync --extra video"):
        compute(2, clips_of(2), *sizes(2), panning((1, 0)), tmp_path)


def test_the_mean_of_a_cell_against_a_loop() -> None:
    flow = np.random.default_rng(0).normal(size=(21, 34, 2)).astype(np.float32)
    wide = np.pad(flow, ((0, 3), (0, 6), (0, 0)), mode="edge")
    for y in range(3):
        for x in range(5):
            cell = wide[y * 8 : y * 8 + 8, x * 8 : x * 8 + 8].mean(axis=(0, 1))
            assert np.allclose(dense._reduce(flow, 8)[y, x], cell, atol=1e-5)


def test_raft_from_a_file_of_weights(tmp_path: Path) -> None:
    from torchvision.models.optical_flow import raft_small

    torch.manual_seed(0)
    torch.save(raft_small(weights=None).state_dict(), tmp_path / "raft.pth")
    settings = {"preset": "raft_small", "weights": tmp_path / "raft.pth", "flow_px": 100, "cell_px": 16}
    flow = compute(2, clips_of(2), *sizes(2), panning((1, 0)), tmp_path / "flow", **settings)
    assert flow.between(0).shape == (2, 5, 7, 2)
    assert np.isfinite(flow.between(0)).all()
    torch.save({}, tmp_path / "other.pth")
    with pytest.raises(LabelwiseError, match="expected torchvision's weights of raft_small"):
        raft("raft_small", tmp_path / "other.pth", "cpu")


# --- cuts -------------------------------------------------------------------------------------------------------------


def test_a_cut_ends_a_shot_and_a_fast_pan_does_not(tmp_path: Path) -> None:
    one, other = panning((6, 4), 0), panning((6, 4), 1)
    flow = compute(8, clips_of(8), *sizes(8), lambda i: (one if i < 4 else other)(i), tmp_path, **SMALL)
    assert flow.joined.tolist() == [True, True, True, False, True, True, True, False]
    (cut,) = flow.problems
    assert (cut.kind, cut.where) == ("cut", "clip_0 frame 3")
    boxes = np.array([[40, 40, 60, 60]], np.float32)
    tracks = follow(np.array([0, 0, 0, 1, 1, 1, 1, 1, 1]), boxes, flow, *sizes(8), frames=2)
    assert tracks.image.tolist() == [[0, 1, 3, -1]]


def test_plain_noise_and_a_flicker_of_brightness_are_no_cuts(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)

    def sky(i):
        return np.clip(rng.normal(140, 3, (HEIGHT, WIDTH, 3)), 0, 255).astype(np.uint8)

    assert compute(4, clips_of(4), *sizes(4), sky, tmp_path / "sky", **SMALL).joined[:3].all()

    def brighter(i):
        return np.clip(panning((1, 1))(i).astype(float) * (1 - 0.08 * (i % 2)), 0, 255).astype(np.uint8)

    assert compute(4, clips_of(4), *sizes(4), brighter, tmp_path / "light", **SMALL).joined[:3].all()


def frames_of(path: Path, wanted: set[int]) -> dict[int, np.ndarray]:
    av = pytest.importorskip("av", reason="PyAV is not installed: uv sync --extra video")
    found = {}
    with av.open(str(path)) as container:
        for i, frame in enumerate(container.decode(container.streams.video[0])):
            if i in wanted:
                found[i] = frame.to_ndarray(format="rgb24")
            if i >= max(wanted):
                break
    return found


def test_cuts_of_real_clips(shared_data: Path, tmp_path: Path) -> None:
    videos = shared_data / "drone_video_dev" / "videos"
    if not videos.is_dir():
        pytest.skip("no drone_video_dev beside the checkout")
    cut = frames_of(videos / "V_AIRPLANE_008.mp4", set(range(114, 119)))  # between 116 and 117
    pan = frames_of(videos / "V_BIRD_014.mp4", set(range(228, 234)))  # the fastest pan of the set
    pixels = [*cut.values(), *pan.values()]
    width, height = np.full(11, 640), np.full(11, 512)
    flow = compute(11, clips_of(5, 6), width, height, pixels.__getitem__, tmp_path)
    assert flow.joined.tolist() == [True, True, False, True, False] + [True] * 5 + [False]
    splice = compute(11, clips_of(11), width, height, pixels.__getitem__, tmp_path)
    assert np.flatnonzero(~splice.joined).tolist() == [2, 4, 10]


def test_change_is_zero_for_the_same_image_and_large_for_another() -> None:
    a, b, still = texture(0, 48, 64), texture(1, 48, 64), np.zeros((48, 64, 2))
    assert _shots.change(a, a, still) == 0
    assert _shots.change(a, b, still) > 2 * _shots.CUT
    black = np.zeros_like(a)
    assert _shots.change(black, black, still) == 0
    assert _shots.change(a, (a * 0.92).astype(np.uint8), still) < 0.1  # exposure
    grey, blue = np.full_like(a, 150), np.tile(np.array([90, 120, 210], np.uint8), (48, 64, 1))
    assert _shots.change(grey, blue, still) > _shots.CUT


# --- boxes along the flow ---------------------------------------------------------------------------------------------


def random_flow(rng: np.random.Generator, lengths: tuple[int, ...], size: np.ndarray, cell: float) -> Flow:
    """Clips with random vectors, cuts and grids of their own."""
    starts = np.cumsum([0, *lengths])
    grid = -(-size // cell).astype(np.int64)
    joined = rng.random(starts[-1]) < 0.85
    joined[starts[1:] - 1] = False
    parts = []
    for first, end in itertools.pairwise(starts):
        columns, rows = grid[first:end].max(axis=0)
        part = np.zeros(end - first, record(int(rows), int(columns)))
        part["flow"] = rng.normal(0, 6, part["flow"].shape)
        part["joined"] = joined[first:end]
        parts.append(part)
    return Flow(tuple(parts), starts, joined, np.full((starts[-1], 2), cell), grid)


def slow_follow(offsets, boxes, flow: Flow, size: np.ndarray, frames: int, at: str) -> Tracks:
    """One box, one step, one point at a time."""
    steps = [*range(-frames, 0), *range(1, frames + 1)]
    image = np.full((len(boxes), 2 * frames), -1, np.int64)
    moved = np.zeros((len(boxes), 2 * frames, 4), np.float32)
    for row, here in enumerate(image_of(offsets)):
        for sign in (1, -1):
            box, now = boxes[row].astype(np.float64), int(here)
            for step in range(1, frames + 1):
                pair = now if sign == 1 else now - 1
                if pair < 0 or not flow.joined[pair]:
                    break
                vectors = flow.between(pair)[0 if sign == 1 else 1].astype(np.float64)
                where = [(0.5, 0.5)]
                if at == "median":
                    share = [0.5 + MIDDLE * ((i + 0.5) / POINTS - 0.5) for i in range(POINTS)]
                    where = [(a, b) for b in share for a in share]
                seen = []
                for a, b in where:
                    x = (box[0] + a * (box[2] - box[0])) / flow.cell_px[now, 0]
                    y = (box[1] + b * (box[3] - box[1])) / flow.cell_px[now, 1]
                    column = min(max(int(x), 0), int(flow.grid[now, 0]) - 1)
                    seen.append(vectors[min(max(int(y), 0), int(flow.grid[now, 1]) - 1), column])
                box = box + np.tile(np.median(seen, axis=0), 2)
                now += sign
                w, h = size[now]
                clipped = np.clip(box, 0, [w, h, w, h])
                area = (box[2] - box[0]) * (box[3] - box[1])
                left = (clipped[2] - clipped[0]) * (clipped[3] - clipped[1])
                x, y = (box[0] + box[2]) / 2, (box[1] + box[3]) / 2
                if not (0 <= x < w and 0 <= y < h and left >= 0.5 * area - 1e-3):
                    break
                column = steps.index(sign * step)
                image[row, column], moved[row, column] = now, clipped
    return Tracks(image, moved)


@pytest.mark.parametrize("at", ["centre", "median"])
@pytest.mark.parametrize("seed", range(6))
def test_boxes_move_as_in_the_plain_loop(at: str, seed: int) -> None:
    rng = np.random.default_rng(seed)
    lengths = [(7, 1, 5), (1,), (12,), (3, 3, 3), (2, 9), (4, 1, 1, 6)][seed]
    n = sum(lengths)
    size = np.tile([[90, 60]], (n, 1)) if seed % 2 else np.tile([[64, 64]], (n, 1))
    flow = random_flow(rng, lengths, size, 8.0)
    count = rng.integers(0, 5, n)
    offsets = np.concatenate([[0], np.cumsum(count)])
    corner = rng.uniform(0, 50, (offsets[-1], 2))
    wide = rng.uniform(0, 30, (offsets[-1], 2)) * rng.integers(0, 2, (offsets[-1], 1))  # some without area
    boxes = np.concatenate([corner, corner + wide], axis=1).astype(np.float32)
    fast = follow(offsets, boxes, flow, size[:, 0], size[:, 1], frames=4, at=at)
    slow = slow_follow(offsets, boxes, flow, size, 4, at)
    assert (fast.image == slow.image).all()
    assert np.allclose(fast.boxes, slow.boxes, atol=1e-4)
    assert (fast.boxes[fast.image < 0] == 0).all()
    if at == "centre" and seed:
        assert (fast.image >= 0).any() or n == 1


@pytest.mark.parametrize("at", ["centre", "median"])
def test_no_boxes_and_blocks(at: str, monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(0)
    size = np.tile([[64, 64]], (6, 1))
    flow = random_flow(rng, (6,), size, 8.0)
    none = follow(np.zeros(7, np.int64), np.zeros((0, 4), np.float32), flow, size[:, 0], size[:, 1], at=at)
    assert none.image.shape == (0, 6)
    corner = rng.uniform(10, 40, (50, 2))
    boxes = np.concatenate([corner, corner + 9], axis=1).astype(np.float32)
    offsets = np.array([0, 0, 50, 50, 50, 50, 50])
    whole = follow(offsets, boxes, flow, size[:, 0], size[:, 1], at=at)
    monkeypatch.setattr("labelwise.tracks.follow.BLOCK", 7)
    parts = follow(offsets, boxes, flow, size[:, 0], size[:, 1], at=at)
    assert (whole.boxes == parts.boxes).all()


def test_wrong_boxes_are_named() -> None:
    size = np.tile([[64, 64]], (2, 1))
    flow = random_flow(np.random.default_rng(0), (2,), size, 8.0)
    boxes = np.array([[0, 0, 5, 5], [1, 1, np.nan, 4]], np.float32)

    def call(offsets, b, **k):
        return follow(np.array(offsets), b, flow, size[:, 0], size[:, 1], **k)

    with pytest.raises(LabelwiseError, match="row 1 is not finite"):
        call([0, 2, 2], boxes)
    with pytest.raises(LabelwiseError, match="expected x1 <= x2"):
        call([0, 1, 1], np.array([[5, 0, 2, 9]], np.float32))
    with pytest.raises(LabelwiseError, match="offsets"):
        call([0, 1, 5], boxes[:1])
    with pytest.raises(LabelwiseError, match="offsets: 2 for 2 widths"):
        call([0, 1], boxes[:1])
    with pytest.raises(LabelwiseError, match='expected "centre" or "median"'):
        call([0, 1, 1], boxes[:1], at="mean")
    with pytest.raises(LabelwiseError, match="frames"):
        call([0, 1, 1], boxes[:1], frames=0)
    with pytest.raises(LabelwiseError, match="open the flow of the same pool"):
        follow(np.array([0, 1]), boxes[:1], flow, np.array([64]), np.array([64]))


def test_flow_of_computed_clips_moves_boxes_with_the_picture(tmp_path: Path) -> None:
    flow = compute(5, clips_of(5), *sizes(5), panning((3, 2)), tmp_path, **SMALL)
    offsets, box = np.array([0, 0, 0, 1, 1, 1]), np.array([[40, 30, 60, 50]], np.float32)
    for at in ("centre", "median"):
        tracks = follow(offsets, box, flow, *sizes(5), frames=2, at=at)
        assert tracks.image.tolist() == [[0, 1, 3, 4]]
        expected = box[0] + np.array([-2, -1, 1, 2])[:, None] * [3, 2, 3, 2]
        assert np.abs(tracks.boxes[0] - expected).max() < 1


# --- boxes by correlation ---------------------------------------------------------------------------------------------


def shrink(image: torch.Tensor) -> torch.Tensor:
    """Features for tests: the image's colours and their gradients at stride 4."""
    x = torch.nn.functional.avg_pool2d(image, 4)
    return torch.cat([x, x.diff(dim=2, append=x[:, :, -1:]), x.diff(dim=3, append=x[:, :, :, -1:])], dim=1)


def as_tensor(read: Callable[[int], np.ndarray]) -> Callable[[int], torch.Tensor]:
    return lambda i: torch.from_numpy(np.ascontiguousarray(read(i))).permute(2, 0, 1).float() / 255


def test_the_siamese_tracker_follows_a_pan_and_stops_at_cuts() -> None:
    images, n = as_tensor(panning((4, -3))), 6
    joined = np.array([True, True, True, True, False, False])
    boxes = np.array([[40, 40, 72, 72], [60, 30, 90, 60]], np.float32)
    offsets = np.array([0, 0, 0, 2, 2, 2, 2])
    for scales in ((1.0,), (0.9638, 1.0, 1.0375)):
        tracks = siamese.follow(offsets, boxes, images, np.ones((n, 2)), joined, *sizes(n), shrink, scales=scales)
        assert tracks.image.tolist() == [[-1, 0, 1, 3, 4, -1]] * 2
        for row in range(2):
            for column in (1, 2, 3, 4):
                step = tracks.steps[column]
                assert np.abs(tracks.boxes[row, column] - (boxes[row] + np.tile([4, -3], 2) * step)).max() < 4


def test_each_map_is_computed_once_and_blocks_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[int] = []
    read = as_tensor(panning((2, 1)))

    def images(i: int) -> torch.Tensor:
        seen.append(i)
        return read(i)

    n = 9
    joined = np.array([True] * (n - 1) + [False])
    corner = np.random.default_rng(0).uniform(10, 60, (3 * n, 2))
    boxes = np.concatenate([corner, corner + 24], axis=1).astype(np.float32)
    offsets = np.arange(0, 3 * n + 1, 3)
    args = offsets, boxes, images, np.ones((n, 2)), joined, *sizes(n), shrink
    steps: list[int] = []
    whole = siamese.follow(*args, progress=steps.append)
    assert sorted(seen) == list(range(n))
    assert sum(steps) == n
    monkeypatch.setattr(siamese, "BLOCK", 2)
    assert np.allclose(siamese.follow(*args).boxes, whole.boxes, atol=1e-3)


def test_the_correlation_against_a_loop() -> None:
    rng = torch.Generator().manual_seed(0)
    exemplar, around = torch.randn(3, 5, 6, 6, generator=rng), torch.randn(3, 5, 12, 12, generator=rng)
    exemplar = exemplar / exemplar.flatten(1).norm(dim=1)[:, None, None, None]
    response = siamese._correlate(exemplar, around)
    assert response.shape == (3, 7, 7)
    for i in range(3):
        for y in range(7):
            for x in range(7):
                piece = around[i, :, y : y + 6, x : x + 6]
                expected = (piece * exemplar[i]).sum() / piece.norm()
                assert abs(float(response[i, y, x] - expected)) < 1e-5


def test_siamese_odd_input() -> None:
    images, size = as_tensor(panning((1, 0))), sizes(2)
    one, joined = np.ones((2, 2)), np.array([True, False])
    none = siamese.follow(np.zeros(3, np.int64), np.zeros((0, 4), np.float32), images, one, joined, *size, shrink)
    assert none.image.shape == (0, 6)
    flat = np.array([[10, 10, 10, 10]], np.float32)  # no area
    tracks = siamese.follow(np.array([0, 1, 1]), flat, images, one, joined, *size, shrink, frames=1)
    assert tracks.image.tolist() == [[-1, 1]]

    def black(i):
        return torch.zeros(3, HEIGHT, WIDTH)

    box = np.array([[40, 40, 60, 60]], np.float32)
    still = siamese.follow(np.array([0, 1, 1]), box, black, one, joined, *size, shrink, frames=1)
    assert np.allclose(still.boxes[0, 1], box[0], atol=0.1)  # nothing to see: the cosine window keeps it in place
    with pytest.raises(LabelwiseError, match="search"):
        siamese.follow(np.array([0, 1, 1]), box, black, one, joined, *size, shrink, search=1.0)
    with pytest.raises(LabelwiseError, match="row 0 is not finite"):
        siamese.follow(np.array([0, 1, 1]), box * np.nan, black, one, joined, *size, shrink)


def test_what_a_killed_run_left_is_removed_when_nobody_writes_to_it(tmp_path: Path) -> None:
    old, new = tmp_path / ".a.npy.1.labelwise-tmp", tmp_path / ".b.npy.2.labelwise-tmp"
    for path in (old, new):
        path.write_bytes(b"half")
    os.utime(old, (0, 0))
    compute(2, clips_of(2), *sizes(2), panning((1, 0)), tmp_path, **SMALL)
    assert not old.exists() and new.exists()
