"""CIFAR-10 and CIFAR-100: the original Python version, and archives of its images as files.

Original: `cifar-10-batches-py/` or `cifar-100-python/` unpacked, or the `.tar.gz` as it is fetched. Its files are
pickles, which could run any code: `_plain_pickle.py` reads them and refuses everything but plain data. Images are named
by their position: `train/00017`. CIFAR-100 has the 100 fine classes, or with `coarse=True` the 20 superclasses.

Images as files: a tar archive of `train/CLASS/*.jpg` and `test/CLASS/*.jpg` (any format that `image.py` reads), all of
one size. They are decoded into memory and named by their path in the archive; nothing is unpacked to disk. A tar
archive has no table of contents: every split, and `splits` alone too, costs one pass over all of it.
"""

from __future__ import annotations

import tarfile
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import UInt8

from labelwise.data import _plain_pickle, _tar, clean, image_reader, listing, split_names
from labelwise.types import Boxes, LabelwiseError, Pool, Problem

ONE_CLASS_PER_IMAGE = True
LOOKS_FOR = "cifar-10-batches-py/, cifar-100-python/ or their .tar.gz; a .tar.* of train/CLASS/*.jpg, test/CLASS/*.jpg"

_CHUNK = 500
"""Images that a thread decodes in one go: an image of this size takes no longer than handing it over."""


class _Layout(NamedTuple):
    """Files and keys of an original version."""

    folder: str
    meta: str
    batches: dict[str, tuple[str, ...]]
    labels: str
    names: str


_TEN = _Layout(
    "cifar-10-batches-py",
    "batches.meta",
    {"train": tuple(f"data_batch_{i}" for i in range(1, 6)), "test": ("test_batch",)},
    "labels",
    "label_names",
)
_HUNDRED = _Layout(
    "cifar-100-python", "meta", {"train": ("train",), "test": ("test",)}, "fine_labels", "fine_label_names"
)
_COARSE = _HUNDRED._replace(labels="coarse_labels", names="coarse_label_names")


class _Source(NamedTuple):
    """Where a data set is; `layout` None: images as files."""

    path: Path
    layout: _Layout | None


def detect(root: Path) -> bool:
    """Whether this is, or holds, one of the archives or an unpacked original."""
    return bool(_sources(root))


def splits(root: Path) -> tuple[str, ...]:
    """Names of the splits."""
    source = _source(root)
    if source.layout is not None:
        return tuple(source.layout.batches)
    status = source.path.stat()
    return _archive_splits(source.path, status.st_mtime_ns, status.st_size)


def read(root: Path, split: str | None = None, *, coarse: bool = False) -> Pool:
    """Images of a split in memory, with their class."""
    source = _source(root)
    if source.layout is None:
        status = source.path.stat()
        return _archive(root, source.path, split, status.st_mtime_ns, status.st_size)
    layout = _COARSE if coarse and source.layout is _HUNDRED else source.layout
    chosen = clean.choose(root, tuple(layout.batches), split)
    files = layout.batches[chosen or "train"]
    contents = _contents(source.path, (layout.meta, *files))
    meta = _plain_pickle.load(contents[layout.meta], source.path / layout.meta)
    listed = meta.get(layout.names)
    classes = tuple(_plain_pickle.text(name) for name in listed) if isinstance(listed, list | tuple) else ()
    if not classes:
        raise LabelwiseError(f"{source.path / layout.meta}: no {layout.names}; expected the names of the classes.")
    parts, labels = [], []
    for name in files:
        batch = _plain_pickle.load(contents.pop(name), source.path / name)
        part, some = _batch(batch, layout.labels, len(classes), source.path / name)
        parts.append(part)
        labels += some
    pixels = np.concatenate(parts)
    return _pool(root, classes, [f"{chosen}/{i:05d}" for i in range(len(labels))], labels, pixels)


def _pool(
    root: Path,
    classes: Sequence[str],
    names: Sequence[str],
    labels: Sequence[int],
    pixels: np.ndarray,
    problems: Sequence[Problem] = (),
) -> Pool:
    n, height, width = pixels.shape[:3]
    size = np.full(n, width, np.int64), np.full(n, height, np.int64)
    truth = Boxes.of_images(np.array(labels, np.int64), *size)
    files = frozenset(listing.below(root).files if root.is_dir() else (root.name,))
    some = tuple(problems)
    return Pool(root, tuple(classes), tuple(names), *size, truth=truth, problems=some, pixels=pixels, sources=files)


def _sources(root: Path) -> list[_Source]:
    """Every data set here; what is unpacked counts before archives."""
    if root.is_file():
        return [source for source in [_peek(root)] if source is not None]
    if not root.is_dir():
        return []
    found = []
    for layout in (_TEN, _HUNDRED):
        for folder in (root, root / layout.folder):
            if all((folder / name).is_file() for name in (layout.meta, layout.batches["train"][0])):
                found.append(_Source(folder, layout))
    archives = [path for pattern in ("*.tar*", "*.tgz") for path in sorted(root.glob(pattern))]
    return found or [source for path in archives if path.is_file() and (source := _peek(path)) is not None]


def _source(root: Path) -> _Source:
    found = _sources(root)
    if len(found) != 1:
        listed = ", ".join(source.path.name for source in found)
        what = f"holds {listed}; expected one data set. Give its own path" if found else f"no CIFAR here ({LOOKS_FOR})"
        raise LabelwiseError(f"{root}: {what}.")
    return found[0]


def _peek(path: Path) -> _Source | None:
    """What the first files of an archive say; the rest is not read."""
    try:
        with tarfile.open(path) as archive:
            for member, _ in zip(archive, range(30), strict=False):
                name = PurePosixPath(member.name)
                if not member.isfile():
                    continue
                for layout in (_TEN, _HUNDRED):
                    files = {layout.meta, *(file for some in layout.batches.values() for file in some)}
                    if name.parent.name == layout.folder or (name.name in files and layout is _TEN):
                        return _Source(path, layout)
                if _place(member.name) is not None:
                    return _Source(path, None)
    except _tar.BROKEN:
        return None
    return None


def _contents(path: Path, wanted: Sequence[str]) -> dict[str, bytes]:
    """The named files of a folder or an archive."""
    found = {}
    if path.is_dir():
        found = {name: (path / name).read_bytes() for name in wanted if (path / name).is_file()}
    else:
        try:
            with tarfile.open(path) as archive:
                for member in archive:
                    name = PurePosixPath(member.name).name
                    file = archive.extractfile(member) if member.isfile() and name in wanted else None
                    if file is not None:
                        found[name] = file.read()
                    if len(found) == len(wanted):
                        break
        except _tar.BROKEN as error:
            raise _tar.broken(path, error) from error
    missing = [name for name in wanted if name not in found]
    if missing:
        raise LabelwiseError(f"{path}: no {', '.join(missing)} here; expected {', '.join(wanted)}. Fetch it again.")
    return found


def _batch(
    batch: dict[str, Any], key: str, n_classes: int, where: Path
) -> tuple[UInt8[np.ndarray, "n 32 32 3"], list[int]]:
    data, labels = batch.get("data"), batch.get(key)
    shape = data.shape if isinstance(data, np.ndarray) else None
    count = len(labels) if isinstance(labels, list) else -1
    if data is None or shape is None or shape[1:] != (3072,) or count != len(data):
        raise LabelwiseError(
            f"{where}: data of shape {shape} and {count if count >= 0 else 'no'} {key}; expected [n, 3072] and n {key}."
        )
    assert labels is not None
    bad = [i for i, label in enumerate(labels) if not isinstance(label, int) or not 0 <= label < n_classes]
    if bad:
        raise LabelwiseError(
            f"{where}: row {bad[0]} has label {labels[bad[0]]!r}; expected 0 to {n_classes - 1}. Fetch it again."
        )
    return np.ascontiguousarray(data.reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1)), labels


def _place(name: str) -> tuple[str, str] | None:
    """(split, class) of an image in an archive, by the two folders above it."""
    parts = name.split("/")
    known = len(parts) >= 3 and split_names.is_split(parts[-3]) and image_reader.is_image(Path(parts[-1]))
    return (parts[-3], parts[-2]) if known else None


class _Member(NamedTuple):
    name: str
    split: str
    label: str
    start: int
    size: int


def _members(path: Path) -> tuple[bytes, list[_Member]]:
    """The archive, decompressed, and where in it the images are, sorted by name."""
    content, files = _tar.files(path)
    places = ((file, _place(file.name)) for file in files)
    found = [_Member(f.name.removeprefix("./"), *place, f.start, f.size) for f, place in places if place is not None]
    return content, sorted(found)


@lru_cache(maxsize=8)
def _archive_splits(path: Path, _changed_ns: int, _size: int) -> tuple[str, ...]:
    return _split_names(_members(path)[1])


def _split_names(members: Sequence[_Member]) -> tuple[str, ...]:
    return tuple(split_names.in_order({member.split for member in members}))


@lru_cache(maxsize=2)  # pool and test split: a comparison opens many projects on the same archive
def _archive(root: Path, path: Path, split: str | None, _changed_ns: int, _size: int) -> Pool:
    return _read_files(root, path, split)


def _read_files(root: Path, path: Path, split: str | None) -> Pool:
    content, members = _members(path)
    classes = sorted({m.label for m in members})
    chosen = clean.choose(root, _split_names(members), split)
    members = [m for m in members if m.split == chosen]
    pixels, failed = _decode(content, members, path)
    problems = [
        Problem("unreadable image", members[i].name, message, "the image is left out") for i, message in failed.items()
    ]
    good = np.setdiff1d(np.arange(len(members)), list(failed))
    labels = [classes.index(members[i].label) for i in good]
    names = [members[i].name for i in good]
    return _pool(root, classes, names, labels, pixels if not failed else pixels[good], problems)


def _decode(content: bytes, members: Sequence[_Member], path: Path) -> tuple[np.ndarray, dict[int, str]]:
    """Pixels of every member, and the message of each that can't be read."""
    failed: dict[int, str] = {}

    def one(i: int) -> np.ndarray | None:
        member = members[i]
        try:
            return image_reader.decode(content[member.start : member.start + member.size], path / member.name)
        except LabelwiseError as error:
            failed[i] = str(error)
            return None

    first = next((found for i in range(len(members)) if (found := one(i)) is not None), None)
    if first is None:
        raise LabelwiseError(f"{path}: none of {len(members)} images can be read. Fetch the archive again.")
    pixels = np.zeros((len(members), *first.shape), np.uint8)

    def chunk(start: int) -> None:
        for i in range(start, min(start + _CHUNK, len(members))):
            found = one(i)
            if found is not None and found.shape != first.shape:
                raise LabelwiseError(
                    f"{path}: {members[i].name} is {found.shape[1]}x{found.shape[0]} px, the first "
                    f"{first.shape[1]}x{first.shape[0]}; expected one size. Unpack it and read the folder of classes."
                )
            if found is not None:
                pixels[i] = found

    with ThreadPoolExecutor(image_reader.THREADS) as threads:
        list(threads.map(chunk, range(0, len(members), _CHUNK)))
    return pixels, dict(sorted(failed.items()))
