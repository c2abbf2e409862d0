"""A lease: a query in somebody's hands, with what they may know of its image."""

from __future__ import annotations

import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import sqlalchemy as sa

from labelwise.ledger.asked_again import AGAIN
from labelwise.ledger.known_questions import hidden, right_answers
from labelwise.ledger.progress import known_within
from labelwise.ledger.reviews import REVIEWS
from labelwise.types import Answer, Query


@dataclass(frozen=True, slots=True)
class Lease:
    """A query that is held until `expires` (seconds since 1970). `before`: what its holder said and took back;
    `known`: what is known of its image.
    """

    query: Query
    secret: str
    expires: float
    before: Answer | None = None
    known: Mapping[str, Any] = field(default_factory=dict)


def made(
    connection: sa.Connection, given: Sequence[tuple[float, Sequence[Query]]], lease_s: float, *, own: bool
) -> list[list[Lease]]:
    """Leases of the queries that are given out at each of these times. `own`: several people answer a query, each on
    their own: what others said to it is not shown.
    """
    every = [query for _, queries in given for query in queries]
    known = known_within(connection, {query.image for query in every})
    right = right_answers(connection, [query.id or 0 for query in every if query.rank < 0])

    def lease(query: Query, at: float) -> Lease:
        shown = _blind(connection, query) if own else known[query.image]
        return _lease(query, at + lease_s, shown, right.get(query.id or 0))

    return [[lease(query, at) for query in queries] for at, queries in given]


def _blind(connection: sa.Connection, query: Query) -> Mapping[str, Any]:
    asked = {int(query.reason.get(AGAIN, query.id or 0)), query.id or 0}
    return known_within(connection, [query.image], asked)[query.image]


def _lease(query: Query, expires: float, known: Mapping[str, Any], right: tuple[Answer, int] | None) -> Lease:
    """Of a question whose answer is known, the page tells no more than of any other; of one about a label, that label
    is the box that is asked about, and not shown twice.
    """
    if right is not None:
        query, known = replace(query, rank=right[1]), hidden(known, right[0])
    if REVIEWS in query.reason:
        about = {"box": list(query.box or ()), "label": query.label}
        known = {**known, "boxes": [one for one in known["boxes"] if one != about]}
    if AGAIN in query.reason:  # it looks like any other
        query = replace(query, reason={name: part for name, part in query.reason.items() if name != AGAIN})
    return Lease(query, secrets.token_urlsafe(18), expires, known=known)
