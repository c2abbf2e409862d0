"""Test images that nobody has looked at, or of which some objects are known: what of a test on them counts.

Where all objects of an image are known, everything counts. Where some are known (a partly labelled image), a detection
that hits none of them by IoU >= 0.5 is neither right nor wrong: it may be an object that nobody has annotated. One that
hits counts, as a find, a double or a confusion. An image that nobody has looked at counts not at all.

Source: our own; Open Images judges detections of classes that nobody verified in an image in the same way (they are
left out).
Fails when: what is known is no random part of the objects: recall on large, clear objects is no recall on all.

>>> from pathlib import Path
>>> size = np.full(3, 9)
>>> truth = Boxes.from_rows(np.array([0, 1]), np.array([[0, 0, 4, 4], [0, 0, 4, 4]]), np.array([0, 0]), 3)
>>> test = Pool(Path(), ("a",), ("0", "1", "2"), size, size, truth=truth, complete=np.array([True, False, False]))
>>> boxes = np.array([[5, 5, 9, 9], [0, 0, 4, 3], [5, 5, 9, 9], [0, 0, 4, 4]], np.float32)
>>> one = np.ones((4, 1), np.float32)
>>> found = Detections(np.array([0, 1, 3, 4]), boxes, one, one[:, 0], one[:, :0])
>>> counts(test, found).tolist()  # image 0 is known, 1 in part, 2 not at all
[True, True, False, False]
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Bool

from labelwise.types import Boxes, Detections, Pool, Rects
from labelwise.types.overlap import highest, iou_pairs

HIT = 0.5
"""IoU from which a detection is one of a known object, right or not."""


def images(test: Pool) -> tuple[Bool[np.ndarray, " images"], Bool[np.ndarray, " images"]]:
    """Which images are known wholly, and which in part; the others nobody has looked at."""
    truth = Boxes.empty(len(test)) if test.truth is None else test.truth
    whole = np.ones(len(test), np.bool_) if test.complete is None else test.complete
    return whole, ~whole & (np.diff(truth.offsets) > 0)


def counts(test: Pool, found: Detections) -> Bool[np.ndarray, " n"]:
    """Which detections count."""
    truth = Boxes.empty(len(test)) if test.truth is None else test.truth
    whole, _ = images(test)
    hits = highest(found.offsets, found.boxes, Rects(truth.offsets, truth.xyxy), iou_pairs) >= HIT
    which: np.ndarray = whole[found.image] | hits
    return which


def shares(test: Pool, found: Detections) -> dict[str, int]:
    """For the record of a test: images that were looked at, wholly or in part, of how many; detections left out."""
    whole, part = images(test)
    left_out = len(found) - int(counts(test, found).sum())
    said = {"images_looked_at": int((whole | part).sum()), "images_in_part": int(part.sum())}
    return said | {"images_in_all": len(test), "detections_left_out": left_out}
