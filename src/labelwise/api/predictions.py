"""Predictions of a foreign detector, in any of the forms that engineers have, as one checked `Detections` table.

A form is one of:

* columns: a dict with `image` [n] (names in the pool, or pool numbers) and the columns below;
* one dict per image: a list in the order of the pool, or a dict by image name; in place of a dict the object that
  Ultralytics or supervision give (`result_objects`);
* a Parquet file with a row per box: `image`, `x1 y1 x2 y2`, and the columns below (`probs`, `features` as lists);
* a folder of shards that labelwise wrote, or a `Detections` table;
* features of the images alone, as an array [images, D] or `{"image_features": array}`: no box is known then, and
  selectors of whole images that look at features alone may ask (`kcenter`, `typiclust`).

Columns: `boxes` [n, 4] xyxy in pixels of the image as displayed, and either `probs` [n, C] (the distribution over the
classes, without background) or `scores` [n] and `labels` [n] (numbers or names). Optional: `scores` beside `probs`,
`features` [n, D], `tightness` [n], and what V augmented views said of each box: `view_iou` [V, n], `view_scores`
[V, n], `view_probs` [V, n, C] (in a Parquet file every row has a list of V). Columns may come with `image_features`
[images, D], one row per image of the pool.

`probs` and `view_probs` of a head of sigmoids are told by `head="sigmoid"` (`heads`).

Without `probs` the distribution is what the confidence alone tells: the label has it (at least an even share), the
other classes share the rest. Entropy and margin then rank by confidence.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from jaxtyping import Float32, Int64

from labelwise import catalog, files
from labelwise.api.checks import Rows, array, to_float32
from labelwise.api.heads import SOFTMAX
from labelwise.api.result_objects import columns as columns_of
from labelwise.types import Detections, ImageOutputs, LabelwiseError, Pool, Views, offsets_of
from labelwise.types.queries import shown

CORNERS = ("x1", "y1", "x2", "y2")
VIEWS = ("view_iou", "view_scores", "view_probs")
COLUMNS = {"boxes", "scores", "labels", "probs", "features", "tightness", "image_features", *VIEWS}
COLUMNS_OF_A_BOX = frozenset(COLUMNS - {"boxes", "image_features"})
OVERHANG_PX = 1.0
"""How far a box may lie outside its image: rounding, which is clipped. More is an error."""


def read(predictions: Any, pool: Pool, head: str = SOFTMAX) -> Detections:
    """The predictions as a table sorted by image, within an image by falling confidence. `head`: see `heads`.

    Raises:
        LabelwiseError: an unknown image or column, a number that is not finite, a box without area or outside its
            image, a class that does not exist, a distribution that does not sum to 1; it names the row.
    """
    if isinstance(predictions, str | Path):
        path = Path(predictions)
        if _is_folder(path):
            return _check(files.read_detections(path).of_classes(len(pool.classes)), pool)
        return _table(_parquet(path), pool, str(path), head)
    if isinstance(predictions, Detections):
        return _check(predictions, pool)
    if are_features(predictions):
        features = predictions["image_features"] if isinstance(predictions, Mapping) else predictions
        return _without_boxes(features, pool)
    if isinstance(predictions, Mapping) and not ("boxes" in predictions or "image" in predictions):
        return _table(_join(list(predictions.items())), pool, "predictions", head, per_image=True)
    if isinstance(predictions, Mapping):
        return _table(dict(predictions), pool, "predictions", head)
    if isinstance(predictions, Sequence):
        if len(predictions) != len(pool):
            raise LabelwiseError(
                f"predictions: a list of {len(predictions)} images; expected one entry for each of the {len(pool)} "
                "images of the pool, in its order (project.images). For some images give a dict by image name"
            )
        return _table(_join(list(enumerate(predictions))), pool, "predictions", head, per_image=True)
    raise LabelwiseError(
        f"predictions: got {type(predictions).__name__}; expected a dict of columns, a list or dict with one entry per "
        "image, the path of a Parquet file, or Detections"
    )


def are_features(predictions: Any) -> bool:
    """Whether predictions are features of images alone: an array, or that column and no other."""
    if isinstance(predictions, Mapping):
        return set(predictions) == {"image_features"}
    return hasattr(predictions, "ndim") and hasattr(predictions, "shape")


def _without_boxes(features: Any, pool: Pool) -> Detections:
    """A table of features of the images and of no box."""
    no_box = np.zeros((0, 4), np.float32), np.zeros((0, len(pool.classes)), np.float32), np.zeros(0, np.float32)
    said = _image_outputs(features, pool, "predictions")
    return Detections(np.zeros(len(pool) + 1, np.int64), *no_box, np.zeros((0, 0), np.float32), None, None, said)


def _is_folder(path: Path) -> bool:
    try:
        return path.is_dir()
    except OSError as error:
        raise LabelwiseError(f"predictions: {str(path)[:80]}: cannot be read ({error.strerror or error})") from None


def _parquet(path: Path) -> dict[str, Any]:
    try:
        table = pq.read_table(path)
    except (OSError, ValueError, pa.ArrowException) as error:
        raise LabelwiseError(f"{path}: cannot be read as a Parquet file: {error}") from None
    found = {name: table[name].to_pylist() for name in table.column_names}
    missing = [name for name in ("image", *CORNERS) if name not in found]
    if missing:
        raise LabelwiseError(f"{path}: no column {missing[0]!r}; expected image, x1, y1, x2, y2 and probs, or score")
    boxes = np.stack([_lists(found.pop(name), name, path, 1) for name in CORNERS], axis=1)
    for one, many in (("score", "scores"), ("label", "labels")):
        if one in found:
            found[many] = found.pop(one)
    for name in VIEWS:
        if name in found and len(found[name]):
            found[name] = np.moveaxis(_lists(found[name], name, path, 3 if name == "view_probs" else 2), 0, 1)
    for name in ("probs", "features"):
        if name in found and len(found[name]):
            found[name] = _lists(found[name], name, path, 2)
    return {**found, "boxes": boxes}


def _lists(rows: list[Any], name: str, path: Path, ndim: int) -> np.ndarray:
    """A column of numbers, or of lists of them, as an array of so many dimensions."""
    try:
        values = np.array(rows, np.float64)
    except (TypeError, ValueError, OverflowError):
        values = np.zeros(())
    if rows and values.ndim != ndim:
        lengths = [len(row) if isinstance(row, list) else -1 for row in rows]
        longest = max(lengths)
        other = next((k for k, length in enumerate(lengths) if length != longest), None)
        if ndim == 1 or longest < 0 or other is None:
            what = "numbers" if ndim == 1 else "lists of numbers, as deep as they should be"
            raise LabelwiseError(f"{path}: {name} of row 0 is {shown(rows[0])}; expected {what} in every row")
        raise LabelwiseError(f"{path}: {name} of row {other} has not {longest} numbers, as others have")
    return values


def _join(images: list[tuple[Any, Any]]) -> dict[str, Any]:
    """Entries of single images as columns; `row` remembers the number of a box in its image, for messages."""
    parts: dict[str, list[np.ndarray]] = {}
    where: list[Any] = []
    names: set[str] | None = None
    for key, said in images:
        entry = columns_of(said, COLUMNS_OF_A_BOX, f"predictions of image {key!r}")
        if not isinstance(entry, Mapping) or "boxes" not in entry:
            raise LabelwiseError(f"predictions of image {key!r}: expected a dict with boxes and probs, or scores")
        boxes = array(entry["boxes"])
        n = len(boxes) if boxes.ndim else -1
        if n == 0:
            continue
        if names is not None and set(entry) != names:
            listed = [", ".join(sorted(map(str, some))) for some in (entry, names)]
            raise LabelwiseError(f"predictions of image {key!r}: columns {listed[0]}; others have {listed[1]}")
        names = set(entry)
        for name, value in entry.items():
            axis = 1 if name in VIEWS else 0
            column = array(value)
            if column.ndim <= axis or column.shape[axis] != n:
                raise LabelwiseError(f"predictions of image {key!r}: {name} has shape {column.shape} for {n} boxes")
            parts.setdefault(name, []).append(column)
        where += [key] * n
    joined = {name: _joined(name, values) for name, values in parts.items()}
    if not where:
        return {"image": [], "boxes": np.zeros((0, 4)), "scores": np.zeros(0), "labels": []}
    return {"image": where, **joined}


def _joined(name: str, values: list[np.ndarray]) -> np.ndarray:
    try:
        return np.concatenate(values, axis=int(name in VIEWS))
    except (TypeError, ValueError) as error:
        raise LabelwiseError(f"predictions: {name} of the images do not go together: {error}") from None


def _table(columns: dict[str, Any], pool: Pool, where: str, head: str, per_image: bool = False) -> Detections:
    unknown = set(columns) - COLUMNS - {"image"} | (set(columns) & {"image_features"} if per_image else set())
    if unknown:
        first = min(map(str, unknown))
        raise LabelwiseError(f"{where}: {catalog.unknown('column', first, sorted(COLUMNS | {'image'}))}")
    for name in ("image", "boxes"):
        if name not in columns:
            raise LabelwiseError(f"{where}: no column {name!r}; expected image, boxes, and probs, or scores and labels")
    rows = Rows(where, columns["image"], pool, per_image, head)
    boxes = rows.boxes(array(columns["boxes"]), OVERHANG_PX)
    n_classes = len(pool.classes)
    if "probs" in columns:
        probs, largest = rows.distributions(array(columns["probs"]), n_classes)
        scores = rows.shares("scores", array(columns["scores"]) if "scores" in columns else largest)
        if "labels" in columns:
            rows.same_labels(rows.classes(columns["labels"]), probs)
    else:
        if "scores" not in columns or "labels" not in columns:
            raise LabelwiseError(f"{where}: neither probs nor scores with labels; a box needs its class and confidence")
        scores = rows.shares("scores", array(columns["scores"]))
        probs = spread(scores, rows.classes(columns["labels"]), n_classes)
    features = rows.numbers("features", columns.get("features"), 2)
    tightness = None if "tightness" not in columns else rows.shares("tightness", array(columns["tightness"]))
    views = _views(columns, rows, n_classes)
    order = np.lexsort((-scores, rows.image))
    features = np.zeros((len(rows), 0), np.float32) if features is None else features[order]
    if views is not None:
        views = Views(views.names, views.probs[:, order], views.scores[:, order], views.iou[:, order])
    tightness = None if tightness is None else tightness[order]
    offsets = offsets_of(rows.image[order], len(pool))
    said = _image_outputs(columns.get("image_features"), pool, where)
    return Detections(offsets, boxes[order], probs[order], scores[order], features, views, tightness, said)


def _image_outputs(features: Any, pool: Pool, where: str) -> ImageOutputs | None:
    if features is None:
        return None
    values = array(features)
    fits = values.ndim == 2 and len(values) == len(pool) and values.shape[1] > 0 and values.dtype.kind in "fiub"
    if not fits or not np.isfinite(to_float32(values)).all():
        raise LabelwiseError(
            f"{where}: image_features has shape {values.shape}; expected finite numbers ({len(pool)}, D), one row per "
            "image of the pool"
        )
    n = len(pool)
    return ImageOutputs(values.astype(np.float32), np.zeros(n, np.float32), np.ones(n, np.bool_))


def spread(
    scores: Float32[np.ndarray, " n"], labels: Int64[np.ndarray, " n"], n_classes: int
) -> Float32[np.ndarray, "n C"]:
    """The distribution that a confidence and a label stand for.

    Of 3 classes, a box of class 1 with confidence 0.5; and one with confidence 0.1, less than an even share:

    >>> spread(np.array([0.5, 0.1], np.float32), np.array([1, 0]), 3).round(3)
    array([[0.25 , 0.5  , 0.25 ],
           [0.333, 0.333, 0.333]], dtype=float32)
    """
    share = np.maximum(scores.astype(np.float64), 1 / max(n_classes, 1))
    rest = (1 - share) / max(n_classes - 1, 1)
    found = np.repeat(rest[:, None], n_classes, axis=1)
    own = np.nextafter(share.astype(np.float32), np.float32(2))  # of an even share the label is still the largest
    found[np.arange(len(labels)), labels] = np.minimum(own, 1)
    out: np.ndarray = found.astype(np.float32)
    return out


def _views(columns: Mapping[str, Any], rows: Rows, n_classes: int) -> Views | None:
    """What the views said; their distributions have no column (C = 0) where they are not given."""
    if "view_iou" not in columns:
        if set(VIEWS) & set(columns):
            raise LabelwiseError(f"{rows.where}: view_scores or view_probs without view_iou; a match needs its IoU")
        return None
    iou = rows.shares("view_iou", np.atleast_2d(array(columns["view_iou"])), views=True)
    v = len(iou)
    if not v:
        raise LabelwiseError(f"{rows.where}: view_iou has shape {iou.shape}; expected (V, {len(rows)}), V views")
    if "view_probs" not in columns:
        return Views(_names(v), np.zeros((v, len(rows), 0), np.float32), np.zeros_like(iou), iou)
    said = array(columns["view_probs"])
    if said.shape[:1] != (v,):
        raise LabelwiseError(
            f"{rows.where}: view_probs has shape {said.shape}; expected ({v}, {len(rows)}, {n_classes})"
        )
    read = [rows.distributions(one, n_classes, "view_probs", iou[k] > 0) for k, one in enumerate(said)]
    probs, largest = (np.stack(column) for column in zip(*read, strict=True))
    if "view_scores" in columns:
        scores = rows.shares("view_scores", np.atleast_2d(array(columns["view_scores"])), views=True)
    else:
        scores = np.where(iou > 0, largest, 0).astype(np.float32)
    if scores.shape != iou.shape:
        raise LabelwiseError(f"{rows.where}: view_scores has shape {scores.shape}; expected {iou.shape}")
    return Views(_names(v), probs, scores, iou)


def _names(v: int) -> tuple[str, ...]:
    return tuple(f"view-{k + 1}" for k in range(v))


def _check(found: Detections, pool: Pool) -> Detections:
    """A table that was made elsewhere: it must be of this pool and these classes."""
    if found.n_images != len(pool) or found.probs.shape[1] != len(pool.classes):
        raise LabelwiseError(
            f"predictions: {found.n_images} images and {found.probs.shape[1]} classes; the project has {len(pool)} "
            f"images and {len(pool.classes)} classes ({', '.join(pool.classes)})"
        )
    rows = Rows("predictions", found.image, pool)
    rows.boxes(found.boxes, OVERHANG_PX)
    rows.distributions(found.probs, len(pool.classes))
    rows.shares("scores", found.scores)
    return found
