"""YOLO: one text file per image, rows `class cx cy width height` as shares of the image; Ultralytics, darknet, CVAT.

Read: what `data.yaml` (any YAML with `names` and `train` or `val`, also in a subfolder) or darknet's `obj.data` names:
folders, lists of images, images. Without such a file: lists called `train.txt`, else folders called after splits, else
everything. Classes: `names` of the file, `classes.txt`, `obj.names`, `notes.json`; else they are called by their
numbers. `val` and `valid` are one. Which label file belongs to an image: `_yolo_pairs`; what a row may be (polygons,
rotated boxes, key points, a confidence): `_yolo_rows`; pixels instead of shares: `_yolo_boxes`.

An empty label file says that there is nothing on the image; no label file, that nobody has looked at it.

| kind of problem | handling |
|---|---|
| broken entry (a row that is no row, a file that cannot be read) | left out |
| unknown class id | the boxes are left out |
| class name twice | taken as one class |
| class id without name, class count differs, class name that is no text | told |
| class lists differ, class list not read | the first that can be read counts |
| classes without names | called by their numbers |
| polygon, rotated box, key points, extra column | the upright box is read |
| pixels for shares | read where it is clear what they mean |
| shares among pixels | left out |
| image without labels | `Pool.complete` is False there |
| label without image | left out |
| label file of several images | read for each of them |
| several label files | that in labels/ is read |
| ambiguous label | left out |
| path not found | the images of the folder of that name are read, or the split is left out |
| missing image (in a list) | left out |
| split not named (by the file) | read, by the name of its folder |
| image outside the splits | left out |
| data set file in a subfolder | read |
| second data set file | not read |

Paths that are found otherwise than written: `resolve`. Rows that are no boxes of the image: `clean`.

Written: `data.yaml`, `<split>/images/`, `<split>/labels/`. Without `path`, trainers count from the folder of data.yaml.
They ask for `train` and `val`: one that is not written yet is another split again, and `labelwise_stand_ins` says so.
YOLO knows no crowd regions: writing a pool that has some is an error.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from labelwise.data import _yolo_boxes as yolo_boxes
from labelwise.data import _yolo_classes as yolo_classes
from labelwise.data import _yolo_set as yolo_set
from labelwise.data import clean, staging, text_files
from labelwise.data._yolo_config import STAND_INS
from labelwise.types import LabelwiseError, Pool
from labelwise.types.disk import new_folder

LOOKS_FOR = (
    "data.yaml (or another .yaml with `names` and `train`/`val`), obj.data, or text files with rows "
    "`class cx cy width height` for images"
)
CARRIES = frozenset(("unlabelled",))
"""What `write` holds beyond boxes and classes (see `convert`)."""

_TRAINERS_NEED = ("train", "val")
_KEYS = ("path", "names", "nc", "download", "channels", "kpt_shape", STAND_INS)
_HEAD = "# Paths count from the folder of this file.\n"


def detect(root: Path) -> bool:
    """Whether a file describes a YOLO data set, or label files with such rows lie beside images."""
    return yolo_set.recognise(root)


def splits(root: Path) -> tuple[str, ...]:
    """Names of the splits; none where no file and no folder names one."""
    found = yolo_set.load(root)
    return () if found is None else found.splits


def read(root: Path, split: str | None = None) -> Pool:
    """Images and boxes of a split."""
    data = yolo_set.load(root)
    if data is None:
        raise LabelwiseError(f"{root}: no YOLO data set here; expected {LOOKS_FOR}.")
    chosen = clean.choose(root, data.splits, split) or ""
    names = data.layout.splits.get(chosen, [])
    if not names:
        first = next(iter(data.problems), None)
        why = f" First problem: {first.where}: {first.what}." if first is not None else ""
        raise LabelwiseError(f"{root}: no image of this data set is there.{why}")
    found = yolo_boxes.of_images(data, names)
    return clean.pool(
        data.root,
        data.classes.names,
        names,
        found.rows,
        [*data.problems, *data.layout.told.get(chosen, ()), *found.problems],
        normalised=True,
        complete=None if found.seen.all() else found.seen,
        sources=data.sources,
    )


def write(pool: Pool, root: Path, split: str, *, copy_images: bool = True) -> None:
    """Write a split; `copy_images=False` links the images. An image that nobody has looked at gets no text file."""
    if pool.crowd is not None and len(pool.crowd.xyxy):
        raise LabelwiseError(
            f"{pool.root}: has {len(pool.crowd.xyxy)} crowd regions, which YOLO can't hold. Write COCO or VOC."
        )
    if split in _KEYS:
        raise LabelwiseError(f"{split!r} is a key of data.yaml. Call the split otherwise.")
    path = root / "data.yaml"
    content: dict[str, Any] = _written(path) if path.exists() else {}
    if content and yolo_classes.of_value(content.get("names"), str(path)).names != pool.classes:
        raise LabelwiseError(f"{path}: has other classes than the pool. Choose another folder.")
    names = staging.file_names(pool)
    with new_folder(root / split) as folder:
        staging.images(pool, names, folder / "images", copy_images)
        (folder / "labels").mkdir()
        for i, name in enumerate(names if pool.truth is not None else ()):
            said = _txt(pool, i)
            if said or pool.complete is None or pool.complete[i]:
                (folder / "labels" / name).with_suffix(".txt").write_text(said, encoding="utf-8")
    staging.text(path, _data_yaml(content, pool, split))


def _data_yaml(content: dict[str, Any], pool: Pool, split: str) -> str:
    """What data.yaml says with one more split."""
    stand_ins = content.pop(STAND_INS, [])
    places = {key: at for key, at in content.items() if key not in (*_KEYS, *stand_ins)}
    places[split] = f"{split}/images"
    missing = [key for key in _TRAINERS_NEED if key not in places]
    first = next((key for key in ("train", "trainval", "val") if key in places), next(iter(places)))
    said = {**places, **dict.fromkeys(missing, places[first]), "nc": len(pool.classes), "names": list(pool.classes)}
    note = ""
    if missing:
        note = f"# {' and '.join(missing)}: {first} again, because trainers ask for train and val.\n"
        said[STAND_INS] = missing
    return _HEAD + note + yaml.safe_dump(said, sort_keys=False, allow_unicode=True)


def _written(path: Path) -> dict[str, Any]:
    content = text_files.yaml_of(path)
    if not isinstance(content, dict):
        raise LabelwiseError(f"{path}: expected keys such as names and train, got {type(content).__name__}.")
    return content


def _txt(pool: Pool, i: int) -> str:
    assert pool.truth is not None
    width, height = float(pool.width_px[i]), float(pool.height_px[i])
    rows = slice(*pool.truth.offsets[i : i + 2])
    lines = []
    for (x1, y1, x2, y2), label in zip(pool.truth.xyxy[rows].tolist(), pool.truth.labels[rows].tolist(), strict=True):
        fractions = (x1 + x2) / 2 / width, (y1 + y2) / 2 / height, (x2 - x1) / width, (y2 - y1) / height
        lines.append(f"{label} " + " ".join(f"{v:.10g}" for v in fractions) + "\n")
    return "".join(lines)
