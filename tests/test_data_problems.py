"""A zoo of bad input: each kind of problem is found, named and handled; broken files name file and line."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from labelwise.data import coco, find, voc, yolo
from labelwise.data.check import check, look, summarise
from labelwise.types import LabelwiseError, Pool, Problem

NOISE = np.random.default_rng(0).integers(0, 255, (48, 64, 3), np.uint8)


def picture(path: Path, seed: int = 0) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.roll(NOISE, seed, axis=0)).save(path)


def make_yolo(root: Path, rows: str) -> Path:
    (root / "labels").mkdir(parents=True)
    (root / "data.yaml").write_text("train: images\nnames: [cat, dog]\n")
    picture(root / "images" / "a.png")
    (root / "labels" / "a.txt").write_text(rows)
    return root


def make_coco(root: Path, **changes: object) -> Path:
    root.mkdir(parents=True)
    picture(root / "a.png")
    content: dict[str, object] = {
        "images": [{"id": 1, "file_name": "a.png", "width": 64, "height": 48}],
        "categories": [{"id": 1, "name": "cat"}],
        "annotations": [],
    }
    (root / "train.json").write_text(json.dumps(content | changes))
    return root


def make_voc(root: Path, objects: str = "", size: str = "", name: str = "a") -> Path:
    for folder in ("Annotations", "JPEGImages"):
        (root / folder).mkdir(parents=True, exist_ok=True)
    picture(root / "JPEGImages" / f"{name}.png", seed=len(name))
    (root / "Annotations" / f"{name}.xml").write_text(f"<annotation>\n{size}\n{objects}\n</annotation>")
    return root


def only(pool: Pool) -> Problem:
    assert len(pool.problems) == 1, pool.problems
    return pool.problems[0]


def boxes(pool: Pool) -> list[list[float]]:
    assert pool.truth is not None
    return [[round(v, 3) for v in box] for box in pool.truth.xyxy.tolist()]


def test_boxes_without_area_or_outside(tmp_path: Path) -> None:
    rows = "0 0.5 0.5 0 0\n1 0.5 0.5 0.5 0.5\n0 2 2 0.5 0.5\n\n0 0 0 0.5 0.5\n0 0.2500005 0.5 0.5 1.0\n"
    pool = find.read(make_yolo(tmp_path / "y", rows))
    found = [(p.kind, p.where, p.handling) for p in pool.problems]
    assert found == [
        ("zero-size box", "labels/a.txt:1", "left out"),
        ("out-of-image box", "labels/a.txt:3", "left out"),
        ("out-of-image box", "labels/a.txt:5", "clipped to the image"),
    ], "an overhang by rounding is no problem"
    assert boxes(pool) == [[16, 12, 48, 36], [0, 0, 16, 12], [0, 0, 32, 48]]
    assert "64x48" in pool.problems[1].what


def test_unknown_class_ids(tmp_path: Path) -> None:
    problem = only(find.read(make_yolo(tmp_path / "y", "2 0.5 0.5 0.1 0.1\n")))
    assert (problem.kind, problem.where) == ("unknown class id", "labels/a.txt:1") and "0 to 1" in problem.what
    annotation = {"id": 7, "image_id": 1, "category_id": 5, "bbox": [1, 1, 5, 5]}
    problem = only(find.read(make_coco(tmp_path / "c", annotations=[annotation])))
    assert (problem.kind, problem.where) == ("unknown class id", "train.json: annotation id 7")
    ok = "<bndbox><xmin>1</xmin><ymin>1</ymin><xmax>9</xmax><ymax>9</ymax></bndbox>"
    root = make_voc(tmp_path / "v", f"<object><name>cow</name>{ok}</object>")
    (root / "classes.txt").write_text("cat\ndog\n")
    problem = only(find.read(root))
    assert problem.kind == "unknown class id" and "'cow'" in problem.what


def test_missing_images_and_stray_labels(tmp_path: Path) -> None:
    root = make_yolo(tmp_path / "y", "")
    (root / "labels" / "ghost.txt").write_text("0 0.5 0.5 0.1 0.1\n")
    picture(root / "images" / "new.png")
    pool = find.read(root)
    kinds = {p.kind: (p.where, p.handling) for p in pool.problems}
    assert kinds == {
        "label without image": ("labels/ghost.txt", "left out"),
        "image without labels": ("images/new.png", "nobody has looked at them"),
    }
    assert len(pool) == 2 and pool.complete is not None and pool.complete.tolist() == [True, False]
    images = [{"id": 1, "file_name": "a.png"}, {"id": 2, "file_name": "gone.png"}, {"id": 3, "file_name": "a.png"}]
    annotations = [
        {"id": i, "image_id": image, "category_id": 1, "bbox": [1, 1, 5, 5]} for i, image in enumerate((1, 2, 3, 4))
    ]
    pool = find.read(make_coco(tmp_path / "c", images=images, annotations=annotations))
    assert sorted(p.kind for p in pool.problems) == [
        "box twice",
        "image listed twice",
        "label without image",
        "missing image",
    ]
    assert pool.names == ("a.png",) and len(boxes(pool)) == 1
    root = make_voc(tmp_path / "v", name="b")
    (root / "Annotations" / "ghost.xml").write_text("<annotation/>")
    assert only(find.read(root)).kind == "label without image"
    (root / "ImageSets" / "Main").mkdir(parents=True)
    (root / "ImageSets" / "Main" / "train.txt").write_text("b\nghost\n")
    pool = find.read(root)
    assert only(pool).kind == "missing image" and len(pool) == 1


def test_sizes_in_the_annotation_that_are_wrong(tmp_path: Path) -> None:
    size = "<size><width>{}</width><height>{}</height></size>"
    ok = "<object><name>c</name><bndbox><xmin>1</xmin><ymin>1</ymin><xmax>9</xmax><ymax>9</ymax></bndbox></object>"
    zero = find.read(make_voc(tmp_path / "zero", ok, size.format(0, 0)))
    assert only(zero).kind == "annotation says 0x0" and (zero.width_px[0], zero.height_px[0]) == (64, 48)
    turned = only(find.read(make_voc(tmp_path / "turned", ok, size.format(48, 64))))
    assert turned.kind == "size differs" and "turned by 90 degrees" in turned.what
    assert find.read(make_voc(tmp_path / "right", ok, size.format(64, 48))).problems == ()
    wrong = find.read(make_coco(tmp_path / "c", images=[{"id": 1, "file_name": "a.png", "width": 9, "height": 9}]))
    assert only(wrong).kind == "size differs"


def test_a_polygon_becomes_its_hull(tmp_path: Path) -> None:
    pool = find.read(make_yolo(tmp_path, "0 0.25 0.25 0.75 0.5 0.5 1.0\n"))
    assert only(pool).kind == "polygon" and boxes(pool) == [[16, 12, 48, 48]]


def broken_json(root: Path) -> None:
    (make_coco(root) / "train.json").write_text('{"images": [],\n "categories": [}')


def broken_yaml(root: Path) -> None:
    (make_yolo(root, "") / "data.yaml").write_text("names: [a\ntrain: images\n: : :")


def broken_xml(root: Path) -> None:
    (make_voc(root) / "Annotations" / "a.xml").write_text("<annotation>\n<object>\n</annotation>")


MALFORMED: dict[str, tuple[Callable[[Path], object], str]] = {
    "broken JSON": (broken_json, r"train\.json:2: broken JSON"),
    "broken YAML": (broken_yaml, r"data\.yaml:2: broken YAML"),
    "broken XML": (broken_xml, r"a\.xml:3: broken XML"),
    "json: a list": (lambda r: make_coco(r, annotations={}), r"annotations"),
}


@pytest.mark.parametrize("case", MALFORMED)
def test_malformed_files_are_errors_that_name_the_place(tmp_path: Path, case: str) -> None:
    make, message = MALFORMED[case]
    make(tmp_path / "d")
    with pytest.raises(LabelwiseError, match=message):
        find.read(tmp_path / "d")
    with pytest.raises(LabelwiseError, match=message):  # nothing is left that could be checked
        check(tmp_path / "d", full=False)


def test_check_finds_what_only_the_pixels_tell(tmp_path: Path) -> None:
    root = tmp_path / "d"
    for split, reader in (("train", 3), ("test", 2)):
        for i in range(reader):
            picture(root / split / f"{i}.png", seed=i if split == "train" else i + 10)
    shutil.copy(root / "train" / "0.png", root / "train" / "copy.png")
    shutil.copy(root / "train" / "1.png", root / "test" / "leak.png")
    (root / "test" / "cut.png").write_bytes((root / "train" / "0.png").read_bytes()[:4000])
    Image.new("RGBA", (8, 8)).save(root / "train" / "clear.png")
    (root / "train" / "text.jpg").write_text("no image")
    steps: list[int] = []
    found = {(p.kind, p.where) for p in look(root, progress=steps.append).problems}
    assert found == {
        ("duplicate image", "train/copy.png (train)"),
        ("duplicate image", "test/leak.png (test)"),
        ("unreadable image", "test/cut.png"),
        ("unreadable image", "train/text.jpg"),
        ("RGBA image", "train/clear.png"),
    }
    assert sum(steps) == 9, "every image that has a header"
    assert {p.kind for p in check(root, full=False)} == {"unreadable image", "RGBA image"}
    kinds = summarise(check(root), examples=1)
    assert [(k.number, len(k.examples)) for k in kinds] == [(2, 1), (2, 1), (1, 1)]
    leak = next(p for p in check(root) if p.where.startswith("test/leak"))
    assert "across splits" in leak.what


def test_check_tells_overlapping_splits_but_not_nested_ones(tmp_path: Path) -> None:
    root = tmp_path / "v"
    for name in ("a", "bb", "ccc"):
        make_voc(root, name=name)
    (root / "ImageSets" / "Main").mkdir(parents=True)
    for split, names in {"train": "a\n", "trainval": "a\nbb\n", "test": "bb\nccc\n"}.items():
        (root / "ImageSets" / "Main" / f"{split}.txt").write_text(names)
    found = [(p.kind, p.where, p.what) for p in check(root) if p.kind != "split without a box"]
    assert found == [("image in two splits", "JPEGImages/bb.png", "in the splits trainval and test")]


def test_yolo_refuses_what_it_cannot_hold(tmp_path: Path) -> None:
    crowd = [{"id": 1, "image_id": 1, "category_id": 1, "bbox": [1, 1, 5, 5], "iscrowd": 1}]
    pool = coco.read(make_coco(tmp_path / "c", annotations=crowd))
    with pytest.raises(LabelwiseError, match="1 crowd regions"):
        yolo.write(pool, tmp_path / "out", "train")
    assert not (tmp_path / "out").exists()


def test_voc_file_of_another_split_is_not_overwritten(tmp_path: Path) -> None:
    first, second = (find.read(make_voc(tmp_path / name)) for name in ("one", "two"))
    Image.new("RGB", (64, 48)).save(second.path(0))
    voc.write(first, tmp_path / "out", "train")
    before = (tmp_path / "out" / "JPEGImages" / "a.png").read_bytes()
    with pytest.raises(LabelwiseError, match="another split wrote another file"):
        voc.write(second, tmp_path / "out", "test")
    assert (tmp_path / "out" / "JPEGImages" / "a.png").read_bytes() == before
    assert find.splits(tmp_path / "out") == ("train",) and not (tmp_path / "out" / ".test").exists()
