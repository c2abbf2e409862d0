"""What `unit_choice` found, in plain words: the verdict, its reason, and two tables.

>>> from labelwise.study.unit_choice import Evidence, Prices, choose, exact
>>> evidence = Evidence(exact(14.0), exact(0.71), exact(0.68), exact(0.75), 1.0, exact(0.25))
>>> prices = Prices(inspect=7.8, draw=7.0, hit=9.0, miss=2.0)
>>> print("\\n".join(sentences(Found(evidence, prices), choose(evidence, prices))))
Ask whole images: 14.0 objects an image, so that a second of labelling brings 0.13 boxes by image and 0.10 by box, and \
the pseudo boxes miss 29 % of the objects that nobody drew; 32 % of the pseudo boxes are false.
Counted in boxes: image; in questions: image.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field

from labelwise.report.tables import Table
from labelwise.report.wording import DASH, join_words, plural
from labelwise.study.unit_choice import Choice, Estimate, Evidence, Prices, Rate

FEW = 20
"""Observations below which a share is called little known."""
EXPECTED = (
    "Expected, and not measured: which box is asked (a rare class, a hard one) is not counted; "
    "`labelwise compare DATA --units` measures that."
)


@dataclass(frozen=True, slots=True)
class Found:
    """Evidence and prices, with what the text names beside them.

    `sources`: where objects, recall, precision and hit rate were seen. `hits_by_round`: hit rate of every round that
    asked boxes. `empty`: share of images without an object. `size`: median side of an object over that of its image.
    `frames`: of a clip, and `alike`: share of images with a near-duplicate; None where that is not known.
    """

    evidence: Evidence
    prices: Prices
    sources: dict[str, str] = field(default_factory=dict)
    hits_by_round: dict[int, Estimate] = field(default_factory=dict)
    empty: Estimate = field(default_factory=lambda: Estimate(math.nan, 0.0, 1.0, 0))
    size: float = math.nan
    frames: float | None = None
    alike: float | None = None


def sentences(found: Found, choice: Choice) -> list[str]:
    """The verdict by seconds with its reason; what boxes and questions say; what is little known."""
    image, _, box = choice.rates
    evidence, best = found.evidence, choice.best["seconds"]
    objects = f"{number(evidence.objects.value)} objects an image"
    rates = (
        f"a second of labelling brings {image.per_1000_s.value / 1000:.2f} boxes by image and "
        f"{box.per_1000_s.value / 1000:.2f} by box"
    )
    pseudo = f"the pseudo boxes miss {percent(1 - evidence.recall.value)} of the objects that nobody drew"
    pseudo += f"; {percent(1 - evidence.precision.value)} of the pseudo boxes are false"
    if best is None:
        first = f"It cannot be told which unit pays: {objects}, {rates}; {pseudo}. {_why_not(choice)}"
    else:
        pays = next(rate for rate in choice.rates if rate.unit == best)
        first = f"Ask {pays.plural}: {objects}, so that {rates}, and {pseudo}."
    said = {counted: choice.best[counted] or "cannot be told" for counted in ("boxes", "questions")}
    lines = [first, f"Counted in boxes: {said['boxes']}; in questions: {said['questions']}."]
    return lines + _doubts(found) + _redundant(found)


def _why_not(choice: Choice) -> str:
    """The two units that are closest."""
    first, second = sorted(choice.rates, key=lambda rate: -rate.net.value)[:2]
    return (
        f"Less the errors that stay in their images, {first.plural} bring {interval(first.net)} boxes per 1,000 s "
        f"and {second.plural} {interval(second.net)}: the intervals allow either."
    )


def _doubts(found: Found) -> list[str]:
    e = found.evidence
    known = {"objects an image": e.objects, "recall": e.recall, "precision": e.precision, "hit rate": e.hit_rate}
    nothing = [name for name, one in known.items() if not math.isfinite(one.value)]
    few = [f"{name} ({one.n})" for name, one in known.items() if math.isfinite(one.value) and 0 < one.n < FEW]
    lines = [f"Not seen so far: {join_words(nothing)}; anything that is possible was assumed."] if nothing else []
    if "answers to boxes" in found.sources.get("precision", ""):
        lines.append(
            "Recall and precision are of answers to boxes; held against the truth once (bccd), they were 12 to 16 "
            "points too high. An image that is looked over tells them better."
        )
    if few and found.sources:
        lines.append(
            f"Few observations: {join_words(few)}. The intervals say what that means; ask again after a round."
        )
    return lines


def _redundant(found: Found) -> list[str]:
    said = []
    if found.frames is not None:
        said.append(f"a clip has {found.frames:.0f} frames")
    if found.alike is not None:
        said.append(f"{percent(found.alike)} of the images have a near-duplicate")
    if not said:
        return []
    return [f"The pool may repeat itself: {' and '.join(said)}. Whole images of one scene teach little that is new."]


def units_table(choice: Choice) -> Table:
    """Boxes, questions and seconds of every unit."""
    heads = ["Unit", "Boxes a question", "Seconds a question", "Boxes in 1,000 s", "Questions in 1,000 s"]
    heads += ["Unknown", "Errors a box", "Net in 1,000 s"]
    note = (
        "Clean boxes, [95 % interval]. Unknown: objects of a touched image that nobody drew. Errors: those of them "
        "that the pseudo boxes miss, and false pseudo boxes, per clean box. Net: clean boxes less errors, of which one "
        "undoes between none and all of a box."
    )
    return Table("What each unit brings", heads, [_row(rate) for rate in choice.rates], note)


def _row(rate: Rate) -> list[str]:
    cells = [rate.unit, number(rate.boxes), number(rate.seconds), interval(rate.per_1000_s)]
    questions = 1000 / rate.seconds if rate.seconds > 0 else math.nan
    return [*cells, number(questions), number(rate.unknown), number(rate.errors), interval(rate.net)]


def evidence_table(found: Found) -> Table:
    """What the answers show, and where they show it."""
    e, at = found.evidence, found.sources
    rows = [
        ["Objects an image", interval(e.objects), at.get("objects", "")],
        ["Images without an object", interval(found.empty, 100), "the same images"],
        ["Side of an object over that of its image", number(found.size), "median of the annotated objects"],
        ["Recall of the pseudo boxes", interval(e.recall, 100), at.get("recall", "")],
        ["Precision of the pseudo boxes", interval(e.precision, 100), at.get("precision", "")],
        ["Hit rate of box questions", interval(e.hit_rate, 100), at.get("hit_rate", "")],
    ]
    rows += [
        [f"- round {number_}", interval(one, 100), plural(one.n, "question")]
        for number_, one in sorted(found.hits_by_round.items())
    ]
    p = found.prices
    paid = f"{number(p.inspect)} s to look, {number(p.draw)} s a box drawn, "
    paid += f"{number(p.hit)} s a hit, {number(p.miss)} s a miss"
    rows.append(["Prices", paid, "answers so far, else the table `cost`"])
    return Table("What the answers show", ["", "Value [95 % interval]", "Seen in"], rows, text=True)


def number(value: float) -> str:
    """A figure with three digits; a dash where there is none.

    >>> number(14.25), number(0.1234), number(1234.5), number(math.nan), number(math.inf), number(0.0)
    ('14.2', '0.12', '1,234', '–', '∞', '0.0')
    """
    if math.isnan(value):
        return DASH
    if math.isinf(value):
        return "\N{INFINITY}" if value > 0 else "\N{MINUS SIGN}\N{INFINITY}"
    text = f"{value:,.0f}" if abs(value) >= 100 else f"{value:.2f}" if 0 < abs(value) < 1 else f"{value:.1f}"
    return text.replace("-", "\N{MINUS SIGN}")


def percent(share: float) -> str:
    """A share in per cent.

    >>> percent(0.29), percent(math.nan)
    ('29 %', 'an unknown share')
    """
    return f"{100 * share:.0f} %" if math.isfinite(share) else "an unknown share"


def interval(estimate: Estimate, factor: float = 1) -> str:
    """A value with its interval; a factor of 100 makes per cent of a share.

    >>> interval(Estimate(0.5, 0.25, 1.0, 8), 100), interval(Estimate(math.nan, 0.0, 1.0, 0), 100)
    ('50 % [25, 100]', '– [0, 100]')
    """
    if factor == 1:
        return f"{number(estimate.value)} [{number(estimate.low)}, {number(estimate.high)}]"
    value = DASH if math.isnan(estimate.value) else f"{factor * estimate.value:.0f} %"
    return f"{value} [{factor * estimate.low:.0f}, {factor * estimate.high:.0f}]"
