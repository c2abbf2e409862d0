"""From any layout that is read to any that is written, and what the new one cannot carry.

A target is a file of this room with `write(pool, root, split, *, copy_images)`. It may name what it can hold beyond
boxes and classes in `CARRIES`: `crowd` (regions to ignore), `unlabelled` (an image that nobody has looked at is another
thing than an empty one), `clips` (frames of videos), and `elsewhere` (it names images by their path: none need be
written, `write(..., write_images=False)`).
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

from labelwise import catalog
from labelwise.data.recognise import Found
from labelwise.types import LabelwiseError, Pool
from labelwise.types.disk import new_folder

Images = Literal["copy", "link"]
NO_SPLIT = "train"
"""What the only split of a data set that has none is called."""


def convert(
    found: Found, to: str, output: Path, images: Images | None = None, progress: Callable[[int], None] = lambda _: None
) -> list[str]:
    """Writes all splits of a data set as another format into a new folder; what could not be carried, a line each.

    `images`: copied or linked; None: only named by their paths where the format can, else linked. `progress(n)` per
    split with its images.

    Raises:
        LabelwiseError: the folder is not empty, or a split cannot be read; nothing is written then.
    """
    known = catalog.writable()
    if to not in known:
        raise LabelwiseError(f"{to!r} cannot be written; expected one of {', '.join(known)}")
    if found.broken:
        split, why = next(iter(found.broken.items()))
        raise LabelwiseError(f"the split {split or '(no name)'} cannot be read, nothing was written: {why}")
    writer = importlib.import_module(f"labelwise.data.{known[to]}")
    carries = frozenset(getattr(writer, "CARRIES", ()))
    lost: list[str] = []
    alone = len(found.pools) == 1
    pools = {_name(split, alone): _fit(pool, carries) for split, pool in found.pools.items()}
    for split, pool in zip(pools, found.pools.values(), strict=True):
        lost += [f"{split}: {line}" for line in _lost(pool, carries)]
    how: dict[str, Any] = {"copy_images": images == "copy"}
    with new_folder(output) as folder:
        for split, pool in pools.items():
            if images is None and "elsewhere" in carries and pool.pixels is None and pool.frames is None:
                how["write_images"] = False
            writer.write(pool, folder, split, **how)
            progress(len(pool))
    return lost


def _name(split: str, alone: bool) -> str:
    """The name of a split as part of a file name."""
    return NO_SPLIT if alone and split in ("", "all") else split.replace("/", "_").replace("\\", "_")


def _fit(pool: Pool, carries: frozenset[str]) -> Pool:
    """A split without what the target cannot hold."""
    return pool if "crowd" in carries else replace(pool, crowd=None)


def _lost(pool: Pool, carries: frozenset[str]) -> list[str]:
    """What a target that carries so much does not say of a split."""
    found = []
    n_crowd = 0 if pool.crowd is None else len(pool.crowd.xyxy)
    if n_crowd and "crowd" not in carries:
        found.append(f"{n_crowd} regions to ignore (crowd, difficult) are left out")
    n_open = len(pool) if pool.truth is None else 0 if pool.complete is None else int((~pool.complete).sum())
    if n_open and "unlabelled" not in carries:
        found.append(f"{n_open} images that nobody has looked at are written like images without an object")
    if pool.clips is not None and "clips" not in carries:
        found.append(f"{len(pool.clips.names)} videos become {len(pool)} single images")
    if pool.one_class_per_image:
        found.append(f"{len(pool)} images have a class and no box: the box is the whole image")
    return found
