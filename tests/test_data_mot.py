"""Videos as the MOT Challenge and VisDrone-VID write them: boxes reckoned by hand, and what is told."""

from __future__ import annotations

from pathlib import Path

import pytest
from PIL import Image

from labelwise.data import find
from labelwise.types import Pool

BOX = [10.0, 20.0, 40.0, 60.0]


def make(root: Path, frames: str, **files: str) -> Path:
    """Three frames of 100 x 80 in a folder, and texts by their names."""
    (root / frames).mkdir(parents=True)
    for k in (1, 2, 10):
        Image.new("RGB", (100, 80), (k, 0, 0)).save(root / frames / f"{k}.jpg")
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text, encoding="utf-8")
    return root


def boxes(pool: Pool) -> list[tuple[str, str, list[float]]]:
    assert pool.truth is not None
    rows = zip(pool.truth.image.tolist(), pool.truth.labels.tolist(), pool.truth.xyxy.tolist(), strict=True)
    return [(pool.names[i].rpartition("/")[2], pool.classes[k], [round(v, 3) for v in box]) for i, k, box in rows]


def test_mot_gives_clips_boxes_and_what_is_to_be_ignored(tmp_path: Path) -> None:
    rows = "1,1,11,21,30,40,1,1,0.9\n10,1,11,21,30,40,1,3,1.0\n2,2,1,1,5,5,0,8,1\n"
    make(tmp_path, "train/MOT17-02/img1", **{"train/MOT17-02/gt/gt.txt": rows})
    (tmp_path / "train/MOT17-02/seqinfo.ini").write_text("[Sequence]\nimDir=img1\n")
    assert find.name(tmp_path) == "mot" and find.splits(tmp_path) == ("train",)
    pool = find.read(tmp_path, "train")
    assert boxes(pool) == [("1.jpg", "pedestrian", BOX), ("10.jpg", "car", BOX)]
    assert pool.crowd is not None and pool.crowd.xyxy.tolist() == [[0.0, 0.0, 5.0, 5.0]] and not pool.problems
    assert pool.clips is not None and pool.clips.frame.tolist() == [1, 2, 10]
    assert pool.sources == {"train/MOT17-02/gt/gt.txt", "train/MOT17-02/seqinfo.ini"}
    assert pool.complete is None or pool.complete.all()


@pytest.mark.parametrize(("names", "expected"), [("bee\nwasp\n", ["bee", "wasp"]), ("", ["1", "2"])])
def test_classes_are_those_of_the_list_beside_it_or_numbers(tmp_path: Path, names: str, expected: list[str]) -> None:
    files = {"gt/gt.txt": "1,1,11,21,30,40,1,1,1\n2,1,11,21,30,40,1,2,1\n"} | (
        {"gt/labels.txt": names} if names else {}
    )
    pool = find.read(make(tmp_path, "img1", **files))
    assert [name for _, name, _ in boxes(pool)] == expected
    assert [problem.kind for problem in pool.problems] == ([] if names else ["class of a number"])


def test_visdrone_videos(tmp_path: Path) -> None:
    rows = "1,0,10,20,30,40,1,4,0,0\n2,0,1,2,3,4,0,0,0,0\n10,7,10,20,30,40,1,1,0,0\n"
    pool = find.read(make(tmp_path, "sequences/uav1_v", **{"annotations/uav1_v.txt": rows}))
    assert boxes(pool) == [("1.jpg", "car", BOX), ("10.jpg", "pedestrian", BOX)]
    assert pool.crowd is not None and len(pool.crowd.xyxy) == 1
    assert pool.clips is not None and pool.clips.names == ("sequences/uav1_v",)


def test_bad_rows_and_frames_that_are_not_there_are_told(tmp_path: Path) -> None:
    rows = "1,1,11,21,30,40,1,-1,-1,-1\n1,1,x,21,30,40\n1,2\n7,1,11,21,30,40,1,-1,-1,-1\n2.5,1,1,1,1,1,1\n"
    pool = find.read(make(tmp_path, "s/img1", **{"s/gt/gt.txt": rows * 3}))
    assert [name for _, name, _ in boxes(pool)] == ["object"]
    told = {problem.kind: sum(p.count for p in pool.problems if p.kind == problem.kind) for problem in pool.problems}
    assert told == {"broken row": 6, "label without image": 6, "box twice": 2}


def test_a_sequence_without_a_text_is_a_clip_that_nobody_looked_at(tmp_path: Path) -> None:
    make(tmp_path, "train/a/img1", **{"train/a/gt/gt.txt": "1,1,11,21,30,40,1,-1,-1,-1\n"})
    make(tmp_path, "test/b/img1", **{"test/b/det/det.txt": "1,-1,11,21,30,40,1,-1,-1,-1\n"})
    assert find.splits(tmp_path) == ("train", "test")
    pool = find.read(tmp_path, "test")
    assert pool.clips is not None and pool.complete is not None and not pool.complete.any()
