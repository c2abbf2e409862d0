"""What a folder holds: its format, its splits with images and boxes, its classes. What `labelwise init` looks at.

Folders of images alone look alike: `note` says what they were taken for (see `image_folders.py`) and how to say
otherwise.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from labelwise.data import find, listing
from labelwise.data.image_folders import layout
from labelwise.data.roles import annotated
from labelwise.types import LabelwiseError, Pool

_MOST_SPLITS = 8
_TAKEN = {
    "frames": ("taken as videos", "every folder is a video, frame by frame"),
    "classes": ("taken as classes", "every folder is a class"),
    "folder": ("taken as one pool of images", "the folders mean nothing"),
}


@dataclass
class Found:
    """A data set: `pools` by split ("" where it has none), `broken` splits with the reason, a `note` on the format."""

    root: Path
    format: str
    pools: dict[str, Pool] = field(default_factory=dict)
    broken: dict[str, str] = field(default_factory=dict)
    note: str = ""
    first_pixel: int | None = None

    @property
    def classifies(self) -> bool:
        """Whether every image has a class, and no boxes."""
        return find.classifies(self.root, self.format)

    @property
    def classes(self) -> list[str]:
        """Names of the classes of all splits, in their order."""
        return list(dict.fromkeys(name for pool in self.pools.values() for name in pool.classes))

    def boxes(self, pool: Pool) -> int:
        """How many boxes a split has, regions to ignore (crowd, difficult) among them; 0 where images have a class."""
        return 0 if self.classifies else sum(len(found.xyxy) for found in (pool.truth, pool.crowd) if found is not None)

    def read(
        self, root: Path, split: str | None = None, format_name: str | None = None, first_pixel: int | None = None
    ) -> Pool:
        """`find.read`, without reading again what was read."""
        same = (root, format_name, first_pixel) == (self.root, self.format, self.first_pixel)
        if same and (split or "") in self.pools:
            return self.pools[split or ""]
        return find.read(root, split, format_name, first_pixel)


@listing.once()
def look(
    root: Path,
    format_name: str | None = None,
    progress: Callable[[int], None] | None = None,
    most: int | None = _MOST_SPLITS,
    first_pixel: int | None = None,
) -> Found:
    """Recognises and reads a data set, the first `most` splits of it. `progress(1)` per split; `first_pixel`: as for
    `find.read`.

    Raises:
        LabelwiseError: no known format, several, or nothing in it that can be read.
    """
    note = ""
    if format_name is None:
        format_name = _format(root)
        note = _note(root, format_name)
    found = Found(root, format_name, note=note, first_pixel=first_pixel)
    with listing.once():
        for split in find.splits(root, format_name)[:most] or ("",):
            try:
                pool = find.read(root, split or None, format_name, first_pixel)
                if not len(pool):
                    raise LabelwiseError(_nothing(pool))
                found.pools[split] = pool
            except LabelwiseError as error:
                found.broken[split] = str(error)
            if progress is not None:
                progress(1)
    if not found.pools:
        raise LabelwiseError(next(iter(found.broken.values())))
    return found


def _format(root: Path) -> str:
    try:
        empty = root.is_dir() and not any(root.iterdir())
    except OSError as error:
        raise LabelwiseError(f"{root}: cannot be read ({error.strerror or error})") from error
    if empty:
        raise LabelwiseError(f"{root} is empty. Give a folder with images, videos or an annotated data set")
    return find.name(root)


def _nothing(pool: Pool) -> str:
    first = next((p for p in pool.problems if p.kind in ("unreadable image", "missing image")), None)
    what = "there is no image" if first is None else f"not one of its images can be read. First: {first.what}"
    return f"{pool.root}: {what}. `labelwise check {pool.root}` lists all that is wrong"


def _note(root: Path, format_name: str) -> str:
    """Of a folder that holds nothing but images: what its folders were taken for, and how to say otherwise."""
    found = layout(root) if format_name in _TAKEN else None
    if found is None or not found.groups or any(place.beside for place in found.places.values() if place.groups):
        return ""
    names = ", ".join(found.groups[:4]) + (", ..." if len(found.groups) > 4 else "")
    others = "; ".join(f"{text}: --set data.format={name}" for name, (_, text) in _TAKEN.items() if name != format_name)
    return f"The images lie in {len(found.groups)} folders ({names}), {_TAKEN[format_name][0]}. If {others}"


def describe(found: Found) -> list[tuple[str, str, str]]:
    """A row per split: its name, images (and videos), boxes."""
    rows = []
    for name, pool in found.pools.items():
        films = 0 if pool.clips is None else len(np.unique(pool.clips.video))
        clips = f" in {films} video{'' if films == 1 else 's'}" if films else ""
        boxes = "no annotations"
        if annotated(pool):
            n = found.boxes(pool)
            boxes = "a class each" if found.classifies else f"{n} box{'' if n == 1 else 'es'}"
        what = f"{'frame' if clips else 'image'}{'' if len(pool) == 1 else 's'}"
        rows.append((name or "(no splits)", f"{len(pool)} {what}{clips}", boxes))
    return rows + [(name, "cannot be read", why) for name, why in found.broken.items()]
