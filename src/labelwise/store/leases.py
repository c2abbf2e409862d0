"""Leases: who is looking at which open query, so that two people are never asked the same (DESIGN section 5).

A lease is a row with a secret that only its holder knows. It expires unless it is renewed, and the query goes back to
the others. Whoever held a lease may still answer: of a query that somebody else has answered meanwhile, the answer is
kept as a second opinion, so that no work is lost. The same secret answers once: a page that did not hear back sends its
answer again, and it is not stored twice. Every method is one transaction, and none does work for every query: the
statements are made once, and the search for the next open query begins where the last one found it.

With an `overlap` of k a query stays open until k people have answered it, one after the other, each of them once: the
first answer counts, the others are second opinions (`agreement` compares them).
"""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import sqlalchemy as sa

from labelwise.store import schema as t
from labelwise.store.answers import query_from_row
from labelwise.store.ledger import Ledger, now
from labelwise.store.opinions import STANDING, answer_of, origin_of, wants, withdraw
from labelwise.store.together import Together
from labelwise.types import Answer, Cost, LabelwiseError, Query

LEASE_S = 120.0
MOST_HELD = 12
"""Queries that one person may hold at a time, all windows together."""
UNDO_DEPTH = 20
LOOK_AGAIN_S = 1.0
_NEVER = float("-inf")

_l, _q, _s = t.leases.c, t.queries.c, t.stages.c
_bind = sa.bindparam
_ASKING = sa.select(sa.func.max(_s.round)).where((_s.stage == "ask") & (_s.state == "started"))
_EXPIRE = sa.update(t.leases).where(_l.ended.is_(None) & (_l.expires <= _bind("at"))).values(ended="expired")
_BY_SECRET = sa.select(t.queries, _l.id.label("lease"), _l.who, _l.issued, _l.answer_id).select_from(
    t.leases.join(t.queries)
)
_BY_SECRET = _BY_SECRET.where(_l.secret == _bind("secret_sha256"))
_HELD = sa.select(t.queries, _l.id.label("lease"), _l.tab).select_from(t.leases.join(t.queries))
_HELD = _HELD.where((_l.who == _bind("person")) & _l.ended.is_(None)).order_by(_q.round, _q.rank)
_NO_HOLDER = ~sa.exists().where((_l.query_id == _q.id) & _l.ended.is_(None)).correlate(t.queries)
_HERE = (_q.round == _bind("asking")) & (_q.rank >= _bind("start"))
_ALIKE = _q.label.is_not_distinct_from(_bind("like", type_=sa.Integer))
_LAST = sa.select(sa.func.max(_q.rank)).where(_q.round == _bind("asking"))
_ISSUE = sa.insert(t.leases)
_DONE = sa.update(t.leases).where((_l.id == _bind("lease")) | ((_l.query_id == _bind("of_query")) & _l.ended.is_(None)))
_DONE = _DONE.values(
    ended="answered", answer_id=sa.case((_l.id == _bind("lease"), _bind("made", type_=sa.Integer)), else_=_l.answer_id)
)


Fit = Callable[[Query, Answer], Answer]


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
    """The queue of a project. `lease_s`: how long a lease lasts that nobody renews; `overlap`: people per query."""

    def __init__(self, ledger: Ledger, lease_s: float = LEASE_S, overlap: int = 1) -> None:
        self._ledger = ledger
        self._together = Together(ledger)
        self.lease_s = lease_s
        self.overlap = overlap
        self._from: dict[tuple[int, str], int] = {}  # (round, person): a rank before which nothing is free for them
        self._looked: dict[tuple[int, str], float] = {}  # when the search began at 0 although there was such a rank
        self._expired_at = _NEVER
        wanted = _HERE & wants(overlap, _bind("person"))
        free = sa.select(t.queries).where(wanted & _NO_HOLDER).order_by(_q.rank).limit(_bind("most"))
        self._next = free.with_for_update(skip_locked=True, of=t.queries)
        self._next_alike = free.where(_ALIKE).with_for_update(skip_locked=True, of=t.queries)

    def round(self) -> int | None:
        """The round that is asking now."""
        with self._ledger._read() as connection:
            return _open_round(connection)

    def take(
        self, who: str, tab: str, at: float, *, most: int = 1, holding: Sequence[int] = (), alike: bool = False
    ) -> list[Lease]:
        """Leases of the current round for a window that holds the queries `holding`, so that it has `most`.

        First those that the window was given before and has forgotten (it was reloaded), then the best-ranked open
        queries that nobody holds; `alike`: only those of the same predicted class, that of the best-ranked one or of
        what the window holds. None when the round asks nothing now.
        """
        return self._together.do(lambda connection: self._take(connection, who, tab, at, most, holding, alike))

    def _take(
        self,
        connection: sa.Connection,
        who: str,
        tab: str,
        at: float,
        most: int,
        holding: Sequence[int],
        alike: bool = False,
    ) -> list[Lease]:
        round = _open_round(connection)
        if round is None or most <= len(holding):
            return []
        self._expire(connection, at, self.lease_s / 100)
        rows = connection.execute(_HELD, {"person": who}).mappings().all()
        here = [row for row in rows if row["tab"] == tab]
        lost = [row for row in here if row["id"] not in holding][: most - len(holding)]
        if lost:
            ended = sa.update(t.leases).where(_l.id.in_([row["lease"] for row in lost]))
            connection.execute(ended.values(ended="given anew"))
        room = min(most - len(holding) - len(lost), MOST_HELD - len(rows))
        fresh: Sequence[sa.RowMapping] = []
        if room > 0 and alike:
            seed = here[:1] or self._free(connection, round, who, at, 1)
            fresh = self._free(connection, round, who, at, room, seed[0]["label"]) if seed else []
        elif room > 0:
            fresh = self._free(connection, round, who, at, room)
        return self._issue(connection, [query_from_row(row) for row in (*lost, *fresh)], who, tab, at)

    def _free(
        self, connection: sa.Connection, round: int, who: str, at: float, most: int, *like: int | None
    ) -> Sequence[sa.RowMapping]:
        """Open queries that nobody holds, by rank.

        The search begins where the last one found something, for all before that are answered or held; whatever gives
        a query back makes it begin at 0 again. What other processes give back it finds within `LOOK_AGAIN_S`.
        """
        key = (round, who if self.overlap > 1 else "")
        start = self._from.get(key, 0)
        where: dict[str, Any] = {"asking": round, "start": start, "person": who, "most": most}
        where |= {"like": like[0]} if like else {}
        search = self._next_alike if like else self._next
        rows = connection.execute(search, where).mappings().all()
        if (
            not rows
            and start
            and not self._looked.get(key, _NEVER) <= at < self._looked.get(key, _NEVER) + LOOK_AGAIN_S
        ):
            self._looked[key] = at
            rows = connection.execute(search, where | {"start": 0}).mappings().all()
        if not like:
            end = None if rows else connection.execute(_LAST, {"asking": round}).scalar()
            self._from[key] = rows[0]["rank"] if rows else (end or 0) + 1
        return rows

    def _issue(self, connection: sa.Connection, queries: Sequence[Query], who: str, tab: str, at: float) -> list[Lease]:
        leases = [Lease(query, secrets.token_urlsafe(18), at + self.lease_s) for query in queries]
        rows = [
            {"query_id": lease.query.id, "who": who, "tab": tab, "secret": _hash(lease.secret), "issued": at}
            | {"expires": lease.expires}
            for lease in leases
        ]
        if rows:
            connection.execute(_ISSUE, rows)
        return leases

    def _expire(self, connection: sa.Connection, at: float, every_s: float = 0.0) -> None:
        """Ends the leases that are over, unless that was done less than `every_s` ago (a clock may go back)."""
        if not self._expired_at <= at < self._expired_at + every_s:
            if connection.execute(_EXPIRE, {"at": at}).rowcount:
                self._from = {}
            self._expired_at = at

    def renew(self, who: str, tab: str, at: float) -> list[int]:
        """The heartbeat of a window: its leases last `lease_s` from now; returns the queries that it still holds."""
        mine = (_l.who == who) & (_l.tab == tab) & _l.ended.is_(None)
        renewed = sa.update(t.leases).where(mine).values(expires=at + self.lease_s).returning(_l.query_id)

        def step(connection: sa.Connection) -> list[int]:
            self._expire(connection, at)
            return sorted(connection.execute(renewed).scalars())

        return self._together.do(step)

    def release(self, who: str, tab: str) -> None:
        """A window closes: what it holds goes back at once."""
        mine = (_l.who == who) & (_l.tab == tab) & _l.ended.is_(None)
        released = sa.update(t.leases).where(mine).values(ended="released")

        def step(connection: sa.Connection) -> None:
            if connection.execute(released).rowcount:
                self._from = {}

        self._together.do(step)

    def answer(
        self, answer: Answer, secret: str, price: Callable[[Query, Answer], Cost], at: float, *, fit: Fit | None = None
    ) -> Recorded:
        """Stores an answer with its cost and ends the lease, in one transaction.

        Its measured seconds are at most the age of the lease, since nobody can look at a query before it is given out.
        `fit` may change the answer before it is priced and stored (a box that sticks out of its region is cut).

        Raises:
            LeaseError: this person never held a lease of this query with this secret.
            LabelwiseError: the answer does not fit the query (it can be mended and sent again).
        """
        return self._together.do(lambda connection: self._answer(connection, answer, secret, price, at, fit))

    def answer_and_take(
        self,
        answer: Answer,
        secret: str,
        price: Callable[[Query, Answer], Cost],
        at: float,
        *,
        tab: str,
        fit: Fit | None = None,
        **wanted: Any,
    ) -> tuple[Recorded, list[Lease]]:
        """`answer` and then `take`, in one transaction; `wanted`: its `most`, `holding`, `alike`."""

        def step(connection: sa.Connection) -> tuple[Recorded, list[Lease]]:
            done = self._answer(connection, answer, secret, price, at, fit)
            return done, self._take(connection, answer.who, tab, at, **wanted)

        return self._together.do(step)

    def _answer(
        self,
        connection: sa.Connection,
        answer: Answer,
        secret: str,
        price: Callable[[Query, Answer], Cost],
        at: float,
        fit: Fit | None,
    ) -> Recorded:
        row = connection.execute(_BY_SECRET, {"secret_sha256": _hash(secret)}).mappings().one_or_none()
        if row is None or (row["who"], row["id"]) != (answer.who, answer.query):
            raise LeaseError(f"query {answer.query}: no such lease of {answer.who}. Reload the page")
        if row["answer_id"] is not None:
            return Recorded(row["answer_id"], _stands(connection, row["answer_id"]), repeated=True)
        query = query_from_row(row)
        fitted = answer if fit is None else fit(query, answer)
        timed = replace(fitted, seconds=min(answer.seconds, max(0.0, at - row["issued"])))
        record = (query, timed, price(query, timed))
        [(answer_id, counts)] = self._ledger.record_within(connection, [record], origin_of(answer.who))
        connection.execute(_DONE, {"lease": row["lease"], "of_query": query.id, "made": answer_id})
        if self.overlap > 1:  # it is open for others now
            self._from = {key: min(rank, query.rank) for key, rank in self._from.items()}
        return Recorded(answer_id, counts)

    def undo(self, who: str, tab: str, at: float) -> Lease:
        """Takes back this person's last answer in the current round and gives the query out to them again.

        Raises:
            LabelwiseError: there is nothing to take back, or the query is in somebody else's hands now.
        """
        return self._together.do(lambda connection: self._undo(connection, who, tab, at))

    def _undo(self, connection: sa.Connection, who: str, tab: str, at: float) -> Lease:
        a = t.answers.c
        round = _open_round(connection)
        select = sa.select(t.answers, t.withdrawn.c.answer_id.label("gone")).select_from(
            t.answers.join(t.queries).outerjoin(t.withdrawn)
        )
        last = select.where((a.who == who) & (_q.round == round)).order_by(a.id.desc()).limit(UNDO_DEPTH)
        rows = [row for row in connection.execute(last).mappings() if row["gone"] is None] if round is not None else []
        if not rows:
            raise LabelwiseError(f"there is no answer to take back: only the last {UNDO_DEPTH} of the open round are")
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
        self._from = {}
        [lease] = self._issue(connection, [query], who, tab, at)
        return replace(lease, before=answer_of(row))

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
    found: int | None = connection.execute(_ASKING).scalar()
    return found


def _stands(connection: sa.Connection, answer_id: int) -> bool:
    counts = sa.select(t.answers.c.id).where((t.answers.c.id == answer_id) & STANDING)
    return connection.execute(counts).first() is not None
