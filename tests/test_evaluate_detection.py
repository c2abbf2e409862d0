"""COCO metrics against pycocotools, on random data with crowd, empty images, no detections, no truth."""

from __future__ import annotations

import contextlib
import io

import numpy as np
import pytest
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from labelwise.evaluate.detection import evaluate, per_class
from labelwise.evaluate.rarity import rare_classes
from labelwise.types import Boxes, Detections, LabelwiseError, Rects

CLASSES = ("a", "b", "c", "never")


def random_boxes(rng: np.random.Generator, n: int) -> np.ndarray:
    start = rng.uniform(0, 100, (n, 2))
    return np.concatenate([start, start + rng.uniform(5, 60, (n, 2))], axis=1).astype(np.float32)


def scenes(seed: int, n_images: int = 30, n_truth: int = 90, n_found: int = 400, n_crowd: int = 6):
    """Detections are jittered copies of ground truth and pure inventions, with doubtful classes."""
    rng = np.random.default_rng(seed)
    truth = Boxes.from_rows(
        rng.integers(0, n_images - 2, n_truth), random_boxes(rng, n_truth), rng.integers(0, 3, n_truth), n_images
    )
    crowd = Rects.from_rows(rng.integers(0, n_images, n_crowd), random_boxes(rng, n_crowd) * 2, n_images)
    boxes, image = random_boxes(rng, n_found), rng.integers(0, n_images, n_found)
    probs = rng.dirichlet(np.full(4, 0.4), n_found).astype(np.float32)
    for i in range(0, n_found if n_truth else 0, 2):
        t = rng.integers(n_truth)
        boxes[i], image[i] = truth.xyxy[t] + rng.normal(0, 2, 4), truth.image[t]
        probs[i] = 0.5 * probs[i] + 0.5 * np.eye(4)[truth.labels[t]]
    order = np.argsort(image, kind="stable")
    offsets = np.searchsorted(image[order], np.arange(n_images + 1)).astype(np.int64)
    scores = rng.uniform(0.01, 1, n_found).astype(np.float32)
    found = Detections(offsets, boxes[order], probs[order], scores, np.zeros((n_found, 0), np.float32))
    return found, truth, crowd


def by_pycocotools(found: Detections, truth: Boxes, crowd: Rects | None, max_detections: int = 100):
    """The plain way: dictionaries, one by one."""

    def annotation(rows: list, image: int, label: int, box: np.ndarray, **extra: float) -> None:
        x1, y1, x2, y2 = (float(v) for v in box)
        size = [x2 - x1, y2 - y1]
        rows.append({"id": len(rows) + 1, "image_id": image, "category_id": label, "bbox": [x1, y1, *size],
                     "area": size[0] * size[1], **extra})  # fmt: skip

    gt, dt = [], []
    for image, label, box in zip(truth.image, truth.labels, truth.xyxy, strict=True):
        annotation(gt, int(image), int(label), box, iscrowd=0)
    for image in range(len(truth.offsets) - 1):
        for box in crowd.of(image) if crowd is not None else ():
            for label in range(len(CLASSES)):
                annotation(gt, image, label, box, iscrowd=1)
        expanded = []
        for r in range(found.offsets[image], found.offsets[image + 1]):
            for label in range(len(CLASSES)):
                score = float(found.scores[r]) * (float(found.probs[r, label]) / float(found.probs[r].max()))
                if score >= 0.05:
                    expanded.append((-score, r, label))
        for minus, r, label in sorted(expanded)[:max_detections]:
            annotation(dt, image, label, found.boxes[r], score=-minus, iscrowd=0)
    sets = []
    for rows in (gt, dt):
        coco = COCO()
        coco.dataset = {
            "images": [{"id": i} for i in range(len(truth.offsets) - 1)],
            "categories": [{"id": c} for c in range(len(CLASSES))],
            "annotations": rows,
        }
        sets.append(coco)
    with contextlib.redirect_stdout(io.StringIO()):
        for coco in sets:
            coco.createIndex()
        run = COCOeval(*sets, "bbox")
        run.params.maxDets = [1, 10, max_detections]
        run.evaluate()
        run.accumulate()
    return run.eval["precision"][:, :, :, 0, 2]


@pytest.mark.parametrize(
    "case",
    [
        {"seed": 0},
        {"seed": 1, "n_crowd": 0},
        {"seed": 2, "n_found": 0},
        {"seed": 3, "n_truth": 0},
        {"seed": 4, "n_truth": 0, "n_crowd": 0, "n_found": 0},
        {"seed": 5, "n_images": 4, "n_found": 600},  # more than 100 detections per image
    ],
)
@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # pycocotools' own
def test_equals_pycocotools(case: dict, capfd: pytest.CaptureFixture[str]) -> None:
    found, truth, crowd = scenes(**case)
    metrics = evaluate(found, truth, crowd, CLASSES)
    assert capfd.readouterr() == ("", "")
    precision = by_pycocotools(found, truth, crowd)
    known = precision[0, 0] > -1

    def mean(values: np.ndarray) -> float | None:
        return pytest.approx(values.mean(), abs=1e-6) if values.size else None

    assert metrics["ap"] == mean(precision[:, :, known])
    assert metrics["ap50"] == mean(precision[0][:, known])
    assert metrics["ap75"] == mean(precision[5][:, known])
    for c, name in enumerate(CLASSES):
        assert metrics["per_class_ap"][name] == (mean(precision[:, :, c]) if known[c] else None)
        assert metrics["per_class_ap50"][name] == (mean(precision[0][:, c]) if known[c] else None)
        assert metrics["per_class_boxes"][name] == int((truth.labels == c).sum())
    if case["seed"] == 0:
        assert 0.1 < metrics["ap50"] < 0.9 and metrics["per_class_ap50"]["never"] is None


def test_a_box_speaks_for_its_second_class_too() -> None:
    box = np.array([[0, 0, 10, 10]], np.float32)
    probs = np.array([[0.6, 0.36, 0.04, 0.0]], np.float32)
    found = Detections(np.array([0, 1]), box, probs, np.array([0.5], np.float32), np.zeros((1, 0), np.float32))
    row, label, score = per_class(found, min_score=0.05, max_detections=100)
    assert row.tolist() == [0, 0] and label.tolist() == [0, 1]
    np.testing.assert_allclose(score, [0.5, 0.3], rtol=1e-6)
    assert per_class(found, min_score=0.0, max_detections=1)[1].tolist() == [0]
    truth = Boxes.from_rows(np.array([0]), box, np.array([1]), 1)
    assert evaluate(found, truth, None, CLASSES)["per_class_ap50"]["b"] == pytest.approx(1)


def test_rare_classes() -> None:
    assert rare_classes([100, 40, 10, 10]) == [2, 3]  # below 160 / 8 = 20
    assert rare_classes([100, 40, 22, 10]) == [3]  # below 172 / 8 = 21.5
    assert rare_classes([5, 5, 5]) == [0]


@pytest.mark.parametrize(
    ("classes", "n_images", "message"),
    [(("a", "b"), 30, "the model has 4 classes, the data 2|class 2, but there are 2"), (CLASSES, 29, "30 images")],
)
def test_what_does_not_fit_together_is_refused(classes: tuple[str, ...], n_images: int, message: str) -> None:
    found, truth, crowd = scenes(0)
    truth = truth if n_images == 30 else Boxes.empty(n_images)
    with pytest.raises(LabelwiseError, match=message):
        evaluate(found, truth, crowd, classes)
