"""CVAT XML 1.1, for images and for video: `annotations.xml`, the images beside it or in `images/`.

Several such files below a folder (of tasks, jobs or projects) are read together. An image that a file names was looked
at, with shapes or without. Classes: the labels of the files in their order (without those of tags and of the points of
skeletons), then other labels of shapes. Splits: the subsets of the files; else the folders that are named like splits.
Coordinates are continuous pixels, as CVAT has them.

Tracks (`CVAT for video`): a box lies in every frame that the file gives it, and moves evenly between two that are not
neighbours; it ends where the file says `outside`, or nothing more. Frames are the images named `frame_000012`, other
images in their order, or those of the video file beside the XML file (by the name of the source, of the task or of the
XML file, else the only one there). They make clips; every frame of the task was looked at, and where the file does not
say how many there are, every one up to the last that a track names.

Written: `<split>/annotations.xml` for images, with the split as the subset, and `<split>/images/`.

| kind of problem | handling |
|---|---|
| malformed annotation (a broken XML file; a frame that is no number) | left out. All files are broken: an error |
| missing image (a file names it) | left out, with its boxes |
| video without images (neither frames nor a video file are there) | left out, with its tracks |
| label without image (a box in a frame that is not there) | left out |
| image annotated twice (by two files) | the objects of both are read, those that are equal once |
| image without labels (no file names it) | nobody has looked at it |
| rotated box, polygon, ellipse, mask, cuboid | its hull |
| polyline, points, skeleton, image tag | left out |
| box without numbers, object without class | left out |
| box between key frames | interpolated evenly |
| frames by their order (their number is not that of the task, or unknown) | read so |
| video beside images (a set is of one kind) | left out |
"""

from __future__ import annotations

import re
import xml.etree.ElementTree as ET
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from posixpath import basename, dirname, join, splitext
from typing import NamedTuple

from labelwise.data import _clips_of as clips_of
from labelwise.data import _cvat_film as cvat_film
from labelwise.data import _cvat_tracks as tracks
from labelwise.data import entries, listing, split_names, staging, text_files
from labelwise.data._cvat_shapes import Tally, box_of, whole
from labelwise.data.resolve import Resolver
from labelwise.types import LabelwiseError, Pool, Problem
from labelwise.types.disk import new_folder

LOOKS_FOR = (
    "annotations.xml of CVAT (<annotations> with <image> or <track>), beside the images, the frames or the video"
)

_BEGINS = re.compile(rb"\s*(?:<[?!][^>]*>\s*)*<annotations[\s>]")
_INSIDE = re.compile(rb"<(?:image|track|meta|version)[\s>/]")
_MOST_HEADS = 24
_VIDEOS = (".mp4", ".avi", ".mov", ".mkv", ".webm", ".m4v", ".mpg", ".mpeg", ".wmv", ".flv", ".ts", ".3gp", ".ogv")


class _Set(NamedTuple):
    """What all files say; which images are frames, by name; videos whose frames lie in a video file."""

    parsed: entries.Parsed
    frames: dict[str, tuple[str, int]]
    films: list[cvat_film.Film]


def detect(root: Path) -> bool:
    """Whether one of the XML files is CVAT's."""
    if not root.is_dir():
        return False
    names = listing.below(root).of(".xml")
    every = max(1, len(names) // _MOST_HEADS)
    chosen = dict.fromkeys((*(name for name in names if basename(name).lower() == "annotations.xml"), *names[::every]))
    return any(_is_one(text_files.head(root / name)) for name in list(chosen)[: 2 * _MOST_HEADS])


def splits(root: Path) -> tuple[str, ...]:
    """Names of the splits."""
    found = _set(root)
    return cvat_film.splits(found.films) if found.films else entries.splits(found.parsed)


def read(root: Path, split: str | None = None) -> Pool:
    """Images or frames of a split, with their boxes."""
    found = _set(root)
    if found.films:
        return cvat_film.pool(root, found.parsed, found.films, split)
    return clips_of.with_clips(entries.pool(root, found.parsed, split), found.frames)


def write(pool: Pool, root: Path, split: str, *, copy_images: bool = True) -> None:
    """Write a split; `copy_images=False` links the images."""
    if pool.crowd is not None and len(pool.crowd.xyxy):
        raise LabelwiseError(f"{pool.root}: has {len(pool.crowd.xyxy)} crowd regions, which CVAT can't hold.")
    names = staging.file_names(pool)
    if bad := [name for name in (*pool.classes, *names, split) if not name.isprintable()]:
        raise LabelwiseError(f"{pool.root}: {bad[0]!r} cannot be written to XML. Give it another name.")
    for other in sorted(root.glob("*/annotations.xml")):
        if list(_labels(text_files.xml_of(other))) != list(pool.classes):
            raise LabelwiseError(f"{other}: has other classes than the pool. Choose another folder.")
    with new_folder(root / split) as folder:
        staging.images(pool, names, folder / "images", copy_images)
        (folder / "annotations.xml").write_bytes(_xml(pool, split, names))


def _xml(pool: Pool, split: str, names: list[str]) -> bytes:
    top = ET.Element("annotations")
    ET.SubElement(top, "version").text = "1.1"
    task = ET.SubElement(ET.SubElement(top, "meta"), "task")
    for tag, text in (("name", split), ("size", str(len(names))), ("mode", "annotation"), ("subset", split)):
        ET.SubElement(task, tag).text = text
    labels = ET.SubElement(task, "labels")
    for label in pool.classes:
        ET.SubElement(ET.SubElement(labels, "label"), "name").text = label
    for i, name in enumerate(names):
        size = {"width": str(pool.width_px[i]), "height": str(pool.height_px[i])}
        image = ET.SubElement(top, "image", {"id": str(i), "name": name, "subset": split, **size})
        rows = slice(0, 0) if pool.truth is None else slice(*pool.truth.offsets[i : i + 2])
        truth = () if pool.truth is None else zip(pool.truth.xyxy[rows], pool.truth.labels[rows], strict=True)
        for box, label in truth:
            corners = zip(("xtl", "ytl", "xbr", "ybr"), box.tolist(), strict=True)
            shape = {"label": pool.classes[label], "occluded": "0", **{key: f"{v:.10g}" for key, v in corners}}
            ET.SubElement(image, "box", shape)
    ET.indent(top)
    return bytes(ET.tostring(top, encoding="utf-8"))


def _set(root: Path) -> _Set:
    return listing.kept(("cvat_xml", root), lambda: _parse(root))


def _is_one(head: bytes) -> bool:
    head = head.lstrip(b"\xef\xbb\xbf\xff\xfe").replace(b"\0", b"")
    return _BEGINS.match(head) is not None and _INSIDE.search(head) is not None


def _parse(root: Path) -> _Set:
    """Every file of CVAT below the root."""
    there = listing.below(root)
    parsed, tally = entries.Parsed(), Tally()
    files = _files(root, there, parsed)
    images = Resolver(there, sorted(there.images))
    frames: dict[str, tuple[str, int]] = {}
    films: list[cvat_film.Film] = []
    videos: list[tracks.Video] = []
    classes: dict[str, None] = {}
    for name, element in files:
        classes |= dict.fromkeys(_labels(element))
        _images(element, name, parsed, images, tally, frames)
        if element.find("track") is not None:
            videos += tracks.videos_of(element, name, tally)
    alone = Counter(dirname(video.xml) for video in videos)
    for video in videos:
        media = _media(video, there, parsed, alone=alone[dirname(video.xml)] == 1)
        if isinstance(media, str):
            films.append(cvat_film.Film(media, video, video.split or split_names.of_path(media)))
        elif media:
            _frames(video, media, parsed, tally, frames)
        else:
            what = f"no images {' or '.join(sorted(video.names))}/frame_000000.*, no video of that name beside it"
            parsed.problems.append(Problem("video without images", video.xml, what, "left out, with its tracks"))
    if films and parsed.entries:
        for film in films:
            what = "the data set has images too; give the videos a folder of their own"
            parsed.problems.append(Problem("video beside images", film.name, what, "left out"))
        films = []
    if not films:
        parsed.add_images(list(images.files))
    parsed.problems += [*tally.problems(), *images.problems()]
    used = (one.name for entry in parsed.entries.values() for one in entry.objects)
    filmed = (track.label for film in films for track in film.video.tracks)
    parsed.classes = list(classes | dict.fromkeys(sorted({*used, *filmed} - set(classes))))
    clips_of.sort(parsed, frames)
    return _Set(parsed, frames, films)


def _files(root: Path, there: listing.Listing, parsed: entries.Parsed) -> list[tuple[str, ET.Element]]:
    """The files of CVAT; those that are broken are told."""
    found = []
    broken: list[LabelwiseError] = []
    for name in there.of(".xml"):
        if not _is_one(text_files.head(root / name)):
            continue
        parsed.sources.add(name)
        try:
            found.append((name, text_files.xml_of(root / name)))
        except LabelwiseError as error:
            broken.append(error)
            what = str(error).removeprefix(str(root / name)).lstrip(": ")
            parsed.problems.append(Problem("malformed annotation", name, what, "left out"))
    if broken and not found:
        raise broken[0]
    if not found:
        raise LabelwiseError(f"{root}: no XML file of CVAT here; expected {LOOKS_FOR}.")
    return found


def _labels(element: ET.Element) -> Iterator[str]:
    """Labels of shapes in their order."""
    for label in element.iterfind("meta//label"):
        name = (label.findtext("name") or "").strip()
        if name and not label.findtext("parent") and (label.findtext("type") or "").strip() != "tag":
            yield name


def _images(
    element: ET.Element,
    xml: str,
    parsed: entries.Parsed,
    images: Resolver,
    tally: Tally,
    frames: dict[str, tuple[str, int]],
) -> None:
    """What a file says of single images."""
    bases = dict.fromkeys((dirname(xml), dirname(dirname(xml)), ""))
    exact = frozenset(images.files)
    filmed = (element.findtext("meta/task/mode") or element.findtext("meta/job/mode") or "").strip() == "interpolation"
    for number, one in enumerate(element.iterfind("image")):
        said, subset = one.get("name") or "", (one.get("subset") or "").strip()
        where = f"{xml}: image {one.get('id', number)}"
        folders = list(
            dict.fromkeys(join(base, "images" * k, subset * n) for base in bases for n in (1, 0) for k in (1, 0))
        )
        split = subset if split_names.is_split(subset) else ""
        name = next((join(folder, said) for folder in folders if join(folder, said) in exact), None)  # blanks and all
        name = name or (images.find(said, folders, where, split) if said else None)
        name = name or (images.find_stem(said, folders) if said else None)
        if name is None:
            tally.note("missing image", f"{where}: {said}", "the image is not there", "left out, with its boxes")
            continue
        known = name in parsed.entries
        entry = parsed.entry(name, subset or None)
        width, height = whole(one.get("width"), 10**7), whole(one.get("height"), 10**7)
        if width is not None and height is not None:
            entry.size_px = (width, height)
        objects = list(_objects(one, where, tally))
        if known:
            tally.note("image annotated twice", where, "another file or entry names it", "equal objects are read once")
            before = {(old.box, old.name) for old in entry.objects}
            objects = [new for new in objects if (new.box, new.name) not in before]
        entry.objects += objects
        frame = tracks.frame_number(name) if filmed else None
        if frame is not None:
            frames[name] = dirname(name), frame


def _objects(image: ET.Element, where: str, tally: Tally) -> Iterator[entries.Object]:
    for number, shape in enumerate(image, start=1):
        place, label = f"{where} shape {number}", (shape.get("label") or "").strip()
        if shape.tag == "tag":
            tally.note("image tag", place, "a tag of the whole image", "left out")
        elif not label:
            tally.note("object without class", place, "a shape without a label", "left out")
        elif (box := box_of(shape, place, tally)) is not None:
            yield entries.Object(box, label, place)


def _media(video: tracks.Video, there: listing.Listing, parsed: entries.Parsed, *, alone: bool) -> str | list[str]:
    """The images that are the frames of a video, or the name of the video file; nothing where there is neither."""
    place = dirname(video.xml)
    beside = f"{place}/" if place else ""
    images = [name for name in there.images if name.startswith(beside) and name not in parsed.entries]
    own = [name for name in images if video.names & {part.casefold() for part in name[len(beside) :].split("/")[:-1]}]
    films = [name for name in there.of(*_VIDEOS) if name.startswith(beside)]
    named = [name for name in films if splitext(basename(name))[0].casefold() in video.names]
    if own:
        return own
    if alone and any(tracks.frame_number(name) is not None for name in images):
        return images
    if len(named) == 1 or (alone and len(films) == 1):
        return (named or films)[0]
    return images if alone else []


def _frames(
    video: tracks.Video,
    images: list[str],
    parsed: entries.Parsed,
    tally: Tally,
    frames: dict[str, tuple[str, int]],
) -> None:
    """What a file says of frames that are images."""
    image_of, sure = tracks.numbers(images, video)
    if not sure:
        what = f"{len(images)} images, not frame_000000 and so on, for {video.size or 'an unknown number of'} frames"
        tally.note("frames by their order", video.xml, what, "the first image is the first frame")
    for frame in video.looked_at:
        if frame in image_of:
            parsed.entry(image_of[frame], video.split or None).size_px = video.size_px
    folder = dirname(min(images))
    if video.is_film:
        frames |= {name: (folder, frame) for frame, name in image_of.items()}
    for track in video.tracks:
        for key in track.keys:
            if key.box is not None and key.frame not in image_of:
                tally.note("label without image", key.where, "no image of this frame", "left out")
        for frame, box, where, drawn in tracks.boxes_at(track, sorted(image_of)):
            if not drawn:
                tally.note("box between key frames", where, "no box in the file for this frame", "interpolated evenly")
            entry = parsed.entry(image_of[frame], video.split or None)
            entry.objects.append(entries.Object(box, track.label, where))
