"""Images that look the same, beside a slow reference; with what stride tracks hold; how `check` tells both."""

from __future__ import annotations

import io
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from labelwise.cli import app, look_alikes
from labelwise.data import check, redundancy
from labelwise.generated import roads
from labelwise.tracks import stride
from labelwise.types import Boxes, Clips, LabelwiseError


def noise(seed: int, height: int = 60, width: int = 80, cell: int = 10) -> np.ndarray:
    cells = np.random.default_rng(seed).integers(0, 255, (height // cell, width // cell, 3))
    return np.kron(cells, np.ones((cell, cell, 1))).astype(np.uint8)


def jpeg(pixels: np.ndarray, quality: int) -> np.ndarray:
    held = io.BytesIO()
    Image.fromarray(pixels).save(held, "JPEG", quality=quality)
    return np.asarray(Image.open(held))


def first_slowly(rows: np.ndarray) -> list[int]:
    """One image after the other against all that stand."""
    stands: list[int] = []
    found = []
    for k, row in enumerate(rows.astype(np.float64)):
        near = [s for s in stands if np.linalg.norm(row - rows[s]) <= redundancy.NEAR]
        found.append(near[0] if near else k)
        stands += [] if near else [k]
    return found


@pytest.mark.parametrize("n", [0, 1, 7, 255, 256, 257, 700])
def test_the_first_of_a_group_stands_for_it(n: int) -> None:
    rng = np.random.default_rng(n)
    centres = rng.integers(0, 255, (max(n // 5, 1), 16, 16))
    thumbnails = np.clip(centres[rng.integers(0, len(centres), n)] + rng.integers(-9, 10, (n, 16, 16)), 0, 255)
    rows = redundancy.features(thumbnails.astype(np.uint8))
    assert redundancy.first_alike(rows).tolist() == first_slowly(rows)
    some = rows[: n // 2]
    slowly = [bool(len(some)) and min(np.linalg.norm(row - some, axis=1)) <= redundancy.NEAR for row in rows]
    assert redundancy.any_alike(rows, some).tolist() == slowly


def test_a_slow_change_is_several_pictures() -> None:
    ends = np.random.default_rng(0).normal(size=(2, 256)).astype(np.float32)
    start, end = ends / np.linalg.norm(ends, axis=1, keepdims=True)
    steps = np.linspace(0, 0.5, 60, dtype=np.float32)[:, None]
    stands = redundancy.first_alike(start + steps * (end - start))
    assert 3 < len(np.unique(stands)) < 12 and (np.diff(stands) >= 0).all()


def test_pictures_without_contrast_are_compared() -> None:
    grey = np.full((40, 40, 3), 90, np.uint8)
    noisy = grey + np.random.default_rng(0).integers(0, 3, grey.shape).astype(np.uint8)
    spot = grey.copy()
    spot[10:20, 10:20] = 200
    rows = redundancy.features(np.stack([redundancy.thumbnail(one) for one in (grey, noisy, grey + 60, spot)]))
    assert np.isfinite(rows).all()
    assert redundancy.first_alike(rows).tolist() == [0, 0, 0, 3]


def test_copies_are_found_and_others_are_not() -> None:
    pictures = [noise(seed) for seed in range(30)]
    rows = redundancy.features(np.stack([redundancy.thumbnail(one) for one in pictures]))
    assert redundancy.first_alike(rows).tolist() == list(range(30))
    for copy in (
        lambda one: jpeg(one, 50),
        lambda one: np.clip(one * 1.05, 0, 255).astype(np.uint8),
        lambda one: np.asarray(Image.fromarray(one).resize((160, 120))),
    ):
        copies = redundancy.features(np.stack([redundancy.thumbnail(copy(one)) for one in pictures]))
        assert (np.linalg.norm(rows - copies, axis=1) <= redundancy.NEAR).all()
    turned = redundancy.features(np.stack([redundancy.thumbnail(one[:, ::-1]) for one in pictures]))
    assert not redundancy.any_alike(turned, rows).any()


@pytest.mark.parametrize("n", [0, 5, 9_999, 10_000, 10_001, 10_099, 123_456])
def test_a_sample_is_of_stretches(n: int) -> None:
    wanted = redundancy.sample(n)
    assert len(wanted) == n and wanted.sum() <= redundancy.MOST
    assert wanted.sum() >= min(n, redundancy.MOST) - redundancy.STRETCH
    edges = np.flatnonzero(np.diff(wanted.astype(int), prepend=0, append=0))
    if n > redundancy.MOST:
        assert (np.diff(edges)[::2] >= redundancy.STRETCH).all()


def test_splits_that_share_images_are_no_copies_of_each_other() -> None:
    of = {name: redundancy.thumbnail(noise(seed)) for seed, name in enumerate("abcd")}
    of["copy"] = redundancy.thumbnail(jpeg(noise(0), 60))
    train, both, test = redundancy.alike([("train", "ab"), ("trainval", "abc"), ("test", ["d", "copy"])], of)
    assert (train.different, train.elsewhere, both.elsewhere, test.different, test.elsewhere) == (2, 1, 1, 2, 1)
    together = redundancy.alike([("all", ["gone", *of])], of)[0]
    assert (together.images, together.looked_at, together.different) == (6, 5, 4)
    assert together.groups == (("a", "copy"),)
    assert redundancy.alike([("none", [])], {})[0].different == 0


def test_check_tells_images_that_look_the_same(tmp_path: Path) -> None:
    for split, seeds in (("train", (0, 1, 2)), ("test", (3,))):
        (tmp_path / split).mkdir()
        for seed in seeds:
            Image.fromarray(noise(seed)).save(tmp_path / split / f"{seed}.png")
    Image.fromarray(noise(1)).save(tmp_path / "train" / "again.jpg", quality=60)
    Image.fromarray(noise(2)).save(tmp_path / "test" / "leak.jpg", quality=60)
    (tmp_path / "train" / "broken.png").write_bytes((tmp_path / "train" / "0.png").read_bytes()[:-40])
    report = check.look(tmp_path)
    train, test = report.alike
    assert (train.looked_at, train.different, train.elsewhere) == (4, 3, 1), "what cannot be read is not looked at"
    assert train.groups == (("train/1.png", "train/again.jpg"),)
    assert (test.looked_at, test.different, test.elsewhere) == (2, 2, 1)
    assert check.look(tmp_path, full=False).alike == ()
    done = CliRunner().invoke(app, ["check", str(tmp_path), "--json"])
    said = json.loads(done.stdout)
    assert said["tracks"] is None
    assert [one["like_another_split"] for one in said["alike"]] == [1, 1]
    assert said["alike"][0]["groups"] == [["train/1.png", "train/again.jpg"]]
    words = CliRunner().invoke(app, ["check", str(tmp_path)]).output
    assert "Images that look the same" in words and "Tracks" not in words


def test_check_of_different_images_says_so(tmp_path: Path) -> None:
    for seed in range(3):
        Image.fromarray(noise(seed)).save(tmp_path / f"{seed}.png")
    words = CliRunner().invoke(app, ["check", str(tmp_path)]).output
    assert "No two images look the same" in words


# ---- strides --------------------------------------------------------------------------------------------------------


def ground(seed: int) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return sum(np.kron(rng.integers(0, 60, (96 // c, 288 // c, 1)), np.ones((c, c, 1))) for c in (2, 4, 8, 16)).repeat(
        3, 2
    )


def sliding(step_px: int, frames: int = 12) -> list[np.ndarray]:
    whole = ground(0)
    return [whole[:, k * step_px : k * step_px + 128].astype(np.uint8) for k in range(frames)]


def supported(frames: list[np.ndarray], truth: Boxes | None = None, **settings: int) -> stride.Support:
    pytest.importorskip("cv2", reason="OpenCV is not installed: uv sync --extra video")
    n = len(frames)
    clips = Clips(("a",), np.zeros(n, np.int64), np.arange(n), np.arange(n) / 25)
    size = np.full(n, frames[0].shape[1]), np.full(n, frames[0].shape[0])
    return stride.support(clips, *size, lambda i: frames[i], truth, **settings)


def test_a_slow_camera_supports_a_larger_stride_than_a_fast_one() -> None:
    slow, fast = supported(sliding(1)), supported(sliding(12))
    assert slow.by == fast.by == "spots"
    assert [one.stride for one in slow.shares] == list(stride.STRIDES)
    assert slow.largest >= 5 > fast.largest
    held = [fast.held(one) for one in fast.shares]
    assert held[0] is not None and held[-1] is not None and held[0] > held[-1]


def test_frames_in_no_order_support_none() -> None:
    found = supported([ground(seed)[:, :128].astype(np.uint8) for seed in range(12)])
    assert found.largest == 0


def test_nothing_is_said_of_a_picture_that_stands_still() -> None:
    found = supported([sliding(1)[0]] * 12)
    assert (found.by, found.largest) == ("", 0)
    assert found.stretches > 0
    assert "nothing moves from frame to frame" in look_alikes.in_words(found, 1.0)


def test_boxes_decide_where_there_are_some() -> None:
    frames = sliding(2)
    n, x = len(frames), 2 * np.arange(len(frames))
    places = np.array([[30, 8, 54, 32], [60, 40, 90, 70], [90, 10, 120, 34], [40, 60, 64, 84]])
    boxes = np.concatenate([places - [[k, 0, k, 0]] for k in x])
    image = np.repeat(np.arange(n), len(places))
    right = supported(frames, Boxes.from_rows(image, boxes, np.tile([0, 1, 1, 0], n), n), stretches=12)
    assert right.shares[0].boxes < stride.FEW and right.by == "spots", "two stretches of four boxes are too few"
    many = np.tile(boxes.reshape(n, 4, 4), (1, 20, 1)).reshape(-1, 4)
    labels = np.tile([0, 1, 1, 0], 20 * n)
    right = supported(frames, Boxes.from_rows(np.repeat(np.arange(n), 80), many, labels, n))
    assert right.by == "boxes" and right.largest >= 3
    assert right.shares[0].linked == right.shares[0].boxes
    labels = np.repeat(np.arange(n), 80)  # no box of one frame has the class of one of the next
    wrong = supported(frames, Boxes.from_rows(np.repeat(np.arange(n), 80), many, labels, n))
    assert wrong.shares[0].linked == 0 and wrong.largest == 0


def test_short_clips_and_broken_frames() -> None:
    assert supported(sliding(1, frames=1)).shares == ()
    assert [one.stride for one in supported(sliding(1, frames=4)).shares] == [1, 2, 3]
    frames = sliding(1, frames=4)

    def read(image: int) -> np.ndarray:
        if image == 2:
            raise LabelwiseError("frame 2 cannot be read")
        return frames[image]

    clips = Clips(("a",), np.zeros(4, np.int64), np.arange(4), np.arange(4) / 25)
    found = stride.support(clips, np.full(4, 128), np.full(4, 96), read)
    assert found.stretches == 0 and found.by == ""


def test_support_of_two_splits_is_added() -> None:
    one = stride.Support((stride.Share(1, 4, 3, 10, 9), stride.Share(2, 4, 2, 10, 8)), 3)
    other = stride.Support((stride.Share(1, 1, 1, 1, 1),), 2)
    both = stride.Support((stride.Share(1, 5, 4, 11, 10), stride.Share(2, 4, 2, 10, 8)), 5)
    assert one + other == both and stride.Support((), 0) + both == both


def test_check_of_videos_tells_the_stride(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("cv2", reason="OpenCV is not installed: uv sync --extra video")
    root = tmp_path / "roads"
    roads.write(root, preset="tiny", seed=0)
    done = CliRunner().invoke(app, ["check", str(root), "--json"])
    said = json.loads(done.stdout)["tracks"]
    assert said["by"] in ("boxes", "spots") and said["largest_stride"] >= 1
    assert [one["frames"] for one in said["strides"]] == [1, 2, 3, 5, 10]
    assert 0 < said["stretches"] <= stride.STRETCHES
    words = " ".join(CliRunner().invoke(app, ["check", str(root)]).output.split())
    assert f"Tracks hold with a stride of up to {said['largest_stride']} frame" in words
    monkeypatch.setattr(look_alikes, "find_spec", lambda _name: None)
    words = " ".join(CliRunner().invoke(app, ["check", str(root)]).output.split())
    assert 'pip install "labelwise[video]"' in words and "Tracks hold" not in words
