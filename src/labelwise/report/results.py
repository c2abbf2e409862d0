"""What a report is made of: plain records of a run, filled by `study.history` from the project, read by `report.page`.

Class names are the keys of every per-class mapping; a class absent from a mapping of counts counts 0, one absent
from `per_class` has no value. `quality` is what a run is judged by, in all and per class: AP50 of a detector, accuracy
of a classifier (`RunResult.metric` names it). Qualities are fractions in [0, 1]; the page shows them times 100. A
metric that was not measured is None.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Float32, Float64, Int64, UInt8

from labelwise.types import LabelwiseError

if TYPE_CHECKING:
    from labelwise.report.filmstrip import Film

SHARES = (0.02, 0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.75, 1.0)
"""Shares of the unlabelled pool, highest scores first."""
BINS = 10
"""Bins of label dispersion and of confidence, of equal width over 0..1."""


@dataclass(frozen=True, slots=True, eq=False)
class Informativeness:
    """One scored round. `accuracy[k]` is the model's on the SHARES[k] of the pool with the highest scores.

    `dispersion_counts` and `dispersion_accuracy` are per bin of label dispersion (NaN
    where a bin is empty); None where nothing was recorded.
    """

    round: int
    accuracy: Float64[np.ndarray, " shares"]
    dispersion_counts: Int64[np.ndarray, " bins"] | None = None
    dispersion_accuracy: Float64[np.ndarray, " bins"] | None = None


@dataclass(frozen=True, slots=True, eq=False)
class Calibration:
    """How right the pseudo labels of one round were, per class, by one source: "ground truth" or "answers".

    `boxes`: pseudo boxes that weigh something. `checks`: those of which the source says something, per bin of their
    confidence; of them `right` hit an object of their class; `confidence` is their sum. `objects`: those that nobody
    had annotated, where the source knows all; of them `hits` are hit. `answers`: how many answers the source is, 0 of
    ground truth. `weights`: of so many boxes no confidence is stored, and the weight stands for it.
    """

    source: str
    boxes: Int64[np.ndarray, " C"]
    checks: Int64[np.ndarray, "C bins"]
    right: Int64[np.ndarray, "C bins"]
    confidence: Float64[np.ndarray, "C bins"]
    objects: Int64[np.ndarray, " C"]
    hits: Int64[np.ndarray, " C"]
    answers: int = 0
    weights: int = 0

    def precision(self) -> Float64[np.ndarray, " C"]:
        """Share right of what was checked; NaN: nothing was."""
        return share(self.right.sum(axis=1), self.checks.sum(axis=1))

    def recall(self) -> Float64[np.ndarray, " C"]:
        """Share hit of the objects; NaN: there are none."""
        return share(self.hits, self.objects)

    def expectation(self) -> Float64[np.ndarray, " C"]:
        """How many would be right if confidence were the probability of it."""
        expected: np.ndarray = self.confidence.sum(axis=1)
        return expected


def share(part: Int64[np.ndarray, " n"], whole: Int64[np.ndarray, " n"]) -> Float64[np.ndarray, " n"]:
    """Part / whole, NaN where there is nothing.

    >>> share(np.array([1, 0]), np.array([4, 0])).tolist()
    [0.25, nan]
    """
    out = np.full(len(whole), np.nan)
    np.divide(part, whole, out=out, where=whole > 0)
    return out


@dataclass(frozen=True, slots=True)
class UnitCost:
    """Answers to questions of a unit: how many, the boxes that they brought, and their seconds."""

    queries: int
    boxes: int
    seconds: float


@dataclass(frozen=True, slots=True)
class RoundResult:
    """One round. Costs are cumulative: all that had been spent when this round's model was evaluated.

    `class_counts_truth`: ground-truth boxes labelled so far. `class_counts_pseudo`: soft counts of the pseudo labels.
    `class_counts_picks`: this round's answered picks. `class_counts_picks_unbalanced`: what the plain top selector
    would have taken with the same scores; empty where it was not computed. `skipped`: (image name, message). Seconds
    in `stage_seconds` are machine time of this round; `cost_seconds` is annotation time. `changed`: settings that
    changed in this round, one line each. `calibration`: how right the pseudo labels were, at most one of each source.
    `sure_boxes`: mean number of sure pseudo boxes of an image in the first and the last tenth of the training steps,
    where an online teacher makes them. `by_unit`: what the questions of each unit brought and cost in this round alone.
    """

    round: int
    cost_boxes: int
    cost_queries: int
    cost_images: int
    cost_seconds: float
    ap: float | None = None
    quality: float | None = None
    ap75: float | None = None
    per_class: Mapping[str, float | None] = field(default_factory=dict)
    class_counts_truth: Mapping[str, float] = field(default_factory=dict)
    class_counts_pseudo: Mapping[str, float] = field(default_factory=dict)
    class_counts_picks: Mapping[str, float] = field(default_factory=dict)
    class_counts_picks_unbalanced: Mapping[str, float] = field(default_factory=dict)
    answers: Mapping[str, int] = field(default_factory=dict)
    stage_seconds: Mapping[str, float] = field(default_factory=dict)
    skipped: Sequence[tuple[str, str]] = ()
    changed: Sequence[str] = ()
    calibration: Sequence[Calibration] = ()
    sure_boxes: tuple[float, float] | None = None
    by_unit: Mapping[str, UnitCost] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, eq=False)
class GalleryItem:
    """One image of the gallery; boxes are xyxy in pixels of `image`.

    `pick_verdicts` are the answers to the picks (`labelwise.types.Verdict`), "" where a pick has no answer yet.
    `pseudo_w_cls` are the classification weights of the pseudo labels. `truth_boxes` is None where it is not shown.
    """

    image: UInt8[np.ndarray, "H W 3"]
    caption: str = ""
    pick_boxes: Float32[np.ndarray, "k 4"] = field(default_factory=lambda: np.zeros((0, 4), np.float32))
    pick_labels: Sequence[str] = ()
    pick_verdicts: Sequence[str] = ()
    pseudo_boxes: Float32[np.ndarray, "m 4"] = field(default_factory=lambda: np.zeros((0, 4), np.float32))
    pseudo_labels: Sequence[str] = ()
    pseudo_w_cls: Float32[np.ndarray, " m"] = field(default_factory=lambda: np.zeros(0, np.float32))
    truth_boxes: Float32[np.ndarray, "t 4"] | None = None
    truth_labels: Sequence[str] = ()

    def __post_init__(self) -> None:
        where = f"GalleryItem {self.caption!r}"
        if self.image.dtype != np.uint8 or self.image.ndim != 3 or self.image.shape[2] != 3 or not self.image.size:
            got = f"{self.image.dtype} {self.image.shape}"
            raise LabelwiseError(f"{where}.image: got {got}; expected uint8 [H, W, 3] with at least one pixel")
        truth = np.zeros((len(self.truth_labels), 4)) if self.truth_boxes is None else self.truth_boxes
        for name, boxes, columns in (
            ("pick_boxes", self.pick_boxes, (self.pick_labels, self.pick_verdicts)),
            ("pseudo_boxes", self.pseudo_boxes, (self.pseudo_labels, self.pseudo_w_cls)),
            ("truth_boxes", truth, (self.truth_labels,)),
        ):
            n = len(columns[0])
            if boxes.shape != (n, 4) or any(len(c) != n for c in columns):
                lengths = [len(c) for c in columns]
                raise LabelwiseError(
                    f"{where}.{name}: got shape {boxes.shape} beside columns of {lengths} rows; "
                    "expected [n, 4] and n labels, n verdicts or weights"
                )


@dataclass(frozen=True, slots=True, eq=False)
class RunResult:
    """One run: one recipe with one seed. Runs that share `name` are repetitions; their seeds differ.

    `settings` is what the run was made with, shown as a table (nested mappings are flattened to dotted keys);
    `versions` names the software. `rare_classes` are averaged to a curve of their own (rare-class AP50); empty: no such
    curve. `metric` is the name of the quality. `pool_images`: how many images there are to label; 0: not known.
    """

    name: str
    seed: int
    classes: Sequence[str]
    rounds: Sequence[RoundResult]
    recipe: str = ""
    settings: Mapping[str, object] = field(default_factory=dict)
    gallery: Sequence[GalleryItem] = ()
    budget_unit: str = "boxes"
    data: str = ""
    versions: Mapping[str, str] = field(default_factory=dict)
    rare_classes: Sequence[str] = ()
    metric: str = "AP50"
    pool_images: int = 0
    informativeness: Sequence[Informativeness] = ()
    films: Sequence[Film] = ()
