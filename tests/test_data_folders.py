"""Folders of images alone, image files and videos of every kind, and what no reader may wait for."""

from __future__ import annotations

from pathlib import Path

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
