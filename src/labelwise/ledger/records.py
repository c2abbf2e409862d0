"""What a project keeps beside its labels: the record of every stage, the settings that it was made with.

A stage's record stays while the stage is done again: `files` are the sums of what it wrote (`round_files`), `seen` the
instant of the ledger that it took in, `settings` the key of the settings that it used.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa

from labelwise.ledger import schema as t
from labelwise.ledger.instant import Instant, instant

if TYPE_CHECKING:
    from labelwise.ledger.ledger import Ledger

_KEY, _VALUE = t.meta.c.key, t.meta.c.value


def keep(connection: sa.Connection, key: str, value: Any) -> None:
    """Keeps a value under a name of its own, in place of one that was there."""
    connection.execute(sa.delete(t.meta).where(t.meta.c.key == key))
    connection.execute(sa.insert(t.meta), {"key": key, "value": value})


def kept(ledger: Ledger, key: str) -> Any:
    """A value that was kept, or None."""
    with ledger.read() as connection:
        return connection.execute(sa.select(_VALUE).where(t.meta.c.key == key)).scalar()


def key_of(round_number: int, stage: str) -> str:
    """The name under which a stage's record is kept."""
    return f"stage {round_number} {stage}"


def of_stage(ledger: Ledger, round_number: int, stage: str) -> dict[str, Any]:
    """The record of a stage when it was last done, also while it is done again; empty where there is none."""
    return dict(kept(ledger, key_of(round_number, stage)) or {})


def drop(ledger: Ledger, round_number: int, stage: str) -> None:
    """Forgets the record of a stage: when it is done again, it sees the ledger as it is then."""
    with ledger.write() as connection:
        connection.execute(sa.delete(t.meta).where(t.meta.c.key == key_of(round_number, stage)))


def seen_now(ledger: Ledger, round_number: int, time: str) -> dict[str, Any]:
    """The present instant of the ledger, for a record: what a stage sees that takes in the rounds up to
    `round_number`.
    """
    with ledger.read() as connection:
        return asdict(instant(connection, round_number, len(ledger.class_list(connection)), time))


def instant_of(record: dict[str, Any]) -> Instant | None:
    """The instant that a stage took in; None where it was done by an earlier labelwise."""
    return Instant(**record["seen"]) if "seen" in record else None


def key_of_settings(settings: dict[str, Any]) -> str:
    """The key under which settings are kept: of other settings another one."""
    return f"settings {hashlib.blake2b(json.dumps(settings, sort_keys=True).encode(), digest_size=8).hexdigest()}"


def keep_settings(ledger: Ledger, settings: dict[str, Any]) -> str:
    """Keeps settings once, and gives the key by which records name them."""
    key = key_of_settings(settings)
    if kept(ledger, key) is None:
        with ledger.write() as connection:
            keep(connection, key, settings)
    return key


def every(ledger: Ledger) -> dict[str, Any]:
    """The records of all stages and all settings, by their keys."""
    with ledger.read() as connection:
        which = _KEY.startswith("stage ") | _KEY.startswith("settings ")
        rows = connection.execute(sa.select(_KEY, _VALUE).where(which)).all()
    return {row[0]: row[1] for row in rows}


def forget_settings(ledger: Ledger) -> None:
    """Of a copy that goes on as another run: its stages were done, with which settings is no longer said."""
    for key, record in every(ledger).items():
        if key.startswith("stage ") and "settings" in record:
            with ledger.write() as connection:
                keep(connection, key, {name: value for name, value in record.items() if name != "settings"})
