"""The stage evaluate: what the model reaches on the test images."""

from __future__ import annotations

from typing import Any

import numpy as np

from labelwise import files
from labelwise.evaluate import detection, looked_at
from labelwise.models.frozen import FrozenDetector
from labelwise.predict.detect import predict_detections
from labelwise.project import given
from labelwise.project.round import Round
from labelwise.stages import classification, frozen_detector
from labelwise.stages.checkpoints import TEACHER, load_model
from labelwise.types import Boxes, Detections, Pool


def evaluate(now: Round) -> None:
    """COCO metrics or accuracy on the test split, into metrics.json (empty where there is no annotated test split)."""
    metrics: dict[str, Any] = {}
    if now.run.classifies:
        metrics = classification.evaluate(now, load_model(now))
        if now.run.labels.teacher is not None and metrics:
            metrics["teacher_accuracy"] = classification.evaluate(now, load_model(now, TEACHER))["accuracy"]
    else:
        metrics = _detector(now)
    files.write_json(now.folder.metrics, metrics)


def _detector(now: Round) -> dict[str, Any]:
    test = now.test
    if test is None or test.truth is None or not now.folder.checkpoint().exists():  # or nothing was trained yet
        return {}
    model = load_model(now)
    if isinstance(model, FrozenDetector):
        found = frozen_detector.on_test(now, test, model, detection.MIN_SCORE)
        return _metrics(now, test, found)
    with now.context.bar(now.title("evaluate"), len(test)) as advance:
        found, summary = predict_detections(
            model,
            now.context.images("test"),
            np.arange(len(test)),
            n_images=len(test),
            batch_size=now.run.predict.batch_size,
            min_score=detection.MIN_SCORE,
            precision=now.run.predict.precision or "fp32",
            progress=advance,
        )
    now.info["skipped"] = [(test.names[i], message) for i, message in summary.skipped]
    return _metrics(now, test, found)


def _metrics(now: Round, test: Pool, found: Detections) -> dict[str, Any]:
    """COCO metrics over what of the test images was looked at; how much that is, told once."""
    truth = Boxes.empty(len(test)) if test.truth is None else test.truth
    line = given.test_line(test)
    if line is None:
        return dict(detection.evaluate(found, truth, test.crowd, test.classes))
    if not now.number:
        now.context.tell(f"AP50 {line}")
    counted = found.take(looked_at.counts(test, found))
    return detection.evaluate(counted, truth, test.crowd, test.classes) | looked_at.shares(test, found)
