"""COCO detection JSON.

Read: `annotations/instances_<split>.json`, `<split>.json` or `<split>/_annotations.coco.json` in a folder, or one JSON
file; the images beside it in `images/<split>/`, `<split>/`, `images/`, or the folder itself. Classes are ordered by
category id (ids need not be contiguous). `iscrowd` boxes become `Pool.crowd`. Segmentation is ignored: `bbox` counts.

Images with `video_id` and `frame_id` (or `frame_index`, `frame_number`) are frames of videos: the pool then has
`clips`, and its images stand in the order of video id and frame. The list `videos` gives names and `fps`; without
them a video is called by its id and shown at 25 frames a second. An image without `video_id` among them is a video of
its own.

Written: `annotations/instances_<split>.json` and `<split>/`, with the fields of videos where the pool has them. A crowd
region is written with the first category, because a `Pool` keeps no class for it.

Fails when: two categories have one name (an error), or the JSON does not fit in memory.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np

from labelwise.data import _coco_video as coco_video
from labelwise.data import clean, staging
from labelwise.types import LabelwiseError, Pool, Problem
from labelwise.types.disk import new_folder

LOOKS_FOR = "annotations/instances_<split>.json, <split>.json, <split>/_annotations.coco.json, or one COCO JSON file"

_FILE = "instances_{}.json"
_ROBOFLOW = "_annotations.coco.json"


def detect(root: Path) -> bool:
    """Whether there is a COCO file."""
    return bool(_files(root))


def splits(root: Path) -> tuple[str, ...]:
    """Names of the splits."""
    return tuple(_files(root))


def read(root: Path, split: str | None = None) -> Pool:
    """Images and boxes of a split."""
    found = _files(root)
    split = clean.choose(root, tuple(found), split)
    if split is None:
        raise LabelwiseError(f"{root}: no COCO file here; expected {LOOKS_FOR}.")
    path = found[split]
    base = root if root.is_dir() else root.parent
    content = _parse(path)
    categories = _by_id(content, "categories", path, ("name",))
    images = coco_video.in_order(_by_id(content, "images", path, ("file_name",)), path)
    class_of = {category: number for number, category in enumerate(sorted(categories))}
    problems: list[Problem] = []
    number, names = _images(images, _Finder(base, split, path), path, problems)
    said = np.full((len(names), 2), -1, np.int64)
    for key, entry in images.items():
        width, height = entry.get("width"), entry.get("height")
        if isinstance(width, int) and isinstance(height, int):
            said[number[key]] = width, height
    rows, ids = [], []
    for a, annotation in enumerate(content.get("annotations", ())):
        image, box, category, crowd = _annotation(annotation, f"{path}: annotations[{a}]")
        where = f"{path.name}: annotation id {annotation.get('id', f'(entry {a})')}"
        if image not in number:
            problems.append(Problem("label without image", where, f"image_id {image!r} is not in images", "left out"))
        elif category not in class_of:
            what = f"category_id {category!r} is not in categories"
            problems.append(Problem("unknown class id", where, what, "left out"))
        else:
            x, y, w, h = box
            rows.append((number[image], (x, y, x + w, y + h), class_of[category], crowd))
            ids.append(where)
    classes = [str(categories[category]["name"]) for category in sorted(categories)]
    pool = clean.pool(base, classes, names, clean.Rows.of(rows, ids), problems, said_px=said)
    return coco_video.with_clips(pool, [(name, images[key]) for name, key in _first_of(number, names)], content, path)


def write(pool: Pool, root: Path, split: str, *, copy_images: bool = True) -> None:
    """Write a split; `copy_images=False` links the images."""
    path = root / "annotations" / _FILE.format(split)
    if path.exists():
        raise LabelwiseError(f"{path}: exists already. Choose another folder or split, or remove it first.")
    names = staging.file_names(pool)
    with new_folder(root / split) as folder:
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


def _files(root: Path) -> dict[str, Path]:
    """Split -> annotation file."""
    if root.is_file():
        return {root.stem.removeprefix("instances_"): root} if root.suffix == ".json" and _is_coco(root) else {}
    instances = sorted((root / "annotations").glob(_FILE.format("*")))
    others = [p for p in sorted((root / "annotations").glob("*.json")) if not instances and _is_coco(p)]
    roboflow = sorted(root.glob(f"*/{_ROBOFLOW}"))
    plain = [p for p in sorted(root.glob("*.json")) if not (instances or others or roboflow) and _is_coco(p)]
    found = {path.stem.removeprefix("instances_"): path for path in (*instances, *others)}
    return found | {path.parent.name: path for path in roboflow} | {path.stem: path for path in plain}


def _is_coco(path: Path) -> bool:
    content = path.read_bytes()
    return b'"images"' in content and b'"categories"' in content


def _parse(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, UnicodeDecodeError) as error:
        line = f":{error.lineno}" if isinstance(error, json.JSONDecodeError) else ""
        raise LabelwiseError(f"{path}{line}: broken JSON ({error}). Export the file again.") from error
    if not isinstance(content, dict) or not all(isinstance(content.get(k, []), list) for k in _KEYS):
        raise LabelwiseError(f"{path}: expected an object with the lists {', '.join(_KEYS)}.")
    return content


_KEYS = ("images", "annotations", "categories")


def _by_id(content: dict[str, Any], key: str, path: Path, fields: tuple[str, ...]) -> dict[Any, dict[str, Any]]:
    found: dict[Any, dict[str, Any]] = {}
    for i, entry in enumerate(content.get(key, ())):
        if not isinstance(entry, dict) or not isinstance(entry.get("id"), int) or any(f not in entry for f in fields):
            raise LabelwiseError(
                f"{path}: {key}[{i}] is {str(entry)[:80]}; expected id (a whole number), {', '.join(fields)}."
            )
        if entry["id"] in found:
            raise LabelwiseError(f"{path}: {key}[{i}]: id {entry['id']} was used before. Give every entry its own id.")
        found[entry["id"]] = entry
    return found


def _annotation(annotation: Any, where: str) -> tuple[int, list[float], int, bool]:
    try:
        box = [float(v) for v in annotation["bbox"]]
        if len(box) != 4:
            raise ValueError
        return annotation["image_id"], box, annotation["category_id"], bool(annotation.get("iscrowd", 0))
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        what = f"{where} is {str(annotation)[:120]}"
        raise LabelwiseError(f"{what}; expected image_id, category_id and bbox [x, y, width, height].") from error


class _Finder:
    """Where the images lie: the first of the usual folders that holds the file, tried first for the next one."""

    def __init__(self, base: Path, split: str, path: Path) -> None:
        folders = (base / "images" / split, base / split, path.parent, base / "images", base)
        self.folders = [folder for folder in dict.fromkeys(folders) if folder.is_dir()]
        self.base = base

    def __call__(self, file: str) -> str:
        for folder, name in product(self.folders, clean.spellings(file)):
            if (folder / name).is_file():
                self.folders.remove(folder)
                self.folders.insert(0, folder)
                return clean.relative(folder / name, self.base)
        return clean.relative((self.folders or [self.base])[0] / file, self.base)


def _images(
    images: dict[Any, dict[str, Any]], find: _Finder, path: Path, problems: list[Problem]
) -> tuple[dict[Any, int], list[str]]:
    """Image id -> number, and the names; entries with one file are one image."""
    number: dict[Any, int] = {}
    seen: dict[str, int] = {}
    for key, image in images.items():
        name = find(str(image["file_name"]))
        if name in seen:
            where = f"{path.name}: image id {key}"
            problems.append(
                Problem("image listed twice", where, f"{name} has another id too", "boxes of both are kept")
            )
        number[key] = seen.setdefault(name, len(seen))
    return number, list(seen)


def _first_of(number: dict[Any, int], names: list[str]) -> list[tuple[str, Any]]:
    """(name, image id) of every image, of the first entry where there are several."""
    key_of = {i: key for key, i in reversed(number.items())}
    return [(name, key_of[i]) for i, name in enumerate(names)]
