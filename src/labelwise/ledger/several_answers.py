"""All answers to queries that people answered, in columns, for merging and for how good people are.

A query has several opinions where two people or more have answered it; what was skipped or taken back, and what is of
an image that changed since, is left out. A query of which a label was corrected by hand is left out, too: the
correction stands. Questions whose answer is known come with what is right as a first answer. What was asked again
(`asked_again`) is an opinion on the query that it repeats.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import sqlalchemy as sa
from jaxtyping import Float64, Int64

from labelwise import units
from labelwise.ledger import known_questions
from labelwise.ledger import schema as t
from labelwise.ledger.answers import query_from_row
from labelwise.ledger.current_answers import HELD_BACK, taken_back
from labelwise.ledger.instant import Instant
from labelwise.ledger.ledger import Ledger
from labelwise.types import Answer, Query

_a, _q = t.answers.c, t.queries.c


@dataclass(frozen=True, slots=True, eq=False)
class Said:
    """Answers by query, the first answer of each query first; of one person's several the first.

    `query`, `person`: numbers in `queries`, `people`. `verdict`: as given. Box i belongs to answer `owner[i]`.
    `aware`: whether nobody added a class after the answer. Where the answer of a query is known, its first one is what
    is right, and its person the number after the last.
    """

    queries: Sequence[Query]
    people: Sequence[str]
    query: Int64[np.ndarray, " a"]
    person: Int64[np.ndarray, " a"]
    verdict: Sequence[str]
    aware: np.ndarray
    owner: Int64[np.ndarray, " b"]
    xyxy: Float64[np.ndarray, "b 4"]
    label: Int64[np.ndarray, " b"]


def _valid(seen: Instant | None) -> sa.ColumnElement[bool]:
    """Of a row of answers: it says something, and stands (at that instant)."""
    gone = (t.withdrawn.c.answer_id == _a.id) & taken_back(seen)
    valid = ~sa.exists().where(gone).correlate(t.answers) & (_a.verdict != units.SKIPPED)
    return valid if seen is None else valid & seen.rows(t.answers, "answers")


def several(seen: Instant | None = None, least: int = 2) -> sa.Select[tuple[int]]:
    """The ids of the queries that at least so many have answered and nobody has corrected (at that instant)."""
    known = sa.select(t.known_questions.c.query_id)
    n, newer = t.annotation_table, t.annotation_table.alias("correction")
    corrected = sa.select(n.c.query_id).select_from(n.join(newer, newer.c.supersedes == n.c.id))
    corrected = corrected.where(n.c.query_id.is_not(None))
    corrected = corrected.where(~sa.exists().where(t.withdrawn.c.answer_id == n.c.answer_id).correlate(n))
    about = sa.func.coalesce(t.asked_again.c.source_id, _a.query_id)
    joined = t.answers.join(t.queries).outerjoin(t.asked_again, t.asked_again.c.query_id == _q.id)
    each = sa.select(about.label("about"), _a.who).select_from(joined)
    if seen is not None:
        corrected = corrected.where(newer.c.id <= seen.annotations)
        each = each.where(_q.round <= seen.round)
    one = each.where(_valid(seen) & about.not_in(corrected) & _a.query_id.not_in(known)).subquery()
    return sa.select(one.c.about).group_by(one.c.about).having(sa.func.count(one.c.who.distinct()) >= least)


def read(ledger: Ledger, seen: Instant | None = None, least: int = 2) -> Said:
    """The valid answers of queries that at least so many have answered, or whose answer is known (at an instant, if
    one is given).
    """
    later = sa.select(sa.func.coalesce(sa.func.max(t.added_classes.c.answer_id), 0))
    if seen is not None:
        later = later.where(t.added_classes.c.number < seen.classes)
    about = sa.func.coalesce(t.asked_again.c.source_id, _q.id)
    joined = t.answers.join(t.queries).outerjoin(t.asked_again, t.asked_again.c.query_id == _q.id)
    select = sa.select(
        about.label("about"), *(_a[k].label(f"of_{k}") for k in ("id", "verdict", "boxes", "labels", "who"))
    )
    select = select.select_from(joined).where(_valid(seen) & _q.image.not_in(HELD_BACK))
    select = select.where(about.in_(several(seen, least)) | known_questions.KNOWN)
    if seen is not None:
        select = select.where(_q.round <= seen.round)
    with ledger.read() as connection:
        last_class = int(connection.execute(later).scalar_one())
        rows = connection.execute(select.order_by(about, _a.id)).mappings().all()
        queries = _queries(connection, [row["about"] for row in rows])
        known = known_questions.right_answers(connection, {k for k, query in queries.items() if query.rank < 0})
    by_query = {query: {"": (known[query][0], 0)} if query in known else {} for query in queries}
    for row in rows:
        by_query[row["about"]].setdefault(row["of_who"], (_answer(row, row["about"]), row["of_id"]))
    return _columns([one for said in by_query.values() for one in said.values()], queries, last_class)


def _queries(connection: sa.Connection, ids: Sequence[int]) -> dict[int, Query]:
    """Queries by their ids, in this order, each once."""
    every, found = list(dict.fromkeys(ids)), dict[int, Query]()
    for start in range(0, len(every), 1000):  # a database takes only so many values in one statement
        some = every[start : start + 1000]
        rows = connection.execute(sa.select(t.queries).where(_q.id.in_(some)).order_by(_q.id)).mappings()
        found |= {row["id"]: query_from_row(row) for row in rows}
    return found


def of_owners(connection: sa.Connection, unit: str) -> list[tuple[Query, Answer]]:
    """What owners answered to queries of a unit, the first answer of each query, oldest first."""
    owners = sa.select(t.people.c.name).where(t.people.c.role == "owner")
    select = sa.select(t.queries, *(_a[k].label(f"of_{k}") for k in ("id", "verdict", "boxes", "labels", "who")))
    select = select.select_from(t.answers.join(t.queries)).where(_valid(None) & (_q.unit == unit) & (_q.rank >= 0))
    select = select.where(_a.who.in_(owners) & _q.image.not_in(HELD_BACK)).order_by(_a.id.desc())
    found = {row["id"]: (query_from_row(row), _answer(row, row["id"])) for row in connection.execute(select).mappings()}
    return list(found.values())[::-1]


def _answer(row: sa.RowMapping, query: int) -> Answer:
    boxes = tuple((x1, y1, x2, y2) for x1, y1, x2, y2 in row["of_boxes"])
    return Answer(query, row["of_verdict"], boxes, tuple(row["of_labels"]), row["of_who"])


def _columns(given: Sequence[tuple[Answer, int]], queries: Mapping[int, Query], last_class: int) -> Said:
    """Answers with their ids, query by query; one without a name is what is right."""
    asked = list(dict.fromkeys(answer.query for answer, _ in given))
    people = sorted({answer.who for answer, _ in given} - {""})
    number, who = {k: i for i, k in enumerate(asked)}, {name: i for i, name in enumerate([*people, ""])}
    return Said(
        [queries[k] for k in asked],
        people,
        np.array([number[answer.query] for answer, _ in given], np.int64),
        np.array([who[answer.who] for answer, _ in given], np.int64),
        [answer.verdict for answer, _ in given],
        np.array([at > last_class for _, at in given], np.bool_),
        np.repeat(np.arange(len(given)), [len(answer.labels) for answer, _ in given]).astype(np.int64),
        np.array([box for answer, _ in given for box in answer.boxes], np.float64).reshape(-1, 4),
        np.array([label for answer, _ in given for label in answer.labels], np.int64),
    )
