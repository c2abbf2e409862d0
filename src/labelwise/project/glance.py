"""A project as its ledger knows it, for who only wants to know what is done: nothing of the data set is read.

That will do while the file of every image is as the ledger holds it and `[data]` as when a run last read the images.
It will not do for a project that has not begun, one of an earlier labelwise, images that are no files of their own
(of videos, archives), and test images of which only some were looked at, whose number only the data tells.
"""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np

from labelwise import config
from labelwise.config import Run
from labelwise.data import image_store
from labelwise.ledger import image_files, records
from labelwise.project import availability, given
from labelwise.project.context import Context
from labelwise.project.data_root import known_root
from labelwise.project.project_folder import CONFIG, Project
from labelwise.types import Pool

_KEY = "data as read"


def remember(context: Context) -> None:
    """Keeps in the ledger by which settings the images were read that it knows now."""
    partly = context.test is not None and given.test_line(context.test) is not None
    said, ledger = None if partly else _key(context.run), context.project.ledger
    if records.kept(ledger, _KEY) != said:
        with ledger.write() as connection:
            records.keep(connection, _KEY, said)


def look(folder: Path) -> Context | None:
    """The project without ground truth and test images; None: it must be opened wholly."""
    run = config.load(folder / CONFIG)
    project = Project.open(folder, run.ledger)
    pool = _pool(project, run)
    if pool is None:
        project.close()
        return None
    context = Context(project, run, pool, None, 0)
    availability.see(context)
    return context


def _key(run: Run) -> str:
    return run.data.model_dump_json()


def _pool(project: Project, run: Run) -> Pool | None:
    if records.kept(project.ledger, _KEY) != _key(run):
        return None
    root = known_root(run, project.folder)
    known, unavailable = image_files.known_files(project.ledger), image_files.unavailable(project.ledger)
    store = image_store.of(root / "image")
    if run.data.remote and store is None:
        return None
    status = _status if store is None else store.status_of
    start = f"{root}{os.sep}" if store is None else ""
    if not known or not all(status(start + row[0]) == row[3:5] for row in known if row[0] not in unavailable):
        return None
    names, width, height, *_ = zip(*known, strict=True)
    return Pool(root, project.ledger.classes(), names, np.array(width, np.int64), np.array(height, np.int64))


def _status(path: str) -> tuple[int, int] | None:
    try:
        stat = os.stat(path)  # noqa: PTH116 (of 100,000 images)
    except (OSError, ValueError):
        return None
    return stat.st_size, stat.st_mtime_ns
