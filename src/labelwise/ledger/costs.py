"""What the rounds have cost, summed by the database, and how long answers took."""

from __future__ import annotations

import sqlalchemy as sa

from labelwise.ledger import schema as t
from labelwise.ledger.answers import query_from_row
from labelwise.ledger.current_answers import is_current, taken_back
from labelwise.ledger.instant import Instant
from labelwise.ledger.suggestions import offered_since
from labelwise.types import Answer, Cost, Query


def costs(connection: sa.Connection, seen: Instant | None = None) -> dict[int, Cost]:
    """What each round has cost, or had at an instant (`Ledger.cost_by_round`)."""
    a = t.answers.c
    once = [sa.func.sum(sa.case((is_current(seen), column), else_=0)) for column in (a.cost_boxes, a.cost_images)]
    asked = sa.func.sum(sa.case((t.withdrawn.c.answer_id.is_(None), a.cost_queries), else_=0))
    sums = (once[0], asked, once[1], sa.func.sum(a.cost_seconds))
    gone = (t.withdrawn.c.answer_id == a.id) & taken_back(seen)
    tables = t.answers.join(t.queries).outerjoin(t.withdrawn, gone)
    select = sa.select(t.queries.c.round, *sums).select_from(tables).group_by(t.queries.c.round)
    select = select if seen is None else select.where(seen.rows(t.answers, "answers"))
    rows = connection.execute(select.order_by(t.queries.c.round)).all()
    return {row[0]: Cost(int(row[1]), int(row[2]), int(row[3]), float(row[4])) for row in rows}


def by_verdict(connection: sa.Connection, seen: Instant | None = None) -> list[tuple[int, str, str, int, int, float]]:
    """Rows (round, unit, verdict, answers, boxes, seconds) of the answers that count, or did at an instant."""
    a, q = t.answers.c, t.queries.c
    sums = sa.func.count(), sa.func.sum(a.cost_boxes), sa.func.sum(a.cost_seconds)
    select = sa.select(q.round, q.unit, a.verdict, *sums).select_from(t.answers.join(t.queries)).where(is_current(seen))
    select = select if seen is None else select.where(q.round <= seen.round)
    rows = connection.execute(select.group_by(q.round, q.unit, a.verdict).order_by(q.round, q.unit, a.verdict)).all()
    return [(int(r), str(u), str(v), int(n), int(boxes), float(seconds)) for r, u, v, n, boxes, seconds in rows]


def timed_answers(connection: sa.Connection, most: int) -> list[tuple[Query, Answer]]:
    """The newest answers with measured seconds, oldest first, those that were taken back or are second opinions, too:
    their time was spent.
    """
    a = t.answers.c
    said = (a.verdict, a.boxes, a.labels, a.who, a.seconds, a.id.label("answer_id"))
    select = sa.select(t.queries, *said).select_from(t.answers.join(t.queries)).where(a.seconds > 0)
    rows = connection.execute(select.order_by(a.id.desc()).limit(most)).mappings().all()
    found, offered = [], offered_since(connection, rows[-1]["answer_id"]) if rows else {}
    for row in reversed(rows):
        boxes = [tuple(map(float, box)) for box in row["boxes"]]
        said_then = (row["id"], row["verdict"], boxes, row["labels"], row["who"], row["seconds"])
        answer = Answer(*said_then, suggested=offered.get(row["answer_id"], ()))  # type: ignore[arg-type]
        found.append((query_from_row(row), answer))
    return found
