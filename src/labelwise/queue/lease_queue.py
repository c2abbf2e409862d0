"""Windows that come at the same time are served together: by the same few statements as a single one (`leases`)."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from typing import Any

import sqlalchemy as sa

from labelwise.ledger import schema as t
from labelwise.ledger.answers import query_from_row
from labelwise.ledger.asked_again import said_by
from labelwise.ledger.current_answers import CURRENT, SHOWABLE, answer_of, wants
from labelwise.ledger.known_questions import KNOWN, OWN_SOURCE
from labelwise.ledger.ledger import Ledger
from labelwise.queue import lease
from labelwise.queue.lease import Lease as Lease
from labelwise.types import Answer, Cost, LabelwiseError, Query

MOST_HELD = 12
"""Queries that one person may hold at a time, all windows together."""
LOOK_AGAIN_S = 1.0
_NEVER = float("-inf")
_BEFORE_ALL = -(2**31)
"""Below every rank."""

_l, _q, _s = t.leases.c, t.queries.c, t.stages.c
_bind = sa.bindparam
_ASKING = sa.select(sa.func.max(_s.round)).where((_s.stage == "ask") & (_s.state == "started"))
_EXPIRE = sa.update(t.leases).where(_l.ended.is_(None) & (_l.expires <= _bind("at"))).values(ended="expired")
_OF_LEASE = (_l.id.label("lease"), _l.who, _l.tab, _l.secret, _l.issued, _l.answer_id)
_LEASED = sa.select(t.queries, *_OF_LEASE).select_from(t.leases.join(t.queries))
_BY_SECRET = _LEASED.where(_l.secret.in_(_bind("secrets_sha256", expanding=True)))
_HELD = _LEASED.where(_l.who.in_(_bind("people", expanding=True)) & _l.ended.is_(None))
_HELD = _HELD.where(SHOWABLE).order_by(_q.round, _q.rank)
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
Price = Callable[[Query, Answer], Cost]


class LeaseError(LabelwiseError):
    """The secret is not one that this person was given for this query."""


class Contradiction(LabelwiseError):
    """The lease has answered before, and said something else."""


@dataclass(frozen=True, slots=True)
class Receipt:
    """An answer that is in the ledger. `counts`: it is the first; `repeated`: it had been sent before."""

    answer_id: int
    counts: bool
    repeated: bool = False


@dataclass(frozen=True, slots=True)
class Submission:
    """An answer, with the secret of its lease, its price and how it is made to fit its query."""

    answer: Answer
    secret: str
    price: Price
    fit: Fit | None


@dataclass(frozen=True, slots=True)
class Request:
    """What a window says, if anything, and how many queries it wants to have afterwards."""

    who: str
    tab: str
    at: float
    most: int = 0
    holding: Sequence[int] = ()
    alike: bool = False
    submission: Submission | None = None


Outcome = tuple[Receipt | None, list[Lease]]


def _hash(secret: str) -> str:
    return hashlib.sha256(secret.encode()).hexdigest()


class LeaseQueue:
    """The queue of a project. `lease_s`: how long a lease lasts that nobody renews; `overlap`: people per query;
    `known`: some questions' answers are known, and these come before the others, to whom did not answer them before;
    `again`: some repeat another one, and whoever answered that is not given them.
    """

    def __init__(self, ledger: Ledger, lease_s: float, overlap: int, known: bool = False, again: bool = False) -> None:
        self._ledger = ledger
        self.lease_s = lease_s
        self.overlap, self.known, self.again = overlap, known, again
        self._from: dict[tuple[int, str], int] = {}  # (round, person): a rank before which nothing is free for them
        self._looked: dict[tuple[int, str], float] = {}  # when the search began at 0 although there was such a rank
        self._expired_at = _NEVER
        wanted = _HERE & SHOWABLE & wants(overlap, _bind("person"))
        if again:
            wanted &= ~said_by(_bind("person"))
        is_free = wanted & _NO_HOLDER
        free = sa.select(t.queries).where(is_free).order_by(_q.rank).limit(_bind("most"))
        self._still_free = sa.select(sa.func.count(_q.id)).where(_q.id.in_(_bind("found", expanding=True)) & is_free)
        tests = free.where(KNOWN & (_q.rank < 0) & ~OWN_SOURCE)
        self._next_known = tests.with_for_update(skip_locked=True, of=t.queries)
        self._next = free.with_for_update(skip_locked=True, of=t.queries)
        self._next_alike = free.where(_ALIKE).with_for_update(skip_locked=True, of=t.queries)

    @property
    def _own(self) -> bool:
        """Whether what is free for one person may not be for another."""
        return self.overlap > 1 or self.again

    def look_again(self) -> None:
        """Something was given back: the search for open queries begins at 0."""
        self._from = {}

    def serve(self, connection: sa.Connection, requests: Sequence[Request]) -> list[Outcome]:
        """Stores what the windows say and gives them what they want, in the order in which they came.

        Of windows that are served at once, what all of them say is stored before any gets more.
        """
        served: list[Outcome] = []
        try:
            for wave in self._waves(requests):
                submissions = [(request, request.submission) for request in wave if request.submission is not None]
                done = self._record(connection, submissions)
                leases = self._give(connection, wave)
                served += [(done.get(request.who), given) for request, given in zip(wave, leases, strict=True)]
        except BaseException:  # what was given out is taken back
            self.look_again()
            raise
        return served

    def _waves(self, requests: Sequence[Request]) -> Iterator[list[Request]]:
        """Parts of which each can be served at once: nobody comes twice, no query is answered twice; where the search
        is one of its own for every person (`overlap`, `known`, `again`) or class (`alike`), each alone.
        """
        wave: list[Request] = []
        seen: set[str | int] = set()
        for request in requests:
            mine: set[str | int] = {request.who}
            if request.submission is not None:
                mine.add(request.submission.answer.query)
            alone = self._own or self.known or request.alike
            if wave and (mine & seen or alone or wave[0].alike):
                yield wave
                wave, seen = [], set()
            wave.append(request)
            seen |= mine
        if wave:
            yield wave

    def _record(self, connection: sa.Connection, requests: Sequence[tuple[Request, Submission]]) -> dict[str, Receipt]:
        """Stores answers and ends their leases; what became of them, by person."""
        if not requests:
            return {}
        hashes = [_hash(submission.secret) for _, submission in requests]
        rows = {row["secret"]: row for row in connection.execute(_BY_SECRET, {"secrets_sha256": hashes}).mappings()}
        done: dict[str, Receipt] = {}
        records, ended = [], []
        for (request, submission), key in zip(requests, hashes, strict=True):
            row, answer = rows.get(key), submission.answer
            if row is None or (row["who"], row["id"]) != (request.who, answer.query):
                raise LeaseError(f"query {answer.query}: no such lease of {request.who}. Reload the page")
            if row["answer_id"] is not None:
                done[request.who] = _repeat(connection, row, submission)
                continue
            query = query_from_row(row)
            fitted = answer if submission.fit is None else submission.fit(query, answer)
            timed = replace(fitted, seconds=min(answer.seconds, max(0.0, request.at - row["issued"])))
            records.append((query, timed, submission.price(query, timed)))
            ended.append({"lease": row["lease"], "of_query": query.id})
            if self.overlap > 1:  # it is open for others now
                self._from = {key: min(rank, max(query.rank, 0)) for key, rank in self._from.items()}
        if records:
            made = self._ledger.record_within(connection, records)
            by_query = [one | {"made": answer_id} for one, (answer_id, _) in zip(ended, made, strict=True)]
            connection.execute(_DONE, by_query)
            done |= {answer.who: Receipt(*result) for (_, answer, _), result in zip(records, made, strict=True)}
        return done

    def _give(self, connection: sa.Connection, requests: Sequence[Request]) -> list[list[Lease]]:
        """Leases for windows, so that each has as many as it wants."""
        wanting = [request for request in requests if request.most > len(request.holding)]
        round_number = open_round(connection) if wanting else None
        if round_number is None:
            return [[] for _ in requests]
        at = max(request.at for request in wanting)
        self.expire(connection, at, self.lease_s / 100)
        held = connection.execute(_HELD, {"people": [request.who for request in wanting]}).mappings().all()
        lost: dict[str, list[sa.RowMapping]] = {}  # by person: leases that the window was given and knows nothing of
        room = {request.who: 0 for request in requests}
        for request in wanting:
            mine = [row for row in held if row["who"] == request.who]
            missing = request.most - len(request.holding)
            forgotten = [row for row in mine if row["tab"] == request.tab and row["id"] not in request.holding]
            lost[request.who] = forgotten[:missing]
            room[request.who] = max(0, min(missing - len(lost[request.who]), MOST_HELD - len(mine)))
        first, n_fresh = wanting[0], sum(room.values())
        like = self._like(connection, round_number, first, held) if first.alike and n_fresh else ()
        fresh: Iterator[sa.RowMapping] = iter(())
        if n_fresh and like is not None:
            fresh = iter(self._free(connection, round_number, first.who, at, n_fresh, *like))
        # only now, or the search would find them
        if again := [row["lease"] for rows in lost.values() for row in rows]:
            connection.execute(sa.update(t.leases).where(_l.id.in_(again)).values(ended="given anew"))
        given = [(request, [*lost.get(request.who, ()), *islice(fresh, room[request.who])]) for request in requests]
        return self.issue(connection, [(request, [query_from_row(row) for row in rows]) for request, rows in given])

    def _like(
        self, connection: sa.Connection, round_number: int, request: Request, held: Sequence[sa.RowMapping]
    ) -> tuple[int | None] | None:
        """The class of which a window's grid is: of what it holds, or of the best-ranked query; None: there is none."""
        here = [row for row in held if row["tab"] == request.tab]
        seed = here[:1] or self._free(connection, round_number, request.who, request.at, 1)
        return (seed[0]["label"],) if seed else None

    def _free(
        self, connection: sa.Connection, round_number: int, who: str, at: float, most: int, *like: int | None
    ) -> Sequence[sa.RowMapping]:
        """Open queries that nobody holds, by rank.

        The search begins where the last one found something, for all before that are answered or held; whatever gives
        a query back makes it begin at 0 again. What other processes give back it finds within `LOOK_AGAIN_S`.
        """
        key = (round_number, who if self._own else "")
        start = self._from.get(key, 0)
        where: dict[str, Any] = {"asking": round_number, "start": start, "person": who, "most": most}
        tests: Sequence[sa.RowMapping] = ()
        if self.known and not like:
            tests = self._search(connection, self._next_known, where | {"start": _BEFORE_ALL})
            where["most"] = most - len(tests)
        if len(tests) == most:
            return tests
        where |= {"like": like[0]} if like else {}
        search = self._next_alike if like else self._next
        rows = self._search(connection, search, where)
        if (
            not rows
            and start
            and not self._looked.get(key, _NEVER) <= at < self._looked.get(key, _NEVER) + LOOK_AGAIN_S
        ):
            self._looked[key] = at
            rows = self._search(connection, search, where | {"start": 0})
        if not like:
            end = None if rows else connection.execute(_LAST, {"asking": round_number}).scalar()
            self._from[key] = rows[0]["rank"] if rows else 0 if end is None else end + 1  # None: it has none yet
        return [*tests, *rows]

    def _search(
        self, connection: sa.Connection, search: sa.Select[Any], where: dict[str, Any]
    ) -> Sequence[sa.RowMapping]:
        """PostgreSQL locks what a statement saw when it began, and another server may have given a row out since: a
        later statement sees that, and nobody can do it any more.
        """
        while rows := connection.execute(search, where).mappings().all():
            still_free = (
                connection.dialect.name == "sqlite"
                or len(rows)
                == connection.execute(self._still_free, where | {"found": [row["id"] for row in rows]}).scalar_one()
            )
            if still_free:
                break
        return rows

    def issue(self, connection: sa.Connection, given: Sequence[tuple[Request, Sequence[Query]]]) -> list[list[Lease]]:
        """Leases of these queries for these windows."""
        leases = lease.made(connection, [(request.at, some) for request, some in given], self.lease_s, own=self._own)
        rows = [
            {"query_id": one.query.id, "who": request.who, "tab": request.tab, "secret": _hash(one.secret)}
            | {"issued": request.at, "expires": one.expires}
            for (request, _), of_turn in zip(given, leases, strict=True)
            for one in of_turn
        ]
        if rows:
            connection.execute(_ISSUE, rows)
        return leases

    def expire(self, connection: sa.Connection, at: float, every_s: float = 0.0) -> None:
        """Ends the leases that are over, unless that was done less than `every_s` ago (a clock may go back)."""
        if not self._expired_at <= at < self._expired_at + every_s:
            if connection.execute(_EXPIRE, {"at": at}).rowcount:
                self.look_again()
            self._expired_at = at


def open_round(connection: sa.Connection) -> int | None:
    """The round that is asking now."""
    found: int | None = connection.execute(_ASKING).scalar()
    return found


def _repeat(connection: sa.Connection, row: sa.RowMapping, submission: Submission) -> Receipt:
    """What became of an answer that is sent again. Another one by the same lease is refused, and not taken for it."""
    columns = (t.answers, CURRENT.label("stands"), t.withdrawn.c.answer_id.label("gone"))
    of_lease = sa.select(*columns).select_from(t.answers.outerjoin(t.withdrawn))
    stored = connection.execute(of_lease.where(t.answers.c.id == row["answer_id"])).mappings().one()
    first, query = answer_of(stored), query_from_row(row)
    again = submission.answer if submission.fit is None else submission.fit(query, submission.answer)
    if _content(first) != _content(again):
        where = f"query {query.id} was answered before by this very lease"
        if stored["gone"] is not None:
            raise Contradiction(f"{where}, and that was taken back: answer the query as it was given out anew")
        raise Contradiction(f"{where} ({first.verdict}), and that stands: to change it, take it back by undo (Z)")
    return Receipt(stored["id"], bool(stored["stands"]), repeated=True)


def _content(answer: Answer) -> tuple[object, ...]:
    """What an answer says, however long it took."""
    boxes = [tuple(float(corner) for corner in box) for box in answer.boxes]
    return answer.verdict, boxes, [int(label) for label in answer.labels], answer.note
