"""What a mirror of an object store keeps on disk (see `image_store`): the list of the images, and a bounded part of
them.

`.store.sqlite` holds where the store is, size and stamp of every image, and which are kept; `.kept/` their bytes.
The sizes of what is kept never add up to more than the bound: an image is entered, others making room, before it is
written. Who makes room is drawn at random: a pass over a pool that is larger than the cache would find nothing of the
pass before, if the oldest went. Several processes may share it.

Fails when: hardly anything of it can be written; then nothing is kept, and each image is fetched each time.
"""

from __future__ import annotations

import hashlib
import secrets
import sqlite3
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import NamedTuple

from labelwise.errors import LabelwiseError
from labelwise.types.disk import temporary

DATABASE, KEPT = ".store.sqlite", ".kept"
Status = tuple[int, int]
"""Size in bytes, and a number that changes with the content."""
_SCHEMA = """
create table if not exists about (url text, most_bytes integer);
create table if not exists images (name text primary key, bytes integer, stamp integer) without rowid;
create table if not exists notes (name text primary key, bytes integer, stamp integer) without rowid;
create table if not exists kept (number integer primary key, name text unique, bytes integer);
create table if not exists total (bytes integer);
"""


class About(NamedTuple):
    """Where the images are, and how much of them may be kept."""

    url: str
    most_bytes: int


def is_one(folder: Path) -> bool:
    """Whether a folder is a mirror; one that was killed while it was made for the first time is none yet."""
    if not (folder / DATABASE).is_file():
        return False
    with _connected(folder, writes=False) as database:
        tables = database.execute("select 1 from sqlite_master where name = 'about'").fetchone()
        return tables is not None and database.execute("select 1 from about").fetchone() is not None


def prepare(folder: Path) -> None:
    """Makes the tables, where there are none."""
    with _connected(folder) as database:
        for statement in _SCHEMA.split(";"):
            database.execute(statement)


@contextmanager
def _connected(folder: Path, *, writes: bool = True) -> Iterator[sqlite3.Connection]:
    """One transaction."""
    try:
        with closing(sqlite3.connect(folder / DATABASE, timeout=60, isolation_level=None)) as database:
            database.execute("pragma synchronous = off")  # what a crash cuts short is made anew
            database.execute("begin immediate" if writes else "begin")
            yield database
            database.execute("commit")
    except sqlite3.Error as error:
        raise LabelwiseError(
            f"{folder / DATABASE} cannot be used ({error}). Remove the folder {folder}: it is made anew"
        ) from error


def about(folder: Path) -> About:
    """What a mirror is of."""
    with _connected(folder, writes=False) as database:
        row = database.execute("select url, most_bytes from about").fetchone()
    if row is None:
        raise LabelwiseError(f"{folder} is half a mirror. Remove the folder: it is made anew")
    return About(*row)


def images(folder: Path) -> dict[str, Status]:
    """Size and stamp of the images, by their names, sorted."""
    return _table(folder, "images")


def notes(folder: Path) -> dict[str, Status]:
    """The same of the annotation files that were fetched."""
    return _table(folder, "notes")


def _table(folder: Path, name: str) -> dict[str, Status]:
    with _connected(folder, writes=False) as database:
        rows = database.execute(f"select name, bytes, stamp from {name} order by name").fetchall()
    return {name: (size, stamp) for name, size, stamp in rows}


def write(folder: Path, said: About, images: Mapping[str, Status], notes: Mapping[str, Status]) -> None:
    """Enters what a store was found to hold, once it is prepared; of images that changed nothing stays kept."""
    with _connected(folder) as database:
        before = dict.fromkeys(row[0] for row in database.execute("select name from kept"))
        listed = database.execute("select name, bytes, stamp from images")
        old = {name: (size, stamp) for name, size, stamp in listed if name in before}
        for name in [name for name in before if images.get(name) != old.get(name)]:
            _drop(database, folder, name)
            del before[name]
        for table, rows in (("images", images), ("notes", notes)):
            database.execute(f"delete from {table}")
            database.executemany(
                f"insert into {table} values (?, ?, ?)", ((name, *status) for name, status in rows.items())
            )
        database.execute("delete from about")
        database.execute("insert into about values (?, ?)", said)
        _tidy(database, folder, said.most_bytes)


def tidy(folder: Path, most_bytes: int) -> None:
    """What is kept takes so much at most, and nothing lies there that a killed process left."""
    with _connected(folder) as database:
        _tidy(database, folder, most_bytes)


def _tidy(database: sqlite3.Connection, folder: Path, most_bytes: int) -> None:
    here = {_path(folder, row[0]) for row in database.execute("select name from kept")}
    for path in (folder / KEPT).glob("*/*"):
        if path not in here:
            path.unlink(missing_ok=True)
    _make_room(database, folder, most_bytes)


def kept(folder: Path, name: str) -> bytes | None:
    """The bytes of an image that are kept; None: they are not."""
    try:
        return _path(folder, name).read_bytes()
    except OSError:
        return None


def keep(folder: Path, name: str, content: bytes, most_bytes: int) -> None:
    """Keeps the bytes of an image, where they may be; others make room."""
    if len(content) > most_bytes:
        return
    path = _path(folder, name)
    partial = temporary(path)
    with suppress(OSError, LabelwiseError), _connected(folder) as database:
        if database.execute("select 1 from kept where name = ?", (name,)).fetchone() is not None:
            _drop(database, folder, name)  # its file was lost, or another thread fetched the same
        _make_room(database, folder, most_bytes - len(content))
        database.execute("insert into kept (name, bytes) values (?, ?)", (name, len(content)))
        database.execute("update total set bytes = bytes + ?", (len(content),))
        try:  # while nobody else may enter or drop one
            path.parent.mkdir(parents=True, exist_ok=True)
            partial.write_bytes(content)
            partial.replace(path)
        finally:
            partial.unlink(missing_ok=True)


def _make_room(database: sqlite3.Connection, folder: Path, most_bytes: int) -> None:
    """Until no more than so many bytes are kept, one goes after the other."""
    if database.execute("select bytes from total").fetchone() is None:
        database.execute("insert into total select coalesce(sum(bytes), 0) from kept")
    while database.execute("select bytes from total").fetchone()[0] > most_bytes:
        last = database.execute("select max(number) from kept").fetchone()[0]
        one = "select name from kept where number >= ? order by number limit 1"
        _drop(database, folder, database.execute(one, (1 + secrets.randbelow(last),)).fetchone()[0])


def _drop(database: sqlite3.Connection, folder: Path, name: str) -> None:
    _path(folder, name).unlink(missing_ok=True)
    size = database.execute("select bytes from kept where name = ?", (name,)).fetchone()[0]
    database.execute("delete from kept where name = ?", (name,))
    database.execute("update total set bytes = bytes - ?", (size,))


def _path(folder: Path, name: str) -> Path:
    digest = hashlib.sha256(name.encode()).hexdigest()
    return folder / KEPT / digest[:2] / digest
