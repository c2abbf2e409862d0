"""The stage score: arrays of predictions become how much each candidate is worth labelling."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from labelwise import catalog, files, units
from labelwise.config.sections import IMAGE_INPUTS
from labelwise.project.round import Round
from labelwise.stages import classification, tracking
from labelwise.stages.candidates import gather, in_shards
from labelwise.stages.checkpoints import load_model
from labelwise.units import Candidates

PER_IMAGE = {"labelled_probability": 0, "truth_classes": 0, "image_features": 0, "history": 1}
PER_IMAGE |= dict.fromkeys(("estimated_fp", "estimated_fn", "true_fp", "true_fn"), 0)
"""Columns of the whole pool, and which of their axes counts its images."""
VIEWS = ("view_probs", "view_scores", "view_iou")


def score(now: Round) -> None:
    """How much each candidate is worth labelling: open boxes, images that are not wholly labelled, or regions."""
    if now.number == 0:
        return
    run = now.run
    columns = [*(VIEWS if run.needs_views else ()), *(c for c in ("features", "tightness") if c in run.outputs)]
    columns += ["per_image"] if {"predicted_loss", "image_features"} & run.outputs else []
    menu = _menu(now)
    learns = "labelled_classes" in catalog.find("score", run.query.score.name).inputs  # once, not per shard
    shards = [gather(now, columns)] if learns else in_shards(now, columns)
    tables = [_score_shard(now, found, menu) for found in shards]
    table = {name: np.concatenate([one[name] for one in tables]) for name in tables[0]}
    files.write_table(now.files.scores, table)
    now.info["candidates"] = len(table["score"])


def _menu(now: Round) -> dict[str, Any]:
    """What a score may name that is not of single candidates."""
    run = now.run
    annotated = np.bincount(now.known.annotations.labels, minlength=len(now.pool.classes))
    menu: dict[str, Any] = {"rng": np.random.default_rng([run.seed, now.number]), "counts": annotated}
    if "labelled_probability" in run.inputs:
        menu["labelled_probability"] = now.labelled_probability
    if run.classifies:
        menu |= classification.menu(now)
    return menu | tracking.errors_per_image(now, lambda: load_model(now.before))


def _score_shard(now: Round, found: Candidates, menu: Mapping[str, Any]) -> dict[str, np.ndarray]:
    value = _scored(now, found, menu)
    unit = units.find(now.unit)
    label = found.column("labels")[found.members] if unit.CLASS else np.full(len(found), -1)
    corners = dict(zip(("x1", "y1", "x2", "y2"), found.xyxy.T, strict=True))
    table = {"row": found.row, "image": found.image, "label": label, "scale": found.scale, **corners}
    if unit.SCALES:
        table["magnification"] = np.array(now.run.query.scales)[found.scale]
    if not unit.CLASS:
        table |= {f"mix_{c}": shares for c, shares in enumerate(found.mix(len(now.pool.classes)).T)}
    return {**table, "score": np.asarray(value, np.float64)}


def _scored(now: Round, found: Candidates, whole: Mapping[str, Any]) -> np.ndarray:
    """One score per candidate. A score that looks at no box (random) is drawn per candidate, one of whole images is
    taken as it is; box scores are lifted to what the unit asks about.
    """
    query = now.run.query
    method = catalog.find("score", query.score.name)
    whole = dict(whole)
    for name, axis in PER_IMAGE.items():
        if name in whole and name in method.inputs:
            whole[name] = np.take(whole[name], found.image, axis)
    if not set(method.inputs) - {"n", "rng", "labelled_features", "labelled_classes", *PER_IMAGE}:
        return np.asarray(method.call({**whole, "n": len(found)}, query.score.settings), np.float64)
    values = []
    for part in found.parts:
        menu: dict[str, Any] = {**whole, "n": len(part), "offsets": found.offsets}
        menu |= {name: getattr(part, name) for name in ("probs", "scores", "labels", "features", "tightness")}
        if part.views is not None:
            menu |= {"view_probs": part.views.probs, "view_scores": part.views.scores, "view_iou": part.views.iou}
        if part.per_image is not None:
            menu["predicted_loss"] = part.per_image.predicted_loss[found.image - found.first]
        values.append(np.asarray(method.call(menu, query.score.settings), np.float64))
    value = np.concatenate(values)
    if IMAGE_INPUTS & set(method.inputs):
        return value
    return units.find(now.unit).lift(value[found.members], found.offsets, query.aggregate, whole["rng"])
