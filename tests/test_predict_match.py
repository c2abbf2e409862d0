"""The counterpart of a box: fast against a loop over boxes, random and degenerate."""

from __future__ import annotations

import numpy as np
import pytest

from labelwise.predict import match as matching
from labelwise.predict.match import match, onto_image, onto_view


def random_boxes(rng: np.random.Generator, n: int) -> np.ndarray:
    start = rng.integers(0, 20, (n, 2))  # on a coarse grid, so that ties and equal boxes occur
    return np.concatenate([start, start + rng.integers(1, 12, (n, 2))], axis=1).astype(np.float32)


def offsets_for(counts: np.ndarray) -> np.ndarray:
    return np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)


def slow_match(boxes, offsets, seen, seen_offsets):
    iou, row = np.zeros(len(boxes), np.float32), np.full(len(boxes), -1)
    for image in range(len(offsets) - 1):
        for r in range(offsets[image], offsets[image + 1]):
            for s in range(seen_offsets[image], seen_offsets[image + 1]):
                a, b = boxes[r], seen[s]
                width = max(np.float32(0), min(a[2], b[2]) - max(a[0], b[0]))
                height = max(np.float32(0), min(a[3], b[3]) - max(a[1], b[1]))
                union = (a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - width * height
                if width * height > 0 and width * height / union > iou[r]:
                    iou[r], row[r] = width * height / union, s
    return iou, row


@pytest.mark.parametrize("pairs", [1, 40, 1 << 18])
def test_equals_the_loop_whatever_the_size_of_a_block(pairs: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(matching, "PAIRS", pairs)
    for seed in range(20):
        rng = np.random.default_rng(seed)
        offsets, seen_offsets = offsets_for(rng.integers(0, 7, 12)), offsets_for(rng.integers(0, 5, 12))
        boxes, seen = random_boxes(rng, offsets[-1]), random_boxes(rng, seen_offsets[-1])
        iou, row = match(boxes, offsets, seen, seen_offsets)
        slow_iou, slow_row = slow_match(boxes, offsets, seen, seen_offsets)
        np.testing.assert_array_equal(row, slow_row)
        np.testing.assert_allclose(iou, slow_iou, rtol=1e-6)


@pytest.mark.parametrize(("k", "m"), [(0, 0), (0, 3), (3, 0)])
def test_nothing_to_match(k: int, m: int) -> None:
    rng = np.random.default_rng(0)
    iou, row = match(random_boxes(rng, k), np.array([0, k]), random_boxes(rng, m), np.array([0, m]))
    assert iou.tolist() == [0.0] * k and row.tolist() == [-1] * k


def test_a_box_without_area_matches_nothing() -> None:
    point = np.array([[5, 5, 5, 5]], np.float32)
    iou, row = match(point, np.array([0, 1]), point, np.array([0, 1]))
    assert iou.tolist() == [0.0] and row.tolist() == [-1]


def test_the_hull_of_a_turned_box_is_that_of_its_corners() -> None:
    rng = np.random.default_rng(1)
    boxes, affine = random_boxes(rng, 30), rng.normal(size=(30, 2, 3)).astype(np.float32)
    for box, one, hull in zip(boxes, affine, onto_view(boxes, affine), strict=True):
        corners = np.array([[x, y, 1] for x in box[::2] for y in box[1::2]]) @ one.T
        np.testing.assert_allclose(hull, [*corners.min(axis=0), *corners.max(axis=0)], rtol=1e-4, atol=1e-4)


def test_the_way_back_from_a_view_is_the_inverse() -> None:
    """Of turns, shears, mirrors and scales: the box whose hull is seen, found box by box by solving for its sides."""
    rng = np.random.default_rng(2)
    boxes, affine = random_boxes(rng, 60), rng.normal(size=(60, 2, 3)).astype(np.float32)
    affine[:20, 0, 1] = affine[:20, 1, 0] = 0  # mirrored and scaled alone: exact
    back = onto_image(onto_view(boxes, affine), affine)
    assert np.isfinite(back).all() and back.dtype == np.float32
    told = (back[:, 2:] > back[:, :2]).all(axis=1)
    assert told[:20].all() and told.mean() > 0.7
    np.testing.assert_allclose(back[:20], boxes[:20], rtol=1e-3, atol=1e-2)
    for box, one, found in zip(boxes[told], affine[told].astype(float), back[told], strict=True):
        sides = np.linalg.solve(np.abs(one[:, :2]), (np.abs(one[:, :2]) @ (box[2:] - box[:2])))
        np.testing.assert_allclose(found[2:] - found[:2], sides, rtol=1e-2, atol=1e-2)
        np.testing.assert_allclose(found[2:] + found[:2], box[2:] + box[:2], rtol=1e-2, atol=1e-2)


def test_what_no_box_of_the_image_looks_like_has_no_area_there() -> None:
    box, half = np.array([[10, 10, 30, 30]], np.float32), np.sqrt(0.5)
    eighth = np.array([[[half, half, 0], [-half, half, 0]]], np.float32)  # 45 degrees: width and height are lost
    thin = np.array([[10, 10, 11, 60]], np.float32)
    turn = np.array([[[0.9, 0.4, 0], [-0.4, 0.9, 0]]], np.float32)
    flat = np.zeros((1, 2, 3), np.float32)
    for seen, affine in ((box, eighth), (thin, turn), (box, flat)):
        back = onto_image(seen, affine)
        assert np.isfinite(back).all() and not (back[:, 2:] > back[:, :2]).any()
    assert onto_image(box[:0], turn[:0]).shape == (0, 4)
