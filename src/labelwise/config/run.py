"""One typed run <-> run.toml / run.yaml. Every error of the file is reported at once, before anything is trained."""

from __future__ import annotations

import json
import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import tomli_w
import yaml
from pydantic import Field, ValidationError, model_validator

from labelwise import catalog, units
from labelwise.ask.cost import CostTable
from labelwise.config.choice import Choice, method
from labelwise.config.sections import AskRule, Budget, Data, LabelRule, Predict, QueryRule, Section, TrackRule, Train
from labelwise.errors import LabelwiseError

OF_BOXES = {"tightness", "box_features", "predicted_loss", "estimated_fp", "estimated_fn", "true_fp", "true_fn"}
"""Inputs that only a detector's boxes give."""


class Run(Section):
    """Everything that a run is: what is in run.toml."""

    name: str = "run"
    """How reports call it; runs of one name are seeds of one another."""
    seed: int = Field(0, ge=0)
    """Of everything that is drawn at random."""
    own_detector: bool = False
    """Predictions come from a detector outside of labelwise, by the Python API (`labelwise.open`)."""
    ledger: str | None = Field(None, pattern="://")
    """URL of an empty database, as SQLAlchemy writes it, for the ledger of this project alone; none: a file.

    For example "postgresql+psycopg://me@db/cats"; the password better in `~/.pgpass`.
    """
    data: Data
    model: method("models", "retinanet") = Choice(name="retinanet")  # type: ignore[valid-type]
    """What is trained (`labelwise list models`)."""
    train: Train = Train()
    predict: Predict = Predict()
    query: QueryRule = QueryRule()
    tracks: TrackRule = TrackRule()
    labels: LabelRule = LabelRule()
    budget: Budget = Budget()
    ask: AskRule = AskRule()
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
        found += self._not_for_a_classifier() if self.classifies else self._for_classifiers_only()
        if self.budget.unit == "images" and not units.find(self.query.unit).ONE_PER_IMAGE:
            found.append(f'budget.unit = "images" counts image queries; with {self.query.unit} queries take boxes')
        if found:
            raise ValueError("; ".join(found))
        return self

    def _not_for_a_classifier(self) -> list[str]:
        found = []
        if not units.find(self.query.unit).CLASSIFIES:
            found.append(f'{self.model.name} classifies images; set query.unit = "image", not {self.query.unit!r}')
        other = [view.name for view in self.predict.views if view.name != "dropout"]
        if other and self.needs_views:
            found.append(
                f'a classifier compares dropout passes; set predict.views = ["dropout", "dropout"], not {other}'
            )
        boxes = sorted(OF_BOXES & self.inputs)
        found += [f"{name} is of boxes; a classifier does not give it" for name in boxes]
        if self.labels.propagate is not None:
            found.append("labels.propagate moves boxes; a classifier has none")
        if self.labels.teacher is not None and ("history" in self.inputs or self.train.members > 1):
            found.append("with labels.teacher the score cannot look at the history, and train.members is 1")
        return found

    def _for_classifiers_only(self) -> list[str]:
        missing = sorted({"history", "truth_classes", "labelled_classes"} & self.inputs)
        found = [
            f'the score needs {name}, which only a classifier has; set model.name = "classifier"' for name in missing
        ]
        if self.labels.teacher is not None:
            found.append('labels.teacher makes pseudo labels of whole images; it needs model.name = "classifier"')
        return found

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
        named, of_images = self.inputs, units.find(self.query.unit).ONE_PER_IMAGE
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
            found |= {"features"} if by_score or (by_selector and not of_images) else set()
            found |= {"image_features"} if by_selector and of_images else set()
        return frozenset(found)

    @property
    def needs_labelled(self) -> bool:
        """Whether predict must look at images that are wholly labelled, too."""
        return bool(self.inputs & {"labelled_features", "labelled_probability"}) or self.needs_tracks

    @property
    def needs_tracks(self) -> bool:
        """Whether detections are followed from frame to frame."""
        return bool(self.inputs & {"estimated_fp", "estimated_fn"})

    @property
    def needs_clips(self) -> bool:
        """Whether the pool must be of videos."""
        return self.needs_tracks or self.labels.propagate is not None or "videos" in self.inputs


def load(paths: Path | Sequence[Path], overrides: Sequence[str] = ()) -> Run:
    """Reads run.toml or run.yaml (several: later ones win), applies `key.sub=value` overrides, and checks all of it.

    Raises:
        LabelwiseError: a file cannot be read, or one line for each thing that is wrong in the settings.
    """
    paths = [paths] if isinstance(paths, Path) else paths
    return parse(layers(paths, overrides), " + ".join(str(p) for p in paths))


def layers(
    paths: Sequence[Path], overrides: Sequence[str] = (), between: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    """What files and overrides set, as one table that nothing has checked yet; `between` lies under the overrides."""
    raw: dict[str, Any] = {}
    for path in paths:
        raw = _merged(raw, _read(path))
    raw = _merged(raw, between or {})
    for override in overrides:
        _override(raw, override)
    return raw


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
