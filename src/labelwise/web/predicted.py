"""What the model found in an image that is asked about, for a person to take or leave; and the classes it thinks of."""

from __future__ import annotations

import threading
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float32, Int64

from labelwise.ledger import live_updates
from labelwise.project.context import Context
from labelwise.project.round import Round
from labelwise.types import LabelwiseError, Query
from labelwise.types.overlap import iou_matrix

MOST = 100
"""Boxes of one image that are suggested, the most confident ones."""
CLASSES = 5
"""Classes of one box that are kept, the likeliest ones: all 80 of them would be gigabytes for a large pool."""
SAME_IOU = 0.5
"""From which IoU on a detection is the box that is asked about."""


@dataclass
class Found:
    """The detections of a round: of each its box, confidence and likeliest classes, falling."""

    offsets: Int64[np.ndarray, " images+1"]
    boxes: Float32[np.ndarray, "n 4"]
    scores: Float32[np.ndarray, " n"]
    classes: Int64[np.ndarray, "n k"]
    probs: Float32[np.ndarray, "n k"]


class Predicted:
    """The detections of the round that asks (of its last update where it is live), read once in the background; a
    classifier has none, nor has the first round without `predict.proposals`. Boxes of who knows no classes have the
    class that was labelled most so far.
    """

    def __init__(self, context: Context) -> None:
        self._context = context
        self._lock = threading.Lock()
        self._reader = ThreadPoolExecutor(max_workers=1, thread_name_prefix="predictions")
        self._read: tuple[tuple[int, int], Future[Found | None]] | None = None

    def boxes(self, query: Query, image: int) -> list[tuple[tuple[float, float, float, float], int, float]]:
        """Box, class and confidence of what was found in the image, the most confident first; waits for the reader."""
        found = None if self._context.run.classifies else self.of_round(query.round).result()
        if found is None or image >= len(found.offsets) - 1:
            return []
        rows = np.arange(found.offsets[image], found.offsets[image + 1])
        rows = rows[np.argsort(-found.scores[rows], kind="stable")][:MOST]
        corners, labels = found.boxes[rows].astype(float).round(2).tolist(), found.classes[rows, 0].tolist()
        if self._without_class(query.round):
            known = np.bincount(self._context.known().annotations.labels, minlength=1)
            labels = [int(known.argmax())] * len(rows)
        scores = found.scores[rows].astype(float).round(3).tolist()
        return [
            ((x1, y1, x2, y2), label, score)
            for (x1, y1, x2, y2), label, score in zip(corners, labels, scores, strict=True)
            if x1 < x2 and y1 < y2
        ]

    def likely(self, query: Query, image: int) -> list[tuple[int, float]]:
        """The likeliest classes with their shares, falling: of the box or the image's class that is asked about, and
        where boxes are drawn of all that was found there, by confidence. Empty where nothing is known, or not yet: no
        answer waits for it.
        """
        reading = self.of_round(query.round)
        found = reading.result() if reading.done() else None
        if found is None or self._without_class(query.round) or image >= len(found.offsets) - 1:
            return []
        rows = np.arange(found.offsets[image], found.offsets[image + 1])
        weight = found.scores[rows].astype(float)
        if query.box is not None and len(rows):
            iou = iou_matrix(np.array([query.box]), found.boxes[rows].astype(float))[0]
            if query.label is None:
                weight *= iou > 0  # what lies in the region
            else:
                weight = np.where(iou == iou.max(), iou >= SAME_IOU, 0.0)
        share = np.zeros(len(self._context.pool.classes))
        np.add.at(share, found.classes[rows], found.probs[rows] * weight[:, None])
        if not share.sum():
            return []
        share /= weight.sum()
        top = np.argsort(-share, kind="stable")[:CLASSES]
        return [(int(k), round(float(share[k]), 3)) for k in top if share[k] > 0]

    def _without_class(self, number: int) -> bool:
        """Whether its boxes are of who tells objects from background alone."""
        rule = self._context.run.predict
        if rule.proposals is None or rule.proposes_classes:
            return False
        return not number or Round(self._context, number).proposed

    def of_round(self, number: int) -> Future[Found | None]:
        """What was found in a round, when it is read."""
        update = 0
        if self._context.run.ask.live_answers is not None and number:
            update = live_updates.count(self._context.project.ledger, number)
        with self._lock:
            if self._read is None or self._read[0] != (number, update):
                self._read = (number, update), self._reader.submit(self._load, number, update)
            return self._read[1]

    def _load(self, number: int, update: int) -> Found | None:
        offsets, parts = [np.zeros(1, np.int64)], list[tuple[np.ndarray, ...]]()
        asking = Round(self._context, number)
        if update:
            asking = Round(self._context, number, live=asking.folder.live(update))
        try:
            for _first, one in asking.shards(()):
                classes = np.argsort(-one.probs, axis=1, kind="stable")[:, :CLASSES]
                probs = np.take_along_axis(one.probs, classes, axis=1)
                offsets.append(one.offsets[1:] + offsets[-1][-1])
                parts.append((one.boxes, one.scores, classes, probs))
        except (LabelwiseError, OSError):  # nothing was predicted for it, or the next update is written already
            return None
        return Found(np.concatenate(offsets), *(np.concatenate(column) for column in zip(*parts, strict=True)))
