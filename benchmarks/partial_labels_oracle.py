"""The oracle ablation: which part of the pseudo boxes is short? The targets of a round with one part made right.

    true boxes           every object in the picked images, as the ground truth has it
    true where hit       the ground-truth box where a pseudo box hits one, with the pseudo box's class
    true class           the pseudo boxes, with the class of the object that each hits
    no false positives   the pseudo boxes that hit an object
    no misses            the pseudo boxes, and the objects that none of them hits

A pseudo box hits the object of highest IoU, from 0.5 on, of any class. Boxes of weight 0 (ignored areas) are no pseudo
boxes: they stay, except under "true boxes", and where they lie on an object that is put in.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from labelwise.project.round import Round
from labelwise.types import Boxes, Targets, offsets_of
from labelwise.types.overlap import iou_matrix

EDITS = ("true boxes", "true where hit", "true class", "no false positives", "no misses")
HIT, SAME = 0.5, 0.69
"""IoU from which a box hits an object, and from which an annotation is of it."""
LABEL, PSEUDO = 0, 1


@dataclass(frozen=True)
class Pseudo:
    """How good the pseudo boxes of a round are: those of weight > 0, against the objects that nobody annotated."""

    images: int
    boxes: int
    recall: float | str
    precision: float | str


@dataclass(frozen=True)
class Entry:
    """One training image: its rows of the targets, its objects that nobody annotated, and which of them is hit."""

    known: np.ndarray
    sure: np.ndarray
    ignored: np.ndarray
    missing: np.ndarray
    hit: np.ndarray
    """Of each sure row: the missing object that it hits, -1 for none."""


def entries(now: Round) -> list[Entry]:
    """The images of the round's targets. An object is annotated where a known box of its class lies on it."""
    t, truth = now.targets, now.pool.truth
    assert truth is not None, "the oracle needs ground truth"
    out = []
    for k, image in enumerate(t.images.tolist()):
        rows = np.arange(t.offsets[k], t.offsets[k + 1])
        known = rows[t.origin[rows] == LABEL]
        pseudo = rows[t.origin[rows] == PSEUDO]
        sure = pseudo[np.maximum(t.w_cls[pseudo], t.w_box[pseudo]) > 0]
        objects = np.arange(truth.offsets[image], truth.offsets[image + 1])
        same = _iou(truth.xyxy[objects], t.boxes[known]) * (truth.labels[objects][:, None] == t.labels[known])
        missing = objects[same.max(axis=1, initial=0.0) < SAME]
        overlap = _iou(t.boxes[sure], truth.xyxy[missing])
        best = overlap.argmax(axis=1) if len(missing) else np.zeros(len(sure), np.int64)
        found = overlap.max(axis=1, initial=0.0) >= HIT
        hit = np.where(found, missing[best], -1) if len(missing) else np.full(len(sure), -1)
        out.append(Entry(known, sure, np.setdiff1d(pseudo, sure), missing, hit))
    return out


def _iou(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    return np.asarray(iou_matrix(a.astype(np.float64).reshape(-1, 4), b.astype(np.float64).reshape(-1, 4)))


def of_pseudo(now: Round) -> Pseudo:
    """Counts of the round's targets as they are."""
    every = entries(now)
    missing, sure = (sum(len(getattr(one, name)) for one in every) for name in ("missing", "sure"))
    found = sum(len(np.unique(one.hit[one.hit >= 0])) for one in every)
    right = sum(int((one.hit >= 0).sum()) for one in every)
    return Pseudo(
        len(every), sure, round(found / missing, 3) if missing else "", round(right / sure, 3) if sure else ""
    )


def edited(now: Round, name: str) -> Targets:
    """The targets of the round with one part of the pseudo boxes made right."""
    t, truth = now.targets, now.pool.truth
    assert truth is not None, "the oracle needs ground truth"
    parts: list[tuple[np.ndarray, ...]] = []
    counts = []
    for one in entries(now):
        rows, labels, put = _chosen(one, name, t, truth)
        boxes = np.concatenate([t.boxes[rows], truth.xyxy[put[0]]])
        weights = [np.concatenate([w[rows], np.ones(len(put[0]), np.float32)]) for w in (t.w_cls, t.w_box)]
        origin = np.concatenate([t.origin[rows], np.full(len(put[0]), PSEUDO, np.int8)])
        parts.append((boxes, np.concatenate([labels, put[1]]), *weights, origin))
        counts.append(len(boxes))
    boxes, labels, w_cls, w_box, origin = (np.concatenate(column) for column in zip(*parts, strict=True))
    image = np.repeat(np.arange(len(t)), counts)
    return replace(
        t,
        offsets=offsets_of(image, len(t)),
        boxes=boxes.astype(np.float32),
        labels=labels.astype(np.int64),
        w_cls=w_cls.astype(np.float32),
        w_box=w_box.astype(np.float32),
        origin=origin.astype(np.int8),
    )


def _chosen(
    one: Entry, name: str, t: Targets, truth: Boxes
) -> tuple[np.ndarray, np.ndarray, tuple[np.ndarray, np.ndarray]]:
    """The rows that stay, their classes, and the objects that are put in, with their classes."""
    right, classes = one.hit >= 0, truth.labels
    nothing = np.zeros(0, np.int64)
    sure, labels, put, own = one.sure, t.labels[one.sure], nothing, nothing
    ignored = one.ignored
    if name == "true boxes":
        sure, labels, put, ignored = nothing, nothing, one.missing, nothing
        own = classes[put]
    elif name == "true where hit":
        put = np.unique(one.hit[right])
        best = [max(one.sure[one.hit == m], key=lambda row: (t.w_cls[row], -row)) for m in put.tolist()]
        own = t.labels[np.array(best, np.int64)]
        sure, labels = nothing, nothing
    elif name == "true class":
        labels = np.where(right, classes[np.maximum(one.hit, 0)], labels)
    elif name == "no false positives":
        sure, labels = sure[right], labels[right]
    else:
        put = np.setdiff1d(one.missing, one.hit[right])
        own = classes[put]
    ignored = ignored[_iou(t.boxes[ignored], truth.xyxy[put]).max(axis=1, initial=0.0) < HIT]
    rows = np.concatenate([one.known, sure, ignored]).astype(np.int64)
    return rows, np.concatenate([t.labels[one.known], labels, t.labels[ignored]]), (put, own)
