"""The files of a data set that is written: its texts, and its images copied or linked under names that differ."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path

from PIL import Image

from labelwise.data import image_store
from labelwise.types import LabelwiseError, Pool
from labelwise.types.disk import in_one_step


def text(path: Path, content: str) -> None:
    """Write a text file in one step: readers see the old content or the new one."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with in_one_step(path) as partial:
        partial.write_text(content, encoding="utf-8")


def flat_names(names: Sequence[str]) -> list[str]:
    """File names for images that may come from several folders: the last part where the stems stay unique (YOLO and
    VOC find the labels of an image by its stem), else all parts joined by `__`.
    """
    for candidates in ([Path(n).name for n in names], [n.replace("../", "").replace("/", "__") for n in names]):
        if len({Path(c).stem for c in candidates}) == len(candidates):
            return candidates
    stems = [Path(n.replace("../", "").replace("/", "__")) for n in names]
    return [f"{s.stem}__{s.suffix[1:]}{s.suffix}" for s in stems]  # a.png and a.jpg side by side


def file_names(pool: Pool) -> list[str]:
    """`flat_names` of a pool; frames of videos and pixels of an archive become PNG files."""
    if pool.frames is None and pool.pixels is None:
        return flat_names(pool.names)
    return flat_names([name.replace("#", "__") + ".png" for name in pool.names])


def in_store(pool: Pool) -> bool:
    """Whether the images of a pool lie in an object store: there are no files to link to, or to name by their paths."""
    return pool.pixels is None and pool.frames is None and image_store.of(pool.root / "image") is not None


def images(pool: Pool, names: Sequence[str], to: Path, copy: bool) -> None:
    """Copy the images of a pool into a folder under new names, or link them; what is no file is written as PNG, and
    what lies in an object store is fetched.
    """
    to.mkdir(parents=True, exist_ok=True)
    if in_store(pool):
        fetched = image_store.contents([pool.path(i) for i in range(len(names))])
        for name, content in zip(names, fetched, strict=True):
            (to / name).write_bytes(content)
        return
    for i, name in enumerate(names):
        drawn = pool.pixels[i] if pool.pixels is not None else pool.frames(i) if pool.frames is not None else None
        if drawn is not None:
            Image.fromarray(drawn).save(to / name)
            continue
        source = pool.path(i).resolve()
        if not source.is_file():
            raise LabelwiseError(f"{source}: no such image file. Read the data set anew before you write it.")
        if copy:
            shutil.copyfile(source, to / name)
        else:
            link(to / name, source)


def link(path: Path, source: Path) -> None:
    """Links to a file or a folder; copies it where links are not to be had, as for most users of Windows."""
    try:
        path.symlink_to(source)
    except (OSError, NotImplementedError):
        if path.is_symlink() or path.exists():
            raise
        shutil.copytree(source, path) if source.is_dir() else shutil.copyfile(source, path)


def remove(folder: Path) -> None:
    """Remove a folder of our own with all that is in it."""
    shutil.rmtree(folder, ignore_errors=True)
