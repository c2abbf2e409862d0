"""The class list, which may become longer while people answer: what was looked over before says nothing of a new class.

"Every object in here is annotated" and "there is no object" hold for the classes that were known when they were said.
With a class more, such rows count no longer (`STILL_HOLDS`), unless the owner says that no object of the class was in
what was looked over. Annotated objects stay. The class is the last of the list, so that no number changes its meaning.
"""

from __future__ import annotations

import sqlalchemy as sa

from labelwise.ledger import schema as t
from labelwise.ledger.current_answers import CURRENT, withdraw
from labelwise.ledger.ledger import Ledger, now
from labelwise.ledger.progress import MISSING
from labelwise.types import LabelwiseError

LONGEST_NAME = 100

_CLASSES = sa.select(t.meta.c.value).where(t.meta.c.key == "classes")
_a, _q, _s = t.answers.c, t.queries.c, t.stages.c


def add_class(ledger: Ledger, name: str, who: str, *, none_so_far: bool) -> int:
    """Adds a class at the end of the list; its number. Queries of this round that were skipped for it open again.

    Args:
        ledger: the project's.
        name: not one of the list, in whatever case.
        who: who adds it.
        none_so_far: that no object of this class was in what was looked over until now, by the word of who adds it.

    Raises:
        LabelwiseError: a name that is none or is there already; no round is asking people now.
    """
    with ledger.write() as connection:
        classes = ledger.class_list(connection, alone=True)
        if connection.execute(_CLASSES).scalar() is None:
            raise LabelwiseError("the ledger holds no class list yet: run `labelwise run` until it asks")
        _check_name(name, classes)
        round_number = _asking(connection)
        of = {"coverage_id": t.coverage, "background_id": t.background, "answer_id": t.answers}
        newest = {column: sa.select(sa.func.coalesce(sa.func.max(table.c.id), 0)) for column, table in of.items()}
        most = {column: 0 if none_so_far else select.scalar_subquery() for column, select in newest.items()}
        row = {"number": len(classes), "name": name, "who": who, "created": now(), **most}
        connection.execute(sa.insert(t.added_classes).values(row))
        longer = sa.update(t.meta).where(t.meta.c.key == "classes").values(value=[*classes, name])
        connection.execute(longer)
        if round_number is not None:
            _open_again(connection, round_number, name, who)
    return len(classes)


def _check_name(name: str, classes: tuple[str, ...]) -> None:
    odd = not name.isprintable() or name != name.strip() or name.startswith("labelwise_")
    if odd or not 0 < len(name) <= LONGEST_NAME:
        raise LabelwiseError(
            f"{name!r} cannot be a class: expected 1 to {LONGEST_NAME} printable characters, no blanks around them, "
            "not beginning with labelwise_"
        )
    same = [known for known in classes if known.casefold() == name.casefold()]
    if same:
        raise LabelwiseError(f"there is a class {same[0]!r} already; its number is {classes.index(same[0])}")


def _asking(connection: sa.Connection) -> int | None:
    """The round that asks people; None before the first. While the model is at work the list stays as it is."""
    rows = connection.execute(sa.select(_s.round, _s.stage, _s.state)).all()
    round_number = max((row[0] for row in rows), default=None)
    if round_number is not None and (round_number, "ask", "started") not in [tuple(row) for row in rows]:
        busy = next((stage for number, stage, state in rows if (number, state) == (round_number, "started")), "done")
        raise LabelwiseError(
            f"round {round_number} does not ask now ({busy}): a class can be added while people answer: wait for that"
        )
    return round_number


def _open_again(connection: sa.Connection, round_number: int, name: str, who: str) -> None:
    select = sa.select(_a.id).select_from(t.answers.join(t.queries))
    skipped = (
        (_q.round == round_number) & (_a.verdict == "skipped") & (sa.func.lower(_a.note) == (MISSING + name).lower())
    )
    for answer_id in connection.execute(select.where(skipped & CURRENT)).scalars().all():
        withdraw(connection, answer_id, who, {}, now())
