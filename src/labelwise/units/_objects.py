"""Ground-truth boxes as the objects of an answer, and the share by which one belongs to a rectangle (machinery)."""

from __future__ import annotations

import numpy as np
from jaxtyping import Int64

from labelwise.types import Answer, Boxes, Query

IN_REGION = 0.7
"""Share of its own area by which an object must lie in a region (more than this) to be annotated with it (003, section
4.5). The text says IoU > 0.7 with the region, which no small object could reach (DESIGN section 4).
"""


def plain_answer(
    query: Query, verdict: str, xyxy: np.ndarray | None = None, labels: np.ndarray | None = None
) -> Answer:
    """The oracle's answer with these boxes [k, 4] and labels [k], or with none, in plain numbers."""
    assert query.id is not None
    if xyxy is None or labels is None:
        return Answer(query.id, verdict)
    boxes = tuple((x1, y1, x2, y2) for x1, y1, x2, y2 in xyxy.tolist())
    return Answer(query.id, verdict, boxes, tuple(labels.tolist()))


def answer_of_truth(query: Query, verdict: str, truth: Boxes, rows: Int64[np.ndarray, " k"]) -> Answer:
    """The oracle's answer with these ground-truth boxes."""
    return plain_answer(query, verdict, truth.xyxy[rows], truth.labels[rows])
