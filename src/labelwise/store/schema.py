"""The ledger's tables, and the one place where databases differ: SQLite's pragmas and error codes, triggers.

Everything else speaks SQLAlchemy only, so that a team can point the ledger at PostgreSQL by URL (`ledger` in run.toml).
"""

from __future__ import annotations

import errno
import sqlite3
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from sqlalchemy import Column, Double, ForeignKey, Index, Integer, MetaData, Table, Text, UniqueConstraint

from labelwise.store.atomic import make_private, to_json
from labelwise.types import LabelwiseError

SCHEMA_VERSION = 1
BUSY_MS = 30_000

metadata = MetaData()


def _box_columns(nullable: bool = False) -> list[Column[Any]]:
    return [Column(name, Double, nullable=nullable) for name in ("x1", "y1", "x2", "y2")]


def _image_column() -> Column[Any]:
    return Column("image", Text, ForeignKey("images.name"), nullable=False, index=True)


meta = Table("meta", metadata, Column("key", Text, primary_key=True), Column("value", sa.JSON, nullable=False))

images = Table(
    "images",
    metadata,
    Column("name", Text, primary_key=True),
    Column("number", Integer, nullable=False, unique=True),
    Column("width_px", Integer, nullable=False),
    Column("height_px", Integer, nullable=False),
)

stages = Table(
    "stages",
    metadata,
    Column("round", Integer, primary_key=True, autoincrement=False),
    Column("stage", Text, primary_key=True),
    Column("state", Text, nullable=False),  # "started" or "done"
    Column("started", Text, nullable=False),
    Column("ended", Text),
    Column("wall_s", Double),
    Column("info", sa.JSON, nullable=False),
)

queries = Table(
    "queries",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("round", Integer, nullable=False),
    Column("rank", Integer, nullable=False),
    _image_column(),
    Column("unit", Text, nullable=False),
    *_box_columns(nullable=True),
    Column("label", Integer),
    Column("score", Double, nullable=False),
    Column("reason", sa.JSON, nullable=False),
    UniqueConstraint("round", "rank"),
    sqlite_autoincrement=True,  # a page that still shows a replaced query can never answer another one by its id
)

answers = Table(
    "answers",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("query_id", Integer, ForeignKey("queries.id"), nullable=False),
    Column("ordinal", Integer, nullable=False),  # 0 counts, later ones are second opinions
    Column("verdict", Text, nullable=False),
    Column("boxes", sa.JSON, nullable=False),  # as answered: a second opinion makes no annotations
    Column("labels", sa.JSON, nullable=False),
    Column("who", Text, nullable=False),
    Column("created", Text, nullable=False),
    Column("seconds", Double, nullable=False),
    Column("note", Text, nullable=False),
    Column("cost_boxes", Integer, nullable=False),
    Column("cost_queries", Integer, nullable=False),
    Column("cost_images", Integer, nullable=False),
    Column("cost_seconds", Double, nullable=False),
    UniqueConstraint("query_id", "ordinal"),
)

annotation_table = Table(
    "annotations",
    metadata,
    Column("id", Integer, primary_key=True),
    _image_column(),
    *_box_columns(),
    Column("label", Integer),  # null: a correction that withdraws the annotation, there is no object
    Column("origin", Text, nullable=False),
    Column("round", Integer, nullable=False),
    Column("query_id", Integer, ForeignKey("queries.id")),
    Column("answer_id", Integer, ForeignKey("answers.id")),
    Column("supersedes", Integer, ForeignKey("annotations.id"), unique=True),
    Column("created", Text, nullable=False),
)


def _rect_table(name: str) -> Table:
    return Table(
        name,
        metadata,
        Column("id", Integer, primary_key=True),
        _image_column(),
        *_box_columns(),
        Column("round", Integer, nullable=False),
        Column("query_id", Integer, ForeignKey("queries.id")),
    )


coverage = _rect_table("coverage")
background = _rect_table("background")

withdrawn = Table(  # an answer that its author took back: it counts no longer, what it cost in time does
    "withdrawn",
    metadata,
    Column("answer_id", Integer, ForeignKey("answers.id"), primary_key=True, autoincrement=False),
    Column("who", Text, nullable=False),
    Column("created", Text, nullable=False),
)

added_classes = Table(
    "added_classes",
    metadata,
    Column("number", Integer, primary_key=True, autoincrement=False),
    Column("name", Text, nullable=False, unique=True),
    Column("who", Text, nullable=False),
    Column("created", Text, nullable=False),
    # up to these rows nobody looked for this class; 0 where its owner says that there was none
    Column("coverage_id", Integer, nullable=False),
    Column("background_id", Integer, nullable=False),
    Column("answer_id", Integer, nullable=False),
)

leases = Table(
    "leases",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("query_id", Integer, ForeignKey("queries.id", ondelete="CASCADE"), nullable=False),
    Column("who", Text, nullable=False),
    Column("tab", Text, nullable=False),  # one person may work in two windows
    Column("secret", Text, nullable=False, unique=True),  # SHA-256 of it
    Column("issued", Double, nullable=False),  # seconds since 1970, by the server's clock
    Column("expires", Double, nullable=False),
    Column("ended", Text),  # null: it is held; else why it ended
    Column("answer_id", Integer, ForeignKey("answers.id")),
)
_held = leases.c.ended.is_(None)
Index("one_holder", leases.c.query_id, unique=True, sqlite_where=_held, postgresql_where=_held)
Index("leases_of_a_person", leases.c.who, sqlite_where=_held, postgresql_where=_held)

people = Table(
    "people",
    metadata,
    Column("name", Text, primary_key=True),
    Column("role", Text, nullable=False),  # "owner" or "annotator"
    Column("secret", Text, unique=True),  # SHA-256 of the invitation's; null: revoked
    Column("created", Double, nullable=False),
)

sessions = Table(
    "sessions",
    metadata,
    Column("token", Text, primary_key=True),  # SHA-256 of the cookie
    Column("name", Text, ForeignKey("people.name"), nullable=False),
    Column("csrf", Text, nullable=False),
    Column("expires", Double, nullable=False),
)

passwords = Table(  # of those who set one: scrypt, as hex text
    "passwords",
    metadata,
    Column("name", Text, ForeignKey("people.name"), primary_key=True),
    Column("salt", Text, nullable=False),
    Column("hash", Text, nullable=False),
    Column("created", Double, nullable=False),
)

image_files = Table(  # size and time of change of an image's file; its hash from when it was first asked about
    "image_files",
    metadata,
    Column("image", Text, ForeignKey("images.name"), primary_key=True),
    Column("size_bytes", sa.BigInteger, nullable=False),
    Column("mtime_ns", sa.BigInteger, nullable=False),
    Column("sha256", Text),
)

unavailable = Table(  # images that cannot be shown now; "changed": their labels are held back
    "unavailable",
    metadata,
    Column("image", Text, ForeignKey("images.name"), primary_key=True),
    Column("why", Text, nullable=False),  # "gone", "unreadable" or "changed"
    Column("what", Text, nullable=False),
    Column("since", Text, nullable=False),
)

APPEND_ONLY = (annotation_table, answers, coverage, background, withdrawn, added_classes)
LATER = (withdrawn, added_classes, leases, people, sessions, passwords, image_files, unavailable)
"""Tables that a ledger made by an earlier labelwise lacks; they are added when it is opened."""


# ---- SQLite only, from here ---------------------------------------------------------------------------------------


def _on_connect(connection: Any, _record: Any) -> None:
    connection.isolation_level = None  # the driver never says BEGIN or COMMIT on its own: `_on_begin` does
    for pragma in (
        f"busy_timeout = {BUSY_MS}",
        "journal_mode = WAL",
        "synchronous = FULL",  # an answer that was accepted survives a power cut
        "foreign_keys = ON",
        "recursive_triggers = ON",  # INSERT OR REPLACE must fire the append-only triggers as well
    ):
        connection.execute(f"PRAGMA {pragma}")


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
    sqlite = connection.dialect.name == "sqlite"
    if not sqlite and connection.dialect.name != "postgresql":
        return
    if not sqlite:
        connection.exec_driver_sql(_REFUSE)
    for table in tables:
        for verb in ("UPDATE", "DELETE"):
            refuse = f"BEGIN SELECT RAISE(ABORT, '{table.name} is append-only: add a row that supersedes'); END"
            refuse = refuse if sqlite else "FOR EACH ROW EXECUTE FUNCTION labelwise_append_only()"
            name = f"{table.name}_no_{verb.lower()}"
            connection.exec_driver_sql(f"CREATE TRIGGER {name} BEFORE {verb} ON {table.name} {refuse}")


def one_instant(engine: sa.Engine) -> dict[str, Any]:
    """Options of a connection that only reads: all that it reads is of one and the same instant."""
    return {"reads": True} if engine.dialect.name == "sqlite" else {"isolation_level": "REPEATABLE READ"}


_SQLITE_ADVICE = {
    "SQLITE_FULL": "disk full while writing the ledger {where}: this step was rolled back and nothing was lost; "
    "free space and run the same command again, it continues where it was",
    "SQLITE_NOTADB": "{where} is not a labelwise ledger (not an SQLite file): restore it from a backup, "
    "or start a new project",
    "SQLITE_CORRUPT": "the ledger {where} is damaged: keep a copy, try `sqlite3 {where} .recover`, "
    "or restore it from a backup",
    "SQLITE_BUSY": "the ledger {where} is held by another process: this step was rolled back; "
    "wait until that one is done and run the same command again",
    "SQLITE_READONLY": "the ledger {where} cannot be written: check the permissions of the file and its folder",
    "SQLITE_CANTOPEN": "the ledger {where} cannot be opened: check the permissions of the file and its folder",
}


def _advice(error: BaseException, where: str) -> str:
    name = getattr(error, "sqlite_errorname", "")
    for prefix, text in _SQLITE_ADVICE.items():
        if name.startswith(prefix):
            return text.format(where=where)
    disk_full = getattr(error, "sqlstate", "") == "53100" or getattr(error, "errno", 0) == errno.ENOSPC
    if disk_full:
        return _SQLITE_ADVICE["SQLITE_FULL"].format(where=where)
    return f"the ledger {where} refused this step, and nothing of it was kept: {error}"


# ---- opening ------------------------------------------------------------------------------------------------------


@contextmanager
def readable_errors(where: str) -> Iterator[None]:
    """Turns what the database says into an error that says what was kept and what to do."""
    try:
        yield
    except sa.exc.DBAPIError as error:
        raise LabelwiseError(_advice(error.orig or error, where)) from error
    except sqlite3.Error as error:  # from a pragma at connecting: SQLAlchemy does not wrap these
        raise LabelwiseError(_advice(error, where)) from error


def open_engine(url_or_path: str | Path, *, create: bool) -> sa.Engine:
    """An engine on a ledger whose schema has been checked; `create` makes the ledger where there is none."""
    where = str(url_or_path)
    if "://" in where:
        url = where
    else:
        if not create and not Path(where).is_file():
            raise LabelwiseError(f"there is no ledger at {where}: make a project with `labelwise init`")
        url = f"sqlite:///{where}"
    # idle connections stay open: to open one costs more than what is done with it. A server has few for all programs
    pool: dict[str, Any] = {}
    if url.startswith("sqlite:///"):
        pool = {"pool_size": 16, "max_overflow": 48}
    elif not url.startswith("sqlite"):
        pool = {"pool_size": 8, "max_overflow": 16, "pool_pre_ping": True}
    if url.startswith("postgresql+psycopg:"):  # lists of every length make every statement new: nothing to prepare
        pool["connect_args"] = {"prepare_threshold": None}
    try:
        engine = sa.create_engine(url, json_serializer=to_json, **pool)
    except (ImportError, sa.exc.ArgumentError) as error:
        raise LabelwiseError(
            f"cannot open the ledger {where}: {error}. Install the driver (labelwise[postgres]) or mend the URL"
        ) from error
    if "://" in where:
        where = engine.url.render_as_string(hide_password=True)
    if engine.dialect.name == "sqlite":
        if create:
            make_private(engine.url.database or "", where)
        sa.event.listen(engine, "connect", _on_connect)
        sa.event.listen(engine, "begin", _on_begin)
    elif engine.dialect.name == "postgresql":
        sa.event.listen(engine, "begin", _on_begin_postgresql)
    try:
        with readable_errors(where), engine.begin() as connection:
            _check_or_create(connection, where, create=create)
    except BaseException:
        engine.dispose()
        raise
    return engine


def _check_or_create(connection: sa.Connection, where: str, *, create: bool) -> None:
    tables = set(sa.inspect(connection).get_table_names())
    if create and not tables:
        metadata.create_all(connection)
        _create_triggers(connection, APPEND_ONLY)
        connection.execute(sa.insert(meta), {"key": "schema_version", "value": SCHEMA_VERSION})
        return
    found = None
    if "meta" in tables:
        found = connection.execute(sa.select(meta.c.value).where(meta.c.key == "schema_version")).scalar()
    if not isinstance(found, int):
        raise LabelwiseError(f"{where} is not a labelwise ledger: it has no schema version. Name another file")
    if found > SCHEMA_VERSION:
        raise LabelwiseError(
            f"{where} was made by a newer labelwise (schema {found}, this one reads up to {SCHEMA_VERSION}): "
            "upgrade labelwise"
        )
    missing = [table for table in LATER if table.name not in tables]
    if missing:
        metadata.create_all(connection, tables=missing)
        _create_triggers(connection, [table for table in missing if table in APPEND_ONLY])
