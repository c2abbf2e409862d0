"""What stands between the folders: candidates of every unit, lifting of scores, which objects are annotated."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from labelwise import files
from labelwise.project.round import Round
from labelwise.stages.ranking import _next
from labelwise.stages.simulation import _annotated
from labelwise.types import Boxes, Detections, Pool
from labelwise.units import Candidates, Shard, image, region
from labelwise.units._lift import lift_scores


def detections(image: list[int], boxes: list, n_images: int, classes: int = 3) -> Detections:
    n = len(image)
    probs = np.full((n, classes), 0.1, np.float32)
    probs[np.arange(n), np.arange(n) % classes] = 1 - 0.1 * (classes - 1)
    offsets = np.searchsorted(image, np.arange(n_images + 1)).astype(np.int64)
    xyxy = np.array(boxes, np.float32).reshape(-1, 4)
    return Detections(offsets, xyxy, probs, np.full(n, 0.5, np.float32), np.zeros((n, 0), np.float32))


@pytest.mark.parametrize("how", ["mean", "max", "sum", "random"])
def test_lifting_against_a_loop(how: str) -> None:
    rng = np.random.default_rng(0)
    for _ in range(20):
        counts = rng.integers(0, 4, 9)
        value, offsets = rng.random(counts.sum()), np.concatenate([[0], np.cumsum(counts)])
        got = lift_scores(value, offsets, how, np.random.default_rng(1))
        for k, one in enumerate(got):
            own = value[offsets[k] : offsets[k + 1]]
            expected = {"mean": np.mean, "max": np.max, "sum": np.sum}.get(how)
            if not len(own):
                assert one == 0
            elif expected is None:
                assert one in own
            else:
                assert one == pytest.approx(expected(own))


def test_images_hold_their_open_detections_and_their_class_mix() -> None:
    boxes = detections([0, 0, 2, 2, 2], [[0, 0, 1, 1]] * 5, 4)
    found = image.candidates(Shard((boxes,), 10, np.arange(5), np.array([0, 2, 3]), np.ones((4, 2)), 32))
    assert found.image.tolist() == [10, 12, 13] and found.offsets.tolist() == [0, 2, 5, 5]
    assert found.members.tolist() == [0, 1, 2, 3, 4]
    np.testing.assert_allclose(found.mix(3), [[0.5, 0.5, 0], [1 / 3, 1 / 3, 1 / 3], [0, 0, 0]], atol=1e-6)


def test_regions_are_windows_of_the_image_size_at_every_scale() -> None:
    size = np.array([[100.0, 50.0], [40.0, 80.0]])
    small = [[2, 2, 12, 12], [80, 30, 95, 45], [10, 10, 20, 20]]
    parts = tuple(detections([0, 0, 1], small, 2) for _ in range(2))
    found = region.candidates(Shard(parts, 5, np.zeros(0, int), np.arange(2), size, 50, (1.0, 2.0)))
    at_1, at_2 = (found.scale == 0, found.scale == 1)
    assert found.xyxy[at_1].tolist() == [[0, 0, 100, 50], [0, 0, 40, 80]], "at scale 1 the region is the image"
    widths = found.xyxy[at_2][:, 2:] - found.xyxy[at_2][:, :2]
    np.testing.assert_allclose(widths, [[50, 25], [50, 25], [20, 40]])
    assert found.image[at_2].tolist() == [5, 5, 6]
    for k in np.flatnonzero(at_2):
        for member in found.members[found.offsets[k] : found.offsets[k + 1]]:
            box, window = small[member - 3], found.xyxy[k]
            assert (box[:2] >= window[:2]).all() and (box[2:] <= window[2:]).all()


def test_an_annotation_marks_the_object_it_is_of() -> None:
    truth = Boxes(
        np.array([0, 3, 5]),
        np.array([[0, 0, 10, 10], [0, 0, 10, 10], [1, 0, 11, 10], [0, 0, 10, 10], [50, 50, 60, 60]], np.float32),
        np.array([0, 0, 0, 1, 1]),
    )
    whole = Boxes(np.array([0, 1, 1]), np.array([[0, 0, 10, 10]], np.float32), np.array([0]))
    assert _annotated(truth, whole).tolist() == [True, True, False, False, False], "both rows of the doubled object"
    cut = Boxes(np.array([0, 0, 1]), np.array([[52, 50, 60, 60]], np.float32), np.array([1]))
    assert _annotated(truth, cut).tolist() == [False, False, False, False, True], "an object cropped to a region"
    other = Boxes(np.array([0, 0, 1]), np.array([[50, 50, 60, 60]], np.float32), np.array([0]))
    assert not _annotated(truth, other).any(), "another class is another object"


def test_regions_inside_what_is_covered_are_passed_over(tmp_path: Path) -> None:
    pool = Pool(__file__, ("a",), ("x.jpg", "y.jpg"), np.array([20, 20]), np.array([20, 20]))  # type: ignore[arg-type]
    corners = np.array([[0, 0, 10, 10], [0, 0, 20, 20], [5, 5, 15, 15], [0, 0, 10, 10]], np.float32)
    picks = {"image": np.array([0, 0, 0, 1]), "label": np.full(4, -1), "magnification": np.ones(4), "score": np.ones(4)}
    picks |= {"row": np.full(4, -1), **{name: corners[:, k] for k, name in enumerate(("x1", "y1", "x2", "y2"))}}
    covered = {0: [np.array([0, 0, 12, 12], np.float32)]}
    run = SimpleNamespace(query=SimpleNamespace(asked=("region",)))
    now = Round(SimpleNamespace(pool=pool, run=run), 1)  # type: ignore[arg-type]
    files.write_table(tmp_path / "picks.parquet", picks)
    now.picks = files.TableFile(tmp_path / "picks.parquet")
    assert [q.rank for q in _next(now, 0, 9, covered)] == [1, 2, 3]
    assert [q.rank for q in _next(now, 2, 1, covered)] == [2]
    covered[0].append(np.array([0, 0, 20, 20], np.float32))
    assert [q.rank for q in _next(now, 0, 9, covered)] == [3]


def test_parts_are_one_table() -> None:
    parts = (detections([0], [[0, 0, 1, 1]], 1), detections([0, 0], [[0, 0, 2, 2]] * 2, 1))
    nothing = np.zeros(1, np.int64)
    found = Candidates(
        parts, nothing, nothing, nothing, np.zeros((1, 4), np.float32), np.array([0, 2]), np.array([0, 2])
    )
    assert found.column("boxes")[:, 2].tolist() == [1, 2, 2]
    np.testing.assert_allclose(found.mix(3), [[0.5, 0.5, 0]])
