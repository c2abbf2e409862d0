"""What a file of this folder is: its constants, and its three functions (machinery)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, Protocol

import numpy as np
from jaxtyping import Bool, Float64, Int64

from labelwise.types import Answer, Boxes, Query
from labelwise.units._candidates import Candidates, Shard

SKIPPED = "skipped"
"""The verdict that every unit takes: no answer could be given, and nothing follows."""


@dataclass(frozen=True, slots=True)
class Meaning:
    """What follows from a verdict. One that several units take means the same in all of them, but for `look`.

    Attributes:
        boxes: how many annotated objects go with it.
        covers: every object in the query's rectangle (in the whole image, if it has none) is annotated from then on.
        background: there is no object in the query's rectangle.
        look: what looking costs, as the table of costs names it (`ask.cost.CostTable`). Each box of "any" is drawn
            besides, and that of "one" adjusted, unless it is the one that was asked about.
        button: the word on the button of a labelling tool.
    """

    button: str
    look: str
    boxes: Literal["none", "one", "any"] = "none"
    covers: bool = False
    background: bool = False


class Unit(Protocol):
    """A unit of a query, as its file says it."""

    VERDICTS: Mapping[str, Meaning]
    """The answers that it takes, in the order in which a person is told of them; "skipped" is one of them."""
    DEFAULT: str | None
    """The verdict that an answer has which names none (Python API); None: it must name one."""
    RECTANGLE: bool
    """A query has a rectangle (`Query.box`); else it asks about the whole image."""
    CLASS: bool
    """A query asks about one object of a class (`Query.label`); else its detections have a mix of classes."""
    ONE_PER_IMAGE: bool
    """There is one candidate per image, and its number is the image's: scores of whole images apply, features are those
    of the image, selectors may look at its frame, and a budget may be counted in images."""
    CLASSIFIES: bool
    """An answer may give the whole image a class: a classifier may ask it."""
    SCALES: bool
    """Candidates are looked for at each of `query.scales`; else at scale 1."""
    OVERLAPS: bool
    """An answer may settle other open queries: one whose rectangle lies in a covered one is passed over."""
    AT_MOST_ONE: frozenset[str]
    """The units of a budget of which an answer costs at most one."""
    PAGE: str
    """How the labelling page draws it (`web/static/units.js`)."""

    def candidates(self, shard: Shard) -> Candidates:
        """What may be asked about in some images of the pool, by image."""

    def answer(
        self,
        query: Query,
        truth: Boxes,
        rows: Int64[np.ndarray, " k"],
        annotated: Bool[np.ndarray, " n"],
        iou_threshold: float,
    ) -> Answer:
        """The simulated oracle's answer to a query that has an id and, with `RECTANGLE`, its box.

        `rows` are the ground-truth boxes of the image, `annotated` [n] tells of each row of `truth` whether an earlier
        answer annotated it; from an IoU of `iou_threshold` on a box is an object's.
        """

    def lift(
        self, value: Float64[np.ndarray, " m"], offsets: Int64[np.ndarray, " n+1"], how: str, rng: np.random.Generator
    ) -> Float64[np.ndarray, " n"]:
        """Scores of the detections as those of the candidates: `value[offsets[i]:offsets[i + 1]]` are of candidate i,
        `how` is "mean", "max", "sum" or "random".
        """


MEMBERS = (*Unit.__annotations__, "candidates", "answer", "lift")
"""What a file must have to be a unit."""
