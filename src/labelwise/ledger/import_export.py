"""What an exchange with other tools needs of the ledger: who the project is, every answer, taking many in at once."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import sqlalchemy as sa

from labelwise.ledger import schema as t
from labelwise.ledger.answers import query_from_row
from labelwise.ledger.current_answers import CURRENT, HELD_BACK, UNANSWERED, answer_of, withdraw
from labelwise.ledger.given_labels import GIVEN
from labelwise.ledger.ledger import Ledger, now
from labelwise.types import Answer, Cost, LabelwiseError, Problem, Query
from labelwise.units import SKIPPED

_a = t.answers.c
BoxTuple = tuple[float, float, float, float]
REFUSED = "refused"
"""The handling of a problem that refuses a whole file."""
_MOST = 1000
"""Values in one statement: a database takes only so many."""


@dataclass(frozen=True, slots=True)
class ImportResult:
    """What an import did: answers written, answers that were in the ledger before, what stood in the way, and how many
    queries of the rounds in the file are open still.
    """

    written: int
    known: int
    problems: tuple[Problem, ...] = ()
    n_open: int = 0


def project_id(ledger: Ledger) -> str:
    """12 hexadecimal digits that tell this project from any other: of the moment when its ledger was made."""
    with ledger.read() as connection:
        created = connection.execute(sa.select(t.meta.c.value).where(t.meta.c.key == "created")).scalar()
    if created is None:
        raise LabelwiseError(f"the ledger {ledger.where} holds no images yet: run `labelwise run` until it asks")
    return hashlib.sha256(str(created).encode()).hexdigest()[:12]


def current_answers(ledger: Ledger) -> list[tuple[Query, Answer]]:
    """The answer that counts of every answered query, by round and rank."""
    joined = t.answers.join(t.queries)
    columns = [*t.queries.c, *(column.label(f"answer_{column.name}") for column in t.answers.c)]
    select = sa.select(*columns).select_from(joined).where(CURRENT).order_by(t.queries.c.round, t.queries.c.rank)
    with ledger.read() as connection:
        rows = connection.execute(select).mappings().all()
    return [(query_from_row(row), answer_of(_unprefix(row))) for row in rows]


def _unprefix(row: sa.RowMapping) -> Any:
    return {key.removeprefix("answer_"): value for key, value in row.items() if key.startswith("answer_")}


def current_annotations(ledger: Ledger) -> list[dict[str, Any]]:
    """Every current annotation, oldest first, with its origin, round, query, when it was made and by whom."""
    n = t.annotation_table
    newer = n.alias("newer")
    current = n.c.label.is_not(None) & ~sa.exists().where(newer.c.supersedes == n.c.id).correlate(n)
    current &= n.c.image.not_in(HELD_BACK)
    joined = n.outerjoin(t.answers, n.c.answer_id == t.answers.c.id)
    select = sa.select(n, t.answers.c.who).select_from(joined).where(current).order_by(n.c.id)
    with ledger.read() as connection:
        rows = [dict(row) for row in connection.execute(select).mappings()]
    return [row | {"who": GIVEN} if row["origin"] == GIVEN else row for row in rows]


def unanswered(ledger: Ledger) -> set[int]:
    """The ids of the queries that nobody has answered."""
    with ledger.read() as connection:
        return set(connection.execute(sa.select(t.queries.c.id).where(UNANSWERED)).scalars())


def annotations_on(ledger: Ledger, images: Sequence[str]) -> list[tuple[str, int | None, BoxTuple, int]]:
    """(image, query id, box, label) of every current annotation on these images."""
    n = t.annotation_table.c
    newer = t.annotation_table.alias("newer")
    current = n.label.is_not(None) & ~sa.exists().where(newer.c.supersedes == n.id).correlate(t.annotation_table)
    select = sa.select(n.image, n.query_id, n.x1, n.y1, n.x2, n.y2, n.label).where(current).order_by(n.id)
    found: list[tuple[str, int | None, BoxTuple, int]] = []
    with ledger.read() as connection:
        for start in range(0, len(images), _MOST):
            rows = connection.execute(select.where(n.image.in_(images[start : start + _MOST])))
            found += [(row[0], row[1], (row[2], row[3], row[4], row[5]), row[6]) for row in rows]
    return found


def take_in(
    ledger: Ledger,
    records: Sequence[tuple[Query, Answer, Cost]],
    places: Sequence[str],
    origin: str,
    *,
    second_opinions: bool = False,
    partial: bool = False,
) -> ImportResult:
    """Records answers in one transaction, all or none. One that is in the ledger already is not recorded again.

    An answer to a query that somebody else has answered is a problem, and nothing is written, unless
    `second_opinions`: then it is kept as one and adds no labels; or `partial`: then it is left out. A skip beside an
    answer is none: one in the file is left out, one in the ledger is taken back. `places` names each record for a
    message.
    """
    with ledger.write() as connection:
        before = _answers(connection, [query.id for query, _, _ in records if query.id is not None])
        fresh, problems, known, skips = [], [], 0, list[tuple[int, Query, str]]()
        for record, place in zip(records, places, strict=True):
            query, answer, _cost = record
            others = before.setdefault(answer.query, [])
            if any(_same(answer, other) for other, _, _ in others):
                known += 1
                continue
            valid = [(other, number) for other, withdrawn, number in others if not withdrawn]
            skipped = [other.verdict == SKIPPED for other, _ in valid]
            what = f"by {valid[0][0].who} ({valid[0][0].verdict}), here by {answer.who}" if valid else ""
            what = f"query {query.id} was answered {what} ({answer.verdict})"
            if valid and answer.verdict == SKIPPED and not all(skipped):
                problems.append(Problem("skip beside an answer", place, what, "left out"))
                continue
            if valid and answer.verdict != SKIPPED and all(skipped):
                problems.append(Problem("skip beside an answer", place, what, "the skip is taken back"))
                skips += [(number, query, answer.who) for _, number in valid]
                others[:] = [(other, True, number) for other, _, number in others]
            elif valid and not second_opinions:
                what = f"{what}; --second-opinions keeps both, and the first counts"
                problems.append(Problem("answered before", place, what, "left out" if partial else REFUSED))
                continue
            others.append((answer, False, -1))
            fresh.append(record)
        if any(problem.handling == REFUSED for problem in problems):
            return ImportResult(0, known, tuple(problems))
        for number, query, who in skips:
            withdraw(connection, number, who, ledger.sizes_within(connection, {query.image}), now())
        if fresh:
            ledger.record_within(connection, fresh, origin)
        return ImportResult(len(fresh), known, tuple(problems))


def _same(a: Answer, b: Answer) -> bool:
    """Whether two answers are one: the same person said the same."""
    return _content(a) == _content(b)


def _content(answer: Answer) -> Answer:
    return replace(answer, seconds=0.0, boxes=_plain(answer), labels=tuple(answer.labels), classes=None, suggested=())


def _plain(answer: Answer) -> tuple[tuple[float, float, float, float], ...]:
    return tuple((float(x1), float(y1), float(x2), float(y2)) for x1, y1, x2, y2 in answer.boxes)


def _answers(connection: sa.Connection, ids: Sequence[int]) -> dict[int, list[tuple[Answer, bool, int]]]:
    """Every answer of these queries, in order, whether it was taken back, and its id."""
    found: dict[int, list[tuple[Answer, bool, int]]] = {}
    columns = sa.select(t.answers, t.withdrawn.c.answer_id.is_not(None).label("withdrawn"))
    joined = columns.select_from(t.answers.outerjoin(t.withdrawn))
    for start in range(0, len(ids), _MOST):
        some = joined.where(_a.query_id.in_(ids[start : start + _MOST])).order_by(_a.query_id, _a.ordinal)
        for row in connection.execute(some).mappings():
            found.setdefault(row["query_id"], []).append((answer_of(row), bool(row["withdrawn"]), row["id"]))
    return found
