"""The stage score: arrays of predictions become how much each candidate is worth labelling."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from labelwise import catalog, files
from labelwise.config import inputs
from labelwise.project.round import Round
from labelwise.stages import classification, tracking
from labelwise.stages.candidates import gather, in_shards
from labelwise.stages.checkpoints import load_model
from labelwise.targets.difficulty import difficulty
from labelwise.units import Candidates, Unit


def score(now: Round) -> None:
    """How much each candidate is worth labelling: open boxes, images that are not wholly labelled, or regions."""
    if now.number == 0:
        return
    run = now.run
    menu = menu_of(now)
    learns = "labelled_classes" in catalog.find("score", run.query.score.name).inputs  # once, not per shard
    n = 0
    with files.writing(now.folder.scores) as writer:
        for number, unit in enumerate(now.units):
            for found in [gather(now, run.columns)] if learns else in_shards(now, unit, run.columns):
                writer.append(_score_shard(now, number, found, menu))
                n += len(found)
    now.info["candidates"] = n


def menu_of(now: Round) -> dict[str, Any]:
    """What a score may name that is not of single candidates."""
    run = now.run
    annotated = np.bincount(now.known.annotations.labels, minlength=len(now.pool.classes))
    menu: dict[str, Any] = {"rng": np.random.default_rng([run.seed, now.number]), "counts": annotated}
    if "labelled_probability" in run.inputs:
        menu["labelled_probability"] = now.labelled_probability
    if "difficulty" in run.inputs:
        menu["difficulty"] = _difficulty(now)
    if run.classifies:
        menu |= classification.menu(now)
    return menu | tracking.errors_per_image(now, lambda: load_model(now.before))


def _difficulty(now: Round) -> np.ndarray:
    """Of every class, by what this round's model finds in the images that are wholly labelled."""
    known = now.known.annotations
    count = np.diff(known.offsets)
    offsets = np.concatenate([[0], np.cumsum(count * now.covered)])
    wholly = np.repeat(now.covered, count)
    return difficulty(now.detections_in(now.covered), offsets, known.xyxy[wholly], known.labels[wholly])


def _score_shard(now: Round, number: int, found: Candidates, menu: Mapping[str, Any]) -> dict[str, np.ndarray]:
    """The table of some candidates of the unit of that number."""
    unit, others = now.units[number], len(now.units) > 1
    value = _values(now, unit, found, menu)
    label = found.column("labels")[found.members] if unit.CLASS else np.full(len(found), -1)
    corners = dict(zip(("x1", "y1", "x2", "y2"), found.xyxy.T, strict=True))
    table = {"row": found.row, "image": found.image, "label": label, "scale": found.scale, **corners}
    if any(one.SCALES for one in now.units):
        table["magnification"] = np.array(now.run.query.scales if unit.SCALES else (1.0,))[found.scale]
    if others or not unit.CLASS:
        table |= {f"mix_{c}": shares for c, shares in enumerate(found.mix(len(now.pool.classes)).T)}
    if others:
        table["unit"] = np.full(len(found), number)
    return {**table, "score": np.asarray(value, np.float64)}


def _values(now: Round, unit: Unit, found: Candidates, whole: Mapping[str, Any]) -> np.ndarray:
    """One score per candidate. A score that looks at no box (random) is drawn per candidate, one of whole images is
    taken as it is; box scores are lifted to what the unit asks about. What is proposed is asked the surest first.
    """
    query = now.run.query
    if now.proposed:
        sure = found.column("scores").astype(np.float64)
        return unit.lift(sure[found.members], found.offsets, query.aggregate, whole["rng"])
    method, rows = catalog.find("score", query.score.name), inputs.rows_of("score", query.score.name)
    of_pool = [row for row in rows if row.axis == "pool" and row.name in whole]
    whole = {**whole, **{row.name: np.take(whole[row.name], found.image, row.position) for row in of_pool}}
    if not any(row.axis in ("boxes", "images") for row in rows):
        return np.asarray(method.call({**whole, "n": len(found)}, query.score.settings), np.float64)
    values = []
    for part in found.parts:
        menu = {**whole, "n": len(part), "offsets": found.offsets}
        for row in rows:
            column = row.of(part) if row.at and row.axis in ("boxes", "images") else None
            if column is not None:
                menu[row.name] = column if row.axis == "boxes" else column[found.image - found.first]
        values.append(np.asarray(method.call(menu, query.score.settings), np.float64))
    value = np.concatenate(values)
    if any(row.of_images for row in rows):
        return value
    return unit.lift(value[found.members], found.offsets, query.aggregate, whole["rng"])
