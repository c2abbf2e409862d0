"""A whole image (or a frame of a video): every object in it, or its class.

Source: the image-level baselines of 000, 002 and 003; 001 asks for the class of an image.
Differs from the paper: an object that was annotated before is not annotated again, and costs nothing.
Fails when: images are dense and the budget is small: one answer costs many boxes.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from jaxtyping import Bool, Float64, Int64

from labelwise.types import Answer, Boxes, Query
from labelwise.units._candidates import Candidates, Shard, whole_images
from labelwise.units._contract import SKIPPED, Meaning
from labelwise.units._lift import lift_scores
from labelwise.units._objects import answer_of_truth

VERDICTS: Mapping[str, Meaning] = {
    "all": Meaning("complete", look="inspect", boxes="any", covers=True),
    SKIPPED: Meaning("skip", look="inspect"),
}
DEFAULT: str | None = "all"
RECTANGLE = False
CLASS = False
ONE_PER_IMAGE = True
CLASSIFIES = True
SCALES = False
OVERLAPS = False
AT_MOST_ONE = frozenset({"queries", "images"})
PAGE = "image"


def candidates(shard: Shard) -> Candidates:
    """Every image that is not wholly covered, with its open detections."""
    return whole_images(shard)


def answer(
    query: Query,
    truth: Boxes,
    rows: Int64[np.ndarray, " k"],
    annotated: Bool[np.ndarray, " n"],
    iou_threshold: float,
) -> Answer:
    """Verdict "all", with every ground-truth box of the image that had not been annotated."""
    return answer_of_truth(query, "all", truth, rows[~annotated[rows]])


def lift(
    value: Float64[np.ndarray, " m"], offsets: Int64[np.ndarray, " n+1"], how: str, rng: np.random.Generator
) -> Float64[np.ndarray, " n"]:
    """Mean, maximum, sum or a random one of the scores of its detections; 0 where there is none."""
    return lift_scores(value, offsets, how, rng)
