"""The sections of a run's config: what each part of run.toml may say."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, model_validator

from labelwise import catalog
from labelwise.choice import Choice, Step, listed, method
from labelwise.errors import LabelwiseError

IMAGE_INPUTS = frozenset(
    {"offsets", "predicted_loss", "labelled_probability", "image_features", "history", "truth_classes"}
    | {"estimated_fp", "estimated_fn", "true_fp", "true_fn"}
)
"""A score that names one of these scores whole images."""


def _of_frames(value: Any) -> Any:
    """A frame is an image of a video: "frame" and "frames" are other words for "image" and "images"."""
    return {"frame": "image", "frames": "images"}.get(value, value) if isinstance(value, str) else value


class Section(BaseModel):
    """Settings that may not be misspelt."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Data(Section):
    """Where images and ground truth come from. A relative `root` is looked for here, then under $LABELWISE_DATA.

    `most_images`: a pool of so many, drawn at random, the same for every seed. `imbalance`: of half of the classes only
    this share of the pool's images stays (classification; 001, section 4.5.1). `stride_frames`: of videos every so many
    frames one is in the pool and in the test split. `cache_gb` is memory, `frames_gb` disk for decoded frames.
    `classes`: the names of the classes, for images without annotations.
    """

    root: str = ""
    format: str | None = None
    classes: tuple[str, ...] = ()
    pool_split: str | None = None
    test_split: str | None = None
    scenes: dict[str, Any] | None = None
    roads: dict[str, Any] | None = None
    most_images: int | None = Field(None, ge=1)
    imbalance: float | None = Field(None, gt=0, le=1)
    image_size_px: int = Field(256, ge=8, le=4096)
    cache_gb: float = Field(2.0, ge=0)
    stride_frames: int = Field(1, ge=1)
    frames_gb: float = Field(4.0, ge=0)

    @model_validator(mode="after")
    def _one_source(self) -> Data:
        if sum((bool(self.root), self.scenes is not None, self.roads is not None)) != 1:
            raise ValueError(
                "set either data.root (a folder with images), or data.scenes or data.roads (generated demo data)"
            )
        return self

    @property
    def generated(self) -> bool:
        """Whether the data are generated into the project folder."""
        return not self.root

    def folder(self) -> Path:
        """The data folder: `root` as it stands, or under $LABELWISE_DATA."""
        root = Path(self.root).expanduser()
        base = os.environ.get("LABELWISE_DATA")
        if not root.is_absolute() and not root.exists() and base:
            root = Path(base) / root
        if not root.exists():
            raise LabelwiseError(
                f"data.root = {self.root!r}: there is no such folder, neither here nor under $LABELWISE_DATA"
                f" ({base or 'not set'}). Give it with --set data.root=PATH"
            )
        return root.resolve()


class Train(Section):
    """How a round trains. `min_steps` stretches the epochs of a small labelled set, so that it trains long enough.

    Classifiers only: `pad_px` crops at random from the image padded by so much; `record_every` so many epochs the
    predictions of the pool are recorded, where a method names them (label dispersion).
    """

    epochs: int = Field(12, ge=1)
    min_steps: int = Field(0, ge=0)
    max_steps: int | None = Field(None, ge=1)
    batch_size: int = Field(8, ge=1)
    optimiser: Literal["adamw", "sgd"] = "adamw"
    lr: float = Field(2e-3, gt=0)
    backbone_lr_factor: float = Field(1.0, ge=0)
    weight_decay: float = Field(1e-2, ge=0)
    schedule: Literal["one_cycle", "step", "constant"] = "one_cycle"
    step_epochs: tuple[int, ...] = ()
    step_factor: float = Field(0.1, gt=0, le=1)
    clip_norm: float | None = Field(10.0, gt=0)
    flip: float = Field(0.5, ge=0, le=1)
    jitter: float = Field(0.0, ge=0, lt=1)
    pad_px: int = Field(0, ge=0)
    warm_start: bool = False
    accelerator: Literal["auto", "cpu", "gpu", "cuda", "mps"] = "auto"
    devices: int = Field(1, ge=1)
    members: int = Field(1, ge=1, le=16)
    record_every: int = Field(1, ge=1)
    precision: Literal["32-true", "16-mixed", "bf16-mixed"] = "32-true"
    threads: int | None = Field(None, ge=1)
    checkpoint_every_s: float = Field(60.0, ge=0)


class Predict(Section):
    """The one pass over the pool per view. `views` are files of predict/views."""

    views: tuple[method("predict/views"), ...] = ()  # type: ignore[valid-type]
    batch_size: int = Field(16, ge=1)
    min_score: float = Field(0.05, ge=0, lt=1)
    shard_images: int = Field(512, ge=1)


class QueryRule(Section):
    """Which questions are asked: unit x score x selectors.

    `select` is one selector or a chain of them: each ranks what the one before it left, by the scores that it gave.
    `threshold` is the least confidence of a candidate box. `aggregate` lifts box scores to images and regions.
    `scales` are the magnifications at which region candidates are looked for; the region is as large as the image at 1.
    """

    unit: Annotated[Literal["box", "image", "region"], BeforeValidator(_of_frames)] = "box"
    score: method("score", "consistency") = Choice(name="consistency")  # type: ignore[valid-type]
    select: Annotated[tuple[method("select", "balance_frequency"), ...], BeforeValidator(listed)] = (  # type: ignore[valid-type]
        Step(name="balance_frequency"),
    )
    threshold: float = Field(0.1, ge=0, lt=1)
    aggregate: Literal["mean", "max", "sum", "random"] = "mean"
    scales: tuple[Annotated[float, Field(gt=0, le=8)], ...] = Field((1.0, 1.5, 2.0), min_length=1)
    tau_frequency: tuple[float, float] = (0.8, 0.1)

    @model_validator(mode="after")
    def _fits_the_unit(self) -> QueryRule:
        inputs = set(catalog.find("score", self.score.name).inputs)
        if inputs & IMAGE_INPUTS and self.unit != "image":
            raise ValueError(f'score {self.score.name!r} scores whole images; set unit = "image", not {self.unit!r}')
        for step in self.select:
            if self.unit != "image" and {"videos", "image"} & set(catalog.find("select", step.name).inputs):
                raise ValueError(f'selector {step.name!r} picks frames; set unit = "frame", not {self.unit!r}')
        if len(set(self.scales)) < len(self.scales):
            raise ValueError(f"scales = {list(self.scales)}: every scale may be listed once")
        if not self.select:
            raise ValueError("select is empty; name at least one selector")
        if self.select[-1].keep is not None:
            raise ValueError("the last selector keeps for nobody; remove keep, or name a selector after it")
        return self


class TeacherRule(Section):
    """A second model, trained on the labels alone, whose surest predictions the first one trains on as well.

    `by`: what it is sure of, by label dispersion over its training or by entropy; `share` of the pool (001, section
    3.5: 0.1 to 0.25). Pseudo labels hold for one round: their images stay in the pool, and the round's questions are
    about the remaining ones.
    With `train.warm_start` the teacher goes on from the teacher before and the first model from the first before; in
    round 0 it begins with the teacher's weights.
    """

    by: Literal["dispersion", "entropy"] = "dispersion"
    share: float = Field(0.1, gt=0, le=1)


class TrackRule(Section):
    """How detections of a video are followed and what its graph costs (001, section 2.3.2).

    `tracker`: dense optical flow, computed once for all rounds, or a Siamese correlation tracker on the detector's own
    features. `frames`: how far, forward and backward. `at`: the flow at the box's centre, or its median in the box.
    `theta`: IoU from which (above it) a moved box and a detection are linked. A detection that is said to be no object
    costs `cost_fp`, a candidate that is said to be one `cost_fn`, a link whose ends disagree `cost_link` (Eq. 2.2-2.4).
    `preset` and `flow_px`: of the DIS flow, and the longest side of the frames that it looks at; `raft_small` and
    `raft_large` need `flow_weights`, a file of torchvision's weights.
    """

    tracker: Literal["flow", "siamese"] = "flow"
    frames: int = Field(3, ge=1, le=25)
    at: Literal["centre", "median"] = "centre"
    theta: float = Field(0.5, ge=0, lt=1)
    cost_fp: float = Field(1.0, ge=0, le=1000)
    cost_fn: float = Field(1.0, ge=0, le=1000)
    cost_link: float = Field(1.0, ge=0, le=1000)
    preset: Literal["ultrafast", "fast", "medium", "raft_small", "raft_large"] = "ultrafast"
    flow_weights: str | None = None
    flow_px: int = Field(640, ge=64)

    @model_validator(mode="after")
    def _has_weights(self) -> TrackRule:
        if self.preset.startswith("raft") != (self.flow_weights is not None):
            raise ValueError(
                f"tracks.preset {self.preset!r} with tracks.flow_weights {self.flow_weights}: raft_small and "
                "raft_large need a file of torchvision's weights, ultrafast, fast and medium (DIS) take none"
            )
        return self


class Propagate(Section):
    """Frames around a labelled one take its boxes, moved by the flow: so many `frames` on either side, at `weight`."""

    frames: int = Field(1, ge=1, le=25)
    weight: float = Field(0.5, gt=0, le=1)


class AskRule(Section):
    """Who answers: the simulated `oracle`, from the ground truth, or `people`, on the page of `labelwise serve`.

    A round that waits for people looks for their answers every `poll_s` seconds. After `deadline_h` hours it goes on
    with what there is; a later answer counts in the next round.

    `overlap`: so many people answer every query, each on their own. The first answer makes the labels, as always; the
    others are second opinions, which cost queries and time and tell how far people agree, per class and person (the
    progress page, `labelwise status`). The round waits for them, until its deadline: with fewer people than `overlap`
    set `deadline_h`, or the round never ends. A budget in queries or seconds pays for all the answers.
    """

    who: Literal["oracle", "people"] = "oracle"
    overlap: int = Field(1, ge=1, le=16)
    deadline_h: float | None = Field(None, gt=0, allow_inf_nan=False)
    poll_s: float = Field(1.0, gt=0, le=3600)


class LabelRule(Section):
    """What boxes that nobody looked at are worth in training; `threshold`: least confidence of a pseudo label."""

    policy: method("labels", "task_soft") = Choice(name="task_soft")  # type: ignore[valid-type]
    threshold: float = Field(0.05, ge=0, lt=1)
    images: Literal["annotated", "answered", "all"] = "annotated"
    regions: Literal["coverage", "crops", "both"] = "coverage"
    teacher: TeacherRule | None = None
    propagate: Propagate | None = None


class Budget(Section):
    """What may be spent: first random whole images, then `per_round` of `unit`.

    `start_images`: a whole number is a count, a number with a point (0.05, 1.0) a share of the pool. `start`: drawn at
    random, or from every class equally many (classification with ground truth, for study: 001, section 4.5.1).
    """

    start_images: int | float = Field(0.05, gt=0)
    start: Literal["random", "balanced"] = "random"
    unit: Annotated[Literal["boxes", "queries", "images", "seconds"], BeforeValidator(_of_frames)] = "boxes"
    per_round: tuple[Annotated[float, Field(gt=0, allow_inf_nan=False)], ...] = (60, 60, 60, 60)

    def first(self, pool: int) -> int:
        """How many images the first round labels."""
        if isinstance(self.start_images, int):
            return self.start_images
        return max(1, round(self.start_images * pool))

    @model_validator(mode="after")
    def _share_of_the_pool(self) -> Budget:
        if isinstance(self.start_images, float) and self.start_images > 1:
            raise ValueError(
                f"start_images = {self.start_images} is a share of the pool above 1; "
                "write a whole number for a count of images, for example 20"
            )
        return self
