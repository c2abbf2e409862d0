"""The stage predict: the only place where a model meets the pool."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from typing import Any

import numpy as np

from labelwise import files
from labelwise.config import Run
from labelwise.models.frozen import FrozenDetector
from labelwise.predict.classify import classify
from labelwise.predict.detect import predict as predict_pool
from labelwise.predict.discriminator import labelled_probability
from labelwise.project.round import Round
from labelwise.stages import (
    classification,
    frozen_detector,
    image_features,
    over_ray,
    proposed_boxes,
    ray_predictions,
    tracking,
)
from labelwise.stages.checkpoints import ensemble
from labelwise.study import proposal_recall


def predict(now: Round) -> None:
    """Runs the model of the round before over the images that may be asked and are not wholly labelled, once per view
    and scale.

    In round 0, and in the rounds whose boxes are proposed, `predict.proposals` looks instead (see `proposed_boxes`).
    Images that are labelled are predicted too where a method compares with them (core-set, VAAL), and of videos the
    frames around those that may be asked where boxes are followed (temporal coherence).
    """
    tracking.tell_cost(now)
    run, pool = now.run, now.pool
    if run.predict.engine == "here":
        for left in now.folder.path.glob("predictions*-shards"):  # of a pass over Ray that was stopped
            shutil.rmtree(left)
    if now.number == 0:
        if run.predict.proposals is not None:
            proposed_boxes.of_first_images(now)
        return
    chosen = np.where(now.covered, run.needs_labelled, now.askable)
    wanted = np.flatnonzero(pool.available & (chosen | tracking.followed(now)))
    if run.predict.engine == "ray":
        for line in _stays_here(run):
            now.context.tell(f"round {now.number}: {line}")
    if run.classifies:
        _classify(now, wanted)
    elif now.proposed:
        for line in proposal_recall.lines(now.context) if now.live is None else ():
            now.context.tell(f"round {now.number}: {line}")
        proposed_boxes.of_pool(now, wanted)
    else:
        _detect(now, wanted)
    if "labelled_probability" in run.inputs:
        said = image_features.of_model(now)
        value = np.ones(len(pool), np.float32)  # an image that cannot be read is never worth asking
        value[said.seen] = labelled_probability(
            said.features[said.seen], now.covered[said.seen], seed=[run.seed, now.number]
        )
        files.write_table(now.folder.labelled_probability, {"value": value})
    skipped = {name for name, _ in now.info["skipped"]}
    also = [(pool.names[i], why) for i, why in pool.unavailable.items()]
    now.info["skipped"] += [(name, why) for name, why in also if name not in skipped]
    if run.needs_tracks:
        files.write_table(now.folder.predicted, {"image": wanted[[pool.names[i] not in skipped for i in wanted]]})


def _stays_here(run: Run) -> Iterator[str]:
    """Which models look at the pool in this process although it is predicted over Ray, and why."""
    if run.reads_features or run.reads_objects:
        yield f"{run.model.name} predicts here, in seconds: its features are computed over Ray, once"
    if run.labels.teacher is not None:
        yield "the teacher predicts here: it names the surest images in the middle of the training"
    if "history" in run.inputs:
        yield "predictions of every epoch are recorded here, where the model is trained"


def _classify(now: Round, wanted: np.ndarray) -> None:
    run, pool = now.run, now.pool
    model, *members = ensemble(now.before)
    further = members if run.needs_views else []
    settings: dict[str, Any] = {
        "views": [(choice.name, choice.settings) for choice in run.predict.views] if run.needs_views else [],
        "keep": sorted(run.outputs),
        "seed": run.seed,
        "round_number": now.number,
        "batch_size": run.predict.batch_size,
    }
    shard_images, folder = run.predict.shard_images, now.folder.predictions()
    if run.predict.engine == "ray" and not run.reads_features:
        with now.context.bar(now.title("predict"), len(wanted)) as advance:
            models, seen = ray_predictions.copies([model, *further]), over_ray.to_read(pool)
            one = ray_predictions.ClassifierPass(models, seen, run.data.image_size_px, wanted, settings)
            summary = ray_predictions.predict(one, folder, shard_images=shard_images, progress=advance)
        failed = dict(summary.skipped)
    else:
        failed = dict(now.context.unreadable("pool"))
        wanted = np.setdiff1d(wanted, list(failed))
        with (
            files.DetectionWriter(folder, len(pool), shard_images) as writer,
            now.context.bar(now.title("predict"), len(wanted)) as advance,
        ):
            summary = classify(
                model, classification.inputs(now.context, "pool"), wanted, writer,
                size_px=np.stack([pool.width_px, pool.height_px], axis=1), members=further, shard_images=shard_images,
                names=pool.names, progress=advance, **settings,
            )  # fmt: skip
    now.info["skipped"] = [(pool.names[i], message) for i, message in failed.items()]
    now.info["images_per_s"] = summary.images_per_s


def _detect(now: Round, wanted: np.ndarray) -> None:
    run, pool = now.run, now.pool
    model, *members = ensemble(now.before)
    if isinstance(model, FrozenDetector):
        frozen_detector.predict(now, model, wanted)
        return
    views = [(choice.name, choice.settings) for choice in run.predict.views] if run.needs_views else []
    scales = run.query.scales if any(unit.SCALES for unit in now.units) else ()
    shard_images = run.predict.shard_images
    for scale in dict.fromkeys((1.0, *scales)):
        title = now.title("predict") + (f" at scale {scale:g}" if scale != 1 else "")
        images, folder = now.context.images("pool", scale), now.folder.predictions(scale)
        settings: dict[str, Any] = {
            "views": views,
            "seed": run.seed,
            "round_number": now.number,
            "batch_size": max(1, int(run.predict.batch_size / scale**2)),
            "min_score": run.predict.min_score,
            "precision": run.predict.precision or "fp32",
            "keep": sorted(run.outputs),
        }
        further = members if run.needs_views else []
        with now.context.bar(title, len(wanted)) as advance:
            if run.predict.engine == "ray":
                models = ray_predictions.copies([model, *further])
                one = ray_predictions.DetectorPass(models, over_ray.to_read(pool), images.size_px, wanted, settings)
                summary = ray_predictions.predict(one, folder, shard_images=shard_images, progress=advance)
            else:
                with files.DetectionWriter(folder, len(pool), shard_images) as writer:
                    summary = predict_pool(
                        model, images, wanted, writer, n_images=len(pool), members=further, shard_images=shard_images,
                        names=pool.names, progress=advance, **settings,
                    )  # fmt: skip
        if scale == 1:
            now.info["skipped"] = [(pool.names[i], message) for i, message in summary.skipped]
            now.info["images_per_s"], now.info["without_area"] = summary.images_per_s, summary.without_area
