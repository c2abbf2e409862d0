"""Where the data of a project are read from: a folder, or the mirror of an object store."""

from __future__ import annotations

from pathlib import Path

from labelwise.config import Run
from labelwise.data import mirror
from labelwise.project.context import Bar, cache_of, silent


def root_of(run: Run, folder: Path, bar: Bar = silent) -> Path:
    """The folder or file that the data of the project in `folder` are read from; of images in an object store it is
    made, or brought up to date.

    Raises:
        LabelwiseError: it is not there, may not be read or cannot be reached.
    """
    data = run.data
    if not data.remote:
        return known_root(run, folder)
    most_bytes = int(data.store_gb * 1e9)
    return mirror.make(cache_of(folder), data.place(), data.images, most_bytes=most_bytes, bar=bar)


def known_root(run: Run, folder: Path) -> Path:
    """`root_of`, as it was made last: no store is asked."""
    data = run.data
    if data.remote:
        return mirror.stands_for(cache_of(folder), data.place(), data.images)
    return folder / "data" if data.generated else data.folder()
