"""The boxes of some images of a YOLO data set, as shares of the image, and what is told of their rows.

Where most rows have numbers above 1 they are pixels: as centre and size, or as corners, whichever keeps the boxes in
their images. Where both do, nobody can tell, and they are left out.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from labelwise.data import clean, image_reader, listing
from labelwise.data._yolo_set import YoloSet
from labelwise.types import LabelwiseError, Problem

_SAMPLE = 300
_SURE = 0.98
_SLACK_PX = 2.0


class Found(NamedTuple):
    """`seen`: images that have a label file."""

    rows: clean.Rows
    seen: np.ndarray
    problems: list[Problem]


def of_images(data: YoloSet, images: Sequence[str]) -> Found:
    """Boxes of images, in their order."""
    table = data.table
    number = {name: i for i, name in enumerate(data.label_files)}
    file = np.array([number.get(data.pairs.label_of.get(name, ""), -1) for name in images], np.int64)
    seen = (file >= 0) & ~np.isin(file, list(table.unreadable))
    offsets = np.searchsorted(table.file, np.arange(len(number) + 1))
    count = np.where(file >= 0, offsets[file + 1] - offsets[file], 0) if len(number) else np.zeros(len(file), np.int64)
    image = np.repeat(np.arange(len(images)), count)
    start = offsets[file] if len(number) else count
    row = np.repeat(start - (np.cumsum(count) - count), count) + np.arange(count.sum())
    problems = [problem for i in dict.fromkeys(file.tolist()) if (problem := table.problems.get(i)) is not None]
    if not seen.all():
        missing = np.flatnonzero(~seen)
        what = f"{len(missing)} of {len(images)} images have no label file"
        problems.append(
            Problem("image without labels", images[missing[0]], what, "nobody has looked at them", len(missing))
        )
    problems += _shapes(data, row)
    label, known = _labels(data, row, problems)
    box = table.box[row].copy()
    centred = ~table.hull[row]
    if pixels(data):
        known &= _to_shares(data, images, image, row, box, centred, problems)
    half = box[centred, 2:] / 2
    box[centred] = np.concatenate([box[centred, :2] - half, box[centred, :2] + half], axis=1)
    keep = np.flatnonzero(known)
    kept = row[keep]
    crowd = np.zeros(len(keep), np.bool_)
    rows = clean.Rows(image[keep], box[keep], label[keep], crowd, lambda i: _where(data, int(kept[i])))
    return Found(rows, seen, problems)


def pixels(data: YoloSet) -> bool:
    """Whether most rows of the data set are of pixels."""
    above = data.table.above_one
    return bool(len(above) and above.mean() >= 0.5)


def _where(data: YoloSet, row: int) -> str:
    return f"{data.label_files[data.table.file[row]]}:{data.table.line[row]}"


def _shapes(data: YoloSet, row: np.ndarray) -> list[Problem]:
    """Rows that say more than a box, each kind once."""
    table = data.table
    found = []
    hull = table.hull[row]
    for mask, kind, what, handling in (
        (hull & table.rotated, "rotated box", "of four corners", "the upright box around it is read"),
        (hull & (not table.rotated), "polygon", "of a polygon", "its hull box is read"),
        (table.keypoints[row], "key points", "with key points", "the box is read"),
        (table.extra[row], "extra column", "with one number more (a confidence or a track number)", "it is not read"),
    ):
        rows = row[mask]
        if len(rows):
            said = f"{len(rows)} {'row' if len(rows) == 1 else 'rows'} {what}"
            found.append(Problem(kind, _where(data, rows[0]), said, handling, len(rows)))
    return found


def _labels(data: YoloSet, row: np.ndarray, problems: list[Problem]) -> tuple[np.ndarray, np.ndarray]:
    """Numbers of the classes, and which rows have one."""
    ids, inverse = np.unique(data.table.label[row], return_inverse=True)
    numbers = np.array([data.classes.number.get(one, -1) for one in ids.tolist()], np.int64)
    label = numbers[inverse] if len(ids) else np.zeros(0, np.int64)
    for k in np.flatnonzero(numbers < 0).tolist():
        rows = row[inverse == k]
        names = len(data.classes.names)
        what = (
            f"class {ids[k]}, but {data.classes.origin or 'the data set'} names {names} classes ({data.classes.span})"
        )
        problems.append(Problem("unknown class id", _where(data, rows[0]), what, "left out", len(rows)))
    return label, label >= 0


def _to_shares(
    data: YoloSet,
    images: Sequence[str],
    image: np.ndarray,
    row: np.ndarray,
    box: np.ndarray,
    centred: np.ndarray,
    problems: list[Problem],
) -> np.ndarray:
    """Turns rows of pixels into shares, in place; gives which can be used."""
    how = listing.kept(("yolo pixels", data.root), lambda: _meaning(data))
    used = np.unique(image).tolist()
    size = np.ones((len(images), 2))
    for i in used:
        size[i] = _size(data, images[i])
    box /= np.tile(size[image], 2)
    if how == "corners":
        corners = box[centred]
        box[centred, :2], box[centred, 2:] = (corners[:, :2] + corners[:, 2:]) / 2, corners[:, 2:] - corners[:, :2]
    above = data.table.above_one[row]
    fit = above & (~centred | (how != "unclear"))
    handling = {"centre": "read as centre and size in pixels", "corners": "read as corners x1 y1 x2 y2 in pixels"}
    unclear = "left out: centre and size, or corners? Write shares of width and height"
    read = above & ~centred
    for mask, what, done in (
        (above & centred, "have numbers above 1: pixels, not shares of the image", handling.get(how, unclear)),
        (read, "are polygons in pixels, not in shares of the image", "the hull box is read"),
        (~above, "have shares of the image where most rows have pixels", "left out: shares or pixels?"),
    ):
        rows = row[mask]
        if len(rows):
            kind = "shares among pixels" if done.startswith("left out: shares") else "pixels for shares"
            problems.append(Problem(kind, _where(data, rows[0]), f"{len(rows)} rows {what}", done, len(rows)))
    return np.asarray(fit)


def _meaning(data: YoloSet) -> str:
    """What four pixels mean: `centre` and size, `corners`, or `unclear`."""
    table = data.table
    centred = np.flatnonzero(~table.hull & table.above_one)
    files = np.unique(table.file[centred])
    files = files[:: max(1, len(files) // _SAMPLE)]
    image_of = {name: image for image, name in data.pairs.label_of.items()}
    fits: Counter[str] = Counter()
    for file in files.tolist():
        width, height = _size(data, image_of[data.label_files[file]])
        rows = centred[slice(*np.searchsorted(table.file[centred], (file, file + 1)))]
        x, y, w, h = table.box[rows].T
        right, bottom = width + _SLACK_PX, height + _SLACK_PX
        inside = (np.minimum(x - w / 2, y - h / 2) >= -_SLACK_PX) & (x + w / 2 <= right) & (y + h / 2 <= bottom)
        corners = (w > x) & (h > y) & (w <= right) & (h <= bottom) & (np.minimum(x, y) >= -_SLACK_PX)
        fits["centre"] += int(inside.sum())
        fits["corners"] += int(corners.sum())
        fits["all"] += len(rows)
    sure = [how for how in ("centre", "corners") if fits[how] >= _SURE * max(fits["all"], 1)]
    return sure[0] if len(sure) == 1 else "unclear"


def _size(data: YoloSet, image: str) -> tuple[int, int]:
    """Width and height as displayed; 1 x 1 where the image cannot be read, and is told by others."""
    try:
        return image_reader.probe(data.root / image)[:2]
    except LabelwiseError:
        return 1, 1
