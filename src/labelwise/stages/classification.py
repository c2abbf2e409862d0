"""What is different in image classification: the first images, inputs of scores, training set, evaluation."""

from __future__ import annotations

import builtins
from typing import Any

import numpy as np
import torch
from jaxtyping import Int64
from torch import nn

from labelwise import files
from labelwise.config import Run
from labelwise.config.sections import TeacherRule
from labelwise.evaluate import accuracy
from labelwise.predict import recorder as recording
from labelwise.predict.classify import distributions
from labelwise.project.context import Context
from labelwise.project.folder import Stage
from labelwise.score import dispersion, entropy
from labelwise.select._balance_target import Lambdas, propose_lambda, target
from labelwise.stages.candidates import PSEUDO, covered, image_outputs
from labelwise.train.fit import Data
from labelwise.train.images import ImageSet, one_per_image
from labelwise.types import LabelwiseError, Pool, Targets


def balanced(pool: Pool, amount: int, rng: np.random.Generator) -> Int64[np.ndarray, " amount"]:
    """As many images of every class as `amount` allows, at random (001, section 4.5.1); what is left over goes to
    classes drawn at random. The order is random, too.
    """
    if pool.truth is None or not pool.one_class_per_image:
        raise LabelwiseError(
            'budget.start = "balanced" looks at the true class of every image; this pool has none. Use "random"'
        )
    n = len(pool.classes)
    share = np.full(n, amount // n)
    share[rng.permutation(n)[: amount % n]] += 1
    order = rng.permutation(len(pool))
    order = order[pool.available[order]]
    labels = pool.truth.labels[order]
    chosen = [order[labels == c][: share[c]] for c in range(n)]
    short = [pool.classes[c] for c in range(n) if len(chosen[c]) < share[c]]
    if short:
        raise LabelwiseError(
            f"budget.start_images = {amount} takes {amount // n} images of every class, but {', '.join(short[:5])} "
            f"has fewer. Lower it, or set budget.start to random"
        )
    return rng.permutation(np.concatenate(chosen))


def menu(context: Context, round: int) -> dict[str, Any]:
    """What only classifiers give to a score, each made if the run names it."""
    run, pool, found = context.run, context.pool, dict[str, Any]()
    if "history" in run.inputs:
        record = files.read_record(context.file(round - 1, "history.npy"))  # lacks the images that came since
        found["history"] = np.pad(record, ((0, 0), (0, max(0, len(pool) - record.shape[1]))))
    if "truth_classes" in run.inputs:
        if pool.truth is None:
            raise LabelwiseError(f"score {run.query.score.name!r} looks at the true classes; this pool has none")
        found["truth_classes"] = pool.truth.labels
    if {"image_features", "labelled_classes"} & run.inputs:
        known = context.known()
        said = image_outputs(context, round)
        labelled = np.flatnonzero(covered(known, pool) & said.seen)
        labelled = labelled[np.diff(known.annotations.offsets)[labelled] == 1]
        found["image_features"] = said.features
        found["labelled_features"] = said.features[labelled]
        found["labelled_classes"] = known.annotations.labels[known.annotations.offsets[labelled]]
    return found


def lambdas(context: Context, round: int) -> Lambdas:
    """What λ of the class-balanced program does to the picks of a scored round (001, Fig. 4.4)."""
    ledger, n_classes = context.project.ledger, len(context.pool.classes)
    scored = files.read_table(context.file(round, "scores.parquet"))
    found = files.read_detections(context.file(round, "predictions"), columns=())
    probs = found.probs[found.offsets[scored["image"]]]  # one detection per image
    counts = np.bincount(ledger.annotation_rows(until_round=round - 1)["label"], minlength=n_classes)
    if context.run.budget.unit not in ("images", "queries", "boxes"):
        raise LabelwiseError(f"balance counts images; this project's budget is in {context.run.budget.unit}")
    budget = min(int(np.ceil(context.run.budget.per_round[round - 1])), len(probs))
    return propose_lambda(scored["score"], probs, target(counts, budget), budget)


def squares(context: Context, which: str) -> torch.Tensor:
    """The images as one tensor, on the GPU that will train on them if they take half of it at most."""
    found = torch.from_numpy(context.pixels(which).squares)
    wants_gpu = context.run.train.accelerator in ("auto", "gpu", "cuda") and torch.cuda.is_available()
    fits = wants_gpu and found.nbytes < torch.cuda.mem_get_info()[0] / 2
    return found.to("cuda") if fits else found


def training_set(context: Context, targets: Targets) -> tuple[ImageSet, dict[int, str]]:
    """The labelled images that can be read, and number and message of those that cannot."""
    numbers, labels, weights = one_per_image(targets)
    failed = {i: m for i, m in context.pixels("pool").failed.items() if i in set(numbers.tolist())}
    rows = np.flatnonzero(~np.isin(numbers, list(failed)) & (weights > 0))
    return ImageSet(squares(context, "pool"), numbers[rows], labels[rows], weights[rows], context.run.train), failed


def records(run: Run, teacher: bool) -> bool:
    """Whether predictions are recorded while this model trains: where a score or the teacher's choice names them."""
    if run.labels.teacher is not None:
        return teacher and run.labels.teacher.by == "dispersion"
    return "history" in run.inputs


def taught(
    context: Context, round: int, data: ImageSet, teacher: nn.Module, rule: TeacherRule
) -> tuple[ImageSet, dict[str, float]]:
    """The training set with the teacher's surest predictions on what is not labelled, and how many of them are right
    (where the ground truth is known). They are written, so that the next round asks about the remaining images.
    """
    pool, pixels = context.pool, context.pixels("pool")
    done = covered(context.known(), pool)
    wanted = np.setdiff1d(np.flatnonzero(~done), list(pixels.failed))
    probs, _ = distributions(teacher, torch.from_numpy(pixels.squares), wanted, context.run.predict.batch_size)
    if rule.by == "dispersion":
        unsure = dispersion.score(files.read_record(context.file(round, "history.npy"))[:, wanted])
    else:
        unsure = entropy.score(probs)
    chance = np.random.default_rng([context.run.seed, round, 6]).random(len(wanted))
    sure = np.lexsort((chance, entropy.score(probs), unsure))[: builtins.round(rule.share * len(pool))]
    numbers, labels = wanted[sure], probs[sure].argmax(axis=1)
    files.write_table(context.file(round, PSEUDO), {"image": numbers, "label": labels})
    told = {"pseudo_labels": float(len(sure))}
    if pool.truth is not None and len(sure):
        told["pseudo_right"] = float((pool.truth.labels[numbers] == labels).mean())
    return data.extended(numbers, labels), told


def recorder(context: Context, round: int, data: Data, epochs: int) -> recording.Recorder:
    """Records the predictions of what is not labelled yet, epoch by epoch, for the next round."""
    done = covered(context.known(), context.pool)
    wanted = np.setdiff1d(np.flatnonzero(~done), list(context.pixels("pool").failed))
    rule = context.run.train
    return recording.Recorder(
        context.file(round, "history.npy"),
        data.squares if isinstance(data, ImageSet) else squares(context, "pool"),
        wanted,
        len(context.pool.classes),
        epochs,
        rule.record_every,
        context.run.predict.batch_size,
    )


def evaluate(context: Context, model: nn.Module, round: int, stage: Stage) -> dict[str, Any]:
    """Accuracy on the test split; empty where there is none."""
    test = context.test
    if test is None or test.truth is None:
        return {}
    pixels = context.pixels("test")
    seen = np.setdiff1d(np.arange(len(test)), list(pixels.failed))
    stage.info["skipped"] = [(test.names[i], message) for i, message in pixels.failed.items()]
    if not len(seen):
        return {}
    with context.bar(f"round {round}: evaluate", len(seen)) as advance:
        probs, _ = distributions(
            model, torch.from_numpy(pixels.squares), seen, context.run.predict.batch_size, report=advance
        )
    return accuracy.evaluate(probs, test.truth.labels[seen], test.classes)
