"""Folders of images alone, image files and videos of every kind, and what no reader may wait for."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from labelwise.data import find, recognise
from labelwise.types import LabelwiseError, Pool


def pictures(root: Path, names: str) -> Path:
    for name in names.split():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (16, 8)).save(root / name, "PNG")
    return root


def labels(pool: Pool) -> list[str]:
    assert pool.truth is not None and pool.one_class_per_image
    return [pool.classes[label] for label in pool.truth.labels]


def test_splits_of_classes_in_any_case(tmp_path: Path) -> None:
    root = pictures(tmp_path, "Train/dog/a.jpg Train/cat/b.jpg Test/dog/c.jpg Test/cat/d.jpg")
    assert find.name(root) == "classes" and find.splits(root) == ("Train", "Test")
    assert labels(find.read(root, "Train")) == ["cat", "dog"] and find.read(root, "Test").problems == ()
    root = pictures(tmp_path / "x", "TRAINING/dog/a.jpg TRAINING/cat/b.jpg validation/cat/d.jpg validation/dog/d.jpg")
    assert find.splits(root) == ("TRAINING", "validation")


def test_classes_below_a_wrapper_and_a_split_without_classes(tmp_path: Path) -> None:
    root = pictures(tmp_path / "a", "set/flowers/rose/1.jpg set/flowers/tulip/deep/2.jpg set/flowers/tulip/3.jpg")
    pool = find.read(root)
    assert find.name(root) == "classes" and labels(pool) == ["rose", "tulip", "tulip"]
    assert pool.names[0] == "set/flowers/rose/1.jpg"
    root = pictures(tmp_path / "b", "train/cat/1.jpg train/dog/2.jpg test/3.jpg test/4.jpg")
    pool = find.read(root, "train")
    assert find.splits(root) == ("train",) and labels(pool) == ["cat", "dog"]
    assert [(p.kind, p.count) for p in pool.problems] == [("image without class", 2)]


@pytest.mark.parametrize(
    "names", ["images/1.jpg masks/1.jpg", "day1/1.jpg day2/2.jpg", "a.jpg cat/1.jpg dog/2.jpg", "cat/1.jpg"]
)
def test_folders_that_are_no_classes(tmp_path: Path, names: str) -> None:
    root = pictures(tmp_path, names)
    assert find.name(root) == "folder" and len(find.read(root)) == len(names.split())


def test_images_beside_the_splits_of_a_bare_folder_are_not_lost(tmp_path: Path) -> None:
    root = pictures(tmp_path, "Train/1.jpg Val/2.jpg more/3.jpg 4.jpg")
    assert find.splits(root) == ("Train", "Val", "all")
    assert find.read(root, "all").names == ("4.jpg", "more/3.jpg") and find.read(root, "val").names == ("Val/2.jpg",)
    assert set(recognise.look(root).pools) == {"Train", "Val", "all"}
    only = pictures(tmp_path / "only", "images/val/2.jpg")
    assert find.splits(only) == ("val",) and find.read(only).names == ("images/val/2.jpg",)
    with pytest.raises(LabelwiseError, match="no split 'train'"):
        find.read(only, "train")


def test_frames_are_recognised_also_by_split(tmp_path: Path) -> None:
    root = pictures(tmp_path, "train/clip_a/1.jpg train/clip_a/2.jpg Test/clip_b/1.jpg Test/clip_b/2.jpg")
    assert find.name(root) == recognise.look(root).format == "frames" and find.splits(root) == ("train", "Test")
    pool = find.read(root, "Test")
    assert pool.clips is not None and pool.clips.names == ("Test/clip_b",)


VIDEOS = {
    "clip.TS": ("mpegts", "mpeg2video"),
    "deep/er/clip.mts": ("mpegts", "mpeg2video"),
    "clip.mpeg": ("mpeg", "mpeg1video"),
    "clip.wmv": ("asf", "wmv2"),
    "clip.flv": ("flv", "flv"),
    "clip.3gp": ("3gp", "mpeg4"),
    "clip.m2v": ("mpeg2video", "mpeg2video"),
    "clip.mjpeg": ("mjpeg", "mjpeg"),
    "clip.MOV": ("mov", "mpeg4"),
}


@pytest.mark.parametrize("name", VIDEOS)
def test_videos_of_every_suffix_and_in_every_folder(tmp_path: Path, name: str) -> None:
    av = pytest.importorskip("av", reason="the extra `video` is not installed")
    kind, codec = VIDEOS[name]
    (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(tmp_path / name), "w", format=kind) as container:
        stream = container.add_stream(codec, rate=25)
        stream.width, stream.height = 64, 48
        stream.pix_fmt = "yuvj420p" if codec == "mjpeg" else "yuv420p"
        for k in range(6):
            pixels = np.full((48, 64, 3), 40 * k, np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(pixels, format="rgb24")))
        container.mux(stream.encode())
    (tmp_path / "program.ts").write_text("export const a = 1;\n")
    (tmp_path / "list.mp4").write_text("#EXTM3U\n#EXTINF:9,\nhttp://192.0.2.1/a.ts\n#EXT-X-ENDLIST\n")
    assert find.name(tmp_path) == "video"
    pool = find.read(tmp_path)
    assert len(pool) == 6 and pool.names[5] == f"{name}#000005" and pool.sources == {name}
    assert [p.where for p in pool.problems if p.kind == "broken video"] == ["list.mp4"]
    assert pool.frames is not None and abs(int(pool.frames(4)[20, 20, 0]) - 160) < 12


def test_splits_of_videos_and_what_lies_beside(tmp_path: Path) -> None:
    av = pytest.importorskip("av", reason="the extra `video` is not installed")
    for name in ("Train/x/a.avi", "test/b.avi", "c.avi"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        with av.open(str(tmp_path / name), "w") as container:
            stream = container.add_stream("mpeg4", rate=25)
            stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
            for _ in range(2):
                container.mux(
                    stream.encode(av.VideoFrame.from_ndarray(np.zeros((48, 64, 3), np.uint8), format="rgb24"))
                )
            container.mux(stream.encode())
    assert find.splits(tmp_path) == ("Train", "test", "all")
    assert [find.read(tmp_path, split).names[0] for split in ("train", "test", "all")] == [
        "Train/x/a.avi#000000", "test/b.avi#000000", "c.avi#000000",
    ]  # fmt: skip
