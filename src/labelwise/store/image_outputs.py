"""What a model said of whole images, beside the detections: `images-00000.parquet`, ... one file per shard."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from labelwise.store.atomic import readable_errors, sync
from labelwise.types import ImageOutputs, LabelwiseError


def _path(folder: Path, shard: int) -> Path:
    return folder / f"images-{shard:05d}.parquet"


def part(said: ImageOutputs | None, start: int, stop: int) -> ImageOutputs | None:
    """A range of images, without copying."""
    if said is None:
        return None
    return ImageOutputs(said.features[start:stop], said.predicted_loss[start:stop], said.seen[start:stop])


def joined(parts: Sequence[ImageOutputs | None]) -> ImageOutputs:
    """The parts one after another."""
    said = [one for one in parts if one is not None]
    return ImageOutputs(
        np.concatenate([one.features for one in said]),
        np.concatenate([one.predicted_loss for one in said]),
        np.concatenate([one.seen for one in said]),
    )


def write(folder: Path, shard: int, parts: Sequence[ImageOutputs | None]) -> None:
    """Writes the images of one shard."""
    said = joined(parts)
    columns = {"seen": pa.array(said.seen), "predicted_loss": pa.array(said.predicted_loss)}
    width = said.features.shape[1]
    if width:
        columns["features"] = pa.FixedSizeListArray.from_arrays(pa.array(said.features.reshape(-1)), width)
    path = _path(folder, shard)
    with readable_errors(path):
        pq.write_table(pa.table(columns), path, compression="zstd", use_dictionary=False, write_page_checksum=True)
        sync(path)


def read(folder: Path, spans: Sequence[tuple[int, int]], width: int) -> ImageOutputs:
    """Reads all shards; `spans` are the image numbers (first, behind the last) of each."""
    n = spans[-1][1] if spans else 0
    out = ImageOutputs(np.zeros((n, width), np.float32), np.zeros(n, np.float32), np.zeros(n, np.bool_))
    for shard, (first, stop) in enumerate(spans):
        path = _path(folder, shard)
        try:
            with pq.ParquetFile(path, page_checksum_verification=True) as file:
                table = file.read()
            out.seen[first:stop] = table["seen"].to_numpy()
            out.predicted_loss[first:stop] = table["predicted_loss"].to_numpy()
            if width:
                flat = table["features"].combine_chunks().flatten().to_numpy()
                out.features[first:stop] = flat.reshape(stop - first, width)
        except (pa.ArrowException, OSError, KeyError, ValueError) as error:
            raise LabelwiseError(f"{path} is damaged or missing: {error}. Run the predict stage again") from error
    return out
