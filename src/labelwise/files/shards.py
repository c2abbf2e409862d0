"""Detections in Parquet shards: a folder of `part-00000.parquet`, ..., each with a contiguous range of images.

A shard's rows are its detections, sorted by image: `image` (pool number), `x1 y1 x2 y2`, `score`, `probs` (C numbers),
`features` (D), `tightness`, `quality`, and with V views `view_probs` (V * C), `view_scores` (V), `view_iou` (V),
`view_boxes` (V * 4). What was said of whole images lies beside it (`image_outputs`). The schema's metadata says what
the shard is a part of, so that a missing, strange or damaged shard is found and named. Floats come back exactly.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Collection, Iterator
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from labelwise.files import image_outputs
from labelwise.files.round_files import again
from labelwise.types import Detections, ImageOutputs, LabelwiseError, Views
from labelwise.types.disk import readable_errors, sync, temporary

_KEY = b"labelwise.detections"
_MOST = 2**40
"""Larger numbers in the metadata of a shard are damage."""
_ALWAYS = ("boxes", "probs", "scores")
_OPTIONAL = ("features", "tightness", "view_probs", "view_scores", "view_iou", "per_image", "quality", "view_boxes")
_NUMBERS = ("tightness", "quality")
_LISTS = ("probs", "features", "view_probs", "view_scores", "view_iou", "view_boxes")
_CORNERS = ("x1", "y1", "x2", "y2")
Shard = tuple[Path, int, dict[str, Any]]
"""Its file, its number of rows and its metadata."""


def _shard_name(number: int) -> str:
    return f"part-{number:05d}.parquet"


class DetectionWriter:
    """Writes detections batch by batch; at most one shard is in memory. Nothing is in `folder` before `close`.

    Used as a context manager it closes on leaving normally and removes what it wrote after an exception. Detections
    that were in the folder are replaced as a whole.
    """

    def __init__(self, folder: Path, n_images: int, shard_images: int = 1024) -> None:
        if shard_images < 1:
            raise LabelwiseError(f"shard_images is {shard_images}; expected 1 or more images in a shard")
        self._folder, self._n_images, self._shard_images = folder, n_images, shard_images
        self._partial = temporary(folder)
        self._pending: list[Detections] = []
        self._n_pending = self._n_written = self._n_shards = 0
        self._like: Detections | None = None
        with readable_errors(folder):
            shutil.rmtree(self._partial, ignore_errors=True)
            self._partial.mkdir(parents=True)

    def append(self, first_image: int, batch: Detections, /) -> None:
        """Adds the images from number `first_image` on, which must follow those appended before."""
        self._like = self._like or batch
        if _kind(batch) != _kind(self._like):
            raise LabelwiseError(f"{self._folder}: a batch with {_kind(batch)} after one with {_kind(self._like)}")
        expected = self._n_written + self._n_pending
        if first_image != expected or expected + batch.n_images > self._n_images:
            raise LabelwiseError(
                f"{self._folder}: {batch.n_images} images from number {first_image} on; expected image {expected} as "
                f"the next of {self._n_images}. Append the images of the pool in their order"
            )
        start = 0
        while start < batch.n_images:
            stop = min(batch.n_images, start + self._shard_images - self._n_pending)
            self._pending.append(_images(batch, start, stop))
            self._n_pending += stop - start
            start = stop
            if self._n_pending == self._shard_images:
                self._flush()

    def _flush(self) -> None:
        write_shard(self._partial, self._n_shards, self._n_written, self._n_images, self._pending)
        self._n_written += self._n_pending
        self._pending, self._n_pending = [], 0
        self._n_shards += 1

    def close(self) -> None:
        """Writes the last shard and puts the whole in its place."""
        missing = self._n_images - self._n_written - self._n_pending
        if missing:
            raise LabelwiseError(f"{self._folder}: {missing} of {self._n_images} images have not been appended")
        if self._like is not None and not self._n_images:
            self._pending = [self._like]  # an empty pool has one empty shard
        if self._pending:
            self._flush()
        publish(self._partial, self._folder)

    def __enter__(self) -> DetectionWriter:
        return self

    def __exit__(self, kind: type[BaseException] | None, _e: BaseException | None, _t: TracebackType | None) -> None:
        try:
            if kind is None:
                self.close()
        finally:
            shutil.rmtree(self._partial, ignore_errors=True)


def write_shard(folder: Path, number: int, first: int, n_images: int, parts: list[Detections]) -> None:
    """Writes shard `number` of a pool of `n_images`: the images from `first` on, given in parts, one after another."""
    path = folder / _shard_name(number)
    stop = first + sum(part.n_images for part in parts)
    about = {"n_images": n_images, "first": first, "stop": stop} | _kind(parts[0])
    table = _to_table(parts, first, about)
    with readable_errors(path):
        pq.write_table(
            table,
            path,
            compression="zstd",
            use_dictionary=False,
            use_byte_stream_split=True,  # floats shrink by a sixth: their exponents lie side by side
            write_page_checksum=True,
        )
        sync(path)
    if about["per_image"] is not None:
        image_outputs.write(path, [part.per_image for part in parts])


def publish(partial: Path, folder: Path) -> None:
    """Puts a folder of all shards in its place; what was there is replaced as a whole."""
    old = temporary(folder.with_name(folder.name + ".old"))
    with readable_errors(folder):
        sync(partial)
        if folder.exists():
            folder.rename(old)
        partial.rename(folder)
        sync(folder.parent)
        shutil.rmtree(old, ignore_errors=True)


def write_detections(folder: Path, detections: Detections, shard_images: int = 1024) -> None:
    """Writes all detections of a pool; those that were in the folder are replaced as a whole."""
    with DetectionWriter(folder, detections.n_images, shard_images) as writer:
        writer.append(0, detections)


def _kind(d: Detections) -> dict[str, Any]:
    """What every batch and shard of a pool has in common."""
    kind: dict[str, Any] = {"classes": d.probs.shape[1], "features": d.features.shape[1], "views": None}
    if d.views is not None:
        kind |= {"views": list(d.views.names), "view_classes": d.views.probs.shape[2]}
    kind["tightness"] = d.tightness is not None
    kind["per_image"] = None if d.per_image is None else d.per_image.features.shape[1]
    if d.quality is not None:  # these two came later: files without them stay as they were
        kind["quality"] = True
    if d.views is not None and d.views.boxes is not None:
        kind["view_boxes"] = True
    return kind


def _images(d: Detections, start: int, stop: int) -> Detections:
    """A contiguous range of images, without copying."""
    offsets = d.offsets[start : stop + 1]
    rows = slice(int(offsets[0]), int(offsets[-1]))
    views = None if d.views is None else d.views.take(rows)
    tightness, quality = (None if one is None else one[rows] for one in (d.tightness, d.quality))
    columns = d.boxes[rows], d.probs[rows], d.scores[rows], d.features[rows]
    said = image_outputs.part(d.per_image, start, stop)
    return Detections(offsets - offsets[0], *columns, views, tightness, said, quality)


def _lists(rows: np.ndarray) -> pa.Array:
    flat = pa.array(np.ascontiguousarray(rows).reshape(-1))
    return pa.FixedSizeListArray.from_arrays(flat, rows.shape[1])


def _to_table(parts: list[Detections], first: int, about: dict[str, Any]) -> pa.Table:
    counts = np.concatenate([np.diff(part.offsets) for part in parts])
    boxes = np.concatenate([part.boxes for part in parts])
    columns = {"image": pa.array(np.repeat(np.arange(first, first + len(counts)), counts).astype(np.int64))}
    columns |= {name: pa.array(np.ascontiguousarray(boxes[:, k])) for k, name in enumerate(_CORNERS)}
    columns["score"] = pa.array(np.concatenate([part.scores for part in parts]))
    for name in _NUMBERS:
        if about.get(name):
            columns[name] = pa.array(np.concatenate([getattr(part, name) for part in parts]))
    matrices = {"probs": [part.probs for part in parts], "features": [part.features for part in parts]}
    views = [part.views for part in parts if part.views is not None]
    n = len(boxes)
    if views:
        stacked = np.concatenate([v.probs for v in views], axis=1).transpose(1, 0, 2)  # [n, V, C]
        matrices["view_probs"] = [stacked.reshape(n, stacked.shape[1] * stacked.shape[2])]
        matrices["view_scores"] = [v.scores.T for v in views]
        matrices["view_iou"] = [v.iou.T for v in views]
        corners = [v.boxes.transpose(1, 0, 2) for v in views if v.boxes is not None]
        if corners:
            matrices["view_boxes"] = [one.reshape(len(one), 4 * one.shape[1]) for one in corners]
    for name, arrays in matrices.items():
        if arrays[0].shape[1]:  # Parquet has no lists of length 0
            columns[name] = _lists(np.concatenate(arrays))
    return pa.table(columns).replace_schema_metadata({_KEY: json.dumps(about)})


def read_detections(folder: Path, columns: Collection[str] | None = None) -> Detections:
    """Reads a folder of shards; to save memory, `columns` names which of the optional columns to read (None: all).

    Optional are `features`, `tightness`, `quality`, `view_probs`, `view_scores`, `view_iou`, `view_boxes`, `per_image`.
    What is left out has no columns: features `[n, 0]`, views' probs `[V, n, 0]`; with no `view_` column `views` is
    None, as are `tightness`, `quality`, the views' `boxes` and `per_image`. A missing, damaged or strange shard is an
    error that names it.
    """
    return _read(folder, _shards(folder), _columns(columns))


def stream_detections(
    folder: Path, columns: Collection[str] | None = None, images: np.ndarray | None = None
) -> Iterator[tuple[int, Detections]]:
    """`read_detections` shard by shard: the number of the first image, and the detections of the images from there.

    `images` (a mask of the pool): shards that hold none of these are passed over.
    """
    wanted = _columns(columns)
    for shard in _shards(folder):
        first, stop = shard[2]["first"], shard[2]["stop"]
        if images is None or images[first:stop].any():
            yield first, _read(folder, [shard], wanted)


def stream_image_outputs(folder: Path) -> Iterator[tuple[int, ImageOutputs]]:
    """What was said of whole images, shard by shard, each with the number of its first image."""
    for path, _, about in _shards(folder):
        if about.get("per_image") is None:
            raise LabelwiseError(f"{folder} holds no outputs of whole images; {again(folder)}")
        n_images = about["stop"] - about["first"]
        yield about["first"], image_outputs.read(folder, [path.name], n_images, about["per_image"])


def _columns(columns: Collection[str] | None) -> set[str]:
    wanted = set(_OPTIONAL if columns is None else columns)
    unknown = sorted(wanted - {*_ALWAYS, *_OPTIONAL})
    if unknown:
        raise LabelwiseError(f"detections have no column {unknown[0]!r}; expected some of {', '.join(_OPTIONAL)}")
    return wanted


def _read(folder: Path, shards: list[Shard], wanted: set[str]) -> Detections:
    """Consecutive shards; the images are numbered from the first one of the first shard."""
    about, base = shards[0][2], shards[0][2]["first"]
    n = sum(rows for _, rows, _ in shards)
    shapes: dict[str, tuple[int, ...]] = {"boxes": (n, 4), "scores": (n,), "probs": (n, about["classes"])}
    shapes["features"] = (n, about["features"] if "features" in wanted else 0)
    has_views = about["views"] is not None and any(name.startswith("view_") for name in wanted)
    if has_views:
        n_views = len(about["views"])
        shapes["view_probs"] = (n_views, n, about["view_classes"] if "view_probs" in wanted else 0)
        shapes |= {"view_scores": (n_views, n), "view_iou": (n_views, n)}
        if "view_boxes" in wanted and about.get("view_boxes"):
            shapes["view_boxes"] = (n_views, n, 4)
    shapes |= {name: (n,) for name in _NUMBERS if name in wanted and about.get(name)}
    out = {name: np.empty(shape, np.float32) for name, shape in shapes.items()}
    counts = np.zeros(shards[-1][2]["stop"] - base, np.int64)
    start = 0
    for path, rows, shard in shards:
        _read_shard(path, shard, slice(start, start + rows), out, counts[shard["first"] - base :])
        start += rows
    offsets = np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)
    v = None
    if has_views:
        seen = out["view_probs"], out["view_scores"], out["view_iou"], out.get("view_boxes")
        v = Views(tuple(about["views"]), *seen)
    columns_of = out["boxes"], out["probs"], out["scores"], out["features"]
    said = None
    if "per_image" in wanted and about.get("per_image") is not None:
        said = image_outputs.read(folder, [path.name for path, _, _ in shards], counts.size, about["per_image"])
    return Detections(offsets, *columns_of, v, out.get("tightness"), said, out.get("quality"))


def _shards(folder: Path) -> list[Shard]:
    """Every shard with its number of rows and its metadata, after a check that together they are the whole pool."""
    found = sorted(folder.glob("part-*.parquet"))
    shards: list[Shard] = []
    n_images, stop, kind = None, 0, None
    while n_images is None or stop < n_images:
        path = folder / _shard_name(len(shards))
        if not path.is_file():
            raise LabelwiseError(f"{path} is missing: images from number {stop} on have no detections; {again(path)}")
        rows, about = _read_metadata(path)
        this_kind = {key: value for key, value in about.items() if key not in ("first", "stop")}
        kind = kind or this_kind
        if this_kind != kind or about["first"] != stop:
            raise LabelwiseError(
                f"{path} does not belong to the shards before it: expected images from number {stop} of {kind}, "
                f"got images from number {about['first']} of {this_kind}; {again(path)}"
            )
        n_images, stop = about["n_images"], about["stop"]
        shards.append((path, rows, about))
    extra = sorted(set(found) - {path for path, _, _ in shards})
    if extra:
        raise LabelwiseError(
            f"{extra[0]} does not belong there: the shards before it hold all {stop} images; {again(extra[0])}"
        )
    return shards


def _damaged(path: Path, error: object) -> LabelwiseError:
    return LabelwiseError(f"{path} is damaged or cut short: {error}; {again(path)}")


def _read_metadata(path: Path) -> tuple[int, dict[str, Any]]:
    try:
        footer = pq.read_metadata(path)
        about: dict[str, Any] = json.loads(footer.metadata[_KEY])
        sizes = [about[name] for name in ("first", "stop", "n_images", "classes", "features")]
        views = about["views"]
        sizes += [about["view_classes"]] if views is not None else []
        if not all(isinstance(size, int) and 0 <= size < _MOST for size in sizes) or len(views or ()) > _MOST:
            raise ValueError(f"it says {about} of itself")
        return int(footer.num_rows), about
    except (pa.ArrowException, OSError, KeyError, TypeError, ValueError) as error:
        raise _damaged(path, error) from error


def _read_shard(path: Path, about: dict[str, Any], rows: slice, out: dict[str, np.ndarray], counts: np.ndarray) -> None:
    """Reads one shard into its rows of `out`, and its images' numbers of detections to the front of `counts`."""
    first, stop = about["first"], about["stop"]
    lists = [name for name in _LISTS if name in out and out[name].shape[-1] and out[name].size]
    numbers = [name for name in _NUMBERS if name in out]
    try:
        with pq.ParquetFile(path, page_checksum_verification=True) as file:
            table = file.read(columns=["image", *_CORNERS, "score", *numbers, *lists])
        image = table["image"].to_numpy() - first
        if len(image) and not (image[0] >= 0 and image[-1] < stop - first and bool((np.diff(image) >= 0).all())):
            raise ValueError("its images are not in order")
        counts[: stop - first] = np.bincount(image, minlength=stop - first)
        out["scores"][rows] = table["score"].to_numpy()
        for name in numbers:
            out[name][rows] = table[name].to_numpy()
        for k, name in enumerate(_CORNERS):
            out["boxes"][rows, k] = table[name].to_numpy()
        for name in lists:
            flat = table[name].combine_chunks().flatten().to_numpy()
            if name.startswith("view_"):
                n_views = out[name].shape[0]
                out[name][:, rows] = np.moveaxis(flat.reshape(len(table), n_views, *out[name].shape[2:]), 1, 0)
            else:
                out[name][rows] = flat.reshape(len(table), out[name].shape[1])
    except (pa.ArrowException, OSError, KeyError, ValueError) as error:
        raise _damaged(path, error) from error
