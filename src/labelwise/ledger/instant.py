"""An instant of the ledger: how far its tables had grown, so that what was known then can be read again later."""

from __future__ import annotations

from dataclasses import dataclass

import sqlalchemy as sa

from labelwise.ledger import schema as t


@dataclass(frozen=True, slots=True)
class Instant:
    """Rows up to these ids, of the rounds up to `round`, and what had been taken back at `time`.

    Labels are append-only, so this names what was known, corrections, late answers and added classes included.
    """

    round: int
    annotations: int
    coverage: int
    background: int
    answers: int
    queries: int
    images: int
    classes: int
    time: str

    def rows(self, table: sa.FromClause, name: str) -> sa.ColumnElement[bool]:
        """Of a row of `table` (or of an alias of it): it was there."""
        condition: sa.ColumnElement[bool] = table.c.id <= getattr(self, name)
        return condition & (table.c.round <= self.round) if "round" in table.c else condition


_TABLES = {
    "annotations": t.annotation_table,
    "coverage": t.coverage,
    "background": t.background,
    "answers": t.answers,
    "queries": t.queries,
}
_NEWEST = sa.select(
    *(
        sa.select(sa.func.coalesce(sa.func.max(table.c.id), 0)).scalar_subquery().label(name)
        for name, table in _TABLES.items()
    ),
    sa.select(sa.func.count()).select_from(t.images).scalar_subquery().label("images"),
)


def instant(connection: sa.Connection, round_number: int, classes: int, time: str) -> Instant:
    """The present one, limited to the rounds up to `round_number`."""
    row = connection.execute(_NEWEST).mappings().one()
    return Instant(round_number, classes=classes, time=time, **{name: int(row[name]) for name in (*_TABLES, "images")})
