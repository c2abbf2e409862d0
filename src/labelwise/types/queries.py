"""Questions, answers, and what they cost."""

from __future__ import annotations

import math
import reprlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from numbers import Real
from typing import Any

from labelwise.errors import LabelwiseError

Verdict = str
"""A word of an answer; which ones a query takes, its unit says (`units/`)."""

Place = tuple[str, tuple[float, float, float, float] | None]
"""What a query is about, whatever class it names: image and box."""


BECAUSE = "because"
"""Key of a query's reason: why it is asked, in words; the other keys are the parts of its score."""


@dataclass(frozen=True, slots=True)
class Query:
    """One question. `unit` is a file of `units/`. `box` and `label` are the candidate box, `box` alone the region,
    neither a whole image; `reason` is the score's parts, and why it is asked (`BECAUSE`).
    """

    round: int
    rank: int
    image: str
    unit: str
    box: tuple[float, float, float, float] | None = None
    label: int | None = None
    score: float = 0.0
    reason: Mapping[str, float | str] = field(default_factory=dict)
    id: int | None = None

    @property
    def place(self) -> Place:
        """What it is about."""
        return self.image, self.box


@dataclass(frozen=True, slots=True)
class Suggestion:
    """A box that was offered with a query, in pixels of its image, before anything was said.

    `origin`: "flow", the label of a near frame of the film, moved by the optical flow; "lent", a label of a frame of it
    where it stood there; "model", what the model found. `image`: that frame; for "model" the query's own. `number`:
    which box of the answer was made of it; None: none was.
    """

    box: tuple[float, float, float, float]
    label: int
    origin: str
    image: str
    number: int | None = None


@dataclass(frozen=True, slots=True)
class Answer:
    """What came back for one query.

    verdict "object": `boxes`/`labels` hold the one annotated object (box query). "all": every object of the image or
    region, possibly none (it is covered from then on). "background": no object there. "duplicate": the object had been
    annotated before. "skipped": no answer could be given (`note` says why). `classes`: how many classes whoever
    answered knew of (None: all there are); an answer that says "nothing else" is refused if one was added since.
    `suggested`: what was offered before; a box that none of it became was drawn.
    """

    query: int
    verdict: Verdict
    boxes: Sequence[tuple[float, float, float, float]] = ()
    labels: Sequence[int] = ()
    who: str = "oracle"
    seconds: float = 0.0
    note: str = ""
    classes: int | None = None
    suggested: Sequence[Suggestion] = ()

    def action(self, offered: Suggestion) -> str:
        """What became of a suggestion: "verify", taken as it was; "mend", with another box or class; "reject", not."""
        if offered.number is None:
            return "reject"
        same = tuple(self.boxes[offered.number]) == tuple(offered.box)
        return "verify" if same and self.labels[offered.number] == offered.label else "mend"

    def __post_init__(self) -> None:
        bad = next((name for name in ("verdict", "who", "note") if not _is_text(getattr(self, name))), None)
        if bad is not None:
            raise LabelwiseError(
                f"answer to query {shown(self.query)}: {bad} is {shown(getattr(self, bad))}; expected a text"
            )
        seconds = plain_number(self.seconds)
        if seconds is None or not 0 <= seconds < math.inf:
            raise LabelwiseError(
                f"answer to query {shown(self.query)}: seconds is {shown(self.seconds)}; expected a number from 0"
            )


def _is_text(said: Any) -> bool:
    """Whether it is a text that can be stored: half a character (a lone surrogate) cannot."""
    return isinstance(said, str) and (said.isascii() or not any("\ud800" <= c <= "\udfff" for c in said))


def plain_number(value: Any) -> float | None:
    """A number of Python or NumPy as float; None: it is something else (a truth value, a text), or too large."""
    if isinstance(value, bool) or not isinstance(value, Real):
        return None
    try:
        return float(value)
    except OverflowError:
        return None


def shown(value: Any) -> str:
    """Any value for a message, short."""
    return _SHORT.repr(value)


_SHORT = reprlib.Repr()
_SHORT.maxother = _SHORT.maxstring = 60


@dataclass(frozen=True, slots=True)
class Cost:
    """What has been spent, in every unit at once (DESIGN section 4)."""

    boxes: int = 0
    queries: int = 0
    images: int = 0
    seconds: float = 0.0
