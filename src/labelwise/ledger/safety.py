"""Against damage of the ledger: sums over its rows, which `run` and `check` compare, and a copy to go back to.

SQLite finds what is broken in a file's structure; a flipped bit in a number of a row it takes for the number. So the
targets of every round keep a sum of all rows that they were made from, and whoever continues compares.
"""

from __future__ import annotations

import os
import sqlite3
import zlib
from pathlib import Path

import sqlalchemy as sa

from labelwise.ledger import records
from labelwise.ledger import schema as t
from labelwise.ledger.engine import structure
from labelwise.ledger.instant import Instant
from labelwise.ledger.ledger import Ledger
from labelwise.ledger.ledger_errors import damage_error
from labelwise.types import LabelwiseError
from labelwise.types.disk import forces, in_one_step, readable_errors, sync

COPY = "ledger.copy.sqlite"
"""The copy's name in the project folder: made when a round has been answered."""

BESIDE = ("", "-wal", "-shm")
"""What SQLite keeps: the file, and what it writes beside it."""


def is_file(ledger: Ledger) -> bool:
    """Whether the ledger is a file of SQLite; a database server looks after itself."""
    return "://" not in ledger.where


def row_sums(ledger: Ledger, seen: Instant) -> dict[str, int]:
    """CRC-32 of the rows of every table that were there at an instant and never change."""
    a, w, c = t.added_classes.c, t.withdrawn.c, t.images.c
    selects = {
        "answers": sa.select(t.answers).where(t.answers.c.id <= seen.answers).order_by(t.answers.c.id),
        "withdrawn": sa.select(t.withdrawn).where(w.created <= seen.time).order_by(w.answer_id),
        "added_classes": sa.select(t.added_classes).where(a.number < seen.classes).order_by(a.number),
        "images": sa.select(c.name).where(c.number < seen.images).order_by(c.number),
        "queries": sa.select(t.queries).where(t.queries.c.id <= seen.queries).order_by(t.queries.c.id),
    }
    for table, last in (
        (t.annotation_table, seen.annotations),
        (t.coverage, seen.coverage),
        (t.background, seen.background),
    ):
        selects[table.name] = sa.select(table).where(table.c.id <= last).order_by(table.c.id)
    with ledger.read() as connection:
        return {name: _sum(connection, select) for name, select in selects.items()}


def _sum(connection: sa.Connection, select: sa.Select[tuple[object, ...]]) -> int:
    cursor, value = connection.execute(select).cursor, 0
    while cursor is not None and (rows := cursor.fetchmany(1000)):  # as SQLite gives them: text of JSON stays text
        value = zlib.crc32(repr(rows).encode("utf-8", "surrogatepass"), value)
    return value


def compare(ledger: Ledger, rounds: int) -> None:
    """Refuses a ledger that is damaged: in its structure, or whose rows are not those of the last round's targets.

    Raises:
        LabelwiseError: it is damaged; what to do.
    """
    if not is_file(ledger):
        return
    with ledger.read() as connection:
        found = structure(connection, "integrity_check(1)")
    found = found or _other_rows(ledger, rounds)
    if found:
        raise damage_error(ledger.where, found[0])


def faults(ledger: Ledger, rounds: int) -> list[str]:
    """All that can be found, however long it takes; empty where the ledger is whole (or on a server)."""
    if not is_file(ledger):
        return []
    with ledger.read() as connection:
        found = structure(connection, "integrity_check")
        for table, row, parent, _ in connection.exec_driver_sql("PRAGMA foreign_key_check").all():
            found.append(f"row {row} of {table} belongs to a row of {parent} that is not there")
    return found + _other_rows(ledger, rounds)


def _other_rows(ledger: Ledger, rounds: int) -> list[str]:
    for round_number in reversed(range(rounds)):
        record = records.of_stage(ledger, round_number, "label")
        seen = records.instant_of(record)
        if seen is not None and "rows" in record:
            now = row_sums(ledger, seen)
            wrong = sorted(name for name, value in record["rows"].items() if now.get(name) != value)
            return [f"{name}: not the rows that round {round_number} was trained on" for name in wrong]
    return []


def make_copy(ledger: Ledger, folder: Path, round_number: int) -> None:
    """Copies the ledger of a round that was answered; the copy before is replaced by a whole one that was compared.

    A run that can be repeated has none (`disk.without_force`).
    """
    if not is_file(ledger) or not forces():
        return
    compare(ledger, round_number)
    path = folder / COPY
    with readable_errors(path), in_one_step(path) as partial:
        os.close(os.open(partial, os.O_CREAT | os.O_RDWR, 0o600))
        try:
            with ledger.read() as connection:
                source = connection.connection.driver_connection
                assert isinstance(source, sqlite3.Connection)
                _copy(source, partial)
        finally:
            Path(f"{partial}-journal").unlink(missing_ok=True)


def _copy(source: sqlite3.Connection, path: Path) -> None:
    target = sqlite3.connect(path)
    try:
        source.backup(target)
        target.execute("PRAGMA journal_mode = DELETE")
    except sqlite3.OperationalError as error:
        raise OSError(28 if "full" in str(error) else 5, str(error)) from error
    finally:
        target.close()


def restore(folder: Path, ledger: Path) -> Path:
    """Puts the copy in the ledger's place, and the damaged one aside; returns where that lies now.

    Raises:
        LabelwiseError: there is no copy.
    """
    copy = folder / COPY
    if not copy.is_file():
        raise LabelwiseError(
            f"{folder} has no copy of its ledger ({COPY} is made when a round has been answered). Restore a backup of "
            f"your own, or save what can be read: `sqlite3 {ledger} .recover | sqlite3 new.sqlite`"
        )
    number = next(k for k in range(1, 10_000) if not (folder / f"ledger.damaged-{k}.sqlite").exists())
    aside = folder / f"ledger.damaged-{number}.sqlite"
    with readable_errors(ledger), in_one_step(ledger) as partial:
        partial.write_bytes(copy.read_bytes())
        partial.chmod(0o600)
        sync(partial)  # before the damaged one leaves its place
        for end in BESIDE:
            if Path(f"{ledger}{end}").exists():
                Path(f"{ledger}{end}").replace(f"{aside}{end}")
    return aside
