"""Which answer of a query counts: the first that its author has not taken back. Taking one back deletes nothing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import sqlalchemy as sa

from labelwise.ledger import asked_again, reviews
from labelwise.ledger import schema as t
from labelwise.ledger.answers import origin_of, query_from_row
from labelwise.ledger.instant import Instant
from labelwise.types import Answer

_a = t.answers.c
_earlier = t.answers.alias("earlier")


def taken_back(seen: Instant | None = None) -> sa.ColumnElement[bool]:
    """Of a row of `withdrawn`: it was there at that instant (None: now)."""
    return sa.true() if seen is None else t.withdrawn.c.created <= seen.time


def _withdrawn(answers: sa.FromClause, seen: Instant | None = None) -> sa.Exists:
    of = t.withdrawn.c.answer_id == answers.c.id
    return sa.exists().where(of if seen is None else of & taken_back(seen)).correlate(answers)


def is_current(seen: Instant | None = None) -> sa.ColumnElement[bool]:
    """Of a row of `answers`: it is the one that counts (at that instant)."""
    first = (_earlier.c.query_id == _a.query_id) & (_earlier.c.ordinal < _a.ordinal) & ~_withdrawn(_earlier, seen)
    counts = ~_withdrawn(t.answers, seen) & ((_a.ordinal == 0) | ~sa.exists().where(first).correlate(t.answers))
    return counts if seen is None else counts & seen.rows(t.answers, "answers")


CURRENT = is_current()

_BARE = (t.known_questions, t.asked_again)
"""Queries of which no labels follow."""

_any = t.answers.alias("any_answer")


def unanswered(seen: Instant | None = None) -> sa.ColumnElement[bool]:
    """Of a row of `queries`: nobody has answered it, or whoever did has taken that back."""
    given = (_any.c.query_id == t.queries.c.id) & ~_withdrawn(_any, seen)
    if seen is None:
        return ~sa.exists().where(given).correlate(t.queries)
    there = given & seen.rows(_any, "answers") & (t.queries.c.round <= seen.round)
    return ~sa.exists().where(there).correlate(t.queries)


UNANSWERED = unanswered()

HELD_BACK = sa.select(t.unavailable.c.image).where(t.unavailable.c.why == "changed")
"""Images whose content changed since they were labelled: what is known of them holds for another picture."""

SHOWABLE = ~sa.exists().where(t.unavailable.c.image == t.queries.c.image).correlate(t.queries)
"""Of a row of `queries`: its image can be shown."""

_heard = (
    sa.select(sa.func.count(_any.c.who.distinct()))
    .where((_any.c.query_id == t.queries.c.id) & ~_withdrawn(_any))
    .correlate(t.queries)
    .scalar_subquery()
)


def wants(overlap: int, who: sa.ColumnElement[str]) -> sa.ColumnElement[bool]:
    """Of a row of `queries`: fewer than `overlap` people (one, where it repeats another) have answered it, and `who` is
    none of them.
    """
    if overlap == 1:
        return UNANSWERED
    own = (_any.c.query_id == t.queries.c.id) & (_any.c.who == who) & ~_withdrawn(_any)
    wanted = sa.case((asked_again.IS_AGAIN, 1), else_=overlap)
    return (_heard < wanted) & ~sa.exists().where(own).correlate(t.queries)


def current_rows(table: sa.Table, verdicts: Sequence[str], seen: Instant | None = None) -> sa.ColumnElement[bool]:
    """Of a row of coverage (or background): it follows from an answer that counts (at that instant). `verdicts` are
    those that cover (or mark background), of all units.

    A row without a query came with the images (`given_labels`); it counts until it is forgotten.
    Rows of an image whose content changed are held back. Before a class was added to the list, nobody looked for it:
    such rows hold no longer (`ledger.class_list`).
    A row names its query alone, so a query of which an answer was taken back is looked at closely: the answer that
    counts must have such a verdict, and of several rows the newest is meant.
    """
    touched = sa.select(_a.query_id).select_from(t.answers.join(t.withdrawn))
    newer = table.alias("newer")
    later = (newer.c.query_id == table.c.query_id) & (newer.c.id > table.c.id)
    there: sa.ColumnElement[bool] = sa.true()
    if seen is not None:
        touched = touched.where(taken_back(seen))
        later &= seen.rows(newer, table.name)
        there = seen.rows(table, table.name)
    newest = ~sa.exists().where(later).correlate(table)
    of_query = (_a.query_id == table.c.query_id) & _a.verdict.in_(verdicts)
    said = sa.exists().where(of_query & is_current(seen)).correlate(table)
    counts = table.c.query_id.is_(None) | table.c.query_id.not_in(touched) | (newest & said)
    if table is t.coverage:
        gone = t.forgotten.c.coverage_id == table.c.id
        gone = gone if seen is None else gone & (t.forgotten.c.created <= seen.time)
        counts &= ~sa.exists().where(gone).correlate(table)
    counts &= table.c.image.not_in(HELD_BACK)
    return there & (table.c.id > _before_last_class(t.added_classes.c[f"{table.name}_id"], seen)) & counts


def _before_last_class(column: sa.Column[int], seen: Instant | None = None) -> sa.ScalarSelect[int]:
    select = sa.select(sa.func.coalesce(sa.func.max(column), 0))
    if seen is not None:
        select = select.where(t.added_classes.c.number < seen.classes)
    return select.scalar_subquery()


def answer_of(row: sa.RowMapping) -> Answer:
    """An answer as it was given."""
    boxes = tuple((float(x1), float(y1), float(x2), float(y2)) for x1, y1, x2, y2 in row["boxes"])
    labels = tuple(row["labels"])
    return Answer(row["query_id"], row["verdict"], boxes, labels, row["who"], row["seconds"], row["note"])


def withdraw(
    connection: sa.Connection, answer_id: int, who: str, sizes: Mapping[str, tuple[int, int]], created: str
) -> None:
    """Takes an answer back: its annotations are superseded, and the second opinion after it counts, if there is one."""
    counted = connection.execute(sa.select(t.answers).where((_a.id == answer_id) & CURRENT)).mappings().one_or_none()
    connection.execute(sa.insert(t.withdrawn), {"answer_id": answer_id, "who": who, "created": created})
    if counted is None:  # a second opinion: nothing follows from it
        return
    n = t.annotation_table
    newer = n.alias("newer")
    current = n.c.label.is_not(None) & ~sa.exists().where(newer.c.supersedes == n.c.id).correlate(n)
    of_answer = (n.c.answer_id == answer_id) & n.c.supersedes.is_(None)
    made = connection.execute(sa.select(n).where(of_answer & current)).mappings().all()
    if back := reviews.restored(connection, answer_id, who, created):
        connection.execute(sa.insert(n), back)
    gone = [
        {
            **{name: row[name] for name in ("image", "x1", "y1", "x2", "y2", "round", "query_id")},
            "supersedes": row["id"],
        }
        for row in made
    ]
    if gone:
        added = {"label": None, "origin": origin_of(who), "created": created}
        connection.execute(sa.insert(n), [row | added for row in gone])
    of_query = (_a.query_id == counted["query_id"]) & CURRENT
    next_one = connection.execute(sa.select(t.answers).where(of_query)).mappings().one_or_none()
    no_labels = [sa.select(k.c.query_id).where(k.c.query_id == counted["query_id"]) for k in _BARE]
    if next_one is not None and not any(connection.execute(one).scalar() for one in no_labels):
        row = connection.execute(sa.select(t.queries).where(t.queries.c.id == counted["query_id"])).mappings().one()
        opinion = (query_from_row(row), answer_of(next_one), next_one["id"])
        unaware = connection.execute(sa.select(_before_last_class(t.added_classes.c.answer_id))).scalar_one()
        for table, inserts in reviews.rows_of(connection, [opinion], sizes, origin_of(next_one["who"]), created):
            if inserts and (table is n or next_one["id"] > unaware):
                connection.execute(sa.insert(table), inserts)
