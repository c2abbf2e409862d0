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
_NAMES: sa.BindParameter[Any] = sa.bindparam("names", expanding=True)


@cache
def _still_asked(overlap: int) -> sa.Select[Any]:
    """Known questions about these images that a person may be asked in this round."""
    here = (_q.round == sa.bindparam("asking")) & (_q.rank < 0) & _q.image.in_(_NAMES)
    return sa.select(_q.id, _q.image).where(here & KNOWN & wants(overlap, sa.bindparam("person")) & ~OWN_SOURCE)


def known_to(
    connection: sa.Connection, who: str, images: Collection[str], overlap: int = 1
) -> dict[str, dict[str, Any]]:
    """`known_within`, without what is right of known questions that `who` may still be asked, or is asked now."""
    known = known_within(connection, images)
    where = {"asking": open_round(connection), "names": list(images), "person": who}
    asked = dict(connection.execute(_still_asked(overlap), where).all()) if known else {}
    for query, (right, _) in right_answers(connection, asked).items():
        known[asked[query]] |= hidden(known[asked[query]], right)
    return known
