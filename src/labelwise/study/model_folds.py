"""What `model_choice` measures: recall of the proposals, and both detectors on held-back parts of labelled images.

The images are a pool of their own (`Seen`): those that are wholly labelled, in whole folds by image, or by clip or
`data.group` where there are such, so that a near-copy is never on both sides.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Int64

from labelwise import catalog
from labelwise.config.features import Features
from labelwise.data import hold_back, image_reader
from labelwise.data.image_reader import Images
from labelwise.data.long_tail import subset
from labelwise.evaluate import detection
from labelwise.models import frozen as head
from labelwise.models import yolox_files
from labelwise.models.proposals import proposals
from labelwise.predict.detect import predict_detections
from labelwise.project.context import Bar, Context, Decoded, silent
from labelwise.project.kept_features import FrozenFeatures, prepared
from labelwise.project.objects import PLACE, FrozenObjects, Objects, objects_of
from labelwise.project.round import Round
from labelwise.stages.checkpoints import build_model
from labelwise.stages.frozen_detector import detect
from labelwise.targets import partial
from labelwise.targets.proposal_labels import match
from labelwise.train.augment import Augment
from labelwise.train.batches import TrainingSet
from labelwise.train.fit import fit
from labelwise.train.schedule import plan_of
from labelwise.types import Boxes, Detections, Labels, LabelwiseError, Pool, Rects, Targets, image_of

FOLDS = 5
BATCH_IMAGES = 8


@dataclass(frozen=True, eq=False)
class Seen:
    """Labelled images: `pool` with what was annotated as its truth, `rows` in the project's pool, `fold` of each."""

    pool: Pool
    rows: Int64[np.ndarray, " images"]
    fold: Int64[np.ndarray, " images"]

    @property
    def truth(self) -> Boxes:
        """What was annotated."""
        assert self.pool.truth is not None
        return self.pool.truth

    @property
    def folds(self) -> int:
        """How many there are."""
        return int(self.fold.max(initial=-1)) + 1

    def held(self, fold: int) -> Bool[np.ndarray, " images"]:
        """Which images are held back."""
        held: np.ndarray = self.fold == fold
        return held


def seen_of(pool: Pool, known: Labels, group: str, seed: int) -> Seen:
    """The images of a pool that are wholly labelled and can be shown.

    Raises:
        LabelwiseError: too few for two folds, or no object in them.
    """
    rows = np.flatnonzero(known.covered(pool) & pool.available)
    truth = known.take(rows).annotations
    part = replace(subset(pool, rows), truth=truth, whole=None, unavailable={})
    names, number = np.unique(hold_back.groups(part, group), return_inverse=True)
    if len(names) < 2 or not len(truth):
        held = "clips" if pool.clips is not None else "groups of data.group" if group else "images"
        raise LabelwiseError(
            f"{len(rows)} images ({len(names)} {held}) are wholly labelled so far, with {len(truth)} objects: too few "
            "to measure a detector on a held-back part. Label some first (`labelwise run`)"
        )
    place = np.random.default_rng([seed, 9]).permutation(len(names)) % min(FOLDS, len(names))
    return Seen(part, rows, place[number].astype(np.int64))


def propose(pool: Pool, weights: str, size_px: int, count: int, device: str, bar: Bar = silent) -> Rects:
    """The best `count` proposals of every image; an image that cannot be read has none."""
    model = yolox_files.load(weights, setting="features.objects").to(device)
    offsets, found = [np.zeros(1, np.int64)], [np.zeros((0, 4), np.float32)]
    with bar(f"proposals of {len(pool)} images", len(pool)) as advance:
        for first in range(0, len(pool), BATCH_IMAGES):
            images = [pixels_or_none(pool, i) for i in range(first, min(first + BATCH_IMAGES, len(pool)))]
            shown = [torch.from_numpy(one) for one in images if one is not None]
            here = proposals(model, shown, size_px=size_px, count=count)
            counts = np.zeros(len(images), np.int64)
            counts[[one is not None for one in images]] = np.diff(here.offsets.cpu().numpy())
            offsets.append(offsets[-1][-1] + np.cumsum(counts))
            found.append(here.boxes.cpu().numpy())
            advance(len(images))
    return Rects(np.concatenate(offsets), np.concatenate(found).astype(np.float32))


def pixels_or_none(pool: Pool, number: int) -> np.ndarray | None:
    """An image, uint8 [3, h, w]; None: it cannot be read."""
    try:
        shown = image_reader.pixels_of(pool, number)
    except LabelwiseError:
        return None
    return np.ascontiguousarray(shown.transpose(2, 0, 1))


def objects_in(context: Context, seen: Seen, rule: Features) -> FrozenObjects:
    """The proposals of labelled images with their features: those that the project keeps, if it has any."""
    if context.run.features is not None and context.run.features.objects is not None:
        return _taken(context.objects("pool"), seen.rows)
    return objects_of_images(seen.pool, rule, context.device, context.bar)


def objects_of_images(pool: Pool, rule: Features, device: str, bar: Bar = silent) -> FrozenObjects:
    """The proposals of a pool's images with their features, kept nowhere."""
    looker, n = Objects(rule, device), len(pool)
    most, columns = looker.begin()
    raw = np.zeros((n, most, columns), np.float32)
    with bar(f"features of {most} objects of {n} images", n) as advance:
        for image in range(n):
            shown = pixels_or_none(pool, image)
            if shown is not None:
                raw[image] = looker.run([shown], silent("", 0).__enter__())[0]
            advance(1)
    there = raw[:, :, PLACE - 1] > 0
    first = raw[there[:, 0], 0, PLACE:]
    mean = first.mean(axis=0, dtype=np.float64) if len(first) else np.zeros(columns - PLACE)
    features = prepared(raw[:, :, PLACE:], mean, None)
    features[~there] = 0
    table = np.concatenate([raw[:, :, :PLACE], features], axis=2)
    return objects_of(FrozenFeatures(table, PLACE, np.arange(n), {}))


def _taken(every: FrozenObjects, images: np.ndarray) -> FrozenObjects:
    """Those of some images, numbered by their places."""
    count = np.diff(every.offsets)[images]
    ends = count.cumsum()
    rows = np.repeat(every.offsets[images] - (ends - count), count) + np.arange(int(count.sum()))
    columns = (every.boxes[rows], every.objectness[rows], every.features[rows])
    return FrozenObjects(np.append(0, ends).astype(np.int64), *columns, {})


def targets_of(seen: Seen, known: Labels, policy: str) -> Targets:
    """What all labelled images teach, as the run's label policy takes negatives; entry k is image k."""
    return partial.targets(
        known.take(seen.rows),
        None,
        lambda _: (np.zeros(0, bool), np.zeros(0, np.float32), np.zeros(0, np.float32)),
        catalog.find("labels", policy).constant("NEGATIVES"),
        seen.pool.width_px,
        seen.pool.height_px,
        seen.pool.crowd,
    )


@dataclass(eq=False)
class Held:
    """Detections on what was held back, gathered fold by fold."""

    seen: Seen
    parts: list[Detections] = field(default_factory=list)

    def add(self, found: Detections, fold: int) -> None:
        """Takes the detections on the images of a fold out of some."""
        self.parts.append(found.take(self.seen.held(fold)[found.image]))

    def ap50(self) -> tuple[float, np.ndarray]:
        """Of all images pooled, and of every fold; NaN where there is no object."""
        return self._of(range(len(self.parts))), np.array([self._of([k]) for k in range(len(self.parts))])

    def _of(self, folds: range | list[int]) -> float:
        images = np.flatnonzero(np.isin(self.seen.fold, list(folds)))
        part = subset(self.seen.pool, images)
        place = np.full(len(self.seen.pool), -1)
        place[images] = np.arange(len(images))
        found = [self.parts[k] for k in folds]
        image = place[np.concatenate([one.image for one in found])]
        boxes, probs, scores = (
            np.concatenate([getattr(one, name) for one in found]) for name in ("boxes", "probs", "scores")
        )
        order = np.lexsort((-scores, image))
        offsets = np.searchsorted(image[order], np.arange(len(images) + 1)).astype(np.int64)
        nothing = np.zeros((len(order), 0), np.float32)
        table = Detections(offsets, boxes[order], probs[order], scores[order], nothing)
        assert part.truth is not None
        said = detection.evaluate(table, part.truth, part.crowd, part.classes)["ap50"]
        return float("nan") if said is None else float(said)


def frozen_held(
    seen: Seen, objects: FrozenObjects, targets: Targets, settings: dict[str, Any], share: float = 1.0, seed: int = 0
) -> Held:
    """The frozen detector on every fold, trained on the others, or on a `share` of their images."""
    n_classes, width = len(seen.pool.classes), objects.features.shape[1]
    lesson = match(targets, Rects(objects.offsets, objects.boxes))
    image, is_object = image_of(objects.offsets)[lesson.rows], lesson.box >= 0
    labels = np.full(len(lesson.rows), n_classes)
    labels[is_object] = targets.labels[lesson.box[is_object]]
    size_px = np.stack([seen.pool.width_px, seen.pool.height_px], axis=1)
    chance = np.random.default_rng([seed, 10]).permutation(len(seen.pool))
    held = Held(seen)
    for fold in range(seen.folds):
        open_ = np.flatnonzero(~seen.held(fold))
        trained = open_[np.argsort(chance[open_])[: max(1, round(share * len(open_)))]]
        some = np.isin(image, trained)
        model = head.build(n_classes, width, **settings)
        assert isinstance(model, head.FrozenDetector)
        model.solve(objects.features[lesson.rows[some]], labels[some], np.ones(int(some.sum())))
        match_, rows = lesson.box[some & is_object], lesson.rows[some & is_object]
        model.solve_shifts(objects.features[rows], objects.boxes[rows], targets.boxes[match_], np.ones(len(rows)))
        held.add(detect(model.eval(), objects, size_px, detection.MIN_SCORE), fold)
    return held


def trained_held(context: Context, seen: Seen, targets: Targets) -> Held:
    """The run's detector on every fold, trained on the others from the start."""
    run = context.run
    apart = replace(context, pool=seen.pool, test=None, decoded=Decoded())
    now, images, held = Round(apart, 0), apart.images("pool"), Held(seen)
    readable = ~np.isin(np.arange(len(seen.pool)), list(images.warm(np.arange(len(seen.pool)))))
    for fold, rows in _trainings(seen, targets, readable):
        data = TrainingSet(images, targets, rows, Augment.of(run.train))
        title = f"fold {fold + 1} of {seen.folds}: train on {len(rows)} images"
        model = build_model(now)
        with context.bar(title, plan_of(len(rows), run.train).steps) as advance:
            fit(model, data, run.train, seed=run.seed, round_number=0, progress=advance)
        held.add(_predicted(apart, model.to(context.device).eval(), images, seen.held(fold) & readable), fold)
    return held


def _trainings(seen: Seen, targets: Targets, readable: np.ndarray) -> Iterator[tuple[int, np.ndarray]]:
    """Every fold with the entries that train."""
    for fold in range(seen.folds):
        yield fold, np.flatnonzero((~seen.held(fold) & readable)[targets.images])


def _predicted(context: Context, model: Callable[..., Any], images: Images, wanted: np.ndarray) -> Detections:
    rows = np.flatnonzero(wanted)
    with context.bar(f"predict {len(rows)} images", len(rows)) as advance:
        found, _ = predict_detections(
            model,
            images,
            rows,
            n_images=len(wanted),
            batch_size=context.run.predict.batch_size,
            min_score=detection.MIN_SCORE,
            progress=advance,
        )
    return found
