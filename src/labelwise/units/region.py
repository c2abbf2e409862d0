"""A region: one of the windows that cover the open detections at each scale; every object in it.

A window is as large as the image at scale 1: at scale 2 it shows a quarter of it.

Source: 003, section 4.2, Algorithm 1 (candidates: `units/_windows.py`) and section 4.5 (labels), with the share of the
object for its IoU with the region: every object that lies in the region by more than 0.7 of its own area, cropped to it
(DESIGN section 4).
Differs from the paper: an object that was annotated before is not annotated again with a region, and costs nothing.
Fails when: a detection is larger than every window: no region asks about it.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from jaxtyping import Bool, Float32, Float64, Int64

from labelwise.types import Answer, Boxes, Query
from labelwise.types.resize import scaled_size
from labelwise.units._candidates import Candidates, Shard
from labelwise.units._contract import SKIPPED, Meaning
from labelwise.units._lift import lift_scores
from labelwise.units._objects import IN_REGION, plain_answer
from labelwise.units._windows import windows

VERDICTS: Mapping[str, Meaning] = {
    "all": Meaning("complete", look="inspect", boxes="any", covers=True),
    SKIPPED: Meaning("skip", look="inspect"),
}
DEFAULT: str | None = "all"
RECTANGLE = True
CLASS = False
ONE_PER_IMAGE = False
CLASSIFIES = False
SCALES = True
OVERLAPS = True
AT_MOST_ONE = frozenset({"queries"})
PAGE = "region"


def candidates(shard: Shard) -> Candidates:
    """Windows as large as the image at scale 1, over the open detections at every scale."""
    size = shard.size_px
    window_px = scaled_size(size, shard.image_size_px)
    image, number, xyxy, counts, members = [], [], [], [], []
    before = 0
    for k, (boxes, scale) in enumerate(zip(shard.parts, shard.scales, strict=True)):
        size_px = scaled_size(size, shard.image_size_px, scale)
        to_scaled = size_px / size
        scaled = boxes.boxes * np.tile(to_scaled, 2)[boxes.image].astype(np.float32)
        scaled = np.minimum(scaled, np.tile(size_px, 2)[boxes.image].astype(np.float32))  # rounding sticks out
        made = windows(boxes.offsets, scaled, size_px, window_px)
        original = made.xyxy / np.tile(to_scaled, 2)[made.image]
        xyxy.append(_snap(original, size[made.image]))
        image.append(made.image + shard.first)
        number.append(np.full(len(made.image), k))
        counts.append(np.diff(made.offsets))
        members.append(made.members + before)
        before += len(boxes)
    offsets = np.concatenate([[0], np.cumsum(np.concatenate(counts))]).astype(np.int64)
    where, n = np.concatenate(image), len(offsets) - 1
    columns = np.full(n, -1), np.concatenate(number), np.concatenate(xyxy), offsets, np.concatenate(members)
    return Candidates(shard.parts, where, *columns, shard.first)


def answer(
    query: Query,
    truth: Boxes,
    rows: Int64[np.ndarray, " k"],
    annotated: Bool[np.ndarray, " n"],
    iou_threshold: float,
) -> Answer:
    """Verdict "all", with every ground-truth box that belongs to the region and had not been annotated, cropped."""
    region, rows = np.array(query.box, np.float32), rows[~annotated[rows]]
    xyxy = truth.xyxy[rows]
    cut = np.concatenate([np.maximum(xyxy[:, :2], region[:2]), np.minimum(xyxy[:, 2:], region[2:])], axis=1)
    area = np.maximum(cut[:, 2:] - cut[:, :2], 0).astype(np.float64).prod(axis=1)
    inside = area > IN_REGION * (xyxy[:, 2:] - xyxy[:, :2]).astype(np.float64).prod(axis=1)
    return plain_answer(query, "all", cut[inside], truth.labels[rows[inside]])


def lift(
    value: Float64[np.ndarray, " m"], offsets: Int64[np.ndarray, " n+1"], how: str, rng: np.random.Generator
) -> Float64[np.ndarray, " n"]:
    """Mean, maximum, sum or a random one of the scores of its detections."""
    return lift_scores(value, offsets, how, rng)


def _snap(xyxy: np.ndarray, size: np.ndarray) -> Float32[np.ndarray, "n 4"]:
    """Inside the image, and at its border where it is less than a pixel away: a region that is the image, wholly is."""
    low = np.where(xyxy[:, :2] < 1, 0, xyxy[:, :2])
    high = np.where(xyxy[:, 2:] > size - 1, size, xyxy[:, 2:])
    return np.concatenate([low, high], axis=1).astype(np.float32)
