"""What a model said of whole images, beside the detections: `images-00000.parquet`, ... one file per shard."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from labelwise.files.round_files import again
from labelwise.types import ImageOutputs, LabelwiseError
from labelwise.types.disk import readable_errors, sync


def _path(folder: Path, shard: str) -> Path:
    return folder / shard.replace("part-", "images-")


def part(said: ImageOutputs | None, start: int, stop: int) -> ImageOutputs | None:
    """A range of images, without copying."""
    if said is None:
        return None
    return ImageOutputs(said.features[start:stop], said.predicted_loss[start:stop], said.seen[start:stop])


def join(parts: Sequence[ImageOutputs | None]) -> ImageOutputs:
    """The parts one after another."""
    said = [one for one in parts if one is not None]
    return ImageOutputs(
        np.concatenate([one.features for one in said]),
        np.concatenate([one.predicted_loss for one in said]),
        np.concatenate([one.seen for one in said]),
    )


def write(shard: Path, parts: Sequence[ImageOutputs | None]) -> None:
    """Writes the images of one shard beside it."""
    said = join(parts)
    columns = {"seen": pa.array(said.seen), "predicted_loss": pa.array(said.predicted_loss)}
    width = said.features.shape[1]
    if width:
        columns["features"] = pa.FixedSizeListArray.from_arrays(pa.array(said.features.reshape(-1)), width)
    path = _path(shard.parent, shard.name)
    with readable_errors(path):
        pq.write_table(pa.table(columns), path, compression="zstd", use_dictionary=False, write_page_checksum=True)
        sync(path)


def read(folder: Path, shards: Sequence[str], n_images: int, width: int) -> ImageOutputs:
    """Reads the images of consecutive shards, given by their file names."""
    parts = [_read(_path(folder, shard), width) for shard in shards]
    said = join(parts)
    if len(said) != n_images:
        raise LabelwiseError(
            f"{folder}: outputs of {len(said)} images, expected {n_images}; {again(_path(folder, shards[0]))}"
        )
    return said


def _read(path: Path, width: int) -> ImageOutputs:
    try:
        with pq.ParquetFile(path, page_checksum_verification=True) as file:
            table = file.read()
        features = np.zeros((len(table), width), np.float32)
        if width:
            features[:] = table["features"].combine_chunks().flatten().to_numpy().reshape(len(table), width)
        return ImageOutputs(features, table["predicted_loss"].to_numpy(), table["seen"].to_numpy(zero_copy_only=False))
    except (pa.ArrowException, OSError, KeyError, ValueError) as error:
        raise LabelwiseError(f"{path} is damaged or missing: {error}; {again(path)}") from error
