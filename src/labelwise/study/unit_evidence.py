"""What the answers of a project show of its data and its model: the evidence of `unit_choice`, and no ground truth.

* Objects an image: of the images that were wholly looked over and drawn at random (all of them, where none was).
* Recall and precision of the pseudo boxes (predictions of confidence >= `SURE`): of the images that were wholly looked
  over, by the predictions stored in the round in which they were asked. Where there are too few, precision is told by
  the answers to box questions, and recall by how many right pseudo boxes an image of the open pool has.
* Hit rate: of the box questions that were answered; where none was, of all candidates of the wholly looked-over images.
* Prices: what answers of a kind have cost, measured or by the table; where there are none, by the table.

Fails when: the images that were looked over were picked by a score: they are harder than others, and their recall and
precision are too low for the pool. Told by box answers, both may be too high (bccd, one run: precision 66 %
[58, 73] and recall 71 % [55, 87] by 204 answers, 54 % and 55 % by the ground truth of the open images). That a second
pseudo box of one object counts as right there is 4 of those 12 points; the rest (an earlier model?)
was not looked into.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace

import numpy as np
from jaxtyping import Bool, Float64, Int64

from labelwise import units
from labelwise.ask.cost import CostTable, cost
from labelwise.evaluate.true_errors import errors
from labelwise.ledger.import_export import current_answers
from labelwise.project.context import Context
from labelwise.project.round import Round
from labelwise.study.unit_choice import (
    Estimate,
    Evidence,
    Prices,
    exact,
    mean,
    near_duplicates,
    precision_of,
    recall_of,
    share,
    share_by_image,
)
from labelwise.study.unit_text import Found
from labelwise.targets.class_thresholds import compare_with_answers
from labelwise.targets.open_detections import candidates
from labelwise.types import Answer, Boxes, Detections, Labels, LabelwiseError, Query

SURE = 0.3
"""Least confidence of a pseudo box; a higher `labels.threshold` counts instead."""
LEAST = 20
"""Objects (or regions, or answers) from which a figure is taken from where it is seen best."""
TOO_HIGH = 0.16
"""By so much recall by answers to boxes was above the truth where that was held against it; precision by 0.12."""


@dataclass(frozen=True, slots=True, eq=False)
class Observed:
    """Columns of what was seen, one entry per observation.

    Attributes:
        objects: of every wholly looked-over image.
        is_random: whether that image was drawn at random.
        size: side of an annotated object over the side of its image (square roots of areas).
        tested: rows (objects, found by a pseudo box, pseudo boxes, candidates, candidates that are an object) of the
            wholly looked-over images whose predictions were stored before.
        confidence: of the boxes that were asked about, as `compare_with_answers` gives it.
        right: whether object and class were.
        pseudo: open pseudo boxes of every image of which nothing is known.
        pseudo_scores: their confidence.
        box_round: round of every answered box question.
        is_hit: whether it is an object that had not been annotated.
        box_seconds: what the answer cost.
        box_image: the image.
        region_share: area of a region over that of its image.
        region_boxes: boxes that its answer brought.
        drawn: rows (seconds, seconds by the table) of the answers that looked over a whole image or region.
    """

    objects: Int64[np.ndarray, " images"]
    is_random: Bool[np.ndarray, " images"]
    size: Float64[np.ndarray, " boxes"]
    tested: Int64[np.ndarray, "m 5"]
    confidence: Float64[np.ndarray, " n"]
    right: Bool[np.ndarray, " n"]
    pseudo: Int64[np.ndarray, " open"]
    pseudo_scores: Float64[np.ndarray, " p"]
    box_round: Int64[np.ndarray, " q"]
    is_hit: Bool[np.ndarray, " q"]
    box_seconds: Float64[np.ndarray, " q"]
    box_image: Int64[np.ndarray, " q"]
    region_share: Float64[np.ndarray, " r"]
    region_boxes: Int64[np.ndarray, " r"]
    drawn: Float64[np.ndarray, "d 2"]

    @staticmethod
    def nothing() -> Observed:
        """Of a project without answers."""
        whole, number, flag = np.zeros(0, np.int64), np.zeros(0), np.zeros(0, bool)
        tested, drawn = np.zeros((0, 5), np.int64), np.zeros((0, 2))
        columns = whole, flag, number, tested, number, flag, whole, number, whole, flag, number, whole, number, whole
        return Observed(*columns, drawn)


def join(parts: Sequence[Observed]) -> Observed:
    """What several projects of one data set show (seeds, say); images of the second are other images."""
    if not parts:
        return Observed.nothing()
    most = max((int(p.box_image.max(initial=-1)) for p in parts), default=-1) + 1
    parts = [replace(p, box_image=p.box_image + k * most) for k, p in enumerate(parts)]
    return Observed(*(np.concatenate([getattr(p, field.name) for p in parts]) for field in fields(Observed)))


def with_boxes_of(own: Observed, other: Observed) -> Observed:
    """The first one, with what the other's box questions show."""
    names = ("confidence", "right", "box_round", "is_hit", "box_seconds", "box_image")
    return replace(own, **{name: getattr(other, name) for name in names})


def found(seen: Observed, table: CostTable, scales: Sequence[float]) -> Found:
    """The evidence, from what was seen; what nobody saw is unknown, with an interval that says so.

    `scales`: magnifications of regions, where none was asked: one shows 1 / scale^2 of the objects.
    """
    sources: dict[str, str] = {}
    precision_by_answers = precision_of(seen.confidence, seen.right, seen.pseudo_scores)
    own = seen.objects[seen.is_random] if seen.is_random.any() else seen.objects
    objects = mean(own)
    sources["objects"] = f"{len(own)} images wholly looked over" + (", drawn at random" if seen.is_random.any() else "")
    if not len(own):
        low = mean(seen.pseudo).value * precision_by_answers.value
        objects = Estimate(1.5 * low, low, 2 * low, 0) if np.isfinite(low) else Estimate(low, 0.0, np.inf, 0)
        sources["objects"] = "no image was wholly looked over: right pseudo boxes, to twice as many"
    n_objects, n_found, n_pseudo, n_asked, n_hits = seen.tested.T
    recall, precision = share_by_image(n_found, n_objects), share_by_image(n_found, n_pseudo)
    sources["recall"] = sources["precision"] = f"{len(seen.tested)} images looked over after their prediction"
    if n_objects.sum() < LEAST and precision_by_answers.n > int(n_pseudo.sum()):
        precision, recall = precision_by_answers, recall_of(seen.pseudo, precision_by_answers, objects)
        precision, recall = (
            Estimate(one.value, max(one.low - TOO_HIGH, 0), one.high, one.n) for one in (precision, recall)
        )
        sources["precision"] = f"{precision.n} answers to boxes, by confidence"
        sources["recall"] = "right pseudo boxes over objects an image"
    owner = np.unique(seen.box_image, return_inverse=True)[1]
    hit_rate = share_by_image(np.bincount(owner[seen.is_hit], minlength=len(np.bincount(owner))), np.bincount(owner))
    sources["hit_rate"] = f"{len(seen.is_hit)} box questions"
    if not len(seen.is_hit):
        hit_rate = share_by_image(n_hits, n_asked)
        sources["hit_rate"] = f"no box was asked: all candidates of {len(seen.tested)} images"
    rounds = np.unique(seen.box_round).tolist()
    by_round = {r: share(int(seen.is_hit[seen.box_round == r].sum()), int((seen.box_round == r).sum())) for r in rounds}
    questions = len(seen.box_image) / max(len(np.unique(seen.box_image)), 1)
    region = _region(seen, objects, scales)
    evidence = Evidence(objects, recall, precision, hit_rate, questions, region)
    size = float(np.median(seen.size)) if len(seen.size) else float("nan")
    empty = share(int((own == 0).sum()), len(own))
    return Found(evidence, _prices(seen, table), sources, by_round, empty, size)


def _region(seen: Observed, objects: Estimate, scales: Sequence[float]) -> Estimate:
    """The share of an image's objects in one region."""
    if len(seen.region_boxes) < LEAST or not objects.value > 0:
        return exact(float(np.mean([1 / max(s, 1.0) ** 2 for s in scales])))
    boxes = mean(seen.region_boxes)
    value, low, high = (min(1.0, v / objects.value) for v in (boxes.value, boxes.low, boxes.high))
    return Estimate(value, low, high, boxes.n)


def _prices(seen: Observed, table: CostTable) -> Prices:
    """Means of what was paid; an image's two prices both rise by what people took longer than the table says."""
    hits, misses = seen.box_seconds[seen.is_hit], seen.box_seconds[~seen.is_hit]
    paid, by_table = seen.drawn.sum(axis=0)
    factor = paid / by_table if by_table > 0 else 1.0
    hit = float(hits.mean()) if len(hits) else table.verify + table.adjust
    miss = float(misses.mean()) if len(misses) else table.reject
    return Prices(float(table.inspect * factor), float(table.draw * factor), hit, miss)


# ---- reading a project ----------------------------------------------------------------------------------------------


def observe(context: Context) -> Observed:
    """What the ledger and the stored predictions of a project show."""
    run, pool, known = context.run, context.pool, context.known()
    rows = [(q, a) for q, a in current_answers(context.project.ledger) if q.image in pool.number_of]
    rows = [(q, a) for q, a in rows if a.verdict != units.SKIPPED]
    whole = [(q, a) for q, a in rows if not units.find(q.unit).RECTANGLE and units.meaning(q, a).covers]
    images = np.unique(np.array([pool.number_of[q.image] for q, _ in whole], np.int64))
    images = images[known.covered(pool)[images]]  # not those from before a class was added
    drawn_at_random = run.query.score.name == "random"
    at_random = [q.image for q, _ in whole if q.round == 0 or drawn_at_random]
    counts = np.diff(known.annotations.offsets)
    area = (pool.width_px * pool.height_px)[known.annotations.image]
    size = np.sqrt(known.annotations.xyxy[:, 2:] - known.annotations.xyxy[:, :2]).astype(np.float64).prod(axis=1)
    seen = replace(
        Observed.nothing(),
        objects=counts[images],
        is_random=np.isin(images, [pool.number_of[name] for name in at_random]),
        size=size / np.sqrt(area),
        drawn=_drawn(context, [(q, a) for q, a in rows if units.meaning(q, a).covers]),
    )
    return _with_predictions(context, known, _with_boxes(context, _with_regions(context, seen, rows), rows), rows)


def _drawn(context: Context, rows: Sequence[tuple[Query, Answer]]) -> Float64[np.ndarray, "d 2"]:
    """What looking over cost, and would have by the table."""
    table = context.run.cost
    paid = [(cost(q, a, table).seconds, cost(q, replace(a, seconds=0.0), table).seconds) for q, a in rows]
    return np.array(paid, np.float64).reshape(-1, 2)


def _with_regions(context: Context, seen: Observed, rows: Sequence[tuple[Query, Answer]]) -> Observed:
    pool = context.pool
    regions = [(q, a) for q, a in rows if q.box is not None and units.meaning(q, a).covers]
    box = np.array([q.box for q, _ in regions], np.float64).reshape(-1, 4)
    image = np.array([pool.number_of[q.image] for q, _ in regions], np.int64)
    area = (box[:, 2:] - box[:, :2]).prod(axis=1) / (pool.width_px * pool.height_px)[image]
    return replace(seen, region_share=area, region_boxes=np.array([len(a.boxes) for _, a in regions], np.int64))


def _with_boxes(context: Context, seen: Observed, rows: Sequence[tuple[Query, Answer]]) -> Observed:
    boxes = [(q, a) for q, a in rows if units.find(q.unit).CLASS]
    table, number_of = context.run.cost, context.pool.number_of
    return replace(
        seen,
        box_round=np.array([q.round for q, _ in boxes], np.int64),
        is_hit=np.array([units.meaning(q, a).boxes == "one" for q, a in boxes], bool),
        box_seconds=np.array([cost(q, a, table).seconds for q, a in boxes], np.float64),
        box_image=np.array([number_of[q.image] for q, _ in boxes], np.int64),
    )


def _with_predictions(
    context: Context, known: Labels, seen: Observed, rows: Sequence[tuple[Query, Answer]]
) -> Observed:
    """The predictions of every round beside the answers to what was asked in it."""
    run, pool = context.run, context.pool
    sure, number_of = max(SURE, run.labels.threshold), pool.number_of
    tested, confidence, right = [seen.tested], [seen.confidence], [seen.right]
    found_last: Detections | None = None
    for number in sorted({q.round for q, _ in rows if q.round}):
        now = Round(context, number)
        if not now.folder.predictions().exists():
            continue
        found_last = now.detections().of_images(len(pool)).of_classes(len(pool.classes))
        own = [(q, a) for q, a in rows if q.round == number]
        covered = [q for q, a in own if q.box is None and units.meaning(q, a).covers]
        images = np.unique(np.array([number_of[q.image] for q in covered], np.int64))
        tested.append(_tested(found_last, known.annotations, images, sure, run.query.threshold))
        boxes = [q for q, _ in own if q.box is not None and q.label is not None]
        if boxes:
            image, label = np.array([(number_of[q.image], q.label) for q in boxes], np.int64).T
            xyxy = np.array([q.box for q in boxes], np.float32)
            scores, _, is_right = compare_with_answers(image, xyxy, label, known, found_last)
            confidence.append(scores.astype(np.float64))
            right.append(is_right)
    seen = replace(seen, tested=np.concatenate(tested), right=np.concatenate(right))
    seen = replace(seen, confidence=np.concatenate(confidence))
    if found_last is None:
        return seen
    untouched = np.flatnonzero(~known.answered & pool.available & (np.diff(known.annotations.offsets) == 0))
    is_open = candidates(found_last, known, threshold=sure) & np.isin(found_last.image, untouched)
    pseudo = np.bincount(found_last.image[is_open], minlength=len(pool))[untouched]
    return replace(seen, pseudo=pseudo, pseudo_scores=found_last.scores[is_open].astype(np.float64))


def _tested(
    found: Detections, annotations: Boxes, images: np.ndarray, sure: float, asked_from: float
) -> Int64[np.ndarray, "m 5"]:
    """Of every image: objects, found ones, pseudo boxes; candidates, and those that hit an object that no other had."""
    n = len(annotations.offsets) - 1
    inside = np.isin(annotations.image, images)
    truth = Boxes.from_rows(annotations.image[inside], annotations.xyxy[inside], annotations.labels[inside], n)
    columns = [np.bincount(truth.image, minlength=n)]
    anything = replace(truth, labels=np.zeros_like(truth.labels))
    for threshold, objects, same in ((sure, truth, 1), (asked_from, anything, 0)):
        some = found.take(np.isin(found.image, images) & (found.scores >= np.float32(threshold)))
        wrong = errors(some.offsets, some.boxes, some.labels * same, some.scores, objects).false_positive
        right, every = (np.bincount(some.image[rows], minlength=n) for rows in (~wrong, wrong | ~wrong))
        columns += [right, every] if same else [every, right]
    tested: np.ndarray = np.stack(columns, axis=1)[images].astype(np.int64)
    return tested


def of_project(context: Context) -> Found:
    """The evidence of one project.

    Raises:
        LabelwiseError: it classifies images, or fewer than two rounds have been asked.
    """
    run, ledger, folder = context.run, context.project.ledger, context.project.folder
    if run.classifies:
        n, pool = len(context.pool.classes), len(context.pool)
        raise LabelwiseError(
            f"{folder} classifies images, where an image is the only unit. Whether asking cleverly pays there: "
            f"`labelwise advise --classes {n} --pool {pool} --budget LABELS`"
        )
    asked = [r for r in range(run.rounds) if ledger.stage_done(r, "ask") is not None]
    if len(asked) < 2:
        more = "set more with --set budget.per_round=[60,60], then " if run.rounds < 2 else ""
        raise LabelwiseError(
            f"{folder}: {len(asked)} of at least 2 rounds have been asked (random images, then one by the model); "
            f"{more}go on with `labelwise run --project {folder}`"
        )
    frames, alike = _redundancy(context, asked[-1])
    return replace(found(observe(context), run.cost, run.query.scales), frames=frames, alike=alike)


def _redundancy(context: Context, round_number: int) -> tuple[float | None, float | None]:
    """Frames of a clip, and the share of near-duplicates by the features that were stored for a selector."""
    clips, now = context.pool.clips, Round(context, round_number)
    frames = None if clips is None else len(context.pool) / max(len(np.unique(clips.video)), 1)
    said = now.detections(["per_image"]).per_image if now.folder.predictions().exists() else None
    if said is None or not said.features.shape[1] or said.seen.sum() < 2:
        return frames, None
    return frames, near_duplicates(said.features[said.seen])
