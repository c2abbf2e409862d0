"""What a person may see of images that is known of them: not the answer to a question that they may still be asked."""

from __future__ import annotations

from collections.abc import Collection
from functools import cache
from typing import Any

import sqlalchemy as sa

from labelwise.ledger import schema as t
from labelwise.ledger.current_answers import wants
from labelwise.ledger.known_questions import KNOWN, OWN_SOURCE, hidden, right_answers
from labelwise.ledger.progress import known_within
from labelwise.queue.lease_queue import open_round

_q = t.queries.c


@cache
def _still_asked(overlap: int) -> sa.Select[Any]:
    here = (_q.round == sa.bindparam("asking")) & (_q.rank < 0)
    return sa.select(_q.id, _q.image).where(here & KNOWN & wants(overlap, sa.bindparam("person")) & ~OWN_SOURCE)


def known_questions_for(connection: sa.Connection, who: str, overlap: int = 1) -> dict[int, str]:
    """The known questions that a person may still be asked in this round, or is asked now: their images."""
    where = {"asking": open_round(connection), "person": who}
    return {row.id: row.image for row in connection.execute(_still_asked(overlap), where)}


def known_to(
    connection: sa.Connection, who: str, images: Collection[str], overlap: int = 1
) -> dict[str, dict[str, Any]]:
    """`known_within`, without what is right of the known questions that `who` may still be asked."""
    known = known_within(connection, images)
    asked = {query: image for query, image in known_questions_for(connection, who, overlap).items() if image in known}
    for query, (right, _) in right_answers(connection, asked).items():
        known[asked[query]] = hidden(known[asked[query]], right)
    return known
