"""What a folder holds: its format, its splits with images and boxes, its classes. What `labelwise init` looks at.

Folders of images alone look alike, whether a folder is a class, a video or nothing. Where `find` sees no other format:

* frames: the images of every folder are numbered in even steps and of one size, and the folder's name speaks of a video
  or has a number (`clip_a`, `seq0013`, but not `cat` or `7`);
* classes: at least two folders, no image beside them, no name that speaks of days, cameras or batches;
* else a bare folder.

Fails when: frames lie in folders with names such as `left` and `right` (told as classes), or classes are called
`batch_1` (told as a bare folder). `note` says which it was and how to say otherwise.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from labelwise.data import find, image_reader, listing
from labelwise.data.roles import annotated
from labelwise.types import LabelwiseError, Pool

_SPLITS = ("train", "val", "valid", "validation", "test")
_OF_CLIPS = frozenset(
    ("clip", "clips", "video", "vid", "seq", "sequence", "scene", "shot", "cam", "camera", "take", "film", "movie")
)
_OF_NOTHING = frozenset(
    ("day", "week", "month", "batch", "part", "set", "site", "cam", "camera", "dcim", "raw", "data", "images", "photos")
)
_MOST_SPLITS = 8


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
    named = format_name is not None
    format_name = format_name or _format(root)
    note = ""
    if not named and format_name in ("folder", "classes"):
        format_name, note = _of_folders(root, format_name)
    found = Found(root, format_name, note=note, first_pixel=first_pixel)
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
    if root.is_dir() and not any(root.iterdir()):
        raise LabelwiseError(f"{root} is empty. Give a folder with images, videos or an annotated data set")
    return find.name(root)


def _nothing(pool: Pool) -> str:
    first = next((p for p in pool.problems if p.kind in ("unreadable image", "missing image")), None)
    what = "there is no image" if first is None else f"not one of its images can be read. First: {first.what}"
    return f"{pool.root}: {what}. `labelwise check {pool.root}` lists all that is wrong"


def _of_folders(root: Path, format_name: str) -> tuple[str, str]:
    """Format of a folder that holds nothing but images, and how to say otherwise."""
    places = [root / name for name in _SPLITS if (root / name).is_dir()] or [root]
    inside = [path for place in places for path in sorted(place.iterdir()) if not path.name.startswith(".")]
    folders = [path for path in inside if path.is_dir()]
    holding = [path for path in folders if _images(path)]
    if not holding or any(image_reader.is_image(path) for path in inside):
        return format_name, ""
    names = ", ".join(path.name for path in holding[:4]) + (", ..." if len(holding) > 4 else "")
    otherwise = {
        "frames": "every folder is a video, frame by frame: --set data.format=frames",
        "classes": "every folder is a class: --set data.format=classes",
        "folder": "the folders mean nothing: --set data.format=folder",
    }
    if len(holding) == len(folders) and all(_is_clip(path) for path in folders):
        format_name = "frames"
    elif format_name == "folder" and len(holding) > 1 and not any(_words(path) & _OF_NOTHING for path in holding):
        format_name = "classes"
    said = {"frames": "taken as videos", "classes": "taken as classes", "folder": "taken as one pool of images"}
    others = "; ".join(text for name, text in otherwise.items() if name != format_name)
    return format_name, f"The images lie in {len(holding)} folders ({names}), {said[format_name]}. If {others}"


def _is_clip(folder: Path) -> bool:
    """Whether the images of a folder look like the frames of a video."""
    number = re.search(r"\d\d|[a-z][-_ ]?\d+$", folder.name.lower()) is not None
    if not number and not _words(folder) & _OF_CLIPS:
        return False
    files = _images(folder)
    numbers = [re.findall(r"\d+", path.stem) for path in files]
    if len(files) < 2 or not all(numbers):
        return False
    steps = np.diff(np.sort(np.array([int(digits[-1]) for digits in numbers])))
    (step, times), *_ = Counter(steps.tolist()).most_common(1)
    if step == 0 or times < 0.8 * len(steps):
        return False
    try:
        return image_reader.probe(files[0])[:2] == image_reader.probe(files[-1])[:2]
    except LabelwiseError:
        return True


def _images(folder: Path) -> list[Path]:
    return sorted(path for path in folder.iterdir() if image_reader.is_image(path))


def _words(folder: Path) -> set[str]:
    words = set(re.findall(r"[a-z]+", folder.name.lower()))
    return words | ({"day"} if re.search(r"\d{4}", folder.name) and not words else set())


def describe(found: Found) -> list[tuple[str, str, str]]:
    """A row per split: its name, images (and videos), boxes."""
    rows = []
    for name, pool in found.pools.items():
        clips = "" if pool.clips is None else f" in {len(np.unique(pool.clips.video))} videos"
        boxes = "no annotations"
        if annotated(pool):
            boxes = "a class each" if found.classifies else f"{len(pool.truth or ())} boxes"
        rows.append((name or "(no splits)", f"{len(pool)} {'frames' if clips else 'images'}{clips}", boxes))
    return rows + [(name, "cannot be read", why) for name, why in found.broken.items()]
