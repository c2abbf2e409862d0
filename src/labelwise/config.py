"""One typed run <-> run.toml / run.yaml. Every error of the file is reported at once, before anything is trained."""

from __future__ import annotations

import json
import os
import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

import tomli_w
import yaml
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, model_validator

from labelwise import catalog
from labelwise.ask.cost import CostTable
from labelwise.choice import Choice, Step, listed, method
from labelwise.types import LabelwiseError

IMAGE_INPUTS = frozenset(
    {"offsets", "predicted_loss", "labelled_probability", "image_features", "history", "truth_classes"}
)
"""A score that names one of these scores whole images."""


class Section(BaseModel):
    """Settings that may not be misspelt."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Data(Section):
    """Where images and ground truth come from. A relative `root` is looked for here, then under $LABELWISE_DATA.

    `most_images`: a pool of so many, drawn at random, the same for every seed. `imbalance`: of half of the classes only
    this share of the pool's images stays (classification; 001, section 4.5.1).
    """

    root: str = ""
    format: str | None = None
    pool_split: str | None = None
    test_split: str | None = None
    scenes: dict[str, Any] | None = None
    most_images: int | None = Field(None, ge=1)
    imbalance: float | None = Field(None, gt=0, le=1)
    image_size_px: int = Field(256, ge=8, le=4096)
    cache_gb: float = Field(2.0, ge=0)

    @model_validator(mode="after")
    def _one_source(self) -> Data:
        if bool(self.root) == (self.scenes is not None):
            raise ValueError("set either data.root (a folder with images) or data.scenes (generated demo data)")
        return self

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

    unit: Literal["box", "image", "region"] = "box"
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
    3.5: 0.1 to 0.25). Pseudo labels hold for one round: their images stay in the pool, and may be asked in that round.
    With `train.warm_start` the teacher goes on from the teacher before and the first model from the first before; in
    round 0 it begins with the teacher's weights.
    """

    by: Literal["dispersion", "entropy"] = "dispersion"
    share: float = Field(0.1, gt=0, le=1)


class LabelRule(Section):
    """What boxes that nobody looked at are worth in training; `threshold`: least confidence of a pseudo label."""

    policy: method("labels", "task_soft") = Choice(name="task_soft")  # type: ignore[valid-type]
    threshold: float = Field(0.05, ge=0, lt=1)
    images: Literal["annotated", "answered", "all"] = "annotated"
    regions: Literal["coverage", "crops", "both"] = "coverage"
    teacher: TeacherRule | None = None


class Budget(Section):
    """What may be spent: first random whole images, then `per_round` of `unit`.

    `start_images`: a whole number is a count, a number with a point (0.05, 1.0) a share of the pool. `start`: drawn at
    random, or from every class equally many (classification with ground truth, for study: 001, section 4.5.1).
    """

    start_images: int | float = Field(0.05, gt=0)
    start: Literal["random", "balanced"] = "random"
    unit: Literal["boxes", "queries", "images", "seconds"] = "boxes"
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


class Run(Section):
    """Everything that a run is: what is in run.toml."""

    name: str = "run"
    seed: int = Field(0, ge=0)
    data: Data
    model: method("models", "retinanet") = Choice(name="retinanet")  # type: ignore[valid-type]
    train: Train = Train()
    predict: Predict = Predict()
    query: QueryRule = QueryRule()
    labels: LabelRule = LabelRule()
    budget: Budget = Budget()
    cost: CostTable = CostTable()

    @property
    def rounds(self) -> int:
        """Number of rounds, the first one (random images) included."""
        return 1 + len(self.budget.per_round)

    @model_validator(mode="after")
    def _inputs_can_be_made(self) -> Run:
        found = []
        if self.needs_views and not self.predict.views and self.train.members == 1:
            found.append(
                "predict.views is empty, yet the score or the label policy needs views; "
                f"set for example predict.views = {['dropout'] * 2 if self.classifies else ['flip', 'downscale']}"
            )
        if self.needs_consistency and not self.predict.views:
            found.append("the label policy compares views of the image (Eq. 4); set predict.views")
        if "predicted_loss" in self.inputs and not self.model.settings.get("loss_head"):
            found.append("the score needs a model that predicts its loss; set model.loss_head = true")
        if self.train.members > 1 and not self.needs_views:
            found.append("train.members makes an ensemble, yet nothing compares its members; set train.members = 1")
        if self.labels.teacher is not None and not self.classifies:
            found.append('labels.teacher makes pseudo labels of whole images; it needs model.name = "classifier"')
        if self.labels.teacher is not None and ("history" in self.inputs or self.train.members > 1):
            found.append("with labels.teacher the score cannot look at the history, and train.members is 1")
        if self.classifies and self.query.unit != "image":
            found.append(f'{self.model.name} classifies images; set query.unit = "image", not {self.query.unit!r}')
        if self.classifies:
            other = [view.name for view in self.predict.views if view.name != "dropout"] if self.needs_views else []
            if other:
                found.append(
                    f'a classifier compares dropout passes; set predict.views = ["dropout", "dropout"], not {other}'
                )
            for name in sorted({"tightness", "box_features", "predicted_loss"} & self.inputs):
                found.append(f"{name} is of boxes; a classifier does not give it")
        for name in sorted({"history", "truth_classes"} & self.inputs):
            if not self.classifies:
                found.append(f'the score needs {name}, which only a classifier has; set model.name = "classifier"')
        if self.budget.unit == "images" and self.query.unit != "image":
            found.append(f'budget.unit = "images" counts image queries; with {self.query.unit} queries take boxes')
        if found:
            raise ValueError("; ".join(found))
        return self

    @property
    def classifies(self) -> bool:
        """Whether the model gives one class per image, not boxes (its file says `TASK = "classification"`)."""
        return bool(catalog.find("models", self.model.name).constant("TASK", "detection") == "classification")

    @property
    def metric(self) -> str:
        """What a round is judged by."""
        return "accuracy" if self.classifies else "AP50"

    @property
    def inputs(self) -> frozenset[str]:
        """Everything that the score, the selectors and the label policy name; predict makes just that."""
        methods = [catalog.find("score", self.query.score.name), catalog.find("labels", self.labels.policy.name)]
        methods += [catalog.find("select", step.name) for step in self.query.select]
        return frozenset(name for method in methods for name in method.inputs)

    @property
    def needs_consistency(self) -> bool:
        """Whether the label policy looks at the views."""
        return "consistency" in catalog.find("labels", self.labels.policy.name).inputs

    @property
    def needs_views(self) -> bool:
        """Whether anything in this run looks at the views; if not, predict does not make them."""
        return self.needs_consistency or any(name.startswith("view_") for name in self.inputs)

    @property
    def outputs(self) -> frozenset[str]:
        """The optional outputs of the model that this run looks at, as `predict` names them."""
        named, unit = self.inputs, self.query.unit
        found = {"features"} if "box_features" in named else set()
        found |= {name for name in ("tightness", "predicted_loss") if name in named}
        if {"labelled_probability", "image_features"} & named:
            found.add("image_features")
        if named & {"features", "labelled_features"}:
            by_score = "features" in catalog.find("score", self.query.score.name).inputs
            by_selector = any(
                {"features", "labelled_features"} & set(catalog.find("select", s.name).inputs)
                for s in self.query.select
            )
            found |= {"features"} if by_score or (by_selector and unit != "image") else set()
            found |= {"image_features"} if by_selector and unit == "image" else set()
        return frozenset(found)

    @property
    def needs_labelled(self) -> bool:
        """Whether predict must look at images that are wholly labelled, too."""
        return bool(self.inputs & {"labelled_features", "labelled_probability"})


def load(paths: Path | Sequence[Path], overrides: Sequence[str] = ()) -> Run:
    """Reads run.toml or run.yaml (several: later ones win), applies `key.sub=value` overrides, and checks all of it.

    Raises:
        LabelwiseError: a file cannot be read, or one line for each thing that is wrong in the settings.
    """
    paths = [paths] if isinstance(paths, Path) else paths
    raw: dict[str, Any] = {}
    for path in paths:
        raw = _merged(raw, _read(path))
    for override in overrides:
        _override(raw, override)
    return parse(raw, " + ".join(str(p) for p in paths))


def _read(path: Path) -> dict[str, Any]:
    try:
        text = path.read_text(encoding="utf-8")
        raw = yaml.safe_load(text) if path.suffix in (".yaml", ".yml") else tomllib.loads(text)
    except OSError as error:
        raise LabelwiseError(
            f"cannot read {path}: {error.strerror}. `labelwise list recipes` shows what comes along"
        ) from None
    except (tomllib.TOMLDecodeError, yaml.YAMLError) as error:
        raise LabelwiseError(f"{path} is not valid {path.suffix[1:]}: {error}") from None
    if not isinstance(raw, dict):
        raise LabelwiseError(f"{path}: expected a table of settings, got {type(raw).__name__}")
    return raw


def _merged(below: Mapping[str, Any], above: Mapping[str, Any]) -> dict[str, Any]:
    """`above` laid over `below`; a method that is named anew does not inherit the settings of the other method."""
    merged = dict(below)
    for key, value in above.items():
        old = merged.get(key)
        if isinstance(value, dict) and isinstance(old, str) and "name" not in value:
            old = {"name": old}  # a method by its name alone, of which the layer above sets something
        if isinstance(value, dict) and isinstance(old, dict) and value.get("name", old.get("name")) == old.get("name"):
            merged[key] = _merged(old, value)
        else:
            merged[key] = value
    return merged


def parse(raw: Mapping[str, Any], where: str) -> Run:
    """Checks settings that were read from `where`."""
    try:
        return Run.model_validate(raw)
    except ValidationError as error:
        lines = [_sentence(e, raw) for e in error.errors()]
        raise LabelwiseError(f"{where}: {len(lines)} error(s)\n" + "\n".join(f"  - {line}" for line in lines)) from None


def _sentence(error: Any, raw: Mapping[str, Any]) -> str:
    location = [str(part) for part in error["loc"]]
    where = ".".join(location) or "the run"
    if error["type"] == "extra_forbidden":
        model: Any = Run
        for part in location[:-1]:
            model = model.model_fields[part].annotation
        return catalog.unknown(
            "key" + (f" in [{'.'.join(location[:-1])}]" if location[:-1] else ""),
            location[-1],
            sorted(model.model_fields),
        )
    return f"{where}: {error['msg'].removeprefix('Value error, ')}"


def _override(raw: dict[str, Any], override: str) -> None:
    key, sign, value = override.partition("=")
    if not sign or not key.strip():
        raise LabelwiseError(f"--set {override!r}: expected key=value, for example --set train.epochs=5")
    *path, last = key.strip().split(".")
    table = raw
    for part in path:
        below = table.get(part, {})
        if isinstance(below, list):  # a chain of selectors
            if len(below) != 1:
                raise LabelwiseError(
                    f"--set {override!r}: {part} is a chain of {len(below)}; set it as a whole, for example "
                    '--set \'query.select=["balance_frequency", "kcenter"]\''
                )
            below = below[0]
        table[part] = {"name": below} if isinstance(below, str) else dict(below)
        table = table[part]
    try:
        table[last] = tomllib.loads(f"v = {value}")["v"]
    except tomllib.TOMLDecodeError:
        table[last] = value


def dump(run: Run) -> str:
    """The run as TOML text; `load` reads it back to an equal run."""
    return tomli_w.dumps(json.loads(run.model_dump_json(exclude_none=True)))
