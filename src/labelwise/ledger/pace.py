"""How fast people answer: in all, and lately."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import sqlalchemy as sa

from labelwise.ledger import schema as t
from labelwise.ledger.ledger import Ledger

LATELY = timedelta(hours=1)


def of_people(ledger: Ledger, at: datetime | None = None) -> list[dict[str, Any]]:
    """Per person: answers that were not taken back, their mean seconds, those of the last hour, and when the last came.

    Seconds are those that count (`ask.learn_cost` cuts pauses from them).
    """
    a = t.answers.c
    since = ((at or datetime.now(UTC)) - LATELY).isoformat(timespec="milliseconds")
    late = sa.case((a.created >= since, 1), else_=0)
    columns = (a.who, sa.func.count(), sa.func.avg(a.cost_seconds), sa.func.sum(late), sa.func.max(a.created))
    select = sa.select(*columns, sa.func.sum(late * a.cost_seconds)).select_from(t.answers.outerjoin(t.withdrawn))
    select = select.where(t.withdrawn.c.answer_id.is_(None)).group_by(a.who).order_by(a.who)
    names = ("who", "answers", "seconds", "lately", "last", "lately_s")
    with ledger.read() as connection:
        return [dict(zip(names, row, strict=True)) for row in connection.execute(select)]
