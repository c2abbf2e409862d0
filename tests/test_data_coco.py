"""COCO as people have it: ids, boxes, categories and files of every kind; what is written is read again."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from labelwise.data import _coco_region, coco, find
from labelwise.types import LabelwiseError, Pool

CATEGORIES: list[Any] = [{"id": 1, "name": "cat"}, {"id": 2, "name": "dog"}]


def picture(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (64, 48)).save(path)


def image(key: Any, name: Any, **more: Any) -> dict[str, Any]:
    return {"id": key, "file_name": name, "width": 64, "height": 48} | more


def row(key: Any = 1, bbox: Any = (10, 5, 20, 30), **more: Any) -> dict[str, Any]:
    return {"id": key, "image_id": 1, "category_id": 1, "bbox": bbox} | more


def make(root: Path, rows: Any, *, file: str = "train.json", **more: Any) -> Path:
    for name in ("a.png", "b.png"):
        picture(root / "train" / name)
    content = {"images": [image(1, "a.png"), image(2, "b.png")], "categories": CATEGORIES, "annotations": rows} | more
    (root / file).parent.mkdir(parents=True, exist_ok=True)
    (root / file).write_text(json.dumps(content), encoding="utf-8")
    return root


def said(pool: Pool) -> list[tuple[str, str, list[float]]]:
    assert pool.truth is not None
    names = [pool.names[i].rpartition("/")[2] for i in pool.truth.image.tolist()]
    classes = [pool.classes[k] for k in pool.truth.labels.tolist()]
    return list(zip(names, classes, np.round(pool.truth.xyxy, 2).tolist(), strict=True))


def kinds(pool: Pool) -> list[str]:
    return [problem.kind for problem in pool.problems]


BOX = [10.0, 5.0, 30.0, 35.0]
TEXT = "f2o0N5O4O"


@pytest.mark.parametrize(
    ("changes", "box", "told"),
    [
        ({}, BOX, []),
        ({"bbox": ["10", "5", "20", "30.0"]}, BOX, ["numbers as text"]),
        ({"bbox": [30, 35, -20, -30]}, BOX, ["corners swapped"]),
        ({"bbox": None, "segmentation": [[10, 5, 30, 5, 30, 35]]}, BOX, ["polygon"]),
        ({"bbox": [], "segmentation": [[10, 5], [30, 35]]}, BOX, ["polygon"]),
        ({"bbox": [float("nan")] * 4, "segmentation": [[10, 5, 30, 5, 30, 35]]}, BOX, ["polygon"]),
        ({"bbox": None, "segmentation": {"size": [48, 64], "counts": [10 * 48 + 5, 30, 18, 2, 2537]}},
         [10, 5, 12, 35], ["polygon"]),
        ({"bbox": [20, 20, 20, 10, 90]}, [15, 10, 25, 30], ["rotated box"]),
        ({"bbox": [10, 5, 30, 5, 30, 35, 10, 35]}, BOX, ["rotated box"]),
        ({"bbox": [10, 15, 20, 10], "attributes": {"rotation": 90.0}}, [15, 10, 25, 30], ["rotated box"]),
        ({"bbox": [10, 5, 20, 30], "attributes": {"rotation": 0.0}}, BOX, []),
        ({"image_id": 1.0, "category_id": "1"}, BOX, []),
        ({"bbox": None}, None, ["annotation without box"]),
        ({"bbox": None, "keypoints": [1, 2, 2]}, None, ["annotation without box"]),
        ({"bbox": [1, 2]}, None, ["box without numbers"]),
        ({"bbox": {"x": 1}}, None, ["box without numbers"]),
        ({"bbox": [10, 5, float("nan"), 30]}, None, ["box without numbers"]),
        ({"image_id": 9}, None, ["label without image"]),
        ({"image_id": [1]}, None, ["label without image"]),
        ({"category_id": None}, None, ["unknown class id"]),
    ],
)  # fmt: skip
def test_an_annotation_of_every_kind(tmp_path: Path, changes: dict[str, Any], box: Any, told: list[str]) -> None:
    other = row(8, [1, 2, 3, 4], category_id=2, image_id=2)
    pool = find.read(make(tmp_path, [row() | changes, other]))
    assert said(pool) == [("a.png", "cat", box)] * (box is not None) + [("b.png", "dog", [1, 2, 4, 6])]
    assert kinds(pool) == told and all("train.json" in problem.where for problem in pool.problems)
    assert pool.complete is None, "an image without annotations was looked at"


def test_run_lengths_as_text_are_those_of_pycocotools() -> None:
    mask_tools = pytest.importorskip("pycocotools.mask")
    rng = np.random.default_rng(0)
    for _ in range(20):
        mask = np.asfortranarray((rng.random((13, 17)) < 0.02).astype(np.uint8))
        mask[3:7, 2 : 2 + int(rng.integers(1, 12))] = 1
        packed = mask_tools.encode(mask)
        x, y, w, h = mask_tools.toBbox(packed).tolist()
        text = {"size": packed["size"], "counts": packed["counts"].decode()}
        ys, xs = np.nonzero(mask)
        assert _coco_region.around(text) == (xs.min(), ys.min(), xs.max() + 1, ys.max() + 1)
        assert w > 0 and h > 0 and x >= 0 and y >= 0
    for broken in ({"size": [4, 4], "counts": [99]}, {"size": [4], "counts": []}, {"size": [4, 4], "counts": "\ud800"}):
        assert _coco_region.around(broken) is None


def test_text_ids_and_numbers_of_other_types(tmp_path: Path) -> None:
    images = [image("x1", "a.png"), image("x2", "b.png")]
    rows = [row(image_id="x1", category_id="c"), row("n", image_id="x2", category_id="c")]
    pool = find.read(make(tmp_path, rows, images=images, categories=[{"id": "c", "name": "cat"}]))
    assert [name for name, _, _ in said(pool)] == ["a.png", "b.png"] and pool.problems == ()


def test_two_images_of_one_id_lose_its_boxes_and_are_not_taken_for_empty(tmp_path: Path) -> None:
    images = [image(1, "a.png"), image(1, "b.png")]
    pool = find.read(make(tmp_path, [row()], images=images))
    assert kinds(pool) == ["duplicate id", "label without image"] and said(pool) == []
    assert pool.complete is not None and not pool.complete.any()


def test_categories_are_matched_by_name_over_all_files(tmp_path: Path) -> None:
    make(tmp_path, [row()])
    picture(tmp_path / "val" / "c.png")
    other = [{"id": 5, "name": "bird"}, {"id": 1, "name": "dog"}, {"id": 2, "name": "cat"}]
    make(tmp_path, [row()], file="val.json", categories=other, images=[image(1, "c.png")])
    train, val = find.read(tmp_path, "train"), find.read(tmp_path, "val")
    assert train.classes == val.classes == ("cat", "dog", "bird")
    assert said(val) == [("c.png", "dog", BOX)] and train.sources == {"train.json", "val.json"}
    assert len(find.read(tmp_path, "train+val")) == 3


def test_two_categories_of_one_name_and_one_that_stands_above_others(tmp_path: Path) -> None:
    top = {"id": 0, "name": "animals", "supercategory": "none"}
    same = [{"id": k, "name": "cat", "supercategory": "animals"} for k in (1, 7)]
    pool = find.read(make(tmp_path, [row(), row(2, [0, 0, 5, 5], category_id=7)], categories=[top, *same]))
    assert pool.classes == ("cat",) and len(said(pool)) == 2
    assert [(p.kind, "1 and 7" in p.what) for p in pool.problems] == [
        ("unused super category", False),
        ("two categories of one name", True),
    ]
    used = find.read(make(tmp_path, [row(category_id=0)], categories=[top, *same[:1]]))
    assert used.classes == ("animals", "cat") and used.problems == ()


def test_a_category_id_of_two_names_is_not_guessed(tmp_path: Path) -> None:
    both = [{"id": 1, "name": "cat"}, {"id": 1, "name": "dog"}]
    pool = find.read(make(tmp_path, [row()], categories=both))
    assert kinds(pool) == ["duplicate id", "unknown class id"] and said(pool) == []


def test_files_beside_the_instances_and_several_files_of_a_split(tmp_path: Path) -> None:
    for name in ("instances_train2017", "captions_train2017", "person_keypoints_train2017"):
        make(tmp_path / "a", [row()], file=f"annotations/{name}.json")
    pool = find.read(tmp_path / "a", "train2017")
    assert said(pool) == [("a.png", "cat", BOX)] and kinds(pool) == ["second annotation file"] * 2
    for k, name in enumerate(("train/a.png", "train/b.png"), 1):
        make(tmp_path / "b", [row()], file=f"part_{k}.json", images=[image(1, name)])
    (split,) = find.splits(tmp_path / "b")
    pool = find.read(tmp_path / "b", split)
    assert said(pool) == [("a.png", "cat", BOX), ("b.png", "cat", BOX)] and kinds(pool) == ["several annotation files"]


def test_the_split_is_that_of_the_images_where_no_name_says_it(tmp_path: Path) -> None:
    picture(tmp_path / "val" / "c.png")
    images = [image(1, "train/a.png"), image(2, "val/c.png")]
    make(tmp_path, [row()], file="annotations.json", images=images)
    assert find.splits(tmp_path) == ("train", "val")
    assert [len(find.read(tmp_path, split)) for split in ("train", "val")] == [1, 1]
    assert len(coco.read(tmp_path, "annotations")) == 2, "or all of a file, by its name"


def test_images_that_nobody_looked_at(tmp_path: Path) -> None:
    root = make(tmp_path / "a", None)
    content = json.loads((root / "train.json").read_text())
    del content["annotations"]
    (root / "train.json").write_text(json.dumps(content))
    pool = find.read(root)
    assert pool.truth is None and pool.complete is not None and not pool.complete.any()
    assert [(p.kind, p.count) for p in pool.problems] == [("image without labels", 2)]
    images = [image(1, "a.png", neg_category_ids=[2], not_exhaustive_category_ids=[]), image(2, "b.png")]
    pool = find.read(make(tmp_path / "b", [row()], images=images))
    assert pool.complete is not None and pool.complete.tolist() == [False, True]
    assert kinds(pool) == ["federated labels"]


@pytest.mark.parametrize(
    ("entry", "told"),
    [
        ({"file_name": "elsewhere/deep/train/a.png"}, ["path of another place"]),
        ({"file_name": "train\\a.png"}, ["path with backslashes"]),
        ({"file_name": "gone.png", "coco_url": "http://x.org/train/a.png"}, ["path of another place"]),
        ({"file_name": "a"}, []),
    ],
)
def test_images_are_found(tmp_path: Path, entry: dict[str, Any], told: list[str]) -> None:
    pool = find.read(make(tmp_path, [row()], images=[image(1, "") | entry]))
    assert pool.names == ("train/a.png",) and kinds(pool) == told


def test_a_file_without_images_is_an_error_that_names_it(tmp_path: Path) -> None:
    make(tmp_path, [row()], images=None)
    with pytest.raises(LabelwiseError, match=r"train\.json: no list `images`"):
        find.read(tmp_path)


def test_odd_rows_among_many(tmp_path: Path) -> None:
    rows = [row(k, [k % 40, 1, 2 + k % 7, 3], image_id=1 + k % 2) for k in range(3000)]
    rows[1500] = "no object"  # type: ignore[call-overload]
    rows[2200] = row(2200, None)
    pool = coco.read(make(tmp_path, rows))
    assert [p.where for p in pool.problems if p.kind in ("malformed annotation", "annotation without box")] == [
        "train.json: annotations[1500]",
        "train.json: annotation id 2200",
    ]


def test_written_without_images_it_names_them_by_their_path(tmp_path: Path) -> None:
    names = ("ä b#1.png", "100%20.png", "c/d+e.png", "train/f.png")
    for name in names:
        picture(tmp_path / "data" / name)
    n = np.full(len(names), 64, np.int64)
    pool = Pool(tmp_path / "data", ("x",), names, n, n * 48 // 64)
    for how in ({"write_images": False}, {"copy_images": True}, {"copy_images": False}):
        out = tmp_path / "out" / repr(how)
        coco.write(pool, out, "train", **how)
        back = find.read(out, "train")
        assert back.problems == () or kinds(back) == ["image without labels"]
        assert len(back) == 4 and all(back.path(i).is_file() for i in range(4))
    assert not list((tmp_path / "out" / repr({"write_images": False})).rglob("*.png"))


def test_an_export_says_where_its_images_lie(tmp_path: Path) -> None:
    make(tmp_path / "data", [])
    make(tmp_path / "d", [row()], file="p/export/annotations/instances_train.json",
         images=[image(1, "train/a.png")], info={"labelwise_images": "../../../data"})  # fmt: skip
    pool = find.read(tmp_path / "d" / "p" / "export")
    assert pool.names == ("../../../data/train/a.png",) and said(pool) == [("a.png", "cat", BOX)]
