"""Augmentation moves pixels, boxes, weights, coverage and ignore regions alike."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torchvision import tv_tensors
from torchvision.transforms.v2 import functional

from labelwise.models import _weighted
from labelwise.train.augment import VISIBLE, Augment, Change, iou_window, recolour

STRONG = Augment(flip=0.5, scale=(0.4, 2.0), iou_crop=0.7)
W, H = 64, 48


def target_of(
    boxes: np.ndarray, negatives: np.ndarray | None = None, ignore: np.ndarray | None = None
) -> dict[str, Tensor]:
    n = len(boxes)
    none = np.zeros((0, 4), np.float32)
    return {
        "boxes": torch.from_numpy(np.asarray(boxes, np.float32).reshape(-1, 4)),
        "labels": torch.arange(n),
        "w_cls": torch.arange(n) / 10,
        "w_box": torch.arange(n) / 20,
        "negatives": torch.from_numpy(none if negatives is None else np.asarray(negatives, np.float32)),
        "ignore": torch.from_numpy(none if ignore is None else np.asarray(ignore, np.float32)),
    }


def some_boxes(rng: np.random.Generator, n: int) -> np.ndarray:
    low = rng.uniform(0, [W - 1, H - 1], (n, 2))
    high = np.minimum(low + rng.uniform(0.3, 25, (n, 2)), [W, H])
    return np.concatenate([low, high], axis=1).astype(np.float32)


def point(change: Change, x: float, y: float) -> tuple[float, float]:
    """Slow: where one point of the image lands, from the three points that say what the change is."""
    (x1, y1, x2, y2), (u1, v1, u2, v2) = change.source, change.place
    u, v = u1 + (x - x1) / (x2 - x1) * (u2 - u1), v1 + (y - y1) / (y2 - y1) * (v2 - v1)
    return (change.width - u if change.mirror else u), v


def rectangle(change: Change, rect: list[float]) -> list[float]:
    """Slow: the hull of the four corners that were moved one by one."""
    corners = [point(change, x, y) for x in rect[::2] for y in rect[1::2]]
    return [f(c[axis] for c in corners) for f in (min, max) for axis in (0, 1)]


def cut(rect: list[float], width: float, height: float) -> list[float]:
    return [min(max(v, 0), width if i % 2 == 0 else height) for i, v in enumerate(rect)]


def area(rect: list[float]) -> float:
    return max(0.0, rect[2] - rect[0]) * max(0.0, rect[3] - rect[1])


@settings(max_examples=150, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), n=st.integers(0, 12))
def test_boxes_and_regions_move_as_their_corners_do(seed: int, n: int) -> None:
    rng = np.random.default_rng(seed)
    boxes, ignored = some_boxes(rng, n), some_boxes(rng, 2)
    covered = np.array([[0, 0, W, H], [0, 5, 20, 30], [W - 20, 5, W, H]])[rng.permutation(3)[: rng.integers(0, 4)]]
    change = STRONG.draw(boxes, W, H, rng)
    got = change.target(target_of(boxes, covered.reshape(-1, 4), ignored))
    kept, remains = [], []
    for row, box in enumerate(boxes.tolist()):
        moved = rectangle(change, box)
        shown = cut(moved, W, H)
        large = min(shown[2] - shown[0], shown[3] - shown[1]) >= 1
        if not change.moves or (area(shown) >= VISIBLE * area(moved) and large):
            kept.append((row, shown))
        elif area(shown) > 0:
            remains.append(shown)
    assert got["labels"].tolist() == [row for row, _ in kept]  # draws at the very threshold do not come up
    torch.testing.assert_close(got["w_cls"], torch.tensor([row / 10 for row, _ in kept]))
    torch.testing.assert_close(got["w_box"], torch.tensor([row / 20 for row, _ in kept]))
    close(got["boxes"], [shown for _, shown in kept])
    close(got["negatives"], regions(change, covered.tolist()))
    close(got["ignore"], regions(change, ignored.tolist()) + remains)


def regions(change: Change, rects: list[list[float]]) -> list[list[float]]:
    """Slow: each region goes on beyond the image's border that it reaches, is moved and cut at the canvas."""
    if not change.moves:
        return [rectangle(change, rect) for rect in rects]
    found = []
    for x1, y1, x2, y2 in rects:
        wide = [
            x1 if x1 > 0.5 else -9e3,
            y1 if y1 > 0.5 else -9e3,
            x2 if x2 < W - 0.5 else 9e3,
            y2 if y2 < H - 0.5 else 9e3,
        ]
        moved = cut(rectangle(change, wide), W, H)
        found += [moved] if min(moved[2] - moved[0], moved[3] - moved[1]) > 1e-3 else []
    return found


def close(got: Tensor, expected: list[list[float]]) -> None:
    torch.testing.assert_close(got, torch.tensor(expected, dtype=torch.float32).reshape(-1, 4), atol=0.02, rtol=1e-4)


@settings(max_examples=100, deadline=None)
@given(seed=st.integers(0, 2**32 - 1))
def test_every_box_still_encloses_its_square(seed: int) -> None:
    """Squares of one colour each on grey: what is left of a colour lies in its box, and fills it."""
    rng = np.random.default_rng(seed)
    pixels = np.full((3, H, W), 90, np.uint8)
    boxes = np.array([[4 + 20 * k, 6 + 9 * k, 16 + 20 * k, 18 + 9 * k] for k in range(3)], np.float32)
    for channel, (x1, y1, x2, y2) in enumerate(boxes.astype(int)):
        pixels[:, y1:y2, x1:x2] = 0
        pixels[channel, y1:y2, x1:x2] = 255
    change = STRONG.draw(boxes, W, H, rng)
    image, got = change.image(pixels), change.target(target_of(boxes))
    assert image.shape == (3, H, W)
    assert image.dtype == torch.float32
    (a, b, c, d), (u, v, right, low) = change.source, change.place
    slack = max(1.0, (right - u) / (c - a), (low - v) / (d - b))  # interpolation runs over a pixel of the image's edges
    for channel in range(3):
        others = [c for c in range(3) if c != channel]
        here = (image[channel] > 0.6) & (image[others].amax(0) < 0.25)
        rows = (got["labels"] == channel).nonzero()
        rects = got["boxes"][rows[0]] if len(rows) else got["ignore"]
        y, x = here.nonzero(as_tuple=True)
        if len(rows):
            x1, y1, x2, y2 = rects[0].tolist()
            assert len(x)
            assert x1 - slack <= x.min() and y1 - slack <= y.min() and x.max() < x2 + slack and y.max() < y2 + slack
            assert here.sum() >= 0.6 * max(x2 - x1 - 2 * slack, 0) * max(y2 - y1 - 2 * slack, 0)
        elif len(x):  # what is left of it is ignored
            x, y = x.float(), y.float()
            ends = [(a - slack, b - slack, c + slack, d + slack) for a, b, c, d in rects.tolist()]
            inside = [(x >= a) & (x < c) & (y >= b) & (y < d) for a, b, c, d in ends]
            assert torch.stack(inside).any(0).all()


def test_pixels_and_boxes_as_torchvision_crops_and_resizes_them() -> None:
    rng = np.random.default_rng(4)
    pixels, boxes = rng.integers(0, 255, (3, H, W), np.uint8), some_boxes(rng, 6)
    change = Change(W, H, (10, 8, 50, 38), (0, 0, W, H))
    named = tv_tensors.BoundingBoxes(torch.from_numpy(boxes), format="XYXY", canvas_size=(H, W))
    expected = functional.resized_crop(named, 8, 10, 30, 40, [H, W])
    got = change.target(target_of(boxes))
    torch.testing.assert_close(got["boxes"], expected.as_subclass(Tensor)[got["labels"]])
    image = functional.resized_crop(torch.from_numpy(pixels), 8, 10, 30, 40, [H, W])
    torch.testing.assert_close(change.image(pixels), image / 255)


def test_around_an_image_is_background_where_its_border_was_looked_over() -> None:
    """Zoomed out by half, in the middle: padding is negative as `models._weighted` has it beyond the border."""
    change = Change(W, H, (0, 0, W, H), (16, 12, 48, 36))
    whole, left = np.array([[0, 0, W, H]]), np.array([[0, 0, 20, H]])
    inner = np.array([[10, 10, 20, 20]])
    size = torch.tensor([H, W], dtype=torch.float32)
    anchors = torch.tensor([[0.0, 0, 10, 10], [50, 2, 62, 8], [30, 20, 34, 24], [70, 0, 80, 10]])  # the last: beyond
    for rects, expected in ((whole, [1, 1, 1, 1]), (left, [1, 0, 0, 0]), (inner, [0, 0, 0, 0])):
        got = change.target(target_of(np.zeros((0, 4)), rects))["negatives"]
        beyond = _weighted._beyond_border(got, size)
        assert _weighted.mostly_inside(anchors, beyond).tolist() == [bool(e) for e in expected]
    image = change.image(np.zeros((3, H, W), np.uint8))
    assert image[:, 12:36, 16:48].max() == 0
    assert image[:, 0, 0].tolist() == pytest.approx([0.485, 0.456, 0.406], abs=0.002)


def test_a_box_that_leaves_is_gone_and_one_that_is_cut_is_ignored() -> None:
    change = Change(W, H, (20, 0, 60, H), (0, 0, W, H))
    boxes = np.array([[0, 0, 10, 10], [14, 0, 22, 10], [18, 0, 30, 10], [40, 5, 40.2, 30]])
    got = change.target(target_of(boxes))
    assert got["labels"].tolist() == [2]
    close(got["boxes"], [[0, 0, 16, 10]])
    close(got["ignore"], [[0, 0, 3.2, 10], [32, 5, 32.32, 30]])
    zoomed = Change(W, H, (0, 0, W, H), (0, 0, 16, 12)).target(target_of(np.array([[0, 0, 3, 30], [0, 0, 8, 8]])))
    assert zoomed["labels"].tolist() == [1]  # the other one is less than a pixel wide now
    close(zoomed["ignore"], [[0, 0, 0.75, 7.5]])


@pytest.mark.parametrize("size", [(1, 1), (3, 200), (200, 3)])
def test_degenerate_images_and_no_boxes(size: tuple[int, int]) -> None:
    width, height = size
    pixels = np.full((3, height, width), 7, np.uint8)
    for seed in range(40):
        change = STRONG.draw(np.zeros((0, 4), np.float32), width, height, np.random.default_rng(seed))
        got = change.target(target_of(np.zeros((0, 4)), np.array([[0, 0, width, height]])))
        assert change.image(pixels).shape == (3, height, width)
        assert [len(got[key]) for key in ("boxes", "labels", "w_cls", "ignore")] == [0] * 4
        close(got["negatives"], [[0, 0, width, height]])


def test_the_same_generator_draws_the_same_and_torch_is_not_asked() -> None:
    boxes, everything = some_boxes(np.random.default_rng(0), 5), Augment(0.5, 0.1, (0.6, 1.4), 0.5, 1.0)
    torch.manual_seed(0)
    before = torch.get_rng_state()
    first = [everything.draw(boxes, W, H, np.random.default_rng(seed)) for seed in range(50)]
    assert first == [everything.draw(boxes, W, H, np.random.default_rng(seed)) for seed in range(50)]
    assert len(set(first)) == 50
    assert torch.equal(torch.get_rng_state(), before)


def test_an_iou_crop_holds_a_centre_and_is_no_smaller_than_said() -> None:
    rng = np.random.default_rng(1)
    for _ in range(300):
        boxes = some_boxes(rng, int(rng.integers(1, 6)))
        x1, y1, x2, y2 = iou_window(boxes, W, H, rng).tolist()
        centre = (boxes[:, :2] + boxes[:, 2:]) / 2
        inside = (centre > [x1, y1]).all(1) & (centre < [x2, y2]).all(1)
        assert inside.any()
        assert 0 <= x1 < x2 <= W and 0 <= y1 < y2 <= H
        assert x2 - x1 >= 0.3 * W - 1e-6 and y2 - y1 >= 0.3 * H - 1e-6
        if (x1, y1, x2, y2) != (0, 0, W, H):
            assert 0.5 <= (x2 - x1) / (y2 - y1) <= 2


def test_colours_as_torchvision_changes_them() -> None:
    image = torch.rand(3, 9, 7, generator=torch.Generator().manual_seed(0)) * 0.5 + 0.2
    for got, expected in (
        (recolour(image, 1.1, 1, 1, 0), functional.adjust_brightness(image, 1.1)),
        (recolour(image, 1, 1.4, 1, 0), functional.adjust_contrast(image, 1.4)),
        (recolour(image, 1, 1, 0.6, 0), functional.adjust_saturation(image, 0.6)),
        (recolour(image, 1, 1, 1.3, 0), functional.adjust_saturation(image, 1.3)),
        (recolour(image, 1, 1, 1, 0), image),
    ):
        torch.testing.assert_close(got, expected, atol=2e-4, rtol=1e-3)
    turned = recolour(image, 1, 1, 1, 0.05)
    assert (turned - image).abs().max() > 0.02
    luma = torch.tensor([0.2989, 0.587, 0.114])
    torch.testing.assert_close(torch.tensordot(luma, turned, 1), torch.tensordot(luma, image, 1), atol=1e-3, rtol=1e-3)
