"""Opening a project whose detector is foreign, or making it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from labelwise import config, files, loop
from labelwise.api import arguments, heads
from labelwise.api.project import Project
from labelwise.data import frames, image_list, kept_headers, listing, video
from labelwise.data.image_store import is_url
from labelwise.project import data_root, opening, project_folder
from labelwise.project.context import Context, cache_of
from labelwise.project.project_folder import Project as Folder
from labelwise.types import LabelwiseError

_WITHOUT_LABELS = (None, "folder", "video", "frames")
"""Formats of images alone; a `video` may have its labels beside it."""


def open(  # noqa: A001 (the public name)
    folder: str | Path,
    images: str | Path | Sequence[str | Path] | None = None,
    classes: Sequence[str] = (),
    *,
    format: str | None = None,  # noqa: A002 (the public name)
    split: str | None = None,
    image_size_px: int = 640,
    given: str | None = None,
    head: str = "softmax",
) -> Project:
    """Opens the project in `folder`, or makes it.

    Args:
        folder: the project folder; `labelwise serve --project FOLDER` and the other commands open it, too.
        images: a folder of images, of video files or of folders of frames, a video file, a list of paths of images, or
            the URL of a folder of images in an object store ("s3://BUCKET/FOLDER"); needed to make a project. A longer
            list adds images later.
        classes: the names of the classes, in the order of the detector's class numbers, without background.
        format: None takes video files, and folders whose names and images look like those of frames, as videos, and of
            any other folder every image below it; "folder", "video" and "frames" say which; another data format
            also brings its annotations.
        split: the subfolder or split to take, where there are several.
        image_size_px: the longest side at which `predict` shows an image to the detector.
        given: what annotations that come with the images are, for a new project: "complete", "partial", "all" or
            "empty" (`labelwise config data.given`); None: they are not looked at.
        head: what the detector's `probs` are: "softmax" (distributions over the classes, without background) or
            "sigmoid" (a probability of its own for each class, see `labelwise.api.heads`). Say it whenever you open it.

    Raises:
        LabelwiseError: there is no project and no images; other images or classes than those of the project.
    """
    place, head = Path(folder), heads.known(head)
    if isinstance(images, Path) and not images.exists() and len(scheme := images.parts[0]) > 2 and scheme[-1] == ":":
        raise LabelwiseError(f'images: {images} was a URL, and is none as a Path: give it as text, "{scheme}//..."')
    listed = None if images is None or isinstance(images, str | Path) else list(images)
    if not (place / "run.toml").exists():
        if images is None:
            raise LabelwiseError(f"{place} is no project yet; give images (a folder or a list of paths) and classes")
        if format in _WITHOUT_LABELS and not classes:
            raise LabelwiseError(f'{place}: give the names of the classes, for example classes=["cat", "dog"]')
        if listed is not None:
            text = image_list.text(_no_videos(listed))
            place.mkdir(mode=0o700, parents=True, exist_ok=True)
            files.write_text(place / "images.txt", text)
        root = str(place / "images.txt" if listed is not None else images)
        kind = "image_list" if listed is not None else format
        with project_folder.whole(place):
            _make(place, root, kind, classes, split, image_size_px, given)
    elif listed is not None:
        _extend(place, listed)
    opened = opening.start(place, None)
    _same(opened, images if listed is None else None, classes)
    loop.begin(opened)
    return Project(opened, head)


def _make(place: Path, root: str, kind: str | None, *asked: Any) -> None:
    """Makes the project of the images in a folder or file, or below a URL; a mistake in `asked` (see
    `arguments.fresh`) is an error before it is there.
    """
    far = is_url(root)
    known = root if far else str(Path(root).expanduser().resolve())
    run = arguments.fresh(place.resolve().name, known, kind or "folder", *asked)
    with kept_headers.kept_in(cache_of(place) / "headers"):
        if far:
            place.mkdir(mode=0o700, parents=True, exist_ok=True)  # what is fetched lies in it
        here = data_root.root_of(run, place) if far else Path(known)
        with data_root.by_url(here, known):
            run = run if kind else arguments.fresh(run.name, known, _format(here), *asked)
            opening.pools(run, here, run.data.pool_split or "", "")
        Folder.create(place, config.dump(run)).close()


def _format(root: Path) -> str:
    """What a folder without annotations holds, or a video file is."""
    if not root.exists():
        raise LabelwiseError(f"images: {root}: no such folder; give a folder, a video file, or a list of paths")
    if root.is_file() and not video.detect(root):
        raise LabelwiseError(f"images: {root} is no video file; give a folder, a video file, or a list of paths")
    with listing.once():
        if not video.detect(root):
            return "frames" if frames.detect(root) else "folder"
        if root.is_dir() and listing.below(root).images:
            raise LabelwiseError(
                f'images: {root} holds videos and images; say which are meant: format="video" or format="folder"'
            )
    return "video"


def _no_videos(listed: list[str | Path]) -> list[str | Path]:
    for one in listed:
        if is_url(str(one)):
            raise LabelwiseError(
                f"images: {one}: a list is of files on disk. Of an object store give the URL of the folder that the "
                'images lie in, images="s3://BUCKET/FOLDER"'
            )
        if Path(one).suffix.lower() in video.SUFFIXES:
            raise LabelwiseError(
                f"images: {one} is a video, and a list is of images: give the folder of the videos, or one video file"
            )
    return listed


def _extend(folder: Path, images: list[str | Path]) -> None:
    """A list of an existing project is written anew; known images that it lacks are unavailable."""
    path = folder / "images.txt"
    if not path.exists():
        raise LabelwiseError(f"{folder} was made of a folder of images, not of a list; give that folder, or no images")
    files.write_text(path, image_list.text(_no_videos(images), image_list.below(path)))


def _place(images: str) -> str:
    return images.rstrip("/") if is_url(images) else str(Path(images).expanduser().resolve())


def _same(opened: Context, images: Any, classes: Sequence[str]) -> None:
    folder, pool = opened.project.folder, opened.pool
    if images is not None and _place(str(images)) != _place(opened.run.data.place()):
        raise LabelwiseError(f"{folder} is of the images in {opened.run.data.root}, not {images}; name another folder")
    if classes and list(classes) not in (list(pool.classes), list(opened.run.data.classes)):  # some may be added since
        raise LabelwiseError(
            f"{folder} has the classes {', '.join(pool.classes)}; got {', '.join(classes)}. Their order and number are "
            "fixed by the answers; name another folder"
        )
