"""What an answer costs, in every unit at once (DESIGN section 4).

`DEFAULT` times come from published studies of crowd workers; `ask.learn_cost` replaces them by times measured with your
own annotators (`learned_cost`).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, fields
from math import isfinite
from typing import assert_never

from labelwise import units
from labelwise.types import Answer, Cost, LabelwiseError, Query


@dataclass(frozen=True, slots=True)
class CostTable:
    """Seconds per action of the annotator.

    verify: look at a candidate box and say yes or no. Human verification of boxes was measured at about 2 s
        (Papadopoulos et al., "We don't need no bounding-boxes", CVPR 2016).
    adjust: correct the box of an accepted candidate; taken as long as drawing it anew, an upper bound.
    draw: draw one box. Extreme clicking took 7 s (Papadopoulos et al., "Extreme clicking for efficient object
        annotation", ICCV 2017); the same study quotes 35 s for the classic way (Su et al., "Crowdsourcing annotations
        for visual object detection", 2012, reference 1 of 000).
    reject: see that a candidate holds no object; a verification.
    duplicate: see that a candidate shows an object annotated before; a verification.
    inspect: look over a whole image (or a region, which is shown as large) for what is still missing. Su et al.
        measured 7.8 s for this check of coverage.
    classify: say which class a whole image is of, by one key; taken as long as a verification.
    """

    verify: float = 2.0
    adjust: float = 7.0
    draw: float = 7.0
    reject: float = 2.0
    duplicate: float = 2.0
    inspect: float = 7.8
    classify: float = 2.0

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            if not (isfinite(value) and value >= 0):
                raise LabelwiseError(f"cost table: {field.name} is {value}; expected seconds >= 0")


DEFAULT = CostTable()


OFFERED = {"verify": ("verify",), "mend": ("verify", "adjust"), "reject": ("reject",)}
"""What whoever answered did with a suggestion, by what became of it (`Answer.action`)."""


def cost(query: Query, answer: Answer, table: CostTable = DEFAULT, *, one_class: bool = False) -> Cost:
    """What this answer cost; every answer is one query.

    "object" yields 1 box, "all" all its boxes (and where it covers a whole image, 1 image), any other verdict yields
    nothing: the unit says what follows from it. Seconds: those measured (`answer.seconds`) where there are any, else
    from the table: an object is verified and, unless the candidate was taken as it is, adjusted; an image or region is
    inspected and each of its boxes drawn. Of what was suggested (`Answer.suggested`) a box that was taken is verified,
    one that was mended adjusted besides, one that was not taken rejected. With `one_class` (classification) an image is
    asked for its class alone.

    >>> ask = Query(round=0, rank=0, image="a.jpg", unit="image", id=1)
    >>> cost(ask, Answer(1, "all", boxes=[(0, 0, 2, 2), (4, 4, 9, 9)], labels=[0, 1]))  # 7.8 + 2 * 7 s
    Cost(boxes=2, queries=1, images=1, seconds=21.8)
    >>> from labelwise.types import Suggestion
    >>> offered = [Suggestion((0, 0, 2, 2), 0, "flow", "b.jpg", 0), Suggestion((8, 8, 9, 9), 0, "flow", "b.jpg")]
    >>> both = [(0, 0, 2, 2), (4, 4, 9, 9)]
    >>> cost(ask, Answer(1, "all", both, [0, 1], suggested=offered)).seconds  # 7.8 + 2 verify + 7 draw + 2 reject
    18.8
    """
    meaning = units.meaning(query, answer)
    boxes = 0 if meaning.boxes == "none" else len(answer.boxes)
    images = int(meaning.covers and not units.find(query.unit).RECTANGLE)
    seconds = answer.seconds or expected_seconds(actions(query, answer, one_class=one_class), table)
    return Cost(boxes, 1, images, seconds)


def actions(query: Query, answer: Answer, *, one_class: bool = False) -> dict[str, int]:
    """What whoever answered did, in the words of the table, and how often.

    >>> ask = Query(round=0, rank=0, image="a.jpg", unit="image", id=1)
    >>> actions(ask, Answer(1, "all", boxes=[(0, 0, 2, 2), (4, 4, 9, 9)], labels=[0, 1]))
    {'inspect': 1, 'draw': 2}
    """
    if one_class:
        return {"classify": 1}
    meaning = units.meaning(query, answer)
    offered = Counter(word for one in answer.suggested for word in OFFERED[answer.action(one)])
    taken = sum(one.number is not None for one in answer.suggested)
    match meaning.boxes:
        case "none":
            return {meaning.look: 1}
        case "one":
            accepted = query.box is not None and [tuple(query.box)] == [tuple(box) for box in answer.boxes]
            if accepted or not taken:
                return {meaning.look: 1} | ({} if accepted else {"adjust": 1})
            return dict(Counter({meaning.look: 1}) + offered)
        case "any":
            return {meaning.look: 1, "draw": len(answer.boxes) - taken} | dict(offered)
        case _:
            assert_never(meaning.boxes)


def expected_seconds(done: Mapping[str, int], table: CostTable) -> float:
    """How long these actions take by a table."""
    return float(sum(times * getattr(table, name) for name, times in done.items()))
