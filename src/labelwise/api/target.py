"""What a detector trains on, image by image: boxes with weights, and where nothing else may be called background."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, fields
from pathlib import Path

import numpy as np
from jaxtyping import Bool, Float32, Int64

from labelwise.data import image_store
from labelwise.types import ORIGIN_LABEL, Pool, Targets


@dataclass(frozen=True, slots=True, eq=False)
class Target:
    """The target of one image; boxes and rectangles are xyxy in its pixels.

    `w_cls`, `w_box`: what each box's classification and localisation loss counts (000, Eq. 5-7); a box with both 0 is
    neither an object nor background. `answered`: somebody annotated the box, the others are pseudo labels. What
    matches no box is background where at least half of it lies in one of `negatives`, and is left out of the loss
    elsewhere, and where half of it lies in one of `ignore`. `window`: the part of the image to show, usually the whole.
    `path`: None where the image is no file of its own (a frame of a film, a row of an array) or lies in an object
    store; see `Project.pixels`.
    """

    image: str
    path: Path | None
    size_px: tuple[int, int]
    boxes: Float32[np.ndarray, "n 4"]
    labels: Int64[np.ndarray, " n"]
    w_cls: Float32[np.ndarray, " n"]
    w_box: Float32[np.ndarray, " n"]
    answered: Bool[np.ndarray, " n"]
    negatives: Float32[np.ndarray, "r 4"]
    ignore: Float32[np.ndarray, "s 4"]
    window: tuple[float, float, float, float]

    def asdict(self) -> dict[str, object]:
        """Its fields by name."""
        return {field.name: getattr(self, field.name) for field in fields(self)}


def per_image(targets: Targets, pool: Pool) -> Iterator[Target]:
    """The targets of every training image; an image has several where labelled regions are trained on as crops."""
    for row, number in enumerate(targets.images.tolist()):
        span = slice(int(targets.offsets[row]), int(targets.offsets[row + 1]))
        x1, y1, x2, y2 = map(float, targets.windows[row])
        yield Target(
            image=pool.names[number],
            path=_file(pool, number),
            size_px=(int(pool.width_px[number]), int(pool.height_px[number])),
            boxes=targets.boxes[span],
            labels=targets.labels[span],
            w_cls=targets.w_cls[span],
            w_box=targets.w_box[span],
            answered=targets.origin[span] == ORIGIN_LABEL,
            negatives=targets.negatives.of(row),
            ignore=targets.ignore.of(row),
            window=(x1, y1, x2, y2),
        )


def _file(pool: Pool, number: int) -> Path | None:
    path = pool.path(number)
    if pool.pixels is not None or image_store.of(path) is not None:
        return None
    return path if pool.frames is None or path.is_file() else None
