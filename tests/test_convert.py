"""`check --json` and `convert`: every layout of the fuzzer's corpus, read, written in every format, read again."""

from __future__ import annotations

import json
import sys
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

sys.path.insert(0, str(Path(__file__).parents[1] / "benchmarks"))
import fuzz_layouts

from labelwise import catalog
from labelwise.cli import app
from labelwise.data import check, coco, convert, find, recognise
from labelwise.types import Boxes, LabelwiseError, Pool, Rects

LAYOUTS = dict(fuzz_layouts.layouts())
WITH_BOXES = [name for name in LAYOUTS if name not in ("class folders", "class table", "npz", "folder")]
ONE_CLASS = {"wider face", "kaggle csv"}
"""Layouts without classes."""
BOXES = Counter((name, label, box) for name, boxes in fuzz_layouts.BOXES.items() for label, box in boxes)

Row = tuple[str, str, tuple[int, ...]]


def write(name: str, root: Path) -> Path:
    for file, content in LAYOUTS[name].items():
        (root / file).parent.mkdir(parents=True, exist_ok=True)
        (root / file).write_bytes(content)
    return root


def rows(pool: Pool) -> Counter[Row]:
    """(stem of the image, class, rounded box) of every box."""
    assert pool.truth is not None
    images = np.repeat(np.arange(len(pool)), np.diff(pool.truth.offsets)).tolist()
    boxes = zip(images, pool.truth.labels.tolist(), pool.truth.xyxy.tolist(), strict=True)
    return Counter((Path(pool.names[i]).stem, pool.classes[c], tuple(round(v) for v in box)) for i, c, box in boxes)


def call(*arguments: str) -> None:
    CliRunner().invoke(app, list(arguments), catch_exceptions=False)


def run(*arguments: str) -> str:
    result = CliRunner().invoke(app, list(arguments))
    assert result.exit_code == 0, result.output
    return result.stdout


@pytest.mark.parametrize("name", WITH_BOXES)
def test_every_layout_is_read_to_the_same_boxes(name: str, tmp_path: Path) -> None:
    report = check.look(write(name, tmp_path), full=False)
    (pool,) = report.found.pools.values()
    frames = {"frame_000000": "a", "frame_000001": "b", "1": "a", "2": "b"}
    found = Counter({(frames.get(i, i), c, box): n for (i, c, box), n in rows(pool).items()})
    if name in ONE_CLASS:
        assert Counter((i, box) for i, _, box in found.elements()) == Counter((i, box) for i, _, box in BOXES)
    else:
        assert found == BOXES
        assert pool.classes == ("cat", "dog")
    assert not [p for p in report.problems if p.kind == "unread annotation file"]
    assert set(report.unused) <= {""}, "every file of the layout was used"


@pytest.mark.parametrize("target", catalog.writable())
@pytest.mark.parametrize("name", WITH_BOXES)
def test_what_is_read_is_written_and_read_again(name: str, target: str, tmp_path: Path) -> None:
    found = recognise.look(write(name, tmp_path / "data"))
    lost = convert.convert(found, target, tmp_path / "out")
    assert [line for line in lost if "video" not in line] == []
    again = recognise.look(tmp_path / "out")
    assert again.format == catalog.writable()[target] and len(again.pools) == 1
    (before,), (after,) = found.pools.values(), again.pools.values()
    if after.frames is not None:  # rows of a table, in their order
        assert all(after.frames(i).shape[1::-1] == (after.width_px[i], after.height_px[i]) for i in range(len(after)))
        after = replace(after, names=before.names)
    else:
        assert all(after.path(i).is_file() for i in range(len(after)))
    assert rows(after) == rows(before) and set(after.classes) == set(before.classes)


def test_check_says_what_was_read_as_json(tmp_path: Path) -> None:
    root = write("coco", tmp_path)
    (root / "more").mkdir()
    (root / "more" / "b.xml").write_text("<annotation><object><name>cat</name></object></annotation>")
    (root / "README.txt").write_text("read me")
    (root / "train" / "c.jpg").write_bytes(fuzz_layouts.image(3))
    said = json.loads(run("check", str(root), "--json"))
    assert said["format"] == "coco" and said["classes"] == ["cat", "dog"]
    assert said["splits"] == {"train": {"images": 2, "boxes": 3}}
    assert said["unused"] == {".xml": 1, ".txt": 1, ".jpg": 1}
    assert {(p["kind"], p["count"], p["where"]) for p in said["problems"]} == {
        ("unread annotation file", 1, "more/b.xml"),
        ("image without mention", 1, "train/c.jpg"),
    }
    shown = run("check", str(root))
    assert "coco" in shown and "2 classes: cat, dog" in shown and "Files not used: " in shown and "1 .xml" in shown


def test_many_problems_of_a_kind_are_counted(tmp_path: Path) -> None:
    root = write("coco", tmp_path)
    file = root / "annotations" / "instances_train.json"
    content = json.loads(file.read_text())
    content["annotations"] += [dict(content["annotations"][0], id=9 + i, bbox=[5, 5, 0, 3]) for i in range(30)]
    file.write_text(json.dumps(content))
    said = json.loads(run("check", str(root), "--json"))
    assert sum(p["count"] for p in said["problems"]) == 30 and len(said["problems"]) == 21
    assert said["problems"][-1]["count"] == 10
    assert len(json.loads(run("check", str(root), "--json", "--all"))["problems"]) == 30


def test_nothing_that_can_be_read_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("nothing here")
    result = CliRunner().invoke(app, ["check", str(tmp_path), "--json"])
    assert result.exit_code != 0 and isinstance(result.exception, LabelwiseError)


def test_a_split_without_one_box_is_told(tmp_path: Path) -> None:
    root = write("yolo", tmp_path)
    for file in (root / "train" / "labels").iterdir():
        file.write_text("")
    assert "split without a box" in {p.kind for p in check.check(root, full=False)}


def test_what_a_target_cannot_carry_is_told(tmp_path: Path) -> None:
    for i in range(3):
        (tmp_path / "data").mkdir(exist_ok=True)
        Image.new("RGB", (60, 40)).save(tmp_path / "data" / f"{i}.png")
    size = np.array([60, 60, 60]), np.array([40, 40, 40])
    truth = Boxes.from_rows(np.array([0]), np.array([[1.0, 2, 3, 4]]), np.array([0]), 3)
    crowd = Rects.from_rows(np.array([1]), np.array([[1.0, 2, 30, 40]]), 3)
    complete = np.array([True, True, False])
    pool = Pool(tmp_path / "data", ("cat",), ("0.png", "1.png", "2.png"), *size, truth, crowd, complete=complete)
    found = recognise.Found(pool.root, "coco", {"": pool})
    assert convert.convert(found, "yolo", tmp_path / "yolo") == [
        "train: 1 regions to ignore (crowd, difficult) are left out"
    ]
    assert convert.convert(found, "coco", tmp_path / "coco") == [
        "train: 1 images that nobody has looked at are written like images without an object"
    ]
    back = find.read(tmp_path / "yolo", "train")
    assert back.complete is not None and back.complete.tolist() == [True, True, False]
    assert convert.convert(found, "voc", tmp_path / "voc") == []


def test_images_are_named_linked_or_copied(tmp_path: Path) -> None:
    data = write("voc, flat", tmp_path / "data")
    run("convert", str(data), "--to", "coco", "-o", str(tmp_path / "named"))
    run("convert", str(data), "--to", "coco", "-o", str(tmp_path / "linked"), "--link")
    run("convert", str(data), "--to", "coco", "-o", str(tmp_path / "copied"), "--copy")
    content = json.loads((tmp_path / "named" / "annotations" / "instances_train.json").read_text(encoding="utf-8"))
    assert [image["file_name"] for image in content["images"]] == ["../data/a.jpg", "../data/b.jpg"]
    assert (tmp_path / "linked" / "images" / "train" / "a.jpg").is_symlink()
    copied = tmp_path / "copied" / "images" / "train" / "a.jpg"
    assert copied.is_file() and not copied.is_symlink()
    for name in ("named", "linked", "copied"):
        assert rows(coco.read(tmp_path / name, "train")) == BOXES


def test_a_folder_that_is_not_empty_is_kept(tmp_path: Path) -> None:
    data = write("voc, flat", tmp_path / "data")
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "mine.txt").write_text("mine")
    result = CliRunner().invoke(app, ["convert", str(data), "--to", "yolo", "-o", str(tmp_path / "out")])
    assert result.exit_code != 0 and [f.name for f in (tmp_path / "out").iterdir()] == ["mine.txt"]
    with pytest.raises(LabelwiseError, match="cannot be written"):
        convert.convert(recognise.look(data), "bmp", tmp_path / "new")
    with pytest.raises(LabelwiseError, match=r"'yola'.*Did you mean 'yolo'"):
        call("convert", str(data), "--to", "yola", "-o", str(tmp_path / "new"))
    assert not (tmp_path / "new").exists()
