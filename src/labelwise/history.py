"""A project's rounds, read back from its folder for `status` and `report`."""

from __future__ import annotations

import json
import platform
from collections.abc import Mapping
from importlib.metadata import version
from typing import Any

import numpy as np

from labelwise.context import Context
from labelwise.evaluate import detection
from labelwise.loop import STAGES
from labelwise.predict.history import read as read_history
from labelwise.report import informativeness
from labelwise.report.results import GalleryItem, Informativeness, RoundResult, RunResult
from labelwise.score import dispersion
from labelwise.store import files
from labelwise.types import ORIGIN_PSEUDO, LabelwiseError, image_of


def round_result(context: Context, round: int) -> RoundResult:
    """The numbers of one round; what its stages have not produced yet is left empty."""
    ledger, classes = context.project.ledger, context.pool.classes
    info = {name: ledger.stage_done(round, name) or {} for name in STAGES}
    path = context.file(round, "metrics.json")
    metrics: Mapping[str, Any] = files.read_json(path) if path.exists() else {}
    cost = ledger.cost(until_round=round)
    counts = {
        name: dict(zip(classes, map(float, values), strict=True)) for name, values in _counts(context, round).items()
    }
    return RoundResult(
        round=round,
        cost_boxes=cost.boxes,
        cost_queries=cost.queries,
        cost_images=cost.images,
        cost_seconds=cost.seconds,
        ap=metrics.get("ap"),
        quality=metrics.get("accuracy" if context.run.classifies else "ap50"),
        ap75=metrics.get("ap75"),
        per_class=metrics.get("per_class_accuracy" if context.run.classifies else "per_class_ap50", {}),
        class_counts_truth=counts["truth"],
        class_counts_pseudo=counts["pseudo"],
        class_counts_picks=counts["picks"],
        class_counts_picks_unbalanced=counts["unbalanced"] if round else {},
        answers=_answers(context, round),
        stage_seconds={name: found["wall_s"] for name, found in info.items() if "wall_s" in found},
        skipped=sorted({(name, message) for found in info.values() for name, message in found.get("skipped", [])}),
    )


def _counts(context: Context, round: int) -> dict[str, np.ndarray]:
    """Boxes per class: labelled so far, pseudo labels (soft), this round's picks as asked and as by score alone.

    Picks count by their predicted class, since what the score alone would have taken was never answered.
    """
    n = len(context.pool.classes)
    zero = np.zeros(n)
    annotations = context.project.ledger.annotation_rows(until_round=round)
    labels, rounds = annotations["label"], annotations["round"]
    counts = {
        "truth": np.bincount(labels, minlength=n),
        "picks": np.bincount(labels[rounds == round], minlength=n),
        "pseudo": zero,
        "unbalanced": zero,
    }
    path = context.file(round, "targets.safetensors")
    if path.exists():
        targets = files.read_targets(path)
        pseudo = targets.origin == ORIGIN_PSEUDO
        counts["pseudo"] = np.bincount(targets.labels[pseudo], targets.w_cls[pseudo], minlength=n)
    path = context.file(round, "scores.parquet")
    if round and path.exists() and context.run.query.unit == "box":
        scored = files.read_table(path)
        asked = [query.label for query in context.project.ledger.queries(round)]
        counts["picks"] = np.bincount(np.array(asked, np.int64), minlength=n)
        best = np.argsort(-scored["score"], kind="stable")[: len(asked)]
        counts["unbalanced"] = np.bincount(scored["label"][best], minlength=n)
    return counts


def _answers(context: Context, round: int) -> dict[str, int]:
    found: dict[str, int] = {}
    for verdict in context.project.ledger.verdicts(round).values():
        found[verdict] = found.get(verdict, 0) + 1
    return found


def run_result(context: Context, gallery: int = 12) -> RunResult:
    """Everything that the report shows of one project."""
    ledger = context.project.ledger
    done = [r for r in range(context.run.rounds) if ledger.stage_done(r, "evaluate") is not None]
    if not done:
        raise LabelwiseError(
            f"{context.project.folder}: no round is finished yet; `labelwise run -p {context.project.folder}` continues"
        )
    run = context.run
    return RunResult(
        name=run.name,
        seed=run.seed,
        recipe=f"{run.model.name}, {run.query.unit} queries by {run.query.score.name} and "
        f"{', then '.join(step.name for step in run.query.select)}, "
        f"label policy {run.labels.policy.name}",
        classes=context.pool.classes,
        rounds=[round_result(context, r) for r in done],
        settings=json.loads(run.model_dump_json(exclude_none=True)),
        gallery=_gallery(context, done[-1], gallery) if done[-1] else [],
        budget_unit=run.budget.unit,
        data=f"{_data_name(context)}: {len(context.pool)} images in the pool, "
        f"{len(context.test) if context.test else 0} for testing",
        versions=versions(),
        rare_classes=rare_classes(context),
        metric=run.metric,
        informativeness=[_informativeness(context, r) for r in done if r] if run.classifies else [],
    )


def _informativeness(context: Context, round: int) -> Informativeness:
    """How often the model of a scored round is right about the images with the highest scores."""
    scored = files.read_table(context.file(round, "scores.parquet"))
    found = files.read_detections(context.file(round, "predictions"), columns=())
    truth = context.pool.truth
    if truth is None:
        return informativeness.measure(round, np.zeros(0), np.zeros(0, bool))
    image = scored["image"]
    right = found.labels[found.offsets[image]] == truth.labels[image]
    record = context.file(round - 1, "history.npy")
    unsure = dispersion.score(read_history(record)[:, image]) if record.exists() else None
    return informativeness.measure(round, scored["score"], right, unsure)


def _data_name(context: Context) -> str:
    return "generated scenes" if context.run.data.scenes is not None else context.pool.root.name


def rare_classes(context: Context) -> list[str]:
    """Names of the pool's rare classes (`evaluate.detection.rare_classes`); none without ground truth or a choice."""
    classes = context.pool.classes
    if context.pool.truth is None or len(classes) < 2:
        return []
    return [classes[c] for c in detection.rare_classes(np.bincount(context.pool.truth.labels, minlength=len(classes)))]


def versions() -> dict[str, str]:
    """The software and the machine that a figure holds for."""
    names = ("labelwise", "torch", "torchvision", "numpy", "faster-coco-eval")
    return {n: version(n) for n in names} | {"python": platform.python_version(), "machine": platform.machine()}


def _gallery(context: Context, round: int, amount: int) -> list[GalleryItem]:
    """The images with most picks of the round: picks, their verdicts, and the pseudo labels that complete them.

    A pick that has no class is a region or the whole image.
    """
    ledger, classes, pool = context.project.ledger, context.pool.classes, context.pool
    number_of = {name: number for number, name in enumerate(pool.names)}
    verdicts = ledger.verdicts(round)
    by_image: dict[int, list[Any]] = {}
    for query in ledger.queries(round):
        if query.id in verdicts:
            by_image.setdefault(number_of[query.image], []).append(query)
    chosen = sorted(by_image, key=lambda image: (-len(by_image[image]), image))[:amount]
    targets = files.read_targets(context.file(round, "targets.safetensors"))
    owner = targets.images[image_of(targets.offsets)]
    items = []
    for image in chosen:
        pixels, scale_xy = context.images("pool")[image]
        scale = np.tile(np.asarray(scale_xy, np.float32), 2)
        pseudo = np.flatnonzero((owner == image) & (targets.origin == ORIGIN_PSEUDO) & (targets.w_cls > 0))
        queries, whole = by_image[image], (0.0, 0.0, float(pool.width_px[image]), float(pool.height_px[image]))
        truth = slice(*pool.truth.offsets[image : image + 2]) if pool.truth is not None else None
        items.append(
            GalleryItem(
                image=np.ascontiguousarray(pixels.transpose(1, 2, 0)),
                caption=pool.names[image],
                pick_boxes=np.array([q.box or whole for q in queries], np.float32).reshape(-1, 4) * scale,
                pick_labels=[q.unit if q.label is None else classes[q.label] for q in queries],
                pick_verdicts=[verdicts[q.id] for q in queries],
                pseudo_boxes=targets.boxes[pseudo] * scale,
                pseudo_labels=[classes[label] for label in targets.labels[pseudo]],
                pseudo_w_cls=targets.w_cls[pseudo],
                truth_boxes=None if truth is None or pool.truth is None else pool.truth.xyxy[truth] * scale,
                truth_labels=[]
                if truth is None or pool.truth is None
                else [classes[c] for c in pool.truth.labels[truth]],
            )
        )
    return items
