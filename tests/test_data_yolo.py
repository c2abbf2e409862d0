"""YOLO as people have it: layouts, class names, rows of every task; what is not YOLO; what is written."""

from __future__ import annotations

import posixpath
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from PIL import Image

from labelwise.data import clean, find, listing, yolo
from labelwise.types import Boxes, LabelwiseError, Pool

ROW = "1 0.3 0.4 0.4 0.6\n"
BOX = [20, 10, 100, 70]
"""The box of ROW in an image of 200 x 100 pixels."""
NAMES = "names: [cat, dog]\n"
WHOLE = "train: images/train\nval: images/val\n" + NAMES
SPLIT = {"train": 1, "val": 1}


def make(root: Path, files: dict[str, str]) -> Path:
    """Writes files; those with the name of an image become one of 200 x 100 pixels."""
    for i, (name, text) in enumerate(files.items()):
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if listing.suffix_of(name) in (".jpg", ".png"):
            Image.new("RGB", (200, 100), (i, 0, 0)).save(path)
        else:
            path.write_bytes(text.encode())
    return root


def read(root: Path) -> dict[str | None, Pool]:
    assert find.name(root) == "yolo"
    return {split: find.read(root, split) for split in find.splits(root) or (None,)}


def boxes(pool: Pool) -> list[list[float]]:
    assert pool.truth is not None
    return [[round(v, 2) for v in box] for box in pool.truth.xyxy.tolist()]


def kinds(*pools: Pool) -> dict[str, int]:
    """Problems, each once, their counts added up."""
    found: Counter[str] = Counter()
    for problem in dict.fromkeys(problem for pool in pools for problem in pool.problems):
        found[problem.kind] += problem.count
    return dict(found)


def one(root: Path, rows: str, head: str = "", n: int = 1) -> Pool:
    """A data set of images with the same rows."""
    files = {f"images/{i}.jpg": "" for i in range(n)} | {f"labels/{i}.txt": rows for i in range(n)}
    return read(make(root, files | {"data.yaml": head + "train: images\n" + NAMES}))["train"]


PAIR = {"images/train/a.jpg": "", "labels/train/a.txt": ROW, "images/val/b.jpg": "", "labels/val/b.txt": ROW}
FOLDERS = {"train/images/a.jpg": "", "train/labels/a.txt": ROW, "valid/images/b.jpg": "", "valid/labels/b.txt": ROW}
FLAT = {"a.jpg": "", "a.txt": ROW, "b.jpg": "", "b.txt": ROW}
CLASSES = {"classes.txt": "cat\ndog\n"}
ELSEWHERE = "path of another place"
LAYOUTS: dict[str, tuple[dict[str, str], dict[str | None, int], set[str]]] = {
    "yaml": (PAIR | {"data.yaml": WHOLE}, SPLIT, set()),
    "yaml of any name": (PAIR | {"fruit.yml": WHOLE}, SPLIT, set()),
    "path with ./": (
        PAIR | {"data.yaml": "path: ./\ntrain: ./images/train/\nval: ./images/val\n" + NAMES},
        SPLIT,
        set(),
    ),
    "lists of folders": (PAIR | {"data.yaml": "train: [images/train, images/val]\n" + NAMES}, {"train": 2}, set()),
    "a list of images": (
        PAIR | {"data.yaml": "train: [images/train/a.jpg, images/val/b.jpg]\n" + NAMES},
        {"train": 2},
        set(),
    ),
    "a path of another machine": (PAIR | {"data.yaml": "path: /content/ds\n" + WHOLE}, SPLIT, set()),
    "places of another machine": (
        PAIR | {"data.yaml": "train: D:\\ds\\images\\train\nval: /x/ds/images/val\n" + NAMES},
        SPLIT,
        {ELSEWHERE},
    ),
    "as Roboflow writes it": (
        FOLDERS | {"data.yaml": "train: ../train/images\nval: ../valid/images\nnc: 2\n" + NAMES},
        SPLIT,
        set(),
    ),
    "lists": (
        PAIR
        | {"data.yaml": "train: train.txt\nval: lists/val.txt\n" + NAMES}
        | {"train.txt": "./images/train/a.jpg\r\n\r\n", "lists/val.txt": "# all\nimages/val/b.jpg\n"},
        SPLIT,
        set(),
    ),
    "lists of another machine": (
        PAIR
        | {"data.yaml": "train: train.txt\nval: val.txt\n" + NAMES}
        | {"train.txt": "C:\\ds\\images\\train\\a.jpg\n", "val.txt": "/mnt/x/images/val/b.jpg\n"},
        SPLIT,
        {ELSEWHERE},
    ),
    "labels in folders of another order": (
        {"images/train/a.jpg": "", "train/labels/a.txt": ROW, "data.yaml": "train: images/train\n" + NAMES},
        {"train": 1},
        set(),
    ),
    "labels in one folder": (
        {
            "images/train/a.jpg": "",
            "images/val/b.jpg": "",
            "labels/a.txt": ROW,
            "labels/b.txt": ROW,
            "data.yaml": WHOLE,
        },
        SPLIT,
        set(),
    ),
    "images in one folder": (
        {"images/a.jpg": "", "images/b.jpg": "", "labels/x/a.txt": ROW, "labels/y/b.txt": ROW} | CLASSES,
        {None: 2},
        set(),
    ),
    "yaml deeper": (
        PAIR | {"cfg/d.yaml": "path: ..\n" + WHOLE},
        SPLIT,
        {"data set file in a subfolder"},
    ),
    "all deeper": (
        {
            f"ds/{name}": text
            for name, text in (
                FOLDERS | {"data.yaml": "train: ../train/images\nval: ../valid/images\n" + NAMES}
            ).items()
        },
        SPLIT,
        {"data set file in a subfolder"},
    ),
    "beside": (FLAT | CLASSES, {None: 2}, set()),
    "beside, no names": ({"a.jpg": "", "a.txt": "0 .5 .5 .1 .1\n" + ROW}, {None: 1}, {"classes without names"}),
    "images and labels": (
        {
            "images/a.jpg": "",
            "labels/a.txt": ROW,
            "notes.json": '{"categories": [{"id": 1, "name": "dog"}, {"id": 0, "name": "cat"}]}',
        },
        {None: 1},
        set(),
    ),
    "Images and Labels": (
        {"Images/a.jpg": "", "Labels/a.txt": ROW, "Labels/classes.txt": "cat\ndog"},
        {None: 1},
        set(),
    ),
    "folders of splits": (FOLDERS | {"obj.names": "cat\ndog\n\n"}, {"train": 1, "valid": 1}, set()),
    "images of splits": (PAIR | {"my.names": "cat\ndog"}, SPLIT, set()),
    "folders of splits, beside": (
        {
            "Train/a.jpg": "",
            "Train/a.txt": ROW,
            "TEST/b.jpg": "",
            "TEST/b.txt": ROW,
            "Train/_darknet.labels": "cat\ndog",
        },
        {"Train": 1, "TEST": 1},
        set(),
    ),
    "darknet": (
        {
            "data/obj/a.jpg": "",
            "data/obj/a.txt": ROW,
            "data/obj.names": "cat\ndog\n",
            "data/train.txt": "data/obj/a.jpg\n",
        }
        | {"data/obj.data": "classes = 2\ntrain = data/train.txt\nnames = data/obj.names\nbackup = backup/\n"},
        {"train": 1},
        {"data set file in a subfolder"},
    ),
    "CVAT": (
        {
            "obj_train_data/a.jpg": "",
            "obj_train_data/a.txt": ROW,
            "obj.names": "cat\ndog\n",
            "train.txt": "data/obj_train_data/a.jpg\n",
        }
        | {"obj.data": "classes = 2\ntrain = data/train.txt\nnames = data/obj.names\nbackup = backup/\n"},
        {"train": 1},
        {ELSEWHERE},
    ),
    "lists alone": (FLAT | CLASSES | {"train.txt": "a.jpg\n", "valid.txt": "b.jpg\n"}, {"train": 1, "valid": 1}, set()),
    "a split that the file does not name": (
        PAIR | {"data.yaml": "train: images/train\n" + NAMES},
        SPLIT,
        {"split not named"},
    ),
    "a place that is not there": (
        FOLDERS | {"data.yaml": "train: train/images\nval: val/pictures\n" + NAMES},
        SPLIT,
        {"path not found"},
    ),
    "nothing for a split": (
        {"images/a.jpg": "", "labels/a.txt": ROW, "data.yaml": "train: images\ntest: nowhere\n" + NAMES},
        {"train": 1},
        {"path not found"},
    ),
    "val is train": (
        {"images/a.jpg": "", "labels/a.txt": ROW, "data.yaml": "train: images\nval: images\n" + NAMES},
        SPLIT,
        set(),
    ),
}


@pytest.mark.parametrize("name", LAYOUTS)
def test_layouts(tmp_path: Path, name: str) -> None:
    files, splits, told = LAYOUTS[name]
    found = read(make(tmp_path / "d", files))
    assert {split: len(pool) for split, pool in found.items()} == splits
    assert set(kinds(*found.values())) == told
    for pool in found.values():
        last = [pool.classes[label] for label in (pool.truth.labels.tolist() if pool.truth else ())][-len(pool) :]
        assert set(last) == ({"1"} if "classes without names" in told else {"dog"})
        assert boxes(pool)[-len(pool) :] == [BOX] * len(pool) and pool.complete is None
        texts = {
            file for file in files if listing.suffix_of(file) in (".txt", ".yaml", ".yml", ".data", ".names", ".json")
        }
        assert pool.sources >= texts


def test_a_folder_outside_of_the_root_is_read_where_the_file_names_it(tmp_path: Path) -> None:
    make(tmp_path / "pics", {"images/a.jpg": "", "labels/a.txt": ROW})
    make(tmp_path / "d", {"data.yaml": "train: ../pics/images\n" + NAMES})
    make(tmp_path / "e", {"data.yaml": f"path: {tmp_path}/pics\ntrain: images\n" + NAMES})
    for root in (tmp_path / "d", tmp_path / "e", tmp_path / "e" / "data.yaml"):
        pool = read(root)["train"]
        assert pool.names == ("../pics/images/a.jpg",) and boxes(pool) == [BOX] and pool.path(0).is_file()
    (tmp_path / "d" / "data.yaml").write_text("train: /\nval: ..\n" + NAMES)
    with pytest.raises(LabelwiseError, match=r"no image of this data set is there. First problem: data.yaml: train"):
        find.read(tmp_path / "d")


def test_images_without_a_text_file_are_unlabelled_and_told_once(tmp_path: Path) -> None:
    files = {f"images/{i}.jpg": "" for i in range(5)}
    pool = read(
        make(
            tmp_path / "d", files | {"labels/0.txt": ROW, "labels/1.txt": "\n", "data.yaml": "train: images\n" + NAMES}
        )
    )["train"]
    assert pool.complete is not None and pool.complete.tolist() == [True, True, False, False, False]
    assert kinds(pool) == {"image without labels": 3} and pool.problems[0].where == "images/2.jpg"
    bare = read(make(tmp_path / "e", {"images/a.jpg": "", "data.yaml": "train: images\n" + NAMES}))["train"]
    assert bare.classes == ("cat", "dog") and bare.complete is not None and not bare.complete.any()


def test_a_label_file_is_never_taken_for_the_image_of_another_split(tmp_path: Path) -> None:
    files = {"images/train/a.jpg": "", "images/val/a.jpg": "", "labels/train/a.txt": ROW, "data.yaml": WHOLE}
    found = read(make(tmp_path / "d", files))
    assert (boxes(found["train"]), boxes(found["val"])) == ([BOX], [])
    files = {"images/train/a.jpg": "", "images/val/a.jpg": "", "labels/a.txt": ROW, "data.yaml": WHOLE}
    found = read(make(tmp_path / "e", files))
    assert kinds(*found.values()) == {"ambiguous label": 2, "image without labels": 2, "label without image": 1}
    only_train = {"train/images/a.jpg": "", "train/labels/a.txt": ROW}
    places = "train: /x/train/images\nval: /x/valid/images\n"
    found = read(make(tmp_path / "f", only_train | {"data.yaml": places + NAMES}))
    assert list(found) == ["train"] and kinds(found["train"]) == {ELSEWHERE: 1, "path not found": 1}


def test_what_several_files_claim_is_told(tmp_path: Path) -> None:
    files = {"images/a.jpg": "", "images/a.png": "", "labels/a.txt": ROW}
    files |= {"images/b.jpg": "", "images/b.txt": "", "labels/b.txt": ROW}
    files |= dict.fromkeys(("data.yaml", "other.yaml"), "train: images\n" + NAMES)
    pool = read(make(tmp_path, files))["train"]
    assert boxes(pool) == [BOX] * 3
    told = {p.kind: (p.where, p.count) for p in pool.problems}
    assert told == {
        "label file of several images": ("labels/a.txt", 1),
        "several label files": ("images/b.jpg", 1),
        "second data set file": ("other.yaml", 1),
    }


def test_images_that_are_not_there_and_images_of_no_split(tmp_path: Path) -> None:
    listed = "images/a.jpg\nimages/gone.jpg\nimages/lost.jpg\n"
    files = {"images/a.jpg": "", "images/b.jpg": "", "labels/a.txt": ROW, "train.txt": listed, "labels/old.txt": ROW}
    pool = read(make(tmp_path, files | {"data.yaml": "train: train.txt\n" + NAMES}))["train"]
    assert kinds(pool) == {"missing image": 2, "image outside the splits": 1, "label without image": 1}
    assert [p.where for p in pool.problems if p.kind == "missing image"] == ["train.txt:2: images/gone.jpg"]


def test_a_path_that_several_images_fit_is_no_guess(tmp_path: Path) -> None:
    files = {name: ROW for stem in "ab" for name in (f"{stem}/x.jpg", f"{stem}/x.txt")}
    files |= {"train.txt": "/far/x.jpg\na/x.jpg\n", "data.yaml": "train: train.txt\n" + NAMES}
    pool = read(make(tmp_path, files))["train"]
    assert pool.names == ("a/x.jpg",) and kinds(pool) == {"ambiguous image": 1, "image outside the splits": 1}


NAMED: dict[str, tuple[str, tuple[str, ...], list[int], set[str]]] = {
    "a dict with a gap": (
        "names: {0: cat, 2: dog}",
        ("cat", "dog"),
        [0, 1],
        {"class id without name", "unknown class id"},
    ),
    "keys that are text": ("names: {'0': cat, '1': dog, '2': cow}", ("cat", "dog", "cow"), [0, 1, 2], set()),
    "in another order": ("names: {2: cow, 0: cat, 1: dog}", ("cat", "dog", "cow"), [0, 1, 2], set()),
    "from names to ids": ("names: {cat: 0, dog: 1, cow: 2}", ("cat", "dog", "cow"), [0, 1, 2], set()),
    "from one": ("names: {1: cat, 2: dog}", ("cat", "dog"), [0, 1], {"class id without name", "unknown class id"}),
    "nc that disagrees": ("nc: 5\nnames: [cat, dog, cow]", ("cat", "dog", "cow"), [0, 1, 2], {"class count differs"}),
    "nc alone": ("nc: 3", ("0", "1", "2"), [0, 1, 2], {"classes without names"}),
    "a name twice": ("names: [cat, dog, cat]", ("cat", "dog"), [0, 1, 0], {"class name twice"}),
    "no text": ("names: [no, 2, null]", ("False", "2"), [0, 1, 1], {"class name that is no text", "class name twice"}),
    "alike": ("names: [cat, Cat, 'cat ']", ("cat", "Cat", "cat "), [0, 1, 2], {"class names alike"}),
    "one text": ("names: cat, dog, cow", ("cat", "dog", "cow"), [0, 1, 2], set()),
    "a file": ("names: cfg/my.names", ("cat", "dog", "cow"), [0, 1, 2], set()),
    "few": ("names: [cat]", ("cat",), [0], {"unknown class id"}),
}


@pytest.mark.parametrize("name", NAMED)
def test_class_names(tmp_path: Path, name: str) -> None:
    said, classes, labels, told = NAMED[name]
    rows = "".join(f"{k} 0.{k + 3} 0.4 0.4 0.6\n" for k in range(3))
    files = {"images/a.jpg": "", "labels/a.txt": rows, "data.yaml": f"train: images\n{said}\n"}
    pool = read(make(tmp_path, files | ({"cfg/my.names": "cat\ndog\ncow\n"} if name == "a file" else {})))["train"]
    assert pool.classes == classes and pool.truth is not None and pool.truth.labels.tolist() == labels
    assert set(kinds(pool)) == told


def test_lists_of_classes(tmp_path: Path) -> None:
    rows = {"a/1.jpg": "", "a/1.txt": ROW, "b/2.jpg": "", "b/2.txt": ROW}
    same = read(make(tmp_path / "same", rows | {"a/classes.txt": "cat\n", "b/classes.txt": "cat\ndog\n"}))[None]
    assert same.classes == ("cat", "dog") and same.problems == ()
    other = read(make(tmp_path / "other", rows | {"a/classes.txt": "cat\ndog\n", "b/classes.txt": "dog\ncat\n"}))[None]
    assert other.classes == ("cat", "dog") and kinds(other) == {"class lists differ": 1}
    numbered = read(make(tmp_path / "numbered", rows | {"classes.txt": "1: dog\n0: cat\n"}))[None]
    assert numbered.classes == ("cat", "dog") and boxes(numbered) == [BOX] * 2
    broken = rows | {"notes.json": "{", "data.yaml": "train: [a, b]\nnames: 7\n"}
    with pytest.raises(LabelwiseError, match=r"data.yaml: names is 7; expected a list of classes"):
        find.read(make(tmp_path / "broken", broken))


ROWS: dict[str, tuple[str, str, list[list[float]], dict[str, int]]] = {
    "byte order mark, tabs, blanks": ("\ufeff1\t0.3 0.4\t0.4 0.6  \r\n\r\n  \r\n", "", [BOX], {}),
    "old Mac": (ROW.replace("\n", "\r") * 2, "", [BOX], {"box twice": 1}),
    "commas": ("1,0.3,0.4,0.4,0.6\n0, 0.3, 0.4, 0.4, 0.6\n", "", [BOX, BOX], {}),
    "decimal commas": ("1 0,3 0,4 0,4 0,6\n", "", [BOX], {}),
    "class as a float": ("1.0 3e-1 .4 0.4 0.6\n", "", [BOX], {}),
    "confidence": ("1 0.3 0.4 0.4 0.6 0.91\n1 0.3 0.4 0.4 0.6 0.4\n", "", [BOX], {"extra column": 2, "box twice": 1}),
    "track": ("1 0.3 0.4 0.4 0.6 17\n", "", [BOX], {"extra column": 1}),
    "confidence and track": ("1 0.3 0.4 0.4 0.6 0.9 17\n", "", [BOX], {"extra column": 1}),
    "triangle": ("1 0.1 0.1 0.5 0.3 0.2 0.7\n", "", [BOX], {"polygon": 1}),
    "polygon and box": (
        "1 0.1 0.1 0.5 0.1 0.5 0.7 0.1 0.7 0.2 0.3\n0 0.3 0.4 0.4 0.6\n",
        "",
        [BOX, BOX],
        {"polygon": 1},
    ),
    "polygon and confidence": ("1 0.1 0.1 0.5 0.3 0.2 0.7 0.95\n", "", [BOX], {"polygon": 1, "extra column": 1}),
    "rotated": ("1 0.1 0.1 0.5 0.1 0.5 0.7 0.1 0.7\n", "", [BOX], {"rotated box": 1}),
    "pose by kpt_shape": ("1 0.3 0.4 0.4 0.6 0.2 0.2 2 0 0 0\n", "kpt_shape: [2, 3]\n", [BOX], {"key points": 1}),
    "pose without it": ("1 0.3 0.4 0.4 0.6 0.2 0.2 2 0 0 0\n", "", [BOX], {"key points": 1}),
    "flat pose": ("1 0.3 0.4 0.4 0.6 0.2 0.2 0.3 0.3 0.4 0.6\n" * 3, "", [BOX], {"key points": 3, "box twice": 2}),
    "pose and confidence": (
        "1 0.3 0.4 0.4 0.6 0.2 0.2 0.9\n",
        "kpt_shape: [1, 2]\n",
        [BOX],
        {"key points": 1, "extra column": 1},
    ),
    "not a number": ("1 nan .5 .1 .1\n1 inf .5 .1 .1\n1 1e300 .5 .1 .1\n" + ROW, "", [BOX], {"box without numbers": 3}),
    "negative": ("1 0.3 0.4 -0.4 0.6\n-1 0.3 0.4 0.4 0.6\n", "", [BOX], {"corners swapped": 1, "unknown class id": 1}),
    "huge class": (f"4294967295 .5 .5 .1 .1\n1e99 .5 .5 .1 .1\n{ROW}", "", [BOX], {"unknown class id": 2}),
    "rows that are none": (
        "cat .3 .4 .4 .6\n1 .5\n0.5 .3 .4 .4 .6\n1_0 .3 .4 .4 .6\n" + ROW,
        "",
        [BOX],
        {"broken entry": 4},
    ),
    "one row of pixels": (
        ROW + "1 .3 .4 .4 .2\n1 60 40 80 60\n",
        "",
        [BOX, [20, 30, 100, 50]],
        {"out-of-image box": 1},
    ),
}


@pytest.mark.parametrize("name", ROWS)
def test_rows(tmp_path: Path, name: str) -> None:
    rows, head, right, told = ROWS[name]
    pool = one(tmp_path, rows, head)
    assert boxes(pool) == right and kinds(pool) == told


def test_a_broken_row_is_told_with_its_line(tmp_path: Path) -> None:
    pool = one(tmp_path, f"{ROW}\ncat .5 .5 .1 .1\n1 2\n", n=2)
    assert [(p.where, p.count) for p in pool.problems] == [("labels/0.txt:3", 2), ("labels/1.txt:3", 2)]
    assert "'cat .5 .5 .1 .1'; expected: class cx cy width height" in pool.problems[0].what
    assert boxes(pool) == [BOX] * 2


def test_texts_of_other_encodings(tmp_path: Path) -> None:
    make(tmp_path, {"bilder/ä.jpg": "", "b.jpg": ""})
    (tmp_path / "bilder" / "ä.txt").write_bytes(ROW.encode("utf-16"))
    (tmp_path / "train.txt").write_bytes("C:\\Füße\\bilder\\ä.jpg\r\n".encode("cp1252"))
    (tmp_path / "data.yaml").write_bytes(("train: train.txt\n" + NAMES).encode("utf-16"))
    pool = find.read(tmp_path, "train", "yolo")
    assert pool.names == ("bilder/ä.jpg",) and boxes(pool) == [BOX]
    assert kinds(pool) == {ELSEWHERE: 1, "image outside the splits": 1}


def pixel_rows(how: str, n: int = 12) -> list[str]:
    rng = np.random.default_rng(1)
    corner, side = rng.uniform(0, 60, (n, 2)) * (2, 1), rng.uniform(5, 30, (n, 2))
    first, second = (corner + side / 2, side) if how == "centre" else (corner, corner + side)
    return [f"0 {a:.1f} {b:.1f} {c:.1f} {d:.1f}\n" for (a, b), (c, d) in zip(first, second, strict=True)]


@pytest.mark.parametrize("how", ["centre", "corners"])
def test_pixels_are_recognised_where_it_is_clear_what_they_mean(tmp_path: Path, how: str) -> None:
    pool = one(tmp_path / how, "".join(pixel_rows(how)))
    expected = one(tmp_path / "other", "".join(pixel_rows("corners")))
    np.testing.assert_allclose(boxes(pool), boxes(expected), atol=0.11)
    assert kinds(pool) == {"pixels for shares": 12} and how in pool.problems[0].handling
    mixed = one(tmp_path / "mixed", "".join(pixel_rows(how)) + ROW)
    assert kinds(mixed) == {"pixels for shares": 12, "shares among pixels": 1} and len(boxes(mixed)) == 12


def test_pixels_that_may_mean_both_are_left_out(tmp_path: Path) -> None:
    pool = one(tmp_path / "d", "0 60 40 80 60\n")
    assert boxes(pool) == [] and kinds(pool) == {"pixels for shares": 1} and "left out" in pool.problems[0].handling
    polygon = one(tmp_path / "e", "0 20 10 100 10 100 70 20 70\n")
    assert boxes(polygon) == [BOX] and kinds(polygon) == {"rotated box": 1, "pixels for shares": 1}


OTHERS: dict[str, dict[str, str]] = {
    "captions": {"a.jpg": "", "a.txt": "a photo of 2 cats"},
    "notes": {"a.jpg": "", "readme.txt": "0 0.5 0.5 0.1 0.1", "requirements.txt": "numpy==1.2"},
    "KITTI": {"image_2/1.png": "", "label_2/1.txt": "Car 0.00 0 -1.58 587.01 173.33 614.12 200.12\n"},
    "a list of boxes": {"a.jpg": "", "train.txt": "a.jpg 10,20,30,40,0 5,5,9,9,1\n", "classes.txt": "cat\n"},
    "a table": {"images/a.jpg": "", "labels.txt": "images/a.jpg,10,20,30,40,cat\n"},
    "WIDER": {"images/a.jpg": "", "wider_face_train.txt": "a.jpg\n1\n10 20 30 40 0 0 0\n"},
    "pixels of VisDrone": {"images/a.jpg": "", "annotations/a.txt": "684,8,273,116,0,0,0,0\n"},
    "OIDv4": {"a/b.jpg": "", "a/Label/b.txt": "Apple 10.5 20.5 30.5 40.5\n"},
    "DOTA": {"images/a.png": "", "labelTxt/a.txt": "1.0 2.0 3.0 2.0 3.0 4.0 1.0 4.0 plane 0\n"},
    "a matrix": {"a.png": "", "a.txt": "0 1 0 0 1 1 0 0\n" * 4},
    "class folders": {"train/cat/a.jpg": "", "train/dog/b.jpg": "", "classes.txt": "cat\ndog\n"},
    "other YAML": {
        "a.jpg": "",
        "conf.yaml": "model: x\nnames: [a]\n",
        "x.data": "1,2,3\n",
        "deep/coco.yaml": "train: images/x\nnames: [a]",
    },
}


@pytest.mark.parametrize("name", OTHERS)
def test_what_is_not_yolo_is_not_taken_for_it(tmp_path: Path, name: str) -> None:
    root = make(tmp_path / "d", OTHERS[name])
    assert not yolo.detect(root)


def test_empty_label_files_alone_need_a_list_of_classes(tmp_path: Path) -> None:
    root = make(tmp_path, {"images/a.jpg": "", "labels/a.txt": ""})
    assert not yolo.detect(root)
    make(root, CLASSES)
    assert boxes(read(root)[None]) == []


def trainers_places(root: Path) -> dict[str, list[str]]:
    """Images by split, as Ultralytics looks for them: from the folder of data.yaml."""
    content = yaml.safe_load((root / "data.yaml").read_text(encoding="utf-8"))
    assert "path" not in content and content["nc"] == len(content["names"])
    found = {}
    for split in ("train", "val"):
        images = sorted(path.as_posix() for path in (root / content[split]).rglob("*.png"))
        assert all(
            Path(posixpath.splitext("/labels/".join(i.rsplit("/images/", 1)))[0] + ".txt").is_file() for i in images
        )
        found[split] = images
    return found


def sample(root: Path, complete: Any = None) -> Pool:
    make(root, {"images/a b.png": "", "ü/b.png": ""})
    truth = Boxes.from_rows(np.array([0]), np.array([BOX], np.float64), np.array([1]), 2)
    size = np.full(2, 200, np.int64), np.full(2, 100, np.int64)
    classes = ("no", "Fuß gänger", "- x: [1]", "1.0")
    return Pool(root, classes, ("images/a b.png", "ü/b.png"), *size, truth=truth, complete=complete)


def test_what_is_written_trains_as_it_is(tmp_path: Path) -> None:
    pool, root = sample(tmp_path / "in"), tmp_path / "out images" / "d"
    yolo.write(pool, root, "train")
    assert [len(images) for images in trainers_places(root).values()] == [2, 2]
    assert "# val: train again" in (root / "data.yaml").read_text(encoding="utf-8")
    assert find.splits(root) == ("train",), "a stand-in is no split"
    yolo.write(pool, root, "val", copy_images=False)
    found = read(root)
    assert list(found) == ["train", "val"] and "again" not in (root / "data.yaml").read_text(encoding="utf-8")
    assert all(images[0].startswith((root / split).as_posix()) for split, images in trainers_places(root).items())
    for back in found.values():
        assert back.classes == pool.classes and boxes(back) == [BOX] and back.problems == () and back.complete is None
    yolo.write(pool, tmp_path / "depot", "depot")
    assert find.splits(tmp_path / "depot") == ("depot",) and len(trainers_places(tmp_path / "depot")["train"]) == 2
    with pytest.raises(LabelwiseError, match="'names' is a key of"):
        yolo.write(pool, tmp_path / "odd", "names")


def test_images_that_nobody_has_looked_at_get_no_text_file(tmp_path: Path) -> None:
    yolo.write(sample(tmp_path / "in", np.array([True, False])), tmp_path / "out", "train")
    back = read(tmp_path / "out")["train"]
    assert back.complete is not None and back.complete.tolist() == [True, False]
    assert kinds(back) == {"image without labels": 1}


def test_a_data_set_is_looked_through_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = make(tmp_path, PAIR | {"data.yaml": WHOLE})
    n_walks = 0
    walk = listing.Listing

    def counted(at: Path) -> listing.Listing:
        nonlocal n_walks
        n_walks += 1
        return walk(at)

    monkeypatch.setattr(listing, "Listing", counted)
    with listing.once():
        pools = [yolo.read(root, split) for split in yolo.splits(root)]
    assert n_walks == 1 and sum(map(len, pools)) == 2
    with pytest.raises(LabelwiseError, match="no split 'test'; expected one of train, val"):
        clean.choose(root, yolo.splits(root), "test")
