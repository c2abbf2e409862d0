"""What train, predict and evaluate do with a detector that reads the objects of `features.objects`."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
from jaxtyping import Bool, Int64

from labelwise import files
from labelwise.models.frozen import FrozenDetector
from labelwise.project.objects import FrozenObjects
from labelwise.project.round import Round
from labelwise.stages import label
from labelwise.stages.checkpoints import build_model
from labelwise.targets.proposal_labels import match
from labelwise.types import Detections, ImageOutputs, Pool, Rects, Targets, image_of, offsets_of

PARTS = 5
"""Of the images that are held out, one after another; each image by itself where they are fewer."""


def solve(now: Round, model: FrozenDetector, stream: tuple[int, ...]) -> dict[str, Any]:
    """Trains on the targets of the round; a further member of an ensemble on a bootstrap sample of the images."""
    begun, targets, objects, times = time.perf_counter(), now.targets, now.context.objects("pool"), None
    if stream:
        rng = np.random.default_rng([now.run.seed, now.number, 8, *stream])
        times = np.bincount(rng.integers(0, len(now.pool), len(now.pool)), minlength=len(now.pool))
    info = teach(model, objects, targets, times, now.known.background)
    info["images_per_s"] = len(targets) / max(time.perf_counter() - begun, 1e-9)
    return info


def teach(
    model: FrozenDetector,
    objects: FrozenObjects,
    targets: Targets,
    times: Int64[np.ndarray, " images"] | None = None,
    marks: Rects | None = None,
) -> dict[str, Any]:
    """Sets the model to what the targets teach, each image so many `times` (None: once); says what it learnt from.

    `marks`: of all images the boxes that were asked about and are no object.
    """
    lesson = match(targets, Rects(objects.offsets, objects.boxes), marks)
    is_object = lesson.box >= 0
    labels, weights = np.full(len(lesson.rows), model.n_classes), np.ones(len(lesson.rows))
    labels[is_object] = targets.labels[lesson.box[is_object]]
    weights[is_object] = targets.w_cls[lesson.box[is_object]]
    if times is not None:
        weights *= times[image_of(objects.offsets)[lesson.rows]]
    some = weights > 0
    info: dict[str, Any] = model.solve(objects.features[lesson.rows[some]], labels[some], weights[some])
    boxes = lesson.box[is_object]
    shift_weights = targets.w_box[boxes]
    if times is not None:
        shift_weights = shift_weights * times[image_of(objects.offsets)[lesson.rows[is_object]]]
    model.solve_shifts(
        objects.features[lesson.rows[is_object]],
        objects.boxes[lesson.rows[is_object]],
        targets.boxes[boxes],
        shift_weights,
    )
    missed = (targets.w_cls > 0).sum() - len(np.unique(boxes[targets.w_cls[boxes] > 0]))
    info |= {"objects": int(is_object.sum()), "background": int((~is_object).sum()), "boxes_without": int(missed)}
    return info


def detect(
    model: FrozenDetector,
    objects: FrozenObjects,
    size_px: Int64[np.ndarray, "images 2"],
    least: float,
    *,
    features: bool = False,
) -> Detections:
    """Detections on all images of a pool: its proposals of a confidence of at least `least`, cut to the image.

    `size_px`: width and height of every image. `features`: whether they carry their features.
    """
    image = image_of(objects.offsets)
    boxes, probs, scores = model.candidates(objects.features, objects.boxes, objects.objectness)
    boxes = np.clip(boxes, 0, np.tile(size_px, 2)[image]).astype(np.float32)
    good = (scores >= least) & (boxes[:, 2:] > boxes[:, :2]).all(axis=1)
    order = np.lexsort((np.arange(len(scores)), -scores, image))
    order = order[good[order]]
    offsets = offsets_of(image[order], objects.n_images)
    kept = objects.features[order] if features else np.zeros((len(order), 0), np.float32)
    return Detections(offsets, boxes[order], probs[order], scores[order], kept)


def predict(now: Round, model: FrozenDetector, wanted: Int64[np.ndarray, " wanted"]) -> None:
    """Writes the detections on the wanted images of the pool."""
    run, pool, objects = now.run, now.pool, now.context.objects("pool")
    size_px = np.stack([pool.width_px, pool.height_px], axis=1)
    begun = time.perf_counter()
    found = detect(model, objects, size_px, run.predict.min_score, features="features" in run.outputs)
    is_wanted = np.zeros(len(pool), np.bool_)
    is_wanted[wanted] = True
    is_wanted[list(objects.failed)] = False
    found = found.take(is_wanted[found.image])
    if "image_features" in run.outputs:
        found = _with_images(now, found, is_wanted)
    with files.DetectionWriter(now.folder.predictions(), len(pool), run.predict.shard_images) as writer:
        writer.append(0, found)
    now.info["skipped"] = [(pool.names[i], message) for i, message in objects.failed.items()]
    now.info["images_per_s"] = len(wanted) / max(time.perf_counter() - begun, 1e-9)
    now.info["without_area"] = 0


def held_out(
    now: Round, images: Bool[np.ndarray, " images"]
) -> Iterator[tuple[Bool[np.ndarray, " images"], Detections]]:
    """Some of these images after others, and the detections of a model that is taught what is known of all but them:
    what it says of an image that nobody has labelled. There must be two wholly known images at least.
    """
    objects, targets, pool = now.context.objects("pool"), label.targets(now, None), now.pool
    size_px, numbers = np.stack([pool.width_px, pool.height_px], axis=1), np.flatnonzero(images)
    for k in range(min(PARTS, len(numbers))):
        out = np.isin(np.arange(len(pool)), numbers[k::PARTS])
        model = build_model(now)
        assert isinstance(model, FrozenDetector)
        teach(model, objects, targets, (~out).astype(np.int64), now.known.background)
        yield out, detect(model.eval(), objects, size_px, now.run.predict.min_score)


def propose(now: Round, wanted: Int64[np.ndarray, " wanted"]) -> None:
    """Writes the objects of the wanted images, each as likely of any class, as sure as they are objects."""
    pool, objects, n_classes = now.pool, now.context.objects("pool"), len(now.pool.classes)
    even = np.full((len(objects), n_classes), 1 / n_classes, np.float32)
    features = objects.features if "features" in now.run.outputs else objects.features[:, :0]
    found = Detections(objects.offsets, objects.boxes, even, objects.objectness, features)
    found = found.take(np.isin(found.image, np.setdiff1d(wanted, list(objects.failed))))
    with files.DetectionWriter(now.folder.predictions(), len(pool), now.run.predict.shard_images) as writer:
        writer.append(0, found)
    now.info["skipped"] = [(pool.names[i], message) for i, message in objects.failed.items()]


def _with_images(now: Round, found: Detections, seen: Bool[np.ndarray, " images"]) -> Detections:
    """With the feature of every image: that of its best proposal."""
    features = now.context.features("pool").of(np.arange(len(seen)))
    features[~seen] = 0
    return replace(found, per_image=ImageOutputs(features, np.zeros(len(seen), np.float32), seen))


def on_test(now: Round, test: Pool, model: FrozenDetector, least: float) -> Detections:
    """The detections on the test images."""
    objects = now.context.objects("test")
    now.info["skipped"] = [(test.names[i], message) for i, message in objects.failed.items()]
    return detect(model, objects, np.stack([test.width_px, test.height_px], axis=1), least)
