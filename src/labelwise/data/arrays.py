"""A NumPy archive (.npz) of images and labels: `train_x, train_y, test_x, test_y`, as MNIST is often passed around.

Names: `train_x`, `x_train`, `train_images` or `images_train` for the images of a split (train, val, valid, test),
`..._y`, `y_...`, `..._labels` or `labels_...` for their labels; without splits `x`, `y` or `images`, `labels`. Upper
case counts as lower. `classes` or `class_names` are the names of the classes; else they are the numbers from 0 to the
largest label of any split. Other arrays are ignored.

Images are `[n, h, w]`, `[n, h, w, 1]` (grey, becomes RGB) or `[n, h, w, 3]`. Values: whole numbers 0 to 255; floats
0 to 255, rounded; floats none of which exceeds 1 are taken as 0 to 1 and multiplied by 255. Anything else is an error.

Bounds: an array that says it is larger than its part of the archive can be, and labels or names of more than
`MOST_CLASSES` classes, are errors.

Fails when: floats of 0 to 255 are all black (at most 1): they would be taken as 0 to 1.
"""

from __future__ import annotations

import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Int64, UInt8

from labelwise.data import clean
from labelwise.types import Boxes, LabelwiseError, Pool

ONE_CLASS_PER_IMAGE = True
LOOKS_FOR = "an .npz file with train_x, train_y, test_x, test_y (or x_train, ...; images, labels)"

MOST_CLASSES = 100_000
_SPLITS = ("train", "val", "valid", "test")
_RATIO = 1100
"""How often a byte of a zip archive can stand for, at most."""
_CHUNK = 4096
"""Images that are converted at a time."""


def detect(root: Path) -> bool:
    """Whether this is an .npz file, or a folder that holds one with images and labels."""
    if root.is_file():
        return root.suffix == ".npz" and zipfile.is_zipfile(root)
    return any(_pairs(_names(path)) for path in _archives(root))


def splits(root: Path) -> tuple[str, ...]:
    """Names of the splits; none where the archive has a single pair of images and labels."""
    return tuple(split for split in _pairs(_names(_archive(root))) if split)


def read(root: Path, split: str | None = None) -> Pool:
    """Images and labels of a split."""
    path = _archive(root)
    names = _names(path)
    pairs = _pairs(names)
    if not pairs:
        raise LabelwiseError(f"{path}: holds {', '.join(names) or 'nothing'}; expected {LOOKS_FOR}. Rename the arrays.")
    split = clean.choose(root, tuple(s for s in pairs if s), split)
    x, y = pairs[split or ""]
    with _readable(path), np.load(path, allow_pickle=False) as arrays:
        labels = {key: _labels(_array(arrays, key, path), f"{path}: {key}") for _, key in pairs.values()}
        classes = _classes(arrays, path, labels)
        pixels = _pixels(_array(arrays, x, path), f"{path}: {x}")
    if len(labels[y]) != len(pixels):
        raise LabelwiseError(
            f"{path}: {x} has {len(pixels)} images, {y} has {len(labels[y])} labels; expected as many of both."
        )
    n, height, width = pixels.shape[:3]
    digits = max(5, len(str(n - 1)))
    size = np.full(n, width, np.int64), np.full(n, height, np.int64)
    truth = Boxes.of_images(labels[y], *size)
    listed = tuple(f"{split or 'all'}/{i:0{digits}d}" for i in range(n))
    return Pool(root, classes, listed, *size, truth=truth, pixels=pixels, sources=frozenset({path.name}))


@contextmanager
def _readable(path: Path) -> Iterator[None]:
    """Turns what broken bytes raise into an error that names the file."""
    try:
        yield
    except (LabelwiseError, MemoryError):
        raise
    except ValueError as error:  # NumPy's word for arrays of Python objects, which would be pickles
        raise LabelwiseError(f"{path}: can't be read ({error}). Save plain numbers, not objects.") from error
    except Exception as error:  # zip archives and NumPy's headers raise nearly anything
        raise LabelwiseError(f"{path}: broken file ({error!r}). Fetch or write it again.") from error


def _array(arrays: np.lib.npyio.NpzFile, key: str, path: Path) -> np.ndarray:
    """An array of the archive, after a look at what its header asks for: NumPy makes room for that first."""
    archive = arrays.zip
    assert archive is not None
    member = archive.getinfo(key if key in archive.namelist() else f"{key}.npy")
    with archive.open(member) as file:
        version = np.lib.format.read_magic(file)
        header: Any = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
        shape, _, dtype = header(file)
    need = int(dtype.itemsize) * int(np.prod([int(n) for n in shape], dtype=object))
    if min(shape, default=0) < 0 or need > min(member.file_size, _RATIO * max(1, path.stat().st_size)):
        raise LabelwiseError(f"{path}: {key} is said to have shape {shape}, more than is there. Write the file again.")
    return np.asarray(arrays[key])


def _archives(root: Path) -> list[Path]:
    if not root.is_dir():
        return [root]
    return [path for path in sorted(root.glob("*.npz")) if path.is_file() and zipfile.is_zipfile(path)]


def _archive(root: Path) -> Path:
    found = _archives(root)
    if len(found) > 1:
        found = [path for path in found if _pairs(_names(path))] or found
    if len(found) != 1:
        listed = ", ".join(path.name for path in found)
        raise LabelwiseError(f"{root}: holds {listed or 'no .npz file'}; expected one. Give the file itself.")
    return found[0]


def _names(path: Path) -> tuple[str, ...]:
    """Names of the arrays, without reading one."""
    try:
        with zipfile.ZipFile(path) as file:
            return tuple(name.removesuffix(".npy") for name in file.namelist())
    except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError) as error:
        raise LabelwiseError(f"{path}: not an .npz file ({error}). Fetch or write it again.") from error


def _pairs(names: tuple[str, ...]) -> dict[str, tuple[str, str]]:
    """Split ("" for none) -> the names of its images and labels."""
    known = {name.lower(): name for name in names}
    found: dict[str, tuple[str, str]] = {}
    for split in (*_SPLITS, ""):
        x, y = (
            [known[form] for word in words for form in _forms(split, word) if form in known]
            for words in (("x", "images"), ("y", "labels"))
        )
        if x and y and (split or not found):
            found[split] = x[0], y[0]
    return found


def _forms(split: str, word: str) -> tuple[str, ...]:
    return (f"{split}_{word}", f"{word}_{split}") if split else (word,)


def _labels(array: np.ndarray, where: str) -> Int64[np.ndarray, " n"]:
    flat = array[:, 0] if array.ndim == 2 and array.shape[1] == 1 else array
    if flat.ndim != 1:
        raise LabelwiseError(f"{where} has shape {array.shape}; expected [n]: the class number of every image.")
    if flat.dtype.kind not in "iu":
        raise LabelwiseError(f"{where} holds {flat.dtype}; expected whole numbers: the class number of every image.")
    return flat.astype(np.int64)


def _classes(arrays: np.lib.npyio.NpzFile, path: Path, labels: dict[str, np.ndarray]) -> tuple[str, ...]:
    key = next((name for name in ("classes", "class_names") if name in arrays), None)
    largest = max((int(values.max()) for values in labels.values() if len(values)), default=-1)
    names = _array(arrays, key, path).ravel() if key else np.arange(0)
    n = len(names) if key else largest + 1
    if n > MOST_CLASSES:
        raise LabelwiseError(f"{path}: {n} classes, by its {key or 'labels'}; expected at most {MOST_CLASSES}.")
    classes = tuple(map(str, names.tolist() if key else range(n)))
    for name, values in labels.items():
        bad = np.flatnonzero((values < 0) | (values >= len(classes)))
        if len(bad):
            raise LabelwiseError(
                f"{path}: {name}: row {bad[0]} has label {values[bad[0]]}; expected 0 to {len(classes) - 1}"
                f" ({len(classes)} classes). Mend the labels{f', or {key}' if key else ''}."
            )
    return classes


def _pixels(array: np.ndarray, where: str) -> UInt8[np.ndarray, "n h w 3"]:
    """RGB, 8 bit; the array itself where it is that already."""
    grey = array.ndim == 3 or (array.ndim == 4 and array.shape[3] == 1)
    if not (grey or (array.ndim == 4 and array.shape[3] == 3)) or 0 in array.shape[1:]:
        hint = " Move the channels to the end." if array.ndim == 4 and array.shape[1] in (1, 3) else ""
        raise LabelwiseError(f"{where} has shape {array.shape}; expected [n, h, w] or [n, h, w, 3].{hint}")
    if array.dtype.kind not in "iuf":
        raise LabelwiseError(f"{where} holds {array.dtype}; expected numbers, 0 to 255.")
    if array.dtype == np.uint8 and not grey:
        return np.ascontiguousarray(array)
    low, high = (float(array.min()), float(array.max())) if array.size else (0.0, 0.0)
    if not (low >= 0 and high <= 255):  # NaN fails too
        flat = array.reshape(len(array), -1)
        row = int(np.flatnonzero(~((flat >= 0) & (flat <= 255)).all(axis=1))[0])
        raise LabelwiseError(
            f"{where}: image {row} has values outside 0 to 255, or NaN (all: {low:.6g} to {high:.6g}); expected "
            "pixels of 0 to 255, or floats of 0 to 1. Undo the normalisation before saving."
        )
    scale = 255 if array.dtype.kind == "f" and high <= 1 else 1
    rgb = np.empty((*array.shape[:3], 3), np.uint8)
    for i in range(0, len(array), _CHUNK):
        part = array[i : i + _CHUNK]
        part = np.rint(part.astype(np.float32) * scale) if array.dtype.kind == "f" else part
        rgb[i : i + _CHUNK] = part[..., None] if array.ndim == 3 else part
    return rgb
