"""Why the first queries of a ranking are asked, in words: what the score and the selector say by their `explain`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from labelwise import catalog
from labelwise.config import inputs
from labelwise.config.inputs import INPUTS, Input
from labelwise.project.round import Round
from labelwise.score._images import in_words, worst_row
from labelwise.select._product import product
from labelwise.stages import classification
from labelwise.stages.candidates import in_shards
from labelwise.stages.score import menu_of
from labelwise.stages.selector_inputs import Makers
from labelwise.units import Candidates

SPARE, LEAST, MOST = 4, 100, 5000
"""So many expected budgets are told, at least and at most so many queries: what is asked after them has no sentence."""

BLOCK = 1 << 22
"""Distances at a time."""

FIRST = {
    "random": "Drawn at random: the model knows nothing yet.",
    "balanced": "Drawn at random, as many of every class: the model knows nothing yet.",
}
COVERING = "One of the first images: together they look like the whole pool."


def how_many(expected: float) -> int:
    """How many queries are told where the budget pays for about so many."""
    return int(min(max(SPARE * expected, LEAST), MOST))


def first(now: Round) -> str:
    """Why the images of round 0 are asked."""
    return COVERING if now.run.start_step is not None else FIRST.get(now.run.budget.start, "")


def sentences(now: Round, rows: np.ndarray, reasons: Mapping[str, np.ndarray], makers: Makers) -> list[str]:
    """Why these candidates (rows of the scores) are asked, the best first.

    `reasons`: what the last selector of the chain says of each by its `explain=True`.
    """
    if not len(rows):
        return []
    steps = now.run.query.select
    scored = any("scores" in catalog.find("select", step.name).inputs for step in steps)
    parts = [_of_score(now, rows)] if scored else []
    parts.append(_of_selector(now, rows, reasons, makers))
    return [" ".join(filter(None, said)) for said in zip(*parts, strict=True)]


def _of_selector(now: Round, rows: np.ndarray, reasons: Mapping[str, np.ndarray], makers: Makers) -> list[str]:
    step = now.run.query.select[-1]
    method = catalog.find("select", step.name)
    if method.explains_by is None:
        return [""] * len(rows)
    menu = dict(reasons) | {name: makers[name](rows) for name in method.explains_by if name in makers}
    menu["classes"] = now.pool.classes
    if "nearest" in method.explains_by:
        menu["nearest"] = _nearest(now, rows, makers)
    return method.explain(menu, step.settings)


def _nearest(now: Round, rows: np.ndarray, makers: Makers) -> list[str]:
    """Per candidate the labelled image that is nearest by the selector's features; "" where its name may tell the class
    that is asked for, and where nothing is labelled.
    """
    known = makers["labelled_features"](rows)
    if now.run.classifies or not len(known):
        return [""] * len(rows)
    x, half = makers["features"](rows), 0.5 * np.einsum("md,md->m", known, known)
    step = max(1, BLOCK // len(known))
    best = [(product(x[k : k + step], known.T) - half).argmax(axis=1) for k in range(0, len(x), step)]
    images = makers["labelled_from"](rows)
    return [now.pool.names[k] for k in images[np.concatenate(best)]] if best else []


def _of_score(now: Round, rows: np.ndarray) -> list[str]:
    """What the score says of each candidate; shard by shard, so that memory is bounded by one."""
    query, value = now.run.query, now.scores.take(rows, "score")[0]
    method = catalog.find("score", query.score.name)
    if method.explains_by is None:
        return [f"{query.score.name} gives it {one:.3g}." for one in value]
    of_rows = inputs.rows_of("score", query.score.name)
    lifted = any(row.axis == "boxes" for row in of_rows) and not any(row.of_images for row in of_rows)
    whole = menu_of(now) if lifted else _of_pool(now, method.explains_by)
    whole = {**whole, "classes": now.pool.classes}
    said, before = [""] * len(rows), 0
    for found in (shard for unit in now.units for shard in in_shards(now, unit, now.run.columns)):
        here = np.flatnonzero((rows >= before) & (rows < before + len(found)))
        if len(here):
            local = rows[here] - before
            texts = (_lifted if lifted else _as_scored)(now, found, local, whole | {"value": value[here]})
            for k, text in zip(here.tolist(), texts, strict=True):
                said[k] = text
        before += len(found)
    return said


def _of_pool(now: Round, names: tuple[str, ...]) -> dict[str, Any]:
    """What `explain` may name that is not of the boxes at hand, made where it does."""
    menu: dict[str, Any] = {"counts": np.bincount(now.known.annotations.labels, minlength=len(now.pool.classes))}
    if {"history", "truth_classes"} & set(names):
        menu |= classification.menu(now)
    if "labelled_probability" in names:
        menu["labelled_probability"] = now.labelled_probability
    return menu


def _as_scored(now: Round, found: Candidates, local: np.ndarray, whole: Mapping[str, Any]) -> list[str]:
    """What a score of whole images, or one that looks at no box, says of some candidates of a shard."""
    method = catalog.find("score", now.run.query.score.name)
    offsets, members = found.members_of(local)
    menu = dict(whole) | {"n": len(local), "offsets": offsets}
    for row in (INPUTS["score"][name] for name in method.explains_by or () if name in INPUTS["score"]):
        if row.axis == "pool":
            menu[row.name] = np.take(whole[row.name], found.image[local], row.position)
        elif row.axis == "images" and row.at:
            menu[row.name] = row.of(found.parts[0])[found.image[local] - found.first]
        elif row.axis == "boxes":
            menu[row.name] = _column(found, row, members)
    return method.explain(menu, now.run.query.score.settings)


def _lifted(now: Round, found: Candidates, local: np.ndarray, whole: Mapping[str, Any]) -> list[str]:
    """What a score of boxes says of the box of each candidate that it finds worth most."""
    query = now.run.query
    method, rows = catalog.find("score", query.score.name), inputs.rows_of("score", query.score.name)
    offsets, members = found.members_of(local)
    rows = tuple({row.name: row for row in (*rows, *_boxes_of(method.explains_by or ()))}.values())
    menu = {**whole, "n": len(members)}
    menu |= {row.name: _column(found, row, members) for row in rows if row.axis == "boxes"}
    if len(members) == len(local):
        best, value = offsets[:-1], whole["value"]
    else:
        of_boxes = np.asarray(method.call(menu, query.score.settings), np.float64)
        best = worst_row(of_boxes, offsets)
        value = of_boxes[best[best >= 0]]
    kept = best[best >= 0]
    menu |= {row.name: np.take(menu[row.name], kept, row.position) for row in rows if row.axis == "boxes"}
    return in_words(best, method.explain(menu | {"n": len(kept), "value": value}, query.score.settings), offsets)


def _boxes_of(names: tuple[str, ...]) -> list[Input]:
    return [INPUTS["score"][name] for name in names if name in INPUTS["score"]]


def _column(found: Candidates, row: Input, members: np.ndarray) -> np.ndarray:
    """An input of some detections of a shard, numbered through its parts."""
    parts = [row.of(part) for part in found.parts]
    return np.take(parts[0] if len(parts) == 1 else np.concatenate(parts, axis=row.position), members, row.position)
