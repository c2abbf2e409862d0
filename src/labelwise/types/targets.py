"""What is known of a pool, and what a model trains on."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import numpy as np
from jaxtyping import Bool, Float32, Int8, Int64

from labelwise.types.boxes import Boxes, Rects
from labelwise.types.columns import check, check_column, check_finite, check_offsets, image_of
from labelwise.types.pool import Pool

ORIGIN_LABEL, ORIGIN_PSEUDO = 0, 1
"""`Targets.origin`: a box that somebody annotated, and a box that the model predicted."""


@dataclass(frozen=True, slots=True, eq=False)
class Labels:
    """All that is known of a pool: the partial-label model of DESIGN section 3, one row per image of the pool.

    `annotations`: the current (not superseded) annotated boxes. `coverage`: inside such a rectangle every object is
    annotated. `background`: such a candidate box holds no object. `answered`: at least one query on it was answered.
    `trust`: how sure the class of each annotation is, 0 to 1; None: all are certain.
    """

    annotations: Boxes
    coverage: Rects
    background: Rects
    answered: Bool[np.ndarray, " images"]
    trust: Float32[np.ndarray, " n"] | None = None

    def __post_init__(self) -> None:
        if self.trust is not None:
            check_column("Labels", "trust", self.trust, np.float32, (len(self.annotations),))
            check_finite("Labels", "trust", self.trust)

    def covered(self, pool: Pool) -> Bool[np.ndarray, " images"]:
        """Whether the whole image is covered: nothing is left to ask there."""
        owner, rects = image_of(self.coverage.offsets), self.coverage.xyxy
        whole = (rects[:, 0] <= 0) & (rects[:, 1] <= 0)
        whole &= (rects[:, 2] >= pool.width_px[owner]) & (rects[:, 3] >= pool.height_px[owner])
        covered: np.ndarray = np.bincount(owner[whole], minlength=len(pool)) > 0
        return covered

    def of_images(self, images: slice) -> Labels:
        """What is known of a range of images, numbered from its first."""

        def rows(table: Rects | Boxes) -> tuple[np.ndarray, slice]:
            offsets = table.offsets[images.start : images.stop + 1]
            return offsets - offsets[0], slice(int(offsets[0]), int(offsets[-1]))

        (annotated, boxes), (covers, covered) = rows(self.annotations), rows(self.coverage)
        marks, marked = rows(self.background)
        return Labels(
            Boxes(annotated, self.annotations.xyxy[boxes], self.annotations.labels[boxes]),
            Rects(covers, self.coverage.xyxy[covered]),
            Rects(marks, self.background.xyxy[marked]),
            self.answered[images],
            None if self.trust is None else self.trust[boxes],
        )

    def take(self, images: Int64[np.ndarray, " k"]) -> Labels:
        """What is known of some images, in the order given (any, also one twice), numbered by it."""

        def rows(offsets: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
            count = np.diff(offsets)[images]
            ends = count.cumsum()
            begins = np.repeat(offsets[images] - (ends - count), count)
            return np.append(0, ends), begins + np.arange(len(begins))

        (annotated, boxes), (covers, covered) = rows(self.annotations.offsets), rows(self.coverage.offsets)
        marks, marked = rows(self.background.offsets)
        return Labels(
            Boxes(annotated, self.annotations.xyxy[boxes], self.annotations.labels[boxes]),
            Rects(covers, self.coverage.xyxy[covered]),
            Rects(marks, self.background.xyxy[marked]),
            self.answered[images],
            None if self.trust is None else self.trust[boxes],
        )


@dataclass(frozen=True, slots=True, eq=False)
class Targets:
    """What the model trains on this round; one entry of `images` (pool numbers) per training image.

    Every box carries the weights of its classification and localisation loss (000, Eq. 5-7). An anchor that matches no
    box is a negative where at least half of its area lies inside the image's `negatives` rectangles (the whole image,
    unless the policy ignores what nobody looked at), and is ignored where at least half lies inside `ignore`.
    `windows` is the part of the image that an entry shows: the whole of it, or a labelled region that is trained on as
    a crop; an image may have several entries. `whole` says of which entries all that is shown was looked over by
    somebody; without it, of none. `doubt`, if it is there: boxes that may be objects although nobody said so, with
    their confidence; a model may let negatives that overlap them weigh less. Everything is in pixels of the original
    image.
    """

    images: Int64[np.ndarray, " m"]
    offsets: Int64[np.ndarray, " m+1"]
    boxes: Float32[np.ndarray, "n 4"]
    labels: Int64[np.ndarray, " n"]
    w_cls: Float32[np.ndarray, " n"]
    w_box: Float32[np.ndarray, " n"]
    origin: Int8[np.ndarray, " n"]
    negatives: Rects
    ignore: Rects
    windows: Float32[np.ndarray, "m 4"]
    whole: Bool[np.ndarray, " m"] = field(default_factory=lambda: np.zeros(0, np.bool_))
    doubt: Rects | None = None
    doubt_scores: Float32[np.ndarray, " d"] | None = None

    def __post_init__(self) -> None:
        n = len(self.boxes)
        if not len(self.whole):
            object.__setattr__(self, "whole", np.zeros(len(self.images), np.bool_))
        check_column("Targets", "whole", self.whole, np.bool_, (len(self.images),))
        check_column("Targets", "windows", self.windows, np.float32, (len(self.images), 4))
        check_column("Targets", "boxes", self.boxes, np.float32, (n, 4))
        check_column("Targets", "labels", self.labels, np.int64, (n,))
        for name in ("w_cls", "w_box"):
            check_column("Targets", name, getattr(self, name), np.float32, (n,))
            check_finite("Targets", name, getattr(self, name))
        check_column("Targets", "origin", self.origin, np.int8, (n,))
        check_offsets("Targets", "offsets", self.offsets, n)
        for name, rects in (("negatives", self.negatives), ("ignore", self.ignore)):
            check(len(rects.offsets) == len(self.images) + 1, f"Targets.{name}: expected {len(self.images)} images")
        if self.doubt is not None:
            check(len(self.doubt.offsets) == len(self) + 1, f"Targets.doubt: expected {len(self)} images")
            scores = np.zeros(0) if self.doubt_scores is None else self.doubt_scores
            check_column("Targets", "doubt_scores", scores, np.float32, (len(self.doubt.xyxy),))
        check(len(self.offsets) == len(self.images) + 1, f"Targets.offsets: expected {len(self.images)} images")

    def __len__(self) -> int:
        return len(self.images)

    def without_whole(self) -> Targets:
        """Without telling which entries were looked over: for a training that draws all alike."""
        return replace(self, whole=np.zeros(len(self), np.bool_))
