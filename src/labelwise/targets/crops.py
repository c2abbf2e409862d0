"""Labelled regions as training images of their own: the crop, and the annotated objects that lie in it.

Source: 003, section 4.5: objects that overlap a selected region by more than 0.7 belong to it, cropped to it. The text
says IoU with the region, which no small object could reach; the share of the object is meant (DESIGN section 4).
Differs from the paper: an object that an earlier answer annotated is not asked again; it belongs to every region that
holds it, as it was annotated then (an object that an earlier region cropped stays cropped). What a region's border
cuts off an object that does not belong to it is a negative of the crop, as the text has it; with `cut = "ignore"` it is
neither object nor background.
"""

from __future__ import annotations

from typing import Literal

import numpy as np
from jaxtyping import Bool, Int64

from labelwise.types import ORIGIN_LABEL, Detections, Labels, Rects, Targets, image_of, offsets_of
from labelwise.types.overlap import pairs, share_pairs
from labelwise.units import IN_REGION

Cut = Literal["negative", "ignore"]
"""What the remains of an object are that lies in a region, but not by more than `IN_REGION` of its area."""


def partial_rects(coverage: Rects, size_px: Int64[np.ndarray, "images 2"]) -> Bool[np.ndarray, " k"]:
    """Which coverage rectangles are less than the whole image."""
    size = size_px[image_of(coverage.offsets)]
    low, high = coverage.xyxy[:, :2], coverage.xyxy[:, 2:]
    part: np.ndarray = (low > 0).any(axis=1) | (high < size).any(axis=1)
    return part


def only_regions(known: Labels, part: Bool[np.ndarray, " k"]) -> Bool[np.ndarray, " images"]:
    """Images of which nothing is known but regions: no whole coverage, no annotation outside, no background mark."""
    image, n = image_of(known.coverage.offsets), len(known.answered)
    regions = Rects(offsets_of(image[part], n), known.coverage.xyxy[part])
    has_region, has_whole = np.diff(regions.offsets) > 0, np.bincount(image[~part], minlength=n) > 0
    inside = np.zeros(len(known.annotations), bool)
    box, region = pairs(known.annotations.offsets, regions.offsets)
    inside[box[share_pairs(known.annotations.xyxy[box], regions.xyxy[region]) > 0.999]] = True
    outside = np.bincount(known.annotations.image[~inside], minlength=n) > 0
    alone: np.ndarray = has_region & ~has_whole & ~outside & (np.diff(known.background.offsets) == 0)
    return alone


def entries(
    known: Labels,
    part: Bool[np.ndarray, " k"],
    crowd: Rects | None,
    candidates: Detections | None = None,
    cut: Cut = "negative",
) -> Targets:
    """One training entry per labelled region: nothing but labels, weight 1, negative everywhere else in it.

    With `cut = "ignore"` the remains of annotated objects that do not belong to a region are ignored in it, and those
    of `candidates`: nobody annotates what a region does not hold.
    """
    image, xyxy = image_of(known.coverage.offsets)[part], known.coverage.xyxy[part]
    m, n = len(image), len(known.answered)
    regions = Rects(offsets_of(image, n), xyxy)
    region, row, boxes = _inside(regions, known.annotations.offsets, known.annotations.xyxy)
    ignored = [] if crowd is None else [_remains(regions, crowd.offsets, crowd.xyxy, 1.0)]
    if cut == "ignore":
        ignored.append(_remains(regions, known.annotations.offsets, known.annotations.xyxy, IN_REGION))
        if candidates is not None:
            ignored.append(_remains(regions, candidates.offsets, candidates.boxes, IN_REGION))
    of, rects = (np.concatenate(both) for both in zip(*ignored, strict=True)) if ignored else (image[:0], xyxy[:0])
    ignore = Rects.from_rows(of, rects, m)
    one = np.ones(len(row), np.float32)
    sure = one if known.trust is None else known.trust[row]
    return Targets(
        image, offsets_of(region, m), boxes, known.annotations.labels[row], sure, one.copy(),
        np.full(len(row), ORIGIN_LABEL, np.int8), Rects(np.arange(m + 1), xyxy), ignore, xyxy,
        np.ones(m, np.bool_),
    )  # fmt: skip


def _inside(regions: Rects, offsets: np.ndarray, xyxy: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Region, row and cropped box of every box that lies in a region of its image by more than `IN_REGION`."""
    region, row = pairs(regions.offsets, offsets)
    keep = share_pairs(xyxy[row], regions.xyxy[region]) > IN_REGION
    region, row = region[keep], row[keep]
    return region, row, _cropped(xyxy[row], regions.xyxy[region])


def _remains(
    regions: Rects, offsets: np.ndarray, xyxy: np.ndarray, most: float
) -> tuple[Int64[np.ndarray, " r"], np.ndarray]:
    """Region and cropped box of every box of which a region holds something, but not more than the share `most`."""
    region, row = pairs(regions.offsets, offsets)
    cut = _cropped(xyxy[row], regions.xyxy[region])
    some = (cut[:, 2:] > cut[:, :2]).all(axis=1)
    if most < 1:
        some &= share_pairs(xyxy[row], regions.xyxy[region]) <= most
    return region[some], cut[some]


def _cropped(boxes: np.ndarray, windows: np.ndarray) -> np.ndarray:
    low, high = np.maximum(boxes[:, :2], windows[:, :2]), np.minimum(boxes[:, 2:], windows[:, 2:])
    return np.concatenate([low, high], axis=1).astype(np.float32)


def appended(first: Targets, second: Targets) -> Targets:
    """The entries of both, one after the other."""

    def both(name: str) -> np.ndarray:
        return np.concatenate([getattr(first, name), getattr(second, name)])

    def rects(a: Rects, b: Rects) -> Rects:
        return Rects(np.concatenate([a.offsets, a.offsets[-1] + b.offsets[1:]]), np.concatenate([a.xyxy, b.xyxy]))

    doubt = first.doubt  # of images that are not wholly looked over; the second entries are
    if doubt is not None:
        doubt = rects(doubt, Rects.empty(len(second)))
    return Targets(
        offsets=np.concatenate([first.offsets, first.offsets[-1] + second.offsets[1:]]),
        negatives=rects(first.negatives, second.negatives),
        ignore=rects(first.ignore, second.ignore),
        doubt=doubt,
        doubt_scores=first.doubt_scores,
        **{name: both(name) for name in ("images", "boxes", "labels", "w_cls", "w_box", "origin", "windows", "whole")},
    )
