"""What selectors may name, made for some rows of the scored candidates when it is asked for."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cache
from typing import Any

import numpy as np

from labelwise.config.inputs import INPUTS
from labelwise.project.context import clips_of
from labelwise.project.round import Round
from labelwise.select._balance_target import target
from labelwise.stages import image_features, question_worth
from labelwise.stages.candidates import some_of
from labelwise.targets.frequency import frequency_of
from labelwise.types import Rects, offsets_of
from labelwise.types.overlap import highest, iou_pairs
from labelwise.units import Candidates

Makers = Mapping[str, Callable[[np.ndarray], Any]]


def makers(now: Round, expected: int) -> Makers:
    """Everything that a selector may name, made for some rows of the candidates when it is asked for.

    `expected`: how many queries the budget probably pays for.
    """
    run, pool, known, scored = now.run, now.pool, now.known, now.scores
    of_boxes = len(now.units) == 1 and now.units[0].CLASS
    kept = () if run.frozen_selection else ("features",)

    chosen = _Chosen(now)

    def labels(rows: np.ndarray) -> np.ndarray:
        names = ["label"] if of_boxes else [f"mix_{c}" for c in range(len(pool.classes))]
        columns = scored.take(rows, *names)
        return columns[0] if of_boxes else np.stack(columns, axis=1)

    @cache
    def pseudo_frequency() -> np.ndarray:
        """p(l) of Eq. 1, from this round's predictions as pseudo labels."""
        every = ((found.labels, found.scores) for _, found in now.shards(()))
        return frequency_of(every, len(pool.classes), tau=run.query.tau_frequency)

    counts = np.bincount(known.annotations.labels, minlength=len(pool.classes))

    def features(rows: np.ndarray) -> np.ndarray:
        """Of a box its RoI or anchor feature, of an image the pooled feature, of a region the mean of its boxes'."""
        if run.query.one_per_image:
            return image_features.of_selectors(now, scored.take(rows, "image")[0])
        return _box_features(now, chosen, rows)

    labelled = cache(lambda: _labelled(now))
    return {
        "labels": labels,
        "frequency": lambda _: pseudo_frequency(),
        "counts": lambda _: counts,
        "target": lambda _: target(counts, expected),
        "probs": lambda rows: _mean_probs(*chosen(rows), len(pool.classes)),
        "scale": lambda rows: scored.take(rows, "scale")[0],
        "image": lambda rows: scored.take(rows, "image")[0],
        "videos": lambda _: clips_of(pool).video,
        "labelled_images": lambda _: np.flatnonzero(now.covered),
        "features": features,
        "labelled_features": lambda _: labelled()[0],
        "labelled_from": lambda _: labelled()[1],
        "labelled_box_features": lambda _: _labelled_boxes(now, frozen=run.reads_objects)[0],
        **question_worth.makers(now, lambda rows: chosen(rows, *kept)),
        "box_offsets": lambda rows: _offsets(*chosen(rows, *kept)),
        **_columns(now, chosen),
    }


class _Chosen:
    """Some of the scored candidates, with their detections, and at which place of these each row of a selector is.

    Those that were read last are kept: a selector names several of their columns, and then some of the same again.
    """

    def __init__(self, now: Round) -> None:
        self._now = now
        self._kept: dict[tuple[str, ...], tuple[np.ndarray, Candidates]] = {}

    def __call__(self, rows: np.ndarray, *columns: str) -> tuple[Candidates, np.ndarray]:
        if columns in self._kept:
            numbers, found = self._kept[columns]
            at = np.searchsorted(numbers, rows)
            if len(numbers) and np.array_equal(numbers[np.minimum(at, len(numbers) - 1)], rows):
                return found, at
            del self._kept[columns], found  # before the next are read: they may be large
        numbers = np.unique(rows)
        self._kept[columns] = numbers, some_of(self._now, numbers, columns)
        return self._kept[columns][1], np.searchsorted(numbers, rows)


def _offsets(found: Candidates, rows: np.ndarray) -> np.ndarray:
    return found.members_of(rows)[0]


def _columns(now: Round, chosen: _Chosen) -> dict[str, Callable[[np.ndarray], Any]]:
    """The inputs that are columns of the detections; a frozen detector's features are those of its proposals."""
    found = {row.name: _column_of(chosen, row.at) for row in INPUTS["select"].values() if row.at}
    if now.run.reads_objects:
        found["box_features"] = lambda rows: _frozen_features(now, *chosen(rows))[0]
    return found


def _column_of(chosen: _Chosen, name: str) -> Callable[[np.ndarray], np.ndarray]:
    def column(rows: np.ndarray) -> np.ndarray:
        found, at = chosen(rows, "features")
        values: np.ndarray = found.column(name)[found.members_of(at)[1]]
        return values

    return column


def _mean_probs(found: Candidates, rows: np.ndarray, n_classes: int) -> np.ndarray:
    """Class distribution of a box, the mean of its boxes' of an image or a region; uniform where there is none."""
    offsets, members = found.members_of(rows)
    every = found.column("probs")[members]
    out = np.full((len(rows), n_classes), 1 / n_classes, np.float32)
    some = np.diff(offsets) > 0
    if some.any():
        out[some] = np.add.reduceat(every, offsets[:-1][some]) / np.diff(offsets)[some, None]
    return out


def _means(found: Candidates, rows: np.ndarray, every: np.ndarray) -> np.ndarray:
    """Mean feature of the detections of each candidate, of those of all; every box and region has at least one."""
    offsets, members = found.members_of(rows)
    return _mean(every[members], offsets)


def _mean(features: np.ndarray, offsets: np.ndarray) -> np.ndarray:
    """The mean of each candidate's rows."""
    if len(offsets) > 1:
        features = (np.add.reduceat(features, offsets[:-1]) / np.diff(offsets)[:, None]).astype(np.float32)
    return features


def _box_features(now: Round, chosen: _Chosen, rows: np.ndarray) -> np.ndarray:
    """The mean feature of the detections of each candidate: the model's, or the frozen ones."""
    if not now.run.frozen_selection:
        found, at = chosen(rows, "features")
        return _means(found, at, found.column("features"))
    return _mean(*_frozen_features(now, *chosen(rows)))


def _frozen_features(now: Round, found: Candidates, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The frozen features of the detections of each candidate, and where those of each begin."""
    offsets, members = found.members_of(rows)
    image = np.repeat(found.image[rows], np.diff(offsets))
    order = np.argsort(image, kind="stable")
    boxes = Rects(offsets_of(image[order], len(now.pool)), found.column("boxes")[members[order]])
    features = np.zeros((len(members), now.context.features("pool").width), np.float32)
    features[order] = image_features.of_boxes(now.context, boxes)[0]
    return features, offsets


def _labelled(now: Round) -> tuple[np.ndarray, np.ndarray]:
    """Features of what is labelled, and the image of each: of the wholly labelled images; else those of objects."""
    if now.run.query.one_per_image:
        images = image_features.labelled_images(now)
        return image_features.of_selectors(now, images), images
    return _labelled_boxes(now, frozen=now.run.frozen_selection)


def _labelled_boxes(now: Round, *, frozen: bool) -> tuple[np.ndarray, np.ndarray]:
    """Features of the detections on annotated objects (IoU >= 0.5), the model's or `frozen` ones, and the image of
    each.
    """
    known = now.known.annotations
    annotated = Rects(known.offsets, known.xyxy)
    if frozen:
        features, overlap = image_features.of_boxes(now.context, annotated)
        return features[overlap >= 0.5], known.image[overlap >= 0.5]
    parts = list[tuple[np.ndarray, np.ndarray]]()
    objects = np.diff(known.offsets) > 0
    objects[0] = True  # of one shard at least: it tells how wide a feature is
    for first, found in now.shards(["features"], images=objects):
        here = now.known.of_images(slice(first, first + found.n_images)).annotations
        on_objects = highest(found.offsets, found.boxes, Rects(here.offsets, here.xyxy), iou_pairs) >= 0.5
        parts.append((found.features[on_objects], first + found.image[on_objects]))
    return np.concatenate([features for features, _ in parts]), np.concatenate([image for _, image in parts])
