"""Labels with who said them and when, and answers that left none: what an owner browses."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa

from labelwise.ledger import schema as t
from labelwise.ledger.answers import origin_of
from labelwise.ledger.asked_again import IS_AGAIN
from labelwise.ledger.by_hand import ABOUT
from labelwise.ledger.current_answers import CURRENT
from labelwise.ledger.current_labels import is_current_label
from labelwise.ledger.known_questions import KNOWN

_n, _a, _q = t.annotation_table.c, t.answers.c, t.queries.c


@dataclass(frozen=True, slots=True)
class Which:
    """Labels of a class, whoever they are from (`origin`), of a round, of an image; None: all."""

    label: int | None = None
    origin: str | None = None
    round: int | None = None
    image: str | None = None


def label_ids(connection: sa.Connection, which: Which) -> list[tuple[int, int | None]]:
    """The current labels, the newest first: their ids, and the query that each was an answer to."""
    select = sa.select(_n.id, _n.query_id).where(is_current_label())
    for name in ("label", "origin", "round", "image"):
        if (wanted := getattr(which, name)) is not None:
            select = select.where(_n[name] == wanted)
    return [(row[0], row[1]) for row in connection.execute(select.order_by(_n.id.desc()))]


def label_rows(connection: sa.Connection, ids: Sequence[int]) -> dict[int, dict[str, Any]]:
    """Labels by their ids: `image`, `box`, `label`, `origin`, `round`, `query_id`, `created`."""
    found = dict[int, dict[str, Any]]()
    for start in range(0, len(ids), 1000):  # a database takes only so many values in one statement
        rows = connection.execute(sa.select(t.annotation_table).where(_n.id.in_(ids[start : start + 1000]))).mappings()
        for row in rows:
            kept = {name: row[name] for name in ("image", "label", "origin", "round", "query_id", "created")}
            found[row["id"]] = {**kept, "box": [row["x1"], row["y1"], row["x2"], row["y2"]]}
    return found


def without_label(connection: sa.Connection, verdict: str | None, which: Which) -> list[dict[str, Any]]:
    """Answers that count and left no label, the newest first, unless the owner has said something else since: `query`,
    `image`, `box`, `label` (as was asked), `verdict`, `origin`, `round`, `note`.
    """
    labelled = sa.select(_n.answer_id).where(_n.answer_id.is_not(None) & _n.label.is_not(None))
    other = t.queries.alias("other")
    said = t.answers.alias("said")
    about = other.c.reason[ABOUT].as_integer()
    stands = ~sa.exists().where(t.withdrawn.c.answer_id == said.c.id).correlate(said)
    mended = sa.select(about).select_from(said.join(other, said.c.query_id == other.c.id))
    mended = mended.where(about.is_not(None) & stands)
    select = sa.select(t.queries, _a.verdict, _a.who, _a.note).select_from(t.answers.join(t.queries))
    select = select.where(CURRENT & ~KNOWN & ~IS_AGAIN & _a.id.not_in(labelled) & _q.id.not_in(mended))
    wanted = {_a.verdict: verdict, _q.label: which.label, _q.round: which.round, _q.image: which.image}
    for column, value in wanted.items():
        if value is not None:
            select = select.where(column == value)
    if which.origin is not None:
        select = select.where(_a.who == which.origin.removeprefix("person "))
    rows = connection.execute(select.order_by(_a.id.desc())).mappings()
    names = ("image", "label", "verdict", "round", "note")
    return [
        {
            **{name: row[name] for name in names},
            "query": row["id"],
            "origin": origin_of(row["who"]),
            "box": None if row["x1"] is None else [row["x1"], row["y1"], row["x2"], row["y2"]],
        }
        for row in rows
    ]


def how_many(connection: sa.Connection) -> dict[str, dict[Any, int]]:
    """Of the current labels how many are of each class (`label`), `origin` and `round`; of answers without one how many
    are of each `verdict`.
    """
    found: dict[str, dict[Any, int]] = {}
    for name in ("label", "origin", "round"):
        select = sa.select(_n[name], sa.func.count()).where(is_current_label()).group_by(_n[name])
        found[name] = {row[0]: int(row[1]) for row in connection.execute(select.order_by(_n[name]))}
    found["verdict"] = {}
    for row in without_label(connection, None, Which()):
        found["verdict"][row["verdict"]] = found["verdict"].get(row["verdict"], 0) + 1
    return found
