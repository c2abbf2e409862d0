"""Pools of videos: every frame by its number is the one that reading from the start gives; broken files are named."""

from __future__ import annotations

import json
import multiprocessing
import os
import pickle
import shutil
import sys
import zlib
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from PIL import Image

from labelwise.data import _decode, coco, find, long_tail, pixels, video, voc, yolo
from labelwise.data import frames as frame_folders
from labelwise.data._frames import Frames
from labelwise.data._kept import Kept, rgb
from labelwise.data.check import check
from labelwise.data.image_reader import Images, load
from labelwise.types import Clips, LabelwiseError, Pool

av = pytest.importorskip("av", reason="PyAV is not installed: uv sync --extra video")

KINDS = {
    "b_frames.mp4": ("libx264", {"bf": "3", "g": "12"}, "yuv420p"),
    "open_gop.mkv": ("libx264", {"bf": "3", "g": "12", "x264-params": "open-gop=1"}, "yuv420p"),
    "refresh.mp4": ("libx264", {"x264-params": "intra-refresh=1:keyint=12"}, "yuv420p"),
    "plain.avi": ("mpeg4", {"g": "10"}, "yuv420p"),
    "uncounted.avi": ("libx264", {"bf": "2", "g": "10"}, "yuv420p"),
    "hidden.webm": ("libvpx", {"auto-alt-ref": "1", "lag-in-frames": "10", "g": "20", "b": "200000"}, "yuv420p"),
    "old.mpg": ("mpeg2video", {"bf": "2", "g": "12"}, "yuv420p"),
    "intra.mov": ("mjpeg", {}, "yuvj420p"),
    "full.mp4": ("libx264", {"bf": "1", "g": "9", "crf": "20"}, "yuv444p"),
    "ten_bit.mkv": ("libx264", {"bf": "1", "g": "9"}, "yuv420p10le"),
}
"""File -> codec, options, format of the pixels."""


def picture(k: int, width: int = 96, height: int = 64) -> np.ndarray:
    noise = np.random.default_rng(k // 3).integers(0, 255, (height // 8, width // 8, 3))
    return np.roll(np.kron(noise, np.ones((8, 8, 1))).astype(np.uint8), k, axis=1)


def film(
    path: Path,
    n: int = 40,
    size: tuple[int, int] = (96, 64),
    times_ms: list[int] | None = None,
    kind: str = "b_frames.mp4",
    **options: str,
) -> Path:
    """A video whose frames all differ; `times_ms`: when each is shown."""
    codec, usual, pixel_format = KINDS[kind]
    path.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=25)
        stream.width, stream.height, stream.pix_fmt = *size, pixel_format
        stream.options = usual | options
        stream.codec_context.thread_count = 1
        if times_ms is not None:
            stream.codec_context.time_base = Fraction(1, 1000)
        for k in range(n):
            frame = av.VideoFrame.from_ndarray(picture(k, *size), format="rgb24")
            if times_ms is not None:
                frame.pts, frame.time_base = times_ms[k], Fraction(1, 1000)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


def plain(path: Path) -> list[int]:
    """The obvious reference: checksums of all frames, decoded from the start."""
    with av.open(str(path)) as container:
        return [zlib.crc32(frame.to_ndarray(format="rgb24").tobytes()) for frame in container.decode(video=0)]


def digest(pixels: np.ndarray) -> int:
    return zlib.crc32(np.ascontiguousarray(pixels).tobytes())


def kinds(pool: Pool) -> list[str]:
    return [problem.kind for problem in pool.problems]


@pytest.mark.parametrize("name", KINDS)
def test_any_order_gives_the_frames_of_sequential_decoding(tmp_path: Path, name: str) -> None:
    expected = plain(film(tmp_path / name, kind=name))
    assert len(set(expected)) == len(expected) == 40
    pool = find.read(tmp_path)
    assert len(pool) == 40 and isinstance(pool.frames, Frames)
    assert pool.names[7] == f"{name}#000007" and pool.width_px[7] == 96 and pool.height_px[7] == 64
    assert pool.clips is not None and pool.clips.frame.tolist() == list(range(40))
    assert pool.problems == ()
    np.testing.assert_allclose(pool.clips.time_s, np.arange(40) / 25, atol=2e-3)
    order = np.random.default_rng(0).permutation(40)
    assert [digest(pool.frames(int(k))) for k in order] == [expected[k] for k in order]
    again = pickle.loads(pickle.dumps(pool.frames))
    assert [digest(again(k)) for k in range(40)] == expected
    pool.frames.keep_in(tmp_path / "kept", 10_000_000, passed=True)
    for _ in range(2):  # decoded and kept; then from the disk
        assert [digest(pool.frames(int(k))) for k in order] == [expected[k] for k in order]
    assert len(list((tmp_path / "kept").glob("*/*.ffv1"))) == 40


def test_sequential_reading_decodes_each_frame_once(tmp_path: Path) -> None:
    decoder = _decode.Decoder(_decode.index(film(tmp_path / "a.mp4")))
    seen: list[int] = []
    for k in range(40):
        decoder.read(k, lambda number, _: seen.append(number))
    assert seen == [], "no frame but the wanted one"
    decoder.read(37)
    decoder = _decode.Decoder(_decode.index(tmp_path / "a.mp4"))
    decoder.read(39, lambda number, _: seen.append(number))
    assert 0 < len(seen) < 15 and seen[0] > 20, "from the keyframe before it"


def test_variable_frame_rate(tmp_path: Path) -> None:
    times = np.cumsum([0, 40, 40, 200, 10, 40, 33, 40, 40, 500, 40, 40, 90, 40, 40, 40, 40, 40, 40, 7]).tolist()
    path = film(tmp_path / "a.mp4", n=20, times_ms=times)
    expected, pool = plain(path), find.read(tmp_path)
    assert kinds(pool) == ["variable frame rate"] and "5 of 19" in pool.problems[0].what
    assert pool.clips is not None and pool.frames is not None
    np.testing.assert_allclose(pool.clips.time_s, np.array(times) / 1000, atol=1e-3)
    assert [digest(pool.frames(k)) for k in range(19, -1, -1)] == expected[::-1]


def test_threads_read_more_videos_than_are_open(tmp_path: Path) -> None:
    names = [f"{i:02d}.mp4" for i in range(11)]
    expected = [crc for i, name in enumerate(names) for crc in plain(film(tmp_path / name, n=6 + i))]
    pool = find.read(tmp_path)
    assert pool.frames is not None and pool.clips is not None and len(pool.clips.names) == 11
    order = np.random.default_rng(1).permutation(len(pool))
    with ThreadPoolExecutor(8) as threads:
        assert list(threads.map(lambda i: digest(pool.frames(int(i))), order)) == [expected[i] for i in order]
    store = Images(pool, 48)
    assert store.warm(range(len(pool))) == []
    small, scale = store[3]
    assert small.shape == (3, 32, 48) and scale.tolist() == [0.5, 0.5]
    assert pixels.load(pool, 16, most_bytes=1e9).failed == {}


def test_a_turned_video_is_read_as_displayed(tmp_path: Path) -> None:
    upright, turned = film(tmp_path / "a.mp4", n=5), tmp_path / "turned" / "a.mp4"
    turned.parent.mkdir()
    with av.open(str(upright)) as source, av.open(str(turned), "w") as target:
        stream = target.add_stream_from_template(source.streams.video[0])
        stream.set_display_rotation(90)
        for packet in source.demux(video=0):
            if packet.dts is not None:
                packet.stream = stream
                target.mux(packet)
    pool, before = find.read(tmp_path / "turned"), find.read(tmp_path, format_name="video")
    assert pool.frames is not None and before.frames is not None
    assert (pool.width_px[0], pool.height_px[0]) == (64, 96)
    assert (pool.frames(2) == np.rot90(before.frames(2))).all(), "90 degrees anticlockwise, as FFmpeg defines it"


# --- kept frames -------------------------------------------------------------------------------------------------


def test_kept_frames_stay_within_the_budget_and_the_oldest_go(tmp_path: Path) -> None:
    index = _decode.index(film(tmp_path / "a.mp4"))
    decoder = _decode.Decoder(index)
    probe = Kept(tmp_path / "probe", 10**9)
    probe.keep(index, 0, decoder.read(0))
    one = probe.size_bytes()
    kept = Kept(tmp_path / "kept", 10 * one)
    for k in range(40):
        kept.keep(index, k, decoder.read(k))
        assert kept.load(index, 0) is not None or k > 0
        assert kept.size_bytes() <= 10 * one
        for path in (tmp_path / "kept").glob("*/*.ffv1"):  # older files were used longer ago, by a second each
            os.utime(path, (float(path.stem), float(path.stem)))
    assert kept.load(index, 39) is not None and kept.load(index, 0) is None
    tiny = Kept(tmp_path / "tiny", 1)
    tiny.keep(index, 0, decoder.read(0))
    assert tiny.load(index, 0) is None, "a frame larger than the budget is not kept"
    with pytest.raises(LabelwiseError, match="at least 1"):
        Kept(tmp_path / "none", 0)


def test_damaged_and_half_written_files_count_as_not_there(tmp_path: Path) -> None:
    index = _decode.index(film(tmp_path / "a.mp4", n=4))
    picture_0, kept = _decode.Decoder(index).read(0), Kept(tmp_path / "kept", 10**6)
    kept.keep(index, 0, picture_0)
    (file,) = (tmp_path / "kept").glob("*/*.ffv1")
    content = file.read_bytes()
    for broken in (b"", content[:-9], content[:50] + b"x" + content[51:], bytes(len(content))):
        file.write_bytes(broken)
        assert kept.load(index, 0) is None
        file.unlink()
        kept.keep(index, 0, picture_0)
        assert (rgb(kept.load(index, 0)) == rgb(picture_0)).all()
    (file.parent / "0000003.tmp").write_bytes(bytes(300_000))  # what a kill leaves
    (tmp_path / "kept" / "bytes").write_text("999999")
    kept.keep(index, 1, picture_0)
    assert not list((tmp_path / "kept").glob("*/*.tmp")) and kept.load(index, 0) is not None


def test_a_changed_video_is_another_video(tmp_path: Path) -> None:
    pool = find.read(film(tmp_path / "a.mp4", n=4).parent)
    assert isinstance(pool.frames, Frames)
    pool.frames.keep_in(tmp_path / "kept", 10**6)
    first = digest(pool.frames(2))
    film(tmp_path / "a.mp4", n=5, kind="full.mp4")
    fresh = find.read(tmp_path)
    assert isinstance(fresh.frames, Frames)
    fresh.frames.keep_in(tmp_path / "kept", 10**6)
    assert digest(fresh.frames(2)) == plain(tmp_path / "a.mp4")[2] != first
    with pytest.raises(LabelwiseError, match=r"a\.mp4: the video has changed since it was read"):
        pickle.loads(pickle.dumps(pool.frames))(3)


def _fill(root: str, start: int) -> None:
    pool = find.read(Path(root), format_name="video")
    assert isinstance(pool.frames, Frames)
    pool.frames.keep_in(Path(root) / "kept", 60_000)
    for k in range(start, start + 20):
        pool.frames(k % 40)


@pytest.mark.slow
def test_processes_share_the_budget(tmp_path: Path) -> None:
    film(tmp_path / "a.mp4")
    context = multiprocessing.get_context("spawn")
    workers = [context.Process(target=_fill, args=(str(tmp_path), start)) for start in (0, 10, 20)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
        assert worker.exitcode == 0
    assert 0 < Kept(tmp_path / "kept", 60_000).size_bytes() <= 60_000


# --- labels, splits ----------------------------------------------------------------------------------------------


def annotated(root: Path, clips: dict[str, list[list[list[object]]]], n: int = 4, **changes: object) -> Path:
    content = {}
    for name, labels in clips.items():
        film(root / "videos" / f"{name}.mp4", n=n)
        entry = {"file": f"videos/{name}.mp4", "width": 96, "height": 64, "fps": 25.0, "frames": n, "labels": labels}
        content[name] = entry | changes
    (root / "labels.json").write_text(json.dumps(content))
    return root


def test_labels_and_splits_by_clip(tmp_path: Path) -> None:
    birds = {
        f"b{i}": [[["bird", 11, 21, 5, 6]], [], [["drone", 1, 1, 96, 64]], [["bird", 1, 1, 2, 2]]] for i in range(4)
    }
    drones = {f"a{i}": [[["drone", 1, 1, 2, 2]], [], [], []] for i in range(3)}
    empty = {"z": [[], [], [], []]}
    root = annotated(tmp_path, birds | drones | empty)
    assert find.splits(root) == ("train", "test")
    train, test = find.read(root, "train"), find.read(root, "test")
    assert test.clips is not None and test.clips.names == ("videos/a2.mp4", "videos/b2.mp4")
    assert train.clips is not None and len(train.clips.names) == 6 and train.classes == ("bird", "drone")
    assert train.problems == test.problems == ()
    assert test.truth is not None and test.names[4] == "videos/b2.mp4#000000"
    assert test.truth.offsets.tolist() == [0, 1, 1, 1, 1, 2, 2, 3, 4]
    assert test.truth.xyxy[1:3].tolist() == [[10, 20, 15, 26], [0, 0, 96, 64]], "pixels count from 1 in the file"
    assert test.truth.labels.tolist() == [1, 0, 1, 0]
    both = find.read(root, "train+test")
    assert both.clips is not None and len(both.clips.names) == 8 and len(both) == 32
    assert both.frames is not None and test.frames is not None
    assert (both.frames(24 + 5) == test.frames(5)).all()
    assert check(root) == () or {p.kind for p in check(root)} == {"duplicate image"}


@pytest.mark.parametrize("module", [coco, yolo, voc], ids=lambda module: module.__name__.split(".")[-1])
def test_frames_are_written_as_images(tmp_path: Path, module: ModuleType) -> None:
    birds = {f"b{i}": [[["bird", 11, 21, 5, 6]], [], [["bird", 1, 1, 96, 64]], []] for i in range(3)}
    pool = find.read(annotated(tmp_path / "videos", birds), "train")
    assert pool.truth is not None and pool.frames is not None
    module.write(pool, tmp_path / "stills", "train")
    stills = find.read(tmp_path / "stills", "train")
    assert stills.problems == () and stills.truth is not None
    assert [Path(name).name for name in stills.names[:2]] == ["b0.mp4__000000.png", "b0.mp4__000001.png"]
    assert stills.truth.offsets.tolist() == pool.truth.offsets.tolist()
    assert np.allclose(stills.truth.xyxy, pool.truth.xyxy, atol=1e-3)
    for frame in range(len(pool)):
        assert (load(stills.path(frame)) == pool.frames(frame)).all()


def test_the_splits_of_few_clips_and_of_folders(tmp_path: Path) -> None:
    one = annotated(tmp_path / "one", {"a": [[["x", 1, 1, 5, 5]], [], [], []]})
    assert find.splits(one) == ("train",) and len(find.read(one)) == 4
    for split in ("train", "test"):
        film(tmp_path / "two" / split / "a.mp4", n=3)
    assert find.splits(tmp_path / "two") == ("train", "test")
    assert find.read(tmp_path / "two", "test").names[0] == "test/a.mp4#000000"
    with pytest.raises(LabelwiseError, match="Say which one"):
        find.read(tmp_path / "two")
    labels = {"a": {"file": "a.mp4", "labels": [[["y", 1, 1, 9, 9]], [], []]}}
    (tmp_path / "two" / "test" / "labels.json").write_text(json.dumps(labels))
    pool = find.read(tmp_path / "two", "test")
    assert pool.truth is not None and pool.truth.xyxy.tolist() == [[0, 0, 9, 9]]


def test_labels_that_do_not_fit_the_videos(tmp_path: Path) -> None:
    box = ["x", 1, 1, 5, 5]
    clips = {
        "long": [[box]] * 6,
        "short": [[box]] * 3,
        "fits": [[box], [], [["x", 90, 1, 50, 5], ["x", 200, 1, 5, 5]], []],
    }
    root = annotated(tmp_path, clips)
    film(root / "videos" / "stray.mp4", n=2)
    content = json.loads((root / "labels.json").read_text())
    content["gone"] = {"file": "videos/gone.mp4", "labels": [[box]]}
    content["fits"] |= {"weather": "rain", "width": 640}
    (root / "labels.json").write_text(json.dumps(content))
    train = find.read(root, "train")
    found = {(p.kind, p.where): p for p in train.problems + find.read(root, "test").problems}
    assert set(found) == {
        ("label without image", "videos/long.mp4"),
        ("frame without labels", "videos/short.mp4"),
        ("unknown key", "videos/fits.mp4"),
        ("size differs", "videos/fits.mp4"),
        ("missing video", "videos/gone.mp4"),
        ("video without labels", "videos/stray.mp4"),
        ("out-of-image box", "labels.json: fits frame 2 box 0"),
        ("out-of-image box", "labels.json: fits frame 2 box 1"),
    }
    assert found["frame without labels", "videos/short.mp4"].handling == "1 frames left out"
    assert "weather" in found["unknown key", "videos/fits.mp4"].what
    names = train.names + find.read(root, "test").names
    assert "videos/short.mp4#000003" not in names and "videos/long.mp4#000003" in names and len(names) == 11


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{\n!", r"labels.json:2: broken JSON"),
        ("[]", "expected an object with an entry per clip"),
        ('{"a": {"labels": []}}', r"clip 'a' is .*expected an object with file"),
        ('{"a": {"file": "a.mp4"}}', r"clip 'a': labels is None; expected one list per frame"),
        ('{"a": {"file": "a.mp4", "labels": [[], 3]}}', r"clip 'a': labels\[1\] is 3"),
        ('{"a": {"file": "a.mp4", "labels": [[["x", 1, 2, 3]]]}}', r"labels\[0\]\[0\] is \['x', 1, 2, 3\]; expected"),
        ('{"a": {"file": "a.mp4", "labels": [[[7, 1, 2, 3, 4]]]}}', r"labels\[0\]\[0\].*a name and four numbers"),
        (
            '{"a": {"file": "a.mp4", "labels": []}, "b": {"file": "a.mp4", "labels": []}}',
            "clip 'b': file .* named before",
        ),
    ],
)
def test_a_broken_labels_file_names_the_place(tmp_path: Path, text: str, message: str) -> None:
    film(tmp_path / "a.mp4", n=2)
    (tmp_path / "labels.json").write_text(text)
    with pytest.raises(LabelwiseError, match=message):
        find.read(tmp_path, "train")


# --- broken videos -----------------------------------------------------------------------------------------------


def test_broken_files_are_left_out_and_named(tmp_path: Path) -> None:
    good = film(tmp_path / "good.mp4", n=6)
    (tmp_path / "empty.mp4").touch()
    (tmp_path / "text.avi").write_text("no video")
    (tmp_path / "cut.mp4").write_bytes(good.read_bytes()[:-200])  # the table of contents stands at the end
    film(tmp_path / "one.mp4", n=1)
    film(tmp_path / "wide.mp4", n=2, size=(128, 64))
    whole = film(tmp_path / "whole.mkv", n=30, kind="open_gop.mkv").read_bytes()
    (tmp_path / "whole.mkv").write_bytes(whole[: len(whole) // 2])
    pool = find.read(tmp_path)
    found = {(p.kind, p.where) for p in pool.problems}
    assert found == {
        ("broken video", "empty.mp4"),
        ("broken video", "text.avi"),
        ("broken video", "cut.mp4"),
        ("video with one frame", "one.mp4"),
        ("frames of different sizes", str(tmp_path)),
    }
    assert pool.clips is not None and pool.clips.names == ("good.mp4", "one.mp4", "whole.mkv", "wide.mp4")
    assert 5 < (pool.clips.video == 2).sum() < 30, "of a file that breaks off, what is there"
    assert set(zip(pool.width_px.tolist(), pool.height_px.tolist(), strict=True)) == {(96, 64), (128, 64)}
    assert "none of its frames" in str(pool.problems) or "Invalid data" in str(pool.problems)
    for path in tmp_path.iterdir():
        if path.name not in ("empty.mp4", "text.avi"):
            path.unlink()
    with pytest.raises(LabelwiseError, match=r"none of the 2 videos can be read: .*empty\.mp4"):
        find.read(tmp_path)


def test_a_container_that_promises_more_frames(tmp_path: Path) -> None:
    film(tmp_path / "a.mp4", n=30)
    with (
        av.open(str(tmp_path / "a.mp4")) as source,
        av.open(str(tmp_path / "b.mp4"), "w", options={"movflags": "faststart"}) as target,
    ):
        stream = target.add_stream_from_template(source.streams.video[0])
        for packet in source.demux(video=0):
            if packet.dts is not None:
                packet.stream = stream
                target.mux(packet)
    (tmp_path / "a.mp4").unlink()
    content = (tmp_path / "b.mp4").read_bytes()
    (tmp_path / "b.mp4").write_bytes(content[: len(content) * 2 // 3])
    pool = find.read(tmp_path)
    assert kinds(pool) == ["truncated video"] and "says 30 frames" in pool.problems[0].what
    assert 5 < len(pool) < 30
    failed = dict(Images(pool, 48).warm(range(len(pool))))
    assert len(failed) <= 3, "but for those that need what is missing, all can be read"


def test_a_damaged_frame_in_the_middle_is_an_error_and_the_others_are_not(tmp_path: Path) -> None:
    path = film(tmp_path / "a.mp4", bf="0")
    expected, index = plain(path), _decode.index(path)
    second, third = index.keys[1:3].tolist()
    with av.open(str(path)) as container:
        packets = [(packet.pos, packet.size) for packet in container.demux(video=0) if packet.size]
    content, (position, size) = bytearray(path.read_bytes()), packets[second + 2]
    content[position + 4 : position + size] = b"\xff" * (size - 4)
    path.write_bytes(content)
    pool = find.read(tmp_path)
    store = Images(pool, 96)
    failed = dict(store.warm(range(40)))
    damaged = list(range(second + 2, third))  # the frame, and those that are built on it
    assert sorted(failed) == damaged
    assert all(f"frame {k} of 40 can't be decoded" in failed[k] and "a.mp4" in failed[k] for k in damaged)
    assert pool.frames is not None
    assert all(digest(pool.frames(k)) == expected[k] for k in range(40) if k not in damaged)
    assert {p.where for p in check(tmp_path) if p.kind == "unreadable image"} == {f"a.mp4#{k:06d}" for k in damaged}


def test_without_pyav_the_error_names_the_extra(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    film(tmp_path / "a.mp4", n=2)
    monkeypatch.setitem(sys.modules, "av", None)
    with pytest.raises(LabelwiseError, match="uv sync --extra video"):
        find.read(tmp_path)


# --- parts of pools, other formats -------------------------------------------------------------------------------


def test_parts_of_a_pool(tmp_path: Path) -> None:
    for name in ("a.mp4", "b.mp4"):
        film(tmp_path / name, n=7)
    pool = find.read(tmp_path)
    assert pool.frames is not None
    third = video.every(pool, 3)
    assert third.clips is not None and third.frames is not None
    assert third.clips.frame.tolist() == [0, 3, 6, 0, 3, 6] and third.clips.video.tolist() == [0, 0, 0, 1, 1, 1]
    assert (third.frames(4) == pool.frames(10)).all()
    other = replace(pool, frames=lambda i: np.full((64, 96, 3), i, np.uint8))
    part = long_tail.subset(other, np.array([2, 9]))
    assert part.frames is not None and part.frames(1)[0, 0, 0] == 9
    renamed = replace(other, names=tuple(f"{name}'" for name in pool.names))
    both = find.join([part, renamed])
    assert both.frames is not None and both.frames(1)[0, 0, 0] == 9 and both.frames(2 + 5)[0, 0, 0] == 5
    with pytest.raises(LabelwiseError, match="row 3 comes after row 5; expected rising rows"):
        long_tail.subset(pool, np.array([1, 5, 3]))
    with pytest.raises(LabelwiseError, match="some splits are videos"):
        find.join([pool, replace(pool, names=renamed.names, clips=None, frames=None)])
    with pytest.raises(LabelwiseError, match="expected 1 or more"):
        video.every(pool, 0)
    with pytest.raises(LabelwiseError, match="no frames of videos"):
        video.every(replace(pool, clips=None), 2)
    assert len(long_tail.subset(pool, np.zeros(0, np.int64))) == 0


def stills(root: Path, *names: str, size: tuple[int, int] = (16, 8)) -> None:
    for i, name in enumerate(names):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(picture(i, 64, 64)).resize(size).save(root / name)


def test_folders_of_frames(tmp_path: Path) -> None:
    stills(tmp_path, "b/f_9.png", "b/f_10.png", "b/f_12.png", "a/cam2_001.jpg", "stray.png", "c/1.png")
    stills(tmp_path, "c/2.png", size=(8, 8))
    assert not frame_folders.detect(tmp_path) and find.reader(tmp_path).__name__.endswith("folder")
    pool = find.read(tmp_path, format_name="frames")
    assert pool.names == ("a/cam2_001.jpg", "b/f_9.png", "b/f_10.png", "b/f_12.png", "c/1.png", "c/2.png")
    assert pool.clips is not None and pool.clips.names == ("a", "b", "c")
    assert pool.clips.video.tolist() == [0, 1, 1, 1, 2, 2] and pool.clips.frame.tolist() == [1, 9, 10, 12, 1, 2]
    assert pool.clips.time_s[1] == 9 / 25 and pool.frames is None and pool.truth is None
    assert sorted(kinds(pool)) == ["frames of different sizes", "image without video", "video with one frame"]
    (tmp_path / "b" / "f_10.png").write_bytes(b"")
    less = find.read(tmp_path, format_name="frames")
    assert less.clips is not None and less.clips.frame.tolist() == [1, 9, 12, 1, 2]
    assert Images(less, 8)[0][0].shape == (3, 4, 8)
    stills(tmp_path, "b/g_9.png")
    with pytest.raises(LabelwiseError, match=r"b/g_9.png: f_9.png is frame 9 too"):
        find.read(tmp_path, format_name="frames")
    stills(tmp_path, "a/x.png")
    with pytest.raises(LabelwiseError, match=r"a/x.png: no number in the name"):
        find.read(tmp_path, format_name="frames")
    shutil.rmtree(tmp_path / "a")
    with pytest.raises(LabelwiseError, match="no folder with frames"):
        find.read(tmp_path / "c", format_name="frames")


def make_coco(root: Path, images: list[dict[str, object]], **more: object) -> Path:
    stills(root, *(str(entry["file_name"]) for entry in images))
    rows = [{"id": i, "image_id": e["id"], "category_id": 1, "bbox": [0, 0, e["id"], 2]} for i, e in enumerate(images)]
    content = {"images": images, "categories": [{"id": 1, "name": "x"}], "annotations": rows} | more
    (root / "train.json").write_text(json.dumps(content))
    return root


def framed(key: int, video: int, frame: int, field: str = "frame_id") -> dict[str, object]:
    return {"id": key, "file_name": f"{key}.png", "video_id": video, field: frame}


@pytest.mark.parametrize("field", ["frame_id", "frame_index", "frame_number"])
def test_coco_with_videos(tmp_path: Path, field: str) -> None:
    images = [framed(1, 7, 3, field), framed(2, 5, 10, field), framed(3, 7, 1, field), framed(4, 5, 0, field)]
    root = make_coco(tmp_path, images, videos=[{"id": 5, "name": "five", "fps": 10}, {"id": 7, "name": "seven"}])
    pool = find.read(root)
    assert pool.names == ("4.png", "2.png", "3.png", "1.png") and pool.problems == ()
    assert pool.clips is not None and pool.clips.names == ("five", "seven")
    assert pool.clips.frame.tolist() == [0, 10, 1, 3]
    np.testing.assert_allclose(pool.clips.time_s, [0, 1, 1 / 25, 3 / 25])
    assert pool.truth is not None and pool.truth.xyxy[:, 2].tolist() == [4, 2, 3, 1], "boxes follow their images"
    (tmp_path / "2.png").unlink()
    less = find.read(root)
    assert less.clips is not None and less.clips.frame.tolist() == [0, 1, 3]
    coco.write(less, tmp_path / "again", "train")
    again = find.read(tmp_path / "again")
    assert again.clips is not None and again.clips.frame.tolist() == [0, 1, 3]
    assert again.clips.names == ("five", "seven") and again.clips.video.tolist() == [0, 1, 1]


def test_coco_with_faulty_videos(tmp_path: Path) -> None:
    images = [framed(1, 7, 3), {"id": 2, "file_name": "2.png"}, framed(3, 8, 1), framed(4, 8, 2)]
    pool = find.read(make_coco(tmp_path / "a", images, videos=[{"id": 7, "name": "seven"}]))
    assert pool.clips is not None and pool.clips.names == ("seven", "8", "2.png")
    assert sorted(kinds(pool)) == ["image without video", "unknown video"]
    no_list = find.read(make_coco(tmp_path / "n", images[:1]))
    assert no_list.clips is not None and no_list.clips.names == ("7",) and no_list.problems == ()
    for name, faulty, what in (
        ("b", [framed(1, 7, 3), framed(2, 7, 3)], "another image is frame 3 of video 7 too"),
        ("c", [framed(1, 7, -1)], "video_id is 7, its frame -1"),
        ("d", [{"id": 1, "file_name": "1.png", "video_id": 7}], "video_id is 7, its frame None"),
    ):
        (problem,) = find.read(make_coco(tmp_path / name, faulty)).problems
        assert (problem.kind, problem.what) == ("image without video", what)
    text = find.read(make_coco(tmp_path / "e", [framed(1, "x", 0)]))  # type: ignore[arg-type]
    assert text.clips is not None and text.clips.names == ("x",) and text.problems == ()
    assert kinds(find.read(make_coco(tmp_path / "f", images[:1], videos={"7": "seven"}))) == ["unknown video"]
    bare = find.read(make_coco(tmp_path / "g", [{"id": 1, "file_name": "1.png"}]))
    assert bare.clips is None


# --- the real clips ----------------------------------------------------------------------------------------------


def _compare(path: Path, tries: int) -> None:
    expected, index = plain(path), _decode.index(path)
    assert len(expected) == len(index)
    decoder, rng = _decode.Decoder(index), np.random.default_rng(0)
    for k in (len(index) - 1, 0, *rng.integers(0, len(index), tries).tolist()):
        assert digest(rgb(decoder.read(k))) == expected[k], f"{path.name} frame {k}"


def test_real_clips(shared_data: Path) -> None:
    if not (shared_data / "drone_video_dev").is_dir():
        pytest.skip("drone_video_dev is not there")
    for path in sorted((shared_data / "drone_video_dev" / "videos").glob("*.mp4"))[::30]:
        _compare(path, 2)


@pytest.mark.slow
def test_every_real_clip_and_its_labels(shared_data: Path) -> None:
    root = shared_data / "drone_video_dev"
    if not root.is_dir():
        pytest.skip("drone_video_dev is not there")
    train, test = find.read(root, "train"), find.read(root, "test")
    assert train.problems == test.problems == ()
    assert (len(train), len(test)) == (13079, 5665)
    assert isinstance(train.clips, Clips) and isinstance(test.clips, Clips)
    assert len(train.clips.names) == 42 and len(test.clips.names) == 18
    for path in sorted((root / "videos").glob("*.mp4")):
        _compare(path, 4)
