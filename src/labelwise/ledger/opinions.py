"""All answers to queries that people answered, in columns, for merging and for how good people are.

A query has several opinions where two people or more have answered it; what was skipped or taken back, and what is of
an image that changed since, is left out. A query of which a label was corrected by hand is left out, too: the
correction stands.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import sqlalchemy as sa
from jaxtyping import Float64, Int64

from labelwise import units
from labelwise.ledger import schema as t
from labelwise.ledger.answers import query_from_row
from labelwise.ledger.current_answers import HELD_BACK, taken_back
from labelwise.ledger.instant import Instant
from labelwise.ledger.ledger import Ledger
from labelwise.types import Query

_a, _q = t.answers.c, t.queries.c


@dataclass(frozen=True, slots=True, eq=False)
class Said:
    """Answers by query, the first answer of each query first; of one person's several the first.

    `query`, `person`: numbers in `queries`, `people`. `verdict`: as given. Box i belongs to answer `owner[i]`.
    `aware`: whether nobody added a class after the answer.
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


def several(seen: Instant | None = None) -> sa.Select[tuple[int]]:
    """The ids of the queries that several people have answered and nobody has corrected (at that instant)."""
    n, newer = t.annotation_table, t.annotation_table.alias("correction")
    corrected = sa.select(n.c.query_id).select_from(n.join(newer, newer.c.supersedes == n.c.id))
    corrected = corrected.where(n.c.query_id.is_not(None))
    corrected = corrected.where(~sa.exists().where(t.withdrawn.c.answer_id == n.c.answer_id).correlate(n))
    select = sa.select(_a.query_id)
    if seen is not None:
        corrected = corrected.where(newer.c.id <= seen.annotations)
        select = select.select_from(t.answers.join(t.queries)).where(_q.round <= seen.round)
    select = select.where(_valid(seen) & _a.query_id.not_in(corrected)).group_by(_a.query_id)
    return select.having(sa.func.count(_a.who.distinct()) > 1)


def read(ledger: Ledger, seen: Instant | None = None) -> Said:
    """The valid answers of queries that several people have answered (at an instant, if one is given)."""
    later = sa.select(sa.func.coalesce(sa.func.max(t.added_classes.c.answer_id), 0))
    if seen is not None:
        later = later.where(t.added_classes.c.number < seen.classes)
    joined = t.answers.join(t.queries)
    select = sa.select(t.queries, *(_a[k].label(f"of_{k}") for k in ("id", "verdict", "boxes", "labels", "who")))
    select = select.select_from(joined).where(_valid(seen) & _q.id.in_(several(seen)) & _q.image.not_in(HELD_BACK))
    with ledger.read() as connection:
        last_class = int(connection.execute(later).scalar_one())
        rows = connection.execute(select.order_by(_q.id, _a.ordinal)).mappings().all()
    once = list({(row["id"], row["of_who"]): row for row in reversed(rows)}.values())[::-1]
    queries = {row["id"]: query_from_row(row) for row in once}
    people = sorted({row["of_who"] for row in once})
    number, who = {k: i for i, k in enumerate(queries)}, {name: i for i, name in enumerate(people)}
    return Said(
        list(queries.values()),
        people,
        np.array([number[row["id"]] for row in once], np.int64),
        np.array([who[row["of_who"]] for row in once], np.int64),
        [row["of_verdict"] for row in once],
        np.array([row["of_id"] > last_class for row in once], np.bool_),
        np.repeat(np.arange(len(once)), [len(row["of_labels"]) for row in once]).astype(np.int64),
        np.array([box for row in once for box in row["of_boxes"]], np.float64).reshape(-1, 4),
        np.array([label for row in once for label in row["of_labels"]], np.int64),
    )
