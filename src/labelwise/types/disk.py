"""Files that are the old one or the new one, never a part: temporary name, fsync, rename, fsync of the folder."""

from __future__ import annotations

import errno
import glob
import json
import os
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any
from uuid import uuid4

import numpy as np

from labelwise.errors import LabelwiseError

SUFFIX = ".labelwise-tmp"
"""How a temporary name ends."""

_FULL = {errno.ENOSPC, getattr(errno, "EDQUOT", errno.ENOSPC)}
"""No space left, and (where there is such a thing) none left for this user."""
_POSIX = os.name == "posix"
_without_force: list[bool] = []
"""One entry for every `without_force` that is open."""


@contextmanager
def without_force() -> Iterator[None]:
    """In this process nothing is forced to the disk: for runs that can simply be repeated, as those of a comparison.

    Files are still put in their place in one step, so that a killed process leaves none half. Fails when: the power
    goes; then what was written last may be lost or damaged.
    """
    _without_force.append(True)
    try:
        yield
    finally:
        _without_force.pop()


def forces() -> bool:
    """Whether what is written is forced to the disk (nearly always)."""
    return not _without_force


def temporary(path: Path) -> Path:
    """A new name, in the same folder, under which `path` is written until it is complete; nobody else has it."""
    return path.with_name(f".{path.name}.{uuid4().hex[:12]}{SUFFIX}")


def remove_leftovers(folder: Path, *, below: bool = True, name: str = "", idle_s: float = 0.0) -> None:
    """Removes what a killed process left under a temporary name in the folder, and in those `below` it.

    `name`: of what was to become the file or folder of this name alone; nobody else may be writing it now.
    `idle_s`: of that to which nobody has written for so long, where others may be writing.
    """
    pattern = f".{glob.escape(name)}{'.' if name else ''}*{SUFFIX}*"  # SQLite writes a journal beside
    for path in sorted(folder.rglob(pattern) if below else folder.glob(pattern)):
        with suppress(FileNotFoundError):  # another process removed it
            if not idle_s or time.time() - path.stat().st_mtime > idle_s:
                shutil.rmtree(path, ignore_errors=True) if path.is_dir() else path.unlink(missing_ok=True)


def sync(path: Path) -> None:
    """Forces a file's bytes, or a folder's entries, to the disk.

    Windows opens no folder, and forces only what is open for writing; a rename is in NTFS's own journal.
    """
    if not forces() or (not _POSIX and path.is_dir()):
        return
    handle = os.open(path, os.O_RDONLY if _POSIX else os.O_RDWR)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


@contextmanager
def full_disk(path: Path) -> Iterator[None]:
    """Turns the error of a full disk alone into one that says what to do."""
    try:
        yield
    except OSError as error:
        if error.errno not in _FULL:
            raise
        raise LabelwiseError(_full(path)) from error


def _full(path: Path) -> str:
    return f"disk full while writing {path}: nothing was changed; free space and run the same command again"


@contextmanager
def readable_errors(path: Path) -> Iterator[None]:
    """Turns an error of the operating system into one that says what was kept and what to do."""
    try:
        yield
    except OSError as error:
        if error.errno in _FULL:
            advice = _full(path)
        else:
            advice = f"cannot write {path}: {error.strerror or error}. Nothing was changed; check the folder and retry"
        raise LabelwiseError(advice) from error


@contextmanager
def in_one_step(path: Path) -> Iterator[Path]:
    """Yields a temporary name to write a file to; on leaving normally it takes the place of `path` in one step.

    The folder must be there, and an error of the operating system comes as it is: `replacing` takes care of both.
    """
    partial = temporary(path)
    try:
        yield partial
        sync(partial)
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)
    sync(path.parent)


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """`in_one_step`, in a folder that is made where there is none, with errors that say what to do."""
    with readable_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        with in_one_step(path) as partial:
            yield partial


@contextmanager
def new_folder(path: Path) -> Iterator[Path]:
    """Yields a temporary folder that becomes `path` when the block ends well, and vanishes when it does not.

    Raises:
        LabelwiseError: there is such a folder, and it is not empty.
    """
    if path.exists() and not (path.is_dir() and not any(path.iterdir())):
        raise LabelwiseError(f"{path}: exists already. Choose another folder or split, or remove it first.")
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = temporary(path)
    partial.mkdir()
    try:
        yield partial
        for made in (*partial.rglob("*"), partial):
            if not made.is_symlink():
                sync(made)
        if path.exists():
            path.rmdir()  # empty: Windows puts no folder in another's place
        partial.replace(path)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    sync(path.parent)


def write_bytes(path: Path, content: bytes) -> None:
    """Writes a file in one step."""
    with replacing(path) as partial:
        partial.write_bytes(content)


def write_text(path: Path, content: str) -> None:
    """Writes a UTF-8 text file in one step."""
    write_bytes(path, content.encode("utf-8"))


def make_private(path: str, what: str) -> None:
    """Makes an empty file that nobody else may read, before anything stands in it; one that is there stays as it is.

    Of a database that SQLite keeps in a file: what it keeps beside it gets the same mode.
    """
    if path in ("", ":memory:") or path.startswith("file:"):
        return
    try:
        os.close(os.open(path, os.O_CREAT | os.O_RDWR, 0o600))
    except OSError as error:
        raise LabelwiseError(f"cannot make {what}: {error.strerror or error}. Check its folder, and retry") from error


def _plain(value: Any) -> Any:
    if isinstance(value, np.ndarray | np.generic):
        return value.tolist()
    raise TypeError(f"{type(value).__name__} has no JSON form")


def to_json(value: Any, indent: int | None = None) -> str:
    """JSON text; NumPy numbers and arrays become plain ones, and NaN is an error (it is not JSON: use None)."""
    try:
        return json.dumps(value, indent=indent, ensure_ascii=False, allow_nan=False, default=_plain)
    except (TypeError, ValueError) as error:
        raise LabelwiseError(
            f"cannot store {str(value)[:200]} as JSON: {error}. Use None for a missing number"
        ) from error


def write_json(path: Path, value: Any) -> None:
    """Writes a value as JSON in one step."""
    write_text(path, to_json(value, indent=1) + "\n")
