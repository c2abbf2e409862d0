"""COCO metrics of a detector: AP (mean over IoU 0.50:0.95), AP50 and AP75, overall and per class; all in 0..1.

Every detection speaks for each class whose probability, as the model gave it before normalisation
(score * probs / max(probs)), reaches `min_score`, so that the second-best class of a box counts in its class's AP; the
`max_detections` highest of an image are kept. A class without ground truth in the test set has no AP (None) and is left
out of the mean. Crowd regions have no class: they excuse detections of every class that lie in them (COCO's rule:
shared area over the detection's own area), and are no ground truth.

Source: the COCO evaluation, computed by faster-coco-eval; equal to pycocotools' to 1e-6 (tests).
Differs from the paper: 000 reports AP50 in per cent, and VOC's own evaluation ignores a box marked difficult by IoU;
here these boxes are crowd regions.
Fails when: the ground truth is partial; a right detection of an object that nobody annotated counts as wrong.

>>> truth = Boxes.from_rows(np.array([0, 1]), np.array([[0, 0, 9, 9], [0, 0, 9, 9]]), np.array([0, 0]), 2)
>>> box, sure = np.array([[0, 0, 9, 9]], np.float32), np.array([[1.0, 0.0]], np.float32)
>>> found = Detections(np.array([0, 1, 1]), box, sure, np.array([0.9], np.float32), np.zeros((1, 0), np.float32))
>>> metrics = evaluate(found, truth, None, ("cat", "dog"))
>>> round(metrics["ap50"], 4), metrics["per_class_ap50"]["dog"]  # one of two found: 51 of 101 recall levels
(0.505, None)
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from faster_coco_eval import COCO, COCOeval_faster
from jaxtyping import Float64, Int64

from labelwise.types import Boxes, Detections, LabelwiseError, Rects, image_of, offsets_of

IOU = np.linspace(0.5, 0.95, 10)
MIN_SCORE = 0.05
"""Least class probability that counts as a detection of the class."""


def evaluate(
    detections: Detections,
    truth: Boxes,
    crowd: Rects | None,
    classes: Sequence[str],
    *,
    min_score: float = MIN_SCORE,
    max_detections: int = 100,
) -> dict[str, Any]:
    """`ap`, `ap50`, `ap75`, `per_class_ap`, `per_class_ap50`, `per_class_boxes` (ground truth, by class name), and the
    numbers of `images`, `boxes` and expanded `detections`; what has no ground truth is None.
    """
    n_images = len(truth.offsets) - 1
    if detections.n_images != n_images or (crowd is not None and len(crowd.offsets) != n_images + 1):
        raise LabelwiseError(
            f"evaluate: got detections of {detections.n_images} images and ground truth of {n_images}; "
            "expected both (and crowd) for the same images"
        )
    if len(truth) and int(truth.labels.max()) >= len(classes):
        raise LabelwiseError(f"evaluate: ground truth has class {truth.labels.max()}, but there are {len(classes)}")
    if len(detections) and detections.probs.shape[1] != len(classes):
        raise LabelwiseError(f"evaluate: the model has {detections.probs.shape[1]} classes, the data {len(classes)}")
    row, label, score = per_class(detections, min_score=min_score, max_detections=max_detections)
    precision = _precision(
        _truth_rows(truth, crowd, len(classes)),
        _rows(detections.image[row], label, detections.boxes[row], score=score),
        n_images,
        len(classes),
        max_detections,
    )
    return _summary(precision, truth, classes) | {"images": n_images, "boxes": len(truth), "detections": len(row)}


def per_class(
    detections: Detections, *, min_score: float, max_detections: int
) -> tuple[Int64[np.ndarray, " m"], Int64[np.ndarray, " m"], Float64[np.ndarray, " m"]]:
    """Row, class and score of every detection for each class that reaches `min_score`; the best of every image."""
    probs = detections.probs.astype(np.float64)
    scores = probs * (detections.scores / probs.max(axis=1, initial=1e-12))[:, None]
    row, label = np.nonzero(scores >= min_score)
    score = scores[row, label]
    image = detections.image[row]
    order = np.lexsort((-score, image))
    first = offsets_of(image[order], detections.n_images)
    best = order[np.arange(len(order)) - first[image[order]] < max_detections]
    return row[best], label[best], score[best]


def _truth_rows(truth: Boxes, crowd: Rects | None, n_classes: int) -> list[dict[str, Any]]:
    rows = _rows(truth.image, truth.labels, truth.xyxy, iscrowd=np.zeros(len(truth), int))
    if crowd is not None and len(crowd.xyxy):
        every = np.arange(n_classes).repeat(len(crowd.xyxy))
        image, xyxy = np.tile(image_of(crowd.offsets), n_classes), np.tile(crowd.xyxy, (n_classes, 1))
        rows += _rows(image, every, xyxy, start=len(rows), iscrowd=np.ones(len(every), int))
    return rows


def _rows(
    image: np.ndarray, label: np.ndarray, xyxy: np.ndarray, *, start: int = 0, **extra: np.ndarray
) -> list[dict[str, Any]]:
    """COCO annotations; numbered from 1, because 0 means "unmatched" there."""
    xyxy = xyxy.astype(np.float64)
    size = xyxy[:, 2:] - xyxy[:, :2]
    columns = {
        "id": np.arange(start + 1, start + len(xyxy) + 1),
        "image_id": image,
        "category_id": label,
        "bbox": np.concatenate([xyxy[:, :2], size], axis=1),
        "area": size.prod(axis=1),
    } | extra
    names = tuple(columns)
    return [dict(zip(names, row, strict=True)) for row in zip(*(c.tolist() for c in columns.values()), strict=True)]


def _precision(
    truth: list[dict[str, Any]], found: list[dict[str, Any]], n_images: int, n_classes: int, max_detections: int
) -> Float64[np.ndarray, "iou recall classes"]:
    """Precision at every IoU threshold, recall level and class; -1 where a class has no ground truth."""

    def dataset(annotations: list[dict[str, Any]]) -> Any:
        coco = COCO()
        coco.dataset = {
            "images": [{"id": i} for i in range(n_images)],
            "categories": [{"id": c} for c in range(n_classes)],
            "annotations": annotations,
        }
        coco.createIndex()
        return coco

    run = COCOeval_faster(dataset(truth), dataset(found), iouType="bbox", print_function=lambda *_: None)
    run.params.iouThrs = IOU
    run.params.maxDets = [max_detections]
    run.params.areaRng, run.params.areaRngLbl = [[0, 1e10]], ["all"]
    run.evaluate()
    run.accumulate()
    precision: np.ndarray = run.eval["precision"][:, :, :, 0, 0]
    return precision


def _summary(precision: np.ndarray, truth: Boxes, classes: Sequence[str]) -> dict[str, Any]:
    counts = np.bincount(truth.labels, minlength=len(classes))

    def mean(which: slice | int) -> float | None:
        known = precision[which][..., counts > 0]
        return float(known.mean()) if known.size else None

    def per_class(which: slice | int) -> dict[str, float | None]:
        chosen = precision[which].reshape(-1, len(classes)).mean(axis=0)
        return {name: float(chosen[c]) if counts[c] else None for c, name in enumerate(classes)}

    every, at50, at75 = slice(None), 0, 5  # places in IOU
    return {
        "ap": mean(every),
        "ap50": mean(at50),
        "ap75": mean(at75),
        "per_class_ap": per_class(every),
        "per_class_ap50": per_class(at50),
        "per_class_boxes": {name: int(counts[c]) for c, name in enumerate(classes)},
    }
