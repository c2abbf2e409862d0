"""How a round trains: the section `train` of run.toml."""

from __future__ import annotations

from typing import Any, Literal, get_args

from pydantic import Field, model_validator

from labelwise.config.section import Section


class Train(Section):
    """How a round trains."""

    epochs: int = Field(12, ge=1)
    """How often the labelled images are gone through."""
    min_steps: int = Field(0, ge=0)
    """Stretches the epochs of a small labelled set, so that it trains at least so many steps."""
    max_steps: int | None = Field(None, ge=1)
    """Ends the training after so many steps, whatever the epochs."""
    steps: int | None = Field(None, ge=1)
    """Trains exactly so many steps, whatever the epochs; the last epoch ends where they end."""
    batch_size: int = Field(8, ge=1)
    """Images per step."""
    whole_share: float | None = Field(None, ge=0, le=1)
    """Detectors: so large a share of every batch is of images that were wholly looked over; none: as they come."""
    object_share: float | None = Field(None, ge=0, le=1)
    """Detectors: so large a share of every batch is of images with a labelled object, where most have none; none: as
    they come."""
    accumulate: int | None = Field(None, ge=1)
    """The images of a step go through the model in so many parts, one after the other, so that a large batch fits a
    small GPU; its losses and batch norms are those of the parts. None: all at once."""
    optimiser: Literal["adamw", "sgd"] = "adamw"
    """The optimiser."""
    lr: float = Field(2e-3, gt=0)
    """Learning rate."""
    warm_lr: float | None = Field(None, gt=0)
    """Learning rate of a round that goes on from the model of the round before (`warm_start`); none: `lr`."""
    backbone_lr_factor: float = Field(1.0, ge=0)
    """Learning rate of the backbone, relative to `lr`."""
    weight_decay: float = Field(1e-2, ge=0)
    """Weight decay."""
    schedule: Literal["one_cycle", "step", "constant"] = "one_cycle"
    """How the learning rate goes over the training."""
    step_epochs: tuple[int, ...] = ()
    """With schedule `step`: the epochs at which the learning rate falls."""
    step_factor: float = Field(0.1, gt=0, le=1)
    """With schedule `step`: by how much it falls."""
    clip_norm: float | None = Field(10.0, gt=0)
    """Longest gradient."""
    flip: float = Field(0.5, ge=0, le=1)
    """Probability that a training image is mirrored."""
    jitter: float = Field(0.0, ge=0, lt=1)
    """How far brightness, contrast and colour of a training image are changed."""
    scale: tuple[float, float] | None = None
    """Detectors: a training image is zoomed by a factor between these two, [0.6, 1.4] for example; none: it is not."""
    iou_crop: float | None = Field(None, ge=0, le=1)
    """Detectors: probability that a training image is cropped around some of its boxes (as SSD does)."""
    photometric: float | None = Field(None, ge=0, le=1)
    """Detectors: how far brightness, contrast, saturation and hue of a training image are changed; 1: as SSD does."""
    mosaic: float | None = Field(None, ge=0, le=1)
    """Detectors: probability that a training image shares its canvas with three others, each at about half its size (as
    YOLOX does)."""
    pad_px: int = Field(0, ge=0)
    """Classifiers: crops at random from the image padded by so much."""
    warm_start: bool = False
    """Goes on from the model of the round before; else every round begins anew."""
    teacher: Literal["ema"] | None = None
    """Detectors: the average of the weights so far labels the partly known images of every batch anew, as the label
    policy says; none: their pseudo labels are the predictions of the model before. It needs `warm_start` and
    `whole_share`."""
    teacher_decay: float | None = Field(None, gt=0, lt=1)
    """With `teacher`: how much of the average stays at every step; none: 0.97."""
    accelerator: Literal["auto", "cpu", "gpu", "cuda", "mps"] = "auto"
    """Where it runs."""
    devices: int = Field(1, ge=1)
    """How many devices train one model: each takes its part of every batch."""
    engine: Literal["here", "ray"] = "here"
    """With several `devices`, where they are: "here" on this machine; "ray": workers of Ray on all machines of the
    cluster at RAY_ADDRESS (extra `ray`), each with a GPU or, of cores, `threads`. The weights are the same."""
    members: int = Field(1, ge=1, le=16)
    """How many models are trained per round (an ensemble)."""
    record_every: int = Field(1, ge=1)
    """Classifiers: every so many epochs the predictions of the pool are recorded (label dispersion)."""
    precision: Literal["32-true", "16-mixed", "bf16-mixed"] = "32-true"
    """Precision of numbers."""
    compile: bool | None = None
    """Whether the body of the model goes through torch.compile on a GPU: some minutes at first, then faster steps; on a
    CPU it changes nothing. None: it does not."""
    threads: int | None = Field(None, ge=1)
    """Threads of torch; none: as many as there are cores."""
    checkpoint_every_s: float = Field(60.0, ge=0)
    """How often a training that is stopped can be taken up again."""

    @property
    def of_bodies(self) -> dict[str, Any]:
        """What is set of a training that a head on features that are computed once does without."""
        return {"train.accumulate": self.accumulate, "train.compile": self.compile}

    @model_validator(mode="before")
    @classmethod
    def _takes_none(cls, raw: Any) -> Any:
        """TOML has no word for none: "none" is it, where a setting may be absent (`--set train.max_steps=none`)."""
        if not isinstance(raw, dict):
            return raw
        absent = {name for name, one in cls.model_fields.items() if type(None) in get_args(one.annotation)}
        return {key: None if key in absent and value == "none" else value for key, value in raw.items()}

    @model_validator(mode="after")
    def _steps_are_said_once(self) -> Train:
        other = {"min_steps": "set it to 0"} if self.min_steps else {}
        other |= {"max_steps": "set it to none"} if self.max_steps is not None else {}
        if self.steps is not None and other:
            what = " and ".join(f"train.{key} = {getattr(self, key)} ({do})" for key, do in other.items())
            raise ValueError(f"train.steps = {self.steps} says exactly how many steps; it does not go with {what}")
        return self

    @model_validator(mode="after")
    def _one_share_of_a_batch(self) -> Train:
        if self.object_share is not None and self.whole_share is not None:
            raise ValueError(
                f"train.object_share = {self.object_share} and train.whole_share = {self.whole_share} both fill the "
                "batch; set one of them to none"
            )
        return self

    @model_validator(mode="after")
    def _teacher_has_ground(self) -> Train:
        wanted = {"train.warm_start = true": self.warm_start, "train.whole_share = 0.5": self.whole_share is not None}
        if self.teacher is not None and not all(wanted.values()):
            raise ValueError(
                f'train.teacher = "{self.teacher}" begins with the model before, and needs images that are wholly '
                f"known in every batch; set {' and '.join(name for name, there in wanted.items() if not there)}"
            )
        if self.teacher is None and self.teacher_decay is not None:
            raise ValueError(
                f'train.teacher_decay = {self.teacher_decay} goes with a teacher; set train.teacher = "ema"'
            )
        return self

    @model_validator(mode="after")
    def _zooms_in_bounds(self) -> Train:
        if self.scale is not None and not 0.1 <= self.scale[0] <= self.scale[1] <= 10:
            raise ValueError(f"train.scale = {list(self.scale)}: expected two factors between 0.1 and 10, least first")
        return self
