"""Readers and writers: round trips, layouts in the wild, the real data sets, finding the format."""

from __future__ import annotations

import json
import re
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from labelwise import catalog
from labelwise.data import coco, find, folder, image_reader, voc, yolo
from labelwise.types import Boxes, LabelwiseError, Pool, Rects

SHARED = Path(__file__).parents[2] / "shared" / "data"
WRITERS: dict[str, Any] = {name: one for name, one in find.formats().items() if hasattr(one, "write")}
"""A format is picked up by its being there."""


def make_pool(root: Path, boxes: list[list[tuple[float, float, float, float, int]]], crowd: bool = False) -> Pool:
    """A pool of 64x48 images in two folders, so that file names collide."""
    names = tuple(f"{'ab'[i % 2]}/{i // 2}.png" for i in range(len(boxes)))
    for i, name in enumerate(names):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (64, 48), (i, 0, 0)).save(root / name)
    rows = [(i, box[:4], box[4]) for i, image in enumerate(boxes) for box in image]
    image, xyxy, labels = (np.array([row[k] for row in rows]) for k in range(3))
    n = len(boxes)
    truth = Boxes.from_rows(image.astype(np.int64), xyxy, labels, n) if rows else Boxes.empty(n)
    ignored = Rects.from_rows(np.array([0]), np.array([[1, 2, 30, 40]]), n) if crowd else None
    size = np.full(n, 64, np.int64), np.full(n, 48, np.int64)
    return Pool(root, ("zebra", "ant bear", "käfer"), names, *size, truth=truth, crowd=ignored)


coordinate = st.floats(0, 1, width=32)
box = st.tuples(coordinate, coordinate, coordinate, coordinate, st.integers(0, 2)).map(
    # at least 2 px wide, inside 64 x 48
    lambda v: (
        v[0] * 60,
        v[1] * 44,
        v[0] * 60 + 2 + v[2] * (62 - v[0] * 60),
        v[1] * 44 + 2 + v[3] * (46 - v[1] * 44),
        v[4],
    )
)


def holds_crowds(name: str) -> bool:
    """Whether a format can write crowd regions; one that can't refuses them and leaves nothing."""
    with TemporaryDirectory() as temporary:
        root = Path(temporary) / "written"
        try:
            WRITERS[name].write(make_pool(Path(temporary) / "source", [[]], crowd=True), root, "train")
        except LabelwiseError as error:
            assert "crowd" in str(error) and not [p for p in root.rglob("*") if p.is_file()]
            return False
        return True


@pytest.mark.parametrize("name", find.formats())
def test_a_format_says_what_it_looks_for_and_takes_nothing_for_its_own(tmp_path: Path, name: str) -> None:
    one, other = find.formats()[name], tmp_path / "readme.txt"
    assert catalog.summary("data", name) and isinstance(one.LOOKS_FOR, str) and len(one.LOOKS_FOR) > 10
    other.write_text("no data set")
    for place in (tmp_path, other):
        assert not one.detect(place)
        with pytest.raises(LabelwiseError, match=re.escape(str(place))):
            one.read(place, None)
    with pytest.raises(LabelwiseError):
        one.read(tmp_path, "no such split")


@pytest.mark.parametrize("name", WRITERS)
@settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(boxes=st.lists(st.lists(box, max_size=4, unique=True), min_size=1, max_size=4))
def test_what_is_written_is_read_back(name: str, boxes: list[list[tuple[float, float, float, float, int]]]) -> None:
    with TemporaryDirectory() as temporary:
        crowd = holds_crowds(name)
        pool = make_pool(Path(temporary) / "source", boxes, crowd)
        root = Path(temporary) / "written"
        WRITERS[name].write(pool, root, "train")
        back = find.read(root, "train")
        assert back.problems == () and back.classes == pool.classes and len(back) == len(pool)
        assert back.truth is not None and pool.truth is not None
        order = [int(image_reader.pixels_of(back, i)[0, 0, 0]) for i in range(len(back))]  # the colour tells which
        assert sorted(order) == list(range(len(pool)))
        for i, source in enumerate(order):
            ours, theirs = slice(*pool.truth.offsets[source : source + 2]), slice(*back.truth.offsets[i : i + 2])
            assert np.array_equal(pool.truth.labels[ours], back.truth.labels[theirs])
            np.testing.assert_allclose(back.truth.xyxy[theirs], pool.truth.xyxy[ours], atol=1e-5, rtol=0)
            if crowd:
                assert back.crowd is not None and pool.crowd is not None
                assert np.array_equal(back.crowd.of(i), pool.crowd.of(source))
        assert not [p for p in root.rglob("*") if p.name.endswith("tmp")], "nothing temporary is left"


@pytest.mark.parametrize("name", WRITERS)
def test_writing_again_or_other_classes_is_refused_and_leaves_the_first(tmp_path: Path, name: str) -> None:
    pool = make_pool(tmp_path / "source", [[(1, 2, 30, 40, 0)], []])
    WRITERS[name].write(pool, tmp_path / "out", "train")
    before = {p: p.read_bytes() for p in (tmp_path / "out").rglob("*") if p.is_file()}
    with pytest.raises(LabelwiseError, match="exists already"):
        WRITERS[name].write(pool, tmp_path / "out", "train")
    assert {p: p.read_bytes() for p in (tmp_path / "out").rglob("*") if p.is_file()} == before
    WRITERS[name].write(pool, tmp_path / "out", "test", copy_images=False)
    assert find.splits(tmp_path / "out") in {("train", "test"), ("test", "train")}
    linked = find.read(tmp_path / "out", "test")
    assert len(linked) == 2 and linked.problems == ()
    other = Pool(pool.root, ("x", "y", "z"), pool.names, pool.width_px, pool.height_px, truth=pool.truth)
    try:
        WRITERS[name].write(other, tmp_path / "out", "val")
    except LabelwiseError as error:
        assert "other classes" in str(error)
    else:  # the classes of all splits are one list, by name
        joined = tuple(dict.fromkeys((*pool.classes, *other.classes)))
        assert {find.read(tmp_path / "out", split).classes for split in ("train", "val")} == {joined}
        return
    assert find.read(tmp_path / "out", "train").classes == pool.classes


@pytest.mark.parametrize("name", WRITERS)
def test_a_failed_write_leaves_nothing(tmp_path: Path, name: str) -> None:
    pool = make_pool(tmp_path / "source", [[(1, 2, 30, 40, 0)], []])
    pool.path(1).unlink()
    with pytest.raises(LabelwiseError, match="no such image file"):
        WRITERS[name].write(pool, tmp_path / "out", "train")
    assert not [p for p in (tmp_path / "out").rglob("*") if p.is_file()]


def test_coco_ids_need_not_be_contiguous_and_layouts_vary(tmp_path: Path) -> None:
    content = {
        "images": [{"id": 70, "file_name": "x.png", "width": 64, "height": 48}],
        "categories": [{"id": 90, "name": "late"}, {"id": 3, "name": "early"}],
        "annotations": [
            {"id": 1, "image_id": 70, "category_id": 90, "bbox": [1, 2, 3, 4], "segmentation": {"counts": "x"}},
            {"id": 2, "image_id": 70, "category_id": 3, "bbox": [0, 0, 64, 48], "iscrowd": 1},
        ],
    }
    layouts = {
        "one": ("annotations/instances_train2017.json", "images/train2017/x.png", "train2017"),
        "two": ("valid/_annotations.coco.json", "valid/x.png", "val"),
        "three": ("train.json", "images/x.png", "train"),
        "four": ("train.json", "x.png", None),
    }
    for base, (file, picture, split) in layouts.items():
        for path in (tmp_path / base / file, tmp_path / base / picture):
            path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (64, 48)).save(tmp_path / base / picture)
        (tmp_path / base / file).write_text(json.dumps(content))
        for root in (tmp_path / base, tmp_path / base / file) if base == "four" else (tmp_path / base,):
            pool = find.read(root, split)
            assert pool.classes == ("early", "late") and pool.problems == ()
            assert pool.truth is not None and pool.truth.labels.tolist() == [1]
            assert pool.truth.xyxy.tolist() == [[1, 2, 4, 6]]
            assert pool.crowd is not None and pool.crowd.xyxy.tolist() == [[0, 0, 64, 48]]
            assert pool.path(0) == tmp_path / base / picture


def test_voc_pixels_count_from_one_unless_told(tmp_path: Path) -> None:
    for base in ("VOC2007", "VOC2012"):
        for name in ("Annotations", "JPEGImages", "ImageSets/Main"):
            (tmp_path / base / name).mkdir(parents=True)
        Image.new("RGB", (64, 48)).save(tmp_path / base / "JPEGImages" / "a.jpg")
        bounds = "<bndbox><xmin>1</xmin><ymin>1</ymin><xmax>64</xmax><ymax>48</ymax></bndbox>"
        xml = f"<annotation><object><name>cat</name>{bounds}</object></annotation>"
        (tmp_path / base / "Annotations" / "a.xml").write_text(xml)
        (tmp_path / base / "ImageSets" / "Main" / "trainval.txt").write_text("a\n")
        (tmp_path / base / "ImageSets" / "Main" / "cat_trainval.txt").write_text("a 1\n")
    assert find.splits(tmp_path) == ("trainval",), "a list of one class is no split"
    both = find.read(tmp_path, "trainval")
    assert both.names == ("VOC2007/JPEGImages/a.jpg", "VOC2012/JPEGImages/a.jpg")
    assert both.truth is not None and both.truth.xyxy.tolist() == [[0, 0, 64, 48]] * 2
    zero = voc.read(tmp_path / "VOC2007", "trainval", first_pixel=0)
    assert zero.truth is not None and zero.truth.xyxy.tolist() == [[1, 1, 64, 48]]


def test_bare_folder_and_joined_splits(tmp_path: Path) -> None:
    pool = make_pool(tmp_path / "source", [[(1, 2, 30, 40, 0)], [(5, 5, 20, 20, 2)], []])
    bare = find.read(tmp_path / "source", format_name="folder")
    assert bare.names == ("a/0.png", "a/1.png", "b/0.png") and bare.truth is None and bare.classes == ()
    assert folder.splits(tmp_path / "source") == ()
    coco.write(pool, tmp_path / "out", "train", copy_images=False)
    coco.write(pool, tmp_path / "out", "test", copy_images=False)
    joined = find.read(tmp_path / "out", "train+test")
    assert len(joined) == 6 and joined.truth is not None and joined.truth.labels.tolist() == [0, 2, 0, 2]
    assert joined.truth.image.tolist() == [0, 1, 3, 4]
    with pytest.raises(LabelwiseError, match="not unique"):
        find.read(tmp_path / "out", "train+train")


def test_unknown_format_and_split_say_what_there_is(tmp_path: Path) -> None:
    with pytest.raises(
        LabelwiseError, match=r"coco: annotations/instances(.|\n)*folder: image(.|\n)*voc: Anno(.|\n)*yolo"
    ):
        find.read(tmp_path)
    with pytest.raises(LabelwiseError, match="Did you mean coco"):
        find.read(tmp_path, format_name="cocoo")
    with pytest.raises(LabelwiseError, match="no such file or folder"):
        find.read(tmp_path / "absent")
    pool = make_pool(tmp_path / "source", [[]])
    yolo.write(pool, tmp_path / "out", "train")
    yolo.write(pool, tmp_path / "out", "val")
    with pytest.raises(LabelwiseError, match="holds the splits train, val"):
        find.read(tmp_path / "out")
    with pytest.raises(LabelwiseError, match="no split 'test'; expected one of train, val"):
        find.read(tmp_path / "out", "test")
    coco.write(pool, tmp_path / "out", "more")
    with pytest.raises(LabelwiseError, match="coco or yolo"):
        find.read(tmp_path / "out", "train")


@pytest.mark.skipif(not (SHARED / "aquarium").is_dir(), reason="shared/data/aquarium is not here")
def test_aquarium() -> None:
    counts = np.zeros(7, int)
    sizes, kinds = [], []
    for split in ("train", "valid", "test"):
        pool = find.read(SHARED / "aquarium", split)
        assert pool.truth is not None
        counts += np.bincount(pool.truth.labels, minlength=7)
        sizes.append(len(pool))
        kinds += [problem.kind for problem in pool.problems]
    assert pool.classes == ("fish", "jellyfish", "penguin", "puffin", "shark", "starfish", "stingray")
    # as its README counts, but for two sharks of zero size
    assert counts.tolist() == [2669, 694, 516, 284, 352, 116, 184] and sizes == [448, 127, 63]
    assert sorted(kinds) == ["path of another place"] * 3 + ["zero-size box"] * 2
    assert len(find.read(SHARED / "aquarium", "valid+test")) == 190


@pytest.mark.skipif(not (SHARED / "bccd").is_dir(), reason="shared/data/bccd is not here")
def test_bccd() -> None:
    pools = {split: find.read(SHARED / "bccd" / "BCCD", split) for split in ("trainval", "test")}
    assert {split: len(pool) for split, pool in pools.items()} == {"trainval": 292, "test": 72}
    assert all(pool.classes == ("Platelets", "RBC", "WBC") for pool in pools.values())
    counts = sum(np.bincount(pool.truth.labels, minlength=3) for pool in pools.values() if pool.truth is not None)
    assert counts.tolist() == [361, 4153, 372]  # as its README counts, but for two red cells of zero size
    assert [p.kind for pool in pools.values() for p in pool.problems] == ["zero-size box"] * 2
