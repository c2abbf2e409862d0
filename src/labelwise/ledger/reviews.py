"""Questions about labels that are there: the answer's label supersedes the one that was asked about.

Such a query names the annotation in its reason, under `REVIEWS`. An answer with a box supersedes it by its own, one
without withdraws it; taken back, the label is again what it was.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import sqlalchemy as sa

from labelwise.ledger import schema as t
from labelwise.ledger.answers import label_rows, origin_of
from labelwise.types import Answer, Query
from labelwise.units import SKIPPED

REVIEWS = "review"
"""Key of a query's reason: the id of the annotation that it asks about."""
DOUBT = "doubt"
"""Key of the reason of every query that a doubt asks, also about an object that has no annotation."""

_n = t.annotation_table
_CORNERS = ("x1", "y1", "x2", "y2")


def rows_of(
    connection: sa.Connection,
    counted: Sequence[tuple[Query, Answer, int]],
    sizes: Mapping[str, tuple[int, int]],
    origin: str | None,
    created: str,
) -> list[tuple[sa.Table, list[dict[str, Any]]]]:
    """`answers.label_rows`, in which the answer to a review supersedes what it was about.

    A label that was superseded meanwhile stays as it is: the answer adds its own.
    """
    made = label_rows(counted, sizes, origin, created)
    asked = {one[2]: one[0] for one in counted if REVIEWS in one[0].reason}
    if not asked:
        return made
    current = _current(connection, asked)
    first = {row["id"]: answer_id for answer_id, row in reversed(current.items())}  # of several at once the first
    left = {answer_id: current[answer_id] for answer_id in first.values()}
    annotations = made[0][1]
    for row in annotations:
        about = left.pop(row["answer_id"], None)
        row["supersedes"] = None if about is None else about["id"]
    for query, answer, answer_id in counted:
        about = left.get(answer_id)
        if about is not None and answer.verdict != SKIPPED:
            row = {name: about[name] for name in ("image", *_CORNERS)} | {"label": None, "supersedes": about["id"]}
            row |= {"round": query.round, "query_id": query.id, "answer_id": answer_id, "created": created}
            annotations.append(row | {"origin": origin or origin_of(answer.who)})
    return made


def _current(connection: sa.Connection, asked: Mapping[int, Query]) -> dict[int, sa.RowMapping]:
    """By answer the label that its query asks about, as long as it stands: itself, or the same label again, when what
    superseded it was taken back (`restored`) or confirmed it.
    """
    newer, old = _n.alias("newer"), _n.alias("old")
    same = [_n.c[name] == old.c[name] for name in ("image", "label", *_CORNERS)]
    stands = ~sa.exists().where(newer.c.supersedes == _n.c.id).correlate(_n)
    found = dict[int, sa.RowMapping]()
    for answer_id, query in asked.items():
        which = (old.c.id == int(query.reason[REVIEWS])) & ((_n.c.id == old.c.id) | _n.c.supersedes.is_not(None))
        select = sa.select(_n).select_from(_n.join(old, sa.and_(*same))).where(which & stands)
        row = connection.execute(select.order_by(_n.c.id).limit(1)).mappings().first()
        if row is not None:
            found[answer_id] = row
    return found


def restored(connection: sa.Connection, answer_id: int, who: str, created: str) -> list[dict[str, Any]]:
    """Rows by which the labels that an answer superseded are again what they were."""
    newer, old = _n.alias("newer"), _n.alias("old")
    select = sa.select(_n.c.id, _n.c.round, _n.c.query_id, old.c.image, old.c.label, *(old.c[k] for k in _CORNERS))
    select = select.select_from(_n.join(old, _n.c.supersedes == old.c.id)).where(_n.c.answer_id == answer_id)
    rows = connection.execute(select.where(~sa.exists().where(newer.c.supersedes == _n.c.id).correlate(_n))).mappings()
    made = {"origin": origin_of(who), "created": created}
    return [{**{k: v for k, v in row.items() if k != "id"}, "supersedes": row["id"], **made} for row in rows]
