"""Questions that are asked again, of somebody else: another opinion on what was answered (`ask.again`).

Each is a query of its own in the round that asks it, so that its cost is that round's. It names what it repeats in its
reason, under `AGAIN`, and in a row of `asked_again`. Its answers leave no label and obtain nothing: they are opinions
on the query that it repeats, beside that one's own answers (`several_answers`), and `ask.merge` weighs them.
"""

from __future__ import annotations

from collections.abc import Sequence

import sqlalchemy as sa

from labelwise.ledger import schema as t
from labelwise.types import Query

AGAIN = "again"
"""Key of a query's reason: the id of the query that it repeats."""

_g, _q = t.asked_again.c, t.queries.c
_said = t.answers.alias("said_before")
_other = t.asked_again.alias("other_time")
_gone = t.withdrawn.alias("gone_again")

IS_AGAIN = sa.exists().where(_g.query_id == _q.id).correlate(t.queries)
"""Of a row of `queries`: it repeats another one."""


def note(connection: sa.Connection, round_number: int, queries: Sequence[Query]) -> None:
    """Notes of queries that were just added to a round which of them repeat another one."""
    for query in queries:
        if AGAIN in query.reason:
            which = (_q.round == round_number) & (_q.rank == query.rank)
            source = sa.literal(int(query.reason[AGAIN]))
            added = sa.select(_q.id, source).where(which & ~IS_AGAIN)
            connection.execute(sa.insert(t.asked_again).from_select(["query_id", "source_id"], added))


def said_by(who: sa.ColumnElement[str]) -> sa.ColumnElement[bool]:
    """Of a row of `queries`: it repeats one that `who` has answered, then or when it was asked again before."""
    source = sa.select(_g.source_id).where(_g.query_id == _q.id).correlate(t.queries).scalar_subquery()
    again = sa.select(_other.c.query_id).where(_other.c.source_id == source)
    own = (_said.c.who == who) & ((_said.c.query_id == source) | _said.c.query_id.in_(again))
    valid = ~sa.exists().where(_gone.c.answer_id == _said.c.id).correlate(_said)
    return sa.exists().where(own & valid).correlate(t.queries, t.people)


_person = t.people.c
SOMEBODY_LEFT = sa.exists().where(_person.secret.is_not(None) & ~said_by(_person.name)).correlate(t.queries)
"""Of a row of `queries` that repeats another one: there is somebody who has not answered that yet."""
