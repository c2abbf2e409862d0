"""Training targets of partial labels: what is known, plus what the label policy makes of the predictions.

Source: DESIGN section 3; 000, section 3.2.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal

import numpy as np
from jaxtyping import Bool, Float64, Int64

from labelwise.labels._soft_weight import Weighed
from labelwise.targets import crops
from labelwise.targets.open_detections import unsettled
from labelwise.types import (
    ORIGIN_LABEL,
    ORIGIN_PSEUDO,
    Detections,
    Labels,
    LabelwiseError,
    Rects,
    Targets,
    image_of,
    offsets_of,
)

Weigh = Callable[[dict[str, np.ndarray | None]], Weighed]
"""A policy with its settings bound: what is known of the n open candidates -> (keep, w_cls, w_box), each [n].

`scores`: confidence; `probs`: class distribution; `consistency`: cons(b) of 000 Eq. 4, or None without views;
`quality`, `tightness`: IoU with its object as the model predicts it, with its anchor; None where nobody asked for them;
`answers_per_candidate`: answers (annotated boxes and background marks, at least 1) of the candidate's image over its
number of open candidates; `class_threshold`: the upper threshold that answers show for the candidate's class, NaN where
they are too few; None where thresholds are not taken from answers.
"""


def targets(
    known: Labels,
    candidates: Detections | None,
    weigh: Weigh,
    negatives: Literal["everywhere", "known"],
    width_px: Int64[np.ndarray, " images"],
    height_px: Int64[np.ndarray, " images"],
    crowd: Rects | None,
    *,
    images: Literal["annotated", "answered", "all"] = "annotated",
    regions: Literal["coverage", "crops", "both"] = "coverage",
    cut_objects: crops.Cut = "negative",
    class_thresholds: Float64[np.ndarray, " C"] | None = None,
    doubt: Detections | None = None,
    known_only: Bool[np.ndarray, " images"] | None = None,
) -> Targets:
    """What the model trains on this round.

    A labelled region (coverage of a part of an image) is trained on as a crop of its own, as in 003 section 4.5, or as
    coverage of the full image, or both. As a crop it holds the annotated objects that lie in it by more than 0.7 of
    their own area, cropped to it. With "crops", an image of which only regions are known has no entry of its own.

    Training images are those with an annotation or coverage; `images="answered"` adds those of which only a background
    mark is known, `images="all"` takes the whole pool. Annotated boxes weigh 1, their classes `known.trust` where that
    is there. Of the candidates, those that the policy keeps are added, unless something is known there: an annotated
    box (any class) or a background mark of IoU >= 0.5, or a coverage rectangle that holds half of the box.

    Args:
        known: what has been answered, one row per image of the pool.
        candidates: detections on the whole pool, None for none.
        weigh: the policy, e.g. `lambda open_: hard.weigh(open_["scores"])`.
        negatives: the policy's `NEGATIVES`: anchors that match no box are negatives everywhere in the image, or only
            inside what is known: coverage and background marks.
        width_px: widths of the pool's images; with "everywhere" the whole image is a negative rectangle.
        height_px: heights.
        crowd: regions of the pool to ignore.
        images: which images to train on.
        regions: what labelled regions become.
        cut_objects: with crops, what the remains of an object are that a region's border cuts.
        class_thresholds: per class the upper threshold that answers show (see `class_thresholds`).
        doubt: detections on the whole pool; those that are open are kept as the targets' `doubt`.
        known_only: images in which, whatever `negatives` says, nothing is negative but what is known: they came with
            some of their objects labelled, and what nobody looked at may be one more.
    """
    n = len(known.answered)
    _check_images(n, width_px=width_px, height_px=height_px, crowd=crowd, candidates=candidates, doubt=doubt)
    _check_word("regions", regions, ("crops", "coverage", "both"))
    _check_word("cut_objects", cut_objects, ("negative", "ignore"))
    size_px = np.stack([width_px, height_px], axis=1)
    part = crops.partial_rects(known.coverage, size_px)
    chosen = _training_images(known, images)
    if regions == "crops":
        chosen = chosen[~crops.only_regions(known, part)[chosen]]
    position = np.full(n, -1)
    position[chosen] = np.arange(len(chosen))

    table = known.annotations
    rows = np.flatnonzero(position[table.image] >= 0)
    image, boxes, labels = table.image[rows], table.xyxy[rows], table.labels[rows]
    w_box = np.ones(len(rows), np.float32)
    w_cls = w_box if known.trust is None else known.trust[rows]
    origin = np.full(len(rows), ORIGIN_LABEL, np.int8)

    if candidates is not None:
        rows, weights = pseudo_labels(candidates, known, weigh, position, class_thresholds)
        image, boxes = np.append(image, candidates.image[rows]), np.append(boxes, candidates.boxes[rows], axis=0)
        labels = np.append(labels, candidates.labels[rows])
        w_cls, w_box = np.append(w_cls, weights[0]), np.append(w_box, weights[1])
        origin = np.append(origin, np.full(len(rows), ORIGIN_PSEUDO, np.int8))

    order = np.argsort(image, kind="stable")  # annotated boxes come first in every image
    offsets = offsets_of(position[image[order]], len(chosen))
    whole = Targets(
        chosen, offsets, boxes[order], labels[order], w_cls[order], w_box[order], origin[order],
        negatives=_negatives(negatives, known, chosen, size_px, known_only),
        ignore=Rects.empty(len(chosen)) if crowd is None else _rects_of(chosen, crowd),
        windows=np.concatenate([np.zeros_like(size_px), size_px], axis=1)[chosen].astype(np.float32),
        whole=np.isin(chosen, image_of(known.coverage.offsets)[~part]),
        **({} if doubt is None else _doubt(doubt, known, position)),
    )  # fmt: skip
    if regions == "coverage" or not part.any():
        return whole
    return crops.appended(whole, crops.entries(known, part, crowd, candidates, cut_objects))


def _check_images(n: int, **tables: np.ndarray | Rects | Detections | None) -> None:
    for name, table in tables.items():
        images = n if table is None else len(table) if isinstance(table, np.ndarray) else len(table.offsets) - 1
        if images != n:
            raise LabelwiseError(f"targets: {name} has {images} images, the labels {n}; both must list the pool")


def _check_word(name: str, word: str, expected: tuple[str, ...]) -> None:
    if word not in expected:
        raise LabelwiseError(f"targets: {name} is {word!r}; expected {', '.join(map(repr, expected))}")


def _doubt(found: Detections, known: Labels, position: np.ndarray) -> dict[str, Any]:
    """The open detections of the training images, as the targets keep them."""
    image = found.image
    rows = np.flatnonzero(position[image] >= 0)
    rows = rows[unsettled(offsets_of(image[rows], len(position)), found.boxes[rows], known)]
    offsets = offsets_of(position[image[rows]], int((position >= 0).sum()))
    return {"doubt": Rects(offsets, found.boxes[rows]), "doubt_scores": found.scores[rows].astype(np.float32)}


def _training_images(known: Labels, images: str) -> Int64[np.ndarray, " m"]:
    if images not in ("annotated", "answered", "all"):
        raise LabelwiseError(f'targets: images is {images!r}; expected "annotated", "answered" or "all"')
    seen = (np.diff(known.annotations.offsets) > 0) | (np.diff(known.coverage.offsets) > 0)
    if images != "annotated":
        seen |= known.answered | (images == "all")
    return np.flatnonzero(seen)


def pseudo_labels(
    candidates: Detections,
    known: Labels,
    weigh: Weigh,
    position: np.ndarray,
    class_thresholds: Float64[np.ndarray, " C"] | None,
) -> tuple[np.ndarray, tuple[np.ndarray, np.ndarray]]:
    """Rows of the open candidates in training images that the policy keeps, and their weights (w_cls, w_box).

    `position`: of every image its entry in training, -1 for none. `candidates` and `known` list the same images.

    cons(b) is the mean IoU over the views (000, Eq. 4). Only the light columns are copied.
    """
    image = candidates.image
    rows = np.flatnonzero(position[image] >= 0)
    rows = rows[unsettled(offsets_of(image[rows], len(position)), candidates.boxes[rows], known)]
    views = candidates.views
    consistency = None if views is None or not views.names else views.iou[:, rows].mean(axis=0, dtype=np.float64)
    answers = np.diff(known.annotations.offsets) + np.diff(known.background.offsets)
    per_image = np.maximum(answers, 1) / np.maximum(np.bincount(image[rows], minlength=len(position)), 1)
    scores, ratio = candidates.scores[rows], per_image[image[rows]]
    menu = {"scores": scores, "probs": candidates.probs[rows], "consistency": consistency}
    for name, values in (("quality", candidates.quality), ("tightness", candidates.tightness)):
        menu[name] = None if values is None else values[rows]
    threshold = None if class_thresholds is None else class_thresholds[candidates.labels[rows]]
    result = weigh(menu | {"answers_per_candidate": ratio, "class_threshold": threshold})
    for name, column, dtype in zip(("keep", "w_cls", "w_box"), result, (np.bool_, np.float32, np.float32), strict=True):
        if column.shape != (len(rows),) or column.dtype != dtype:
            raise LabelwiseError(
                f"label policy: {name} is {column.dtype} {column.shape}; expected {np.dtype(dtype)} ({len(rows)},)"
            )
    keep, w_cls, w_box = result
    return rows[keep], (w_cls[keep], w_box[keep])


def _negatives(
    where: str, known: Labels, chosen: np.ndarray, size_px: np.ndarray, known_only: np.ndarray | None
) -> Rects:
    if where not in ("everywhere", "known"):
        raise LabelwiseError(f'label policy: NEGATIVES is {where!r}; expected "everywhere" or "known"')
    everywhere = np.full(len(chosen), where == "everywhere")
    if known_only is not None:
        everywhere &= ~known_only[chosen]
    whole = np.flatnonzero(everywhere)
    size = size_px[chosen[whole]].astype(np.float32)
    covered, marks = _rects_of(chosen, known.coverage), _rects_of(chosen, known.background)
    image = np.concatenate([image_of(covered.offsets), image_of(marks.offsets)])
    rows = ~everywhere[image]
    rects = np.concatenate([covered.xyxy, marks.xyxy])[rows]
    windows = np.concatenate([np.zeros_like(size), size], axis=1)
    return Rects.from_rows(np.concatenate([whole, image[rows]]), np.concatenate([windows, rects]), len(chosen))


def _rects_of(chosen: np.ndarray, rects: Rects) -> Rects:
    """The rectangles of the chosen images (rising pool numbers), numbered by their position among them."""
    image = image_of(rects.offsets)
    rows = np.flatnonzero(np.isin(image, chosen))
    return Rects(offsets_of(np.searchsorted(chosen, image[rows]), len(chosen)), rects.xyxy[rows])
