"""The images of one split of a data set, and what a reader found wrong with them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import numpy as np
from jaxtyping import Bool, Int64, UInt8

from labelwise.types.boxes import Boxes, Rects
from labelwise.types.clips import Clips
from labelwise.types.columns import check, check_column


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing that is wrong in a data set, and what was done about it; `count`: how often, where it is told once."""

    kind: str
    where: str
    what: str
    handling: str
    count: int = 1


@dataclass(frozen=True, eq=False)
class Pool:
    """The images of one split of a data set, with ground truth where there is any.

    `names` are file paths relative to `root`, unique; they identify an image in the ledger. `truth` is None for a bare
    image folder; for classification it is one box per image, the whole of it (`Boxes.of_images`). `crowd` are
    ground-truth regions to ignore (COCO `iscrowd`, VOC `difficult`). `problems` is what the reader found wrong, and how
    it handled it. `pixels` are the decoded images, where the data set is an archive or an array and not image files.
    `unavailable` says of images that a project knows and that cannot be shown now (by number) why: they keep their
    place and their labels, but are neither asked nor trained on. `whole` is the pool of which this one is a part that
    the run's seed draws: what is computed once for all seeds is computed of it. `complete` says of which images every
    object is annotated as far as the files tell; None: of all that have `truth`. `sources` are the files that were
    read, images apart, relative to `root`.
    """

    root: Path
    classes: tuple[str, ...]
    names: tuple[str, ...]
    width_px: Int64[np.ndarray, " images"]
    height_px: Int64[np.ndarray, " images"]
    truth: Boxes | None = None
    crowd: Rects | None = None
    problems: tuple[Problem, ...] = ()
    pixels: UInt8[np.ndarray, "images height width 3"] | None = None
    clips: Clips | None = None
    frames: Callable[[int], np.ndarray] | None = None
    unavailable: Mapping[int, str] = field(default_factory=dict)
    whole: Pool | None = None
    complete: Bool[np.ndarray, " images"] | None = None
    sources: frozenset[str] = frozenset()

    def __post_init__(self) -> None:
        check(_no_two_alike(self.names), f"Pool {self.root}: image names are not unique")
        check(len(set(self.classes)) == len(self.classes), f"Pool {self.root}: class names are not unique")
        check_column("Pool", "width_px", self.width_px, np.int64, (len(self.names),))
        check_column("Pool", "height_px", self.height_px, np.int64, (len(self.names),))
        if self.truth is not None:
            check(len(self.truth.offsets) == len(self.names) + 1, f"Pool {self.root}: truth has other images")
        if self.complete is not None:
            check_column("Pool", "complete", self.complete, np.bool_, (len(self.names),))
        if self.pixels is not None:
            check_column("Pool", "pixels", self.pixels, np.uint8, (len(self.names), None, None, 3))
        if self.clips is not None:
            check(len(self.clips) == len(self.names), f"Pool {self.root}: clips has {len(self.clips)} images")

    def __len__(self) -> int:
        return len(self.names)

    @property
    def one_class_per_image(self) -> bool:
        """Whether this is a classification data set: every image has one object, and that is the whole image."""
        if self.truth is None or len(self.truth) != len(self) or not len(self):
            return False
        size = np.stack([self.width_px, self.height_px], axis=1)
        alone = (np.diff(self.truth.offsets) == 1).all()
        return bool(alone and (self.truth.xyxy[:, :2] == 0).all() and (self.truth.xyxy[:, 2:] == size).all())

    @property
    def available(self) -> Bool[np.ndarray, " images"]:
        """Which images can be shown now, as far as is known."""
        found = np.ones(len(self), np.bool_)
        found[list(self.unavailable)] = False
        return found

    @cached_property
    def number_of(self) -> Mapping[str, int]:
        """The number of every image by its name."""
        return _Numbers(self.names)

    def path(self, image: int) -> Path:
        return self.root / self.names[image]


class _Numbers(Mapping[str, int]):
    """The number of every name: 16 bytes for each where a dictionary takes 90, and a microsecond to find one."""

    def __init__(self, names: tuple[str, ...]) -> None:
        hashes = _hashes(names)
        self._names, self._order = names, np.argsort(hashes, kind="stable")
        self._hashes = hashes[self._order]

    def __getitem__(self, name: str) -> int:
        own = hash(name)
        at = int(self._hashes.searchsorted(own))
        while at < len(self._hashes) and self._hashes[at] == own:
            number = int(self._order[at])
            if self._names[number] == name:
                return number
            at += 1
        raise KeyError(name)

    def __reduce__(self) -> tuple[type[_Numbers], tuple[tuple[str, ...]]]:
        return _Numbers, (self._names,)  # another process has other hashes

    def __iter__(self) -> Iterator[str]:
        return iter(self._names)

    def __len__(self) -> int:
        return len(self._names)


def _hashes(names: tuple[str, ...]) -> Int64[np.ndarray, " names"]:
    return np.fromiter(map(hash, names), np.int64, len(names))


def _no_two_alike(names: tuple[str, ...]) -> bool:
    """By their hashes, which take a quarter of the memory of a set of a million names."""
    hashes = np.sort(_hashes(names))
    return bool((hashes[1:] != hashes[:-1]).all()) or len(set(names)) == len(names)
