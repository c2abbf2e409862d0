"""A Hugging Face `datasets` folder, as `Dataset.save_to_disk` and `DatasetDict.save_to_disk` write it.

    load_dataset("rishitdagli/cppe-5").save_to_disk("cppe")  # then: labelwise init cppe

Read, without the library: the column of type Image, and the objects: a column of structs with `bbox` and `category`
(also `boxes`, `label`, ...), a list of such structs, or two columns of lists. Boxes are x, y, width, height in pixels,
the convention of the hub. Classes are the names of a `ClassLabel`, of all splits, else the texts or numbers
themselves, sorted. Lists of anything else are an error that says what they are. `iscrowd` objects become `Pool.crowd`.
A row without a list (null) was not looked at; an empty list says that nothing is there. Without any such column the
images are a bare pool. Images stay in the tables and are decoded when they are asked for; an image is called by file
and row, `train/data-00000-of-00001.arrow#000012`.

| kind of problem | handling |
|---|---|
| unreadable image, missing image | left out, with its boxes |
| box of other than four finite numbers (box without numbers) | left out |
| number of classes differs (from that of boxes) | nobody has looked at the image |
| object without class, unknown class id | the box is left out |
| image without labels | `Pool.complete` is False there |

Written: one folder per split and `dataset_dict.json`, for `datasets.load_from_disk`; images are copied into the table,
or named by their path. A crowd region is written with the first class, because a `Pool` keeps no class for it.

Source: the format of `datasets` 2 to 5 on disk.
Fails when: boxes are corners or shares of the image; a row has a class and no boxes (write images as a folder per
class).
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa

from labelwise.data import _arrow as arrow
from labelwise.data import _arrow_writer as arrow_writer
from labelwise.data import clean, split_names, staging, text_files
from labelwise.data.image_reader import each
from labelwise.types import LabelwiseError, Pool, Problem
from labelwise.types.disk import new_folder

LOOKS_FOR = "dataset_dict.json, or dataset_info.json and state.json (a folder that `datasets` saved to disk)"
CARRIES = frozenset(("crowd", "unlabelled"))
"""What `write` holds beyond boxes and classes (see `convert`)."""

_DICT, _INFO, _STATE = "dataset_dict.json", "dataset_info.json", "state.json"
_FILE = "data-00000-of-00001.arrow"
_FLOAT: dict[str, Any] = {"dtype": "float64", "_type": "Value"}
_WHOLE: dict[str, Any] = {"dtype": "int64", "_type": "Value"}


class _Layout(NamedTuple):
    """Which columns are read: of the images, and of the objects (see `arrow.objects_of`)."""

    image: str
    objects: tuple[tuple[str, ...], str, str, str | None] | None
    names: list[str] | None


def detect(root: Path) -> bool:
    """Whether `datasets` has saved a data set here."""
    return (root / _DICT).is_file() or _is_one(root)


def splits(root: Path) -> tuple[str, ...]:
    """Names of the splits; none where a single `Dataset` was saved."""
    if not (root / _DICT).is_file():
        return ()
    said = text_files.json_of(root / _DICT)
    named = said.get("splits") if isinstance(said, dict) else None
    if not isinstance(named, list) or not all(isinstance(name, str) for name in named):
        raise LabelwiseError(f'{root / _DICT}: expected {{"splits": [names]}}. Save the data set again.')
    return tuple(split_names.in_order({name for name in named if _is_one(root / name)}))


def read(root: Path, split: str | None = None) -> Pool:
    """Images and boxes of a split."""
    if not detect(root):
        raise LabelwiseError(f"{root}: no data set of `datasets` here; expected {LOOKS_FOR}.")
    named = splits(root)
    chosen = clean.choose(root, named, split)
    if chosen is None and not _is_one(root):
        raise LabelwiseError(f"{root}: none of the splits that {_DICT} names is there. Save the data set again.")
    folder = root if chosen is None else root / chosen
    layout = _layout(folder)
    files = _files(folder)
    tables = [arrow.table_of(file) for file in files]
    row = np.concatenate([np.arange(len(table)) for table in tables] or [np.zeros(0, np.int64)])
    file = np.repeat(np.arange(len(tables)), [len(table) for table in tables])
    pictures = arrow.Pictures(files, layout.image, file, row)
    names = [f"{clean.relative(files[k], root)}#{r:06d}" for k, r in zip(file.tolist(), row.tolist(), strict=True)]
    problems: list[Problem] = []
    size_px = _sizes(pictures, names, problems)
    here = np.asarray((size_px > 0).all(axis=1))
    if not here.any():
        first = f" First problem: {problems[0].what}." if problems else ""
        raise LabelwiseError(f"{folder}: no image is there.{first}")
    rows, seen, classes = _rows(root, named, layout, list(zip(files, tables, strict=True)), names, problems)
    if rows is not None:
        new = np.cumsum(here) - 1
        kept = here[rows.image]
        where = rows.where
        at = np.flatnonzero(kept)
        rows = clean.Rows(
            new[rows.image[kept]], rows.xyxy[kept], rows.labels[kept], rows.crowd[kept], lambda k: where(int(at[k]))
        )
    number = np.flatnonzero(here)
    complete = None if rows is None or seen[here].all() else seen[here]
    pool = clean.pool(
        root,
        classes,
        [names[i] for i in number.tolist()],
        rows,
        problems,
        size_px=size_px[here],
        complete=complete,
        sources=frozenset(clean.relative(one, root) for one in files),
    )
    return Pool(**{**vars(pool), "frames": pictures.take(number)})


def _is_one(folder: Path) -> bool:
    return (folder / _INFO).is_file() and (folder / _STATE).is_file()


def _files(folder: Path) -> list[Path]:
    """The tables of a split, in their order."""
    said = text_files.json_of(folder / _STATE)
    listed = said.get("_data_files") if isinstance(said, dict) else None
    names = [one.get("filename") for one in listed if isinstance(one, dict)] if isinstance(listed, list) else []
    if not names or not all(isinstance(name, str) and Path(name).name == name for name in names):
        raise LabelwiseError(f"{folder / _STATE}: names no files of the data set. Save it again.")
    return [folder / str(name) for name in names]


def _features(folder: Path) -> dict[str, Any]:
    said = text_files.json_of(folder / _INFO)
    found = said.get("features") if isinstance(said, dict) else None
    if not isinstance(found, dict):
        raise LabelwiseError(f"{folder / _INFO}: tells no features. Save the data set again.")
    return found


def _layout(folder: Path) -> _Layout:
    features = _features(folder)
    images = [name for name, one in features.items() if isinstance(one, dict) and one.get("_type") == "Image"]
    if not images:
        raise LabelwiseError(
            f"{folder}: has no column of images; its columns are {', '.join(map(str, features))}. Make one: "
            'dataset.cast_column("image", datasets.Image())'
        )
    for name in ("objects", *features):
        fields = _inside(features.get(name))
        if found := _fields(fields):
            return _Layout(images[0], ((name,), *found), _names(fields[found[1]]))
    if found := _fields({name: one for name, one in features.items() if _is_list(one)}):
        return _Layout(images[0], ((), *found), _names(features[found[1]]))
    labelled = [name for name, one in features.items() if isinstance(one, dict) and one.get("_type") == "ClassLabel"]
    labelled += [found[1]] if (found := _fields(features)) else []
    if labelled:
        raise LabelwiseError(
            f"{folder}: {labelled[0]!r} is a class of the whole image, and no box has a class. Write the images into a "
            "folder per class, or, to have boxes drawn, remove that column: dataset.remove_columns(...)"
        )
    if "objects" in features:
        raise LabelwiseError(
            f"{folder}: the column 'objects' tells no boxes with their classes: it holds {_said(features['objects'])}; "
            f"expected a struct of lists, or a list of structs, with {' or '.join(arrow.BOXES)}, and with "
            f"{' or '.join(arrow.CLASSES)}. Rename its fields, or remove it, to have boxes drawn: "
            "dataset.remove_columns('objects')"
        )
    return _Layout(images[0], None, None)


def _said(feature: Any) -> str:
    """A feature in words, as far as one line holds it."""
    fields = _inside(feature)
    return f"the fields {', '.join(map(str, fields))}" if fields else f"{json.dumps(feature):.100}"


def _is_list(feature: Any) -> bool:
    if isinstance(feature, dict):
        return "feature" in feature or feature.get("_type") == "Array2D"
    return isinstance(feature, list)


def _inside(feature: Any) -> dict[str, Any]:
    """The fields of a struct, or of the structs of a list."""
    if isinstance(feature, list) and len(feature) == 1:
        feature = feature[0]
    if isinstance(feature, dict) and "_type" in feature and isinstance(feature.get("feature"), dict):
        feature = feature["feature"]
    return feature if isinstance(feature, dict) and not isinstance(feature.get("_type"), str) else {}


def _fields(features: dict[str, Any]) -> tuple[str, str, str | None] | None:
    """Names of boxes, classes and crowd flags among some columns."""
    boxes, classes, crowds = (
        next((name for name in known if name in features), None) for known in (arrow.BOXES, arrow.CLASSES, arrow.CROWDS)
    )
    return None if boxes is None or classes is None else (boxes, classes, crowds)


def _names(feature: Any) -> list[str] | None:
    """The names of a `ClassLabel`, in whatever list it stands."""
    while isinstance(feature, list | dict) and feature:
        if isinstance(feature, list):
            feature = feature[0]
        elif feature.get("_type") == "ClassLabel":
            names = feature.get("names")
            return [str(name) for name in names] if isinstance(names, list) else None
        else:
            feature = feature.get("feature")
    return None


def _sizes(pictures: arrow.Pictures, names: Sequence[str], problems: list[Problem]) -> np.ndarray:
    """Width and height of every image; 0 of one that cannot be read."""

    def size(image: int) -> tuple[int, int] | str:
        try:
            return pictures.header(image)[:2]
        except LabelwiseError as error:
            return str(error)

    found = np.zeros((len(names), 2), np.int64)
    for i, said in enumerate(each(size, range(len(names)))):
        if isinstance(said, str):
            problems.append(Problem("unreadable image", names[i], said, "the image is left out, with its boxes"))
        else:
            found[i] = said
    return found


def _rows(
    root: Path,
    named: Sequence[str],
    layout: _Layout,
    tables: Sequence[tuple[Path, pa.Table]],
    names: Sequence[str],
    problems: list[Problem],
) -> tuple[clean.Rows | None, np.ndarray, list[str]]:
    """The boxes of all images, which of these were looked at, and the classes of all splits."""
    if layout.objects is None:
        return None, np.zeros(len(names), np.bool_), []
    parts = [arrow.objects_of(table, *layout.objects, where=file) for file, table in tables]
    starts = np.cumsum([0, *(len(table) for _, table in tables)])
    image = np.concatenate([part.image + start for part, start in zip(parts, starts[:-1], strict=True)])
    for part, start in zip(parts, starts[:-1].tolist(), strict=True):
        for row in part.uneven.tolist():
            what = "it has another number of classes than of boxes"
            problems.append(Problem("number of classes differs", names[start + row], what, "not looked at"))
    said = [value for part in parts for value in part.category]
    classes = _classes(root, named, layout, said)
    number = {name: k for k, name in enumerate(classes)}
    if layout.names is not None:
        number |= {str(k): number[name] for k, name in enumerate(layout.names)}
    labels = np.array([-1 if value is None else number.get(str(value), -1) for value in said], np.int64)
    for k in np.flatnonzero(labels < 0).tolist():
        kind = "object without class" if said[k] is None else "unknown class id"
        what = f"its class is {said[k]!r}, of {len(classes)}"
        problems.append(Problem(kind, names[image[k]], what, "the box is left out"))
    box = np.concatenate([part.box for part in parts])
    xyxy = np.concatenate([box[:, :2], box[:, :2] + box[:, 2:]], axis=1)
    kept = np.flatnonzero(labels >= 0)
    crowd = np.concatenate([part.crowd for part in parts])
    seen = np.concatenate([part.seen for part in parts])
    if not seen.all():
        bare = np.flatnonzero(~seen)
        what = f"{len(bare)} of {len(names)} images have no list of objects"
        problems.append(Problem("image without labels", names[bare[0]], what, "nobody has looked at them", len(bare)))
    rows = clean.Rows(
        image[kept], xyxy[kept], labels[kept], crowd[kept], lambda r: f"{names[image[kept[r]]]}, object {kept[r]}"
    )
    return rows, seen, classes


def _classes(root: Path, named: Sequence[str], layout: _Layout, said: Sequence[Any]) -> list[str]:
    """The classes of all splits, in one order for all."""
    if layout.names is not None:
        every: list[str] = []
        for name in named:
            try:
                every += _layout(root / name).names or []
            except LabelwiseError:
                continue  # that split says so when it is read
        return list(dict.fromkeys([*every, *layout.names]))
    used = {value for value in said if value is not None}
    for name in named:
        try:
            other = _layout(root / name)
            if other.objects is None:
                continue
            for file in _files(root / name):
                found = arrow.objects_of(arrow.table_of(file), *other.objects, where=file)
                used |= {value for value in found.category if value is not None}
        except LabelwiseError:
            continue
    return list(map(str, sorted(used, key=lambda value: (isinstance(value, str), value))))


def write(pool: Pool, root: Path, split: str, *, copy_images: bool = True) -> None:
    """Write a split; `copy_images=False` names the images by their path."""
    others = splits(root) if (root / _DICT).is_file() else ()
    for other in others:
        if _layout(root / other).names != list(pool.classes):
            raise LabelwiseError(f"{root / other}: has other classes than the pool. Choose another folder.")
    features = {
        "image_id": _WHOLE,
        "image": {"_type": "Image"},
        "width": _WHOLE,
        "height": _WHOLE,
        "objects": {
            "bbox": _list({"feature": _FLOAT, "length": 4, "_type": "Sequence"}),
            "category": _list({"names": list(pool.classes), "_type": "ClassLabel"}),
            "iscrowd": _list(_WHOLE),
        },
    }
    with new_folder(root / split) as folder:
        arrow_writer.write_table(pool, folder / _FILE, features, copy_images)
        info = {"citation": "", "description": "", "features": features, "homepage": "", "license": ""}
        state: dict[str, Any] = {"_data_files": [{"filename": _FILE}], "_fingerprint": "labelwise", "_split": split}
        state |= dict.fromkeys(("_format_columns", "_format_type")) | {"_format_kwargs": {}}
        for name, content in ((_INFO, info), (_STATE, {**state, "_output_all_columns": False})):
            (folder / name).write_text(json.dumps(content, indent=2, ensure_ascii=False), encoding="utf-8")
    staging.text(root / _DICT, json.dumps({"splits": [*others, split]}))


def _list(feature: dict[str, Any]) -> dict[str, Any]:
    return {"feature": feature, "_type": "Sequence"}
