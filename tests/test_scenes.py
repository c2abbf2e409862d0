"""The demo set: deterministic, long-tailed, without leakage, every digit annotated where its ink is."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import pytest

from labelwise.data import find
from labelwise.generated import _digits, scenes
from labelwise.types import LabelwiseError


def digest(root: Path) -> dict[str, str]:
    files = sorted(path for path in root.rglob("*") if path.is_file())
    return {path.relative_to(root).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def test_same_seed_same_bytes_other_seed_other_bytes(tmp_path: Path) -> None:
    steps: list[int] = []
    scenes.write(tmp_path / "a", seed=3, train=6, test=3, progress=steps.append)
    scenes.write(tmp_path / "b", seed=3, train=6, test=3)
    scenes.write(tmp_path / "c", seed=4, train=6, test=3)
    first = digest(tmp_path / "a")
    assert first == digest(tmp_path / "b") and len(first) == 6 + 3 + 2 and sum(steps) == 9
    assert not set(first.values()) & set(digest(tmp_path / "c").values())


def test_classes_are_long_tailed_in_train_and_balanced_in_test(tmp_path: Path) -> None:
    scenes.write(tmp_path / "d", train=60, test=30, size_px=128, imbalance=10.0)
    pool, test = find.read(tmp_path / "d", "train"), find.read(tmp_path / "d", "test")
    assert pool.problems == test.problems == () and pool.classes == scenes.CLASSES
    assert pool.truth is not None and test.truth is not None
    counts = np.bincount(pool.truth.labels, minlength=10)
    assert 8 < counts[0] / counts[9] < 12.5 and (np.diff(counts) < 0).all()
    balanced = np.bincount(test.truth.labels, minlength=10)
    assert balanced.max() - balanced.min() <= 4
    assert (pool.width_px == 128).all() and (pool.truth.xyxy >= 0).all() and (pool.truth.xyxy <= 128).all()
    height = pool.truth.xyxy[:, 3] - pool.truth.xyxy[:, 1]
    assert height.min() < 14 and height.max() > 30, "several scales"


def test_one_class_holds_two_in_five_and_few_objects_stand_in_an_image(tmp_path: Path) -> None:
    voc = {"classes": 20, "most": 0.4, "imbalance": 12.0, "digits": (1, 10), "mean": 2.7, "size_px": 96}
    scenes.write(tmp_path / "v", train=150, test=40, scale=(0.18, 0.4), crowding=0.3, **voc)  # type: ignore[arg-type]
    pool, test = find.read(tmp_path / "v", "train"), find.read(tmp_path / "v", "test")
    assert pool.classes == scenes.ALL_CLASSES and pool.truth is not None and test.truth is not None
    counts, per_image = np.bincount(pool.truth.labels, minlength=20), np.diff(pool.truth.offsets)
    assert counts[0] / counts.sum() == pytest.approx(0.4, abs=0.02)
    assert 7 < counts[1] / counts[19] < 20 and (np.diff(counts[1:]) <= 1).all()
    assert per_image.mean() == pytest.approx(2.7, abs=0.5) and np.bincount(per_image).argmax() == 1
    assert np.ptp(np.bincount(test.truth.labels, minlength=20)) <= 3, "the test part is balanced"


def test_an_outline_is_the_digit_without_its_inside() -> None:
    ink = np.zeros((40, 30), np.float32)
    ink[5:35, 5:25] = 1
    line = _digits.outline(ink)
    assert (line[5:7] == ink[5:7]).all() and (line[:, 23:] == ink[:, 23:]).all() and not line[7:33, 7:23].any()


def test_train_and_test_share_no_scan_and_all_are_used() -> None:
    train, test = _digits.scans(0)
    keys = [{scan.tobytes() for scans in part for scan in scans} for part in (train, test)]
    assert not keys[0] & keys[1]
    assert sum(len(scans) for part in (train, test) for scans in part) == 1797
    other, _ = _digits.scans(1)
    assert not all(np.array_equal(a, b) for a, b in zip(train, other, strict=True))


def test_every_digit_can_be_seen_and_its_box_is_the_hull_of_its_ink() -> None:
    train, _ = _digits.scans(0)
    covered = 0
    for seed in range(12):
        rng = np.random.default_rng(seed)
        scene = scenes._draw(rng, rng.integers(0, 10, 10), train, 128, (0.1, 0.4), 0.8, 0.5)
        for k, (x1, y1, x2, y2) in enumerate(scene.boxes):
            rows, columns = np.nonzero(scene.owner == k)
            assert len(rows) == scene.visible[k] >= scenes.MIN_VISIBLE * scene.ink[k]
            assert x1 <= columns.min() and columns.max() < x2 and y1 <= rows.min() and rows.max() < y2
            whole = scene.visible[k] == scene.ink[k]
            covered += not whole
            if whole:
                assert (columns.min(), rows.min(), columns.max() + 1, rows.max() + 1) == (x1, y1, x2, y2)
    assert covered > 10, "digits cover one another"


def test_bad_settings_are_refused_before_anything_is_written(tmp_path: Path) -> None:
    for settings, message in (
        ({"imbalance": 0.5}, "imbalance is 0.5; expected at least 1"),
        ({"digits": (5, 2)}, "digits"),
        ({"scale": (0.5, 0.9)}, "scale"),
        ({"size_px": 10}, "size_px"),
        ({"crowding": 2.0}, "crowding"),
        ({"most": 1.0}, "most is 1.0"),
        ({"mean": 3.0}, "mean is 3.0; expected above the fewest"),
        ({"classes": 21}, "2 to 20"),
    ):
        with pytest.raises(LabelwiseError, match=message):
            scenes.write(tmp_path / "d", **settings)
    (tmp_path / "d").mkdir()
    (tmp_path / "d" / "precious.txt").write_text("mine")
    with pytest.raises(LabelwiseError, match="exists already"):
        scenes.write(tmp_path / "d", train=1, test=1)
    assert [path.name for path in tmp_path.rglob("*")] == ["d", "precious.txt"]
