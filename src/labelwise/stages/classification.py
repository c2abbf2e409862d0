"""What is different in image classification: the first images, inputs of scores, training set, evaluation."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Int64
from torch import nn

from labelwise import files
from labelwise.config import Run
from labelwise.config.label_rule import TeacherRule
from labelwise.evaluate import accuracy
from labelwise.predict.classify import Inputs, distributions
from labelwise.predict.recorder import Recorder
from labelwise.project.context import Context
from labelwise.project.round import Round
from labelwise.score import dispersion, entropy
from labelwise.select._balance_target import Lambdas, propose_lambda, target
from labelwise.stages import image_features
from labelwise.train.feature_set import FeatureSet
from labelwise.train.fit import Data
from labelwise.train.images import ImageSet, one_per_image
from labelwise.types import LabelwiseError, Pool


def balanced(
    pool: Pool, amount: int, rng: np.random.Generator, askable: Bool[np.ndarray, " images"]
) -> Int64[np.ndarray, " amount"]:
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
    order = order[(pool.available & askable)[order]]
    labels = pool.truth.labels[order]
    chosen = [order[labels == c][: share[c]] for c in range(n)]
    short = [pool.classes[c] for c in range(n) if len(chosen[c]) < share[c]]
    if short:
        raise LabelwiseError(
            f"budget.start_images = {amount} takes {amount // n} images of every class, but {', '.join(short[:5])} "
            f"has fewer. Lower it, or set budget.start to random"
        )
    return rng.permutation(np.concatenate(chosen))


def menu(now: Round) -> dict[str, Any]:
    """What only classifiers give to a score, each made if the run names it."""
    run, pool, found = now.run, now.pool, dict[str, Any]()
    if "history" in run.inputs:
        record = now.before.history  # lacks the images that came since
        found["history"] = np.pad(record, ((0, 0), (0, max(0, len(pool) - record.shape[1]))))
    if "truth_classes" in run.inputs:
        if pool.truth is None:
            raise LabelwiseError(f"score {run.query.score.name!r} looks at the true classes; this pool has none")
        found["truth_classes"] = pool.truth.labels
    if {"image_features", "labelled_classes"} & run.inputs:
        known, said = now.known, image_features.of_model(now)
        labelled = np.flatnonzero(now.covered & said.seen)
        labelled = labelled[np.diff(known.annotations.offsets)[labelled] == 1]
        found["image_features"] = said.features
        found["labelled_features"] = said.features[labelled]
        found["labelled_classes"] = known.annotations.labels[known.annotations.offsets[labelled]]
    return found


def lambdas(now: Round) -> Lambdas:
    """What λ of the class-balanced program does to the picks of a scored round (001, Fig. 4.4)."""
    found, scores = now.detections(), now.scores
    probs = found.probs[found.offsets[scores["image"]]]  # one detection per image
    annotated = now.ledger.annotation_rows(until_round=now.number - 1)["label"]
    counts = np.bincount(annotated, minlength=len(now.pool.classes))
    if now.budget_unit not in ("images", "queries", "boxes"):
        raise LabelwiseError(f"balance counts images; this project's budget is in {now.budget_unit}")
    budget = min(int(np.ceil(now.budget)), len(probs))
    return propose_lambda(scores["score"], probs, target(counts, budget), budget)


def inputs(context: Context, which: str) -> Inputs:
    """What a classifier looks at: the images as one array, or their frozen features."""
    if context.run.reads_features:
        return image_features.FrozenTable(context.features(which))
    return torch.from_numpy(context.pixels(which).squares)


def squares(context: Context, which: str) -> Any:
    """`inputs`; images on the GPU that will train on them if they take half of it at most."""
    if context.run.reads_features:
        return inputs(context, which)
    found = torch.from_numpy(context.pixels(which).squares)
    wants_gpu = context.run.train.accelerator in ("auto", "gpu", "cuda") and torch.cuda.is_available()
    fits = wants_gpu and found.nbytes < torch.cuda.mem_get_info()[0] / 2
    return found.to("cuda") if fits else found


def training_set(now: Round) -> tuple[ImageSet, dict[int, str]]:
    """The labelled images that can be read, and number and message of those that cannot."""
    numbers, labels, weights = one_per_image(now.targets)
    failed = {i: m for i, m in now.context.unreadable("pool").items() if i in set(numbers.tolist())}
    rows = np.flatnonzero(~np.isin(numbers, list(failed)) & (weights > 0))
    kind = FeatureSet if now.run.reads_features else ImageSet
    return kind(squares(now.context, "pool"), numbers[rows], labels[rows], weights[rows], now.run.train), failed


def records(run: Run, *, teacher: bool) -> bool:
    """Whether predictions are recorded while this model trains: where a score or the teacher's choice names them."""
    if run.labels.teacher is not None:
        return teacher and run.labels.teacher.by == "dispersion"
    return "history" in run.inputs


def with_pseudo_labels(
    now: Round, data: ImageSet, teacher: nn.Module, rule: TeacherRule
) -> tuple[ImageSet, dict[str, float]]:
    """The training set with the teacher's surest predictions on what is not labelled, and how many of them are right
    (where the ground truth is known). They are written, so that the next round asks about the remaining images.
    """
    pool, seed = now.pool, now.run.seed
    wanted = np.setdiff1d(np.flatnonzero(~now.covered), list(now.context.unreadable("pool")))
    probs, _ = distributions(teacher, inputs(now.context, "pool"), wanted, now.run.predict.batch_size)
    unsure = dispersion.score(now.history[:, wanted]) if rule.by == "dispersion" else entropy.score(probs)
    chance = np.random.default_rng([seed, now.number, 6]).random(len(wanted))
    sure = np.lexsort((chance, entropy.score(probs), unsure))[: round(rule.share * len(pool))]
    numbers, labels = wanted[sure], probs[sure].argmax(axis=1)
    files.write_table(now.folder.pseudo_labels, {"image": numbers, "label": labels})
    info = {"pseudo_labels": float(len(sure))}
    if pool.truth is not None and len(sure):
        info["pseudo_right"] = float((pool.truth.labels[numbers] == labels).mean())
    return data.extended(numbers, labels), info


def recorder(now: Round, data: Data, epochs: int) -> Recorder:
    """Records the predictions of what is not labelled yet, epoch by epoch, for the next round."""
    wanted = np.setdiff1d(np.flatnonzero(~now.covered), list(now.context.unreadable("pool")))
    return Recorder(
        now.folder.history,
        data.squares if isinstance(data, ImageSet) else squares(now.context, "pool"),
        wanted,
        len(now.pool.classes),
        epochs,
        now.run.train.record_every,
        now.run.predict.batch_size,
    )


def evaluate(now: Round, model: nn.Module) -> dict[str, Any]:
    """Accuracy on the test split; empty where there is none."""
    test = now.test
    if test is None or test.truth is None:
        return {}
    failed = now.context.unreadable("test")
    seen = np.setdiff1d(np.arange(len(test)), list(failed))
    now.info["skipped"] = [(test.names[i], message) for i, message in failed.items()]
    if not len(seen):
        return {}
    with now.context.bar(now.title("evaluate"), len(seen)) as advance:
        probs, _ = distributions(model, inputs(now.context, "test"), seen, now.run.predict.batch_size, report=advance)
    return accuracy.evaluate(probs, test.truth.labels[seen], test.classes)
