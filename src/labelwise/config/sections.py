"""The sections of a run's config: what each part of run.toml may say."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, model_validator

from labelwise.config.choice import Choice, MethodOf
from labelwise.config.prediction import Predict as Predict
from labelwise.config.query_rule import QueryRule as QueryRule
from labelwise.config.query_rule import of_frames as of_frames
from labelwise.config.section import Section as Section
from labelwise.config.training import Train as Train
from labelwise.errors import LabelwiseError

Given = Literal["complete", "partial", "empty", "all"]
"""What the boxes that come with a split are: `Data.given`."""


class Data(Section):
    """Where images and ground truth come from, and what they are tested on."""

    root: str = ""
    """Folder (or archive, or file) of the images, or its URL (s3://BUCKET/FOLDER, gs://..., https://...). A relative
    one is looked for here, then under $LABELWISE_DATA."""
    images: str | None = None
    """URL of the folder of the images (s3://BUCKET/FOLDER, gs://..., https://...), where `root` is of the annotations
    alone; none: they are below `root`, which may be a URL itself."""
    store_gb: float = Field(10.0, ge=0)
    """Disk for images of an object store (`images`, or a URL as `root`): so much of them is kept at most, the others
    are fetched again each time."""
    format: str | None = None
    """How the data are stored (`labelwise list data`); none: found by itself."""
    first_pixel: Literal[0, 1] | None = None
    """Where pixels count from in the files of a format that leaves that open (VOC); none: as its boxes say."""
    classes: tuple[str, ...] = ()
    """Names of the classes, for images without annotations."""
    pool_split: str | None = None
    """The split that images are chosen from; none: the only one."""
    test_split: str | None = None
    """The split that every round is tested on; `valid+test` joins two; none: no test."""
    test_share: float = Field(0.0, ge=0, lt=1)
    """Without a test split: so large a part of the pool is held back to test on (0: none), by clip and by `group`."""
    test_seed: int = Field(0, ge=0)
    """Which part is held back; it does not depend on `seed`."""
    group: str = ""
    """Regular expression: images whose names agree in what it matches are all in the pool or all in the test part."""
    scenes: dict[str, Any] | None = None
    """Settings of generated scenes, in place of `root`."""
    roads: dict[str, Any] | None = None
    """Settings of generated road scenes, in place of `root`."""
    patrol: dict[str, Any] | None = None
    """Settings of the generated frames of a watch camera, most of them empty, in place of `root`."""
    most_images: int | None = Field(None, ge=1)
    """A pool of so many images, drawn at random, the same for every seed."""
    sample: int | None = Field(None, ge=1)
    """A pool of so many images, drawn by the run's seed from those that `most_images` leaves; frozen features are kept
    of all of these, for every seed; none: all."""
    imbalance: float | None = Field(None, gt=0, le=1)
    """Of half of the classes only this share of the pool's images stays (classification; 001, section 4.5.1)."""
    image_size_px: int = Field(256, ge=8, le=4096)
    """The longest side at which the model sees an image; larger finds smaller objects and takes longer."""
    cache_gb: float = Field(2.0, ge=0)
    """Memory for decoded images."""
    given: Given | dict[str, Given] | None = None
    """What the boxes that come with the images are, where people answer; none: what the simulated oracle answers from.

    "complete": an image with labels is wholly labelled, one without is asked about; "partial": there may be more
    objects, so nothing is background where nobody has looked; "empty": they are ignored; "all": complete, and an image
    without labels holds no object. By split: {train = "partial", val = "complete"}.
    """
    stride_frames: int = Field(1, ge=1)
    """Of videos every so many frames one is in the pool; not with tracks, which want the film's own frames: to ask of
    fewer frames set query.every_frames."""
    test_stride_frames: int | None = Field(None, ge=1)
    """Of videos every so many frames one is tested on; none: as many as `stride_frames`."""
    frames_gb: float = Field(4.0, ge=0)
    """Disk for decoded frames of videos."""

    @model_validator(mode="after")
    def _one_source(self) -> Data:
        drawn = (self.scenes, self.roads, self.patrol)
        if bool(self.root) + sum(settings is not None for settings in drawn) != 1:
            raise ValueError(
                "set either data.root (a folder with images), or one of data.scenes, data.roads and data.patrol "
                "(generated demo data)"
            )
        if self.test_share and (self.test_split or self.generated):
            raise ValueError(
                "data.test_share holds back a part of the pool where there is no test split; here there is one: "
                f"remove test_share{'' if self.generated else ', or test_split'}"
            )
        if self.images is not None and (self.generated or "://" not in self.images):
            raise ValueError(
                f"data.images = {self.images!r} is the URL of a folder of images, such as s3://BUCKET/FOLDER, beside "
                "the annotations of data.root; of images on disk data.root alone says where they are"
            )
        self._check_given()
        try:
            re.compile(self.group)
        except re.error as error:
            raise ValueError(f"data.group = {self.group!r} is no regular expression: {error}") from None
        return self

    def _check_given(self) -> None:
        if not isinstance(self.given, dict):
            return
        splits = [self.pool_split, *(self.test_split or "").split("+")]
        foreign = [name for name in self.given if name not in splits]
        if foreign or not self.pool_split:
            raise ValueError(
                f"data.given names {', '.join(foreign or self.given)}; expected data.pool_split "
                f"({self.pool_split or 'not set'}) and data.test_split ({self.test_split or 'not set'}): set these, "
                'or one word for all images, such as data.given = "partial"'
            )
        words = {self.given.get(part) for part in (self.test_split or "").split("+")}
        if len(words) > 1:
            raise ValueError(
                f"data.given: the test split {self.test_split} is one set of images; give its parts one word"
            )

    def given_of(self, split: str | None) -> Given | None:
        """What the boxes of a split are; of one that is joined ("valid+test"), what those of its parts are."""
        return self.given.get((split or "").split("+")[0]) if isinstance(self.given, dict) else self.given

    @property
    def generated(self) -> bool:
        """Whether the data are generated into the project folder."""
        return not self.root

    @property
    def remote(self) -> bool:
        """Whether the images lie in an object store."""
        return self.images is not None or "://" in self.root

    def place(self) -> str:
        """`root` such that it holds from anywhere: a URL as it stands, a folder by its absolute path."""
        return self.root if "://" in self.root else str(self.folder())

    def folder(self) -> Path:
        """The data folder: `root` as it stands, or under $LABELWISE_DATA."""
        base = os.environ.get("LABELWISE_DATA")
        try:
            root = Path(self.root).expanduser()
            if not root.is_absolute() and not root.exists() and base:
                root = Path(base) / root
            there = root.exists()
        except (OSError, RuntimeError, ValueError):  # too long; of nobody's home; half a character
            there = False
        if not there:
            raise LabelwiseError(
                f"data.root = {self.root!r}: there is no such folder, neither here nor under $LABELWISE_DATA"
                f" ({base or 'not set'}). Give it with --set data.root=PATH"
            )
        return root.resolve()


class TrackRule(Section):
    """How detections of a video are followed and what its graph costs (001, section 2.3.2)."""

    tracker: Literal["flow", "siamese"] = "flow"
    """Dense optical flow, computed once for all rounds, or a Siamese correlation tracker on the detector's features."""
    frames: int = Field(3, ge=1, le=25)
    """How many frames forward and backward."""
    at: Literal["centre", "median"] = "centre"
    """The flow at the box's centre, or its median in the box."""
    theta: float = Field(0.5, ge=0, lt=1)
    """IoU from which (above it) a moved box and a detection are linked."""
    return_within: float | None = Field(None, gt=0, le=10)
    """A box that the flow moves on is lost where the flow back misses its start by more than this share of its width or
    height; none: it is followed without a check."""
    candidate_overlap: float = Field(0.3, ge=0, lt=1)
    """A moved box that overlaps a detection of its class by more (IoU) is no candidate for a missed object (0: Fig.
    2.2b); from `theta` on every one without a link is."""
    ties: Literal["detector", "present", "absent"] = "detector"
    """Of the labellings that cost least: the fewest false positives and then the fewest misses; the fewest false
    positives and the most misses; or the most false positives and the fewest misses."""
    clamp_labelled: bool = True
    """Whether what is known of labelled frames stands: their detections and candidates are not estimated."""
    cost_fp: float = Field(1.0, ge=0, le=1000)
    """Cost of a detection that is said to be no object (Eq. 2.2)."""
    cost_fn: float = Field(1.0, ge=0, le=1000)
    """Cost of a candidate that is said to be an object (Eq. 2.3)."""
    cost_link: float = Field(1.0, ge=0, le=1000)
    """Cost of a link whose ends disagree (Eq. 2.4)."""
    preset: Literal["ultrafast", "fast", "medium", "raft_small", "raft_large"] = "ultrafast"
    """Of the DIS flow; `raft_small` and `raft_large` need `flow_weights`."""
    flow_weights: str | None = None
    """A file of torchvision's weights for RAFT, or its name of `labelwise weights`: raft_small, raft_large."""
    flow_px: int = Field(640, ge=64)
    """The longest side of the frames that the flow looks at."""

    @model_validator(mode="after")
    def _has_weights(self) -> TrackRule:
        if self.preset.startswith("raft") != (self.flow_weights is not None):
            raise ValueError(
                f"tracks.preset {self.preset!r} with tracks.flow_weights {self.flow_weights}: raft_small and "
                "raft_large need a file of torchvision's weights, ultrafast, fast and medium (DIS) take none"
            )
        return self


class AskRule(Section):
    """Who answers.

    The first answer to a query makes the labels, unless `merge` says otherwise; the others (`overlap`) are second
    opinions, which cost queries and time and tell how far people agree, and how good each is (the progress page,
    `labelwise status`). The round waits for them, until its deadline: with fewer people than `overlap` set
    `deadline_h`, or the round never ends. A budget in queries or seconds pays for all the answers.
    """

    who: Literal["oracle", "people"] = "oracle"
    """The simulated oracle, from the annotations, or people, on the page of `labelwise serve`."""
    overlap: int = Field(1, ge=1, le=16)
    """So many people answer every query, each on their own."""
    merge: Annotated[Choice, MethodOf("merge", "first")] = Choice(name="first")
    """What several people's answers to a query are worth together (`labelwise list merge`): a view, which changes
    nothing in the ledger. How sure the merged class is weighs it in training."""
    known_share: float = Field(0.0, ge=0, le=0.5)
    """So large a part of the questions are such whose answer is settled (several people agree on it, an owner gave it,
    or it came with the images), asked as any other: they measure people, obtain nothing, and cost queries and time."""
    review_share: float = Field(0.0, ge=0, le=0.9)
    """So large a part of each round's questions are about labels that are there already (given, or answered once) and
    that the model of the round doubts: "is this label right?" The answer supersedes the label; it costs what any other
    does. Predict then looks at labelled images, too."""
    again: bool = False
    """Whether a question that was answered is asked again, of somebody else, where another opinion is worth more than
    the next new question (ActiveLab); `merge` makes one label of the answers. With people, from two on."""
    feedback: int = Field(0, ge=0)
    """A person's first so many known questions are followed by what is right: for whoever is new."""
    guidelines: str = "guidelines.md"
    """A Markdown file in the project folder that tells people how to label, shown on the page; it need not be there."""
    prefill: bool = True
    """Where people draw, boxes are suggested: what the model found, and labels of near frames of a film. False: none,
    for a study of what people see by themselves."""
    live_answers: int | None = Field(None, ge=1)
    """After so many answers a model (frozen, head) is trained and the queue ranked anew in the round; none: never."""
    deadline_h: float | None = Field(None, gt=0, allow_inf_nan=False)
    """After so many hours a round goes on with what there is; a later answer counts in the next round."""
    learn_cost: bool = False
    """What an answer costs in seconds is learnt from how long people took, per kind of answer and person, pauses cut;
    the section `cost` is where that begins. Else: the measured seconds, or by that section."""
    poll_s: float = Field(1.0, gt=0, le=3600)
    """How often a round that waits looks for answers."""

    @model_validator(mode="after")
    def _again_of_somebody(self) -> AskRule:
        if self.again and (self.who != "people" or self.merge.name == "first"):
            raise ValueError(
                'again = true wants other people\'s opinions and a rule that merges them; set who = "people" and for '
                'example merge = "crowdlab"'
            )
        return self


class Stop(Section):
    """When a run ends before its budget is spent: when the next round is so surely not worth its cost."""

    gain_below: float = Field(gt=0, allow_inf_nan=False)
    """Points of the metric: a round that is expected to raise the curve by less is not worth it."""
    confidence: float = Field(0.95, gt=0.5, lt=1)
    """How sure the forecast must be of that."""


class Budget(Section):
    """What may be spent: first random whole images, then `per_round` of `unit`."""

    start_images: int | float = Field(0.05, ge=0)
    """Images of the first round: a whole number is a count, a number with a point (0.05, 1.0) a share of the pool; 0:
    the first model is trained on what comes with the images (`data.given`)."""
    start: Literal["random", "balanced", "coverage"] = "random"
    """Drawn at random, or from every class equally many (for study: 001, section 4.5.1), or such that they cover the
    pool's frozen features: by the last selector of `query.select` where it needs features alone, else by k-center."""
    unit: Annotated[Literal["boxes", "queries", "images", "seconds"], BeforeValidator(of_frames)] = "boxes"
    """What the budget counts: boxes obtained, questions asked, images (frames), or seconds of annotation."""
    per_round: tuple[Annotated[float, Field(ge=0, allow_inf_nan=False)], ...] = (60, 60, 60, 60)
    """A number for each round after the first: [100, 100] are two more rounds; in one of 0 nothing is asked."""
    stop: Stop | None = None
    """A run ends before a round that is forecast to bring too little: {gain_below = 0.5, confidence = 0.95}; none: it
    ends with its rounds. Looked at from the third measured round on, and again at every `labelwise run`."""

    def first(self, pool: int) -> int:
        """How many images the first round labels."""
        if isinstance(self.start_images, int) or not self.start_images:
            return int(self.start_images)
        return max(1, round(self.start_images * pool))

    @model_validator(mode="after")
    def _share_of_the_pool(self) -> Budget:
        if isinstance(self.start_images, float) and self.start_images > 1:
            raise ValueError(
                f"start_images = {self.start_images} is a share of the pool above 1; "
                "write a whole number for a count of images, for example 20"
            )
        return self
