"""The ranking as questions: which is asked next."""

from __future__ import annotations

from collections.abc import Collection, Sequence

import numpy as np

from labelwise import units
from labelwise.project import availability
from labelwise.project.round import Round
from labelwise.stages import mixed_questions
from labelwise.targets import open_detections
from labelwise.types import BECAUSE, Labels, Place, Query
from labelwise.types.overlap import share_pairs

Covered = dict[int, list[np.ndarray]]
"""Rectangles in which nothing is left to ask, by the number of their image."""

INSIDE = 0.999
"""Share of a region inside a covered rectangle from which nothing is left to ask there."""

HELD = open_detections.INSIDE
"""The same of a box."""


def next_queries(now: Round, begin: int, most: int, covered: Covered, never: Collection[Place] = ()) -> list[Query]:
    """The next queries of the ranking, from rank `begin` on, at most so many, none of `never`, of images that can be
    shown; none when it ends. What their images are is kept, so that a change of one is noticed.
    """
    context = now.context
    while True:
        chosen = _next(now, begin, most, covered, never)
        new = {now.pool.number_of[query.image] for query in chosen} - context.readable
        if not availability.unreadable(context, new):
            availability.remember(context, new)
            context.readable |= new
            return chosen


def _next(now: Round, begin: int, most: int, covered: Covered, never: Collection[Place] = ()) -> list[Query]:
    picks, chosen = now.picks, list[Query]()
    several = len(now.units) > 1
    own: Covered = {}
    for rank in range(begin, picks.n_rows):
        if len(chosen) >= most:
            break
        image = int(picks.row(rank)["image"])
        if image in now.pool.unavailable:
            continue
        query = _query(now, rank)
        if never and query.place in never:
            continue
        known = [*covered.get(image, []), *own.get(image, [])]
        if now.overlaps and known and query.box is not None and mixed_questions.is_new(now, rank):
            region = np.tile(np.array(query.box, np.float32), (len(known), 1))
            if share_pairs(region, np.stack(known)).max() > (HELD if units.find(query.unit).CLASS else INSIDE):
                continue
        chosen.append(query)
        if several:
            cover(now, own, query)
    return chosen


def of_another_ranking(now: Round, before: Sequence[Query]) -> set[Place]:
    """What has been asked, if the ranking was made again since and is another one; else nothing."""
    n = now.picks.n_rows
    same = all(q.rank < n and _query(now, q.rank).place == q.place for q in before)
    return set() if same else {query.place for query in before}


def covered_rectangles(now: Round, known: Labels) -> Covered:
    """What is known to be covered, by the number of the image; nothing where no answer may settle another query."""
    if not now.overlaps:
        return {}
    rects = known.coverage
    return {int(image): list(rects.of(int(image))) for image in np.flatnonzero(np.diff(rects.offsets))}


def cover(now: Round, covered: Covered, query: Query) -> None:
    """Adds what an answer to a query covers of its image, if it may settle others."""
    if now.overlaps and any(meaning.covers for meaning in units.find(query.unit).VERDICTS.values()):
        image = now.pool.number_of[query.image]
        whole = (0, 0, now.pool.width_px[image], now.pool.height_px[image])
        covered.setdefault(image, []).append(np.array(query.box or whole, np.float32))


def _query(now: Round, rank: int) -> Query:
    if not mixed_questions.is_new(now, rank):
        return mixed_questions.query(now, rank)
    row = now.picks.row(rank)
    number = int(row.get("unit", 0))
    unit = now.units[number]
    label = int(row["label"])
    parts = {name.removeprefix("why_"): float(value) for name, value in row.items() if name.startswith("why_")}
    if unit.SCALES:
        parts["scale"] = float(row["magnification"])
    reason: dict[str, float | str] = {name: value for name, value in parts.items() if np.isfinite(value)}
    if row.get(BECAUSE):
        reason[BECAUSE] = row[BECAUSE]
    where = None
    if unit.RECTANGLE:
        x1, y1, x2, y2 = (float(row[name]) for name in ("x1", "y1", "x2", "y2"))
        where = (x1, y1, x2, y2)
    return Query(
        round=now.number,
        rank=rank,
        image=now.pool.names[int(row["image"])],
        unit=now.unit_names[number],
        box=where,
        label=label if label >= 0 else None,
        score=float(row["score"]),
        reason=reason,
    )
