"""Where the data of a project are read from: a folder, or the mirror of an object store; absolute, since processes of
Ray begin elsewhere.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from tempfile import TemporaryDirectory

from labelwise.config import Run
from labelwise.config.sections import Data
from labelwise.data import image_store, mirror
from labelwise.errors import LabelwiseError
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
    return mirror.make(cache_of(folder).absolute(), data.place(), data.images, most_bytes=most_bytes, bar=bar)


def known_root(run: Run, folder: Path) -> Path:
    """`root_of`, as it was made last: no store is asked."""
    data = run.data
    if data.remote:
        return mirror.stands_for(cache_of(folder).absolute(), data.place(), data.images)
    return folder.absolute() / "data" if data.generated else data.folder()


@contextmanager
def readable(data: str, bar: Bar = silent) -> Iterator[Path]:
    """The folder or file that a data set without a project is read from, as long as this lasts: the one that is given,
    or of a URL a mirror. $LABELWISE_CACHE keeps what is fetched; else it goes when this ends.

    Raises:
        LabelwiseError: a store cannot be read; errors from within that name the mirror name the URL.
    """
    if not image_store.is_url(data):
        yield Path(data)
        return
    home = os.environ.get("LABELWISE_CACHE")
    most_bytes = int(Data.model_fields["store_gb"].default * 1e9)
    with nullcontext(home) if home else TemporaryDirectory(prefix="labelwise-") as place:
        root = mirror.make(Path(place), data, None, most_bytes=most_bytes, bar=bar)
        with by_url(root, data):
            yield root


def size_in_store(root: Path) -> tuple[int, int | None] | None:
    """Number and bytes (None: the store does not say) of the images of a mirror; None: a folder on disk."""
    if (store := image_store.of(root / "image")) is None:
        return None
    sizes = [size for size, _ in store.images.values()]
    return len(sizes), sum(sizes) or None


@contextmanager
def by_url(root: Path, data: str) -> Iterator[None]:
    """Errors that name what a data set is read from name what was given."""
    try:
        yield
    except LabelwiseError as error:
        if str(root) == data or str(root) not in str(error):
            raise
        raise type(error)(str(error).replace(str(root), data.rstrip("/"))) from error
