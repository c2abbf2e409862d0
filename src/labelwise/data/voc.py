"""Pascal VOC: one XML file (`<annotation>`) for each image, in any layout of folders.

The folders: `Annotations` beside `JPEGImages` with lists in `ImageSets/Main` (also several such folders below the
root, as in VOCdevkit: a split is the union over them, so that `trainval` is VOC0712); `images` beside `annotations`,
`annots`, `xmls`, ...; XML beside the images (labelImg; Roboflow's `train/`, `valid/`); each of these with folders
inside, or in the folders of splits; ImageNet's `Data` beside `Annotations`. XML files of RectLabel, roLabelImg,
LabelMe's web page, DIOR and FAIR1M are of this kind. Frames of videos (ImageNet VID: objects with `trackid`, a folder
for each video) make clips, 25 frames a second.

Which image an XML file means: the one that `<filename>` names, where that one is there; else the one of the XML file's
own name; else the one that `<path>` or `<folder>` and `<filename>` lead to. Where `<filename>` and the file's name mean
two images, `<filename>` counts, unless that image has an XML file of its own. A line of a list is one name, blanks and
all, unless a number stands at its end.

Splits: those of the lists; else the folders that are named like splits; else there is one, `all`.

Pixels: the VOC devkit counts from 1 and includes both ends, so xmin = 1, xmax = width is the whole image; in continuous
coordinates that box is [xmin - 1, xmax] (as detectron2 and the COCO converters read it). Other tools count from 0:
[xmin, xmax]. `first_pixel` says which; where nobody says, a data set counts from 0 if a side of a box lies at 0, and
no more than four times as many lie at 1. A box of xmin = xmax and ymin = ymax is a click that became no box: it is
reported as a zero-size box.

Classes: `classes.txt`, `label_list.txt` or `labels.txt` (one per line) at the root where there is one, else every name
in any of the XML files, sorted, so that all splits agree. `difficult` objects become `Pool.crowd`.

Written: `JPEGImages`, `Annotations`, `ImageSets/Main/<split>.txt` and `classes.txt`, pixels from 1; a crowd region is
written as a difficult object of the first class, because a `Pool` keeps no class for it.

| kind of problem | handling |
|---|---|
| malformed annotation (a broken XML file) | left out; nobody has looked at its image. All are: an error |
| label without image (an XML file whose image is not there, or whose `<filename>` is taken) | left out |
| image annotated twice (by two XML files) | the objects of both are read, those that are equal once |
| file name differs (`<filename>` names another image, or none that is there) | linked by the XML file's name |
| missing image (a list names it) | left out |
| image in no list, where there are lists | left out |
| image without labels (no XML file) | nobody has looked at it |
| pixels from 0 | read as `first_pixel = 0` |
| polygon, rotated box | its hull |
| box without numbers, object without class, deleted object | left out |
| unknown class id (`classes.txt` lacks the class) | left out |
"""

from __future__ import annotations

import filecmp
import re
import xml.etree.ElementTree as ET
from collections import defaultdict
from pathlib import Path
from posixpath import basename, dirname, splitext
from typing import NamedTuple

import numpy as np

from labelwise.data import _clips_of as clips_of
from labelwise.data import _voc_boxes as voc_boxes
from labelwise.data import _voc_links as voc_links
from labelwise.data import _voc_xml as voc_xml
from labelwise.data import entries, listing, staging, text_files
from labelwise.types import LabelwiseError, Pool, Problem
from labelwise.types.disk import new_folder

LOOKS_FOR = "Annotations/*.xml beside JPEGImages/ or images/, or XML beside the images (<annotation>, as of Pascal VOC)"
CARRIES = frozenset(("crowd", "unlabelled"))
"""What `write` holds beyond boxes and classes (see `convert`)."""
SPLIT = "ImageSets/Main/{}.txt"
"""What tells, in what `write` makes, which images a split has; other formats have a folder of its name."""

_CLASSES = ("classes.txt", "label_list.txt", "labels.txt")
_MOST_HEADS = 24


class _Set(NamedTuple):
    """What all files say, and which images are frames of videos: (video, number) by name."""

    parsed: entries.Parsed
    frames: dict[str, tuple[str, int]]


def detect(root: Path) -> bool:
    """Whether there are XML files of this kind, or lists of images beside `JPEGImages`."""
    if not root.is_dir():
        return False
    there = listing.below(root)
    names = there.of(".xml")
    every = max(1, len(names) // _MOST_HEADS)
    if any(voc_xml.is_one(text_files.head(root / name)) for name in names[::every]):
        return True
    folders = {basename(folder).lower() for folder in there.folders}
    if "jpegimages" in folders and ("imagesets" in folders or ("annotations" in folders and names)):
        return True
    return bool(_without_suffix(there))


def splits(root: Path) -> tuple[str, ...]:
    """Names of the splits; `all` where nothing says so."""
    return entries.splits(_set(root, None).parsed)


def read(root: Path, split: str | None = None, *, first_pixel: int | None = None) -> Pool:
    """Images and boxes of a split. `first_pixel`: 0 or 1, from which pixels count; None: as the boxes say."""
    found = _set(root, first_pixel)
    return clips_of.with_clips(entries.pool(root, found.parsed, split), found.frames)


def write(pool: Pool, root: Path, split: str, *, copy_images: bool = True) -> None:
    """Write a split; `copy_images=False` links the images. Images that another split wrote before must be the same. An
    image that nobody has looked at gets no XML file.
    """
    listing, classes = root / SPLIT.format(split), "".join(f"{c}\n" for c in pool.classes)
    if listing.exists():
        raise LabelwiseError(f"{listing}: exists already. Choose another folder or split, or remove it first.")
    if (root / "classes.txt").exists() and (root / "classes.txt").read_text(encoding="utf-8") != classes:
        raise LabelwiseError(f"{root / 'classes.txt'}: has other classes than the pool. Choose another folder.")
    if bad := [name for name in pool.classes if not name.isprintable()]:
        raise LabelwiseError(f"{pool.root}: the class {bad[0]!r} cannot be written to XML. Give it another name.")
    names = staging.file_names(pool)
    temporary = root / f".{split}"
    with new_folder(temporary) as folder:
        staging.images(pool, names, folder / "JPEGImages", copy_images)
        (folder / "Annotations").mkdir()
        for i, name in enumerate(names if pool.truth is not None else ()):
            content = _xml(pool, i, name)
            if pool.complete is None or pool.complete[i] or b"<object>" in content:
                (folder / "Annotations" / name).with_suffix(".xml").write_bytes(content)
    _move(temporary, root)
    staging.text(root / "classes.txt", classes)
    rows = "".join(f"{name}:::\n" for name in pool.classes)
    staging.text(root / "labelmap.txt", f"# label:color_rgb:parts:actions\n{rows}")  # datumaro and CVAT ask for it
    staging.text(listing, "".join(f"{Path(name).stem}\n" for name in names))


def _move(temporary: Path, root: Path) -> None:
    moves = [(path, root / path.relative_to(temporary)) for path in sorted(temporary.glob("*/*"))]
    try:
        for source, target in moves:
            if target.exists() and not filecmp.cmp(source, target, shallow=False):
                raise LabelwiseError(f"{target}: another split wrote another file of that name. Choose another folder.")
        for source, target in moves:
            target.parent.mkdir(parents=True, exist_ok=True)
            source.replace(target)
    finally:
        staging.remove(temporary)


def _xml(pool: Pool, i: int, name: str) -> bytes:
    root = ET.Element("annotation")
    if name.isprintable():  # else it is linked by the name of the XML file
        ET.SubElement(root, "filename").text = name
    size = ET.SubElement(root, "size")
    for key, value in (("width", pool.width_px[i]), ("height", pool.height_px[i]), ("depth", 3)):
        ET.SubElement(size, key).text = str(value)
    assert pool.truth is not None
    rows = slice(*pool.truth.offsets[i : i + 2])
    objects = [(b, pool.classes[c], "0") for b, c in zip(pool.truth.xyxy[rows], pool.truth.labels[rows], strict=True)]
    if pool.crowd is not None:
        objects += [(box, pool.classes[0], "1") for box in pool.crowd.of(i)]
    for box, label, difficult in objects:
        element = ET.SubElement(root, "object")
        ET.SubElement(element, "name").text = label
        ET.SubElement(element, "difficult").text = difficult
        bounds = ET.SubElement(element, "bndbox")
        pixels = box.astype(np.float64) + np.array([1, 1, 0, 0])  # from 1, both ends included
        pixels[2] += 0.001 * bool((pixels[:2] == pixels[2:]).all())  # else a box of one pixel reads as a click
        for key, value in zip(("xmin", "ymin", "xmax", "ymax"), pixels.tolist(), strict=True):
            ET.SubElement(bounds, key).text = f"{value:.10g}"
    ET.indent(root)
    return bytes(ET.tostring(root, encoding="utf-8"))


def _set(root: Path, first_pixel: int | None) -> _Set:
    return listing.kept(("voc", root, first_pixel), lambda: _parse(root, first_pixel))


def _parse(root: Path, first_pixel: int | None) -> _Set:
    """Every XML file below the root, linked to its image."""
    there = listing.below(root)
    parsed = entries.Parsed()
    files = _files(root, there, parsed)
    listed = voc_links.lists(there)
    if not files and not listed:
        raise LabelwiseError(f"{root}: no VOC data set here; expected {LOOKS_FOR}.")
    links = voc_links.Links(there)
    linked = links.of_files(files)
    first_pixel = voc_boxes.first_pixel_of(files, parsed.problems) if first_pixel is None else first_pixel
    by_image: dict[str, list[voc_xml.File]] = defaultdict(list)
    for file in files:
        if file.name in linked:
            by_image[linked[file.name]].append(file)
    for image, same in by_image.items():
        parsed.entries[image] = voc_boxes.entry_of(image, same, first_pixel, parsed.problems)
    missing = _add_images(root, parsed, links, linked, listed)
    parsed.problems += links.problems
    ambiguous = {}
    for problem in links.resolver.problems():
        if problem.kind != "ambiguous image":
            parsed.problems.append(problem)
        elif problem.where not in linked:
            ambiguous[problem.where] = problem
    parsed.problems += ambiguous.values()
    told = {*ambiguous, *(problem.where for problem in links.problems)}
    for file in files:
        stem = splitext(basename(file.name))[0]
        if file.name not in linked and file.name not in told and stem not in missing:
            said = file.filename.strip()
            what = f"no image {said} or {stem}.*" if said else f"no image {stem}.*"
            parsed.problems.append(Problem("label without image", file.name, what, "left out"))
    voc_boxes.tell_hulls(files, parsed.problems)
    parsed.classes = _classes(root, parsed)
    return _Set(parsed, _frames(parsed) if any(file.tracked for file in files) else {})


def _files(root: Path, there: listing.Listing, parsed: entries.Parsed) -> list[voc_xml.File]:
    """What the XML files say; those that are broken are told."""
    found: list[voc_xml.File] = []
    broken: list[tuple[str, str]] = []
    for name in (*there.of(".xml"), *_without_suffix(there)):
        try:
            element = text_files.xml_of(root / name)
        except LabelwiseError as error:
            broken.append((name, str(error)))
            continue
        if element.tag == "annotation":
            found.append(voc_xml.parse(element, name, parsed.problems))
            parsed.sources.add(name)
    folders = {dirname(file.name) for file in found}
    broken = [
        (name, message)
        for name, message in broken
        if dirname(name) in folders or not found or voc_xml.is_one(text_files.head(root / name))
    ]
    if broken and not found:
        raise LabelwiseError(broken[0][1])
    for name, message in broken:
        parsed.sources.add(name)
        said = message.removeprefix(str(root / name))
        place = re.match(r":\d+|", said)
        where = name + (place.group() if place else "")
        parsed.problems.append(
            Problem("malformed annotation", where, said.removeprefix(where[len(name) :]), "left out")
        )
    return found


def _without_suffix(there: listing.Listing) -> list[str]:
    """Files of this kind without a suffix in a folder of annotations, as Stanford Dogs has them."""
    names = [name for name in there.of("") if "annotation" in dirname(name).lower()]
    return [name for name in names if voc_xml.is_one(text_files.head(there.root / name, 256))]


def _add_images(
    root: Path,
    parsed: entries.Parsed,
    links: voc_links.Links,
    linked: dict[str, str],
    listed: dict[str, list[voc_links.List]],
) -> set[str]:
    """Puts every image into its split. Returns the names that lists have and that are not there, without suffix."""
    links.index_xml(linked, {one.base for files in listed.values() for one in files})
    bases: set[str] = set()
    missing: set[str] = set()
    for split, files in listed.items():
        for one in files:
            try:
                lines = text_files.lines(root / one.name)
            except LabelwiseError as error:
                parsed.problems.append(Problem("malformed annotation", one.name, str(error), "left out"))
                continue
            said = {number: line for number, line in enumerate(lines, start=1) if line}
            found = {k: links.listed(line, one.base, linked, f"{one.name}:{k}") for k, line in said.items()}
            if not one.sure and not any(found.values()):
                continue  # a text of another kind
            parsed.sources.add(one.name)
            bases.add(one.base)
            for number, image in found.items():
                if image is not None:
                    parsed.add(image, split)
                    continue
                line = said[number]
                missing |= {basename(name) for name in (line, line.rsplit(None, 1)[0], splitext(line)[0])}
                what = f"no image {line[:200]!r} below {one.base or root.name}"
                parsed.problems.append(Problem("missing image", f"{one.name}:{number}", what, "left out"))
    there = {name for names in parsed.splits.values() for name in names}
    inside = tuple(f"{base}/" if base else "" for base in bases)
    rest = [name for name in links.images if name not in there]
    left = [name for name in rest if name.startswith(inside)] if inside else []
    if left:
        what = f"{len(left)} images that no list in {', '.join(sorted(bases)) or root.name} names"
        parsed.problems.append(Problem("image in no list", left[0], what, "left out", len(left)))
        parsed.entries = {name: entry for name, entry in parsed.entries.items() if name in there}
    parsed.add_images([name for name in rest if not (inside and name.startswith(inside))])
    if set(parsed.splits) == {""}:
        parsed.splits = {entries.ALL: parsed.splits[""]}
    return missing


def _frames(parsed: entries.Parsed) -> dict[str, tuple[str, int]]:
    """The folder and number of every image; puts the images of each split in that order."""
    found: dict[str, tuple[str, int]] = {}
    for name in {name for names in parsed.splits.values() for name in names}:
        digits = re.findall(r"\d+", splitext(basename(name))[0])
        if digits and len(digits[-1]) < 16:
            found[name] = dirname(name), int(digits[-1])
    clips_of.sort(parsed, found)
    return found


def _classes(root: Path, parsed: entries.Parsed) -> list[str] | None:
    used = {one.name for entry in parsed.entries.values() for one in entry.objects}
    if (root / "labelmap.txt").is_file():  # it says no more than classes.txt
        parsed.sources.add("labelmap.txt")
    for name in _CLASSES:
        names = text_files.lines(root / name) if (root / name).is_file() else []
        if any(names) and (name == _CLASSES[0] or not used or not used.isdisjoint(names)):
            parsed.sources.add(name)
            return list(dict.fromkeys(filter(None, names)))
    return None
