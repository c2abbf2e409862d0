"""The simulated oracle: answers a query from the ground truth (DESIGN section 4). What it says, the query's unit tells.

Source: 002, section 4 (the ground-truth box of highest IoU >= 0.5 answers a box query, else it is background); 003,
section 4.5, with the share of the object for its IoU with the region (every object that lies in the region by more than
0.7 of its own area, cropped to it; DESIGN section 4).
Differs from the paper: a query that hits an object annotated before is answered "duplicate"; that and "background" cost
a query, where the published oracles let both go free. An object that was annotated before is not annotated again with
a region or an image, and costs nothing there.
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Bool

from labelwise import units
from labelwise.types import Answer, Boxes, LabelwiseError, Query


def answer(
    query: Query, truth: Boxes, image: int, annotated: Bool[np.ndarray, " n"], *, iou_threshold: float = 0.5
) -> Answer:
    """The answer to one query.

    Box query: "object" with the ground-truth box and class of highest IoU (the lower row among equals), if that reaches
    `iou_threshold`; "duplicate" if that box had been annotated; else "background". Image and region query: "all" with
    every ground-truth box there that had not been annotated, cropped to the region.

    Args:
        query: the question, with its `id`.
        truth: ground truth of the pool.
        image: the pool's number of the image that the query asks about.
        annotated: per row of `truth`, whether an earlier answer annotated it.
        iou_threshold: from which overlap a candidate counts as this object, > 0.

    One object; the candidate is its upper half, IoU 8/16:

    >>> truth = Boxes(np.array([0, 1]), np.array([[0, 0, 4, 4]], np.float32), np.array([2]))
    >>> ask = Query(round=0, rank=0, image="a.jpg", unit="box", box=(0, 0, 4, 2), label=1, id=7)
    >>> first = answer(ask, truth, 0, np.array([False]))
    >>> first.verdict, first.boxes, first.labels
    ('object', ((0.0, 0.0, 4.0, 4.0),), (2,))
    >>> answer(ask, truth, 0, np.array([True])).verdict
    'duplicate'
    """
    where = f"query {query.id} on {query.image}"
    if query.id is None:
        raise LabelwiseError(f"{where}: it has no id. Record it in the ledger before it is asked")
    if not 0 <= image < len(truth.offsets) - 1:
        raise LabelwiseError(f"{where}: image number {image}; the ground truth has {len(truth.offsets) - 1} images")
    if annotated.shape != (len(truth),) or annotated.dtype != np.bool_:
        raise LabelwiseError(
            f"{where}: annotated is {annotated.dtype} {annotated.shape}; expected bool ({len(truth)},)"
        )
    if not 0 < iou_threshold <= 1:
        raise LabelwiseError(f"oracle: iou_threshold is {iou_threshold}; expected a number in (0, 1]")
    rows = np.arange(truth.offsets[image], truth.offsets[image + 1])
    unit = units.find(query.unit)
    if unit.RECTANGLE and query.box is None:
        raise LabelwiseError(f"{where}: a {query.unit} query without a box")
    return unit.answer(query, truth, rows, annotated, iou_threshold)
