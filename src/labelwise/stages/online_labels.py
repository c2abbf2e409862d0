"""What an online teacher's detections become in images that are known in part: what the label policy makes of them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float64, Int64

from labelwise.config.label_rule import LabelRule
from labelwise.project.round import Round
from labelwise.stages.label import weigh
from labelwise.stages.thresholds import recent, upper_thresholds
from labelwise.targets import partial
from labelwise.targets.count_thresholds import Recent
from labelwise.targets.open_detections import unsettled
from labelwise.train.teacher import Decision, Teacher
from labelwise.types import Detections, Labels


def teacher(now: Round) -> Teacher | None:
    """The teacher of a round; None where the run wants none, and in the first round, as no model is there yet."""
    rule = now.run.train
    if rule.teacher is None or now.number == 0:
        return None
    follow = recent(now)
    fixed = upper_thresholds(now) if follow is None else None
    decide = OnlinePolicy(now.known, now.run.labels, now.number, fixed, follow)
    return Teacher(decide) if rule.teacher_decay is None else Teacher(decide, rule.teacher_decay)


@dataclass
class OnlinePolicy:
    """The run's label policy, on the detections of a batch; no closure, as processes hand it on to one another.

    `class_thresholds` hold for the training; with `recent` they follow the teacher.
    """

    known: Labels
    rule: LabelRule
    round_number: int
    class_thresholds: Float64[np.ndarray, " C"] | None
    recent: Recent | None = None

    def __call__(self, images: Int64[np.ndarray, " b"], found: Detections) -> Decision:
        here, every = self.known.take(images), np.arange(len(images))
        thresholds = self.class_thresholds if self.recent is None else self.recent.thresholds(found)
        sure = np.flatnonzero(found.scores >= np.float32(self.rule.threshold))
        rows, (w_cls, w_box) = partial.pseudo_labels(
            found.take(sure), here, weigh(self.rule, self.round_number), every, thresholds
        )
        return sure[rows], w_cls, w_box, unsettled(found.offsets, found.boxes, here)

    def tensors(self) -> dict[str, np.ndarray]:
        """What a checkpoint keeps of it."""
        return {} if self.recent is None else self.recent.tensors()

    def load(self, tensors: Mapping[str, np.ndarray]) -> None:
        """The opposite of `tensors`."""
        if self.recent is not None:
            self.recent.load(tensors)
