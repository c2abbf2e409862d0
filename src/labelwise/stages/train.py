"""The stages that learn: label, train, evaluate. They turn the ledger into targets, a model and its metrics."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from labelwise import catalog, files
from labelwise.config import Run
from labelwise.evaluate import detection
from labelwise.predict.detect import predict_detections
from labelwise.project.context import Context
from labelwise.project.folder import Stage
from labelwise.stages import classification, tracking
from labelwise.targets import partial
from labelwise.train.batches import TrainingSet
from labelwise.train.fit import Data, epochs_of, fit
from labelwise.train.images import ImageSet
from labelwise.types import Detections, Targets


def label(context: Context, round: int, stage: Stage) -> None:
    """The training targets: everything in the ledger, completed by this round's predictions as the policy says."""
    found = None
    if round:
        columns = ("view_iou",) if context.run.needs_views else ()
        found = files.read_detections(context.file(round, "predictions"), columns=columns)
    made = targets(context, round, found)
    files.write_targets(context.file(round, "targets.safetensors"), made)
    stage.info["images"], stage.info["boxes"] = len(made), len(made.boxes)
    stage.info["skipped"] = [(context.pool.names[i], why) for i, why in context.pool.unavailable.items()]


def targets(context: Context, round: int, found: Detections | None) -> Targets:
    """The training targets with pseudo labels of the given predictions, or with none."""
    run, pool = context.run, context.pool
    if found is not None:  # with the classes and images that were added since, without those that cannot be shown now
        found = found.of_images(len(pool)).of_classes(len(pool.classes))
        found = found.take((found.scores >= run.labels.threshold) & pool.available[found.image])
    policy = catalog.find("labels", run.labels.policy.name)
    known = context.known()
    made = partial.targets(
        known,
        found,
        lambda open_: policy.call({**open_, "round": round}, run.labels.policy.settings),
        policy.constant("NEGATIVES"),
        pool.width_px,
        pool.height_px,
        pool.crowd,
        images=run.labels.images,
        regions=run.labels.regions,
    )
    return tracking.with_neighbours(context, made, known)


# ------------------------------------------------------------------------------------------------------------ train


TEACHER = 1000
"""Number of the teacher among the members (001, section 3.5)."""


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """An unfinished training in the round's folder."""

    path: Path

    def load(self) -> Any:
        return files.read_tensors(self.path) if self.path.exists() else None

    def save(self, tensors: Any, metadata: Any) -> None:
        files.write_tensors(self.path, dict(tensors), dict(metadata))


def build_model(context: Context, round: int, member: int = 0, n_classes: int | None = None) -> nn.Module:
    """A fresh model of the configured kind; its random weights depend on (seed, round, member) alone."""
    stream = [context.run.seed, round, 2] + ([member] if member else [])
    return new_model(context.run, n_classes or len(context.pool.classes), stream)


def new_model(run: Run, n_classes: int, stream: list[int]) -> nn.Module:
    """The configured model; its random weights depend on `stream`."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(int(np.random.default_rng(stream).integers(2**62)))
        method = catalog.find("models", run.model.name)
        model: nn.Module = method.call({"n_classes": n_classes}, run.model.settings)
        return model


def _checkpoint(member: int) -> str:
    return f"checkpoint{'' if member == 0 else '-teacher' if member == TEACHER else f'-{member}'}.safetensors"


def load_model(context: Context, round: int, member: int = 0) -> nn.Module:
    """The model that a round trained (or a further member of its ensemble), on the device that the config asks for."""
    tensors, metadata = files.read_tensors(context.file(round, _checkpoint(member)))
    model = build_model(context, round, member, json.loads(metadata.get("about", "{}")).get("n_classes"))
    model.load_state_dict({name: torch.from_numpy(value.copy()) for name, value in tensors.items()})
    return model.to(context.device).eval()


def train(context: Context, round: int, stage: Stage) -> None:
    """Trains on the targets, from fresh weights or (warm_start) from the weights of the round before.

    With `train.members` several, each from its own random weights and order of images: a small ensemble.
    """
    run = context.run
    targets: Targets = files.read_targets(context.file(round, "targets.safetensors"))
    data, failed = (classification.training_set if run.classifies else _training_set)(context, targets)
    what = _fingerprint(context, round, failed)
    if run.labels.teacher is not None and isinstance(data, ImageSet):
        _trained(context, round, data, TEACHER, what)
        data, told = classification.taught(
            context, round, data, load_model(context, round, TEACHER), run.labels.teacher
        )
        stage.info.update(told)
    for member in range(run.train.members):
        stage.info.update(_trained(context, round, data, member, what))
    stage.info["skipped"] = [(context.pool.names[i], message) for i, message in failed.items()]


def _training_set(context: Context, targets: Targets) -> tuple[TrainingSet, dict[int, str]]:
    """The entries whose image can be read, and number and message of the images that cannot."""
    rule, images = context.run.train, context.images("pool")
    failed = dict(images.warm(np.unique(targets.images)))
    rows = np.flatnonzero(~np.isin(targets.images, list(failed)))
    return TrainingSet(images, targets, rows, flip=rule.flip, jitter=rule.jitter), failed


def _fingerprint(context: Context, round: int, failed: Collection[int]) -> str:
    """Tells what a model was trained on and how, so that a finished member is not trained again after a kill."""
    run = context.run
    how = f"{run.seed} {round} {run.model.model_dump_json()} {run.train.model_dump_json()} {run.labels.teacher}"
    how += f" without {sorted(failed)}" if failed else ""
    return hashlib.sha256(how.encode() + context.file(round, "targets.safetensors").read_bytes()).hexdigest()


def _trained(context: Context, round: int, data: Data, member: int, fingerprint: str) -> dict[str, Any]:
    """Trains a member unless its checkpoint is there already; what the training told."""
    path = context.file(round, _checkpoint(member))
    if path.exists():
        about = json.loads(files.read_tensors(path)[1].get("about", "{}"))
        if about.get("fingerprint") == fingerprint:
            return dict(about["info"])
    return _train_member(context, round, data, member, fingerprint)


def _train_member(context: Context, round: int, data: Data, member: int, fingerprint: str) -> dict[str, Any]:
    run = context.run
    model = build_model(context, round, member)
    if run.train.warm_start and (round or (run.labels.teacher is not None and member == 0)):
        before = (round - 1, member) if round else (0, TEACHER)
        start_from(model, load_model(context, *before))
    unfinished = Checkpoint(context.file(round, _checkpoint(member).replace("checkpoint", "training")))
    steps = epochs_of(len(data), run.train) * -(-len(data) // run.train.batch_size)
    recorder = None
    if classification.records(run, member == TEACHER) and member in (0, TEACHER):
        recorder = classification.recorder(context, round, data, epochs_of(len(data), run.train))
        if not recorder.begun:
            unfinished.path.unlink(missing_ok=True)
    which = f", member {member + 1} of {run.train.members}" if run.train.members > 1 else ""
    with context.bar(f"round {round}: train on {len(data)} images{which}", steps) as advance:
        seed = run.seed if not member else int(np.random.default_rng([run.seed, member]).integers(2**31))
        info = fit(
            model,
            data,
            run.train,
            seed=seed,
            round=round,
            checkpoint=unfinished,
            progress=advance,
            after_epoch=recorder,
        )
    if recorder is not None:
        recorder.finish(files.write_bytes)
        info["record_s"] = recorder.seconds
    weights = {name: value.detach().cpu().numpy() for name, value in model.state_dict().items()}
    clocks = ("images_per_s", "record_s")  # the file depends on none
    told = {name: value for name, value in info.items() if name not in clocks}
    # one entry alone: the order of several is not the same from file to file
    about = {"round": round, "fingerprint": fingerprint, "info": told, "n_classes": len(context.pool.classes)}
    metadata = {"about": json.dumps(about, sort_keys=True)}
    files.write_tensors(context.file(round, _checkpoint(member)), weights, metadata)
    unfinished.path.unlink(missing_ok=True)
    if recorder is not None:
        recorder.remove()
    return dict(info)


def start_from(model: nn.Module, before: nn.Module) -> None:
    """Gives a model the weights of another; a layer that has more classes now keeps its own, which are random."""
    own = model.state_dict()
    model.load_state_dict(
        own | {name: value for name, value in before.state_dict().items() if value.shape == own[name].shape}
    )


# --------------------------------------------------------------------------------------------------------- evaluate


def evaluate(context: Context, round: int, stage: Stage) -> None:
    """COCO metrics or accuracy on the test split, into metrics.json (empty where there is no annotated test split)."""
    metrics: dict[str, Any] = {}
    if context.run.classifies:
        metrics = classification.evaluate(context, load_model(context, round), round, stage)
        if context.run.labels.teacher is not None and metrics:
            taught = classification.evaluate(context, load_model(context, round, TEACHER), round, stage)
            metrics["teacher_accuracy"] = taught["accuracy"]
    elif context.test is not None and context.test.truth is not None:
        with context.bar(f"round {round}: evaluate", len(context.test)) as advance:
            found, summary = predict_detections(
                load_model(context, round),
                context.images("test"),
                np.arange(len(context.test)),
                n_images=len(context.test),
                batch_size=context.run.predict.batch_size,
                min_score=detection.MIN_SCORE,
                progress=advance,
            )
        metrics = detection.evaluate(found, context.test.truth, context.test.crowd, context.test.classes)
        stage.info["skipped"] = [(context.test.names[i], message) for i, message in summary.skipped]
    files.write_json(context.file(round, "metrics.json"), metrics)
