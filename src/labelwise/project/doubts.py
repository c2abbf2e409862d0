"""Which labels of a project to look at again, by what a model of its own found in their images (`review/`).

Each kind of doubt has its turn. Only labels that rest on one look are doubted (`ledger.unreviewed`), and objects are
called overlooked only where an image is wholly labelled and nobody said that there is none.

Fails when: the model was trained on the faults and learnt them by heart; `labelwise review` predicts out of fold.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float64, Int64

from labelwise.ledger.instant import Instant
from labelwise.ledger.ledger import Ledger
from labelwise.ledger.unreviewed import unreviewed
from labelwise.review import badly_located, overlooked, self_confidence, swapped
from labelwise.review._in_turn import in_turn
from labelwise.targets.open_detections import SAME_BOX
from labelwise.types import Detections, Labels, Pool, Rects
from labelwise.types.overlap import highest, iou_pairs, nearest

OF_BOXES = (overlooked, badly_located, swapped)
NAMES = (*(kind.__name__.rpartition(".")[2] for kind in OF_BOXES), "self_confidence")
"""The kinds of doubt, by their number."""


@dataclass(frozen=True, slots=True, eq=False)
class Doubts:
    """What is doubtful, the worst first: its `kind` (a number of `NAMES`), how doubtful it is, where, the `annotation`
    that is meant and its class (-1: there is none), and the class that the model finds likely.
    """

    kind: Int64[np.ndarray, " n"]
    doubt: Float64[np.ndarray, " n"]
    image: Int64[np.ndarray, " n"]
    xyxy: Float64[np.ndarray, "n 4"]
    annotation: Int64[np.ndarray, " n"]
    label: Int64[np.ndarray, " n"]
    likely: Int64[np.ndarray, " n"]

    def __len__(self) -> int:
        return len(self.kind)


def doubts(
    ledger: Ledger,
    pool: Pool,
    known: Labels,
    found: Detections,
    *,
    one_class: bool,
    merged: bool,
    seen: Instant | None = None,
) -> Doubts:
    """All that is doubtful in what is `known` of the pool; `merged`: as `unreviewed` has it."""
    with ledger.read() as connection:
        rows = unreviewed(connection, seen, merged=merged)
    annotation, corners = _annotations(pool, known, rows)
    shown = pool.available & (np.diff(found.offsets) > 0)
    if one_class:
        return _of_classes(known, found, annotation, shown)
    labels, whole = known.annotations, known.covered(pool) & shown
    every = [kind.doubt(labels, found) for kind in OF_BOXES]
    unmarked = highest(found.offsets, found.boxes, known.background, iou_pairs) < SAME_BOX
    every[0] = np.where(unmarked & whole[found.image], every[0], 0.0)
    every[1:] = [np.where(annotation >= 0, doubt, 0.0) for doubt in every[1:]]
    near, _ = nearest(labels.offsets, labels.xyxy, Rects(found.offsets, found.boxes))
    likely = np.append(found.labels, -1)[near]
    none = np.full(len(found), -1)
    kind, row = in_turn(every)
    at = row + np.where(kind == 0, len(labels), 0)  # labels, then detections, as one table
    once = np.sort(np.unique(at, return_index=True)[1])  # a label is looked at once, whatever is wrong with it
    kind, row, at = kind[once], row[once], at[once]
    return Doubts(
        kind,
        np.array([every[k][j] for k, j in zip(kind.tolist(), row.tolist(), strict=True)], np.float64),
        np.concatenate([labels.image, found.image])[at],
        np.concatenate([corners, found.boxes.astype(np.float64)])[at],
        np.concatenate([annotation, none])[at],
        np.concatenate([labels.labels, none])[at],
        np.concatenate([np.where(likely < 0, labels.labels, likely), found.labels])[at],
    )


def _annotations(
    pool: Pool, known: Labels, rows: dict[str, np.ndarray]
) -> tuple[Int64[np.ndarray, " n"], Float64[np.ndarray, "n 4"]]:
    """Of every known label the annotation that may be asked about (-1: none), and its corners as they are stored."""
    labels = known.annotations
    where = zip(rows["image"].tolist(), rows["xyxy"].astype(np.float32).tolist(), rows["label"].tolist(), strict=True)
    number = {(pool.number_of.get(name, -1), *box, label): k for k, (name, box, label) in enumerate(where)}
    own = zip(labels.image.tolist(), labels.xyxy.tolist(), labels.labels.tolist(), strict=True)
    row = np.array([number.get((image, *box, label), -1) for image, box, label in own], np.int64)
    corners = labels.xyxy.astype(np.float64)
    corners[row >= 0] = rows["xyxy"][row[row >= 0]]
    annotation = np.full(len(labels), -1)
    annotation[row >= 0] = rows["id"][row[row >= 0]]
    return annotation, corners


def _of_classes(known: Labels, found: Detections, annotation: np.ndarray, shown: np.ndarray) -> Doubts:
    labels = known.annotations
    rows = np.flatnonzero((annotation >= 0) & shown[labels.image])
    probs = found.probs[found.offsets[labels.image[rows]]]
    doubt, likely = self_confidence.doubt(labels.labels[rows], probs), probs.argmax(axis=1)
    _, order = in_turn([np.where(likely == labels.labels[rows], 0.0, doubt)])
    at = rows[order]
    kind = np.full(len(order), NAMES.index("self_confidence"))
    boxes = labels.xyxy[at].astype(np.float64)
    return Doubts(kind, doubt[order], labels.image[at], boxes, annotation[at], labels.labels[at], likely[order])
