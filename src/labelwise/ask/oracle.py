"""The simulated oracle: answers a query from the ground truth (DESIGN section 4).

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

from labelwise.types import Answer, Boxes, LabelwiseError, Query, Verdict

IN_REGION = 0.7
"""Share of its own area by which an object must lie in a region (more than this) to be annotated with it."""


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
    if query.unit == "image":
        return _found(query.id, "all", truth, rows[~annotated[rows]])
    if query.box is None:
        raise LabelwiseError(f"{where}: a {query.unit} query without a box")
    if query.unit == "region":
        return _in_region(query.id, np.array(query.box, np.float32), truth, rows[~annotated[rows]])
    iou = _iou(np.array(query.box, np.float64), truth.xyxy[rows].astype(np.float64))
    if not len(rows) or iou.max() < iou_threshold:
        return Answer(query.id, "background")
    best = rows[[iou.argmax()]]
    return Answer(query.id, "duplicate") if annotated[best[0]] else _found(query.id, "object", truth, best)


def _found(query: int, verdict: Verdict, truth: Boxes, rows: np.ndarray) -> Answer:
    boxes = tuple((x1, y1, x2, y2) for x1, y1, x2, y2 in truth.xyxy[rows].tolist())
    return Answer(query, verdict, boxes, tuple(truth.labels[rows].tolist()))


def _in_region(query: int, region: np.ndarray, truth: Boxes, rows: np.ndarray) -> Answer:
    """The objects that belong to the region, cropped to it."""
    xyxy = truth.xyxy[rows]
    cut = np.concatenate([np.maximum(xyxy[:, :2], region[:2]), np.minimum(xyxy[:, 2:], region[2:])], axis=1)
    area = np.maximum(cut[:, 2:] - cut[:, :2], 0).astype(np.float64).prod(axis=1)
    inside = area > IN_REGION * (xyxy[:, 2:] - xyxy[:, :2]).astype(np.float64).prod(axis=1)
    boxes = tuple((x1, y1, x2, y2) for x1, y1, x2, y2 in cut[inside].tolist())
    return Answer(query, "all", boxes, tuple(truth.labels[rows[inside]].tolist()))


def _iou(box: np.ndarray, others: np.ndarray) -> np.ndarray:
    low, high = np.maximum(box[:2], others[:, :2]), np.minimum(box[2:], others[:, 2:])
    both = np.maximum(high - low, 0).prod(axis=1)
    result: np.ndarray = both / ((box[2:] - box[:2]).prod() + (others[:, 2:] - others[:, :2]).prod(axis=1) - both)
    return result
