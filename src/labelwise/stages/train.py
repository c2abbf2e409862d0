"""The stage train: the targets become a model."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Collection
from typing import Any

import numpy as np
from torch import nn

from labelwise import files
from labelwise.config.sections import Train
from labelwise.models.frozen import FrozenDetector
from labelwise.models.head import Head
from labelwise.project.round import Round
from labelwise.stages import classification, frozen_detector, train_over_ray
from labelwise.stages.checkpoints import (
    FIRST,
    TEACHER,
    Checkpoint,
    Member,
    about,
    build_model,
    features_of,
    load_model,
    members,
    start_from,
    write_model,
)
from labelwise.stages.online_labels import teacher
from labelwise.train import failure, fit_linear
from labelwise.train.augment import Augment
from labelwise.train.batches import TrainingSet
from labelwise.train.feature_set import FeatureSet
from labelwise.train.fit import fit
from labelwise.train.images import ImageSet
from labelwise.train.schedule import plan_of
from labelwise.train.teacher import find_drift

LATER = (
    *("steps", "whole_share", "object_share", "warm_lr", "scale", "iou_crop", "photometric", "teacher"),
    *("teacher_decay", "accumulate", "mosaic", "compile"),
)
"""Settings that an earlier labelwise lacks: where none is set, a model is of the training that it was there."""

PLACES = {"engine"}
"""Settings of which the weights do not depend."""

CLOCKS = ("images_per_s", "waiting_share", "record_s")
"""What a training says of its speed: the file of a model depends on none of it."""


def train(now: Round) -> None:
    """Trains on the targets, from fresh weights or (warm_start) from the weights of the round before.

    With `train.members` several, each from its own random weights and order of images: a small ensemble.
    """
    run = now.run
    if run.predict.proposals is not None and not len(now.targets):
        return  # nothing is labelled yet; the next round asks about proposed boxes again
    if run.reads_features or run.reads_objects:
        now.context.renew_features()
    data, failed = classification.training_set(now) if run.classifies else _training_set(now)
    what = _fingerprint(now, failed)
    if run.labels.teacher is not None and isinstance(data, ImageSet):
        _train_once(now, data, TEACHER, what)
        data, info = classification.with_pseudo_labels(now, data, load_model(now, TEACHER), run.labels.teacher)
        now.info.update(info)
    for member in members(run):
        now.info.update(_train_once(now, data, member, what))
    now.info["skipped"] = [(now.pool.names[i], message) for i, message in failed.items()]


def _training_set(now: Round) -> tuple[TrainingSet, dict[int, str]]:
    """The entries whose image can be read, and number and message of the images that cannot."""
    rule, images, targets = now.run.train, now.context.images("pool"), now.targets
    if now.run.reads_objects:
        failed = {i: m for i, m in now.context.objects("pool").failed.items() if i in set(targets.images.tolist())}
    else:
        failed = dict(images.warm(np.unique(targets.images)))
    rows = np.flatnonzero(~np.isin(targets.images, list(failed)))
    return TrainingSet(images, targets, rows, Augment.of(rule), teacher(now)), failed


def _fingerprint(now: Round, failed: Collection[int]) -> str:
    """Tells what a model was trained on and how, so that a finished member is not trained again after a kill."""
    run = now.run
    unset = PLACES | {name for name in LATER if getattr(run.train, name) is None}
    train = run.train.model_dump_json(exclude=unset)
    how = f"{run.seed} {now.number} {run.model.model_dump_json()} {train} {run.labels.teacher}"
    how += f" {run.labels.model_dump_json()}" if run.train.teacher is not None else ""
    how += f" without {sorted(failed)}" if failed else ""
    how += (
        f" {run.features.model_dump_json(exclude={'folder'})}"
        if run.features and (run.reads_features or run.reads_objects)
        else ""
    )
    return hashlib.sha256(how.encode() + now.folder.targets.read_bytes()).hexdigest()


def _train_once(now: Round, data: TrainingSet | ImageSet, member: Member, fingerprint: str) -> dict[str, Any]:
    """Trains a member unless its checkpoint is there already; what the training says of itself."""
    before = about(now, member)
    return dict(before["info"]) if before.get("fingerprint") == fingerprint else _train(now, data, member, fingerprint)


def _train(now: Round, data: TrainingSet | ImageSet, member: Member, fingerprint: str) -> dict[str, Any]:
    run = now.run
    model = build_model(now, member)
    if isinstance(model, FrozenDetector):
        said = frozen_detector.solve(now, model, member.stream)
        _write(now, member, model, fingerprint, said)
        return said
    if isinstance(model, Head) and model.solved and isinstance(data, FeatureSet):
        return _solve(now, data, member, model, fingerprint)
    rule, source = _begin(now, model, member)
    unfinished = Checkpoint(now.folder.training(member.suffix))
    plan = plan_of(len(data), rule)
    recorder = None
    if classification.records(run, teacher=member == TEACHER) and member in (FIRST, TEACHER):
        recorder = classification.recorder(now, data, plan.epochs)
        if not recorder.begun:
            unfinished.path.unlink(missing_ok=True)
    number = member.stream[0] if member.stream else 0
    which = f", member {number + 1} of {rule.members}" if rule.members > 1 else ""
    with now.context.bar(now.title(f"train on {len(data)} images{which}"), plan.steps) as advance:
        seeds = np.random.default_rng([run.seed, *member.stream])
        info: dict[str, Any] = _trainer(model, data, rule)(
            model,
            data,
            rule,
            seed=run.seed if member == FIRST else int(seeds.integers(2**31)),
            round_number=now.number,
            checkpoint=unfinished,
            progress=advance,
            after_epoch=recorder,
        )
    drift = find_drift(info)
    if drift is not None:
        now.context.tell(
            f"round {now.number}: {drift}: it confirms its own errors. Raise the upper threshold of labels.policy, "
            'take labels.class_thresholds = "counts" or "answers", or train without train.teacher'
        )
    if recorder is not None:
        recorder.finish(files.write_bytes)
        info["record_s"] = recorder.seconds
    info |= _judge(now, model, data, info.pop("loss_first"), info.pop("loss_last"), info["steps"], source)
    _write(now, member, model, fingerprint, info)
    unfinished.path.unlink(missing_ok=True)
    if recorder is not None:
        recorder.remove()
    return info


def _trainer(model: nn.Module, data: TrainingSet | ImageSet, rule: Train) -> Callable[..., dict[str, Any]]:
    """What trains a model; features that are computed once train here."""
    if isinstance(model, Head) and fit_linear.possible(model, rule):
        return fit_linear.fit
    spread = rule.engine == "ray" and rule.devices > 1 and not isinstance(data, FeatureSet)
    return train_over_ray.fit if spread else fit


def _solve(now: Round, data: FeatureSet, member: Member, model: Head, fingerprint: str) -> dict[str, Any]:
    """Trains a head in one go; members of an ensemble after the first, each on a bootstrap sample of the images."""
    features, labels, weights = data.samples()
    if member.stream and member != TEACHER:
        rng = np.random.default_rng([now.run.seed, now.number, 8, *member.stream])
        times = np.bincount(rng.integers(0, len(data), len(data)), minlength=len(data))
        weights = weights * np.repeat(times, len(weights) // len(data))
    some = weights > 0
    begun = time.perf_counter()
    info: dict[str, Any] = model.solve(features[some], labels[some], weights[some])
    info["images_per_s"] = len(data) / max(time.perf_counter() - begun, 1e-9)
    _write(now, member, model, fingerprint, info)
    return info


def _write(now: Round, member: Member, model: nn.Module, fingerprint: str, info: dict[str, Any]) -> None:
    """Keeps a trained model with what the training says of itself."""
    kept = {name: value for name, value in info.items() if name not in CLOCKS}
    facts = {"round": now.number, "fingerprint": fingerprint, "info": kept, "n_classes": len(now.pool.classes)}
    facts |= {"features": seen} if (seen := features_of(now)) is not None else {}
    write_model(now, member, model, facts)


def _begin(now: Round, model: nn.Module, member: Member) -> tuple[Train, dict[str, Any] | None]:
    """Gives a model the weights that it goes on from, if any; the settings of its training, and what the training of
    these weights said of itself (None: the weights are fresh).
    """
    rule = now.run.train
    if rule.warm_start and now.number and about(now.before, member):
        start_from(model, load_model(now.before, member))
        return rule.model_copy(update={"lr": rule.warm_lr or rule.lr}), dict(about(now.before, member)["info"])
    if rule.warm_start and now.run.labels.teacher is not None and member == FIRST:
        start_from(model, load_model(now, TEACHER))
        return rule, dict(about(now, TEACHER)["info"])
    return rule, None


def _judge(
    now: Round,
    model: nn.Module,
    data: TrainingSet | ImageSet,
    first: float,
    last: float,
    steps: int,
    source: dict[str, Any] | None,
) -> dict[str, Any]:
    """Tells of a training that has learned nothing; that, and with warm starts the loss at which the weights began.

    `first`, `last`: mean loss of the first and the last tenth of the steps.
    """
    fresh = first if source is None else source.get("loss_fresh")
    why = failure.find(model, data, steps, fresh, last)
    if why is not None:
        rate = now.run.train.lr
        now.context.tell(
            f"round {now.number}: the training has learned nothing: {why}. Try a lower train.lr (now {rate:g}) or more "
            "steps; look at the boxes with `labelwise check`"
        )
    begun = {"loss_fresh": fresh} if now.run.train.warm_start and fresh is not None else {}
    return begun | ({} if why is None else {"learns_nothing": why})
