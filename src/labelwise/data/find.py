"""Which format a data set has, and reading it. A new format is one new file here, with `detect`, `splits`, `read`.

`split` may join several: `valid+test` is both as one pool.
"""

from __future__ import annotations

import difflib
import importlib
import inspect
import pkgutil
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Protocol, cast, runtime_checkable

import numpy as np

import labelwise.data
from labelwise.data import listing
from labelwise.data._frames import join_frames
from labelwise.data.image_folders import lacking
from labelwise.types import Boxes, Clips, LabelwiseError, Pool, Rects, image_of

_LAST = ("video", "frames", "classes", "folder")
"""Formats that are nothing but images or videos: they count where no other does, in this order."""


@runtime_checkable
class Reader(Protocol):
    """What the file of a format offers."""

    LOOKS_FOR: str

    def detect(self, root: Path) -> bool: ...

    def splits(self, root: Path) -> tuple[str, ...]: ...

    def read(self, root: Path, split: str | None = None) -> Pool: ...


def formats() -> dict[str, Reader]:
    """Name -> reader of every file in this folder that has the three functions."""
    found = {}
    for module in pkgutil.iter_modules(labelwise.data.__path__):
        if module.name == "find":
            continue
        loaded = importlib.import_module(f"labelwise.data.{module.name}")
        if all(hasattr(loaded, verb) for verb in ("detect", "splits", "read")):
            found[module.name] = cast(Reader, loaded)
    return found


def reader(root: Path, format_name: str | None = None) -> Reader:
    """The reader of a data set: the one that is named, or the only one that recognises it."""
    known = formats()
    chosen = name(root) if format_name is None else format_name
    if chosen not in known:
        near = difflib.get_close_matches(chosen, known, n=1)
        hint = f" Did you mean {near[0]}?" if near else ""
        raise LabelwiseError(f"unknown data format {chosen!r}; expected one of {', '.join(known)}.{hint}")
    return known[chosen]


def name(root: Path) -> str:
    """The only format that recognises a data set; of several the only one that finds an annotation.

    Raises:
        LabelwiseError: none does, or several do.
    """
    known = formats()
    if not root.exists():
        raise LabelwiseError(f"{root}: no such file or folder. Give the folder of the data set.")
    with listing.once():
        matches = [name for name, one in known.items() if name not in _LAST and one.detect(root)]
        if len(matches) > 1:
            matches = [name for name in matches if _has_labels(known[name], root)] or matches
        matches = matches or [name for name in _LAST if known[name].detect(root)][:1]
    if len(matches) > 1:
        raise LabelwiseError(
            f"{root}: could be {' or '.join(matches)}. Say which one: `labelwise init ... --set "
            f"data.format={matches[0]}`, `labelwise check ... --format {matches[0]}`, or give one of them."
        )
    if not matches:
        expected = "".join(f"\n  {name}: {one.LOOKS_FOR}" for name, one in known.items())
        hint = "".join(f" {problem.what}." for problem in lacking(root))
        raise LabelwiseError(f"{root}: no data set in a known format.{hint} Looked for{expected}\nGive such a folder.")
    return matches[0]


def _has_labels(one: Reader, root: Path) -> bool:
    """Whether a format finds any annotation in a folder that several recognise."""
    for split in one.splits(root) or (None,):
        try:
            pool = one.read(root, split)
        except LabelwiseError:
            continue
        if pool.crowd is not None or (pool.truth is not None and len(pool.truth)):
            return True
    return False


def classifies(root: Path, format_name: str | None = None) -> bool:
    """Whether the data set has one class per image, and no boxes."""
    return bool(getattr(reader(root, format_name), "ONE_CLASS_PER_IMAGE", False))


def splits(root: Path, format_name: str | None = None) -> tuple[str, ...]:
    """Names of the splits of a data set."""
    with listing.once():
        return reader(root, format_name).splits(root)


def read(root: Path, split: str | None = None, format_name: str | None = None, first_pixel: int | None = None) -> Pool:
    """Read a data set in any of the known formats. `first_pixel`: 0 or 1, from which pixels count in formats that leave
    that open; None: as the reader finds it.
    """
    with listing.once():
        one = reader(root, format_name)
        how: Callable[..., Pool] = one.read
        if first_pixel is not None:
            if "first_pixel" not in inspect.signature(how).parameters:
                raise LabelwiseError(f"{root}: data.first_pixel is of VOC; this format says where pixels count from")
            how = partial(how, first_pixel=first_pixel)
        parts = [None] if split is None else split.split("+")
        pools = [how(root, part) for part in parts]
    return pools[0] if len(pools) == 1 else join(pools)


def join(pools: list[Pool]) -> Pool:
    """Several splits of one data set as one pool; an image that is in two of them is an error."""
    first = pools[0]
    if any(pool.classes != first.classes or pool.root != first.root for pool in pools):
        raise LabelwiseError(f"{first.root}: the splits have different classes; expected one class list for all.")
    starts = np.cumsum([0, *(len(pool) for pool in pools)])
    total = int(starts[-1])
    held = [pool.pixels for pool in pools if pool.pixels is not None]
    if held and (len(held) < len(pools) or len({pixels.shape[1:] for pixels in held}) > 1):
        sizes = ["image files" if p.pixels is None else "{2}x{1} px".format(*p.pixels.shape) for p in pools]
        raise LabelwiseError(f"{first.root}: the splits hold {', '.join(sizes)}; expected images of one size to join.")
    clips = [(pool.clips, len(pool)) for pool in pools if pool.clips is not None]
    frames = [(pool.frames, len(pool)) for pool in pools if pool.frames is not None]
    if len(clips) not in (0, len(pools)) or len(frames) not in (0, len(pools)):
        raise LabelwiseError(f"{first.root}: some splits are videos and others images; expected one kind to join.")
    truths = [(start, pool.truth) for start, pool in zip(starts, pools, strict=False) if pool.truth is not None]
    crowds = [(start, pool.crowd) for start, pool in zip(starts, pools, strict=False) if pool.crowd is not None]
    truth, crowd = None, None
    if truths:
        image = np.concatenate([start + boxes.image for start, boxes in truths])
        xyxy, labels = (np.concatenate([getattr(boxes, key) for _, boxes in truths]) for key in ("xyxy", "labels"))
        truth = Boxes.from_rows(image, xyxy, labels, total)
    if crowds:
        image = np.concatenate([start + image_of(rects.offsets) for start, rects in crowds])
        crowd = Rects.from_rows(image, np.concatenate([rects.xyxy for _, rects in crowds]), total)
    complete = None
    if any(pool.complete is not None for pool in pools):
        complete = np.concatenate([np.ones(len(p), bool) if p.complete is None else p.complete for p in pools])
    return Pool(
        first.root,
        first.classes,
        tuple(name for pool in pools for name in pool.names),
        np.concatenate([pool.width_px for pool in pools]),
        np.concatenate([pool.height_px for pool in pools]),
        truth=truth,
        crowd=crowd,
        problems=tuple(problem for pool in pools for problem in pool.problems),
        pixels=np.concatenate(held) if held else None,
        clips=Clips.join(clips) if clips else None,
        frames=join_frames(frames) if frames else None,
        complete=complete,
        sources=frozenset().union(*(pool.sources for pool in pools)),
    )
