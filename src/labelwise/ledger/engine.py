"""Opening the ledger, and the one place where databases differ: SQLite's pragmas and error codes, triggers.

Everything else speaks SQLAlchemy only, so that a team can point the ledger at PostgreSQL by URL (`ledger` in run.toml).
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any
from urllib.parse import quote

import sqlalchemy as sa
from sqlalchemy import Table
from sqlalchemy.dialects import sqlite
from sqlalchemy.schema import CreateTable

from labelwise.ledger.ledger_errors import damage_error, readable_errors, readable_rows
from labelwise.ledger.schema import APPEND_ONLY, LATER, SCHEMA_VERSION, meta, metadata
from labelwise.types import LabelwiseError
from labelwise.types.disk import forces, make_private, to_json

BUSY_MS = 30_000

WHOLE_BYTES, QUICK_BYTES = 4e6, 12e6
"""Largest ledger that SQLite checks wholly, and without its indexes, whenever it is opened (each 45 ms).

`labelwise run` and `check` look at every one wholly.
"""


def _on_connect(connection: Any, _record: Any) -> None:
    connection.isolation_level = None  # the driver never says BEGIN or COMMIT on its own: `_on_begin` does
    for pragma in (
        f"busy_timeout = {BUSY_MS}",
        "journal_mode = WAL",
        f"synchronous = {'FULL' if forces() else 'OFF'}",  # FULL: an answer that was accepted survives a power cut
        "foreign_keys = ON",
        "recursive_triggers = ON",  # INSERT OR REPLACE must fire the append-only triggers as well
    ):
        connection.execute(f"PRAGMA {pragma}")


def _on_connect_to_look(connection: Any, _record: Any) -> None:
    """Of a ledger that cannot be written: tables that it lacks are empty ones of this connection."""
    connection.isolation_level = None
    connection.execute(f"PRAGMA busy_timeout = {BUSY_MS}")
    there = {row[0] for row in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
    for table in LATER:
        if table.name not in there and "meta" in there:
            made = str(CreateTable(table).compile(dialect=sqlite.dialect()))
            connection.execute(made.replace("CREATE TABLE", "CREATE TEMP TABLE", 1))


def _url_to_look(path: Path) -> str:
    """Of a ledger that cannot be written. Where nobody has it open, SQLite must not look for a file beside it."""
    beside = Path(f"{path}-wal")
    immutable = "" if beside.exists() and beside.stat().st_size else "&immutable=1"
    return f"sqlite:///file:{quote(str(path.absolute()))}?mode=ro{immutable}&uri=true"


def cannot_be_written(path: Path) -> bool:
    """Whether a ledger can only be looked at: SQLite writes the file and beside it."""
    return path.is_file() and not (os.access(path, os.W_OK) and os.access(path.parent, os.W_OK))


def _look(engine: sa.Engine, where: str) -> None:
    """SQLite's own check, where it takes a moment."""
    with readable_rows(where), engine.connect() as connection:
        reading = connection.execution_options(reads=True)
        pages, size = (reading.exec_driver_sql(f"PRAGMA {name}").scalar_one() for name in ("page_count", "page_size"))
        found: list[str] = []
        if pages * size <= QUICK_BYTES:
            found = structure(reading, f"{'integrity' if pages * size <= WHOLE_BYTES else 'quick'}_check(1)")
        if found:
            raise damage_error(where, found[0])


def structure(connection: sa.Connection, how: str) -> list[str]:
    """What SQLite's own check finds wrong; `how` is its name, with how many faults it may find."""
    said = connection.exec_driver_sql(f"PRAGMA {how}").scalars().all()
    return [line for row in said for line in str(row).split("\n") if row != "ok" and not line.startswith("***")]


def _on_begin(connection: sa.Connection) -> None:
    reads = connection.get_execution_options().get("reads", False)
    connection.exec_driver_sql("BEGIN" if reads else "BEGIN IMMEDIATE")


def _on_begin_postgresql(connection: sa.Connection) -> None:
    # a writer looks rows up by an index, as SQLite does: PostgreSQL, which knows a growing table by an old estimate,
    # else reads all of it for every answer (20,000 answers: p99 2.2 s)
    if "isolation_level" not in connection.get_execution_options():
        ways = ("seqscan", "hashjoin", "mergejoin", "material")
        off = [*(f"enable_{way}" for way in ways), "jit"]  # what is off has a high price, and a dear plan is compiled
        connection.exec_driver_sql("; ".join(f"SET LOCAL {name} = off" for name in off))


_REFUSE = """
CREATE OR REPLACE FUNCTION labelwise_append_only() RETURNS trigger LANGUAGE plpgsql AS
$$ BEGIN RAISE EXCEPTION '%% is append-only: add a row that supersedes', TG_TABLE_NAME; END $$
"""


def _create_triggers(connection: sa.Connection, tables: Iterable[Table]) -> None:
    is_sqlite = connection.dialect.name == "sqlite"
    if not is_sqlite and connection.dialect.name != "postgresql":
        return
    if not is_sqlite:
        connection.exec_driver_sql(_REFUSE)
    for table in tables:
        for verb in ("UPDATE", "DELETE"):
            refuse = f"BEGIN SELECT RAISE(ABORT, '{table.name} is append-only: add a row that supersedes'); END"
            refuse = refuse if is_sqlite else "FOR EACH ROW EXECUTE FUNCTION labelwise_append_only()"
            name = f"{table.name}_no_{verb.lower()}"
            connection.exec_driver_sql(f"CREATE TRIGGER {name} BEFORE {verb} ON {table.name} {refuse}")


def one_instant(engine: sa.Engine) -> dict[str, Any]:
    """Options of a connection that only reads: all that it reads is of one and the same instant."""
    return {"reads": True} if engine.dialect.name == "sqlite" else {"isolation_level": "REPEATABLE READ"}


def open_engine(url_or_path: str | Path, *, create: bool) -> sa.Engine:
    """An engine on a ledger whose schema has been checked; `create` makes the ledger where there is none."""
    where = str(url_or_path)
    to_look = not create and "://" not in where and cannot_be_written(Path(where))
    if "://" in where:
        url = where
    else:
        if not create and not Path(where).is_file():
            raise LabelwiseError(
                f"there is no ledger at {where}: make a project with `labelwise init`; a project that has lost it goes "
                f"back to the copy of its last round by `labelwise check {Path(where).parent} --restore`"
            )
        url = _url_to_look(Path(where)) if to_look else f"sqlite:///{where}"
    try:
        engine = sa.create_engine(url, json_serializer=to_json, **_connections(url))
    except (ImportError, sa.exc.ArgumentError) as error:
        raise LabelwiseError(
            f"cannot open the ledger {where}: {error}. Install the driver (labelwise[postgres]) or mend the URL"
        ) from error
    if "://" in where:
        where = engine.url.render_as_string(hide_password=True)
    if engine.dialect.name == "sqlite":
        if create:
            make_private(engine.url.database or "", where)
        sa.event.listen(engine, "connect", _on_connect_to_look if to_look else _on_connect)
        sa.event.listen(engine, "begin", _on_begin)
    elif engine.dialect.name == "postgresql":
        sa.event.listen(engine, "begin", _on_begin_postgresql)
    try:
        if not create and engine.dialect.name == "sqlite":
            _look(engine, where)
        if to_look:
            with readable_rows(where), engine.connect() as connection:
                _check(connection.execution_options(reads=True), where)
        else:
            with readable_errors(where), engine.begin() as connection:
                _check_or_create(connection, where, create=create)
    except BaseException:
        engine.dispose()
        raise
    return engine


def _connections(url: str) -> dict[str, Any]:
    """Idle connections stay open: to open one costs more than what is done with it. A server has few for everybody."""
    pool: dict[str, Any] = {}
    if url.startswith("sqlite:///"):
        pool = {"pool_size": 16, "max_overflow": 48}
    elif not url.startswith("sqlite"):
        pool = {"pool_size": 8, "max_overflow": 16, "pool_pre_ping": True}
    if url.startswith("postgresql+psycopg:"):  # lists of every length make every statement new: nothing to prepare
        pool["connect_args"] = {"prepare_threshold": None}
    return pool


def _check_or_create(connection: sa.Connection, where: str, *, create: bool) -> None:
    tables = set(sa.inspect(connection).get_table_names())
    if create and not tables:
        metadata.create_all(connection)
        _create_triggers(connection, APPEND_ONLY)
        connection.execute(sa.insert(meta), {"key": "schema_version", "value": SCHEMA_VERSION})
        return
    _check(connection, where)
    missing = [table for table in LATER if table.name not in tables]
    if missing:
        metadata.create_all(connection, tables=missing)
        _create_triggers(connection, [table for table in missing if table in APPEND_ONLY])


def _check(connection: sa.Connection, where: str) -> None:
    """Refuses what is no ledger, or one of a newer labelwise."""
    found = None
    if "meta" in sa.inspect(connection).get_table_names():
        found = connection.execute(sa.select(meta.c.value).where(meta.c.key == "schema_version")).scalar()
    if not isinstance(found, int):
        raise LabelwiseError(f"{where} is not a labelwise ledger: it has no schema version. Name another file")
    if found > SCHEMA_VERSION:
        raise LabelwiseError(
            f"{where} was made by a newer labelwise (schema {found}, this one reads up to {SCHEMA_VERSION}): "
            "upgrade labelwise"
        )
