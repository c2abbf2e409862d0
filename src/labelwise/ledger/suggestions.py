"""Boxes that were offered with a query: what became of each, kept beside the answer (`types.Suggestion`)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa

from labelwise import units
from labelwise.ledger import schema as t
from labelwise.ledger.current_answers import CURRENT, answer_of
from labelwise.types import Answer, Suggestion

if TYPE_CHECKING:
    from labelwise.ledger.ledger import Ledger

_s, _a = t.suggestions.c, t.answers.c
_CORNERS = ("x1", "y1", "x2", "y2")


def record(connection: sa.Connection, answers: Sequence[Answer], ids: Sequence[int]) -> None:
    """Stores what was offered with each answer, and what became of it."""
    rows = [
        {"answer_id": answer_id, "number": one.number, "action": answer.action(one), "origin": one.origin}
        | {"image": one.image, "label": int(one.label)}
        | dict(zip(_CORNERS, map(float, one.box), strict=True))
        for answer, answer_id in zip(answers, ids, strict=True)
        for one in answer.suggested
    ]
    if rows:
        connection.execute(sa.insert(t.suggestions), rows)


def offered_since(connection: sa.Connection, first: int) -> dict[int, tuple[Suggestion, ...]]:
    """What was offered with the answers from one of this id on, by their ids."""
    return _offered(connection, _s.answer_id >= first)


def with_suggested(connection: sa.Connection, row: sa.RowMapping) -> Answer:
    """An answer as it was given, with what was offered."""
    return replace(answer_of(row), suggested=_offered(connection, _s.answer_id == row["id"]).get(row["id"], ()))


def _offered(connection: sa.Connection, which: sa.ColumnElement[bool]) -> dict[int, tuple[Suggestion, ...]]:
    found: dict[int, tuple[Suggestion, ...]] = {}
    for row in connection.execute(sa.select(t.suggestions).where(which).order_by(_s.id)).mappings():
        box = row["x1"], row["y1"], row["x2"], row["y2"]
        one = Suggestion(box, row["label"], row["origin"], row["image"], row["number"])
        found[row["answer_id"]] = (*found.get(row["answer_id"], ()), one)
    return found


def actions(ledger: Ledger) -> list[dict[str, Any]]:
    """Per person, of the answers that count and may hold any number of boxes: how many boxes were taken as they were
    suggested ("verify"), mended or drawn, and how many suggestions rejected; nothing where none was ever suggested.
    """
    drawing = [word for word, meaning in units.meanings() if meaning.boxes == "any"]
    counted = CURRENT & _a.verdict.in_(drawing)
    boxes = sa.select(_a.who, sa.func.sum(_a.cost_boxes)).where(counted).group_by(_a.who)
    select = sa.select(_a.who, _s.action, sa.func.count()).select_from(t.suggestions.join(t.answers))
    found: dict[str, dict[str, Any]] = {}
    with ledger.read() as connection:
        made = {row[0]: int(row[1]) for row in connection.execute(boxes)}
        for who, action, n in connection.execute(select.where(counted).group_by(_a.who, _s.action)):
            none = {"who": who, "verify": 0, "mend": 0, "draw": made[who], "reject": 0}
            row = found.setdefault(who, none)
            row[action] += int(n)
            row["draw"] -= 0 if action == "reject" else int(n)
    return [found[who] for who in sorted(found)]
