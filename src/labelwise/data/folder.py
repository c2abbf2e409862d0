"""A bare folder of images, without ground truth: the usual start of a labelling project.

Every image file below the folder is read. Folders with the name of a split (in any case) are the splits; images beside
them are the split `all`.
"""

from __future__ import annotations

from pathlib import Path

from labelwise.data import clean, entries, listing
from labelwise.data.image_folders import lacking, layout
from labelwise.types import LabelwiseError, Pool

LOOKS_FOR = "image files (no annotations)"


def detect(root: Path) -> bool:
    """Whether there is an image anywhere below."""
    return root.is_dir() and bool(listing.below(root).images)


def splits(root: Path) -> tuple[str, ...]:
    """Folders with the name of a split."""
    names = [name or entries.ALL for name in layout(root).places]
    return () if names == [entries.ALL] else tuple(names)


def read(root: Path, split: str | None = None) -> Pool:
    """Every image below the folder, or below the folder of the split."""
    split = clean.choose(root, splits(root), split)
    places = layout(root).places
    place = places.get(split or "") or places.get("")
    if place is None or not place.images:
        raise LabelwiseError(f"{root}: no image here; expected {LOOKS_FOR}.")
    return clean.pool(root, (), place.images, None, lacking(root))
