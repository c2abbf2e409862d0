"""The pseudo labels of a project's rounds beside what is known of them: ground truth, and what later answers say."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from jaxtyping import Float64, Int64

from labelwise import units
from labelwise.project.context import Context
from labelwise.project.round import Round
from labelwise.report.results import Calibration
from labelwise.study import calibration
from labelwise.study.calibration import LaterAnswers
from labelwise.targets import vote
from labelwise.types import ORIGIN_LABEL, ORIGIN_PSEUDO, Boxes, LabelwiseError, Rects, Targets, image_of


def calibrations(context: Context, rounds: Sequence[int]) -> dict[int, list[Calibration]]:
    """How right the pseudo labels were of every round that has any, by each source that there is.

    Those of a round are what its model was trained on: they are made of the model before. Only images that are shown as
    a whole count. Where the pool has ground truth it is one source. What people said in later rounds is the other one.
    """
    if context.run.classifies:
        return {}
    later, out = None, {}
    for number in filter(None, rounds):
        now = Round(context, number)
        if now.folder.targets.exists() and len(_pseudo_rows(now.targets)):
            later = later or _Later(context)
            out[number] = _of_round(now, later)
    return out


def _of_round(now: Round, later: _Later) -> list[Calibration]:
    pool, targets = now.pool, now.targets
    images = np.unique(targets.images[_is_whole(now, targets)])
    rows = _pseudo_rows(targets)
    owner = targets.images[image_of(targets.offsets)]
    rows = rows[np.isin(owner[rows], images)]
    rows = rows[np.argsort(owner[rows], kind="stable")]
    pseudo = Boxes.from_rows(owner[rows], targets.boxes[rows], targets.labels[rows], len(pool))
    weight = np.maximum(targets.w_cls[rows], targets.w_box[rows]).astype(np.float64)
    found = _confidence(now, pseudo)
    unknown = np.isnan(found)
    confidence = np.clip(np.where(unknown, weight, found), 0, 1)
    n, out = len(pool.classes), []
    if pool.truth is not None:
        known = np.flatnonzero((targets.origin == ORIGIN_LABEL) & np.isin(owner, images))
        annotated = Boxes.from_rows(owner[known], targets.boxes[known], targets.labels[known], len(pool))
        shown = _of_images(pool.truth, images)
        objects = _take(shown, calibration.unlabelled_objects(shown, annotated))
        crowd = Rects.empty(len(pool)) if pool.crowd is None else pool.crowd
        out.append(calibration.against_objects(pseudo, confidence, objects, crowd, n))
    said = calibration.against_answers(pseudo, confidence, later.than(now.number, images), n)
    if said.checks.any() or said.objects.any():
        out.append(said)
    return [replace(one, weights=int(unknown.sum())) for one in out]


def _is_whole(now: Round, targets: Targets) -> np.ndarray:
    """The entries that show the whole image."""
    size = np.stack([now.pool.width_px, now.pool.height_px], axis=1)[targets.images]
    whole: np.ndarray = (targets.windows[:, :2] <= 0).all(axis=1) & (targets.windows[:, 2:] >= size).all(axis=1)
    return whole


def _pseudo_rows(targets: Targets) -> Int64[np.ndarray, " n"]:
    """The pseudo boxes that weigh something: one of weight 0 is an area that is ignored."""
    return np.flatnonzero((targets.origin == ORIGIN_PSEUDO) & (np.maximum(targets.w_cls, targets.w_box) > 0))


def _take(boxes: Boxes, rows: np.ndarray) -> Boxes:
    return Boxes.from_rows(boxes.image[rows], boxes.xyxy[rows], boxes.labels[rows], len(boxes.offsets) - 1)


def _of_images(boxes: Boxes, images: Int64[np.ndarray, " m"]) -> Boxes:
    return _take(boxes, np.isin(boxes.image, images))


def _confidence(now: Round, pseudo: Boxes) -> Float64[np.ndarray, " n"]:
    """The confidence of the same box in the round's predictions (with `labels.vote` of the voted one); NaN where none
    is stored: of a box that a neighbouring frame lent, or where the predictions are gone or damaged.
    """
    out = np.full(len(pseudo), np.nan)
    if not len(pseudo) or not now.folder.predictions().exists():
        return out
    image = pseudo.image
    try:
        for first, found in now.shards(("view_boxes",)):
            if found.views is not None and found.views.boxes is not None:
                shown = slice(first, first + found.n_images)
                found = vote.with_votes(found, now.pool.width_px[shown], now.pool.height_px[shown])
            begin, end = np.searchsorted(image, [first, first + found.n_images])
            rows = np.flatnonzero(np.isin(found.image, image[begin:end] - first))
            where = np.concatenate([found.image[rows] + first, image[begin:end]])
            corners = np.concatenate([found.boxes[rows], pseudo.xyxy[begin:end]])
            same = _first_of_equals(where, corners)[len(rows) :]
            hit = same < len(rows)
            out[begin:end][hit] = found.scores[rows[same[hit]]]
    except LabelwiseError:  # the report needs them for this alone, and shows the weights instead
        return np.full(len(pseudo), np.nan)
    return out


def _first_of_equals(image: np.ndarray, boxes: np.ndarray) -> Int64[np.ndarray, " n"]:
    """Of every row the first one with the same image and corners."""
    order = np.lexsort((*boxes.T, image))  # stable: rows of one box stay in their order
    rows = np.column_stack([image[order], boxes[order].astype(np.float64)])
    begins = np.append(True, (np.diff(rows, axis=0) != 0).any(axis=1))[: len(order)]
    out = np.empty(len(order), np.int64)
    out[order] = order[np.flatnonzero(begins)][np.cumsum(begins) - 1]
    return out


class _Later:
    """All answers of the project that still hold, read once."""

    def __init__(self, context: Context) -> None:
        ledger, pool, known = context.project.ledger, context.pool, context.known()
        place = pool.number_of
        rows = ledger.annotation_rows()
        here = np.array([name in place for name in rows["image"].tolist()], bool)
        self.n = len(pool)
        self.objects = {name: rows[name][here] for name in ("xyxy", "label", "round")}
        self.objects["image"] = np.array([place[name] for name in rows["image"][here].tolist()], np.int64)
        queries = [query for query in ledger.queries() if query.round and query.image in place]
        verdicts = {
            query_id: verdict
            for number in {query.round for query in queries}
            for query_id, verdict in ledger.verdicts(number).items()
        }
        said = [q for q in queries if q.id in verdicts and verdicts[q.id] != units.SKIPPED]
        self.image = np.array([place[q.image] for q in said], np.int64)
        self.round = np.array([q.round for q in said], np.int64)
        size = (pool.width_px, pool.height_px)
        whole = np.stack([0 * size[0], 0 * size[1], *size], axis=1)[self.image].astype(np.float32)
        self.xyxy = np.array([q.box or (0, 0, 0, 0) for q in said], np.float32).reshape(-1, 4)
        self.xyxy[~self.xyxy.any(axis=1)] = whole[~self.xyxy.any(axis=1)]
        words = np.array([verdicts[q.id] for q in said if q.id is not None], np.str_)
        self.covers = np.isin(words, units.covering()) & _is_row_of(self.image, self.xyxy, known.coverage)
        self.marks = np.isin(words, units.marking()) & _is_row_of(self.image, self.xyxy, known.background)

    def than(self, number: int, images: Int64[np.ndarray, " m"]) -> LaterAnswers:
        """What was said of these images after a round."""
        late = (self.round > number) & np.isin(self.image, images)
        made = self.objects
        new = (made["round"] > number) & np.isin(made["image"], images)
        covers, marks = late & self.covers, late & self.marks
        return LaterAnswers(
            Boxes.from_rows(made["image"][new], made["xyxy"][new], made["label"][new], self.n),
            Rects.from_rows(self.image[covers], self.xyxy[covers], self.n),
            Rects.from_rows(self.image[marks], self.xyxy[marks], self.n),
            int(late.sum()),
        )


def _is_row_of(image: np.ndarray, boxes: np.ndarray, table: Rects) -> np.ndarray:
    """Whether a row is among those of a table: an answer that was taken back or is out of date is none."""
    every = np.concatenate([table.xyxy, boxes])
    where = np.concatenate([image_of(table.offsets), image])
    return _first_of_equals(where, every)[len(table.xyxy) :] < len(table.xyxy)
