"""A candidate box: one detection that is still open. Is it an object, and of which class?

Source: 002, section 4 (the candidates of Eq. 1; the ground-truth box of highest IoU >= 0.5 answers a query, else it is
background).
Differs from the paper: a query that hits an object annotated before is answered "duplicate"; that and "background" cost
a query, where the published oracles let both go free.
Fails when: an object that nobody annotated has no detection; no query can find it.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from jaxtyping import Bool, Float64, Int64

from labelwise.types import Answer, Boxes, Query
from labelwise.types.overlap import iou_matrix
from labelwise.units._candidates import Candidates, Shard
from labelwise.units._contract import SKIPPED, Meaning
from labelwise.units._objects import answer_of_truth, plain_answer

VERDICTS: Mapping[str, Meaning] = {
    "object": Meaning("accept", look="verify", boxes="one"),
    "background": Meaning("reject", look="reject", background=True),
    "duplicate": Meaning("duplicate", look="duplicate"),
    SKIPPED: Meaning("skip", look="verify"),
}
DEFAULT: str | None = "object"
RECTANGLE = True
CLASS = True
ONE_PER_IMAGE = False
CLASSIFIES = False
SCALES = False
OVERLAPS = False
AT_MOST_ONE = frozenset({"queries", "boxes"})
PAGE = "box"


def candidates(shard: Shard) -> Candidates:
    """Every open detection, each its own only member."""
    (boxes,) = shard.parts
    every = np.arange(len(boxes) + 1)
    image, nothing = boxes.image + shard.first, np.zeros(len(boxes), np.int64)
    return Candidates((boxes,), image, shard.rows, nothing, boxes.boxes, every, every[:-1], shard.first)


def answer(
    query: Query,
    truth: Boxes,
    rows: Int64[np.ndarray, " k"],
    annotated: Bool[np.ndarray, " n"],
    iou_threshold: float,
) -> Answer:
    """The object under the candidate, a "duplicate", or "background".

    It is the ground-truth box of highest IoU (the lower row among equals), if that reaches `iou_threshold`.

    One object; the candidate is its upper half, IoU 8/16:

    >>> truth = Boxes(np.array([0, 1]), np.array([[0, 0, 4, 4]], np.float32), np.array([2]))
    >>> ask = Query(round=0, rank=0, image="a.jpg", unit="box", box=(0, 0, 4, 2), label=1, id=7)
    >>> answer(ask, truth, np.array([0]), np.array([False]), 0.5).verdict
    'object'
    """
    (iou,) = iou_matrix(np.array([query.box], np.float64), truth.xyxy[rows].astype(np.float64))
    if not len(rows) or iou.max() < iou_threshold:
        return plain_answer(query, "background")
    best = rows[[iou.argmax()]]
    if annotated[best[0]]:
        return plain_answer(query, "duplicate")
    return answer_of_truth(query, "object", truth, best)


def lift(
    value: Float64[np.ndarray, " m"], offsets: Int64[np.ndarray, " n+1"], how: str, rng: np.random.Generator
) -> Float64[np.ndarray, " n"]:
    """A box's score is that of its detection."""
    return value
