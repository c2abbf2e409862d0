"""What the owner says of labels where they are seen (a gallery), as answers: they supersede, and cost their time.

Each is a review of its own (`reviews`), a query with a rank below 0 and one answer, in the round that is asking, or
else the last one that did. Nobody is asked it, and no round waits for it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import sqlalchemy as sa

from labelwise import units
from labelwise.ledger import schema as t
from labelwise.ledger.answers import query_from_row, query_row
from labelwise.ledger.current_answers import withdraw
from labelwise.ledger.ledger import Ledger, now
from labelwise.ledger.reviews import REVIEWS
from labelwise.types import Answer, Cost, LabelwiseError, Query

ABOUT = "about"
"""Key of such a query's reason: the query whose answer, which left no label, is meant."""
KIND = "by hand"
"""Under "kind" in such a query's reason."""

BoxTuple = tuple[float, float, float, float]
Price = Callable[[Query, Answer], Cost]
_n, _q = t.annotation_table.c, t.queries.c


@dataclass(frozen=True, slots=True)
class Change:
    """What is said: `annotation` is superseded by a box and class (`label`), or withdrawn ("background": there is no
    object; "duplicate": the object has another label). Without `annotation` a label is added; `about`: the query whose
    answer had none. `box`: None of a class of the whole image.
    """

    image: str
    verdict: str
    box: BoxTuple | None = None
    label: int | None = None
    annotation: int | None = None
    about: int | None = None


def correct(ledger: Ledger, changes: Sequence[Change], who: str, seconds: float, price: Price) -> list[int]:
    """Stores changes, all or none, and returns the ids of their answers; `seconds` is what all of them took.

    Raises:
        LabelwiseError: a label was corrected meanwhile, or is twice among them, or a change makes no sense (no such
            class, a box outside).
    """
    each = seconds / max(len(changes), 1)
    twice = [one for one, many in Counter(change.annotation for change in changes).items() if one and many > 1]
    if twice:
        raise LabelwiseError(f"label {twice[0]} is corrected twice at once. Say one thing of it")
    with ledger.write() as connection:
        stages = t.stages.c
        asking = sa.select(sa.func.max(stages.round)).where(stages.stage == "ask")
        number = int(connection.execute(asking).scalar() or 0)
        least = connection.execute(sa.select(sa.func.min(_q.rank)).where(_q.round == number)).scalar()
        rank, records = min(least or 0, 0), []
        sizes = ledger.sizes_within(connection, {change.image for change in changes})
        for change in changes:
            rank -= 1
            asked = _query(connection, change, number, rank)
            stored = sa.insert(t.queries).returning(_q.id)
            asked = replace(asked, id=int(connection.execute(stored, query_row(asked, number)).scalar_one()))
            whole = (0.0, 0.0, *map(float, sizes[change.image]))
            boxes = [] if change.label is None else [change.box or (whole[0], whole[1], whole[2], whole[3])]
            labels = [] if change.label is None else [change.label]
            answer = Answer(asked.id or 0, change.verdict, boxes, labels, who, each)
            records.append((asked, answer, price(asked, answer)))
        return [answer for answer, _ in ledger.record_within(connection, records)]


def _query(connection: sa.Connection, change: Change, number: int, rank: int) -> Query:
    reason: dict[str, float | str] = {"kind": KIND}
    box, label = change.box, change.label
    if change.annotation is not None:
        newer = t.annotation_table.alias("newer")
        current = ~sa.exists().where(newer.c.supersedes == _n.id).correlate(t.annotation_table) & _n.label.is_not(None)
        select = sa.select(t.annotation_table).where((_n.id == change.annotation) & current)
        row = connection.execute(select).mappings().one_or_none()
        if row is None or row["image"] != change.image:
            where = f"label {change.annotation} of image {change.image}"
            raise LabelwiseError(f"{where} is not there any more: it was corrected meanwhile. Reload the page")
        box, label = (row["x1"], row["y1"], row["x2"], row["y2"]), row["label"]
        reason[REVIEWS] = float(change.annotation)
    if change.about is not None:
        reason[ABOUT] = change.about
    unit = units.about_an_object()
    if change.box is None and change.verdict in units.covering():
        unit, box = units.FIRST, None
    return Query(number, rank, change.image, unit, box, label, 0.0, reason)


def take_back(ledger: Ledger, answers: Sequence[int], who: str) -> None:
    """Takes corrections back: their labels are again what they were.

    Raises:
        LabelwiseError: one is no correction by this person, or was taken back before.
    """
    a = t.answers.c
    gone = sa.exists().where(t.withdrawn.c.answer_id == a.id).correlate(t.answers)
    with ledger.write() as connection:
        for answer in reversed(answers):
            select = sa.select(t.queries).select_from(t.answers.join(t.queries)).where((a.id == answer) & ~gone)
            row = connection.execute(select.where(a.who == who)).mappings().one_or_none()
            if row is None or query_from_row(row).reason.get("kind") != KIND:
                raise LabelwiseError(f"answer {answer} is no correction by {who} that stands. Reload the page")
            withdraw(connection, answer, who, ledger.sizes_within(connection, {row["image"]}), now())
