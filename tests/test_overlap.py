"""Overlap and resize: one definition each, with the bits of the definitions that it took the place of."""

from __future__ import annotations

import numpy as np
import pytest

from labelwise.types.overlap import iou_matrix, iou_pairs
from labelwise.types.resize import scaled_size


def random_boxes(seed: int, *shape: int, whole: bool) -> np.ndarray:
    rng = np.random.default_rng(seed)
    start = rng.uniform(0, 60, (*shape, 2))
    xyxy = np.concatenate([start, start + rng.uniform(0, 40, (*shape, 2))], axis=-1)
    return (np.round(xyxy) if whole else xyxy).astype(np.float32)  # rounded: ties, and boxes without area


def of_tracks(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """As `tracks/links.py` and `evaluate/true_errors.py` wrote it: float64, pair by pair."""
    a, b = a.astype(np.float64), b.astype(np.float64)
    shared = (np.minimum(a[:, 2:], b[:, 2:]) - np.maximum(a[:, :2], b[:, :2])).clip(0).prod(axis=1)
    area = (a[:, 2:] - a[:, :2]).prod(axis=1) + (b[:, 2:] - b[:, :2]).prod(axis=1)
    iou = np.zeros(len(a))
    touch = shared > 0
    iou[touch] = shared[touch] / (area - shared)[touch]
    return iou


def of_people(a: tuple[float, ...], b: tuple[float, ...]) -> float:
    """As `ledger/agreement.py` wrote it."""
    wide, high = min(a[2], b[2]) - max(a[0], b[0]), min(a[3], b[3]) - max(a[1], b[1])
    both = max(wide, 0.0) * max(high, 0.0)
    return both / ((a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - both) if both else 0.0


def of_views(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """As `predict/match.py` wrote it: float32, image by image."""
    area_a = (a[..., 2] - a[..., 0]) * (a[..., 3] - a[..., 1])
    area_b = (b[..., 2] - b[..., 0]) * (b[..., 3] - b[..., 1])
    a, b = a[:, :, None, :], b[:, None, :, :]
    width = np.minimum(a[..., 2], b[..., 2]) - np.maximum(a[..., 0], b[..., 0])
    height = np.minimum(a[..., 3], b[..., 3]) - np.maximum(a[..., 1], b[..., 1])
    shared: np.ndarray = width.clip(min=0) * height.clip(min=0)
    union = area_a[:, :, None] + area_b[:, None, :] - shared
    np.divide(shared, union, out=shared, where=union > 0)
    return shared


@pytest.mark.parametrize("whole", [True, False])
@pytest.mark.parametrize("seed", range(5))
def test_the_overlaps_of_before_bit_for_bit(seed: int, whole: bool) -> None:
    a, b = (random_boxes(2 * seed + k, 4, 30, whole=whole) for k in (0, 1))
    flat_a, flat_b = a.reshape(-1, 4), b.reshape(-1, 4)
    assert iou_pairs(flat_a, flat_b).tobytes() == of_tracks(flat_a, flat_b).tobytes()
    views = iou_matrix(a, b)
    assert views.dtype == np.float32 and views.tobytes() == of_views(a, b).tobytes()
    people = iou_matrix(a[0].astype(np.float64), b[0].astype(np.float64))
    assert people.tolist() == [[of_people(x, y) for y in b[0].tolist()] for x in a[0].tolist()]


@pytest.mark.parametrize("longest_px", [8, 97, 256, 640])
@pytest.mark.parametrize("scale", [1.0, 0.5, 1.3])
def test_the_sizes_of_before_bit_for_bit(longest_px: int, scale: float) -> None:
    size = np.random.default_rng(0).integers(1, 3000, (500, 2))
    size = np.concatenate([size, [[1, 4000], [4000, 1], [640, 480]]])
    base = longest_px / size.max(axis=1, keepdims=True)
    of_regions = np.maximum(1, np.round(size * base * scale)) / size  # as `stages/candidates.py` wrote it
    assert (scaled_size(size, longest_px, scale) / size).tobytes() == of_regions.tobytes()
    assert np.array_equal(scaled_size(size, longest_px, scale), np.round(size * of_regions))
    if scale == 1:
        of_tracker = np.maximum(1, np.round(size * (longest_px / size.max(axis=1, keepdims=True)))) / size
        of_images = [np.maximum(1, np.round(s * (longest_px / s.max()))).astype(int) for s in size]
        assert (scaled_size(size, longest_px) / size).tobytes() == of_tracker.tobytes()
        assert np.array_equal([scaled_size(s, longest_px) for s in size], of_images)
