"""The section `labels`: what a run trains on beside what somebody annotated."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from labelwise import catalog
from labelwise.config.choice import Choice, MethodOf
from labelwise.config.section import Section


class TeacherRule(Section):
    """A second model, trained on the labels alone, whose surest predictions the first one trains on as well.

    Pseudo labels hold for one round: their images stay in the pool, and the round's questions are about the remaining
    ones. With `train.warm_start` the teacher goes on from the teacher before and the first model from the first before;
    in round 0 it begins with the teacher's weights.
    """

    by: Literal["dispersion", "entropy"] = "dispersion"
    """What it is sure of: by label dispersion over its training, or by entropy."""
    share: float = Field(0.1, gt=0, le=1)
    """Share of the pool that is pseudo labelled (001, section 3.5: 0.1 to 0.25)."""


class Propagate(Section):
    """Frames around a labelled one take its boxes, moved by the flow."""

    frames: int = Field(1, ge=1, le=25)
    """So many frames on either side."""
    weight: float = Field(0.5, gt=0, le=1)
    """Weight of the boxes in training."""


class LabelRule(Section):
    """What boxes that nobody looked at are worth in training."""

    policy: Annotated[Choice, MethodOf("labels", "task_soft")] = Choice(name="task_soft")
    """How they are weighted (`labelwise list labels`)."""
    threshold: float = Field(0.05, ge=0, lt=1)
    """Least confidence of a pseudo label."""
    vote: bool = False
    """A pseudo box is the mean of the model's box and of its matches in `predict.views` (those of IoU 0.5 or more),
    weighted by confidence; off: the model's box."""
    images: Literal["annotated", "answered", "all"] = "annotated"
    """Which images are trained on: those with an annotation, with an answer, or all."""
    regions: Literal["coverage", "crops", "both"] = "coverage"
    """How a labelled region is trained on: as part of its image, as a crop, or both."""
    cut_objects: Literal["negative", "ignore"] | None = None
    """Crops: what the border leaves of an object that is not the crop's (0.7 of it or less) is negative (none: as
    document 003 has it), or ignored."""
    class_thresholds: Literal["answers", "counts"] | None = None
    """Upper threshold of a class (`hard`, `dual`): with "answers", from which confidence on the boxes that were asked
    about were right as often as `precision`; with "counts", from which there are as many boxes an image as in those
    that were wholly looked over; none: the policy's own, the same for all."""
    precision: float | None = Field(None, gt=0, lt=1)
    """With `class_thresholds = "answers"`: how often pseudo labels shall be right; none: 0.8."""
    teacher: TeacherRule | None = None
    """Pseudo labels of a second model (classifiers)."""
    propagate: Propagate | None = None
    """Frames around a labelled one take its boxes (videos)."""

    @model_validator(mode="after")
    def _policy_takes_thresholds(self) -> LabelRule:
        if self.precision is not None and self.class_thresholds != "answers":
            raise ValueError(
                f"labels.precision = {self.precision} goes with thresholds from answers; set "
                'labels.class_thresholds = "answers", or remove it'
            )
        if self.class_thresholds is not None:
            inputs = catalog.find("labels", self.policy.name).inputs
            if "class_threshold" not in inputs:
                raise ValueError(
                    f'labels.class_thresholds = "{self.class_thresholds}": the policy {self.policy.name!r} takes no '
                    "thresholds by class; take one that names `class_threshold` (hard, dual), or remove the setting"
                )
        return self
