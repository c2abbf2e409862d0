"""What the model would answer, for tools that show it: boxes for a person to take, mend or delete, and no labels."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from labelwise.exchange._geometry import crop
from labelwise.exchange._questions import Suggested, asks_one, has_rectangle
from labelwise.project.context import Context
from labelwise.project.round import Round
from labelwise.targets.open_detections import candidates
from labelwise.types import LabelwiseError, Query

SURE = 0.5
"""Confidence from which a box is suggested; the labelling page begins there, too."""
MOST = 100
"""Boxes of one query that are suggested, the most confident ones."""


def of_queries(context: Context, queries: Sequence[Query]) -> dict[int, Suggested]:
    """Per query id the boxes that the model of the round that asks found, as pixels of the image, with class and
    confidence; nothing for queries about one object, for a classifier, in a first round without `predict.proposals`,
    and with `ask.prefill = false`.
    """
    found: dict[int, Suggested] = {}
    areas = [query for query in queries if query.id is not None and not asks_one(query)]
    if context.run.classifies or not areas or not context.run.ask.prefill:
        return found
    for number in sorted({query.round for query in areas}):
        try:
            asking = Round(context, number)
            every = asking.detections()
        except (LabelwiseError, OSError):  # nothing was predicted for it
            continue
        rule, classes = context.run.predict, every.labels
        if rule.proposals is not None and not rule.proposes_classes and (not number or asking.proposed):
            known = np.bincount(context.known().annotations.labels, minlength=1)  # as the page does
            classes = np.full(len(every), int(known.argmax()))
        rows = np.flatnonzero(candidates(every, context.known(), threshold=SURE))
        rows = rows[np.lexsort((-every.scores[rows], every.image[rows]))]
        starts = np.searchsorted(every.image[rows], np.arange(len(context.pool) + 1))
        for query in (one for one in areas if one.round == number):
            image = context.pool.number_of[query.image]
            here = rows[starts[image] : starts[image + 1]]
            found[query.id or 0] = _within(query, every.boxes[here], classes[here], every.scores[here])
    return {number: boxes for number, boxes in found.items() if boxes}


def _within(query: Query, boxes: np.ndarray, labels: np.ndarray, scores: np.ndarray) -> Suggested:
    kept = []
    corners = boxes.astype(float).round(2).tolist()
    for (x1, y1, x2, y2), label, score in zip(corners, labels.tolist(), scores.astype(float).tolist(), strict=True):
        box = (x1, y1, x2, y2) if x1 < x2 and y1 < y2 else None
        if box is not None and has_rectangle(query) and query.box is not None:
            box = crop(box, query.box)
        if box is not None:
            kept.append((box, label, round(score, 3)))
    return kept[:MOST]
