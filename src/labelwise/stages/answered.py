"""What answers say of the predictions of a round: how often a confidence is right, and how many objects none shows.

Box questions of earlier rounds are held against the predictions that they were made of, and images that were asked
about as a whole against those before the answer. Images of the first round were predicted by a model that was trained
on them. The frozen detector, which learns in a moment, is taught anew without them (`frozen_detector.held_out`); of
another model only how many objects they hold, and how many of these are among the proposals, is taken from them.
What was proposed before there was a model (`predict.proposals`) has another confidence, of which nothing is learnt.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Bool, Float32

from labelwise import units
from labelwise.project.round import Round
from labelwise.stages import mixed_questions
from labelwise.stages.frozen_detector import held_out
from labelwise.targets import answered_confidence
from labelwise.targets.answered_confidence import Curve
from labelwise.targets.class_thresholds import compare_with_answers
from labelwise.types import Detections, Rects
from labelwise.types.overlap import nearest

OBJECT_IOU = 0.5
"""Overlap from which a detection is an object."""


@dataclass(frozen=True, slots=True)
class Answered:
    """`curve`: how often a confidence is right. `unseen`: objects of an image that are under none of its detections.
    `distinct`: objects for each detection that is right, as several may be of one object. `answers`: how many
    detections the curve was learnt from.
    """

    curve: Curve
    unseen: float
    distinct: float
    answers: int


@dataclass(frozen=True, slots=True, eq=False)
class _Looked:
    """Detections in images that were looked over: confidences, which of them are objects; and the objects there, and of
    these how many have a detection.
    """

    scores: np.ndarray
    right: np.ndarray
    images: int
    objects: int
    detected: int


def learn(now: Round) -> Answered:
    """What the answers before this round say of its predictions; worked out once for a `Round`."""
    if "answered" not in now.kept:
        now.kept["answered"] = _learn(now)
    found: Answered = now.kept["answered"]
    return found


def _learn(now: Round) -> Answered:
    numbers = list(range(1, now.number))
    asked = [_asked(now, number) for number in numbers]
    first = now.covered.copy()
    for images, _ in asked:
        first &= ~images
    before_the_answer = (
        Round(now.context, number).detections_in(images) for number, (images, _) in zip(numbers, asked, strict=True)
    )
    later = [_looked(now, *one) for one in zip((images for images, _ in asked), before_the_answer, strict=True)]
    honest = now.run.reads_objects and not now.proposed and first.sum() > 1
    start = [_looked(now, *one) for one in held_out(now, first)] if honest else []
    every = [*(start or [_looked(now, first, Round(now.context, 1).detections_in(first))]), *later]
    n_images, n_right = sum(one.images for one in every), sum(int(one.right.sum()) for one in every)
    still_open = _open_scores(now)
    n_open = int((~now.covered & now.askable & now.pool.available).sum())
    before = answered_confidence.matching(still_open, n_open * n_right / n_images) if n_images else Curve(1.0, 0.0)
    told = [(one.scores, one.right) for one in later] + [boxes for _, boxes in asked]
    told = [one for one, number in zip(told, 2 * numbers, strict=True) if not Round(now.context, number).proposed]
    told += [(one.scores, one.right) for one in start]
    scores = np.concatenate([*(one[0] for one in told), np.zeros(0, np.float32)])
    right = np.concatenate([*(one[1] for one in told), np.zeros(0, bool)])
    curve = answered_confidence.fit(scores, right, before)
    detected = sum(one.detected for one in every)
    unseen = (sum(one.objects for one in every) - detected) / max(n_images, 1)
    return Answered(curve, unseen, detected / n_right if n_right else 1.0, len(scores))


def threshold(now: Round) -> float:
    """The least confidence of a candidate; a class of an image is one however unsure it is, as is what is proposed."""
    run = now.run
    if run.classifies or now.proposed:
        return 0.0
    if run.query.miss_rate is None:
        return run.query.threshold
    if "threshold" not in now.kept:
        now.kept["threshold"] = _threshold(now, run.query.miss_rate)
    least: float = now.kept["threshold"]
    now.info["threshold"] = round(least, 4)
    return least


def _threshold(now: Round, miss_rate: float) -> float:
    scores = _open_scores(now)
    return answered_confidence.threshold(scores, learn(now).curve.chance(scores), miss_rate)


def _open_scores(now: Round) -> Float32[np.ndarray, " n"]:
    """The confidence of every detection in an image that may still be asked about."""
    images = ~now.covered & now.askable
    parts = [found.scores[images[first + found.image]] for first, found in now.shards((), images=images)]
    return np.concatenate([*parts, np.zeros(0, np.float32)])


def _asked(now: Round, number: int) -> tuple[Bool[np.ndarray, " images"], tuple[np.ndarray, np.ndarray]]:
    """Which images are known by a question about the whole of them, of a round, and of its box questions the confidence
    and whether there was an object.
    """
    pool, known = now.pool, now.known
    images, image, boxes = np.zeros(len(pool), bool), [], []
    for query in now.ledger.queries(number):
        at = pool.number_of.get(query.image)
        if at is None or not mixed_questions.says_of_the_model(query):
            continue
        if units.find(query.unit).CLASS:
            image.append(at)
            boxes.append(query.box)
        elif query.box is None:
            images[at] = True
    nothing = np.zeros(0, np.float32), np.zeros(0, bool)
    if not image:
        return images & now.covered, nothing
    of_one_class = replace(
        known, annotations=replace(known.annotations, labels=np.zeros_like(known.annotations.labels))
    )
    found = Round(now.context, number).detections_in(np.isin(np.arange(len(pool)), image))
    asked = np.array(image), np.array(boxes, np.float32), np.zeros(len(image), np.int64)
    scores, _, right = compare_with_answers(*asked, of_one_class, found)
    return images & now.covered, (scores, right)


def _looked(now: Round, images: Bool[np.ndarray, " images"], found: Detections) -> _Looked:
    """What predictions said of these images, which are wholly known now."""
    annotations, found = now.known.annotations, found.take(images[found.image])
    box, overlap = nearest(found.offsets, found.boxes, Rects(annotations.offsets, annotations.xyxy))
    right, objects = overlap >= OBJECT_IOU, int(np.diff(annotations.offsets)[images].sum())
    return _Looked(found.scores, right, int(images.sum()), objects, len(np.unique(box[right])))
