"""What a round asks besides new questions: whether doubtful labels are right (`ask.review_share`), and answered
questions once more, of somebody else (`ask.again`). They stand in the ranking among the others, so that a budget, a
kill and a stage that is done again treat them alike.

Source of the second: H. W. Goh and J. Mueller, "ActiveLab: active learning with re-labeling by multiple annotators"
(arXiv 2301.11856), section 3: what is worth most is asked next, an old question or a new one.
Differs from the paper: new questions stay in the order of the run's own score and selectors; an old one goes before the
first of them that is worth less. While nobody has answered what somebody else has, people cannot be weighed: then a
`FIRST_SHARE` of the questions are old ones, those whose answers the model believes least first.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from jaxtyping import Bool, Float64, Int64

from labelwise import units
from labelwise.ledger.asked_again import AGAIN
from labelwise.ledger.reviews import DOUBT, REVIEWS
from labelwise.project import another_opinion, doubts
from labelwise.project.round import Round, Table
from labelwise.types import BECAUSE, Query

FIRST_SHARE = 0.2
"""Share of questions that are asked again while nobody can be weighed."""
EXTRA = {"annotation": -1, "source": -1, "doubt": -1, "likely": -1}
"""Columns of a ranking that has such questions: the label that one is about, the query that one repeats, the kind of
doubt, the class that the model finds likely; -1: none.
"""


def mix(now: Round, ranking: Table) -> Table:
    """The ranking of new questions with the others in their places; as it was, where there are none."""
    old, before = _again(now, ranking) if now.run.ask.again else (_no_rows(), np.zeros(0, np.int64))
    looks = _reviews(now) if now.run.ask.review_share and not now.proposed else _no_rows()
    if not len(old["image"]) and not len(looks["image"]):
        return ranking
    n, m = len(ranking["image"]), len(old["image"])
    order = np.argsort(np.concatenate([np.arange(n), before]) - np.repeat([0.0, 0.5], [n, m]), kind="stable")
    asked = _stack(ranking, old, order)
    place = spread(len(order), len(looks["image"]), now.run.ask.review_share)
    total = len(order) + int(place.sum())
    at = np.zeros(total, np.int64)
    at[~place[:total]] = np.arange(len(order))
    at[place[:total]] = len(order) + np.arange(int(place.sum()))
    return _stack(asked, looks, at)


def spread(n: int, more: int, share: float) -> Bool[np.ndarray, " total"]:
    """Which places of a queue go to others: at most `more`, a `share` of the first k for every k.

    >>> spread(3, 9, 0.4).tolist()
    [False, False, True, False, True]
    """
    some = min(more, int(np.floor(share / (1 - share) * n + 1e-9)))
    place = np.zeros(n + some, np.bool_)
    if some:
        place[np.ceil(np.arange(1, some + 1) / share - 1e-9).astype(np.int64) - 1] = True
    return place


def is_new(now: Round, rank: int) -> bool:
    """Whether the question at a rank is one of the run's own score and selectors."""
    row = now.picks.row(rank)
    return "annotation" not in row or bool(row["doubt"] < 0 and row["source"] < 0)


def says_of_the_model(asked: Query) -> bool:
    """Whether an answer tells how often the model is right. Not of a question about a label or one that is asked again:
    the model was trained on an answer to it; nor of one whose answer is known, which the model did not choose.
    """
    return asked.rank >= 0 and not asked.reason.keys() & {DOUBT, AGAIN}


def query(now: Round, rank: int) -> Query:
    """The question at a rank that is no new one."""
    row = now.picks.row(rank)
    image, label = now.pool.names[int(row["image"])], int(row["label"])
    corners = [float(row[name]) for name in ("x1", "y1", "x2", "y2")]
    box = (corners[0], corners[1], corners[2], corners[3])
    score, known = float(row["score"]), None if label < 0 else label
    if (source := int(row["source"])) >= 0:
        where = box if now.units[0].RECTANGLE else None
        return Query(now.number, rank, image, now.unit_names[0], where, known, score, {AGAIN: source})
    unit = _unit_of_reviews(now)
    kind, likely = doubts.NAMES[int(row["doubt"])], int(row["likely"])
    reason: dict[str, float | str] = {"kind": kind, DOUBT: score, "model": now.pool.classes[likely]}
    if (annotation := int(row["annotation"])) >= 0:
        reason[REVIEWS] = float(annotation)
    return Query(now.number, rank, image, unit, box if units.find(unit).RECTANGLE else None, known, score, reason)


def _unit_of_reviews(now: Round) -> str:
    """A label is an object's box with its class, or the class of a whole image."""
    return units.FIRST if now.run.classifies else units.about_an_object()


def _reviews(now: Round) -> Table:
    run = now.run
    found = now.detections_in(now.covered | (np.diff(now.known.annotations.offsets) > 0))  # nothing else is doubted
    merged = run.ask.merge.name != "first"
    rows = doubts.doubts(
        now.ledger, now.pool, now.known, found.of_classes(len(now.pool.classes)), one_class=run.classifies,
        merged=merged, seen=now.context.seen,
    )  # fmt: skip
    label = np.where(rows.label < 0, rows.likely, rows.label)
    corners = dict(zip(("x1", "y1", "x2", "y2"), rows.xyxy.T, strict=True))
    extra = {"annotation": rows.annotation, "doubt": rows.kind, "likely": rows.likely}
    return {"image": rows.image, "label": label, "score": rows.doubt, **corners, **extra}


def _again(now: Round, ranking: Table) -> tuple[Table, Int64[np.ndarray, " m"]]:
    """Questions to ask again, and before which new question each goes."""
    found = another_opinion.worth_again(now)
    if found is None:
        return _no_rows(), np.zeros(0, np.int64)
    queries, again, of_detections = found
    order = np.argsort(-again, kind="stable")
    queries, again, n = [queries[k] for k in order.tolist()], again[order], len(ranking["image"])
    if of_detections is None:
        place = spread(n, len(queries), FIRST_SHARE)
        queries = queries[: int(place.sum())]
        before = np.flatnonzero(place) - np.arange(int(place.sum()))
    else:
        before = _places(again, _of_new(now, ranking, of_detections))
    nowhere = (np.nan,) * 4
    corners = np.array([query.box or nowhere for query in queries], np.float64).reshape(-1, 4)
    number_of, labels = now.pool.number_of, [-1 if query.label is None else query.label for query in queries]
    return {
        "image": np.array([number_of[query.image] for query in queries], np.int64),
        "label": np.array(labels, np.int64),
        "score": again[: len(queries)],
        **dict(zip(("x1", "y1", "x2", "y2"), corners.T, strict=True)),
        "source": np.array([query.id for query in queries], np.int64),
    }, before


def _places(again: Float64[np.ndarray, " m"], new: Float64[np.ndarray, " n"]) -> Int64[np.ndarray, " m"]:
    """Before which new question each old one goes: the first that is worth less; `again` falls.

    >>> _places(np.array([0.9, 0.5, 0.1]), np.array([0.6, 0.4, 0.8])).tolist()
    [0, 1, 3]
    """
    worse = np.minimum.accumulate(new)
    found: np.ndarray = np.searchsorted(-worse, -again, side="right")
    return found


def _of_new(now: Round, ranking: Table, of_detections: np.ndarray) -> Float64[np.ndarray, " n"]:
    """What each new question is worth: what its candidate is, or the best of its image."""
    if now.units[0].CLASS:
        return of_detections[ranking["row"]]
    best = np.zeros(len(now.pool))
    np.maximum.at(best, now.detections().image, of_detections)
    return best[ranking["image"]]


def _no_rows() -> Table:
    return {"image": np.zeros(0, np.int64)}


def _stack(one: Table, other: Table, order: np.ndarray) -> Table:
    """Rows of both tables in an order; a column that one lacks is empty there."""
    if not len(other["image"]):
        return one
    names = dict.fromkeys([*one, *other, *EXTRA])
    return {name: np.concatenate([_column(one, name), _column(other, name)])[order] for name in names}


def _column(table: Mapping[str, np.ndarray], name: str) -> np.ndarray:
    if name in table:
        return table[name]
    if name == BECAUSE:
        return np.full(len(table["image"]), "", object)
    whole = name in EXTRA or name in ("row", "label", "scale", "unit")
    return np.full(len(table["image"]), -1 if whole else np.nan)
