"""Names of images are paths with forward slashes below the data, on every system and from every program's files."""

from __future__ import annotations

import errno
import json
import os
from collections.abc import Callable
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Any

import pytest
from PIL import Image

from labelwise.data import clean, coco, find, staging, yolo
from labelwise.ledger.ledger import Ledger
from labelwise.types import LabelwiseError, disk

NAMES = ("train/deep/a.png", "train/b.png")


def pictures(folder: Path) -> Path:
    for name in NAMES:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (32, 24)).save(folder / name)
    return folder


def as_coco(folder: Path, spelled: Callable[[str], str]) -> Path:
    images = [{"id": i, "file_name": spelled(name), "width": 32, "height": 24} for i, name in enumerate(NAMES)]
    content = {"images": images, "annotations": [], "categories": [{"id": 0, "name": "cat"}]}
    (folder / "all.json").write_text(json.dumps(content), encoding="utf-8")
    return folder


def as_yolo(folder: Path, spelled: Callable[[str], str]) -> Path:
    (folder / "list.txt").write_text("".join(f"{spelled(name)}\n" for name in NAMES), encoding="utf-8")
    (folder / "data.yaml").write_text("train: list.txt\nnames: [cat]\n", encoding="utf-8")
    for name in NAMES:
        (folder / name).with_suffix(".txt").touch()
    return folder


@pytest.mark.parametrize("write, read", [(as_coco, coco.read), (as_yolo, yolo.read)], ids=["coco", "yolo"])
@pytest.mark.parametrize("kind", [PurePosixPath, PureWindowsPath])
def test_files_of_other_systems_name_the_same_images(tmp_path: Path, write: Any, read: Any, kind: Any) -> None:
    root = write(pictures(tmp_path), lambda name: str(kind(name)))
    pool = read(root, splits[0] if (splits := find.splits(root)) else None)
    assert sorted(pool.names) == sorted(NAMES)
    assert {problem.kind for problem in pool.problems} <= {"path with backslashes"}
    ledger = Ledger.open(tmp_path / "ledger.sqlite", create=True)
    ledger.add_images(pool)
    with ledger.read() as connection:
        stored = connection.exec_driver_sql("SELECT name FROM images").scalars().all()
    ledger.close()
    assert sorted(stored) == sorted(NAMES), "the ledger may be read on another system"


def test_a_backslash_that_is_part_of_a_name_stays(tmp_path: Path) -> None:
    if os.name != "posix":
        pytest.skip("no file can be called so on Windows")
    Image.new("RGB", (32, 24)).save(tmp_path / "a\\b.png")
    images = [{"id": 0, "file_name": "a\\b.png", "width": 32, "height": 24}]
    (tmp_path / "all.json").write_text(json.dumps({"images": images, "annotations": [], "categories": []}))
    assert coco.read(tmp_path, "all").names == ("a\\b.png",)


def test_names_have_forward_slashes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Windows(Path().__class__):  # type: ignore[misc, name-defined]
        def __new__(cls, *parts: Any) -> Any:
            return PureWindowsPath(*parts)

    monkeypatch.setattr(clean, "Path", Windows)
    monkeypatch.setattr(os.path, "relpath", lambda path, start: f"{path}".removeprefix(f"{start}\\"))
    root = PureWindowsPath("C:\\data")
    assert clean.relative(root / "a" / "b.png", root) == "a/b.png"  # type: ignore[arg-type]


def test_another_drive_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def relpath(_path: Any, _start: Any) -> str:
        raise ValueError("path is on mount 'D:', start on mount 'C:'")

    monkeypatch.setattr(os.path, "relpath", relpath)
    with pytest.raises(LabelwiseError, match=r"lies on another drive than .*: move one of them"):
        clean.relative(tmp_path / "a.png", tmp_path)


def test_without_links_images_are_copied(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(_path: Path, _target: Path, **_: Any) -> None:
        raise OSError(errno.EINVAL, "A required privilege is not held by the client")

    folder = pictures(tmp_path / "data")
    monkeypatch.setattr(Path, "symlink_to", refuse)
    staging.link(tmp_path / "copy", folder)
    staging.link(tmp_path / "b.png", folder / NAMES[1])
    assert (tmp_path / "copy" / NAMES[0]).is_file() and (tmp_path / "b.png").is_file()
    with pytest.raises(OSError, match="privilege"):
        staging.link(tmp_path / "b.png", folder / NAMES[0])


def test_a_folder_takes_the_place_of_an_empty_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def replace(path: Path, target: Path) -> Path:
        if target.exists():
            raise PermissionError(errno.EACCES, "Access is denied", str(target))
        os.rename(path, target)  # noqa: PTH104 (Path.replace is what is simulated)
        return target

    monkeypatch.setattr(Path, "replace", replace)
    (tmp_path / "made").mkdir()
    with disk.new_folder(tmp_path / "made") as partial:
        (partial / "a.txt").write_text("a", encoding="utf-8")
    assert [path.name for path in tmp_path.rglob("*")] == ["made", "a.txt"]


@pytest.mark.parametrize(("folder", "there"), [("train2017", True), ("Train", True), ("val2017", False)])
def test_a_split_and_its_year_are_one_place(tmp_path: Path, folder: str, there: bool) -> None:
    (tmp_path / folder).mkdir()
    Image.new("RGB", (32, 24)).save(tmp_path / folder / "a.png")
    images = [{"id": 1, "coco_url": "http://images.cocodataset.org/x/a.png", "width": 32, "height": 24}]
    content = {"images": images, "annotations": [], "categories": [{"id": 1, "name": "cat"}]}
    (tmp_path / "annotations").mkdir()
    (tmp_path / "annotations/lvis_v1_train.json").write_text(json.dumps(content), encoding="utf-8")
    assert find.read(tmp_path, "train").names == ((f"{folder}/a.png",) if there else ())
