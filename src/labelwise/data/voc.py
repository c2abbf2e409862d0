"""Pascal VOC XML: `Annotations/`, `JPEGImages/`, `ImageSets/Main/<split>.txt`.

Pixels: the VOC devkit counts from 1 and includes both ends, so xmin = 1, xmax = width is the whole image; in
continuous coordinates that box is [xmin - 1, xmax] (as detectron2 and the COCO converters read it). `first_pixel = 0`
reads files whose pixels count from 0: [xmin, xmax]. A box of xmin = xmax and ymin = ymax is a click that
became no box: it is reported as a zero-size box.

Without ImageSets there is one split, `all`. XML files that lie beside the images, in one folder, are read as well.

A root that holds several such folders (VOCdevkit with VOC2007 and VOC2012) is read as one: a split is the union over
those that have it, so `trainval` of VOCdevkit is VOC0712. Classes: `classes.txt` (one per line) where there is one,
else every name in any of the XML files, sorted, so that all splits agree. `difficult` objects become `Pool.crowd`.

Written: the same layout with `classes.txt`; a crowd region is written as a difficult object of the first class, because
a `Pool` keeps no class for it.
"""

from __future__ import annotations

import filecmp
import re
import xml.etree.ElementTree as ET
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from labelwise.data import clean, image_reader, staging
from labelwise.types import LabelwiseError, Pool, Problem
from labelwise.types.disk import new_folder

LOOKS_FOR = (
    "Annotations/*.xml beside JPEGImages/ (also one folder deeper, as in VOCdevkit/VOC2007), or XML beside images"
)
SPLIT = "ImageSets/Main/{}.txt"
"""What tells, in what `write` makes, which images a split has; other formats have a folder of its name."""

_ALL = "all"


class _Object(NamedTuple):
    name: str
    box: tuple[float, float, float, float]
    difficult: bool


class _File(NamedTuple):
    size: tuple[int, int]
    objects: list[_Object]


def detect(root: Path) -> bool:
    """Whether there is a folder with XML annotations."""
    return bool(_folders(root))


def splits(root: Path) -> tuple[str, ...]:
    """Names of the splits; `all` where no ImageSets say so."""
    # ImageSets/Main also holds one file per class and split, such as cat_train.txt
    names = {p.stem for folder in _folders(root) for p in (folder / "ImageSets" / "Main").glob("*.txt")}
    return tuple(sorted(n for n in names if n.rpartition("_")[2] not in names or "_" not in n)) or (_ALL,)


def read(root: Path, split: str | None = None, *, first_pixel: int = 1) -> Pool:
    """Images and boxes of a split."""
    folders = _folders(root)
    if not folders:
        raise LabelwiseError(f"{root}: no VOC data set here; expected {LOOKS_FOR}.")
    split = clean.choose(root, splits(root), split)
    files = {path: _parse(path) for folder in folders for path in sorted(_xml_of(folder).glob("*.xml"))}
    classes = _classes(root, files)
    number = {name: i for i, name in enumerate(classes)}
    problems: list[Problem] = []
    names, said, rows, where = [], [], [], []
    for picture, path in _entries(root, folders, split, problems):
        name = clean.relative(picture, root)
        names.append(name)
        if path not in files:
            problems.append(Problem("image without labels", name, f"no {path.name}", "counts as without objects"))
            said.append((-1, -1))
            continue
        said.append(files[path].size)
        for i, (label, (x1, y1, x2, y2), difficult) in enumerate(files[path].objects):
            place = f"{clean.relative(path, root)}: object {i + 1}"
            if label not in number:
                problems.append(Problem("unknown class id", place, f"{label!r} is not in classes.txt", "left out"))
                continue
            click = x1 == x2 and y1 == y2
            grow = 0 if click else first_pixel
            rows.append((len(names) - 1, (x1 - grow, y1 - grow, x2, y2), number[label], difficult))
            where.append(place)
    said_px = np.array(said, np.int64).reshape(-1, 2)
    return clean.pool(root, classes, names, clean.Rows.of(rows, where), problems, said_px=said_px)


def write(pool: Pool, root: Path, split: str, *, copy_images: bool = True) -> None:
    """Write a split; `copy_images=False` links the images. Images that another split wrote before must be the same."""
    listing, classes = root / SPLIT.format(split), "".join(f"{c}\n" for c in pool.classes)
    if listing.exists():
        raise LabelwiseError(f"{listing}: exists already. Choose another folder or split, or remove it first.")
    if (root / "classes.txt").exists() and (root / "classes.txt").read_text(encoding="utf-8") != classes:
        raise LabelwiseError(f"{root / 'classes.txt'}: has other classes than the pool. Choose another folder.")
    names = staging.file_names(pool)
    temporary = root / f".{split}"
    with new_folder(temporary) as folder:
        staging.images(pool, names, folder / "JPEGImages", copy_images)
        (folder / "Annotations").mkdir()
        for i, name in enumerate(names if pool.truth is not None else ()):
            (folder / "Annotations" / name).with_suffix(".xml").write_bytes(_xml(pool, i, name))
    _move(temporary, root)
    staging.text(root / "classes.txt", classes)
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
        for key, value in zip(("xmin", "ymin", "xmax", "ymax"), pixels.tolist(), strict=True):
            ET.SubElement(bounds, key).text = f"{value:.10g}"
    ET.indent(root)
    return bytes(ET.tostring(root, encoding="utf-8"))


def _folders(root: Path) -> list[Path]:
    found = [
        f for f in (root, *sorted(root.glob("*/"))) if (f / "Annotations").is_dir() and (f / "JPEGImages").is_dir()
    ]
    if not found and _beside(root):
        return [root]
    return found[:1] if found[:1] == [root] else found


def _beside(root: Path) -> bool:
    """Whether XML files of this format lie beside images."""
    first = next(root.glob("*.xml"), None) if root.is_dir() else None
    if first is None or not any(image_reader.is_image(path) for path in root.iterdir()):
        return False
    with first.open("rb") as file:
        return re.search(rb"<annotation[\s>]", file.read(4096)) is not None


def _xml_of(folder: Path) -> Path:
    return folder / "Annotations" if (folder / "Annotations").is_dir() else folder


def _images_of(folder: Path) -> Path:
    return folder / "JPEGImages" if (folder / "JPEGImages").is_dir() else folder


def _classes(root: Path, files: dict[Path, _File]) -> list[str]:
    listed = root / "classes.txt"
    if listed.is_file():
        return [line.strip() for line in listed.read_text(encoding="utf-8").splitlines() if line.strip()]
    return sorted({o.name for file in files.values() for o in file.objects})


def _entries(
    root: Path, folders: Sequence[Path], split: str | None, problems: list[Problem]
) -> list[tuple[Path, Path]]:
    """(image, annotation) of every entry of the split, or of every image where there are no splits."""
    found = []
    if split == _ALL and not any((folder / "ImageSets" / "Main").is_dir() for folder in folders):
        split = None
    for folder in folders:
        pictures = {p.stem: p for p in sorted(_images_of(folder).iterdir()) if image_reader.is_image(p)}
        stems = list(pictures)
        if split is not None:
            listing = folder / "ImageSets" / "Main" / f"{split}.txt"
            lines = listing.read_text(encoding="utf-8").splitlines() if listing.is_file() else []
            stems = list(dict.fromkeys(line.split()[0] for line in lines if line.strip()))
        else:
            for path in sorted(_xml_of(folder).glob("*.xml")):
                if path.stem not in pictures:
                    name = clean.relative(path, root)
                    problems.append(Problem("label without image", name, f"no image {path.stem}.*", "left out"))
        for stem in stems:
            picture = pictures.get(stem, _images_of(folder) / f"{stem}.jpg")
            found.append((picture, _xml_of(folder) / f"{stem}.xml"))
    return found


def _parse(path: Path) -> _File:
    try:
        root = ET.parse(path).getroot()
    except (ET.ParseError, UnicodeDecodeError) as error:
        line = f":{error.position[0]}" if isinstance(error, ET.ParseError) else ""
        raise LabelwiseError(f"{path}{line}: broken XML ({error}). Export the file again.") from error
    objects = []
    for i, element in enumerate(root.iter("object"), start=1):
        values = [element.findtext(f"bndbox/{key}", "") for key in ("xmin", "ymin", "xmax", "ymax")]
        name = (element.findtext("name") or "").strip()
        try:
            x1, y1, x2, y2 = map(float, values)
        except ValueError as error:
            where = f"{path}:{_line(path, i)}: object {i}"
            raise LabelwiseError(f"{where} has bndbox {values}; expected numbers xmin, ymin, xmax, ymax.") from error
        if not name:
            raise LabelwiseError(f"{path}:{_line(path, i)}: object {i} has no name; expected its class.")
        objects.append(_Object(name, (x1, y1, x2, y2), (element.findtext("difficult") or "0").strip() == "1"))
    return _File((_whole(root.findtext("size/width")), _whole(root.findtext("size/height"))), objects)


def _whole(text: str | None) -> int:
    return int(text) if text is not None and text.strip().isdigit() else -1


def _line(path: Path, nth: int) -> int:
    """Line of the n-th `<object>`; ElementTree does not keep lines."""
    text = path.read_text(encoding="utf-8", errors="replace")
    at = -1
    for _ in range(nth):
        at = text.find("<object", at + 1)
    return text.count("\n", 0, at) + 1
