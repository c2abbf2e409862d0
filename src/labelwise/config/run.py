"""One typed run: its sections, which of their settings go together, and what its methods need."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field, model_validator

from labelwise import catalog
from labelwise.ask.cost import CostTable
from labelwise.config import counted, live_rule
from labelwise.config.choice import Choice, MethodOf, Step
from labelwise.config.features import Features
from labelwise.config.inputs import INPUTS, Input, Need, rows_of
from labelwise.config.label_rule import LabelRule
from labelwise.config.log_rule import LogRule
from labelwise.config.sections import AskRule, Budget, Data, Given, Predict, QueryRule, Section, TrackRule, Train


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
    model: Annotated[Choice, MethodOf("models", "retinanet")] = Choice(name="retinanet")
    """What is trained (`labelwise list models`)."""
    features: Features | None = None
    """Features of a network that is never trained, computed once; none: there are none."""
    train: Train = Train()
    predict: Predict = Predict()
    query: QueryRule = QueryRule()
    tracks: TrackRule = TrackRule()
    labels: LabelRule = LabelRule()
    budget: Budget = Budget()
    ask: AskRule = AskRule()
    cost: CostTable = CostTable()
    log: LogRule = LogRule()

    @property
    def rounds(self) -> int:
        """Number of rounds, the first one (random images) included."""
        return 1 + len(self.budget.per_round)

    @model_validator(mode="after")
    def _inputs_can_be_made(self) -> Run:
        found = [] if self.own_detector else self._views_missing()
        if "predicted_loss" in self.inputs and not self.model.settings.get("loss_head"):
            found.append("the score needs a model that predicts its loss; set model.loss_head = true")
        if "quality" in self.inputs and not self.model.settings.get("quality"):
            found.append(
                "the label policy or the score looks at the quality of boxes, which the model does not predict; "
                "set model.quality = true (RetinaNet)"
            )
        if self.labels.vote and self.train.teacher is not None:
            found.append(
                "labels.vote moves stored predictions, and train.teacher replaces these; leave out one of them"
            )
        if self.labels.vote and self.own_detector:
            found.append("labels.vote needs the boxes of the views, which predictions from outside lack; leave it out")
        if self.train.teacher is not None and self.needs_consistency:
            found.append(
                f"train.teacher labels a batch from one view, yet the policy {self.labels.policy.name!r} compares "
                "views; take one that does not (dual, hard)"
            )
        unknown = sorted({one.name for one in self._rows_of_policy} & {"quality", "tightness"})
        if self.train.teacher is not None and unknown:
            found.append(f"train.teacher does not tell the {unknown[0]} of its boxes; set another labels.policy.box")
        if self.train.teacher is not None and self.labels.propagate is not None:
            found.append("train.teacher would replace the boxes that labels.propagate lends; set one of the two")
        if self.train.members > 1 and not self.needs_views:
            found.append("train.members makes an ensemble, yet nothing compares its members; set train.members = 1")
        found += self._given_unfit()
        wanted = self.outputs - ({"features"} if self.reads_objects else set())
        found += self.predict.unfit(wanted, classifies=self.classifies, tracks=self.needs_tracks)
        found += self._features_missing()
        solved = (self.reads_features or self.reads_objects) and self.model.settings.get("kind") != "linear"
        found += live_rule.unfit(self.ask, self.model.name, solved=solved and not self.own_detector)
        found += self._not_for_a_classifier() if self.classifies else self._for_classifiers_only()
        found += counted.unfit(self.query, self.budget.unit, self.ask, self.classifies, self.own_detector)
        if found:
            raise ValueError("; ".join(found))
        return self

    def _views_missing(self) -> list[str]:
        """What is wrong if nothing makes the views that are named; predictions from outside come with their own."""
        found = []
        if self.needs_views and not self.predict.views and self.train.members == 1:
            found.append(
                "predict.views is empty, yet the score, the label policy or labels.vote needs views; "
                f"set for example predict.views = {['dropout'] * 2 if self.classifies else ['flip', 'downscale']}"
            )
        if self.needs_consistency and not self.predict.views:
            found.append("the label policy compares views of the image (Eq. 4); set predict.views")
        return found

    def _given_unfit(self) -> list[str]:
        """What does not go with boxes that are known from the start, or with their absence."""
        found, word = [], self.data.given_of(self.data.pool_split)
        if word not in (None, "all") and not self._people:
            found.append(
                f'data.given = "{word}" is of images that people label, and the simulated oracle answers from the '
                'annotations of the pool: set ask.who = "people", or leave out data.given'
            )
        if not self.budget.start_images and self.given in (None, "empty") and self.predict.proposals is None:
            found.append(
                "budget.start_images = 0 trains the first model on labels that come with the images; say what these "
                'are (data.given = "complete" or "partial", with ask.who = "people"), ask about some images, or about '
                'boxes that are proposed (predict.proposals = "yolox_nano")'
            )
        for name, there in (("train.teacher", self.train.teacher), ("labels.propagate", self.labels.propagate)):
            if word == "partial" and there is not None:
                found.append(
                    f'{name} takes for background what nobody looked at; with data.given = "partial" remove it'
                )
        return found

    @property
    def _people(self) -> bool:
        return self.ask.who == "people" or self.own_detector

    @property
    def given(self) -> Given | None:
        """What the boxes that come with the pool are; None: what the simulated oracle answers from."""
        return self.data.given_of(self.data.pool_split) if self._people else None

    @property
    def given_test(self) -> Given | None:
        """What the boxes of the test images are."""
        data = self.data
        return data.given_of(data.test_split if data.test_split else data.pool_split)

    def _features_missing(self) -> list[str]:
        """What is wrong with frozen features."""
        found, body = [], 'set for example features.body = "efficientnet_lite0"'
        wanted = {
            f"{self.model.name} is trained on frozen features": self.reads_features or self.reads_objects,
            'query.features = "frozen" looks at frozen features': self.query.features == "frozen",
            'budget.start = "coverage" covers frozen features': self.budget.start == "coverage",
        }
        if self.features is None:
            found += [f"{what}; {body}" for what, there in wanted.items() if there]
        if self.features is not None and self.features.objects is None:
            objects = 'set for example features.objects = "yolox_nano"'
            if self.reads_objects:
                found.append(f"{self.model.name} names proposed objects; {objects}")
            elif self.query.features == "frozen" and not self.query.one_per_image:
                found.append(
                    f'query.features = "frozen" of whole images does not go with query.unit = {self.query.asked[0]!r}; '
                    f"{objects}, or ask about images"
                )
        if self.features is not None and self.features.objects is not None and self.classifies:
            found.append("features.objects are of detectors; a classifier looks at whole images: remove it")
        found += self._not_for_objects() if self.reads_objects else []
        if self.reads_objects or self.classifies:
            own = {"predict.precision": self.predict.precision, "train.mosaic": self.train.mosaic}
            own |= self.train.of_bodies if self.reads_objects or self.reads_features else {}
            found += [f"{key} is not for {self.model.name}: remove it" for key, value in own.items() if value]
        recorded = self.needs("history") or (self.labels.teacher is not None and self.labels.teacher.by == "dispersion")
        if self.reads_features and recorded and self.model.settings.get("kind", "logistic") != "linear":
            found.append('label dispersion follows a training over its epochs; set model.kind = "linear"')
        return found

    def _not_for_objects(self) -> list[str]:
        found, name = [], self.model.name
        if self.needs_views:
            found.append(f"{name} sees no views of an image; take a score and a label policy without views")
        if self.train.teacher is not None:
            found.append(f"train.teacher labels batches of images, and {name} is trained without; remove it")
        return found

    def _not_for_a_classifier(self) -> list[str]:
        found = []
        if not self.query.every("CLASSIFIES"):
            said = ", ".join(map(repr, self.query.asked))
            found.append(f'{self.model.name} classifies images; set query.unit = "image", not {said}')
        other = [view.name for view in self.predict.views if view.name != "dropout"]
        if other and self.needs_views:
            found.append(
                f'a classifier compares dropout passes; set predict.views = ["dropout", "dropout"], not {other}'
            )
        boxes = sorted({one.name for one in self.rows if one.task == "detection"})
        found += [f"{name} is of boxes; a classifier does not give it" for name in boxes]
        if self.train.teacher is not None:
            found.append("train.teacher labels boxes; a classifier takes labels.teacher")
        if self.labels.propagate is not None:
            found.append("labels.propagate moves boxes; a classifier has none")
        if self.labels.teacher is not None and (self.needs("history") or self.train.members > 1):
            found.append("with labels.teacher the score cannot look at the history, and train.members is 1")
        return found

    def _for_classifiers_only(self) -> list[str]:
        missing = sorted({one.name for one in self.rows if one.task == "classification"})
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
    def reads_features(self) -> bool:
        """Whether the model is trained on frozen features, not on images (its file says `READS = "features"`)."""
        return bool(catalog.find("models", self.model.name).constant("READS", "images") == "features")

    @property
    def reads_objects(self) -> bool:
        """Whether the model is trained on proposed objects, not on images (its file says `READS = "objects"`)."""
        return bool(catalog.find("models", self.model.name).constant("READS", "images") == "objects")

    @property
    def frozen_selection(self) -> bool:
        """Whether selectors see the frozen features of images."""
        return self.query.features == "frozen" or self.reads_features or self.reads_objects

    @property
    def start_step(self) -> Step | None:
        """The selector of the first images; None: they are drawn."""
        if self.budget.start != "coverage":
            return None
        last = self.query.select[-1]
        needed = set(catalog.find("select", last.name).inputs)
        alone = "features" in needed and needed <= {"features", "labelled_features", "budget", "rng"}
        return last if alone else Step(name="kcenter")

    @property
    def metric(self) -> str:
        """What a round is judged by."""
        return "accuracy" if self.classifies else "AP50"

    @property
    def rows(self) -> tuple[Input, ...]:
        """Everything that the score, the label policy and the selectors look at, as the menu describes it."""
        chosen = [("score", self.query.score), ("labels", self.labels.policy)]
        chosen += [("select", step) for step in self.query.select]
        rows = tuple(one for folder, choice in chosen for one in rows_of(folder, choice.name, choice.settings))
        return (*rows, INPUTS["score"]["view_boxes"]) if self.labels.vote else rows

    @property
    def inputs(self) -> frozenset[str]:
        """The names of these inputs; predict makes just that."""
        return frozenset(one.name for one in self.rows)

    def needs(self, need: Need) -> bool:
        """Whether any of these inputs needs this."""
        return any(need in one.needs for one in self.rows)

    @property
    def needs_consistency(self) -> bool:
        """Whether the label policy looks at the views."""
        return any(_of_views(one) for one in self._rows_of_policy)

    @property
    def _rows_of_policy(self) -> tuple[Input, ...]:
        return rows_of("labels", self.labels.policy.name, self.labels.policy.settings)

    @property
    def needs_views(self) -> bool:
        """Whether anything in this run looks at the views; if not, predict does not make them."""
        return any(_of_views(one) for one in self.rows)

    @property
    def outputs(self) -> frozenset[str]:
        """The optional outputs of the model that this run looks at, as `predict` names them."""
        one_per_image = self.query.one_per_image
        rows = [one for one in self.rows if one.column not in ("", *_WITH_VIEWS) and not self._frozen(one)]
        return frozenset(one.needed(one_per_image) for one in rows)

    def _frozen(self, one: Input) -> bool:
        """Whether an input is made of frozen features: the model need not give it."""
        of_selectors = self.frozen_selection and one in _FEATURES_OF_SELECTORS
        of_selectors |= self.reads_objects and one in _FEATURES_OF_BOXES
        return of_selectors or (self.reads_features and one.column in _FEATURE_COLUMNS)

    @property
    def columns(self) -> tuple[str, ...]:
        """The optional columns of the stored predictions that scores and selectors may look at."""
        menu = INPUTS["score"]
        views = [one.name for one in menu.values() if one.column in _WITH_VIEWS] if self.needs_views else []
        stored = {output if output == "view_boxes" else menu[output].at.split(".")[0] for output in self.outputs}
        return (*views, *sorted(stored))

    @property
    def columns_of_labels(self) -> tuple[str, ...]:
        """The optional columns of the stored predictions that pseudo labels are made from."""
        own = {one.column for one in self._rows_of_policy} - {"", *_WITH_VIEWS}
        views = ["view_iou"] if self.needs_views else []
        return (*views, *sorted(own), *(["view_boxes"] if self.labels.vote else []))

    @property
    def needs_labelled(self) -> bool:
        """Whether predict must look at images that are wholly labelled, too."""
        wanted = any("labelled" in one.needs and not self._frozen(one) for one in self.rows)
        return wanted or self.query.calibrates or self.ask.review_share > 0

    @property
    def needs_tracks(self) -> bool:
        """Whether detections are followed from frame to frame."""
        return self.needs("tracks")

    @property
    def needs_clips(self) -> bool:
        """Whether the pool must be of videos."""
        return self.needs("clips") or self.labels.propagate is not None or self.query.every_frames is not None

    @property
    def tracks_reach(self) -> int:
        """How many frames away from its own a box is followed at most; 0: none is followed."""
        lent = 0 if self.labels.propagate is None else self.labels.propagate.frames
        return max(self.tracks.frames if self.needs_tracks else 0, lent)

    @property
    def thinned_tracks(self) -> str | None:
        """What is wrong with tracks over a pool that is thinned out, and what to set instead."""
        n = self.data.stride_frames
        if n == 1 or not self.tracks_reach:
            return None
        who = f"score {self.query.score.name!r}" if self.needs_tracks else "labels.propagate"
        return (
            f"{who} follows boxes through frames, and data.stride_frames = {n} takes away the frames between: right "
            "boxes are then called wrong, and lent boxes go astray. Keep the film, ask about fewer frames: "
            f"--set data.stride_frames=1 --set query.every_frames={n} --set data.test_stride_frames="
            f"{self.data.test_stride_frames or n}"
        )


_WITH_VIEWS = ("view_probs", "view_iou")
"""Columns that come unasked where views are made."""

_FEATURE_COLUMNS = ("features", "image_features")
_FEATURES_OF_SELECTORS = tuple(INPUTS["select"][name] for name in ("features", "labelled_features"))
_FEATURES_OF_BOXES = tuple(INPUTS["select"][name] for name in ("box_features", "labelled_box_features"))


def _of_views(one: Input) -> bool:
    return one.column.startswith("view_")
