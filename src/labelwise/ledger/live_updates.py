"""A round that trains and ranks anew while it asks: what is open and was never shown is replaced, and that is kept.

Every update is a row with the instant of the ledger that it took in and the rank at which its queries begin, so that
it can be told of each query by what model it was chosen, and computed again. A query that anybody was ever shown stays.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import sqlalchemy as sa

from labelwise.ledger import schema as t
from labelwise.ledger.answers import query_from_row, query_row
from labelwise.ledger.instant import Instant
from labelwise.ledger.ledger import Ledger, now
from labelwise.types import Place, Query

_l, _q, _u = t.leases.c, t.queries.c, t.live_updates.c


@dataclass(frozen=True, slots=True)
class Update:
    """A row of the table; `quality` in 0..1, None where it was not measured."""

    id: int
    round: int
    first_rank: int | None
    spent: dict[str, float]
    seen: Instant
    seconds: float
    quality: float | None
    created: str


@dataclass(frozen=True, slots=True)
class Replaced:
    """What an update has done to the queue: the places that stay in it or were answered, and how far the new ranking is
    used: `used` of the queries that were offered are in the queue or stay there, the last one at rank `last`.
    """

    id: int
    places: frozenset[Place]
    used: int
    last: int


def _never_shown(round_number: int) -> sa.ColumnElement[bool]:
    """Open queries of the ranking (questions whose answer is known have a rank below 0)."""
    here = (_q.round == round_number) & (_q.rank >= 0)
    return here & _q.id.not_in(sa.select(_l.query_id)) & _q.id.not_in(sa.select(t.answers.c.query_id))


def never_shown(ledger: Ledger, round_number: int) -> set[int]:
    """The ids of the open queries of a round that nobody was ever shown."""
    with ledger.read() as connection:
        return set(connection.execute(sa.select(_q.id).where(_never_shown(round_number))).scalars())


def said(ledger: Ledger, round_number: int) -> int:
    """How often something was said in a round: answers, and answers taken back."""
    answers = sa.select(sa.func.count()).select_from(t.answers.join(t.queries)).where(_q.round == round_number)
    joined = t.withdrawn.join(t.answers, t.withdrawn.c.answer_id == t.answers.c.id).join(t.queries)
    gone = sa.select(sa.func.count()).select_from(joined).where(_q.round == round_number)
    with ledger.read() as connection:
        return int(connection.execute(answers).scalar_one()) + int(connection.execute(gone).scalar_one())


def replace_open(ledger: Ledger, round_number: int, ranking: Sequence[Query], about: dict[str, Any]) -> Replaced:
    """Puts the first of a new ranking in the place of as many queries as nobody was shown, and keeps the update.

    `about`: `spent`, `seen` and `seconds` of the row. What is asked about already is passed over. All in one
    transaction: nobody finds the queue empty, and what is given out meanwhile stays.
    """
    never = _never_shown(round_number)
    with ledger.write() as connection:
        # PostgreSQL: what another server gives out just now is locked, and its lease is seen by the next statement
        locked = sa.select(_q.id).where(never).with_for_update(skip_locked=True, of=t.queries)
        ids = connection.execute(locked).scalars().all()
        gone = connection.execute(sa.delete(t.queries).where(_q.id.in_(ids) & never)).rowcount
        rows = connection.execute(sa.select(t.queries).where((_q.round == round_number) & (_q.rank >= 0))).mappings()
        kept = [query_from_row(row) for row in rows]
        places, first = {query.place for query in kept}, max((query.rank for query in kept), default=-1) + 1
        fresh = [(k, query) for k, query in enumerate(ranking) if query.place not in places][:gone]
        new = [replace(query, rank=first + k) for k, (_, query) in enumerate(fresh)]
        if new:
            connection.execute(sa.insert(t.queries), [query_row(query, round_number) for query in new])
        made = _insert(connection, about | {"round": round_number, "first_rank": first})
    return Replaced(made, frozenset(places), fresh[-1][0] + 1 if fresh else 0, first + len(new) - 1)


def trained(ledger: Ledger, round_number: int, about: dict[str, Any]) -> int:
    """Keeps an update that ranked nothing: of the first round, whose images are drawn."""
    with ledger.write() as connection:
        return _insert(connection, about | {"round": round_number})


def _insert(connection: sa.Connection, row: dict[str, Any]) -> int:
    values = row | {"seen": asdict(row["seen"]), "created": now()}
    return int(connection.execute(sa.insert(t.live_updates).returning(_u.id), values).scalar_one())


def measured(ledger: Ledger, update: int, quality: float) -> None:
    """What the model of an update reaches on the test images."""
    with ledger.write() as connection:
        connection.execute(sa.update(t.live_updates).where(_u.id == update).values(quality=quality))


def count(ledger: Ledger, round_number: int) -> int:
    """How many updates a round has had."""
    select = sa.select(sa.func.count()).select_from(t.live_updates).where(_u.round == round_number)
    with ledger.read() as connection:
        return int(connection.execute(select).scalar_one())


def every(ledger: Ledger) -> list[Update]:
    """All updates, oldest first."""
    with ledger.read() as connection:
        rows = connection.execute(sa.select(t.live_updates).order_by(_u.id)).mappings().all()
    return [Update(**{**row, "seen": Instant(**row["seen"])}) for row in rows]
