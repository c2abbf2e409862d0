"""The simulated oracle answers a round's ranking."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from labelwise.ask import cost as costs
from labelwise.ask import oracle
from labelwise.ledger.reviews import REVIEWS
from labelwise.project.round import Round
from labelwise.queue.leases import Leases
from labelwise.stages import ranking
from labelwise.stages.live import Live
from labelwise.types import Answer, Boxes, Cost, LabelwiseError, Query
from labelwise.types.overlap import iou_pairs, pairs
from labelwise.units import IN_REGION

SAME_OBJECT = IN_REGION - 0.01
"""IoU from which an annotation is of a ground-truth box: an object cropped to a region keeps more than `IN_REGION`."""

AT_ONCE = 64
"""Queries of unknown cost that are chosen, and recorded, together."""


def answer(now: Round) -> None:
    """The oracle answers the ranking in order until the budget of the round is spent, or the ranking ends.

    A region that an answer of the same round has covered already is passed over.
    """
    run, pool, ledger = now.run, now.pool, now.ledger
    if pool.truth is None:
        raise LabelwiseError(
            f"{pool.root} has no annotations, so the simulated oracle cannot answer; add annotations to the pool split"
        )
    annotated = _annotated(pool.truth, now.known.annotations)
    live, left = Live(now, patient=False), _left(now)
    covered = ranking.covered_rectangles(now, now.known)
    with now.context.bar(now.title("ask"), int(now.budget)) as advance:
        while True:
            waiting = [
                q for q in ledger.open_queries(now.number) if pool.number_of[q.image] not in now.pool.unavailable
            ]
            if not waiting:
                if left > 1e-9 and live.due():
                    live.update()
                chosen = live.next_queries(_step(now, left, live.answers_until()), covered)
                chosen = _affordable(now, chosen, annotated, left)
                if not chosen:
                    break
                live.add(chosen)
                continue
            records = []
            for query in waiting:
                image = pool.number_of[query.image]
                given = _said(query, pool.truth, image, annotated)
                ranking.cover(now, covered, query)
                records.append((query, given, costs.cost(query, given, run.cost, one_class=run.classifies)))
            ledger.record_many(records, "oracle")
            earlier, left = left, _left(now)
            advance(int(earlier - left))
    live.close()
    Leases(ledger).close_round(now.number)  # what waits for an image that is gone
    now.info["left_of_budget"] = max(0.0, left)
    now.info["ranking_exhausted"] = left > 0


def _left(now: Round) -> float:
    """What is left of the budget; always summed by the ledger, so that a resumed round stops where a whole one does."""
    spent = now.ledger.cost_by_round().get(now.number, Cost())
    return now.budget - float(getattr(spent, now.budget_unit))


def _step(now: Round, left: float, answers: int | None) -> int:
    """How many queries are chosen at once: as many as are surely paid for, or AT_ONCE of which `_affordable` takes the
    first; one where it might be asked in vain (a region may lie in one that is asked before it). No more than `answers`
    until the ranking is another one.
    """
    if left <= 1e-9:
        return 0
    if any(unit.OVERLAPS for unit in now.units):
        return 1
    most = max(1, int(left)) if now.at_most_one else AT_ONCE
    return most if answers is None else min(most, max(1, answers))


def _affordable(now: Round, chosen: list[Query], annotated: np.ndarray, left: float) -> list[Query]:
    """The first of these queries, up to the one that spends what is left: the simulated oracle knows its answers.

    At least one, if there is any: what is left decides the ledger, not a sum of ours that may differ in its last bits.
    """
    truth = now.pool.truth
    if truth is None or len(chosen) < 2 or now.at_most_one:
        return chosen
    trial = annotated.copy()
    for k, query in enumerate(chosen):
        image = now.pool.number_of[query.image]
        given = _said(replace(query, id=0), truth, image, trial)
        spent = costs.cost(query, given, now.run.cost, one_class=now.run.classifies)
        left -= float(getattr(spent, now.budget_unit))
        if left <= 1e-6:
            return chosen[: k + 1]
    return chosen


def _said(query: Query, truth: Boxes, image: int, annotated: np.ndarray) -> Answer:
    """The oracle's answer, which it notes in `annotated` [truth]. Whether a label is right is asked as if it were not
    there: the object that it is of is annotated by the answer, or by nobody.
    """
    if REVIEWS in query.reason and query.label is not None:
        x1, y1, x2, y2 = query.box or (
            0,
            0,
            *truth.xyxy[truth.offsets[image] : truth.offsets[image + 1], 2:].max(axis=0),
        )
        _mark(annotated, truth, image, Answer(0, "", [(x1, y1, x2, y2)], [query.label]), by=-1)
    given = oracle.answer(query, truth, image, annotated > 0)
    _mark(annotated, truth, image, given)
    return given


def _annotated(truth: Boxes, annotations: Boxes) -> np.ndarray:
    """How many annotations each ground-truth box has, int [truth]: each annotation marks that of highest IoU (all such,
    where the ground truth lists an object twice).
    """
    a, t = pairs(annotations.offsets, truth.offsets)
    iou = iou_pairs(annotations.xyxy[a], truth.xyxy[t])
    iou[annotations.labels[a] != truth.labels[t]] = 0
    return _best(iou, a, t, len(annotations), len(truth))


def _mark(annotated: np.ndarray, truth: Boxes, image: int, answer: Answer, by: int = 1) -> None:
    """Notes in `annotated` [truth] the ground-truth boxes that an answer has just annotated, or (-1) no longer does."""
    span = slice(int(truth.offsets[image]), int(truth.offsets[image + 1]))
    objects, given = span.stop - span.start, len(answer.boxes)
    if objects and given:
        a, t = np.divmod(np.arange(given * objects), objects)
        boxes, labels = np.array(answer.boxes, np.float32), np.array(answer.labels)
        iou = iou_pairs(boxes[a], truth.xyxy[span][t])
        iou[labels[a] != truth.labels[span][t]] = 0
        annotated[span] += by * _best(iou, a, t, given, objects)


def _best(iou: np.ndarray, a: np.ndarray, t: np.ndarray, n_annotations: int, n_truth: int) -> np.ndarray:
    """Of how many annotations each ground-truth box is the best, given the overlap of every pair (a, t)."""
    best = np.full(n_annotations, SAME_OBJECT)
    np.maximum.at(best, a, iou)
    return np.bincount(t[iou >= best[a]], minlength=n_truth)
