"""The partial-label model: overlaps, open candidates and targets beside slow per-image references."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from labelwise.labels import background, dual, hard, ignore, noisy, task_soft
from labelwise.targets.open_detections import candidates
from labelwise.targets.partial import targets
from labelwise.train.augment import Augment, Change
from labelwise.train.batches import TrainingSet
from labelwise.types import Boxes, Detections, Labels, LabelwiseError, Rects, Views, overlap

SIZE = 16


def random_rects(rng: np.random.Generator, per_image: list[int]) -> tuple[np.ndarray, np.ndarray]:
    """Small whole-pixel boxes, so that IoU 0.5 and shares of 0.5 occur exactly."""
    n = sum(per_image)
    low, size = rng.integers(0, SIZE - 6, (n, 2)), rng.integers(1, 6, (n, 2))
    image = np.repeat(np.arange(len(per_image)), per_image)
    return image, np.concatenate([low, low + size], axis=1).astype(np.float32)


def detections(rng: np.random.Generator, per_image: list[int], classes: int = 3, views: bool = True) -> Detections:
    image, boxes = random_rects(rng, per_image)
    n = len(image)
    probs = rng.dirichlet(np.ones(classes), n).astype(np.float32).reshape(n, classes)
    scores = rng.choice(np.array([0.01, 0.05, 0.3, 0.9], np.float32), n)
    iou = rng.random((2, n), dtype=np.float32)
    seen = Views(("a", "b"), np.stack([probs, probs]), iou, iou) if views else None
    offsets = np.searchsorted(image, np.arange(len(per_image) + 1)).astype(np.int64)
    return Detections(offsets, boxes, probs, scores, np.zeros((n, 0), np.float32), seen)


def labels(rng: np.random.Generator, images: int) -> Labels:
    counts = [rng.integers(0, 4, images).tolist() for _ in range(3)]
    image, boxes = random_rects(rng, counts[0])
    covered, marks = (Rects.from_rows(*random_rects(rng, c), images) for c in counts[1:])
    known = Boxes.from_rows(image, boxes, rng.integers(0, 3, len(image)), images)
    return Labels(known, covered, marks, rng.random(images) < 0.5)


def empty(images: int, answered: bool = True) -> Labels:
    return Labels(Boxes.empty(images), Rects.empty(images), Rects.empty(images), np.full(images, answered))


def slow_iou(a, b) -> float:
    w, h = min(a[2], b[2]) - max(a[0], b[0]), min(a[3], b[3]) - max(a[1], b[1])
    both = max(w, 0) * max(h, 0)
    return both / ((a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - both)


def slow_share(a, b) -> float:
    w, h = min(a[2], b[2]) - max(a[0], b[0]), min(a[3], b[3]) - max(a[1], b[1])
    return max(w, 0) * max(h, 0) / ((a[2] - a[0]) * (a[3] - a[1]))


def slow_open(box, known: Labels, image: int) -> bool:
    rows = slice(known.annotations.offsets[image], known.annotations.offsets[image + 1])
    same = [slow_iou(box, other) >= 0.5 for other in known.annotations.xyxy[rows].tolist()]
    same += [slow_iou(box, other) >= 0.5 for other in known.background.of(image).tolist()]
    same += [slow_share(box, other) >= 0.5 for other in known.coverage.of(image).tolist()]
    return not any(same)


SHAPES = [[3, 0, 5, 2, 0], [0, 0], [], [6]]


@pytest.mark.parametrize("per_image", SHAPES)
@pytest.mark.parametrize("block", [1, 3, 1 << 18])
def test_highest_overlap_against_a_loop(per_image, block, monkeypatch):
    monkeypatch.setattr(overlap, "PAIRS", block)
    for seed in range(5):
        rng = np.random.default_rng(seed)
        a = Rects.from_rows(*random_rects(rng, per_image), len(per_image))
        b = Rects.from_rows(*random_rects(rng, rng.permutation(per_image).tolist()), len(per_image))
        for fast, slow in ((overlap.iou_pairs, slow_iou), (overlap.share_pairs, slow_share)):
            expected = [
                max([0.0] + [slow(x, y) for y in b.of(i).tolist()])
                for i in range(len(per_image))
                for x in a.of(i).tolist()
            ]
            np.testing.assert_allclose(overlap.highest(a.offsets, a.xyxy, b, fast), expected, rtol=0, atol=1e-12)
        rows = [(int(x), int(y)) for i in range(len(per_image)) for x in range(a.offsets[i], a.offsets[i + 1])
                for y in range(b.offsets[i], b.offsets[i + 1])]  # fmt: skip
        got = overlap.pairs(a.offsets, b.offsets)
        assert list(zip(got[0].tolist(), got[1].tolist(), strict=True)) == rows


def test_boxes_without_area_overlap_nothing():
    flat, box = np.array([[2, 2, 2, 5]], np.float32), np.array([[0, 0, 9, 9]], np.float32)
    assert overlap.iou_pairs(flat, box) == 0 and overlap.share_pairs(flat, box) == 0
    assert overlap.iou_pairs(flat, flat) == 0


@pytest.mark.parametrize("per_image", SHAPES)
def test_candidates_against_a_loop(per_image):
    for seed in range(10):
        rng = np.random.default_rng(seed)
        found, known = detections(rng, per_image), labels(rng, len(per_image))
        expected = [
            float(found.scores[row]) >= float(np.float32(0.05)) and slow_open(found.boxes[row].tolist(), known, image)
            for row, image in enumerate(found.image.tolist())
        ]
        assert candidates(found, known).tolist() == expected


def test_a_detection_without_area_is_no_candidate():
    rng = np.random.default_rng(0)
    found = detections(rng, [3])
    found.boxes[1, 2] = found.boxes[1, 0]
    assert candidates(found, empty(1), threshold=0.0).tolist() == [True, False, True]
    made = targets(empty(1), found, POLICIES["task_soft"], "everywhere", *sizes(1), None, images="answered")
    assert len(made.boxes) == 2


def sizes(images: int) -> tuple[np.ndarray, np.ndarray]:
    return np.full(images, SIZE), np.arange(images) + SIZE


POLICIES = {
    "background": lambda open_: background.weigh(open_["scores"]),
    "ignore": lambda open_: ignore.weigh(open_["scores"]),
    "noisy": lambda open_: noisy.weigh(open_["scores"], open_["answers_per_candidate"]),
    "hard": lambda open_: hard.weigh(open_["scores"]),
    "dual": lambda open_: dual.weigh(open_["scores"]),
    "task_soft": lambda open_: task_soft.weigh(open_["scores"], open_["consistency"]),
}


@pytest.mark.parametrize("policy", POLICIES)
@pytest.mark.parametrize("images", ["annotated", "answered", "all"])
@pytest.mark.parametrize("per_image", SHAPES)
def test_targets_against_a_loop(policy, images, per_image):
    for seed in range(4):
        rng = np.random.default_rng(seed)
        n = len(per_image)
        found, known = detections(rng, per_image), labels(rng, n)
        crowd = Rects.from_rows(*random_rects(rng, rng.permutation(per_image).tolist()), n)
        where = "known" if policy == "ignore" else "everywhere"
        width, height = sizes(n)
        got = targets(known, found, POLICIES[policy], where, width, height, crowd, images=images)
        anything = np.diff(known.annotations.offsets) + np.diff(known.coverage.offsets) > 0
        answered = known.answered & (images == "answered")
        chosen = [i for i in range(n) if images == "all" or answered[i] or anything[i]]
        assert got.images.tolist() == chosen
        ratio = np.ones(len(found.scores))
        for image in range(n):
            rows = range(found.offsets[image], found.offsets[image + 1])
            free = sum(slow_open(found.boxes[r].tolist(), known, image) for r in rows)
            ratio[rows] = max(
                np.diff(known.annotations.offsets)[image] + np.diff(known.background.offsets)[image], 1
            ) / max(free, 1)
        columns = (found.scores, found.views.iou.mean(axis=0, dtype=np.float64), ratio)
        names = ("scores", "consistency", "answers_per_candidate")
        keep, w_cls, w_box = POLICIES[policy](dict(zip(names, columns, strict=True)))
        for position, image in enumerate(chosen):
            rows = range(known.annotations.offsets[image], known.annotations.offsets[image + 1])
            expected = [
                (*known.annotations.xyxy[r].tolist(), int(known.annotations.labels[r]), 1.0, 1.0, 0) for r in rows
            ]
            expected += [
                (*found.boxes[r].tolist(), int(found.labels[r]), float(w_cls[r]), float(w_box[r]), 1)
                for r in range(found.offsets[image], found.offsets[image + 1])
                if keep[r] and slow_open(found.boxes[r].tolist(), known, image)
            ]
            part = slice(got.offsets[position], got.offsets[position + 1])
            columns = (got.labels, got.w_cls, got.w_box, got.origin)
            rest = zip(*(column[part].tolist() for column in columns), strict=True)
            rows_got = [(*box, *r) for box, r in zip(got.boxes[part].tolist(), rest, strict=True)]
            assert rows_got == expected
            covered = known.coverage.of(image).tolist() + known.background.of(image).tolist()
            whole = [[0.0, 0.0, float(width[image]), float(height[image])]]
            assert got.negatives.of(position).tolist() == (whole if where == "everywhere" else covered)
            assert got.ignore.of(position).tolist() == crowd.of(image).tolist()


@pytest.mark.parametrize("per_image", SHAPES)
def test_doubt_and_thresholds_by_class_against_a_loop(per_image):
    for seed in range(4):
        rng = np.random.default_rng(seed)
        n = len(per_image)
        found, known = detections(rng, per_image), labels(rng, n)
        by_class, seen = np.array([0.2, np.nan, 0.6]), []

        def weigh(open_, seen=seen):
            seen.append(open_)
            return dual.weigh(open_["scores"], open_["class_threshold"])

        some = found.take(found.scores >= 0.3)
        got = targets(known, some, weigh, "everywhere", *sizes(n), None, class_thresholds=by_class, doubt=found)
        np.testing.assert_array_equal(seen[0]["class_threshold"], [by_class[p.argmax()] for p in seen[0]["probs"]])
        assert len(got.doubt.offsets) == len(got) + 1
        for position, image in enumerate(got.images):
            rows = range(found.offsets[image], found.offsets[image + 1])
            rows = [r for r in rows if slow_open(found.boxes[r].tolist(), known, image)]
            assert got.doubt.of(position).tolist() == found.boxes[rows].tolist()
            part = slice(got.doubt.offsets[position], got.doubt.offsets[position + 1])
            assert got.doubt_scores[part].tolist() == found.scores[rows].tolist()
        assert targets(known, found, POLICIES["hard"], "everywhere", *sizes(n), None).doubt is None
        crops = targets(known, some, weigh, "everywhere", *sizes(n), None, regions="both", doubt=found)
        assert len(crops.doubt.offsets) == len(crops) + 1
        assert crops.doubt.xyxy.tolist() == got.doubt.xyxy.tolist(), "a crop is looked over: nothing is in doubt in it"


def test_the_training_set_says_what_is_pseudo_and_mirrors_what_is_in_doubt():
    class Source:
        def __getitem__(self, image):
            return np.zeros((3, 20, 40), np.uint8), np.array([2, 2], np.float32)

    boxes = np.array([[0, 0, 4, 4], [10, 0, 14, 4]], np.float32)
    none = np.zeros((2, 0), np.float32)
    found = Detections(np.array([0, 2]), boxes, np.ones((2, 1), np.float32), np.array([0.9, 0.2], np.float32), none)
    known = Labels(Boxes(np.array([0, 1]), np.array([[0, 5, 4, 9]], np.float32), np.array([0])), *[Rects.empty(1)] * 2,
                   np.array([True]))  # fmt: skip
    sure, size = found.take(found.scores > 0.5), (np.array([20]), np.array([10]))
    made = targets(known, sure, POLICIES["hard"], "everywhere", *size, None, doubt=found)
    for flip, want in ((0, [[0, 0, 8, 8], [20, 0, 28, 8]]), (1, [[32, 0, 40, 8], [12, 0, 20, 8]])):
        _, target = TrainingSet(Source(), made, np.array([0]), Augment(flip=flip)).sample(0, np.random.default_rng(0))
        assert target["pseudo"].tolist() == [False, True]
        assert target["doubt"].tolist() == want and target["doubt_scores"].tolist() == pytest.approx([0.9, 0.2])


def test_targets_without_candidates_or_crowd_hold_the_annotations():
    known = labels(np.random.default_rng(0), 6)
    got = targets(known, None, POLICIES["hard"], "everywhere", *sizes(6), None, images="all")
    assert got.boxes.tolist() == known.annotations.xyxy.tolist() and (got.w_box == 1).all() and not got.ignore.xyxy.size


def test_a_policy_that_needs_views_says_so_and_tables_of_another_pool_are_refused():
    rng = np.random.default_rng(0)
    found = detections(rng, [4, 4], views=False)
    with pytest.raises(LabelwiseError, match="views"):
        targets(empty(2), found, POLICIES["task_soft"], "everywhere", *sizes(2), None)
    with pytest.raises(LabelwiseError, match="candidates has 2 images, the labels 3"):
        targets(empty(3), found, POLICIES["hard"], "everywhere", *sizes(3), None)
    with pytest.raises(LabelwiseError, match="have 3 images, the detections 2"):
        candidates(found, empty(3))
    with pytest.raises(LabelwiseError, match="w_box is float64"):
        targets(
            empty(2),
            found,
            lambda o: (o["scores"] > 0, o["scores"], o["scores"].astype(float)),
            "everywhere",
            *sizes(2),
            None,
        )
    for wrong in ({"negatives": "nowhere"}, {"images": "some"}):
        arguments = {"negatives": "everywhere", "images": "answered"} | wrong
        with pytest.raises(LabelwiseError, match="expected"):
            targets(
                empty(2), None, POLICIES["hard"], arguments["negatives"], *sizes(2), None, images=arguments["images"]
            )


def test_what_is_in_doubt_moves_with_the_image():
    """The middle half of an image of 40 x 20 is shown: doubled about its centre; what lies outside is gone."""
    change = Change(40, 20, (10, 5, 30, 15), (0, 0, 40, 20))
    target = {key: torch.zeros(0, 4) for key in ("boxes", "negatives", "ignore")}
    doubt = torch.tensor([[12.0, 6, 18, 10], [0, 0, 8, 4], [28, 6, 36, 10]])
    moved = change.target(target | {"doubt": doubt, "doubt_scores": torch.tensor([0.1, 0.2, 0.3])})
    assert moved["doubt"].tolist() == [[4, 2, 16, 10], [36, 2, 40, 10]]
    assert moved["doubt_scores"].tolist() == pytest.approx([0.1, 0.3])
