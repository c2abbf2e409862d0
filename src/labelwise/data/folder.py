"""A bare folder of images, without ground truth: the usual start of a labelling project.

Every image file below the folder is read. Subfolders named train, val, valid or test are the splits.
"""

from __future__ import annotations

from pathlib import Path

from labelwise.data import clean
from labelwise.types import LabelwiseError, Pool

LOOKS_FOR = "image files (no annotations)"

_SPLITS = ("train", "val", "valid", "validation", "test")


def detect(root: Path) -> bool:
    """Whether there is an image anywhere below."""
    return root.is_dir() and bool(clean.images_under(root))


def splits(root: Path) -> tuple[str, ...]:
    """Subfolders with the name of a split."""
    return tuple(name for name in _SPLITS if (root / name).is_dir())


def read(root: Path, split: str | None = None) -> Pool:
    """Every image below the folder, or below the folder of the split."""
    split = clean.choose(root, splits(root), split)
    place = root if split is None else root / split
    names = [clean.relative(path, root) for path in clean.images_under(place)]
    if not names:
        raise LabelwiseError(f"{place}: no image here; expected {LOOKS_FOR}.")
    return clean.pool(root, (), names, None)
