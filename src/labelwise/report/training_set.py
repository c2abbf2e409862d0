"""The training set that came of it all, as COCO files that never turn an unasked image into a negative.

`whole` holds the images that were looked at as a whole: there, what has no box is background, as every reader of COCO
takes it. `part` holds those of which only boxes or regions were asked: nothing is known outside `coverage`, so that a
reader must honour it; it is a file of its own, so that nobody trains on it by mistake. Images without an answer are in
neither.

Each image carries `labelwise`: `looked_at`, the rectangles `coverage` (inside, every object is annotated) and
`background` (candidates that people rejected). Each annotation carries `attributes`: origin, who, round,
query, created.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from jaxtyping import Int64

from labelwise.types import Labels, Pool, Rects

EDGE_PX = 1.0
"""How much a covered rectangle may leave of an image at its edges and still be all of it."""
_ATTRIBUTES = ("origin", "who", "round", "query_id", "created")


def split_by_coverage(pool: Pool, labels: Labels) -> tuple[Int64[np.ndarray, " whole"], Int64[np.ndarray, " part"]]:
    """Numbers of the images that one answer covers wholly, and of the others of which something is known."""
    return _whole(pool, labels.coverage), _part(pool, labels)


def _whole(pool: Pool, coverage: Rects) -> Int64[np.ndarray, " whole"]:
    image = np.repeat(np.arange(len(pool)), np.diff(coverage.offsets))
    size = np.stack([pool.width_px, pool.height_px], axis=1)[image]
    reach = (coverage.xyxy[:, :2] <= EDGE_PX).all(axis=1) & (coverage.xyxy[:, 2:] >= size - EDGE_PX).all(axis=1)
    return np.unique(image[reach]).astype(np.int64)


def _part(pool: Pool, labels: Labels) -> Int64[np.ndarray, " part"]:
    tables = (labels.annotations, labels.coverage, labels.background)
    known = np.any([np.diff(table.offsets) > 0 for table in tables], axis=0)
    known[_whole(pool, labels.coverage)] = False
    return np.flatnonzero(known).astype(np.int64)


def coco(
    pool: Pool,
    labels: Labels,
    annotations: Sequence[Mapping[str, Any]],
    images: Int64[np.ndarray, " m"],
    *,
    project: str,
    part: bool,
    home: str,
    drawn: bool = False,
) -> dict[str, Any]:
    """A COCO file (plain data) of these images.

    Args:
        pool: the images.
        labels: what is known of them.
        annotations: the current annotations: image, x1, y1, x2, y2, label, origin, who, round, query_id, created.
        images: numbers of the images to write.
        project: the project's id.
        part: whether these images were looked at in part only.
        home: the folder from which file names count, as seen from that of the export.
        drawn: the images are no files of their own, and were drawn as PNG below `home`.
    """
    id_of = {pool.names[image]: k for k, image in enumerate(images.tolist(), start=1)}
    rows: list[dict[str, Any]] = []
    for row in annotations:
        if row["image"] in id_of:
            x1, y1, x2, y2 = (float(row[key]) for key in ("x1", "y1", "x2", "y2"))
            made: dict[str, Any] = {
                "id": len(rows) + 1,
                "image_id": id_of[row["image"]],
                "category_id": int(row["label"]) + 1,
            }
            made |= {"bbox": [x1, y1, x2 - x1, y2 - y1], "area": (x2 - x1) * (y2 - y1)}
            made |= {"iscrowd": 0, "segmentation": [], "attributes": {key: row.get(key) for key in _ATTRIBUTES}}
            rows.append(made)
    meaning = (
        "PARTLY LABELLED: outside images[].labelwise.coverage nobody looked; do not take it as background"
        if part
        else "every object of these images is annotated; images that nobody looked at are not in this file"
    )
    info = {"description": meaning, "labelwise_project": project, "labelwise_looked_at": _word(part)}
    return {
        "info": {**info, "labelwise_images": home},
        "images": [_image(pool, labels, image, id_of[pool.names[image]], part, drawn) for image in images.tolist()],
        "categories": [{"id": k, "name": name} for k, name in enumerate(pool.classes, start=1)],
        "annotations": rows,
    }


def _word(part: bool) -> str:
    return "part" if part else "whole"


def _image(pool: Pool, labels: Labels, image: int, image_id: int, part: bool, drawn: bool) -> dict[str, Any]:
    known = {
        "looked_at": _word(part),
        "coverage": labels.coverage.of(image).tolist(),
        "background": labels.background.of(image).tolist(),
    }
    made: dict[str, Any] = {"id": image_id, "file_name": pool.names[image] + ".png" * drawn, "labelwise": known}
    made |= {"width": int(pool.width_px[image]), "height": int(pool.height_px[image])}
    if pool.clips is not None:
        made |= {"video_id": int(pool.clips.video[image]) + 1, "frame_id": int(pool.clips.frame[image])}
    return made
