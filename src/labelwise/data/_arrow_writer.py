"""The images and boxes of a pool as one table of Hugging Face `datasets` (machinery of `datasets`)."""

from __future__ import annotations

import json
from collections.abc import Iterator
from io import BytesIO
from itertools import repeat
from pathlib import Path
from typing import Any

import pyarrow as pa
from PIL import Image

from labelwise.data import image_store, staging
from labelwise.types import LabelwiseError, Pool

_BATCH = 64
"""Images in memory at a time."""


def write_table(pool: Pool, path: Path, features: dict[str, Any], copy_images: bool) -> None:
    """A pool as one file; `features` describes its columns as `datasets` does."""
    objects = pa.struct(
        [
            ("bbox", pa.list_(pa.list_(pa.float64(), 4))),
            ("category", pa.list_(pa.int64())),
            ("iscrowd", pa.list_(pa.int64())),
        ]
    )
    picture = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    columns = [("image_id", pa.int64()), ("image", picture), ("width", pa.int64()), ("height", pa.int64())]
    about = {"huggingface": json.dumps({"info": {"features": features}})}
    schema = pa.schema([*columns, ("objects", objects)], about)
    fetched: Iterator[bytes | None] = repeat(None)
    if staging.in_store(pool):
        fetched = image_store.contents([pool.path(i) for i in range(len(pool))])
    with pa.OSFile(str(path), "wb") as file, pa.ipc.new_stream(file, schema) as stream:
        for start in range(0, len(pool), _BATCH):
            numbers = range(start, min(start + _BATCH, len(pool)))
            rows = [_row(pool, i, copy_images, next(fetched)) for i in numbers]
            stream.write_batch(pa.RecordBatch.from_pylist(rows, schema))


def _row(pool: Pool, i: int, copy_images: bool, fetched: bytes | None) -> dict[str, Any]:
    return {
        "image_id": i,
        "image": _picture(pool, i, copy_images) if fetched is None else {"bytes": fetched, "path": pool.path(i).name},
        "width": int(pool.width_px[i]),
        "height": int(pool.height_px[i]),
        "objects": _objects(pool, i),
    }


def _picture(pool: Pool, i: int, copy_images: bool) -> dict[str, Any]:
    drawn = pool.pixels[i] if pool.pixels is not None else pool.frames(i) if pool.frames is not None else None
    name = pool.names[i]
    if drawn is not None:
        out = BytesIO()
        Image.fromarray(drawn).save(out, "PNG")
        return {"bytes": out.getvalue(), "path": Path(name.replace("#", "__")).name + ".png"}
    source = pool.path(i).resolve()
    if not source.is_file():
        raise LabelwiseError(f"{source}: no such image file. Read the data set anew before you write it.")
    return {"bytes": source.read_bytes(), "path": source.name} if copy_images else {"bytes": None, "path": str(source)}


def _objects(pool: Pool, i: int) -> dict[str, Any] | None:
    """None: nobody has looked at the image."""
    found: list[tuple[list[float], int, int]] = []
    if pool.truth is not None:
        rows = slice(*pool.truth.offsets[i : i + 2])
        found += [
            (b, c, 0) for b, c in zip(pool.truth.xyxy[rows].tolist(), pool.truth.labels[rows].tolist(), strict=True)
        ]
    if pool.crowd is not None:
        found += [(box, 0, 1) for box in pool.crowd.of(i).tolist()]
    if not found and (pool.truth is None or (pool.complete is not None and not pool.complete[i])):
        return None
    boxes = [[x1, y1, x2 - x1, y2 - y1] for (x1, y1, x2, y2), _, _ in found]
    return {"bbox": boxes, "category": [c for _, c, _ in found], "iscrowd": [crowd for _, _, crowd in found]}
