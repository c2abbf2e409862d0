"""A unit of somebody's own: is there any object in this image? "empty" covers it, of "present" nothing follows.

Source: none, an example for tests.
Fails when: most images hold objects: then its answers teach nothing, and it asks again in the next round.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from jaxtyping import Bool, Float64, Int64

from labelwise.types import Answer, Boxes, Query
from labelwise.units._candidates import Candidates, Shard, whole_images
from labelwise.units._contract import SKIPPED, Meaning
from labelwise.units._lift import lift_scores
from labelwise.units._objects import plain_answer

VERDICTS: Mapping[str, Meaning] = {
    "empty": Meaning("empty", look="inspect", covers=True),
    "present": Meaning("present", look="verify"),
    SKIPPED: Meaning("skip", look="verify"),
}
DEFAULT: str | None = None
RECTANGLE = False
CLASS = False
ONE_PER_IMAGE = True
CLASSIFIES = False
SCALES = False
OVERLAPS = False
AT_MOST_ONE = frozenset({"queries", "images", "boxes"})
PAGE = "presence"


def candidates(shard: Shard) -> Candidates:
    """Every image that is not wholly covered."""
    return whole_images(shard)


def answer(
    query: Query,
    truth: Boxes,
    rows: Int64[np.ndarray, " k"],
    annotated: Bool[np.ndarray, " n"],
    iou_threshold: float,
) -> Answer:
    """Whether the image holds an object, annotated before or not."""
    return plain_answer(query, "present" if len(rows) else "empty")


def lift(
    value: Float64[np.ndarray, " m"], offsets: Int64[np.ndarray, " n+1"], how: str, rng: np.random.Generator
) -> Float64[np.ndarray, " n"]:
    """Mean, maximum, sum or a random one of the scores of its detections; 0 where there is none."""
    return lift_scores(value, offsets, how, rng)
