"""What the model found in an image that is asked about, for a person to take or leave."""

from __future__ import annotations

import threading

import numpy as np

from labelwise.project.context import Context
from labelwise.project.round import Round
from labelwise.types import Detections, LabelwiseError, Query

MOST = 100
"""Boxes of one image that are suggested, the most confident ones."""


class Predicted:
    """The detections of the round that asks, read once; a classifier has none, nor has the first round without
    `predict.proposals`. Boxes of who knows no classes have the class that was labelled most so far.
    """

    def __init__(self, context: Context) -> None:
        self._context = context
        self._lock = threading.Lock()
        self._read: tuple[int, Detections | None] = (-1, None)

    def boxes(self, query: Query, image: int) -> list[tuple[tuple[float, float, float, float], int, float]]:
        """Box, class and confidence of what was found in the image, the most confident first."""
        found = self._of_round(query.round)
        if found is None or image >= len(found.offsets) - 1:
            return []
        rows = np.arange(found.offsets[image], found.offsets[image + 1])
        rows = rows[np.argsort(-found.scores[rows], kind="stable")][:MOST]
        corners = found.boxes[rows].astype(float).round(2).tolist()
        labels = found.labels[rows]
        if self._without_class(query.round):
            labels = np.full(len(rows), np.bincount(self._context.known().annotations.labels, minlength=1).argmax())
        return [
            ((x1, y1, x2, y2), label, score)
            for (x1, y1, x2, y2), label, score in zip(
                corners, labels.tolist(), found.scores[rows].astype(float).round(3).tolist(), strict=True
            )
            if x1 < x2 and y1 < y2
        ]

    def _without_class(self, number: int) -> bool:
        """Whether its boxes are of who tells objects from background alone."""
        rule = self._context.run.predict
        proposed = rule.proposals is not None and number <= rule.proposal_rounds
        return proposed and not rule.proposes_classes

    def _of_round(self, number: int) -> Detections | None:
        with self._lock:
            if self._read[0] != number:
                try:
                    found = None if self._context.run.classifies else Round(self._context, number).detections()
                except (LabelwiseError, OSError):  # nothing was predicted for it
                    found = None
                self._read = number, found
            return self._read[1]
