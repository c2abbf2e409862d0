"""The project folder: the config, the ledger, one folder per round, and the lock that keeps a second run out."""

from __future__ import annotations

import json
import os
import platform
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import filelock

from labelwise.files import round_files
from labelwise.ledger.ledger import Ledger, now
from labelwise.types import LabelwiseError
from labelwise.types.disk import full_disk, readable_errors, remove_leftovers, write_json, write_text

CONFIG, LEDGER, LOCK, HOLDER = "run.toml", "ledger.sqlite", ".lock", ".lock.holder.json"

OPENED: set[Path] = set()
"""Project folders that this process has opened: where something odd happens, they are looked at."""


@contextmanager
def whole(folder: Path) -> Iterator[None]:
    """Of a folder that is made within and cannot be made as a whole nothing stays; one that was there stays."""
    there = folder.exists()
    try:
        yield
    except BaseException:
        if not there:
            shutil.rmtree(folder, ignore_errors=True)
        raise


@dataclass
class Stage:
    """One stage of one round: where its files go, whether it was done before, what it says of itself, and the `record`
    by which it can be checked and done again (`ledger.records`).
    """

    folder: Path
    done: bool
    info: dict[str, Any] = field(default_factory=dict)
    record: dict[str, Any] = field(default_factory=dict)


class Project:
    """An opened project folder."""

    def __init__(self, folder: Path, ledger: Ledger) -> None:
        self.folder = folder
        self.ledger = ledger

    @property
    def config_path(self) -> Path:
        return self.folder / CONFIG

    @staticmethod
    def create(folder: Path, config_text: str, ledger_url: str | None = None) -> Project:
        """Makes a project; the config is written last, so that a half-made project can simply be made again.

        Nobody else may read the folder if it is made here (one that was there keeps its mode), nor the ledger at all.
        """
        if (folder / CONFIG).exists():
            raise LabelwiseError(f"{folder} is a labelwise project already: open it, or name another folder")
        try:
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        except OSError as error:
            raise LabelwiseError(f"cannot make the project folder {folder}: {error.strerror}. Name another") from error
        ledger = Ledger.open(ledger_url or folder / LEDGER, create=True)
        if ledger_url is not None and ledger.classes():
            ledger.close()
            raise LabelwiseError(f"{ledger.where} is the ledger of another project; name an empty database")
        write_text(folder / CONFIG, config_text)
        return Project(folder, ledger)

    @staticmethod
    def open(folder: Path, ledger_url: str | None = None) -> Project:
        """Opens a project; one that was made by a newer labelwise is refused."""
        if not (folder / CONFIG).is_file():
            raise LabelwiseError(f"{folder} is no labelwise project (no {CONFIG}): make one with `labelwise init`")
        OPENED.add(folder)
        return Project(folder, Ledger.open(ledger_url or folder / LEDGER))

    def close(self) -> None:
        self.ledger.close()

    def round_folder(self, round_number: int) -> Path:
        """The folder of a round's files, `rounds/003`; it is made by what is written there."""
        return self.folder / "rounds" / f"{round_number:03d}"

    @contextmanager
    def lock(self) -> Iterator[None]:
        """Keeps every other run out of this project; the operating system lets go of it when the process dies."""
        with locked(self.folder):
            yield

    @contextmanager
    def stage(self, round_number: int, name: str) -> Iterator[Stage]:
        """One stage of a round. `if not stage.done:` do the work; it counts as done when the block ends normally.

        After an exception, Ctrl-C or `kill -9` the stage is not done, and the next run does it again from its start.
        """
        folder = self.round_folder(round_number)
        info = self.ledger.stage_done(round_number, name)
        if info is not None:
            yield Stage(folder, True, info)
            return
        with readable_errors(folder):
            folder.mkdir(parents=True, exist_ok=True)
            remove_leftovers(folder)
        self.ledger.mark_started(round_number, name)
        stage = Stage(folder, False)
        begun = time.perf_counter()
        with full_disk(folder):
            yield stage
        with readable_errors(folder):
            stage.record.setdefault("files", round_files.sums(folder, name))
        self.ledger.mark_done(round_number, name, stage.info, time.perf_counter() - begun, stage.record)


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """`Project.lock`, of a folder whose ledger need not be readable."""
    lock = filelock.FileLock(folder / LOCK, timeout=0)
    try:
        lock.acquire()
    except filelock.Timeout:
        raise LabelwiseError(
            f"the project {folder} is in use by {_holder(folder)}. Wait until it is done, or stop it; "
            "it is safe to stop, and the next run continues where it was"
        ) from None
    except OSError as error:
        raise LabelwiseError(
            f"cannot lock the project {folder}: {error.strerror or error}. Check the permissions of the folder"
        ) from error
    try:
        write_json(folder / HOLDER, {"pid": os.getpid(), "host": platform.node(), "since": now()})
        yield
    finally:
        (folder / HOLDER).unlink(missing_ok=True)
        lock.release()


def _holder(folder: Path) -> str:
    path = folder / HOLDER
    try:
        holder = json.loads(path.read_text(encoding="utf-8"))
        return (
            f"process {holder['pid']} on {holder['host']} since {holder['since']} "
            f"(see it with `ps -p {holder['pid']}`; from {path})"
        )
    except (OSError, ValueError, KeyError):  # it has just begun, or just ended
        return f"another labelwise process (its number stands in {path})"
