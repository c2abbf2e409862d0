"""Who may answer: people with a role, their invitations and passwords, and the sessions of their browsers.

Secrets are random (256 bits) and stand in the ledger as SHA-256 only. An invitation is a link that its holder may use
as often as needed, until it is revoked or a new one is made. Whoever is in may set a password (`passwords`) beside it.
"""

from __future__ import annotations

import hashlib
import secrets
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Literal

import sqlalchemy as sa

from labelwise.ledger import schema as t
from labelwise.ledger.ledger import Ledger
from labelwise.queue import passwords
from labelwise.types import LabelwiseError

Role = Literal["owner", "annotator"]
SESSION_S = 7 * 24 * 3600.0
REMEMBERED_S = 1.0
"""The sessions are looked up once in so long, all of them by one statement: as late as this another process that shuts
somebody out is heard of.
"""
LONGEST_NAME = 60

MOST_REMEMBERED = 500

_p, _s, _w = t.people.c, t.sessions.c, t.passwords.c
_SESSIONS = sa.select(_s.token, _p.name, _p.role, _s.csrf).select_from(t.sessions.join(t.people))
_tokens: sa.BindParameter[Any] = sa.bindparam("tokens_sha256", expanding=True)
_SESSIONS = _SESSIONS.where(_s.token.in_(_tokens) & (_s.expires > sa.bindparam("at")))


@dataclass(frozen=True, slots=True)
class Person:
    """Who is at a browser. `csrf` must come with every change that this browser asks for."""

    name: str
    role: Role
    csrf: str


def _hash(secret: str) -> str:
    return hashlib.sha256(secret.encode()).hexdigest()


def _who(connection: sa.Connection, condition: sa.ColumnElement[bool]) -> tuple[str, Role] | None:
    """Name and role of whom the condition means; nobody else changes that person until the transaction ends."""
    found = connection.execute(sa.select(_p.name, _p.role).where(condition).with_for_update()).one_or_none()
    return None if found is None else (found[0], found[1])


def _shut_out(connection: sa.Connection, name: str, *, keep_password: bool = False) -> None:
    connection.execute(sa.delete(t.sessions).where(_s.name == name))
    if not keep_password:
        connection.execute(sa.delete(t.passwords).where(_w.name == name))


def _open(connection: sa.Connection, who: tuple[str, Role], at: float, old: str | None) -> tuple[str, Person]:
    connection.execute(sa.delete(t.sessions).where(_s.expires <= at))
    if old is not None:
        connection.execute(sa.delete(t.sessions).where(_s.token == _hash(old)))
    token, csrf = secrets.token_urlsafe(32), secrets.token_urlsafe(32)
    session = {"token": _hash(token), "name": who[0], "csrf": csrf, "expires": at + SESSION_S}
    connection.execute(sa.insert(t.sessions), session)
    return token, Person(who[0], who[1], csrf)


def check_name(name: str) -> None:
    """Refuses what nobody who answers can be called."""
    if not 0 < len(name) <= LONGEST_NAME or not name.isprintable() or name != name.strip() or name == "oracle":
        raise LabelwiseError(
            f"{name!r} cannot be a person's name: expected 1 to {LONGEST_NAME} printable characters, not 'oracle'"
        )


class Accounts:
    """The people of a project."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger
        self._remembered: dict[str, Person] = {}
        self._since = float("-inf")
        self._looking = threading.Lock()

    def invite(self, name: str, role: Role, at: float, *, keep_password: bool = False) -> str:
        """Makes the secret of an invitation; an older one of this name is void from now on, its sessions
        and its password too: this is how a password that was forgotten is reset.
        """
        check_name(name)
        secret = secrets.token_urlsafe(32)
        with self._forget_sessions(), self._ledger.write() as connection:
            before = _who(connection, _p.name == name)
            if before is not None and before[1] != role:
                raise LabelwiseError(f"{name!r} is known as {before[1]}, not {role}: take another name")
            _shut_out(connection, name, keep_password=keep_password)
            if before is None:
                new = {"name": name, "role": role, "secret": _hash(secret), "created": at}
                connection.execute(sa.insert(t.people), new)
            else:
                connection.execute(sa.update(t.people).where(_p.name == name).values(secret=_hash(secret)))
        return secret

    def revoke(self, name: str) -> None:
        """Shuts a person out at once; what they answered stays."""
        with self._forget_sessions(), self._ledger.write() as connection:
            found = connection.execute(sa.update(t.people).where(_p.name == name).values(secret=None)).rowcount
            _shut_out(connection, name)
        if not found:
            raise LabelwiseError(f"nobody is called {name!r} here")

    def enter(self, secret: str, at: float, *, old: str | None = None) -> tuple[str, Person] | None:
        """A new session for whoever has an invitation: (cookie, person). The `old` session of this browser ends, so
        that a cookie that was planted before is worth nothing.
        """
        with self._ledger.read() as connection:  # a wrong one keeps no writer waiting
            if connection.execute(sa.select(_p.name).where(_p.secret == _hash(secret))).first() is None:
                return None
        with self._forget_sessions(), self._ledger.write() as connection:
            who = _who(connection, _p.secret == _hash(secret))
            return None if who is None else _open(connection, who, at, old)

    def login(self, name: str, password: str, at: float, *, old: str | None = None) -> tuple[str, Person] | None:
        """A new session for whoever has a password, like `enter`. For others it takes as long, so that the time does
        not tell who exists.
        """
        name = name if name.isprintable() else ""  # nobody's
        with self._ledger.read() as connection:
            its = sa.select(_w.salt, _w.hash).where(_w.name == name)
            salt, known = connection.execute(its).one_or_none() or passwords.NOBODY
        if not passwords.fits(password, salt, known):  # long work: no transaction waits for it
            return None
        with self._forget_sessions(), self._ledger.write() as connection:
            who = _who(connection, (_p.name == name) & _p.secret.is_not(None))
            now = connection.execute(sa.select(_w.hash).where(_w.name == name)).scalar()
            return _open(connection, who, at, old) if who is not None and now == known else None

    def set_password(self, name: str, password: str, at: float, *, keep: str) -> None:
        """Sets the password of a person whose session `keep` is, and ends all other sessions of that person."""
        salt, known = passwords.hash_password(password)  # long work: no transaction waits for it
        with self._forget_sessions(), self._ledger.write() as connection:
            _who(connection, _p.name == name)
            own = (_s.token == _hash(keep)) & (_s.name == name) & (_s.expires > at)
            if connection.execute(sa.select(_s.name).where(own)).one_or_none() is None:  # revoked meanwhile
                raise LabelwiseError("this session has ended, and the password was not set: enter again")
            connection.execute(sa.delete(t.sessions).where((_s.name == name) & (_s.token != _hash(keep))))
            connection.execute(sa.delete(t.passwords).where(_w.name == name))
            row = {"name": name, "salt": salt, "hash": known, "created": at}
            connection.execute(sa.insert(t.passwords), row)

    def person_of_session(self, token: str, at: float) -> Person | None:
        """Whose session this was less than `REMEMBERED_S` ago, without a look into the ledger."""
        fresh = self._since <= at < self._since + REMEMBERED_S
        return self._remembered.get(_hash(token)) if fresh else None

    def session(self, token: str, at: float) -> Person | None:
        """Whose session this is; None where it is unknown, expired or revoked."""
        key = _hash(token)
        with self._looking:  # one looks for all that wait
            if (known := self.person_of_session(token, at)) is not None:
                return known
            fresh = self._since <= at < self._since + REMEMBERED_S
            keys = [key] if fresh or len(self._remembered) >= MOST_REMEMBERED else [key, *self._remembered]
            with self._ledger.read() as connection:
                rows = connection.execute(_SESSIONS, {"tokens_sha256": keys, "at": at}).all()
            found = {row[0]: Person(row[1], row[2], row[3]) for row in rows}
            self._remembered = self._remembered | found if fresh else found
            self._since = self._since if fresh else at
            return found.get(key)

    @contextmanager
    def _forget_sessions(self) -> Iterator[None]:
        """Around a change of who may come in: after it nobody is remembered, of whom was read before it."""
        try:
            yield
        finally:
            with self._looking:
                self._remembered = {}

    def leave(self, token: str) -> None:
        """Ends a session."""
        with self._forget_sessions(), self._ledger.write() as connection:
            connection.execute(sa.delete(t.sessions).where(_s.token == _hash(token)))

    def everyone(self) -> list[dict[str, Any]]:
        """Names, roles, whether the invitation still holds, and whether there is a password."""
        found = sa.select(_p.name, _p.role, _p.secret.is_not(None), _w.hash.is_not(None))
        found = found.select_from(t.people.outerjoin(t.passwords)).order_by(_p.name)
        with self._ledger.read() as connection:
            rows = connection.execute(found).all()
        return [{"name": n, "role": role, "invited": bool(i), "password": bool(p)} for n, role, i, p in rows]
