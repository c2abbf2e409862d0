"""The stages predict and score. Each reads the project folder, calls pure functions, writes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch

from labelwise import catalog, files
from labelwise.config import inputs
from labelwise.predict.classify import classify
from labelwise.predict.detect import predict as predict_pool
from labelwise.predict.discriminator import labelled_probability
from labelwise.project.context import Context
from labelwise.project.folder import Stage
from labelwise.stages import classification, tracking
from labelwise.stages.candidates import Candidates, covered, gather, image_outputs, in_shards, predictions
from labelwise.stages.train import load_model

# ---------------------------------------------------------------------------------------------------------- predict


def predict(context: Context, round: int, stage: Stage) -> None:
    """Runs the model of the round before over the images that are not wholly labelled, once per view and scale.

    Images that are labelled are predicted too where a method compares with them (core-set, VAAL).
    """
    if round == 0:
        return
    run = context.run
    done = covered(context.known(), context.pool)
    wanted = np.flatnonzero(context.pool.available & (run.needs_labelled | ~done))
    if run.classifies:
        _classify(context, round, stage, wanted)
    else:
        _detect(context, round, stage, wanted)
    if "labelled_probability" in run.inputs:
        said = image_outputs(context, round)
        value = np.ones(len(done), np.float32)  # an image that cannot be read is never worth asking
        value[said.seen] = labelled_probability(said.features[said.seen], done[said.seen], seed=[run.seed, round])
        files.write_table(context.file(round, "labelled_probability.parquet"), {"value": value})
    known = {name for name, _ in stage.info["skipped"]}
    also = [(context.pool.names[i], why) for i, why in context.pool.unavailable.items()]
    stage.info["skipped"] += [(name, why) for name, why in also if name not in known]


def _classify(context: Context, round: int, stage: Stage, wanted: np.ndarray) -> None:
    run, pixels = context.run, context.pixels("pool")
    model, *members = [load_model(context, round - 1, member) for member in range(run.train.members)]
    wanted = np.setdiff1d(wanted, list(pixels.failed))
    with (
        files.DetectionWriter(
            context.file(round, predictions(1)), len(context.pool), run.predict.shard_images
        ) as writer,
        context.bar(f"round {round}: predict", len(wanted)) as advance,
    ):
        summary = classify(
            model,
            torch.from_numpy(pixels.squares),
            wanted,
            writer,
            size_px=np.stack([context.pool.width_px, context.pool.height_px], axis=1),
            views=[(choice.name, choice.settings) for choice in run.predict.views] if run.needs_views else [],
            members=members if run.needs_views else (),
            keep=run.outputs,
            seed=run.seed,
            round=round,
            batch_size=run.predict.batch_size,
            shard_images=run.predict.shard_images,
            names=context.pool.names,
            progress=advance,
        )
    stage.info["skipped"] = [(context.pool.names[i], message) for i, message in pixels.failed.items()]
    stage.info["images_per_s"] = summary.images_per_s


def _detect(context: Context, round: int, stage: Stage, wanted: np.ndarray) -> None:
    run = context.run
    model, *members = [load_model(context, round - 1, member) for member in range(run.train.members)]
    views = [(choice.name, choice.settings) for choice in run.predict.views] if run.needs_views else []
    scales = run.query.scales if run.query.unit == "region" else ()
    for scale in dict.fromkeys((1.0, *scales)):
        name = f"round {round}: predict" + (f" at scale {scale:g}" if scale != 1 else "")
        with (
            files.DetectionWriter(
                context.file(round, predictions(scale)), len(context.pool), run.predict.shard_images
            ) as writer,
            context.bar(name, len(wanted)) as advance,
        ):
            summary = predict_pool(
                model,
                context.images("pool", scale),
                wanted,
                writer,
                n_images=len(context.pool),
                views=views,
                seed=run.seed,
                round=round,
                batch_size=max(1, int(run.predict.batch_size / scale**2)),
                min_score=run.predict.min_score,
                keep=run.outputs,
                members=members if run.needs_views else (),
                shard_images=run.predict.shard_images,
                names=context.pool.names,
                progress=advance,
            )
        if scale == 1:
            stage.info["skipped"] = [(context.pool.names[i], message) for i, message in summary.skipped]
            stage.info["images_per_s"], stage.info["without_area"] = summary.images_per_s, summary.without_area


# ------------------------------------------------------------------------------------------------------------ score


def score(context: Context, round: int, stage: Stage) -> None:
    """How much each candidate is worth labelling: open boxes, images that are not wholly labelled, or regions."""
    if round == 0:
        return
    run = context.run
    annotated = context.known().annotations.labels
    menu: dict[str, Any] = {"rng": np.random.default_rng([run.seed, round])}
    menu["counts"] = np.bincount(annotated, minlength=len(context.pool.classes))
    if "labelled_probability" in run.inputs:
        stored = files.read_table(context.file(round, "labelled_probability.parquet"))
        menu["labelled_probability"] = stored["value"]
    if run.classifies:
        menu |= classification.menu(context, round)
    menu |= tracking.judged(context, round, stage, lambda: load_model(context, round - 1))
    learns = "labelled_classes" in catalog.find("score", run.query.score.name).inputs  # once, not per shard
    shards = [gather(context, round, run.columns)] if learns else in_shards(context, round, run.columns)
    tables = [_score_shard(context, found, menu) for found in shards]
    table = {name: np.concatenate([one[name] for one in tables]) for name in tables[0]}
    files.write_table(context.file(round, "scores.parquet"), table)
    stage.info["candidates"] = len(table["score"])


def _score_shard(context: Context, found: Candidates, menu: Mapping[str, Any]) -> dict[str, np.ndarray]:
    value = _scored(context, found, menu)
    is_box = context.run.query.unit == "box"
    label = found.column("labels") if is_box else np.full(len(found), -1)
    corners = dict(zip(("x1", "y1", "x2", "y2"), found.xyxy.T, strict=True))
    table = {"row": found.row, "image": found.image, "label": label, "scale": found.scale, **corners}
    if context.run.query.unit == "region":
        table["magnification"] = np.array(context.run.query.scales)[found.scale]
    if not is_box:
        table |= {f"mix_{c}": shares for c, shares in enumerate(found.mix(len(context.pool.classes)).T)}
    return {**table, "score": np.asarray(value, np.float64)}


def _scored(context: Context, found: Candidates, whole: Mapping[str, Any]) -> np.ndarray:
    """One score per candidate. A score that looks at no box (random) is drawn per candidate, one of whole images is
    taken as it is; box scores are lifted to images and regions.
    """
    query = context.run.query
    method, rows = catalog.find("score", query.score.name), inputs.named("score", query.score.name)
    whole = dict(whole)
    for row in rows:
        if row.axis == "pool" and row.name in whole:
            whole[row.name] = np.take(whole[row.name], found.image, row.position)
    if not any(row.axis in ("box", "image") for row in rows):
        return np.asarray(method.call({**whole, "n": len(found)}, query.score.settings), np.float64)
    values = []
    for part in found.parts:
        menu: dict[str, Any] = {**whole, "n": len(part), "offsets": found.offsets}
        held = {row: row.of(part) for row in rows if row.at and row.axis in ("box", "image")}
        menu |= {
            row.name: value[found.image - found.first] if row.axis == "image" else value
            for row, value in held.items()
            if value is not None
        }
        values.append(np.asarray(method.call(menu, query.score.settings), np.float64))
    value = np.concatenate(values)
    if query.unit == "box" or any(row.of_images for row in rows):
        return value
    return lifted(value[found.members], found.offsets, query.aggregate, whole["rng"])


def lifted(value: np.ndarray, offsets: np.ndarray, how: str, rng: np.random.Generator) -> np.ndarray:
    """Scores of the members of each candidate as one: their mean, maximum, sum, or that of a random member.

    A candidate without members scores 0.

    >>> lifted(np.array([1.0, 3.0]), np.array([0, 2, 2]), "mean", np.random.default_rng(0)).tolist()
    [2.0, 0.0]
    """
    count = np.diff(offsets)
    out = np.zeros(len(count))
    some = np.flatnonzero(count)
    if how == "random":
        out[some] = value[offsets[some] + (rng.random(len(some)) * count[some]).astype(np.int64)]
    elif len(some):
        reduce = np.maximum if how == "max" else np.add
        out[some] = reduce.reduceat(value, offsets[some])
        out[some] /= count[some] if how == "mean" else 1
    return out
