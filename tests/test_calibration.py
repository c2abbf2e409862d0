"""Calibration of pseudo labels: against loops, by hand, and of a project by both sources."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from labelwise import files
from labelwise.files.round_files import RoundFolder
from labelwise.labels import hard
from labelwise.project import opening
from labelwise.project.context import Context
from labelwise.project.round import Round
from labelwise.report.results import BINS, Calibration
from labelwise.study import calibration, history
from labelwise.study.pseudo_rounds import calibrations
from labelwise.targets import partial, vote
from labelwise.types import Answer, Boxes, Cost, Detections, Query, Rects, Views


def slow_iou(a: np.ndarray, b: np.ndarray) -> float:
    a, b = a.astype(float), b.astype(float)
    w, h = min(a[2], b[2]) - max(a[0], b[0]), min(a[3], b[3]) - max(a[1], b[1])
    shared = max(w, 0) * max(h, 0)
    return shared / ((a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - shared)


def slow_inside(a: np.ndarray, rects: list[np.ndarray]) -> bool:
    for b in rects:
        w, h = min(a[2], b[2]) - max(a[0], b[0]), min(a[3], b[3]) - max(a[1], b[1])
        if max(w, 0) * max(h, 0) >= 0.5 * (a[2] - a[0]) * (a[3] - a[1]):
            return True
    return False


def slow_match(pseudo: Boxes, confidence: np.ndarray, objects: Boxes) -> list[int]:
    """Box after box by falling confidence, each the best object that is left."""
    out, taken = [-1] * len(pseudo), set()
    for row in sorted(range(len(pseudo)), key=lambda k: (-confidence[k], k)):
        best, value = -1, 0.5
        for k in range(len(objects)):
            if k in taken or objects.image[k] != pseudo.image[row] or objects.labels[k] != pseudo.labels[row]:
                continue
            iou = slow_iou(pseudo.xyxy[row], objects.xyxy[k])
            if iou > value or (iou == value and best < 0):
                best, value = k, iou
        if best >= 0:
            taken.add(best)
            out[row] = best
    return out


def slow_counts(
    pseudo: Boxes, confidence: np.ndarray, hit: list[int], counts: list[bool], objects: Boxes, of: list[bool], c: int
) -> dict[str, np.ndarray]:
    out = {name: np.zeros((c, BINS)) for name in ("checks", "right", "confidence")}
    out |= {name: np.zeros(c) for name in ("boxes", "objects", "hits")}
    for row, label in enumerate(pseudo.labels.tolist()):
        out["boxes"][label] += 1
        if counts[row]:
            k = min(int(float(confidence[row]) * BINS), BINS - 1)
            out["checks"][label, k] += 1
            out["right"][label, k] += hit[row] >= 0
            out["confidence"][label, k] += float(confidence[row])
    for row, label in enumerate(objects.labels.tolist()):
        out["objects"][label] += of[row]
        out["hits"][label] += of[row] and row in hit
    return out


def same(found: Calibration, expected: dict[str, np.ndarray]) -> None:
    for name, values in expected.items():
        np.testing.assert_allclose(getattr(found, name), values, atol=1e-9, err_msg=name)


def some_boxes(
    rng: np.random.Generator, images: int, n: int, classes: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Whole-pixel boxes in a small field: many overlaps, many equal ones."""
    low = rng.integers(0, 5, (n, 2))
    xyxy = np.concatenate([low, low + rng.integers(1, 5, (n, 2))], axis=1).astype(np.float32)
    return rng.integers(0, images, n), xyxy, rng.integers(0, classes, n)


@pytest.mark.parametrize("seed", range(30))
def test_both_sources_against_loops(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ties of confidence and overlap, equal boxes, empty images, no boxes, no objects, one class, one image."""
    rng = np.random.default_rng(seed)
    monkeypatch.setattr(calibration, "PAIRS", int(rng.choice([1, 7, 1 << 18])))  # blocks of images, too
    images, classes = int(rng.choice([1, 2, 6])), int(rng.choice([1, 3]))
    n, t = int(rng.choice([0, 1, 12, 40])), int(rng.choice([0, 1, 12, 40]))
    pseudo = Boxes.from_rows(*some_boxes(rng, images, n, classes), images)
    objects = Boxes.from_rows(*some_boxes(rng, images, t, classes), images)
    confidence = rng.choice(np.array([0, 0.3, 0.55, 0.9, 1], np.float32), n)
    hit = slow_match(pseudo, confidence, objects)
    assert calibration.match(pseudo, confidence, objects).tolist() == hit

    crowd, coverage, background = (
        Rects.from_rows(*some_boxes(rng, images, int(rng.choice([0, 3])), 1)[:2], images) for _ in range(3)
    )

    def inside(boxes: Boxes, rects: Rects) -> list[bool]:
        return [slow_inside(box, list(rects.of(i))) for i, box in zip(boxes.image, boxes.xyxy, strict=True)]

    def touches(others: Rects | Boxes) -> list[bool]:
        owner = np.repeat(np.arange(images), np.diff(others.offsets))
        return [
            any(slow_iou(box, o) >= 0.5 for o in others.xyxy[owner == i])
            for i, box in zip(pseudo.image, pseudo.xyxy, strict=True)
        ]

    counts = [h >= 0 or not c for h, c in zip(hit, inside(pseudo, crowd), strict=True)]
    found = calibration.against_objects(pseudo, confidence, objects, crowd, classes)
    same(found, slow_counts(pseudo, confidence, hit, counts, objects, [True] * t, classes))
    assert found.source == "ground truth" and found.answers == 0

    counts = [any(said) for said in zip(touches(objects), touches(background), inside(pseudo, coverage), strict=True)]
    found = calibration.against_answers(
        pseudo, confidence, calibration.LaterAnswers(objects, coverage, background, 7), classes
    )
    same(found, slow_counts(pseudo, confidence, hit, counts, objects, inside(objects, coverage), classes))
    assert found.source == "answers" and found.answers == 7


def test_a_surer_box_takes_an_object_and_the_other_goes_to_its_second_choice() -> None:
    box = np.array([[0, 0, 10, 10], [0, 0, 10, 9], [0, 0, 10, 10]], np.float32)
    pseudo = Boxes(np.array([0, 3]), box, np.zeros(3, np.int64))
    objects = Boxes(np.array([0, 2]), np.array([[0, 0, 10, 10], [0, 0, 10, 6]], np.float32), np.zeros(2, np.int64))
    assert calibration.match(pseudo, np.array([0.5, 0.9, 0.4]), objects).tolist() == [1, 0, -1]
    assert calibration.match(pseudo, np.array([0.5, 0.5, 0.5]), objects).tolist() == [0, 1, -1], "ties: the lower row"


def test_an_object_is_annotated_by_a_box_of_its_class_alone() -> None:
    xyxy = np.array([[0, 0, 10, 10], [20, 0, 30, 10], [0, 0, 10, 10]], np.float32)
    truth = Boxes(np.array([0, 2, 3]), xyxy, np.array([0, 1, 0]))
    known = Boxes(np.array([0, 2, 2]), np.array([[0, 0, 10, 8], [20, 0, 30, 10]], np.float32), np.array([0, 0]))
    assert calibration.unlabelled_objects(truth, known).tolist() == [False, True, True]


@pytest.fixture
def project(tmp_path: Path) -> Context:
    """Generated scenes of three images: round 1 has three pseudo boxes an image, of which one hits the first object."""
    scenes = "data.scenes={train=3, test=2, seed=3, classes=2, size_px=64}"
    opened = opening.start(tmp_path / "p", "demo", [scenes, "budget.start_images=1", "data.image_size_px=64"])
    opened.project.ledger.add_images(opened.pool)
    truth = opened.pool.truth
    assert truth is not None and (np.diff(truth.offsets) > 0).all()
    boxes, labels = [], []
    for image in range(3):
        first = truth.xyxy[truth.offsets[image]]
        boxes += [first, [0, 0, 2, 2], [62, 62, 64, 64]]
        labels += [int(truth.labels[truth.offsets[image]]), 0, 1]
    probs = np.eye(2, dtype=np.float32)[labels]
    scores = np.tile(np.array([0.75, 0.5, 0.25], np.float32), 3)
    found = Detections(np.array([0, 3, 6, 9]), np.array(boxes, np.float32), probs, scores, np.zeros((9, 0), np.float32))
    folder = RoundFolder(opened.project.round_folder(1))
    folder.path.mkdir(parents=True)
    files.write_detections(folder.predictions(), found, shard_images=2)
    size = opened.pool.width_px, opened.pool.height_px
    made = partial.targets(
        opened.known(),
        found,
        lambda menu: hard.weigh(menu["scores"], tau_cls=0.2),  # type: ignore[arg-type]
        "everywhere",
        *size,
        None,
        images="all",
    )
    files.write_targets(folder.targets, made)
    return opened


def say(opened: Context, query: Query, verdict: str, rows: list[int]) -> None:
    ledger, truth = opened.project.ledger, opened.pool.truth
    assert truth is not None
    ledger.add_queries(query.round, [query])
    asked = ledger.queries(query.round)[-1]
    assert asked.id is not None
    boxes = tuple(tuple(map(float, truth.xyxy[row])) for row in rows)
    answer = Answer(asked.id, verdict, boxes, tuple(truth.labels[rows].tolist()))  # type: ignore[arg-type]
    ledger.record(asked, answer, Cost(), "oracle")


def test_a_project_by_ground_truth_and_by_the_answers_of_later_rounds(project: Context) -> None:
    pool = project.pool
    truth, names = pool.truth, pool.names
    assert truth is not None
    (only,) = calibrations(project, [0, 1])[1]
    assert only.source == "ground truth" and only.weights == 0
    assert only.boxes.sum() == only.checks.sum() == 9 and only.right.sum() == only.hits.sum() == 3
    assert only.objects.tolist() == np.bincount(truth.labels, minlength=2).tolist()
    assert only.expectation().sum() == pytest.approx(4.5)
    assert only.right.sum(axis=0).tolist() == [0, 0, 0, 0, 0, 0, 0, 3, 0, 0]
    assert only.checks.sum(axis=0).tolist() == [0, 0, 3, 0, 0, 3, 0, 3, 0, 0]

    # image 0 is looked over; in image 1 the second box is rejected, in image 2 the first object is confirmed
    say(project, Query(2, 0, names[0], "image"), "all", list(range(*truth.offsets[:2])))
    say(project, Query(2, 1, names[1], "box", (0, 0, 2, 2), 0), "background", [])
    first = int(truth.offsets[2])
    say(project, Query(3, 0, names[2], "box", tuple(map(float, truth.xyxy[first])), 0), "object", [first])  # type: ignore[arg-type]
    of_truth, said = calibrations(project, [0, 1])[1]
    assert of_truth.right.tolist() == only.right.tolist() and of_truth.objects.tolist() == only.objects.tolist()
    assert said.source == "answers" and said.answers == 3
    assert said.boxes.sum() == 9 and said.checks.sum() == 3 + 1 + 1 and said.right.sum() == 1 + 1
    assert said.objects.sum() == truth.offsets[1] and said.hits.sum() == 1, (
        "recall is of the image that was looked over"
    )

    assert list(calibrations(project, [1, 2, 3])) == [1], "a round without targets has none"


def test_answers_are_the_source_without_ground_truth_and_weights_where_predictions_are_damaged(
    project: Context,
) -> None:
    blind = replace(project, pool=replace(project.pool, truth=None))
    assert calibrations(blind, [1]) == {1: []}
    say(project, Query(2, 0, project.pool.names[0], "image"), "all", [0])
    (said,) = calibrations(blind, [1])[1]
    assert said.source == "answers" and said.checks.sum() == 3 and said.objects.sum() == said.hits.sum() == 1
    assert said.weights == 0 and said.expectation().sum() == pytest.approx(1.5)
    folder = RoundFolder(project.project.round_folder(1))
    next(folder.predictions().glob("*.parquet")).write_bytes(b"damaged")
    (said,) = calibrations(blind, [1])[1]
    assert said.weights == 9 and said.expectation().sum() == pytest.approx(3), "a hard label weighs 1"


def test_boxes_that_views_voted_on_keep_their_confidence(project: Context) -> None:
    now = Round(project, 1)
    found, size = now.detections(), (project.pool.width_px, project.pool.height_px)
    moved = np.clip(found.boxes[None] + np.float32(0.5), 0, 64)
    iou = np.full((1, 9), 0.9, np.float32)
    seen = replace(found, views=Views(("flip",), found.probs[None], found.scores[None], iou, moved))
    files.write_detections(now.folder.predictions(), seen, shard_images=2)
    elected = vote.with_votes(seen, *size)
    assert not np.array_equal(elected.boxes, found.boxes)
    made = partial.targets(
        project.known(), elected, lambda menu: hard.weigh(menu["scores"], tau_cls=0.2), "everywhere", *size, None,
        images="all",
    )  # type: ignore[arg-type]  # fmt: skip
    files.write_targets(now.folder.targets, made)
    (only,) = calibrations(project, [1])[1]
    assert only.weights == 0 and only.expectation().sum() == pytest.approx(4.5)


def test_a_round_without_pseudo_boxes_says_nothing(project: Context) -> None:
    folder = RoundFolder(project.project.round_folder(1))
    none = partial.targets(
        project.known(), None, hard.weigh, "everywhere", project.pool.width_px, project.pool.height_px, None
    )
    files.write_targets(folder.targets, none)
    assert calibrations(project, [0, 1]) == {}


def test_growth_of_sure_boxes_is_read_where_the_training_noted_it(project: Context) -> None:
    ledger = project.project.ledger
    assert history.round_result(project, 1).sure_boxes is None
    ledger.mark_started(1, "train")
    ledger.mark_done(1, "train", {"sure_first": 14.0, "sure_last": 25.5}, 1.0)
    assert history.round_result(project, 1).sure_boxes == (14.0, 25.5)
