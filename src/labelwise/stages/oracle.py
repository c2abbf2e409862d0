"""The stage that asks: the oracle answers the ranking in order until the round's budget is spent."""

from __future__ import annotations

from collections.abc import Collection, Sequence

import numpy as np

from labelwise import files
from labelwise.ask import cost as costs
from labelwise.ask import oracle
from labelwise.ledger.ledger import Ledger
from labelwise.project import availability
from labelwise.project.context import Context
from labelwise.project.folder import Stage
from labelwise.queue.leases import Leases
from labelwise.types import Answer, Boxes, Cost, LabelwiseError, Pool, Query
from labelwise.types.overlap import iou_pairs, pairs, share_pairs

What = tuple[str, tuple[float, float, float, float] | None, int | None]
"""What a query asks about: image, box, class."""

INSIDE = 0.999
"""Share of a region inside a covered rectangle from which nothing is left to ask there."""

SAME_OBJECT = 0.69
"""IoU from which an annotation is of a ground-truth box: an object cropped to a region keeps more than 0.7 of it."""


def ask(context: Context, round: int, stage: Stage) -> None:
    """The oracle answers the ranking in order until the budget of the round is spent, or the ranking ends.

    A region that an answer of the same round has covered already is passed over.
    """
    run, pool, ledger = context.run, context.pool, context.project.ledger
    if pool.truth is None:
        raise LabelwiseError(
            f"{pool.root} has no annotations, so the simulated oracle cannot answer; add annotations to the pool split"
        )
    picks = files.read_table(context.file(round, "picks.parquet"))
    amount = run.budget.per_round[round - 1] if round else float(len(picks["row"]))
    unit = run.budget.unit if round else "images"
    known = ledger.labels(pool)
    annotated = _annotated(pool.truth, known.annotations)
    covered: dict[int, list[np.ndarray]] = {
        int(image): list(known.coverage.of(int(image))) for image in np.flatnonzero(np.diff(known.coverage.offsets))
    }
    number_of = {name: number for number, name in enumerate(pool.names)}
    begun = ledger.queries(round)
    asked = max((query.rank + 1 for query in begun), default=0)
    never = of_another_ranking(pool, picks, run.query.unit, round, begun)
    left = amount - _spent(ledger, round, unit)
    with context.bar(f"round {round}: ask", int(amount)) as advance:
        while True:
            open_queries = [q for q in ledger.open_queries(round) if number_of[q.image] not in context.pool.unavailable]
            if not open_queries:
                step = _step(unit, left, run.query.unit if round else "image")
                chosen = next_queries(context, picks, round, asked, step, covered, never)
                if not chosen:
                    break
                ledger.add_queries(round, chosen)
                asked = chosen[-1].rank + 1
                continue
            records = []
            for query in open_queries:
                image = number_of[query.image]
                answer = oracle.answer(query, pool.truth, image, annotated)
                _mark(annotated, pool.truth, image, answer)
                if query.unit == "region" and query.box is not None:
                    covered.setdefault(image, []).append(np.array(query.box, np.float32))
                records.append((query, answer, costs.cost(query, answer, run.cost, one_class=run.classifies)))
            ledger.record_many(records, "oracle")
            before, left = left, amount - _spent(ledger, round, unit)
            advance(int(before - left))
    Leases(ledger).close_round(round)  # what waits for an image that is gone
    stage.info["left_of_budget"] = max(0.0, left)
    stage.info["ranking_exhausted"] = left > 0


def _spent(ledger: Ledger, round: int, unit: str) -> float:
    """What the round has cost; always summed by the ledger, so that a resumed round stops where a whole one does."""
    return float(getattr(ledger.cost_by_round().get(round, Cost()), unit))


def _step(unit: str, left: float, query_unit: str) -> int:
    """How many queries can be asked at once without any chance to overspend (an image's boxes are known afterwards) or
    to ask in vain (a region may lie in one that is asked before it).
    """
    if left <= 1e-9:
        return 0
    sure = (query_unit, unit) in (("image", "images"), ("image", "queries"), ("box", "boxes"), ("box", "queries"))
    return max(1, int(left)) if sure else 1


def next_queries(
    context: Context,
    picks: dict[str, np.ndarray],
    round: int,
    asked: int,
    most: int,
    covered: dict[int, list[np.ndarray]],
    never: Collection[What] = (),
) -> list[Query]:
    """The next queries of the ranking, from rank `asked` on, at most so many, none of `never`, of images that can be
    shown; none when it ends. What their images are is kept, so that a change of one is noticed.
    """
    while True:
        chosen = _next(context.pool, picks, context.run.query.unit, round, asked, most, covered, never)
        new = {int(picks["image"][query.rank]) for query in chosen} - context.readable
        if not availability.unreadable(context, new):
            availability.remember(context, new)
            context.readable |= new
            return chosen


def _next(
    pool: Pool,
    picks: dict[str, np.ndarray],
    unit: str,
    round: int,
    asked: int,
    most: int,
    covered: dict[int, list[np.ndarray]],
    never: Collection[What] = (),
) -> list[Query]:
    """The next queries of the ranking, from rank `asked` on, at most so many, none of `never`; none when it ends."""
    chosen: list[Query] = []
    for rank in range(asked, len(picks["row"])):
        if len(chosen) >= most:
            break
        if int(picks["image"][rank]) in pool.unavailable:
            continue
        query = _query(pool, picks, unit, round, rank)
        if never and _what(query) in never:
            continue
        known = covered.get(int(picks["image"][rank]), [])
        if query.unit == "region" and known:
            region = np.tile(np.array(query.box, np.float32), (len(known), 1))
            if share_pairs(region, np.stack(known)).max() > INSIDE:
                continue
        chosen.append(query)
    return chosen


def of_another_ranking(
    pool: Pool, picks: dict[str, np.ndarray], unit: str, round: int, before: Sequence[Query]
) -> set[What]:
    """What has been asked, if the ranking was made again since and is another one; else nothing."""
    n = len(picks["row"])
    same = all(q.rank < n and _what(_query(pool, picks, unit, round, q.rank)) == _what(q) for q in before)
    return set() if same else set(map(_what, before))


def _what(query: Query) -> What:
    return query.image, query.box, query.label


def _query(pool: Pool, picks: dict[str, np.ndarray], unit: str, round: int, rank: int) -> Query:
    label = int(picks["label"][rank])
    reason = {name.removeprefix("why_"): float(picks[name][rank]) for name in picks if name.startswith("why_")}
    if round and unit == "region":
        reason["scale"] = float(picks["magnification"][rank])
    where = None
    if round and unit != "image":
        x1, y1, x2, y2 = (float(picks[name][rank]) for name in ("x1", "y1", "x2", "y2"))
        where = (x1, y1, x2, y2)
    return Query(
        round=round,
        rank=rank,
        image=pool.names[int(picks["image"][rank])],
        unit=unit if where is not None else "image",  # type: ignore[arg-type]
        box=where,
        label=label if label >= 0 else None,
        score=float(picks["score"][rank]),
        reason={name: value for name, value in reason.items() if np.isfinite(value)},
    )


def _annotated(truth: Boxes, annotations: Boxes) -> np.ndarray:
    """Which ground-truth boxes have been annotated, bool [truth]: each annotation marks that of highest IoU (all such,
    where the ground truth lists an object twice).
    """
    out = np.zeros(len(truth), bool)
    a, t = pairs(annotations.offsets, truth.offsets)
    iou = iou_pairs(annotations.xyxy[a], truth.xyxy[t])
    iou[annotations.labels[a] != truth.labels[t]] = 0
    best = np.full(len(annotations), SAME_OBJECT)
    np.maximum.at(best, a, iou)
    out[t[iou >= best[a]]] = True
    return out


def _mark(annotated: np.ndarray, truth: Boxes, image: int, answer: Answer) -> None:
    """Notes in `annotated` [truth] the ground-truth boxes that an answer has just annotated."""
    span = slice(int(truth.offsets[image]), int(truth.offsets[image + 1]))
    here = Boxes(np.array([0, span.stop - span.start]), truth.xyxy[span], truth.labels[span])
    annotated[span] |= _annotated(here, _boxes(answer.boxes, answer.labels))


def _boxes(boxes: Sequence[tuple[float, float, float, float]], labels: Sequence[int]) -> Boxes:
    xyxy = np.array(boxes, np.float32).reshape(-1, 4)
    return Boxes(np.array([0, len(xyxy)]), xyxy, np.array(labels, np.int64))
