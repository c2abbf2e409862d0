"""The watch camera: deterministic, mostly empty, in bursts, long-tailed; its test part is balanced, of other places."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from labelwise import catalog, config
from labelwise.data import find
from labelwise.generated import patrol
from labelwise.types import LabelwiseError, Pool


def digest(root: Path) -> dict[str, str]:
    files = sorted(path for path in root.rglob("*") if path.is_file())
    return {path.relative_to(root).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("patrol") / "d"
    patrol.write(folder, train=600, test=60, size_px=64, places=20)
    return folder


def pixels(root: Path, name: str) -> np.ndarray:
    return np.asarray(Image.open(root / name), np.float32)


def in_time(pool: Pool) -> list[int]:
    """The images as they were taken: the number of a frame ends its name."""
    return sorted(range(len(pool)), key=lambda i: pool.names[i].rsplit("_", 1)[-1])


def test_same_seed_same_bytes_other_seed_other_bytes(tmp_path: Path) -> None:
    steps: list[int] = []
    patrol.write(tmp_path / "a", seed=3, train=10, test=4, size_px=64, progress=steps.append)
    patrol.write(tmp_path / "b", seed=3, train=10, test=4, size_px=64)
    patrol.write(tmp_path / "c", seed=4, train=10, test=4, size_px=64)
    first = digest(tmp_path / "a")
    assert first == digest(tmp_path / "b") and len(first) == 10 + 4 + 2 and sum(steps) == 14
    assert not set(first.values()) & set(digest(tmp_path / "c").values())


def test_most_frames_are_empty_and_classes_fall(root: Path) -> None:
    pool, test = find.read(root, "train"), find.read(root, "test")
    assert pool.problems == test.problems == () and len(pool.classes) == 6
    assert pool.truth is not None and test.truth is not None
    empty = np.diff(pool.truth.offsets) == 0
    assert 0.85 <= empty.mean() < 0.87, "90 of 600 have a visit; of these hardly any lost its objects"
    counts = np.bincount(pool.truth.labels, minlength=6)
    assert counts[0] > 6 * counts[5] > 0 and counts[0] == counts.max()
    assert np.diff(pool.truth.offsets).max() <= 4
    assert (np.diff(test.truth.offsets) == 0).mean() == pytest.approx(0.5, abs=0.05)
    assert np.ptp(np.bincount(test.truth.labels, minlength=6)) <= 4, "dealt evenly; a digit may find no place"
    names = [{Path(name).name.split("_")[0] for name in one.names} for one in (pool, test)]
    assert len(names[0]) == 20 and len(names[1]) == 60, "every test image has a place of its own"


def test_frames_of_a_visit_are_nearly_the_same_and_other_frames_are_not(root: Path) -> None:
    pool = find.read(root, "train")
    assert pool.truth is not None
    order = in_time(pool)
    counts = np.diff(pool.truth.offsets)[order]
    busy = [k for k in range(len(order) - 1) if counts[k] and counts[k] == counts[k + 1]]
    near = [np.abs(pixels(root, pool.names[order[k]]) - pixels(root, pool.names[order[k + 1]])).mean() for k in busy]
    far = [np.abs(pixels(root, pool.names[order[k]]) - pixels(root, pool.names[order[k - 60]])).mean() for k in busy]
    assert len(busy) > 30 and np.median(near) < 0.5 * np.median(far)


def test_visits_last_as_long_as_said_and_stay_in_one_place() -> None:
    for seed in range(5):
        visits = patrol.timeline(np.random.default_rng(seed), 200, 31, (2, 4))
        assert len(visits) == 200 and (visits >= 0).sum() == 31
        lengths = np.bincount(visits[visits >= 0])
        assert (lengths[:-1] <= 4).all() and sorted(lengths)[1] >= 2, "the last one may be cut short"
        for visit, length in enumerate(lengths):
            assert np.ptp(np.flatnonzero(visits == visit)) == length - 1, "without a gap"
        where, since = patrol.rooms(visits, 7)
        assert (np.diff(where) >= 0).all() and set(where) == set(range(7))
        for visit in range(len(lengths)):
            assert len(set(where[visits == visit])) == 1
            assert since[visits == visit].tolist() == list(range(lengths[visit]))
        assert not since[visits < 0].any()
    assert patrol.timeline(np.random.default_rng(0), 5, 0, (2, 4)).tolist() == [-1] * 5


@pytest.mark.parametrize(
    ("setting", "expected"),
    [({"empty": 1.2}, "0 to 1"), ({"stay": (0, 2)}, "fewest"), ({"classes": 11}, "2 to 10"), ({"size_px": 32}, "64")],
)
def test_bad_settings_are_refused_before_anything_is_written(
    setting: dict[str, object], expected: str, tmp_path: Path
) -> None:
    with pytest.raises(LabelwiseError, match=expected):
        patrol.write(tmp_path / "d", **setting)  # type: ignore[arg-type]
    assert not (tmp_path / "d").exists()


def test_a_pool_may_be_all_empty_or_never(tmp_path: Path) -> None:
    for empty, lowest, highest in ((1.0, 0, 0), (0.0, 1, 99)):
        patrol.write(tmp_path / str(empty), train=6, test=2, size_px=64, places=2, empty=empty)
        truth = find.read(tmp_path / str(empty), "train").truth
        assert truth is not None and lowest <= len(truth) <= highest


def test_one_source_of_data(tmp_path: Path) -> None:
    recipe = catalog.recipe_files("patrol")
    assert config.load(recipe).data.generated
    with pytest.raises(LabelwiseError, match=r"data\.patrol"):
        config.load(recipe, ["data.scenes={train=3}"])
