"""A project's rounds, read back from its folder for `status` and `report`."""

from __future__ import annotations

import json
import platform
from collections.abc import Mapping, Sequence
from dataclasses import replace
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

import numpy as np

from labelwise.evaluate import rarity
from labelwise.ledger import given_labels
from labelwise.ledger.agreement import agreement
from labelwise.ledger.costs import by_verdict
from labelwise.loop import STAGES
from labelwise.project import another_opinion, changes, consensus, given
from labelwise.project.context import Context
from labelwise.project.round import Round
from labelwise.report.results import GalleryItem, Informativeness, RoundResult, RunResult, UnitCost
from labelwise.score import dispersion
from labelwise.study.pseudo_rounds import calibrations
from labelwise.types import BECAUSE, ORIGIN_PSEUDO, LabelwiseError, Query, image_of

if TYPE_CHECKING:  # what draws is loaded where it draws: `status` needs none of it
    from labelwise.report.filmstrip import Film, FilmFrame


def round_result(context: Context, round_number: int) -> RoundResult:
    """The numbers of one round; what its stages have not produced yet is left empty."""
    ledger, classes = context.project.ledger, context.pool.classes
    info = {name: ledger.stage_done(round_number, name) or {} for name in STAGES}
    metrics = Round(context, round_number).metrics
    cost = ledger.cost(until_round=round_number)
    counts = {
        name: dict(zip(classes, map(float, values), strict=True))
        for name, values in _counts(context, round_number).items()
    }
    return RoundResult(
        round=round_number,
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
        class_counts_picks_unbalanced=counts["unbalanced"] if round_number else {},
        answers=_answers(context, round_number),
        stage_seconds={name: found["wall_s"] for name, found in info.items() if "wall_s" in found},
        skipped=sorted({(name, message) for found in info.values() for name, message in found.get("skipped", [])}),
        sure_boxes=_sure_boxes(info["train"]),
        by_unit=_by_unit(context, round_number),
    )


def given_lines(context: Context) -> list[str]:
    """What came with the images, and how much of the test images was looked at; nothing where that is as usual."""
    lines, total = [], given_labels.total(context.project.ledger)
    if total is not None:
        whole = f"{total.whole} of them wholly labelled"
        lines.append(
            f"{total.images} images came with {total.boxes} boxes, {whole}: known from the start, without a cost"
        )
    test = context.test
    if test is not None and not context.run.classifies and (said := given.test_line(test)) is not None:
        lines.append(f"{context.run.metric} {said}")
    return lines


def _sure_boxes(trained: Mapping[str, Any]) -> tuple[float, float] | None:
    """How many sure boxes of an image an online teacher made at the training's beginning and end, if it noted that."""
    noted = trained.get("sure_first"), trained.get("sure_last")
    return None if None in noted else (float(noted[0]), float(noted[1]))  # type: ignore[arg-type]


def _counts(context: Context, round_number: int) -> dict[str, np.ndarray]:
    """Boxes per class: labelled so far, pseudo labels (soft), this round's picks as asked and as by score alone.

    Picks count by their predicted class, since what the score alone would have taken was never answered.
    """
    n = len(context.pool.classes)
    zero = np.zeros(n)
    annotations = context.project.ledger.annotation_rows(until_round=round_number)
    labels, rounds = annotations["label"], annotations["round"]
    counts = {
        "truth": np.bincount(labels, minlength=n),
        "picks": np.bincount(labels[rounds == round_number], minlength=n),
        "pseudo": zero,
        "unbalanced": zero,
    }
    now = Round(context, round_number)
    if now.folder.targets.exists():
        targets = now.targets
        pseudo = targets.origin == ORIGIN_PSEUDO
        counts["pseudo"] = np.bincount(targets.labels[pseudo], targets.w_cls[pseudo], minlength=n)
    if round_number and now.folder.scores.exists() and context.run.query.every("CLASS"):
        scored = now.scores
        asked = [query.label for query in context.project.ledger.queries(round_number)]
        counts["picks"] = np.bincount(np.array(asked, np.int64), minlength=n)
        best = np.argsort(-scored["score"], kind="stable")[: len(asked)]
        counts["unbalanced"] = np.bincount(scored["label"][best], minlength=n)
    return counts


def _by_unit(context: Context, round_number: int) -> dict[str, UnitCost]:
    found: dict[str, UnitCost] = {}
    with context.project.ledger.read() as connection:
        for number, unit, _, n, boxes, seconds in by_verdict(connection):
            if number == round_number:
                one = found.get(unit, UnitCost(0, 0, 0.0))
                found[unit] = UnitCost(one.queries + n, one.boxes + boxes, one.seconds + seconds)
    return found


def _answers(context: Context, round_number: int) -> dict[str, int]:
    found: dict[str, int] = {}
    for verdict in context.project.ledger.verdicts(round_number).values():
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
    run, changed, right = context.run, changes.by_round(context), calibrations(context, done)
    images = f"{len(context.pool)} images in the pool, {len(context.test) if context.test else 0} for testing"
    return RunResult(
        name=run.name,
        seed=run.seed,
        recipe=f"{run.model.name}, {', '.join(run.query.asked)} queries by {run.query.score.name} and "
        f"{', then '.join(step.name for step in run.query.select)}, "
        f"label policy {run.labels.policy.name}",
        classes=context.pool.classes,
        rounds=[
            replace(round_result(context, r), changed=changed.get(r, ()), calibration=right.get(r, ())) for r in done
        ],
        settings=json.loads(run.model_dump_json(exclude_none=True, exclude={"ledger", "log"})),  # may hold passwords
        gallery=_gallery(context, done[-1], gallery) if done[-1] else [],
        budget_unit=run.budget.unit,
        data="; ".join([f"{_data_name(context)}: {images}", *given_lines(context)]),
        versions=versions(),
        rare_classes=rare_classes(context),
        metric=run.metric,
        pool_images=len(context.pool),
        films=films(context, done[-1]) if done[-1] else [],
        informativeness=[_informativeness(context, r) for r in done if r] if run.classifies else [],
    )


def _informativeness(context: Context, round_number: int) -> Informativeness:
    """How often the model of a scored round is right about the images with the highest scores."""
    from labelwise.report import informativeness

    now, truth = Round(context, round_number), context.pool.truth
    if truth is None:
        return informativeness.measure(round_number, np.zeros(0), np.zeros(0, bool))
    found, image = now.detections(), now.scores["image"]
    right = found.labels[found.offsets[image]] == truth.labels[image]
    unsure = dispersion.score(now.before.history[:, image]) if now.before.folder.history.exists() else None
    return informativeness.measure(round_number, now.scores["score"], right, unsure)


def _data_name(context: Context) -> str:
    data = context.run.data
    if data.generated:
        if data.patrol is not None:
            return "generated frames of a watch camera"
        return "generated scenes" if data.roads is None else "generated road scenes"
    return context.pool.root.name


def rare_classes(context: Context) -> list[str]:
    """Names of the pool's rare classes (`evaluate.rarity.rare_classes`); none without ground truth or a choice."""
    classes = context.pool.classes
    if context.pool.truth is None or len(classes) < 2:
        return []
    return [classes[c] for c in rarity.rare_classes(np.bincount(context.pool.truth.labels, minlength=len(classes)))]


def versions() -> dict[str, str]:
    """The software and the machine that a figure holds for."""
    names = ("labelwise", "torch", "torchvision", "numpy", "faster-coco-eval")
    return {n: version(n) for n in names} | {"python": platform.python_version(), "machine": platform.machine()}


def _caption(name: str, queries: Sequence[Query]) -> str:
    """An image's name, and why the first of its picks was asked."""
    because = str(queries[0].reason.get(BECAUSE, ""))
    return f"{name}: {because}" if because else name


def _gallery(context: Context, round_number: int, amount: int) -> list[GalleryItem]:
    """The images with most picks of the round: picks, their verdicts, and the pseudo labels that complete them.

    A pick that has no class is a region or the whole image.
    """
    ledger, classes, pool = context.project.ledger, context.pool.classes, context.pool
    verdicts = ledger.verdicts(round_number)
    by_image: dict[int, list[Any]] = {}
    for query in ledger.queries(round_number):
        if query.id in verdicts:
            by_image.setdefault(pool.number_of[query.image], []).append(query)
    chosen = sorted(by_image, key=lambda image: (-len(by_image[image]), image))[:amount]
    unreadable = {image for image, _ in context.images("pool").warm(chosen)}
    chosen = [image for image in chosen if image not in unreadable]
    targets = Round(context, round_number).targets
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
                caption=_caption(pool.names[image], queries),
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


def films(context: Context, round_number: int, amount: int = 4, around: int = 3) -> list[Film]:
    """The first picks of a round among their neighbours, with the verdict of the graph on every box, where there is
    one: a project of videos whose method looks at temporal coherence.
    """
    from labelwise.report.filmstrip import Film

    now, pool = Round(context, round_number), context.pool
    if pool.clips is None or not now.folder.errors.exists():
        return []
    nodes, links = now.errors, now.links
    asked = {pool.number_of[query.image] for query in now.queries()}
    scores = np.bincount(nodes["image"], nodes["wrong"], minlength=len(pool))
    found = []
    for image in sorted(asked, key=lambda i: (-scores[i], i))[:amount]:
        near = np.arange(max(image - around, 0), min(image + around + 1, len(pool)))
        near = near[pool.clips.video[near] == pool.clips.video[image]]
        near = np.setdiff1d(near, [number for number, _ in context.images("pool").warm(near)])  # unreadable ones
        rows = np.flatnonzero(np.isin(nodes["image"], near) & (~nodes["is_candidate"] | nodes["wrong"]))
        place = {int(row): (int(f), k) for f in near for k, row in enumerate(rows[nodes["image"][rows] == f])}
        frames = [_film_frame(context, int(f), nodes, rows[nodes["image"][rows] == f], asked) for f in near]
        both = np.isin(links["a"], rows) & np.isin(links["b"], rows)
        ends = zip(links["a"][both].tolist(), links["b"][both].tolist(), strict=True)
        at = {int(f): k for k, f in enumerate(near)}
        joined = [(at[place[a][0]], place[a][1], at[place[b][0]], place[b][1]) for a, b in ends]
        found.append(Film(f"{pool.names[image]}, round {round_number}", frames, joined))
    return found


def _film_frame(
    context: Context, image: int, nodes: Mapping[str, np.ndarray], rows: np.ndarray, asked: set[int]
) -> FilmFrame:
    from labelwise.report.filmstrip import FilmFrame

    pool = context.pool
    pixels, scale_xy = context.images("pool")[image]
    kinds = [
        "false_negative" if candidate else "false_positive" if wrong else "detection"
        for candidate, wrong in zip(nodes["is_candidate"][rows], nodes["wrong"][rows], strict=True)
    ]
    boxes = np.stack([nodes[corner][rows] for corner in ("x1", "y1", "x2", "y2")], axis=1)
    labels = nodes["label"][rows].tolist()
    if pool.truth is not None:
        true = slice(*pool.truth.offsets[image : image + 2])
        boxes = np.concatenate([boxes, pool.truth.xyxy[true]])
        labels += pool.truth.labels[true].tolist()
        kinds += ["truth"] * (true.stop - true.start)
    return FilmFrame(
        np.ascontiguousarray(pixels.transpose(1, 2, 0)),
        pool.names[image].rsplit("/", 1)[-1],
        (boxes * np.tile(np.asarray(scale_xy), 2)).astype(np.float32),
        kinds,
        [pool.classes[label] for label in labels],
        image in asked,
    )


def people_lines(context: Context) -> list[str]:
    """How often each person is right, for whoever runs the project; empty where nothing can be compared."""
    told = consensus.told(consensus.quality(context.project, context.pool, one_class=context.run.classifies))
    return [*told, *another_opinion.lines(context)]


def agreement_lines(context: Context) -> list[str]:
    """How far people agree on what several of them answered, per person and class; empty where there is nothing."""
    found = agreement(context.project.ledger)
    who = [f"{row['who']} {row['share']:.0%}" for row in found["by_person"]]
    what = [f"{context.pool.classes[row['label']]} {row['share']:.0%}" for row in found["by_class"]]
    return [f"People agree on {found['queries']} queries: {', '.join(who + what)}"] if found["queries"] else []
