"""Questions whose answer is known: asked among the others, so that people are measured by what is right.

Each is a query of its own with a rank below 0, by which nobody's labels change: its answers cost a query and their
time, and nothing follows from them. What is right was settled before, and is kept beside it.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import sqlalchemy as sa

from labelwise.ledger import schema as t
from labelwise.ledger.answers import query_from_row, query_row
from labelwise.types import Answer, Cost, Query
from labelwise.types.overlap import iou_matrix

_k, _q, _a = t.known_questions.c, t.queries.c, t.answers.c

KNOWN = sa.exists().where(_k.query_id == _q.id).correlate(t.queries)
"""Of a row of `queries`: its answer is known."""

OWN_SOURCE = sa.exists().where(
    (_k.query_id == _q.id) & (_a.query_id == _k.source_id) & (_a.who == sa.bindparam("person"))
)
OWN_SOURCE = OWN_SOURCE.correlate(t.queries)
"""Of a row of `queries`: it is known by an answer of `person`."""

BoxTuple = tuple[float, float, float, float]
GIVEN = "given"
"""Origin of a label that came with its image (`given_labels`)."""
SAME_BOX = 0.5
"""IoU from which two boxes are of the same object."""

_BY_ID = sa.select(t.known_questions).where(_k.query_id.in_(sa.bindparam("ids", expanding=True)))


@dataclass(frozen=True, slots=True)
class Known:
    """A question and what is right. `source`: the query that was asked before, None where a label came with the image;
    `shown_rank`: the rank that the page says.
    """

    query: Query
    right: Answer
    source: int | None
    shown_rank: int


def add(connection: sa.Connection, round_number: int, questions: Sequence[Known]) -> None:
    """Adds questions to a round, behind those that it has."""
    least = sa.select(sa.func.min(_q.rank)).where(_q.round == round_number)
    rank = min(connection.execute(least).scalar() or 0, 0)
    for k, one in enumerate(questions, start=1):
        row = query_row(replace(one.query, round=round_number, rank=rank - k), round_number)
        query_id = connection.execute(sa.insert(t.queries).returning(_q.id), row).scalar_one()
        right: dict[str, Any] = {"verdict": one.right.verdict, "labels": [int(label) for label in one.right.labels]}
        right |= {"boxes": [[float(v) for v in box] for box in one.right.boxes], "shown_rank": one.shown_rank}
        connection.execute(sa.insert(t.known_questions), {"query_id": query_id, "source_id": one.source, **right})


def right_answers(connection: sa.Connection, ids: Collection[int]) -> dict[int, tuple[Answer, int]]:
    """Of those of these queries whose answer is known: what is right, and the rank that the page says."""
    every, found = list(ids), dict[int, tuple[Answer, int]]()
    for start in range(0, len(every), 1000):  # a database takes only so many values in one statement
        rows = connection.execute(_BY_ID, {"ids": every[start : start + 1000]}).mappings()
        found |= {row["query_id"]: (_answer(row), row["shown_rank"]) for row in rows}
    return found


def _answer(row: sa.RowMapping) -> Answer:
    boxes = tuple((float(x1), float(y1), float(x2), float(y2)) for x1, y1, x2, y2 in row["boxes"])
    return Answer(row["query_id"], row["verdict"], boxes, tuple(row["labels"]), "")


def every(connection: sa.Connection) -> list[Known]:
    """All that were ever asked, in the order in which they were added."""
    select = sa.select(t.queries, _k.source_id, _k.verdict, _k.boxes, _k.labels, _k.shown_rank, _k.query_id)
    rows = connection.execute(select.select_from(t.known_questions.join(t.queries)).order_by(_q.id)).mappings()
    return [Known(query_from_row(row), _answer(row), row["source_id"], row["shown_rank"]) for row in rows]


def given_labels_of(
    connection: sa.Connection, images: Sequence[str]
) -> dict[str, tuple[bool, list[tuple[BoxTuple, int]]]]:
    """Of each image that came with labels: whether these are all its objects, and they, unless corrected since."""
    n, newer, c = t.annotation_table, t.annotation_table.alias("newer"), t.coverage.c
    select = sa.select(n.c.image, n.c.x1, n.c.y1, n.c.x2, n.c.y2, n.c.label)
    select = select.where(n.c.image.in_(images) & (n.c.origin == GIVEN) & n.c.supersedes.is_(None))
    corrected = sa.exists().where(newer.c.supersedes == n.c.id).correlate(n)
    gone = sa.exists().where(t.forgotten.c.coverage_id == c.id).correlate(t.coverage)
    whole = sa.select(c.image).where(c.image.in_(images) & c.query_id.is_(None) & ~gone)
    wholly = set(connection.execute(whole).scalars())
    found: dict[str, tuple[bool, list[tuple[BoxTuple, int]]]] = {image: (True, []) for image in wholly}
    for image, x1, y1, x2, y2, label in connection.execute(select.where(~corrected).order_by(n.c.id)):
        found.setdefault(image, (False, []))[1].append(((x1, y1, x2, y2), label))
    return found


def hidden(known: Mapping[str, Any], right: Answer) -> dict[str, Any]:
    """What the page may show of the image: nothing that overlaps what is right, nor that anything was looked over."""
    boxes = [one["box"] for one in known["boxes"]]
    iou = iou_matrix(np.array(boxes, np.float64).reshape(-1, 4), np.array(right.boxes, np.float64).reshape(-1, 4))
    kept = [one for one, row in zip(known["boxes"], iou, strict=True) if row.max(initial=0.0) < SAME_BOX]
    return {"boxes": kept, "covered": []}


def price(cost: Cost) -> Cost:
    """What an answer to such a question costs: it obtains nothing."""
    return replace(cost, boxes=0, images=0)


def counts(connection: sa.Connection, round_number: int) -> tuple[int, int]:
    """How many other questions of a round have an answer, and how many known ones were added to it."""
    asked = sa.select(sa.func.count()).select_from(t.queries).where((_q.round == round_number) & KNOWN)
    answered = sa.select(sa.func.count(_a.query_id.distinct())).select_from(t.answers.join(t.queries))
    answered = answered.where((_q.round == round_number) & (_q.rank >= 0))
    return int(connection.execute(answered).scalar_one()), int(connection.execute(asked).scalar_one())
