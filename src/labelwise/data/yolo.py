"""YOLO: `data.yaml` and one txt per image, rows `class cx cy width height` as fractions of the image.

Read: the folders that `data.yaml` names; where they do not exist (paths of another machine), `<split>/images` or
`images/<split>` beside it. `val` and `valid` are one. Labels lie in `labels/` where the images lie in `images/`, else
beside the images. An empty txt is an image without objects; no txt at all is told, and the image counts as without
objects. A polygon row (class and at least three points) becomes its hull box.

Written: `data.yaml`, `<split>/images/`, `<split>/labels/`. YOLO knows no crowd regions: writing a pool that has some
is an error.
"""

from __future__ import annotations

import math
import os
from pathlib import Path
from typing import Any

import yaml

from labelwise.data import clean, staging
from labelwise.types import LabelwiseError, Pool, Problem
from labelwise.types.disk import new_folder

LOOKS_FOR = "data.yaml (or another .yaml with `names` and `train`/`val`), and <split>/images beside <split>/labels"

_SPLITS = ("train", "val", "valid", "test")
_NO_SPLITS = ("path", "names", "nc", "download")
"""Keys of data.yaml; any other that names a folder beside it is a split too."""


def detect(root: Path) -> bool:
    """Whether there is a YAML file with class names."""
    return _yaml(root) is not None


def splits(root: Path) -> tuple[str, ...]:
    """Names of the splits."""
    path, content = _open(root)
    listed = [s for s in _SPLITS if content.get(s)]
    listed += [s for s, at in content.items() if s not in (*_SPLITS, *_NO_SPLITS) and _is_place(path.parent, at)]
    beside = [s for s in _SPLITS if _beside(path.parent, s) and not {s, _other(s)} & set(listed)]
    return tuple(listed + beside)


def read(root: Path, split: str | None = None) -> Pool:
    """Images and boxes of a split."""
    path, content = _open(root)
    split = clean.choose(root, splits(root), split)
    if split is None:
        raise LabelwiseError(f"{path}: names no split; expected train, val or test: the folder of the images.")
    base, classes = path.parent, _classes(path, content)
    problems: list[Problem] = []
    paths = _images(path, content, split, problems)
    labels = {p: _label_file(p) for p in paths}
    rows, where = [], []
    for number, (picture, file) in enumerate(labels.items()):
        if not file.is_file():
            name = clean.relative(picture, base)
            problems.append(Problem("image without labels", name, f"no {file.name}", "counts as without objects"))
            continue
        for line, text in enumerate(_lines(file), start=1):
            if not text.strip():
                continue
            place = f"{clean.relative(file, base)}:{line}"
            label, box, polygon = _row(text, f"{file}:{line}")
            if polygon:
                problems.append(Problem("polygon", place, "the row is a polygon", "its hull box is used"))
            if not 0 <= label < len(classes):
                what = f"class {label}, but {path.name} names {len(classes)} classes (0 to {len(classes) - 1})"
                problems.append(Problem("unknown class id", place, what, "left out"))
                continue
            rows.append((number, box, label, False))
            where.append(place)
    for folder in sorted({file.parent for file in labels.values()}):
        for file in sorted(set(folder.glob("*.txt")) - set(labels.values())):
            if folder.name == "labels" or folder.parent.name == "labels":
                name = clean.relative(file, base)
                problems.append(Problem("label without image", name, f"no image {file.stem}.*", "left out"))
    names = [clean.relative(p, base) for p in paths]
    return clean.pool(base, classes, names, clean.Rows.of(rows, where), problems, normalised=True)


def write(pool: Pool, root: Path, split: str, *, copy_images: bool = True) -> None:
    """Write a split; `copy_images=False` links the images."""
    if pool.crowd is not None and len(pool.crowd.xyxy):
        raise LabelwiseError(
            f"{pool.root}: has {len(pool.crowd.xyxy)} crowd regions, which YOLO can't hold. Write COCO or VOC."
        )
    path = root / "data.yaml"
    content: dict[str, Any] = _parse(path) if path.exists() else {}
    if content and _classes(path, content) != list(pool.classes):
        raise LabelwiseError(f"{path}: has other classes than the pool. Choose another folder.")
    names = staging.file_names(pool)
    with new_folder(root / split) as folder:
        staging.images(pool, names, folder / "images", copy_images)
        (folder / "labels").mkdir()
        for i, name in enumerate(names if pool.truth is not None else ()):
            (folder / "labels" / name).with_suffix(".txt").write_text(_txt(pool, i), encoding="utf-8")
    content |= {split: f"{split}/images", "nc": len(pool.classes), "names": list(pool.classes)}
    staging.text(path, yaml.safe_dump(content, sort_keys=False, allow_unicode=True))


def _txt(pool: Pool, i: int) -> str:
    assert pool.truth is not None
    width, height = float(pool.width_px[i]), float(pool.height_px[i])
    rows = slice(*pool.truth.offsets[i : i + 2])
    lines = []
    for (x1, y1, x2, y2), label in zip(pool.truth.xyxy[rows].tolist(), pool.truth.labels[rows].tolist(), strict=True):
        fractions = (x1 + x2) / 2 / width, (y1 + y2) / 2 / height, (x2 - x1) / width, (y2 - y1) / height
        lines.append(f"{label} " + " ".join(f"{v:.10g}" for v in fractions) + "\n")
    return "".join(lines)


def _yaml(root: Path) -> Path | None:
    if root.is_file():
        return root if root.suffix in (".yaml", ".yml") and "names" in _parse(root) else None
    if (root / "data.yaml").is_file():
        return root / "data.yaml"
    # any other YAML has to look like a data set, and may be none of our business: broken files are passed over
    for path in sorted((*root.glob("*.yaml"), *root.glob("*.yml"))):
        try:
            content = _parse(path)
        except LabelwiseError:
            continue
        if "names" in content and any(split in content for split in _SPLITS):
            return path
    return None


def _open(root: Path) -> tuple[Path, dict[str, Any]]:
    path = _yaml(root)
    if path is None:
        raise LabelwiseError(f"{root}: no YOLO data set here; expected {LOOKS_FOR}.")
    return path, _parse(path)


def _parse(path: Path) -> dict[str, Any]:
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        mark = getattr(error, "problem_mark", None)
        line = f":{mark.line + 1}" if mark else ""
        raise LabelwiseError(f"{path}{line}: broken YAML ({' '.join(str(error).split())}). Mend the file.") from error
    if not isinstance(content, dict):
        raise LabelwiseError(f"{path}: expected keys such as names and train, got {type(content).__name__}.")
    return content


def _classes(path: Path, content: dict[str, Any]) -> list[str]:
    names = content.get("names")
    if isinstance(names, dict) and sorted(names) == list(range(len(names))):
        names = [names[i] for i in range(len(names))]
    if not isinstance(names, list):
        raise LabelwiseError(f"{path}: names is {str(names)[:80]}; expected a list of classes, or 0: a, 1: b, ...")
    return [str(name) for name in names]


def _other(split: str) -> str:
    return {"val": "valid", "valid": "val"}.get(split, split)


def _is_place(base: Path, value: Any) -> bool:
    return isinstance(value, str) and bool(value) and (base / value).is_dir()


def _beside(base: Path, split: str) -> Path | None:
    found = (f for s in (split, _other(split)) for f in (base / s / "images", base / "images" / s) if f.is_dir())
    return next(found, None)


def _images(path: Path, content: dict[str, Any], split: str, problems: list[Problem]) -> list[Path]:
    """Every image of the split: of folders, or of a txt that lists images."""
    base = path.parent / str(content.get("path") or "")
    value = content.get(split) or []
    found: list[Path] = []
    for entry in value if isinstance(value, list) else [value]:
        place = base / str(entry)
        if not place.exists():
            place = path.parent / str(entry)
        if place.is_dir():
            found += clean.images_under(place)
        elif place.is_file():
            found += [_listed_path(place, line.strip()) for line in _lines(place) if line.strip()]
        elif (beside := _beside(path.parent, split)) is not None:
            what = f"{split}: {entry} does not exist"
            handling = f"{clean.relative(beside, path.parent)} is read instead"
            problems.append(Problem("path not found", path.name, what, handling))
            found += clean.images_under(beside)
        else:
            raise LabelwiseError(
                f"{path}: {split}: {entry} does not exist, nor {split}/images beside it. Mend the path."
            )
    if not value and (beside := _beside(path.parent, split)) is not None:
        found = clean.images_under(beside)
    return list(dict.fromkeys(found))


def _listed_path(file: Path, line: str) -> Path:
    paths = [Path(os.path.normpath(file.parent / name)) for name in clean.spellings(line)]
    return next((path for path in paths if path.is_file()), paths[0])


def _label_file(picture: Path) -> Path:
    parts = list(picture.parts)
    if "images" in parts:
        parts[len(parts) - 1 - parts[::-1].index("images")] = "labels"
    return Path(*parts).with_suffix(".txt")


def _lines(file: Path) -> list[str]:
    try:
        return file.read_text(encoding="utf-8").splitlines()
    except UnicodeDecodeError as error:
        raise LabelwiseError(f"{file}: not a text file ({error}). Export it again.") from error


def _row(text: str, where: str) -> tuple[int, tuple[float, float, float, float], bool]:
    """Class, box as fractions, whether it was a polygon."""
    try:
        label, *values = (float(v) for v in text.split())
        polygon = len(values) >= 6 and len(values) % 2 == 0
        if not (label.is_integer() and all(map(math.isfinite, values)) and (polygon or len(values) == 4)):
            raise ValueError
    except ValueError as error:
        what = f"{where}: {text.strip()[:80]!r}"
        raise LabelwiseError(f"{what}; expected: class cx cy width height (or class x1 y1 x2 y2 x3 y3 ...).") from error
    if polygon:
        return int(label), (min(values[::2]), min(values[1::2]), max(values[::2]), max(values[1::2])), True
    cx, cy, w, h = values
    return int(label), (cx - w / 2, cy - h / 2, cx + w / 2, cy + h / 2), False
