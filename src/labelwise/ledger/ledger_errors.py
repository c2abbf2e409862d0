"""What the database says, as an error that says what was kept and what to do."""

from __future__ import annotations

import errno
import json
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import sqlalchemy as sa

from labelwise.types import LabelwiseError

_MEND = (
    "`labelwise check {folder} --restore` goes back to the copy that was made when the last round had been answered "
    "(the damaged one is kept); without that copy, `sqlite3 {where} .recover` saves what can be read"
)

_SQLITE_ADVICE = {
    "SQLITE_FULL": "disk full while writing the ledger {where}: this step was rolled back and nothing was lost; "
    "free space and run the same command again, it continues where it was",
    "SQLITE_NOTADB": "{where} is not a labelwise ledger (not an SQLite file): " + _MEND,
    "SQLITE_CORRUPT": "the ledger {where} is damaged: " + _MEND,
    "SQLITE_MISMATCH": "the ledger {where} is damaged: " + _MEND,
    "SQLITE_BUSY": "the ledger {where} is held by another process: this step was rolled back; "
    "wait until that one is done and run the same command again",
    "SQLITE_READONLY": "the ledger {where} cannot be written: check the permissions of the file and its folder",
    "SQLITE_CANTOPEN": "the ledger {where} cannot be opened: check the permissions of the file and its folder",
}


def _folder_of(where: str) -> str:
    """The project folder of a ledger."""
    return str(Path(where).parent)


def damage_error(where: str, what: object) -> LabelwiseError:
    """The error for a ledger whose rows cannot be what labelwise wrote."""
    mend = "restore it from a backup of the database" if "://" in where else _MEND
    return LabelwiseError(
        f"the ledger {where} is damaged ({what}): {mend.format(where=where, folder=_folder_of(where))}"
    )


def _advice(error: BaseException, where: str) -> str:
    name = getattr(error, "sqlite_errorname", "")
    if str(error).startswith("Could not decode"):
        return str(damage_error(where, "text that is none"))
    for prefix, text in _SQLITE_ADVICE.items():
        if name.startswith(prefix):
            return text.format(where=where, folder=_folder_of(where))
    disk_full = getattr(error, "sqlstate", "") == "53100" or getattr(error, "errno", 0) == errno.ENOSPC
    if disk_full:
        return _SQLITE_ADVICE["SQLITE_FULL"].format(where=where, folder=_folder_of(where))
    return f"the ledger {where} refused this step, and nothing of it was kept: {error}"


@contextmanager
def readable_errors(where: str) -> Iterator[None]:
    """Turns what the database says into an error that says what was kept and what to do."""
    try:
        yield
    except sa.exc.DBAPIError as error:
        raise LabelwiseError(_advice(error.orig or error, where)) from error
    except sqlite3.Error as error:  # from a pragma at connecting: SQLAlchemy does not wrap these
        raise LabelwiseError(_advice(error, where)) from error
    except (json.JSONDecodeError, UnicodeDecodeError, sa.exc.NoResultFound, sa.exc.MultipleResultsFound) as error:
        raise damage_error(where, error) from error


@contextmanager
def readable_rows(where: str) -> Iterator[None]:
    """`readable_errors`, of a step that only reads: whatever its rows do not fit is damage."""
    try:
        with readable_errors(where):
            yield
    except (ValueError, TypeError, KeyError, IndexError, OverflowError, sa.exc.SQLAlchemyError) as error:
        raise damage_error(where, f"{type(error).__name__}: {error}") from error
