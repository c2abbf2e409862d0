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
from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, model_validator

from labelwise import catalog
from labelwise.ask.cost import CostTable
from labelwise.types import LabelwiseError


class Section(BaseModel):
    """Settings that may not be misspelt."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Choice(BaseModel):
    """A method by its file's name, settings beside it: `{name = "consistency", beta = 1.3}` or `"consistency"`."""

    model_config = ConfigDict(extra="allow", frozen=True)
    name: str

    @property
    def settings(self) -> dict[str, Any]:
        """What is set of the method."""
        return dict(self.model_extra or {})


def _method(folder: str, default: str | None = None) -> Any:
    """Type of a config key that names a method of `folder`; its settings are checked against the method's signature.
    A table without a name sets something of the `default`.
    """

    def check(choice: Choice) -> Choice:
        try:
            found = catalog.find(folder, choice.name).problems(choice.settings)
        except LabelwiseError as error:
            raise ValueError(str(error)) from None
        if found:
            raise ValueError("; ".join(found))
        return choice

    def named(value: Any) -> Any:
        if isinstance(value, dict) and default is not None:
            return {"name": default, **value}
        return {"name": value} if isinstance(value, str) else value

    return Annotated[Choice, BeforeValidator(named), AfterValidator(check)]


class Data(Section):
    """Where images and ground truth come from. A relative `root` is looked for here, then under $LABELWISE_DATA."""

    root: str = ""
    format: str | None = None
    pool_split: str | None = None
    test_split: str | None = None
    scenes: dict[str, Any] | None = None
    image_size_px: int = Field(256, ge=32, le=4096)
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
    """How a round trains. `min_steps` stretches the epochs of a small labelled set, so that it trains long enough."""

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
    clip_norm: float | None = Field(10.0, gt=0)
    flip: float = Field(0.5, ge=0, le=1)
    jitter: float = Field(0.0, ge=0, lt=1)
    warm_start: bool = False
    accelerator: Literal["auto", "cpu", "gpu", "cuda", "mps"] = "auto"
    devices: int = Field(1, ge=1)
    precision: Literal["32-true", "16-mixed", "bf16-mixed"] = "32-true"
    threads: int | None = Field(None, ge=1)
    checkpoint_every_s: float = Field(60.0, ge=0)


class Predict(Section):
    """The one pass over the pool per view. `views` are files of predict/views."""

    views: tuple[_method("predict/views"), ...] = ()  # type: ignore[valid-type]
    batch_size: int = Field(16, ge=1)
    min_score: float = Field(0.05, ge=0, lt=1)
    shard_images: int = Field(512, ge=1)


class QueryRule(Section):
    """Which questions are asked: unit x score x selector. `threshold` is the least confidence of a candidate box."""

    unit: Literal["box", "image"] = "box"
    score: _method("score", "consistency") = Choice(name="consistency")  # type: ignore[valid-type]
    select: _method("select", "balance_frequency") = Choice(name="balance_frequency")  # type: ignore[valid-type]
    threshold: float = Field(0.1, ge=0, lt=1)
    aggregate: Literal["mean", "max", "sum"] = "mean"
    tau_frequency: tuple[float, float] = (0.8, 0.1)


class LabelRule(Section):
    """What boxes that nobody looked at are worth in training; `threshold`: least confidence of a pseudo label."""

    policy: _method("labels", "task_soft") = Choice(name="task_soft")  # type: ignore[valid-type]
    threshold: float = Field(0.05, ge=0, lt=1)
    images: Literal["annotated", "answered", "all"] = "annotated"


class Budget(Section):
    """What may be spent: first random whole images, then `per_round` of `unit`.

    `start_images`: a whole number is a count, a number with a point (0.05, 1.0) a share of the pool.
    """

    start_images: int | float = Field(0.05, gt=0)
    unit: Literal["boxes", "queries", "images", "seconds"] = "boxes"
    per_round: tuple[float, ...] = (60, 60, 60, 60)

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
    model: _method("models", "retinanet") = Choice(name="retinanet")  # type: ignore[valid-type]
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
        needed = [*catalog.find("score", self.query.score.name).inputs]
        needed += catalog.find("labels", self.labels.policy.name).inputs
        if not self.predict.views and any(n.startswith("view_") or n == "consistency" for n in needed):
            raise ValueError(
                "predict.views is empty, yet the score or the label policy needs views; "
                'set for example predict.views = ["flip", "downscale"]'
            )
        return self

    @property
    def needs_views(self) -> bool:
        """Whether anything in this run looks at the views; if not, predict does not make them."""
        needed = (
            catalog.find("score", self.query.score.name).inputs + catalog.find("labels", self.labels.policy.name).inputs
        )
        return any(n.startswith("view_") or n == "consistency" for n in needed)

    @property
    def needs_features(self) -> bool:
        """Whether the score or the selector looks at the box features."""
        inputs = (
            catalog.find("score", self.query.score.name).inputs + catalog.find("select", self.query.select.name).inputs
        )
        return "features" in inputs


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
        table[part] = {"name": below} if isinstance(below, str) else dict(below)
        table = table[part]
    try:
        table[last] = tomllib.loads(f"v = {value}")["v"]
    except tomllib.TOMLDecodeError:
        table[last] = value


def dump(run: Run) -> str:
    """The run as TOML text; `load` reads it back to an equal run."""
    return tomli_w.dumps(json.loads(run.model_dump_json(exclude_none=True)))
