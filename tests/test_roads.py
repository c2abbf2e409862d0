"""Generated road scenes: deterministic, in the proportions of Table 2.1, boxes where things show, motion that flows."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from labelwise.data import coco
from labelwise.generated import _road_film as film
from labelwise.generated import _road_things as things
from labelwise.generated import _road_traffic as traffic
from labelwise.generated import roads
from labelwise.types import LabelwiseError

MAIN = (0.3, 0.2, 0.35, 0.0)


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("roads") / "tiny"
    roads.write(root, preset="tiny")
    return root


def content(root: Path, split: str) -> dict[str, Any]:
    return json.loads((root / "annotations" / f"instances_{split}.json").read_text())


def digest(root: Path) -> dict[str, str]:
    files = sorted(path for path in root.rglob("*") if path.is_file())
    return {path.relative_to(root).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def iou(a: tuple[float, ...], b: tuple[float, ...]) -> float:
    wide, high = min(a[2], b[2]) - max(a[0], b[0]), min(a[3], b[3]) - max(a[1], b[1])
    both = max(wide, 0) * max(high, 0)
    return both / ((a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - both)


def test_same_seed_same_bytes_and_a_clip_depends_on_its_own_number(tmp_path: Path) -> None:
    settings: dict[str, Any] = {"preset": "tiny", "seconds": (0.12, 0.12), "size_px": (128, 96)}
    steps: list[int] = []
    roads.write(tmp_path / "a", seed=3, train=2, test=1, progress=steps.append, **settings)
    roads.write(tmp_path / "b", seed=3, train=2, test=1, **settings)
    roads.write(tmp_path / "c", seed=4, train=1, test=0, **settings)
    roads.write(tmp_path / "d", seed=3, train=1, test=0, **settings)
    a, d = digest(tmp_path / "a"), digest(tmp_path / "d")
    assert a == digest(tmp_path / "b") and len(a) == sum(steps) + 2 == 11
    assert not set(a.values()) & {v for k, v in digest(tmp_path / "c").items() if k.endswith("jpg")}
    frames = {name: value for name, value in d.items() if name.endswith("jpg")}
    assert len(frames) == 3 and frames.items() <= a.items()


def test_the_paper_plan_is_table_2_1() -> None:
    train, test = roads.plan("train", 197), roads.plan("test", 97)
    assert Counter(shot.subset for shot in train) == {"default": 150, "town": 36, "night": 6, "wheelchair": 5}
    assert Counter(shot.subset for shot in test) == {"test": 85, "test_wheelchair": 12}
    cells = Counter((shot.area, shot.condition) for shot in test if shot.subset == "test")
    assert len(cells) == 12 and max(cells.values()) - min(cells.values()) == 1
    assert {shot.condition for shot in test} == {"spring", "fall", "rain", "night"}
    assert set(Counter(shot.condition for shot in train if shot.subset == "town").values()) == {9}
    assert {shot.area for shot in train if shot.subset == "default"} == {"city", "highway"}


def test_small_plan_has_every_subset_and_only_cars_on_highways_and_by_night() -> None:
    small = roads.PRESETS["small"]
    train = roads.plan("train", small.train)
    assert Counter(shot.subset for shot in train) == {"default": 18, "town": 4, "night": 1, "wheelchair": 1}
    test = roads.plan("test", small.test)
    assert {shot.subset for shot in test} == {"test", "test_wheelchair"}
    assert {shot.area for shot in test} == {"city", "town", "highway"}
    for shot in train + test:
        if shot.area == "highway" or shot.condition == "night":
            assert shot.chance == (0.0, 0.0, 0.35, 0.0)
        elif shot.subset.endswith("wheelchair"):
            assert shot.chance == (0.2, 0.2, 0.0, 1.0) and shot.condition == "spring"
        else:
            assert shot.chance == MAIN
    assert roads.plan("train", 0) == []
    for n in range(1, 40):
        assert len(roads.plan("train", n)) == n and len(roads.plan("test", n)) == n


@pytest.mark.parametrize(("area", "condition"), [("highway", "spring"), ("city", "night")])
def test_only_cars_are_spawned_where_only_cars_may_be(area: str, condition: str) -> None:
    rng = np.random.default_rng(0)
    look = film.grounds.LOOKS[condition]
    ego = traffic.drive(rng, area, 50, 25.0)
    chance = next(shot.chance for split in roads.SPLITS for shot in roads.plan(split, 97) if shot.condition == "night")
    actors = traffic.spawn(rng, area, look, chance, ego, 25.0)
    assert actors and {actor.label for actor in actors} == {traffic.CAR}
    assert any(part.lamp_m for part in actors[0].parts(0)) == (condition == "night"), "lamps are lit by night"


def test_nobody_is_run_over_by_the_camera() -> None:
    for seed in range(20):
        rng = np.random.default_rng(seed)
        ego = traffic.drive(rng, "city", 100, 25.0)
        for actor in traffic.spawn(rng, "city", film.grounds.LOOKS["spring"], (1.0, 1.0, 1.0, 1.0), ego, 25.0):
            hit = (np.abs(actor.s - ego.s) < 2.5) & (np.abs(actor.t - ego.t) < 0.9)
            assert not hit.any(), traffic.CLASSES[actor.label]


def test_boxes_lie_in_the_image_and_are_large_enough(tiny: Path) -> None:
    found = set()
    for split, clips in (("train", 3), ("test", 2)):
        data = content(tiny, split)
        assert len(data["videos"]) == clips and len(data["images"]) == 12 * clips
        assert [c["name"] for c in data["categories"]] == list(roads.CLASSES)
        for image in data["images"]:
            video = data["videos"][image["video_id"] - 1]
            assert image["file_name"] == f"{video['name']}/{image['frame_id']:06d}.jpg"
            assert (tiny / split / image["file_name"]).is_file()
        for row in data["annotations"]:
            x, y, w, h = row["bbox"]
            assert x >= 0 and y >= 0 and x + w <= 256 and y + h <= 160
            assert roads.MIN_AREA_PX < row["area"] <= w * h and roads.MIN_VISIBLE <= row["visible"] <= 1
            found.add(row["category_id"])
    assert {3, 4} <= found, "cars in train, wheelchairs in test"


def test_a_track_keeps_its_class_and_moves_on_without_jumps(tiny: Path) -> None:
    for split in roads.SPLITS:
        data = content(tiny, split)
        frame = {image["id"]: (image["video_id"], image["frame_id"]) for image in data["images"]}
        tracks: dict[int, list[dict[str, Any]]] = {}
        for row in data["annotations"]:
            tracks.setdefault(row["track_id"], []).append(row)
        assert tracks
        for rows in tracks.values():
            assert len({row["category_id"] for row in rows}) == 1
            assert len({frame[row["image_id"]][0] for row in rows}) == 1
            assert len({row["image_id"] for row in rows}) == len(rows)
            for a, b in pairwise(rows):
                if frame[b["image_id"]][1] == frame[a["image_id"]][1] + 1:
                    step = np.abs(np.array(a["bbox"]) - np.array(b["bbox"]))
                    assert step.max() <= max(10, 0.6 * max(a["bbox"][2:]))


def test_it_reads_back_as_a_pool(tiny: Path) -> None:
    pool = coco.read(tiny, "train")
    assert len(pool) == 36 and pool.classes == roads.CLASSES and pool.problems == ()
    assert pool.truth is not None and len(pool.truth.xyxy) == len(content(tiny, "train")["annotations"])


def test_what_is_near_covers_what_is_far_in_whatever_order_they_are_listed() -> None:
    rng = np.random.default_rng(1)
    empty = film.clip(rng, "city", "spring", (0.0,) * 4, 1, 25.0, (320, 192))
    near = _still(things.car(rng, lit=False, dark=False), 14.0, 1.7)
    far = _still(things.car(rng, lit=False, dark=False), 24.0, 3.2)
    hidden = _still(things.car(rng, lit=False, dark=False), 30.0, 1.7)
    for actors in ([near, far, hidden], [hidden, far, near]):
        clip = replace(empty, actors=actors, stands=[])
        canvas, boxes, _ = clip.paint(0, clip.camera(0))
        share = {box.actor: box.visible for box in boxes}
        assert share[actors.index(near)] == 1.0
        assert roads.MIN_VISIBLE <= share[actors.index(far)] < 0.95
        assert share.get(actors.index(hidden), 0.0) < 0.7
        for box in boxes:  # the owners are numbered from far to near
            rank = sorted(range(3), key=lambda k: -actors[k].s[0]).index(box.actor)
            rows, columns = np.nonzero(canvas.owner == rank)
            hull = (columns.min(), rows.min(), columns.max() + 1, rows.max() + 1)
            assert box.xyxy == hull and box.area_px == len(rows)


def test_a_car_is_as_large_as_a_pinhole_camera_shows_it() -> None:
    rng = np.random.default_rng(2)
    empty = film.clip(rng, "city", "spring", (0.0,) * 4, 1, 25.0, (320, 192))
    for ahead in (10.0, 20.0, 30.0):
        pillar = things.outward([([(-1, 0, 0), (1, 0, 0), (1, 0, 1.5), (-1, 0, 1.5)], (200, 0, 0), 0.0)], (0, 1, 0))
        clip = replace(empty, actors=[_still(pillar, ahead, 1.7)], stands=[])
        _, boxes, _ = clip.paint(0, clip.camera(0))
        x1, y1, x2, y2 = boxes[0].xyxy
        assert abs((x2 - x1) - 0.72 * 320 * 2 / ahead) <= 2.5 and abs((y2 - y1) - 0.72 * 320 * 1.5 / ahead) <= 2.5


def _still(parts: list[things.Part], s: float, t: float) -> traffic.Actor:
    one = np.ones(1)
    return traffic.Actor(traffic.CAR, s * one, t * one, 0 * one, parts, (0.0, 0.0, 0.0), 1.9, 4.5)


def test_flow_at_the_centre_of_a_box_foretells_where_it_is_next() -> None:
    cv2 = pytest.importorskip("cv2")
    rng = np.random.default_rng([0, 0, 0])
    clip = film.clip(rng, "city", "spring", MAIN, 13, 25.0, (320, 192))
    flow = cv2.DISOpticalFlow_create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM)
    good = total = 0
    before = None
    for image, boxes in clip.frames(rng):
        grey = np.asarray(image.convert("L"))
        if before is not None:
            moved = flow.calc(before[0], grey, None)
            now = {box.actor: box.xyxy for box in boxes}
            for box in before[1]:
                if box.actor in now:
                    x1, y1, x2, y2 = box.xyxy
                    dx, dy = moved[(y1 + y2) // 2, (x1 + x2) // 2].tolist()
                    total += 1
                    good += iou((x1 + dx, y1 + dy, x2 + dx, y2 + dy), now[box.actor]) > 0.5
        before = grey, boxes
    assert total >= 12 and good > 0.8 * total, f"{good} of {total}"


def test_nonsense_is_refused_before_anything_is_written(tmp_path: Path) -> None:
    for settings, message in (
        ({"preset": "huge"}, "preset is 'huge'; expected one of paper, small, dense, tiny"),
        ({"train": -1}, "train is -1; expected at least 0"),
        ({"seconds": (3.0, 2.0)}, "seconds"),
        ({"size_px": (32, 200)}, "size_px"),
        ({"fps": 0.0}, "fps is 0.0; expected 1 to 240"),
        ({"density": -1.0}, "density is -1.0; expected 0 to 10"),
    ):
        with pytest.raises(LabelwiseError, match=message):
            roads.write(tmp_path / "r", **settings)
    assert not list(tmp_path.iterdir())
    roads.write(tmp_path / "none", train=0, test=0)
    assert content(tmp_path / "none", "train")["images"] == []


def test_density_raises_the_number_of_objects_and_1_changes_nothing() -> None:
    shots = roads.plan("train", 8)

    def objects(density: float) -> int:
        settings = roads._chosen("tiny", seconds=(0.04, 0.04), density=density)
        return sum(len(boxes) for k, shot in enumerate(shots) for _, boxes in roads._film(rng_of(k), shot, settings))

    plain = roads._chosen("tiny", seconds=(0.04, 0.04))
    before = sum(len(boxes) for k, shot in enumerate(shots) for _, boxes in roads._film(rng_of(k), shot, plain))
    assert objects(1.0) == before
    assert objects(3.0) > 1.5 * before


def rng_of(clip: int) -> np.random.Generator:
    return np.random.default_rng([0, 0, clip])
