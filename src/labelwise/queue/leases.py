"""Leases: who is looking at which open query, so that two people are never asked the same (DESIGN section 5).

A lease is a row with a secret that only its holder knows. It expires unless it is renewed, and the query goes back to
the others. Whoever held a lease may still answer: of a query that somebody else has answered meanwhile, the answer is
kept as a second opinion, so that no work is lost. The same secret answers once: a page that did not hear back sends its
answer again, and it is not stored twice; another answer by it is refused. Every method is one transaction, and none
does work for every query: the search for the next open query begins where the last one found it. Windows that come at
the same time are served together (`lease_queue`).

With an `overlap` of k a query stays open until k people have answered it, one after the other, each of them once: the
first answer counts, the others are second opinions (`agreement` compares them, `merge` weighs them). Questions whose
answer is known (`ledger.known_questions`) come before the others, to whoever did not answer them before.
"""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import Future
from dataclasses import replace

import sqlalchemy as sa

from labelwise.ledger import schema as t
from labelwise.ledger.answers import query_from_row
from labelwise.ledger.by_hand import KIND
from labelwise.ledger.current_answers import withdraw
from labelwise.ledger.ledger import Ledger, now
from labelwise.ledger.suggestions import with_suggested
from labelwise.queue.group_commit import GroupCommit
from labelwise.queue.lease_queue import Fit, Lease, LeaseQueue, Outcome, Price, Receipt, Request, Submission, open_round
from labelwise.types import Answer, LabelwiseError

LEASE_S = 120.0
UNDO_DEPTH = 20

_l, _q = t.leases.c, t.queries.c


class Leases:
    """The queue of a project. `lease_s`: how long a lease lasts that nobody renews; `overlap`: people per query;
    `known`: it has questions whose answer is known; `again`: some that repeat another one.
    """

    def __init__(
        self, ledger: Ledger, lease_s: float = LEASE_S, overlap: int = 1, known: bool = False, again: bool = False
    ) -> None:
        self._ledger = ledger
        self._commits = GroupCommit(ledger)
        self._queue = LeaseQueue(ledger, lease_s, overlap, known, again)
        self.lease_s = lease_s

    def round(self) -> int | None:
        """The round that is asking now."""
        with self._ledger.read() as connection:
            return open_round(connection)

    def take(
        self, who: str, tab: str, at: float, *, most: int = 1, holding: Sequence[int] = (), alike: bool = False
    ) -> list[Lease]:
        """Leases of the current round for a window that holds the queries `holding`, so that it has `most`.

        First those that the window was given before and has forgotten (it was reloaded), then the best-ranked open
        queries that nobody holds; `alike`: only those of the same predicted class, that of the best-ranked one or of
        what the window holds. None when the round asks nothing now.
        """
        _, leases = self._commits.submit(Request(who, tab, at, most, holding, alike), self._queue.serve).result()
        return leases

    def renew(self, who: str, tab: str, at: float) -> list[int]:
        """The heartbeat of a window: its leases last `lease_s` from now; returns the queries that it still holds."""
        mine = (_l.who == who) & (_l.tab == tab) & _l.ended.is_(None)
        renewed = sa.update(t.leases).where(mine).values(expires=at + self.lease_s).returning(_l.query_id)

        def step(connection: sa.Connection) -> list[int]:
            self._queue.expire(connection, at)
            return sorted(connection.execute(renewed).scalars())

        return self._commits.do(step)

    def release(self, who: str, tab: str) -> None:
        """A window closes: what it holds goes back at once."""
        mine = (_l.who == who) & (_l.tab == tab) & _l.ended.is_(None)
        released = sa.update(t.leases).where(mine).values(ended="released")

        def step(connection: sa.Connection) -> None:
            if connection.execute(released).rowcount:
                self._queue.look_again()

        self._commits.do(step)

    def answer(self, answer: Answer, secret: str, price: Price, at: float, *, fit: Fit | None = None) -> Receipt:
        """Stores an answer with its cost and ends the lease, in one transaction.

        Its measured seconds are at most the age of the lease, since nobody can look at a query before it is given out.
        `fit` may change the answer before it is priced and stored (a box that sticks out of its region is cut).

        Raises:
            LeaseError: this person never held a lease of this query with this secret.
            Contradiction: the lease has answered before, and said something else.
            LabelwiseError: the answer does not fit the query (it can be mended and sent again).
        """
        done, _ = self.answer_and_take(answer, secret, price, at, tab="", fit=fit, most=0).result()
        assert done is not None
        return done

    def answer_and_take(
        self,
        answer: Answer,
        secret: str,
        price: Price,
        at: float,
        *,
        tab: str,
        fit: Fit | None = None,
        most: int = 1,
        holding: Sequence[int] = (),
        alike: bool = False,
    ) -> Future[Outcome]:
        """`answer` and then `take`, in one transaction, which another thread runs: the result comes by itself."""
        request = Request(answer.who, tab, at, most, holding, alike, Submission(answer, secret, price, fit))
        return self._commits.submit(request, self._queue.serve)

    def undo(self, who: str, tab: str, at: float) -> Lease:
        """Takes back this person's last answer in the current round and gives the query out to them again.

        Raises:
            LabelwiseError: there is nothing to take back, or the query is in somebody else's hands now.
        """
        return self._commits.do(lambda connection: self._undo(connection, who, tab, at))

    def _undo(self, connection: sa.Connection, who: str, tab: str, at: float) -> Lease:
        a = t.answers.c
        round_number = open_round(connection)
        select = sa.select(t.answers, t.withdrawn.c.answer_id.label("gone")).select_from(
            t.answers.join(t.queries).outerjoin(t.withdrawn)
        )
        asked = _q.reason["kind"].as_string().is_distinct_from(KIND)  # what was corrected by hand was no question
        last = select.where((a.who == who) & (_q.round == round_number) & asked).order_by(a.id.desc()).limit(UNDO_DEPTH)
        rows = (
            [row for row in connection.execute(last).mappings() if row["gone"] is None]
            if round_number is not None
            else []
        )
        if not rows:
            raise LabelwiseError(f"there is no answer to take back: only the last {UNDO_DEPTH} of the open round are")
        row = rows[0]
        stored = connection.execute(sa.select(t.queries).where(_q.id == row["query_id"])).mappings().one()
        query = query_from_row(stored)
        self._queue.expire(connection, at)
        of_query = (_l.query_id == query.id) & _l.ended.is_(None)
        holder = connection.execute(sa.select(_l.who).where(of_query)).scalar()
        if holder not in (None, who):
            raise LabelwiseError(f"query {query.id} is in the hands of another person now; it cannot be taken back")
        withdraw(connection, row["id"], who, self._ledger.sizes_within(connection, {query.image}), now())
        connection.execute(sa.update(t.leases).where(of_query).values(ended="given anew"))
        self._queue.look_again()
        [[lease]] = self._queue.issue(connection, [(Request(who, tab, at), [query])])
        return replace(lease, before=with_suggested(connection, row))

    def close_round(self, round_number: int) -> int:
        """Removes the open queries of a round that nobody was ever shown; returns how many.

        Those that somebody has or had stay, so that a late answer finds its query.
        """
        shown = sa.select(_l.query_id)
        answered = sa.select(t.answers.c.query_id)
        never = (_q.round == round_number) & _q.id.not_in(shown) & _q.id.not_in(answered)
        with self._ledger.write() as connection:
            return connection.execute(sa.delete(t.queries).where(never)).rowcount
