"""Files come back exactly as they went in, appear whole or not at all, and say so when they are damaged."""

from __future__ import annotations

import dataclasses
import errno
import os
import subprocess
import sys
from dataclasses import fields, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from labelwise import files
from labelwise.data import staging
from labelwise.report import page
from labelwise.tracks import _tables
from labelwise.types import Detections, LabelwiseError, Rects, Targets, Views, disk, offsets_of


def floats(rng: np.random.Generator, *shape: int) -> np.ndarray:
    return rng.standard_normal(shape).astype(np.float32)


def some_detections(seed: int, n_images: int, classes: int = 3, features: int = 4, views: int | None = 2) -> Detections:
    rng = np.random.default_rng(seed)
    counts = rng.integers(0, 4, n_images) * rng.integers(0, 2, n_images)  # many images without detections
    n = int(counts.sum())
    names = tuple(f"view {v}" for v in range(views or 0))
    v = None
    if views is not None:
        v = Views(names, floats(rng, views, n, classes), floats(rng, views, n), floats(rng, views, n))
    feature = floats(rng, n, features)
    feature[rng.random(feature.shape) < 0.2] = np.nan
    feature[rng.random(feature.shape) < 0.1] = -0.0
    offsets = np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)
    return Detections(offsets, floats(rng, n, 4), floats(rng, n, classes), floats(rng, n), feature, v)


def assert_same(a: Any, b: Any) -> None:
    """Equal to the last bit, NaN and -0.0 included."""
    if a is None or isinstance(a, tuple):
        assert a == b
    elif isinstance(a, np.ndarray):
        assert (a.dtype, a.shape) == (b.dtype, b.shape)
        assert a.tobytes() == b.tobytes()
    else:
        for field in fields(a):
            assert_same(getattr(a, field.name), getattr(b, field.name))


def leftovers(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if "labelwise-tmp" in path.name]


# ---- detections ------------------------------------------------------------------------------------------------------


@settings(max_examples=40, deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1),
    sizes=st.lists(st.integers(0, 5), max_size=6),
    shard_images=st.integers(1, 8),
    shape=st.tuples(st.integers(0, 3), st.integers(0, 3), st.sampled_from([None, 0, 1, 3])),
)
def test_detections_come_back_exactly(
    tmp_path_factory: pytest.TempPathFactory,
    seed: int,
    sizes: list[int],
    shard_images: int,
    shape: tuple[int, int, int | None],
) -> None:
    folder = tmp_path_factory.mktemp("detections") / "predictions"
    whole = some_detections(seed, sum(sizes), *shape)
    with files.DetectionWriter(folder, whole.n_images, shard_images) as writer:
        first = 0
        for size in [0, *sizes]:
            offsets = whole.offsets[first : first + size + 1]
            rows = slice(offsets[0], offsets[-1])
            v = whole.views
            views = None if v is None else Views(v.names, v.probs[:, rows], v.scores[:, rows], v.iou[:, rows])
            part = (whole.boxes[rows], whole.probs[rows], whole.scores[rows], whole.features[rows], views)
            writer.append(first, Detections(offsets - offsets[0], *part))
            first += size
    assert_same(files.read_detections(folder), whole)
    assert len(list(folder.iterdir())) == max(1, -(-whole.n_images // shard_images))
    assert leftovers(folder.parent) == []


def test_columns_can_be_left_out(tmp_path: Path) -> None:
    whole = some_detections(1, 30)
    files.write_detections(tmp_path / "d", whole, shard_images=7)
    bare = files.read_detections(tmp_path / "d", columns=())
    assert (bare.features.shape, bare.views) == ((len(whole), 0), None)
    assert_same((bare.boxes.tobytes(), bare.probs.tobytes()), (whole.boxes.tobytes(), whole.probs.tobytes()))
    iou = files.read_detections(tmp_path / "d", columns=("view_iou",))
    assert iou.views is not None and whole.views is not None
    assert iou.views.probs.shape == (2, len(whole), 0)
    assert_same(iou.views.iou, whole.views.iou)
    with pytest.raises(LabelwiseError, match="no column 'feature'; expected some of features, tightness, view_probs"):
        files.read_detections(tmp_path / "d", columns=("feature",))


@pytest.mark.parametrize("views", [None, 0, 2])
def test_quality_tightness_and_the_boxes_of_views_come_back_exactly(tmp_path: Path, views: int | None) -> None:
    whole, rng = some_detections(3, 20, views=views), np.random.default_rng(4)
    seen, n = whole.views, len(whole)
    if seen is not None:
        seen = replace(seen, boxes=floats(rng, len(seen.names), n, 4))
    whole = replace(whole, views=seen, tightness=floats(rng, n), quality=floats(rng, n))
    files.write_detections(tmp_path / "d", whole, shard_images=7)
    assert_same(files.read_detections(tmp_path / "d"), whole)
    some = files.read_detections(tmp_path / "d", columns=("view_iou", "quality"))
    assert some.tightness is None and (some.views is None or some.views.boxes is None)
    assert_same(some.quality, whole.quality)
    parts = [part for _, part in files.stream_detections(tmp_path / "d", columns=("view_boxes",))]
    if seen is not None:
        joined = np.concatenate([p.views.boxes for p in parts if p.views is not None], axis=1)
        assert_same(joined, seen.boxes)
    assert all(part.quality is None for part in parts)


def test_files_of_who_does_not_ask_are_as_they_were_and_are_read(tmp_path: Path) -> None:
    """Their metadata and columns are those of before there was a quality or a box of a view."""
    whole = replace(some_detections(5, 6), tightness=np.ones(len(some_detections(5, 6)), np.float32))
    files.write_detections(tmp_path / "d", whole)
    schema = pq.read_schema(tmp_path / "d" / "part-00000.parquet")
    assert schema.names == ["image", "x1", "y1", "x2", "y2", "score", "tightness", "probs", "features", "view_probs",
                            "view_scores", "view_iou"]  # fmt: skip
    assert schema.metadata[b"labelwise.detections"] == (
        b'{"n_images": 6, "first": 0, "stop": 6, "classes": 3, "features": 4, "views": ["view 0", "view 1"], '
        b'"view_classes": 3, "tightness": true, "per_image": null}'
    )
    back = files.read_detections(tmp_path / "d", columns=("view_iou", "view_boxes", "quality"))
    assert back.quality is None and back.views is not None and back.views.boxes is None


def test_shards_are_ordinary_parquet(tmp_path: Path) -> None:
    whole = some_detections(2, 10)
    files.write_detections(tmp_path / "d", whole, shard_images=4)
    with pq.ParquetFile(tmp_path / "d" / "part-00001.parquet") as file:
        table, group = file.read(), file.metadata.row_group(0)
    rows = slice(whole.offsets[4], whole.offsets[8])
    assert table["image"].to_pylist() == whole.image[rows].tolist()
    assert table["probs"].to_pylist() == whole.probs[rows].tolist()
    column = group.column(file.schema.names.index("score"))
    assert column.compression == "ZSTD" and "BYTE_STREAM_SPLIT" in column.encodings


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-20])


def flip_a_bit(path: Path) -> None:
    column = pq.read_metadata(path).row_group(0).column(5)
    content = bytearray(path.read_bytes())
    content[column.data_page_offset + column.total_compressed_size - 1] ^= 4
    path.write_bytes(content)


def swap(path: Path) -> None:
    path.write_bytes((path.parent / "part-00002.parquet").read_bytes())


@pytest.mark.parametrize(
    ("harm", "message"),
    [
        (Path.unlink, "part-00001.parquet is missing: images from number 10 on"),
        (cut, "part-00001.parquet is damaged or cut short"),
        (flip_a_bit, "part-00001.parquet is damaged or cut short"),
        (swap, "part-00001.parquet does not belong to the shards before it: expected images from number 10"),
        (lambda path: path.write_bytes(b""), "part-00001.parquet is damaged or cut short"),
        (lambda path: (path.parent / "part-00003.parquet").write_bytes(b""), "part-00003.parquet does not belong"),
    ],
)
def test_a_harmed_folder_names_the_shard(tmp_path: Path, harm: Any, message: str) -> None:
    files.write_detections(tmp_path / "d", some_detections(3, 30), shard_images=10)
    harm(tmp_path / "d" / "part-00001.parquet")
    with pytest.raises(LabelwiseError, match=message):
        files.read_detections(tmp_path / "d")


def test_shards_of_two_runs_do_not_mix(tmp_path: Path) -> None:
    files.write_detections(tmp_path / "d", some_detections(3, 30), shard_images=10)
    files.write_detections(tmp_path / "e", some_detections(3, 30, features=7), shard_images=10)
    (tmp_path / "e" / "part-00001.parquet").replace(tmp_path / "d" / "part-00001.parquet")
    with pytest.raises(LabelwiseError, match=r"part-00001\.parquet does not belong .*'features': 4.*'features': 7"):
        files.read_detections(tmp_path / "d")
    with pytest.raises(LabelwiseError, match=r"part-00000\.parquet is missing"):
        files.read_detections(tmp_path / "nowhere")


def test_writer_refuses_gaps_and_mixtures_and_keeps_the_old(tmp_path: Path) -> None:
    old, new = some_detections(4, 6), some_detections(5, 6, classes=2)
    files.write_detections(tmp_path / "d", old)
    for appended, message in (
        ([(0, old), (6, old)], "6 images from number 6 on; expected image 6 as the next of 8"),
        ([(1, old)], "from number 1 on; expected image 0"),
        ([(0, old)], "2 of 8 images have not been appended"),
        ([(0, old), (6, new)], r"a batch with .*'classes': 2.* after one with .*'classes': 3"),
    ):
        with pytest.raises(LabelwiseError, match=message), files.DetectionWriter(tmp_path / "d", 8, 3) as writer:
            for first, batch in appended:
                writer.append(first, batch)
        assert_same(files.read_detections(tmp_path / "d"), old)
    assert leftovers(tmp_path) == []
    files.write_detections(tmp_path / "d", new)
    assert_same(files.read_detections(tmp_path / "d"), new)
    with pytest.raises(LabelwiseError, match="shard_images is 0"):
        files.DetectionWriter(tmp_path / "d", 8, 0)


# ---- disk full -------------------------------------------------------------------------------------------------------


def write_everything(folder: Path, value: int) -> dict[str, Any]:
    return {
        "json": lambda: files.write_json(folder / "json", {"value": value}),
        "text": lambda: files.write_text(folder / "text", f"{value}"),
        "tensors": lambda: files.write_tensors(folder / "tensors", {"a": np.array(value)}),
        "table": lambda: files.write_table(folder / "table", {"a": np.array([value])}),
        "detections": lambda: files.write_detections(folder / "detections", some_detections(value, 5)),
    }


@pytest.mark.parametrize("kind", ["json", "text", "tensors", "table", "detections"])
@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EACCES])
def test_a_failed_write_changes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str, code: int) -> None:
    write_everything(tmp_path, 1)[kind]()
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}

    def fail(handle: int) -> None:
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(os, "fsync", fail)
    message = (
        "disk full while writing .*: nothing was changed; free space" if code == errno.ENOSPC else "Permission denied"
    )
    with pytest.raises(LabelwiseError, match=message):
        write_everything(tmp_path, 2)[kind]()
    assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == before


def test_a_device_that_is_really_full(tmp_path: Path) -> None:
    full = Path("/dev/full")
    if not full.exists():
        pytest.skip("no /dev/full on this system")
    with pytest.raises(LabelwiseError, match="disk full while writing"), disk.replacing(tmp_path / "x") as partial:
        partial.symlink_to(full)
        partial.write_bytes(b"x" * 100_000)
    assert list(tmp_path.iterdir()) == []


# ---- other systems ---------------------------------------------------------------------------------------------------


@pytest.fixture
def windows(monkeypatch: pytest.MonkeyPatch) -> None:
    """What Windows refuses: to open a folder, to force what is open for reading only; it knows no EDQUOT."""
    opened: dict[int, int] = {}

    def open_(path: Path, flags: int, *rest: Any) -> int:
        if Path(path).is_dir():
            raise PermissionError(errno.EACCES, "Permission denied", str(path))
        handle = os.open(path, flags, *rest)
        opened[handle] = flags
        return handle

    def fsync(handle: int) -> None:
        if opened.get(handle, os.O_RDWR) & os.O_ACCMODE == os.O_RDONLY:
            raise OSError(errno.EBADF, "Bad file descriptor")
        os.fsync(handle)

    there = SimpleNamespace(**vars(os) | {"open": open_, "fsync": fsync})
    monkeypatch.setattr(disk, "os", there)
    monkeypatch.setattr(disk, "_POSIX", False)


@pytest.mark.usefixtures("windows")
@pytest.mark.parametrize("kind", ["json", "text", "tensors", "table", "detections"])
def test_files_are_written_where_a_folder_cannot_be_forced(tmp_path: Path, kind: str) -> None:
    for value in (1, 2):
        write_everything(tmp_path, value)[kind]()
    assert [path.name for path in tmp_path.iterdir()] == [kind]


@pytest.mark.usefixtures("windows")
def test_without_the_guard_that_system_refuses(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(disk, "_POSIX", True)
    with pytest.raises(LabelwiseError, match="Bad file descriptor"):
        files.write_text(tmp_path / "text", "1")
    with pytest.raises(PermissionError):
        disk.sync(tmp_path)


def test_a_system_without_quotas_knows_a_full_disk() -> None:
    code = (
        "import errno; del errno.EDQUOT\n"
        "from labelwise.types.disk import readable_errors\n"
        "with readable_errors('file'):\n"
        "    raise OSError(errno.ENOSPC, 'No space left on device')\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert "LabelwiseError: disk full while writing file" in done.stderr, done.stderr


# ---- small files -----------------------------------------------------------------------------------------------------


def test_json(tmp_path: Path) -> None:
    value = {"ap": np.float32(0.5), "classes": np.arange(2), "name": "Größe", "none": None}
    files.write_json(tmp_path / "new" / "m.json", value)
    assert files.read_json(tmp_path / "new" / "m.json") == {"ap": 0.5, "classes": [0, 1], "name": "Größe", "none": None}
    with pytest.raises(LabelwiseError, match=r"cannot store .*nan.* Use None"):
        files.write_json(tmp_path / "m.json", {"ap": float("nan")})
    with pytest.raises(LabelwiseError, match=r"m\.json is missing"):
        files.read_json(tmp_path / "m.json")
    (tmp_path / "m.json").write_text('{"a": 1')
    with pytest.raises(LabelwiseError, match=r"m\.json cannot be read"):
        files.read_json(tmp_path / "m.json")


def test_tensors(tmp_path: Path) -> None:
    tensors = {
        "scalar": np.array(7, np.int64),
        "turned": np.arange(6, dtype=np.float32).reshape(2, 3).T,
        "empty": np.zeros((0, 4), np.float32),
        "flags": np.array([True, False]),
    }
    files.write_tensors(tmp_path / "t", tensors, {"round": "3"})
    found, metadata = files.read_tensors(tmp_path / "t")
    assert metadata == {"round": "3"} and found.keys() == tensors.keys()
    for name, array in tensors.items():
        assert_same(found[name], np.array(array, order="C"))
    cut(tmp_path / "t")
    with pytest.raises(LabelwiseError, match="is damaged or cut short"):
        files.read_tensors(tmp_path / "t")
    with pytest.raises(LabelwiseError, match="is missing"):
        files.read_tensors(tmp_path / "u")


def test_table(tmp_path: Path) -> None:
    columns = {"row": np.arange(3), "score": np.array([0.1, np.nan, -np.inf]), "name": np.array(["a", "b", "ü"])}
    files.write_table(tmp_path / "s.parquet", columns)
    found = files.read_table(tmp_path / "s.parquet")
    assert_same(found["row"], columns["row"])
    assert_same(found["score"], columns["score"])
    assert found["name"].tolist() == ["a", "b", "ü"]
    with pytest.raises(LabelwiseError, match=r"different lengths \{'a': 1, 'b': 2\}"):
        files.write_table(tmp_path / "x", {"a": np.zeros(1), "b": np.zeros(2)})
    cut(tmp_path / "s.parquet")
    with pytest.raises(LabelwiseError, match="is damaged or cut short"):
        files.read_table(tmp_path / "s.parquet")
    with pytest.raises(LabelwiseError, match="is missing"):
        files.read_table(tmp_path / "x")


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), m=st.integers(0, 6))
def test_targets_come_back_exactly(tmp_path_factory: pytest.TempPathFactory, seed: int, m: int) -> None:
    path = tmp_path_factory.mktemp("targets") / "targets"
    rng = np.random.default_rng(seed)
    n = int(rng.integers(0, 20)) if m else 0

    def rects() -> Rects:
        k = int(rng.integers(0, 5)) if m else 0
        return Rects.from_rows(rng.integers(0, max(m, 1), k), floats(rng, k, 4), m)

    targets = Targets(
        images=rng.permutation(m).astype(np.int64),
        offsets=offsets_of(np.sort(rng.integers(0, max(m, 1), n)), m),
        boxes=floats(rng, n, 4),
        labels=rng.integers(0, 5, n),
        w_cls=floats(rng, n),
        w_box=floats(rng, n),
        origin=rng.integers(0, 2, n).astype(np.int8),
        negatives=rects(),
        ignore=rects(),
        windows=floats(rng, m, 4),
        whole=rng.random(m) < 0.5,
    )
    if rng.random() < 0.5:
        doubt = rects()
        targets = dataclasses.replace(targets, doubt=doubt, doubt_scores=floats(rng, len(doubt.xyxy)))
    files.write_targets(path, targets)
    assert_same(files.read_targets(path), targets)
    tensors, metadata = files.read_tensors(path)
    tensors.pop("whole", None)  # it is written where some are
    files.write_tensors(path, tensors, metadata)  # as older versions wrote it: nothing is said to be wholly looked over
    assert_same(files.read_targets(path), replace(targets, whole=np.zeros(m, np.bool_)))


def test_other_tensors_are_no_targets(tmp_path: Path) -> None:
    files.write_tensors(tmp_path / "t", {"images": np.zeros(1)})
    with pytest.raises(LabelwiseError, match="holds no training targets"):
        files.read_targets(tmp_path / "t")


def forced(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names of what is forced to the disk from now on."""
    names: list[str] = []
    real = disk.sync
    monkeypatch.setattr(disk, "sync", lambda path: (names.append(path.name), real(path)))
    return names


def test_every_atomic_write_forces_the_file_and_its_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    names = forced(monkeypatch)
    rows = np.zeros((2, 3), np.float32)
    for write in (
        lambda path: files.write_text(path, "1"),
        lambda path: staging.text(path, "1"),
        lambda path: _tables.write(path, iter(rows), 2),
        lambda path: page.write(path, [], title="t"),
    ):
        names.clear()
        write(tmp_path / "made")
        partial, folder = names
        assert partial.startswith(".made.") and partial.endswith(disk.SUFFIX) and folder == tmp_path.name
        assert [path.name for path in tmp_path.iterdir()] == ["made"]


def test_a_new_folder_is_whole_and_forced_or_not_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    names = forced(monkeypatch)
    with disk.new_folder(tmp_path / "data") as partial:
        (partial / "train").mkdir()
        (partial / "train" / "a.txt").write_text("a", encoding="utf-8")
    assert sorted(names) == sorted(["train", "a.txt", partial.name, tmp_path.name])
    with pytest.raises(LabelwiseError, match="exists already"), disk.new_folder(tmp_path / "data"):
        pass
    with pytest.raises(KeyboardInterrupt), disk.new_folder(tmp_path / "other"):
        raise KeyboardInterrupt
    assert [path.name for path in tmp_path.iterdir()] == ["data"]


def test_leftovers_of_one_name_or_of_an_age_are_removed_alone(tmp_path: Path) -> None:
    for name in ("a[1]", "a[1]b", "c"):
        disk.temporary(tmp_path / name).write_bytes(b"half")
    disk.remove_leftovers(tmp_path, name="a[1]")
    assert {path.name.split(".")[1] for path in tmp_path.iterdir()} == {"a[1]b", "c"}
    old = next(tmp_path.glob(".c.*"))
    os.utime(old, (0, 0))
    disk.remove_leftovers(tmp_path, idle_s=3600)
    assert {path.name.split(".")[1] for path in tmp_path.iterdir()} == {"a[1]b"}
