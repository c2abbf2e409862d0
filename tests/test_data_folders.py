"""Folders of images alone, image files and videos of every kind, and what no reader may wait for."""

from __future__ import annotations

import io
import os
import socket
import zipfile
from contextlib import closing, suppress
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, features

from labelwise.data import find, image_reader, recognise
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


def test_images_of_every_kind_are_read(tmp_path: Path) -> None:
    kinds = {"jfif": "JPEG", "jpe": "JPEG", "pjpeg": "JPEG", "tif": "TIFF", "bmp": "BMP", "webp": "WEBP", "png": "JPEG",
             "jpg": "PNG", "JPEG": "PNG"}  # fmt: skip
    kinds |= {"avif": "AVIF"} if features.check("avif") else {}
    for suffix, kind in kinds.items():
        Image.new("RGB", (16, 8), (9, 9, 200)).save(tmp_path / f"{suffix}.{suffix}", kind)
    pool = find.read(tmp_path)
    assert {name.partition(".")[0] for name in pool.names} == set(kinds) and pool.problems == ()
    assert all(abs(int(image_reader.pixels_of(pool, i)[3, 3, 2]) - 200) < 9 for i in range(len(pool)))


def test_broken_and_large_images_and_several_pages_are_told(tmp_path: Path) -> None:
    page = Image.new("L", (16, 8))
    page.save(tmp_path / "pages.tif", save_all=True, append_images=[page, page])
    page.save(tmp_path / "film.gif", save_all=True, append_images=[Image.new("L", (16, 8), 99)])
    Image.new("1", (1, 1)).save(tmp_path / "large.pbm")
    (tmp_path / "large.pbm").write_bytes(b"P4\n20000 20000\n" + b"\0" * 99)  # above Pillow's own limit
    (tmp_path / "huge.pbm").write_bytes(b"P4\n30000 30000\n" + b"\0" * 99)
    (tmp_path / "empty.jfif").touch()
    pool = find.read(tmp_path)
    assert pool.names == ("film.gif", "large.pbm", "pages.tif")
    found = {(p.kind, p.where) for p in pool.problems}
    assert found >= {("multi-page image", "film.gif"), ("multi-page image", "pages.tif"),
                     ("unreadable image", "huge.pbm"), ("unreadable image", "empty.jfif")}  # fmt: skip
    assert "30000x30000 px; at most 500 million" in str(pool.problems)


def test_heic_names_its_extra_where_it_is_not_installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(image_reader, "SUFFIXES", image_reader.SUFFIXES - image_reader.EXTRA)
    (tmp_path / "a.HEIC").write_bytes(b"x")
    with pytest.raises(LabelwiseError, match=r"1 HEIC image needs pip install .labelwise\[heic\]"):
        find.read(tmp_path)
    pictures(tmp_path, "b.jpg")
    assert [(p.kind, p.where) for p in find.read(tmp_path).problems] == [("image not read", "a.HEIC")]


def test_heic_with_its_extra(tmp_path: Path) -> None:
    heif = pytest.importorskip("pillow_heif", reason="the extra `heic` is not installed")
    heif.register_heif_opener()
    Image.new("RGB", (64, 32), (200, 9, 9)).save(tmp_path / "a.heic")
    pool = find.read(tmp_path)
    assert pool.names == ("a.heic",) and (pool.width_px[0], pool.height_px[0]) == (64, 32)
    assert abs(int(image_reader.pixels_of(pool, 0)[9, 9, 0]) - 200) < 9


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="there are no FIFOs here")
def test_nobody_waits_for_what_is_no_file(tmp_path: Path) -> None:
    root = pictures(tmp_path, "train/cat/1.jpg train/dog/2.jpg")
    for name in ("a.jpg", "train/b.jpg", "x.csv", "labels.json", "data.npz", "classes.txt", "clip.mp4", "wnids.txt",
                 "train/cat/c.jpg", "train/cat/d.xml", "notes.txt", "t.tar"):  # fmt: skip
        os.mkfifo(root / name)
    (root / "train" / "dog" / "round").symlink_to(root, target_is_directory=True)
    (root / "train" / "dog" / "gone.jpg").symlink_to(root / "nowhere.jpg")
    with closing(socket.socket(socket.AF_UNIX)) as one:
        one.bind(os.path.relpath(root / "s.png"))
        assert find.read(root, format_name="classes").names == ("train/cat/1.jpg", "train/dog/2.jpg")
        for name in ("box_table", "class_table", "video", "frames", "folder", "image_list", "cifar", "tiny_imagenet",
                     "arrays"):  # fmt: skip
            with suppress(LabelwiseError):
                find.read(root, format_name=name)
        with pytest.raises(LabelwiseError, match="can't be read"):
            image_reader.probe(root / "a.jpg")


def test_archives_that_ask_for_more_than_is_there(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", x=np.zeros((2, 4, 4), np.uint8), y=np.array([0, 4294967295]))
    with pytest.raises(LabelwiseError, match="4294967296 classes"):
        find.read(tmp_path, format_name="arrays")
    header = io.BytesIO()
    np.lib.format.write_array_header_1_0(header, {"descr": "|u1", "fortran_order": False, "shape": (2**32 - 1, 99, 99)})
    with zipfile.ZipFile(tmp_path / "a.npz", "w") as archive:
        archive.writestr("x.npy", header.getvalue())
        archive.writestr("y.npy", header.getvalue())
    with pytest.raises(LabelwiseError, match="more than is there"):
        find.read(tmp_path, format_name="arrays")
    folder = tmp_path / "cifar-10-batches-py"
    folder.mkdir()
    for name in ("batches.meta", "data_batch_1"):
        (folder / name).write_bytes(b"\x80\x02}r\xff\xff\xff\x7f.")  # a memo of two billion places
    with pytest.raises(LabelwiseError, match=r"room for 2147483647|no data_batch_2"):
        find.read(tmp_path, "train", format_name="cifar")
