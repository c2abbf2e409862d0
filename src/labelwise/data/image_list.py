"""A list of images, without ground truth: a text file, so that images may lie anywhere below one folder.

Its first line is `# labelwise images below FOLDER`, every further line the path of an image relative to that folder.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from labelwise.data import clean, text_files
from labelwise.types import LabelwiseError, Pool

LOOKS_FOR = "a text file that begins with `# labelwise images below FOLDER`"

_HEAD = "# labelwise images below "


def detect(root: Path) -> bool:
    """Whether it is such a file."""
    if not root.is_file():
        return False
    return text_files.head(root, len(_HEAD)) == _HEAD.encode()


def splits(root: Path) -> tuple[str, ...]:
    """It has none."""
    return ()


def read(root: Path, split: str | None = None) -> Pool:
    """Every image of the list, in its order."""
    clean.choose(root, (), split)
    if not detect(root):
        raise LabelwiseError(f"{root}: no list of images; expected {LOOKS_FOR}")
    head, *names = (line.removesuffix("\r") for line in text_files.text(root).split("\n"))
    names = [name for name in names if name.strip()]
    if not names:
        raise LabelwiseError(f"{root}: the list is empty; expected the path of an image in every line")
    return clean.pool(Path(head.removeprefix(_HEAD)), (), names, None)


def text(images: Sequence[str | Path], below: Path | None = None) -> str:
    """The content of such a file. `below`: the folder that the paths are relative to; None: the nearest common one.

    Raises:
        LabelwiseError: no image, an image that is not there, outside `below` or listed twice.
    """
    paths = [Path(os.path.abspath(Path(image).expanduser())) for image in images]  # noqa: PTH100 (keeps links)
    if not paths:
        raise LabelwiseError("images is an empty list; expected the paths of images")
    missing = [path for path in paths if not path.is_file()]
    if missing:
        raise LabelwiseError(f"images: {missing[0]}: no such file ({len(missing)} of {len(paths)} are missing)")
    folder = below or Path(os.path.commonpath([path.parent for path in paths]))
    outside = [path for path in paths if not path.is_relative_to(folder)]
    if outside:
        raise LabelwiseError(f"images: {outside[0]} does not lie below {folder}, where this project's images are")
    names = [path.relative_to(folder).as_posix() for path in paths]
    twice = sorted({name for name in names if names.count(name) > 1}) if len(set(names)) < len(names) else []
    if twice:
        raise LabelwiseError(f"images: {twice[0]} is listed twice; expected every image once")
    return "\n".join([f"{_HEAD}{folder}", *names]) + "\n"


def below(root: Path) -> Path:
    """The folder that the paths of a list are relative to."""
    return Path(text_files.text(root).split("\n", 1)[0].removesuffix("\r").removeprefix(_HEAD))
