"""Labelled regions as crops: against a slow loop, and worked by hand."""

from __future__ import annotations

import numpy as np
import pytest

from labelwise.labels import background
from labelwise.targets.partial import targets
from labelwise.types import Boxes, Detections, Labels, LabelwiseError, Rects, Targets

SIZE = np.array([20, 20], np.int64)


def weigh(open_: dict) -> object:
    return background.weigh(open_["scores"])


def made(known: Labels, regions: str, crowd: Rects | None = None) -> Targets:
    n = len(known.answered)
    size = np.full(n, 20, np.int64)
    return targets(known, None, weigh, "everywhere", size, size, crowd, regions=regions)  # type: ignore[arg-type]


def known_of(boxes: list, covered: list, images: int = 2, marks: list | None = None) -> Labels:
    """Rows (image, x1, y1, x2, y2)."""
    b, c, m = (np.array(rows, np.float32).reshape(-1, 5) for rows in (boxes, covered, marks or []))
    annotations = Boxes.from_rows(b[:, 0].astype(int), b[:, 1:], np.arange(len(b)), images)
    coverage = Rects.from_rows(c[:, 0].astype(int), c[:, 1:], images)
    background_marks = Rects.from_rows(m[:, 0].astype(int), m[:, 1:], images)
    return Labels(annotations, coverage, background_marks, np.ones(images, bool))


def test_a_region_becomes_a_crop_with_the_objects_in_it() -> None:
    # region 0..10 of image 1: the first box lies in it, the second by 8/10, the third by 5/10 only
    known = known_of([[1, 2, 2, 6, 6], [1, 2, 2, 12, 4], [1, 5, 5, 15, 7]], [[1, 0, 0, 10, 10]])
    got = made(known, "crops")
    assert got.images.tolist() == [1, 1], "the third box is outside of the region, so the image keeps an entry"
    assert got.windows.tolist() == [[0, 0, 20, 20], [0, 0, 10, 10]]
    assert got.offsets.tolist() == [0, 3, 5]
    assert got.boxes[3:].tolist() == [[2, 2, 6, 6], [2, 2, 10, 4]] and got.labels[3:].tolist() == [0, 1]
    assert got.negatives.of(1).tolist() == [[0, 0, 10, 10]] and (got.w_cls == 1).all()


def test_an_image_of_which_only_regions_are_known_is_no_entry_unless_both_are_wanted() -> None:
    known = known_of([[0, 2, 2, 6, 6]], [[0, 0, 0, 10, 10], [0, 5, 5, 15, 15], [1, 0, 0, 20, 20]])
    assert made(known, "crops").images.tolist() == [1, 0, 0]
    assert made(known, "both").images.tolist() == [0, 1, 0, 0]
    assert made(known, "coverage").images.tolist() == [0, 1]
    marked = known_of([], [[0, 0, 0, 10, 10]], marks=[[0, 11, 11, 13, 13]])
    assert made(marked, "crops").images.tolist() == [0, 0], "a background mark is more than the region knows"


def test_crowds_are_cut_to_the_region() -> None:
    known = known_of([[0, 1, 1, 3, 3]], [[0, 0, 0, 10, 10]])
    crowd = Rects.from_rows(np.array([0, 0]), np.array([[8, 8, 14, 14], [12, 12, 14, 14]]), 2)
    got = made(known, "crops", crowd)
    assert got.ignore.of(0).tolist() == [[8, 8, 10, 10]]


def test_without_regions_nothing_changes_and_an_unknown_word_is_refused() -> None:
    known = known_of([[0, 1, 1, 3, 3]], [[1, 0, 0, 20, 20]])
    for regions in ("crops", "coverage", "both"):
        assert made(known, regions).images.tolist() == [0, 1]
    with pytest.raises(LabelwiseError, match=r"expected .*crops"):
        made(known, "cropped")


@pytest.mark.parametrize("seed", range(20))
def test_crops_against_a_loop(seed: int) -> None:
    rng = np.random.default_rng(seed)

    def rows(n: int) -> list:
        low = rng.integers(0, 12, (n, 2))
        return np.column_stack([rng.integers(0, 3, n), low, low + rng.integers(1, 8, (n, 2))]).tolist()

    boxes, regions = rows(12), rows(5)
    got = made(known_of(boxes, regions, images=3), "both")
    n_whole = len(np.unique([r[0] for r in boxes + regions]))
    order = sorted(range(5), key=lambda k: (regions[k][0], k))
    for entry, k in enumerate(order, start=n_whole):
        image, *window = regions[k]
        expected = []
        for row in sorted(range(12), key=lambda r: (boxes[r][0], r)):
            x1, y1, x2, y2 = boxes[row][1:]
            cut = [max(x1, window[0]), max(y1, window[1]), min(x2, window[2]), min(y2, window[3])]
            area = max(cut[2] - cut[0], 0) * max(cut[3] - cut[1], 0)
            if boxes[row][0] == image and area > 0.7 * (x2 - x1) * (y2 - y1):
                expected.append(cut)
        assert got.images[entry] == image and got.windows[entry].tolist() == window
        assert got.boxes[got.offsets[entry] : got.offsets[entry + 1]].tolist() == expected


def test_what_a_border_cuts_off_is_ignored_if_that_is_wanted() -> None:
    # region 0..10 of image 0. Annotated: half of the first lies in it, the second touches it, the third belongs to it.
    known = known_of([[0, 5, 5, 15, 7], [0, 10, 0, 14, 4], [0, 2, 2, 12, 4]], [[0, 0, 0, 10, 10]])
    # predicted: the first is cut at 4 of its 10 columns, 0.6 of it lies inside; of the second 0.8
    boxes = np.array([[4, 8, 14, 9], [2, 8, 12, 9]], np.float32)
    probs, none = np.ones((2, 1), np.float32), np.zeros((2, 0), np.float32)
    found = Detections(np.array([0, 2, 2]), boxes, probs, probs[:, 0], none)
    size = np.full(2, 20, np.int64)

    def made_with(cut: str, candidates: Detections | None) -> Targets:
        return targets(known, candidates, weigh, "everywhere", size, size, None, regions="both", cut_objects=cut)  # type: ignore[arg-type]

    for candidates in (None, found):
        assert made_with("negative", candidates).ignore.of(1).tolist() == [], "as in the document"
    assert made_with("ignore", None).ignore.of(1).tolist() == [[5, 5, 10, 7]]
    assert made_with("ignore", found).ignore.of(1).tolist() == [[5, 5, 10, 7], [4, 8, 10, 9]]
    assert made_with("ignore", found).boxes[made_with("ignore", found).offsets[1] :].tolist() == [[2, 2, 10, 4]]
    assert made_with("ignore", found).ignore.of(0).tolist() == [], "the image as a whole cuts nothing"
    with pytest.raises(LabelwiseError, match="cut_objects is 'drop'"):
        made_with("drop", None)


def test_the_remains_stand_beside_the_crowds() -> None:
    known = known_of([[0, 8, 0, 16, 4]], [[0, 0, 0, 10, 10]])
    crowd = Rects.from_rows(np.array([0]), np.array([[0, 9, 4, 12]]), 2)
    size = np.full(2, 20, np.int64)
    got = targets(known, None, weigh, "everywhere", size, size, crowd, regions="crops", cut_objects="ignore")  # type: ignore[arg-type]
    assert got.ignore.of(1).tolist() == [[0, 9, 4, 10], [8, 0, 10, 4]]
