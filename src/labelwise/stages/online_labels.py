"""What an online teacher's detections become in images that are known in part: what the label policy makes of them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float64, Int64

from labelwise.config.label_rule import LabelRule
from labelwise.project.round import Round
from labelwise.stages import answered_boxes
from labelwise.stages.label import weigh
from labelwise.targets import partial
from labelwise.targets.open_detections import unsettled
from labelwise.train.teacher import Decision, Teacher
from labelwise.types import Detections, Labels


def teacher(now: Round) -> Teacher | None:
    """The teacher of a round; None where the run wants none, and in the first round, as no model is there yet."""
    rule = now.run.train
    if rule.teacher is None or now.number == 0:
        return None
    decide = _Policy(now.known, now.run.labels, now.number, answered_boxes.thresholds(now))
    return Teacher(decide) if rule.teacher_decay is None else Teacher(decide, rule.teacher_decay)


@dataclass(frozen=True)
class _Policy:
    """The run's label policy, on the detections of a batch; no closure, as processes hand it on to one another."""

    known: Labels
    rule: LabelRule
    round_number: int
    class_thresholds: Float64[np.ndarray, " C"] | None

    def __call__(self, images: Int64[np.ndarray, " b"], found: Detections) -> Decision:
        here, every = self.known.take(images), np.arange(len(images))
        sure = np.flatnonzero(found.scores >= np.float32(self.rule.threshold))
        rows, (w_cls, w_box) = partial.pseudo_labels(
            found.take(sure), here, weigh(self.rule, self.round_number), every, self.class_thresholds
        )
        return sure[rows], w_cls, w_box, unsettled(found.offsets, found.boxes, here)
