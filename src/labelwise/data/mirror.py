"""Makes the mirror of a data set whose images lie in an object store, or renews it (see `image_store`).

Annotation files (by their suffix) are fetched, those alone that changed since; the images are listed. A server of
`https://` that shows no folders may list its files in `files.txt`, one a line: those annotation files are fetched each
time. What else lies there is not seen.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from filelock import FileLock

from labelwise.data import image_reader, image_store, mirror_files
from labelwise.data.bars import Bar
from labelwise.data.image_store import THREADS, Place
from labelwise.data.listing import Listing, suffix_of
from labelwise.errors import LabelwiseError
from labelwise.types.disk import full_disk, write_bytes

NOTES = frozenset(
    [".json", ".jsonl", ".ndjson", ".csv", ".tsv", ".txt", ".xml", ".yaml", ".yml", ".names", ".data", ".lst", ".pbtxt"]
)
"""Suffixes of annotation files."""


class _Folder:
    """Annotation files on disk, as `Place` gives those of a store."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def list(self) -> dict[str, mirror_files.Status]:
        found = {name: image_store.status(self.root / name) for name in Listing(self.root).files}
        return {name: status for name, status in found.items() if status is not None}

    def content(self, name: str) -> bytes:
        try:
            return (self.root / name).read_bytes()
        except OSError as error:
            raise LabelwiseError(f"{self.root / name}: cannot be read ({error.strerror or error})") from error


def folder_of(home: Path, root: str, images: str | None) -> Path:
    """The folder, below `home`, of the mirror of a data set: of its annotations, and of its images if not there."""
    digest = hashlib.sha256(f"{root} {images}".encode()).hexdigest()[:16]
    return home / "stores" / digest


def stands_for(home: Path, root: str, images: str | None) -> Path:
    """The folder or file in the mirror that a reader is given for `root`."""
    folder, name = folder_of(home, root, images), root.rstrip("/").rpartition("/")[2]
    return folder / name if suffix_of(name) in NOTES else folder


def make(home: Path, root: str, images: str | None, *, most_bytes: int, bar: Bar) -> Path:
    """Makes the mirror, and gives what stands in it for `root`: the folder, or the annotation file that `root` is.

    Args:
        home: the folder below which it is made.
        root: folder, file or URL of the annotations.
        images: URL of the folder of the images; None: that is `root`.
        most_bytes: so much of the images is kept on disk.
        bar: opens a progress bar.

    Raises:
        LabelwiseError: a place is not there, may not be read or cannot be reached.
    """
    folder, given = folder_of(home, root, images), stands_for(home, root, images)
    parent = root.rstrip("/").rpartition("/")[0] if given != folder else root
    source = Place(parent) if image_store.is_url(root) else _Folder(Path(parent))
    with bar(f"list {images or parent}", 0) as advance:
        listed = Place(images or parent).list()
        advance(len(listed))
    shown = {name: said for name, said in listed.items() if suffix_of(name) in image_reader.SUFFIXES}
    if not shown and (other := [name for name in listed if suffix_of(name) not in NOTES]):
        raise LabelwiseError(
            f"{images or parent}: no image is there, but {other[0]} and the like. Videos, archives and tables are "
            "not read from a store: copy them to a disk, and give the folder there"
        )
    if shown.keys() == {(images or parent).rstrip("/").rpartition("/")[2]}:
        raise LabelwiseError(
            f"{(images or parent).rstrip('/')}: is an image. Give the URL of the folder that it lies in"
        )
    there = listed if images is None else source.list()
    notes = {name: status for name, status in there.items() if suffix_of(name) in NOTES}
    notes = notes if given == folder else {name: status for name, status in notes.items() if name == given.name}
    with full_disk(folder):
        folder.mkdir(parents=True, exist_ok=True)
        with FileLock(folder / ".lock"):
            mirror_files.prepare(folder)
            _fetch(folder, source, notes, bar)
            for place in {name.rpartition("/")[0] for name in shown}:
                (folder / place).mkdir(parents=True, exist_ok=True)  # readers look for folders of classes and splits
            mirror_files.write(folder, mirror_files.About(images or parent, most_bytes), shown, notes)
    image_store.forget()
    return given


def _fetch(folder: Path, source: Place | _Folder, notes: Mapping[str, mirror_files.Status], bar: Bar) -> None:
    """Brings the annotation files up to date."""
    before = mirror_files.notes(folder) if mirror_files.is_one(folder) else {}
    for name in before.keys() - notes.keys():
        (folder / name).unlink(missing_ok=True)
    same = {name for name, status in before.items() if notes.get(name) == status != image_store.UNKNOWN}
    old = {name for name in same if (folder / name).is_file()}
    new = [name for name in notes if name not in old]
    if not new:
        return
    with bar(f"fetch {len(new)} annotation files", len(new)) as advance, ThreadPoolExecutor(THREADS) as threads:
        for _ in threads.map(lambda name: write_bytes(folder / name, source.content(name)), new):
            advance(1)
