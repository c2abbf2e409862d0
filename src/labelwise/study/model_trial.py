"""Measures of a project, or of a data set with annotations, what `model_choice` decides by."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from labelwise import catalog, config
from labelwise.config import Run
from labelwise.config.features import Features
from labelwise.data.long_tail import subset
from labelwise.project import frozen_weights, opening
from labelwise.project.context import Bar, Context, Decoded, silent
from labelwise.study import model_choice, model_folds
from labelwise.study.model_choice import WITHIN, Evidence, over_folds, recall_within
from labelwise.study.unit_choice import Estimate
from labelwise.types import LabelwiseError, Pool

IMAGES = 32
"""Images of a data set that `of_data` looks at."""
TRAINED = "starter"
"""The recipe whose `model` and `train` are taken where a project has no detector that is trained."""
POLICY = "ignore"


def of_project(
    context: Context, *, train: bool = False, recipe: str | None = None, settings: Sequence[str] = ()
) -> Evidence:
    """Measures on what a project has labelled.

    Args:
        context: the project.
        train: whether the trained detector is measured too: one training a fold.
        recipe: whose `model` and `train` it has; None: the project's, and the starter's where that is frozen.
        settings: `key=value` for this alone; the project keeps its own.

    Raises:
        LabelwiseError: it classifies images, too little is labelled, or weights are missing.
    """
    if context.run.classifies:
        raise LabelwiseError(f"{context.project.folder} classifies images; --models compares detectors")
    run, other = _runs(context, recipe, settings, train=train)
    given = run.features if run.features is not None and run.features.objects is not None else None
    rule = given or frozen_weights.needed()
    context = replace(context, run=run, decoded=Decoded())
    known = context.known()
    seen = model_folds.seen_of(context.pool, known, run.data.group, run.seed)
    shown = model_folds.propose(
        seen.pool, rule.objects or "", rule.objects_px, max(WITHIN), context.device, context.bar
    )
    rank = model_choice.first_hit(shown, seen.truth)
    recall = {count: recall_within(rank, seen.truth, count) for count in WITHIN}
    wanted = model_choice.proposals_wanted(rank, seen.truth)
    if given is None:
        rule = rule.model_copy(update={"objects_most": wanted})
    objects = model_folds.objects_in(context, seen, rule)
    targets = model_folds.targets_of(seen, known, POLICY)
    head = dict(run.model.settings) if run.reads_objects else {}
    pooled, folds = model_folds.frozen_held(seen, objects, targets, head).ap50()
    half = model_folds.frozen_held(seen, objects, targets, head, 0.5, run.seed).ap50()[0]
    found = Evidence(
        images=len(seen.pool),
        objects=len(seen.truth),
        apart="clips" if seen.pool.clips is not None else "groups of data.group" if run.data.group else "images",
        has="frozen" if run.reads_objects else "trained",
        name=other.model.name,
        recall=recall,
        wanted=wanted,
        kept=rule.objects_most,
        ceiling=model_choice.ceiling(rank, seen.truth, rule.objects_most),
        frozen=over_folds(pooled, folds, share=True),
        half=half,
    )
    if not train:
        return found
    own, own_folds = model_folds.trained_held(replace(context, run=other), seen, targets).ap50()
    gain = over_folds(own - pooled, own_folds - folds)
    return replace(found, trained=over_folds(own, own_folds, share=True), gain=gain)


def _runs(context: Context, recipe: str | None, settings: Sequence[str], *, train: bool) -> tuple[Run, Run]:
    """The project's run with the settings laid over it, and the run whose detector is trained."""
    before = context.run
    apart = recipe is not None or before.reads_objects
    of_training = [one for one in settings if one.startswith(("model", "train"))] if apart else []
    own = [one for one in settings if one not in of_training]
    raw = config.layers([], own, before.model_dump(mode="json", exclude_none=True))
    folder = context.project.folder
    run = opening.resolve_paths(config.parse(raw, "--set"), folder)
    other = before.model_dump(mode="json", exclude_none=True)
    if apart:
        other = config.layers(catalog.recipe_files(recipe or TRAINED), of_training)
    if apart or run.reads_objects:
        raw |= {key: other[key] for key in ("model", "train") if key in other}
    if recipe is not None and "image_size_px" in other.get("data", {}):
        raw["data"]["image_size_px"] = other["data"]["image_size_px"]
    raw |= {"query": {"score": "random", "select": "top"}, "labels": {"policy": POLICY}, "predict": {}}
    raw["budget"] = {"start_images": 1, "unit": "queries", "per_round": []}
    raw["own_detector"] = False
    other_run = config.parse(raw, recipe or "the project")
    if other_run.reads_objects:
        raise LabelwiseError(f"{recipe}: its model is frozen as well; name a recipe whose detector is trained")
    return run, opening.resolve_paths(other_run, folder) if train else other_run


def of_data(
    pool: Pool, rule: Features, device: str = "cpu", bar: Bar = silent
) -> tuple[int, dict[int, Estimate], int] | None:
    """How many images were looked at, the recall of the proposals in them and how many of these are wanted.

    None: the images hold no object.

    Args:
        pool: with annotations; up to `IMAGES` of its images are drawn.
        rule: its `objects` and `objects_px` count.
        device: where the proposals are made.
        bar: of progress.
    """
    rows = np.sort(np.random.default_rng(0).permutation(len(pool))[:IMAGES])
    some = subset(pool, rows)
    if some.truth is None or not len(some.truth):
        return None
    rank = model_choice.first_hit(
        model_folds.propose(some, rule.objects or "", rule.objects_px, max(WITHIN), device, bar), some.truth
    )
    recall = {count: recall_within(rank, some.truth, count) for count in WITHIN}
    return len(some), recall, model_choice.proposals_wanted(rank, some.truth)
