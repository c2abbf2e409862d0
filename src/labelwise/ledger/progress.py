"""What the labelling page shows beside the query: what is known of an image, how far a round is, who did what."""

from __future__ import annotations

from collections.abc import Collection
from functools import cache
from typing import Any

import sqlalchemy as sa

from labelwise import units
from labelwise.ledger import schema as t
from labelwise.ledger.answers import query_from_row
from labelwise.ledger.asked_again import IS_AGAIN, SOMEBODY_LEFT
from labelwise.ledger.current_answers import CURRENT, HELD_BACK, SHOWABLE, UNANSWERED, current_rows
from labelwise.ledger.known_questions import KNOWN
from labelwise.ledger.ledger import Ledger
from labelwise.types import Cost, Query

MOST_SHOWN = 500
"""Known boxes of one image that its page shows."""

_a, _q, _l = t.answers.c, t.queries.c, t.leases.c


_n, _newer, _c = t.annotation_table, t.annotation_table.alias("newer"), t.coverage
_corners = ("x1", "y1", "x2", "y2")
_CURRENT = _n.c.label.is_not(None) & ~sa.exists().where(_newer.c.supersedes == _n.c.id).correlate(_n)
_CURRENT &= _n.c.image.not_in(HELD_BACK)
_NAMES: sa.BindParameter[Any] = sa.bindparam("names", expanding=True)
_HIDDEN: sa.BindParameter[Any] = sa.bindparam("hidden", expanding=True)


def _newest(table: sa.Table, which: sa.ColumnElement[bool], *more: sa.Column[Any]) -> sa.Select[Any]:
    """Rows of the images `names`: of each image the newest `MOST_SHOWN`, oldest first."""
    age = sa.func.row_number().over(partition_by=table.c.image, order_by=table.c.id.desc()).label("age")
    columns = (table.c.image, *(table.c[k] for k in _corners), *more)
    which &= table.c.query_id.is_(None) | table.c.query_id.not_in(_HIDDEN)
    ranked = sa.select(*columns, age).where(table.c.image.in_(_NAMES) & which).subquery()
    kept = sa.select(*(column for column in ranked.c if column.name != "age"))
    return kept.where(ranked.c.age <= MOST_SHOWN).order_by(ranked.c.image, ranked.c.age.desc())


_BOXES = _newest(_n, _CURRENT, _n.c.label)


@cache
def _covered(verdicts: tuple[str, ...]) -> sa.Select[Any]:
    return _newest(_c, current_rows(_c, verdicts))


def known_within(
    connection: sa.Connection, images: Collection[str], hidden: Collection[int] = ()
) -> dict[str, dict[str, Any]]:
    """Of each image: its current annotations and covered rectangles, oldest first; the newest `MOST_SHOWN` of them.
    What follows from answers to the queries `hidden` is left out.
    """
    known: dict[str, dict[str, Any]] = {image: {"boxes": [], "covered": []} for image in images}
    if known:
        which = {"names": list(images), "hidden": list(hidden)}
        for image, *box, label in connection.execute(_BOXES, which):
            known[image]["boxes"].append({"box": box, "label": label})
        for image, *box in connection.execute(_covered(units.covering()), which):
            known[image]["covered"].append(box)
    return known


def labelled_images(connection: sa.Connection) -> set[str]:
    """The images of which anything is known: an annotation, or a rectangle that was looked over."""
    boxes = sa.select(_n.c.image).where(_CURRENT).distinct()
    covered = sa.select(_c.c.image).where(current_rows(_c, units.covering())).distinct()
    return {*connection.execute(boxes).scalars(), *connection.execute(covered).scalars()}


def counts(ledger: Ledger, round_number: int, overlap: int = 1) -> dict[str, Any]:
    """How many queries of a round are there, are answered, are held by somebody; how many second opinions are `owed`
    to them with an `overlap`; `by` whom how many answers are; and what the round has `cost` (`Ledger.cost_by_round`).

    One pass over the answers: this is done again and again while people answer.
    """
    asked = sa.select(sa.func.count()).select_from(t.queries).where(_q.round == round_number)
    held = sa.select(sa.func.count()).select_from(t.leases).where(_l.ended.is_(None))
    valid, once = t.withdrawn.c.answer_id.is_(None), {"boxes": _a.cost_boxes, "images": _a.cost_images}
    sums = {name: sa.func.sum(sa.case((CURRENT, column), else_=0)) for name, column in once.items()}
    sums |= {
        "queries": sa.func.sum(sa.case((valid, _a.cost_queries), else_=0)),
        "seconds": sa.func.sum(_a.cost_seconds),
    }
    ways = [sa.func.sum(sa.case((which, 1), else_=0)) for which in (valid, CURRENT)]
    each = sa.select(_a.who, *ways, *sums.values()).select_from(t.answers.join(t.queries).outerjoin(t.withdrawn))
    with ledger.read() as connection:
        rows = connection.execute(each.where(_q.round == round_number).group_by(_a.who)).all()
        return {
            "asked": int(connection.execute(asked).scalar_one()),
            "answered": sum(int(row[2]) for row in rows),
            "held": int(connection.execute(held).scalar_one()),
            "owed": _opinions_due(connection, round_number, overlap),
            "by": {row[0]: int(row[1]) for row in rows if row[1]},
            "cost": {name: float(sum(row[k] for row in rows)) for k, name in enumerate(sums, start=3)},
        }


def by_person(ledger: Ledger) -> list[dict[str, Any]]:
    """Per person, unit and verdict: answers that were not taken back, those that count, their mean seconds."""
    joined = t.answers.join(t.queries).outerjoin(t.withdrawn)
    counted = sa.func.sum(sa.case((CURRENT, 1), else_=0))
    columns = (_a.who, _q.unit, _a.verdict, sa.func.count(), counted, sa.func.avg(_a.cost_seconds))
    select = sa.select(*columns).select_from(joined).where(t.withdrawn.c.answer_id.is_(None))
    select = select.group_by(_a.who, _q.unit, _a.verdict).order_by(_a.who, _q.unit, _a.verdict)
    names = ("who", "unit", "verdict", "answers", "counting", "seconds")
    with ledger.read() as connection:
        return [dict(zip(names, row, strict=True)) for row in connection.execute(select)]


def asked_now(ledger: Ledger, round_number: int, most: int) -> list[tuple[Query, str | None]]:
    """The open queries of a round by rank, each with who holds it."""
    join = t.queries.outerjoin(t.leases, (_l.query_id == _q.id) & _l.ended.is_(None))
    select = sa.select(t.queries, _l.who).select_from(join).where((_q.round == round_number) & UNANSWERED)
    select = select.where((_q.rank >= 0) | KNOWN)
    with ledger.read() as connection:
        rows = connection.execute(select.order_by(_q.rank).limit(most)).mappings().all()
    return [(query_from_row(row), row["who"]) for row in rows]


def spent_and_open(ledger: Ledger, round_number: int, budget_unit: str, overlap: int = 1) -> tuple[float, int, int]:
    """What a round has cost, how many of its queries are open, and how many second opinions are owed to queries that
    have an answer, but fewer than `overlap`; all at one instant. Queries whose image cannot be shown now, and
    questions whose answer is known (not everybody may answer them), are not waited for; nor one that is asked again,
    where everybody has answered it.

    Read one after the other, an answer between the two would count as neither, and one query too many be opened.
    """
    waited_for = (_q.round == round_number) & UNANSWERED & SHOWABLE & (_q.rank >= 0) & (~IS_AGAIN | SOMEBODY_LEFT)
    still_open = sa.select(sa.func.count()).select_from(t.queries).where(waited_for)
    with ledger.read() as connection:
        cost = ledger.costs_within(connection).get(round_number, Cost())
        n_open = int(connection.execute(still_open).scalar_one())
        owed = _opinions_due(connection, round_number, overlap)
    return float(getattr(cost, budget_unit)), n_open, owed


def _opinions_due(connection: sa.Connection, round_number: int, overlap: int) -> int:
    if overlap == 1:
        return 0
    missing = (overlap - sa.func.count(_a.who.distinct())).label("missing")
    each = sa.select(missing).select_from(t.answers.join(t.queries).outerjoin(t.withdrawn))
    each = each.where(
        (_q.round == round_number) & t.withdrawn.c.answer_id.is_(None) & SHOWABLE & (_q.rank >= 0) & ~IS_AGAIN
    )
    each = each.group_by(_a.query_id)
    few = each.subquery()
    total = sa.select(sa.func.coalesce(sa.func.sum(few.c.missing), 0)).where(few.c.missing > 0)
    return int(connection.execute(total).scalar_one())


def dearest(ledger: Ledger, query_units: Collection[str], budget_unit: str) -> float | None:
    """The largest cost of an answer to a query of these units; None where nobody has answered one."""
    column = t.answers.c[f"cost_{budget_unit}"]
    select = sa.select(sa.func.max(column)).select_from(t.answers.join(t.queries)).where(_q.unit.in_(query_units))
    with ledger.read() as connection:
        found = connection.execute(select).scalar()
    return None if found is None else float(found)


MISSING = "missing class: "
"""How the note of a skipped query begins whose object is of a class that the project lacks; its name follows."""


def missing_classes(ledger: Ledger) -> list[dict[str, Any]]:
    """Names that people gave to objects of no class of the project, with how often; the most frequent first."""
    many = sa.func.count().label("many")
    valid = ~sa.exists().where(t.withdrawn.c.answer_id == _a.id).correlate(t.answers)
    select = sa.select(_a.note, many).where((_a.verdict == "skipped") & _a.note.startswith(MISSING) & valid)
    with ledger.read() as connection:
        rows = connection.execute(select.group_by(_a.note).order_by(many.desc(), _a.note).limit(50)).all()
    return [{"name": note.removeprefix(MISSING), "answers": int(number)} for note, number in rows]
