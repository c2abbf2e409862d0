"""Region candidates: identical to the pixel scan of Algorithm 1 (003), ties included."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from labelwise.types import LabelwiseError
from labelwise.units import _windows as module
from labelwise.units._windows import Windows, windows

Case = tuple[np.ndarray, tuple[int, int], tuple[int, int]]
"""Boxes of one image, its width and height, width and height of the window."""
Picks = list[tuple[int, int, list[int], int]]
"""Of every window: x, y, members, new."""


def scan(boxes: np.ndarray, size: tuple[int, int], window: tuple[int, int]) -> tuple[Picks, int]:
    """Algorithm 1: all windows at whole pixels, the one with most uncovered boxes first; and what stays uncovered."""
    w, h = min(window[0], size[0]), min(window[1], size[1])
    x0, y0 = np.meshgrid(np.arange(size[0] - w + 1.0), np.arange(size[1] - h + 1.0), indexing="ij")  # x outer, y inner
    x1, y1, x2, y2 = boxes.astype(np.float64).T[:, :, None, None]
    inside = (x0 <= x1) & (y0 <= y1) & (x2 <= x0 + w) & (y2 <= y0 + h)
    is_open, picks = np.ones(len(boxes), bool), []
    while (depth := inside[is_open].sum(axis=0)).any():
        at = np.unravel_index(depth.argmax(), depth.shape)
        members = inside[:, *at]
        picks.append((int(at[0]), int(at[1]), np.flatnonzero(members).tolist(), int(depth.max())))
        is_open &= ~members
    return picks, int(is_open.sum())


def call(cases: list[Case]) -> Windows:
    offsets = np.cumsum([0, *(len(boxes) for boxes, _, _ in cases)])
    boxes = np.concatenate([np.zeros((0, 4), np.float32), *(boxes for boxes, _, _ in cases)])
    sizes = (np.array([case[i] for case in cases], np.int64).reshape(-1, 2) for i in (1, 2))
    return windows(offsets, boxes, *sizes)


def check(cases: list[Case]) -> None:
    found, first, row, uncovered = call(cases), 0, 0, 0
    assert found.xyxy.dtype == np.float32 and found.members.dtype == found.offsets.dtype == np.int64
    assert found.image.dtype == found.new.dtype == np.int64 and found.offsets[-1] == len(found.members)
    assert len(found.image) == len(found.xyxy) == len(found.new) == len(found.offsets) - 1
    for image, (boxes, size, window) in enumerate(cases):
        expected, missed = scan(boxes, size, window)
        got = []
        while first < len(found.image) and found.image[first] == image:
            members = found.members[found.offsets[first] : found.offsets[first + 1]] - row
            x1, y1, x2, y2 = found.xyxy[first].astype(int).tolist()
            assert (x2 - x1, y2 - y1) == (min(window[0], size[0]), min(window[1], size[1]))
            got.append((x1, y1, members.tolist(), int(found.new[first])))
            first += 1
        assert got == expected, (boxes.tolist(), size, window)
        row, uncovered = row + len(boxes), uncovered + missed
    assert first == len(found.image) and found.uncovered == uncovered


def random_case(rng: np.random.Generator) -> Case:
    """Small enough for ties, borders and boxes that fit nowhere to be common."""
    size, window = rng.integers(1, 13, 2), rng.integers(1, 15, 2)
    n = rng.integers(0, 11)
    low = rng.random((n, 2)) * (size + 4) - 2
    boxes = np.concatenate([low, low + rng.random((n, 2)) ** 2 * (window + 1)], axis=1)
    style = rng.integers(0, 4)
    if style:  # whole pixels, halves or eighths; the rest are any floats
        boxes = np.round(boxes * (grid := (1, 2, 8)[style - 1])) / grid
    if rng.random() < 0.4:
        boxes = np.clip(boxes, 0, [*size, *size])  # as detectors cut them: many touch the border
    if n and rng.random() < 0.3:
        boxes = boxes[rng.integers(0, n, n)]  # identical boxes
    if rng.random() < 0.2:
        boxes[: n // 2, 2:] = boxes[: n // 2, :2]  # without area
    return boxes.astype(np.float32), tuple(size.tolist()), tuple(window.tolist())


@pytest.mark.parametrize("images", [1, 40, 1000])
def test_identical_to_the_scan_on_random_cases(images):
    rng, calls = np.random.default_rng(images), {1: 1000, 40: 100, 1000: 5}[images]
    for _ in range(calls):
        check([random_case(rng) for _ in range(images)])


number = st.one_of(
    st.integers(-3, 12).map(float), st.floats(-3, 15, width=32), st.sampled_from([0.0, 1e-30, -1e-30, 3.4e38, -3.4e38])
)
box = st.tuples(number, number, number, number).map(
    lambda b: (min(b[0], b[2]), min(b[1], b[3]), max(b[0], b[2]), max(b[1], b[3]))
)
pair = st.tuples(st.integers(1, 11), st.integers(1, 11))
case = st.tuples(
    st.lists(box, max_size=9).map(lambda rows: np.array(rows, np.float32).reshape(-1, 4)),
    pair,
    pair,
)


@given(st.lists(case, max_size=4))
def test_identical_to_the_scan(cases):
    check(cases)


@pytest.mark.parametrize("block", [1, 300, 1 << 22])
def test_the_batches_do_not_matter(block, monkeypatch):
    monkeypatch.setattr(module, "BLOCK", block)
    rng = np.random.default_rng(5)
    check([random_case(rng) for _ in range(60)])


def test_a_large_image_with_many_boxes():
    rng = np.random.default_rng(2)
    low = rng.random((150, 2)) * (300, 150)
    boxes = np.concatenate([low, low + rng.random((150, 2)) ** 3 * 100], axis=1).astype(np.float32)
    check([(boxes, (320, 160), (128, 64))])


def test_every_box_that_fits_is_covered_once_as_new():
    rng = np.random.default_rng(3)
    found = call([random_case(rng) for _ in range(300)])
    total = len(np.unique(found.members))
    assert found.new.sum() == total and (found.new >= 1).all()
    assert (found.new <= np.diff(found.offsets)).all()
    within = np.diff(found.image) == 0  # a later window of an image never covers more new boxes
    assert (np.diff(found.new)[within] <= 0).all()


@pytest.mark.parametrize("cases", [[], [(np.zeros((0, 4), np.float32), (5, 4), (2, 2))] * 3])
def test_nothing_to_cover(cases):
    found = call(cases)
    assert found.xyxy.shape == (0, 4) and found.offsets.tolist() == [0] and found.uncovered == 0
    assert found.image.shape == found.members.shape == found.new.shape == (0,)


def test_one_float32_step_beyond_a_pixel_counts():
    boxes = np.array([[2.9999998, 0, 5.0000005, 1]], np.float32)
    assert call([(boxes, (9, 1), (4, 1))]).xyxy.tolist() == [[2, 0, 6, 1]]
    assert call([(boxes, (9, 1), (3, 1))]).uncovered == 1
    tiny = np.array([[0, 0, 4 + 5e-7, 1]], np.float32)  # one float32 step larger than the window
    assert call([(tiny, (9, 1), (4, 1))]).uncovered == 1


def test_a_window_larger_than_the_image_is_the_image():
    boxes = np.array([[0, 0, 3, 3], [1, 1, 9, 5], [-0.5, 0, 1, 1]], np.float32)
    found = call([(boxes, (9, 5), (20, 20))])
    assert found.xyxy.tolist() == [[0, 0, 9, 5]] and found.members.tolist() == [0, 1] and found.uncovered == 1


def test_inputs_are_not_modified():
    rng = np.random.default_rng(4)
    boxes, size, window = random_case(rng)
    args = (np.array([0, len(boxes)]), boxes, np.array([size]), np.array([window]))
    before = [a.copy() for a in args]
    windows(*args)
    assert all((a == b).all() for a, b in zip(args, before, strict=True))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"boxes": np.array([[0, 0, 1, 1], [3, 0, 2, 1]], np.float32)}, r"row 1 is \[3.0, 0.0, 2.0, 1.0\]"),
        ({"boxes": np.array([[0, 0, 1, 1], [0, np.nan, 2, 1]], np.float32)}, r"row 1 is not finite"),
        ({"boxes": np.zeros((2, 4))}, "float32"),
        ({"offsets": np.array([0, 1])}, "offsets"),
        ({"size_px": np.array([[0, 4]])}, r"size_px: image 0 is \[0, 4\]"),
        ({"size_px": np.array([[1 << 25, 4]])}, "size_px: image 0"),
        ({"window_px": np.array([[4, -1]])}, r"window_px: image 0 is \[4, -1\]"),
        ({"window_px": np.array([4, 4])}, r"window_px: expected whole numbers of shape \(1, 2\)"),
        ({"window_px": np.array([[4.0, 4.0]])}, "window_px: expected whole numbers"),
    ],
)
def test_refuses_bad_input(change, message):
    boxes = np.array([[0, 0, 1, 1], [0, 0, 2, 1]], np.float32)
    good = {"offsets": np.array([0, 2]), "boxes": boxes, "size_px": np.array([[8, 4]]), "window_px": np.array([[4, 4]])}
    with pytest.raises(LabelwiseError, match=message):
        windows(**(good | change))
