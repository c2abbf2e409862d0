"""Reading and writing of tensors, tables and targets, and reading of JSON."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import safetensors
import safetensors.numpy

from labelwise.files.round_files import again
from labelwise.types import LabelwiseError, Rects, Targets
from labelwise.types.disk import replacing, write_bytes

_TARGETS = ("images", "offsets", "boxes", "labels", "w_cls", "w_box", "origin", "windows", "whole")
_TARGET_RECTS = ("negatives", "ignore")


def write_tensors(path: Path, tensors: Mapping[str, np.ndarray], metadata: Mapping[str, str] | None = None) -> None:
    """Writes named arrays as safetensors, with text metadata."""
    arrays = {name: np.asarray(array, order="C") for name, array in tensors.items()}
    write_bytes(path, safetensors.numpy.save(arrays, dict(metadata or {})))


def read_tensors(path: Path) -> tuple[dict[str, np.ndarray], dict[str, str]]:
    """The arrays and the metadata of a safetensors file."""
    try:
        with safetensors.safe_open(path, framework="np") as file:
            return {name: file.get_tensor(name) for name in file.keys()}, dict(file.metadata() or {})  # noqa: SIM118
    except FileNotFoundError:
        raise LabelwiseError(f"{path} is missing: {again(path)}") from None
    except (safetensors.SafetensorError, OSError, ValueError) as error:
        raise LabelwiseError(f"{path} is damaged or cut short: {error}; {again(path)}") from error


def write_targets(path: Path, targets: Targets) -> None:
    """Writes training targets as safetensors."""
    tensors = {name: getattr(targets, name) for name in _TARGETS}
    if not targets.whole.any():
        del tensors["whole"]
    for name in _TARGET_RECTS:
        rects: Rects = getattr(targets, name)
        tensors |= {f"{name}.offsets": rects.offsets, f"{name}.xyxy": rects.xyxy}
    if targets.doubt is not None and targets.doubt_scores is not None:
        tensors |= {"doubt.offsets": targets.doubt.offsets, "doubt.xyxy": targets.doubt.xyxy}
        tensors["doubt_scores"] = targets.doubt_scores
    write_tensors(path, tensors, {"labelwise": "targets"})


def read_targets(path: Path) -> Targets:
    """Reads training targets."""
    tensors, metadata = read_tensors(path)
    missing = {*_TARGETS} - {"whole"} - set(tensors)  # not written where none is
    if metadata.get("labelwise") != "targets" or missing:
        raise LabelwiseError(f"{path} holds no training targets; {again(path)}")
    negatives, ignore = (Rects(tensors[f"{name}.offsets"], tensors[f"{name}.xyxy"]) for name in _TARGET_RECTS)
    doubt = Rects(tensors["doubt.offsets"], tensors["doubt.xyxy"]) if "doubt_scores" in tensors else None
    return Targets(
        negatives=negatives,
        ignore=ignore,
        doubt=doubt,
        doubt_scores=tensors.get("doubt_scores"),
        **{name: tensors[name] for name in _TARGETS if name in tensors},
    )


def write_table(path: Path, columns: Mapping[str, np.ndarray]) -> None:
    """Writes columns of one length as a Parquet file."""
    lengths = {name: len(column) for name, column in columns.items()}
    if len(set(lengths.values())) > 1:
        raise LabelwiseError(f"{path}: the columns have different lengths {lengths}; expected one length")
    table = pa.table({name: pa.array(column) for name, column in columns.items()})
    with replacing(path) as partial:
        pq.write_table(table, partial, compression="zstd", write_page_checksum=True)


def read_table(path: Path) -> dict[str, np.ndarray]:
    """The columns of a Parquet file; text comes back as Python strings."""
    try:
        with pq.ParquetFile(path, page_checksum_verification=True) as file:
            table = file.read()
    except FileNotFoundError:
        raise LabelwiseError(f"{path} is missing: {again(path)}") from None
    except (pa.ArrowException, OSError) as error:
        raise LabelwiseError(f"{path} is damaged or cut short: {error}; {again(path)}") from error
    return {name: table[name].to_numpy() for name in table.column_names}


def read_record(path: Path) -> np.ndarray:
    """What a training recorded of every image [records, images] (`history.npy`), memory-mapped."""
    try:
        table: np.ndarray = np.load(path, mmap_mode="r")
        return table
    except (OSError, ValueError) as error:
        raise LabelwiseError(f"{path}: no record of the training ({error}); {again(path)}") from None


def read_json(path: Path) -> Any:
    """Reads a JSON file; a missing or damaged one is an error that names it."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise LabelwiseError(f"{path} is missing: {again(path)}") from None
    except (OSError, ValueError) as error:
        raise LabelwiseError(f"{path} cannot be read: {error}; {again(path)}") from error
