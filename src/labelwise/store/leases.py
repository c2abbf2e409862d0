"""Leases: who is looking at which open query, so that two people are never asked the same (DESIGN section 5).

A lease is a row with a secret that only its holder knows. It expires unless it is renewed, and the query goes back to
the others. Whoever held a lease may still answer: of a query that somebody else has answered meanwhile, the answer is
kept as a second opinion, so that no work is lost. The same secret answers once: a page that did not hear back sends its
answer again, and it is not stored twice. Every method is one transaction.
"""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import sqlalchemy as sa

from labelwise.store import schema as t
from labelwise.store.answers import query_from_row
from labelwise.store.ledger import Ledger, now
from labelwise.store.opinions import STANDING, UNANSWERED, answer_of, origin_of, withdraw
from labelwise.types import Answer, Cost, LabelwiseError, Query

LEASE_S = 120.0
MOST_HELD = 12
"""Queries that one person may hold at a time, all windows together."""
UNDO_DEPTH = 20

_l, _q = t.leases.c, t.queries.c


class LeaseError(LabelwiseError):
    """The secret is not one that this person was given for this query."""


@dataclass(frozen=True, slots=True)
class Lease:
    """A query that is held until `expires` (seconds since 1970). `before`: what its holder said and took back."""

    query: Query
    secret: str
    expires: float
    before: Answer | None = None


@dataclass(frozen=True, slots=True)
class Recorded:
    """An answer that is in the ledger. `counts`: it is the first; `repeated`: it had been sent before."""

    answer_id: int
    counts: bool
    repeated: bool = False


def _hash(secret: str) -> str:
    return hashlib.sha256(secret.encode()).hexdigest()


class Leases:
    """The queue of a project. `lease_s`: how long a lease lasts that nobody renews."""

    def __init__(self, ledger: Ledger, lease_s: float = LEASE_S) -> None:
        self._ledger = ledger
        self.lease_s = lease_s
        self._from: dict[int, int] = {}  # per round, a rank before which every query is answered: where to look first

    def round(self) -> int | None:
        """The round that is asking now."""
        with self._ledger._read() as connection:
            return _open_round(connection)

    def take(self, who: str, tab: str, at: float, *, most: int = 1, holding: Sequence[int] = ()) -> list[Lease]:
        """Leases of the current round for a window that holds the queries `holding`, so that it has `most`.

        First those that the window was given before and has forgotten (it was reloaded), then the best-ranked open
        queries that nobody holds. None when the round asks nothing now.
        """
        with self._ledger._write() as connection:
            round = _open_round(connection)
            if round is None:
                return []
            self._expire(connection, at)
            mine = (_l.who == who) & _l.ended.is_(None)
            held = sa.select(t.queries, _l.id.label("lease"), _l.tab).select_from(t.leases.join(t.queries)).where(mine)
            rows = connection.execute(held.order_by(_q.round, _q.rank)).mappings().all()
            here = [row for row in rows if row["tab"] == tab]
            lost = [row for row in here if row["id"] not in holding][: max(0, most - len(holding))]
            if lost:
                ended = sa.update(t.leases).where(_l.id.in_([row["lease"] for row in lost]))
                connection.execute(ended.values(ended="given anew"))
            room = min(most - len(holding) - len(lost), MOST_HELD - len(rows))
            fresh = self._free(connection, round, room) if room > 0 else []
            queries = [query_from_row(row) for row in (*lost, *fresh)]
            return [self._lease(connection, query, who, tab, at) for query in queries]

    def _free(self, connection: sa.Connection, round: int, most: int) -> Sequence[sa.RowMapping]:
        held = sa.exists().where((_l.query_id == _q.id) & _l.ended.is_(None)).correlate(t.queries)
        for start in sorted({self._from.get(round, 0), 0}, reverse=True):
            here = (_q.round == round) & (_q.rank >= start) & UNANSWERED
            first = connection.execute(sa.select(_q.rank).where(here).order_by(_q.rank).limit(1)).scalar()
            self._from[round] = start if first is None else first
            if first is None:
                continue
            select = sa.select(t.queries).where((_q.round == round) & (_q.rank >= first) & UNANSWERED & ~held)
            locked = select.order_by(_q.rank).limit(most).with_for_update(skip_locked=True, of=t.queries)
            rows = connection.execute(locked).mappings().all()
            if rows:
                return rows
        return []

    def _lease(self, connection: sa.Connection, query: Query, who: str, tab: str, at: float) -> Lease:
        secret = secrets.token_urlsafe(18)
        values = {"query_id": query.id, "who": who, "tab": tab, "secret": _hash(secret), "issued": at}
        connection.execute(sa.insert(t.leases), values | {"expires": at + self.lease_s})
        return Lease(query, secret, at + self.lease_s)

    def _expire(self, connection: sa.Connection, at: float) -> None:
        connection.execute(sa.update(t.leases).where(_l.ended.is_(None) & (_l.expires <= at)).values(ended="expired"))

    def renew(self, who: str, tab: str, at: float) -> list[int]:
        """The heartbeat of a window: its leases last `lease_s` from now; returns the queries that it still holds."""
        mine = (_l.who == who) & (_l.tab == tab) & _l.ended.is_(None)
        with self._ledger._write() as connection:
            self._expire(connection, at)
            renewed = sa.update(t.leases).where(mine).values(expires=at + self.lease_s).returning(_l.query_id)
            return sorted(connection.execute(renewed).scalars())

    def release(self, who: str, tab: str) -> None:
        """A window closes: what it holds goes back at once."""
        mine = (_l.who == who) & (_l.tab == tab) & _l.ended.is_(None)
        with self._ledger._write() as connection:
            connection.execute(sa.update(t.leases).where(mine).values(ended="released"))

    def answer(
        self, answer: Answer, secret: str, price: Callable[[Query, Answer], Cost], at: float, *, tab: str = ""
    ) -> Recorded:
        """Stores an answer with its cost and ends the lease, in one transaction.

        Its measured seconds are at most the age of the lease, since nobody can look at a query before it is given out.

        Raises:
            LeaseError: this person never held a lease of this query with this secret.
            LabelwiseError: the answer does not fit the query (it can be mended and sent again).
        """
        with self._ledger._write() as connection:
            row = connection.execute(sa.select(t.leases).where(_l.secret == _hash(secret))).mappings().one_or_none()
            if row is None or (row["who"], row["query_id"]) != (answer.who, answer.query):
                raise LeaseError(f"query {answer.query}: no such lease of {answer.who}. Reload the page")
            if row["answer_id"] is not None:
                return Recorded(row["answer_id"], _stands(connection, row["answer_id"]), repeated=True)
            stored = connection.execute(sa.select(t.queries).where(_q.id == answer.query)).mappings().one()
            query = query_from_row(stored)
            timed = replace(answer, seconds=min(answer.seconds, max(0.0, at - row["issued"])))
            record = (query, timed, price(query, timed))
            [(answer_id, counts)] = self._ledger.record_within(connection, [record], origin_of(answer.who))
            of_query = (_l.query_id == answer.query) & _l.ended.is_(None)
            connection.execute(sa.update(t.leases).where(of_query).values(ended="answered"))
            done = sa.update(t.leases).where(_l.id == row["id"])
            connection.execute(done.values(ended="answered", answer_id=answer_id))
            return Recorded(answer_id, counts)

    def undo(self, who: str, tab: str, at: float) -> Lease:
        """Takes back this person's last answer in the current round and gives the query out to them again.

        Raises:
            LabelwiseError: there is nothing to take back, or the query is in somebody else's hands now.
        """
        a = t.answers.c
        with self._ledger._write() as connection:
            round = _open_round(connection)
            select = sa.select(t.answers, t.withdrawn.c.answer_id.label("gone")).select_from(
                t.answers.join(t.queries).outerjoin(t.withdrawn)
            )
            last = select.where((a.who == who) & (_q.round == round)).order_by(a.id.desc()).limit(UNDO_DEPTH)
            rows = (
                [row for row in connection.execute(last).mappings() if row["gone"] is None] if round is not None else []
            )
            if not rows:
                raise LabelwiseError(
                    f"there is no answer to take back: only the last {UNDO_DEPTH} of the open round are"
                )
            row = rows[0]
            stored = connection.execute(sa.select(t.queries).where(_q.id == row["query_id"])).mappings().one()
            query = query_from_row(stored)
            self._expire(connection, at)
            of_query = (_l.query_id == query.id) & _l.ended.is_(None)
            holder = connection.execute(sa.select(_l.who).where(of_query)).scalar()
            if holder not in (None, who):
                raise LabelwiseError(f"query {query.id} is in the hands of another person now; it cannot be taken back")
            withdraw(connection, row["id"], who, self._ledger._sizes_of(connection, {query.image}), now())
            connection.execute(sa.update(t.leases).where(of_query).values(ended="given anew"))
            self._from[query.round] = min(self._from.get(query.round, 0), query.rank)
            return replace(self._lease(connection, query, who, tab, at), before=answer_of(row))

    def close_round(self, round: int) -> int:
        """Removes the open queries of a round that nobody was ever shown; returns how many.

        Those that somebody has or had stay, so that a late answer finds its query.
        """
        shown = sa.select(_l.query_id)
        answered = sa.select(t.answers.c.query_id)
        never = (_q.round == round) & _q.id.not_in(shown) & _q.id.not_in(answered)
        with self._ledger._write() as connection:
            return connection.execute(sa.delete(t.queries).where(never)).rowcount


def _open_round(connection: sa.Connection) -> int | None:
    s = t.stages.c
    asking = sa.select(sa.func.max(s.round)).where((s.stage == "ask") & (s.state == "started"))
    found: int | None = connection.execute(asking).scalar()
    return found


def _stands(connection: sa.Connection, answer_id: int) -> bool:
    counts = sa.select(t.answers.c.id).where((t.answers.c.id == answer_id) & STANDING)
    return connection.execute(counts).first() is not None
