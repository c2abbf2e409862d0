"""COCO detection JSON.

Read: every COCO file below a folder, or one file. Its name says the split (`instances_train2017.json`, `train.json`,
`my_train_2.json`, `valid/_annotations.coco.json`); where it says none (`labels.json`), the folders of its images do
(`train/a.jpg`). Several files of a split are read as one. Images are looked for in `images/<split>/`, `<split>/`,
`images/`, `data/`, beside the file and below the folder (see `resolve`), by `file_name`, then `path` and `coco_url`.

Classes are matched by name over all files: those of the first (train before val), ordered by category id where ids
are numbers, then what others add. `bbox` counts; without one the box around the segmentation (polygons, run lengths)
does. `iscrowd` boxes become `Pool.crowd`. An image without annotations was looked at, and is empty; not so in a file
without the list `annotations` (`image_info`), and with LVIS's lists of classes that were looked for.

Images with `video_id` and `frame_id` (or `frame_index`, `frame_number`) are frames of videos: the pool then has
`clips`, and its images stand in the order of video id and frame. The list `videos` gives names and `fps`; without
them a video is called by its id and shown at 25 frames a second.

| kind of problem | handling |
|---|---|
| malformed annotation, image entry, category; label without image; unknown class id; missing image | left out |
| annotation without box (image tags, key points alone), box without numbers | left out |
| polygon (no bbox) | the box around it |
| rotated box (`bbox` of 5 numbers: centre, sides, degrees; of 8: corners; `attributes.rotation`) | the box around it |
| numbers as text | read as numbers |
| duplicate id (two images, two categories) | the boxes of that id are left out |
| image listed twice (one file, two ids) | boxes of both are kept |
| two categories of one name | one class |
| unused super category (no box has it, others name it, it has none) | left out of the classes |
| federated labels (LVIS) | `Pool.complete` is False for these images |
| several annotation files (of a split) | read as one |
| second annotation file (captions, key points, panoptic, stuff beside instances) | not read |

Written: `annotations/instances_<split>.json` and `<split>/`, with the fields of videos where the pool has them. A crowd
region is written with the first category, because a `Pool` keeps no class for it.

Fails when: the JSON does not fit in memory (about five times the file's size without its polygons).
"""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from labelwise.data import _coco_files as files
from labelwise.data import _coco_images as images
from labelwise.data import _coco_video as coco_video
from labelwise.data import clean, entries, listing, split_names, staging
from labelwise.types import LabelwiseError, Pool, Problem
from labelwise.types.disk import new_folder

LOOKS_FOR = "annotations/instances_<split>.json, <split>.json, <split>/_annotations.coco.json, or one COCO JSON file"
CARRIES = frozenset(("clips", "crowd", "elsewhere"))
"""What `write` holds beyond boxes and classes (see `convert`)."""

_FILE = "instances_{}.json"


def detect(root: Path) -> bool:
    """Whether there is a COCO file."""
    return files.any_below(root)


def splits(root: Path) -> tuple[str, ...]:
    """Names of the splits."""
    with listing.once():
        found = files.of(root).read
        named = {split for split in found if split}
        alone = False
        for part in _parts(root, found.get("", [])):
            own = {split_names.of_path(name) for name in part.names if name is not None}
            named, alone = named | (own - {""}), alone or "" in own
        return (*split_names.in_order(named), *([entries.ALL] if named and alone else []))


def read(root: Path, split: str | None = None) -> Pool:
    """Images and boxes of a split."""
    with listing.once():
        return _read(root, split)


def _read(root: Path, split: str | None) -> Pool:
    found = files.of(root)
    if not found.read:
        raise LabelwiseError(f"{root}: no COCO file here; expected {LOOKS_FOR}.")
    parts, told = _chosen(root, found, split)
    every = _parts(root, sorted((file for group in found.read.values() for file in group), key=_order))
    classes = images.classes(every)
    problems = [*told, *classes.problems, *entries.classes_alike(root, classes.names)]
    number: dict[str, int] = {}
    places = [[(name, i) for i in part.chosen if (name := part.names[i]) is not None] for part in parts]
    frames = coco_video.frames([(part.made, place) for part, place in zip(parts, places, strict=True)], problems)
    listed = [name for place in places for name, _ in place]
    order = sorted(range(len(frames)), key=lambda k: (frames[k].video, frames[k].number))
    for k in order or range(len(listed)):
        number.setdefault(listed[k], len(number))
    said = np.full((len(number), 2), -1, np.int64)
    complete = np.zeros(len(number), bool)
    rows = []
    for part, place in zip(parts, places, strict=True):
        made = part.made
        problems += [*made.problems, *_of_images(part), *_twice(part, place)]
        numbers = np.full(len(made.ids) + 1, -1, np.int64)
        entry = np.array([i for _, i in place], np.int64)
        numbers[entry] = [number[name] for name, _ in place]
        new = entry[(said[numbers[entry]] < 0).all(axis=1)]
        said[numbers[new]] = made.said_px[new]
        complete[numbers[entry[~made.unsure[entry]]]] = True
        rows.append(_rows(part, numbers, classes.number[made.path]))
    labelled = any(part.made.labelled for part in parts)
    pool = clean.pool(
        listing.below(root).root,
        classes.names,
        list(number),
        _join(rows) if labelled else None,
        problems,
        said_px=said,
        complete=None if complete.all() else complete,
        sources=found.sources,
    )
    return coco_video.with_clips(pool, [listed[k] for k in order], [frames[k] for k in order]) if frames else pool


def _order(file: files.Found) -> tuple[int, str]:
    """Train before val before test, and those before others."""
    plain = file.split.rstrip("0123456789").rstrip("-_").lower()
    return split_names.NAMES.index(plain) if plain in split_names.NAMES else len(split_names.NAMES), file.path


def _parts(root: Path, found: Sequence[files.Found]) -> list[images.Part]:
    """Those files that can be read; the splits of the others say what is wrong with them."""
    parts = []
    for file in found:
        try:
            parts.append(images.part(root, file))
        except LabelwiseError:
            continue
    return parts


def _chosen(root: Path, found: files.Files, split: str | None) -> tuple[list[images.Part], list[Problem]]:
    """The files of a split, and what is told of those that are not read."""
    try:
        split = clean.choose(root, splits(root), split)
    except LabelwiseError:
        same = [file for group in found.read.values() for file in group if Path(file.path).stem == split]
        if not same:
            raise
        return [images.part(root, file) for file in same], []  # a file of one's own, by its name
    told = [problem for of_split, problem in found.others if of_split in ("", split)]
    parts: list[images.Part] = []
    broken: list[LabelwiseError] = []
    for file in (*found.read.get(split or "", []), *(found.read.get("", []) if split else [])):
        try:
            part = images.part(root, file)
        except LabelwiseError as error:
            broken.append(error)
            told.append(Problem("malformed annotation", file.path, str(error), "the file can't be read"))
            continue
        if not file.split:
            part = part.of_split("" if split in (None, entries.ALL) else split or "")
            if split and not part.chosen:
                continue
        parts.append(part)
    if broken and not parts:
        raise broken[0]
    return parts, told


def _of_images(part: images.Part) -> list[Problem]:
    """What is told of the paths of images, and of images that nobody has looked at."""
    found, unsure = list(part.problems), int(part.made.unsure.sum())
    if not part.made.labelled and unsure:
        what = f"{unsure} images in a file without the list `annotations`"
        found.append(Problem("image without labels", part.made.path, what, "nobody has looked at them", unsure))
    return found


def _twice(part: images.Part, place: Sequence[tuple[str, int]]) -> list[Problem]:
    """Images that have several entries."""
    first: dict[str, int] = {}
    found = []
    for name, i in place:
        if first.setdefault(name, i) != i:
            where = f"{part.made.path}: image id {part.made.ids[i]}"
            found.append(Problem("image listed twice", where, f"{name} has another id too", "boxes of both are kept"))
    return found


def _rows(part: images.Part, numbers: np.ndarray, classes: np.ndarray) -> tuple[clean.Rows, images.Part, np.ndarray]:
    """The boxes of a file on the images that are there, and which of its rows they are."""
    made = part.made
    kept = np.flatnonzero(numbers[made.image] >= 0)
    label = classes[made.category[kept]] if len(kept) else np.zeros(0, np.int64)
    rows = clean.Rows(numbers[made.image[kept]], made.xyxy[kept], label, made.crowd[kept], str)
    return rows, part, kept


def _join(parts: Sequence[tuple[clean.Rows, images.Part, np.ndarray]]) -> clean.Rows:
    if not parts:
        return clean.Rows.of([], [])
    starts = np.cumsum([0, *(len(kept) for _, _, kept in parts)])

    def where(row: int) -> str:
        k = int(np.searchsorted(starts, row, "right")) - 1
        _, part, kept = parts[k]
        return part.made.where(int(kept[row - starts[k]]))

    image, xyxy, labels, crowd = (
        np.concatenate([getattr(rows, key) for rows, _, _ in parts]) for key in ("image", "xyxy", "labels", "crowd")
    )
    return clean.Rows(image, xyxy, labels, crowd, where)


def write(pool: Pool, root: Path, split: str, *, copy_images: bool = True, write_images: bool = True) -> None:
    """Write a split. `copy_images=False` links the images; `write_images=False` writes none: file names are then the
    paths from `root` to where the images lie (`../data/a.jpg`), as long as they are files on disk.
    """
    path = root / "annotations" / _FILE.format(split)
    if path.exists():
        raise LabelwiseError(f"{path}: exists already. Choose another folder or split, or remove it first.")
    if not write_images and pool.frames is None and pool.pixels is None and not staging.in_store(pool):
        base = Path(os.path.abspath(root))  # noqa: PTH100 (keeps links)
        below = Path(os.path.abspath(pool.root))  # noqa: PTH100
        staging.text(path, to_json(pool, [clean.relative(below / name, base) for name in pool.names]))
        return
    names = staging.file_names(pool)
    with new_folder(root / "images" / split) as folder:
        staging.images(pool, names, folder, copy_images)
    staging.text(path, to_json(pool, names))


def to_json(pool: Pool, names: Sequence[str]) -> str:
    """The annotation file of a pool whose images are called `names`."""
    annotations: list[dict[str, Any]] = []
    for boxes, labels, crowd in (
        (pool.truth, pool.truth.labels if pool.truth else (), 0),
        (pool.crowd, np.zeros(len(pool.crowd.xyxy), np.int64) if pool.crowd else (), 1),
    ):
        if boxes is None:
            continue
        xywh = boxes.xyxy.astype(np.float64)
        xywh[:, 2:] -= xywh[:, :2]
        images = np.repeat(np.arange(len(pool)), np.diff(boxes.offsets))
        for image, label, box in zip(images.tolist(), np.asarray(labels).tolist(), xywh.tolist(), strict=True):
            row = {"id": len(annotations) + 1, "image_id": image + 1, "category_id": label + 1, "bbox": box}
            annotations.append(row | {"area": box[2] * box[3], "iscrowd": crowd, "segmentation": []})
    sizes = zip(names, pool.width_px.tolist(), pool.height_px.tolist(), strict=True)
    content = {
        "images": [{"id": i + 1, "file_name": n, "width": w, "height": h} for i, (n, w, h) in enumerate(sizes)],
        "categories": [{"id": c + 1, "name": name} for c, name in enumerate(pool.classes)],
        "annotations": annotations,
    }
    if pool.clips is not None:
        coco_video.write(pool.clips, content)
    return json.dumps(content, separators=(",", ":"))
