"""The data card of an exported training set: what was asked, by which rule, class counts, cost, limits."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from labelwise.types import Answer, Cost, Query


@dataclass(frozen=True, slots=True)
class Card:
    """All that a card says.

    `rule`: settings of the run by their name. `answers`: every answered query with the answer that counts. `classes`:
    of every class, its boxes in images looked at as a whole, and in the others. `images`: how many were looked at as a
    whole, in part, and not at all. `files`: what each file of the export is. `given`: images that came with labels,
    their boxes, and how many of these images came wholly labelled.
    """

    name: str
    project: str
    rule: Mapping[str, str]
    answers: Sequence[tuple[Query, Answer]]
    cost_by_round: Mapping[int, Cost]
    classes: Mapping[str, tuple[int, int]]
    images: tuple[int, int, int]
    files: Mapping[str, str]
    given: tuple[int, int, int] = (0, 0, 0)


def text(card: Card) -> str:
    """The card as Markdown."""
    whole, part, unseen = card.images
    parts = [
        f"# Data card: {_plain(card.name)}",
        f"Exported by labelwise from the project `{card.project}`.",
        "## What is in it",
        _table(("file", "what it is"), [(f"`{k}`", _plain(v)) for k, v in card.files.items()]),
        f"Of {whole + part + unseen} images of the pool {whole} were looked at as a whole, {part} in part (boxes or "
        f"regions were asked), {unseen} not at all. An image that nobody looked at is in no file: that an image is "
        "missing here says nothing about what it shows.",
        "## What was asked",
        _table(("round", "unit", "queries answered", "verdicts", "boxes", "minutes"), _rounds(card)),
        *_given(card),
        "## By which rule",
        _table(("setting", "value"), [(_plain(k), _plain(v)) for k, v in card.rule.items()]),
        "## Classes",
        _table(
            ("class", "boxes in images looked at as a whole", "boxes in images looked at in part"),
            [(_plain(name), str(a), str(b)) for name, (a, b) in card.classes.items()],
        ),
        "## Cost",
        _cost(card),
        "## Who answered",
        _table(("who", "answers"), [(_plain(who), str(n)) for who, n in _people(card).most_common()]),
        "## Beware",
        _beware(card),
    ]
    return "\n\n".join(parts) + "\n"


def _rounds(card: Card) -> list[tuple[str, ...]]:
    rows: list[tuple[str, ...]] = []
    for round_number in sorted(set(card.cost_by_round) | {query.round for query, _ in card.answers}):
        here = [(query, answer) for query, answer in card.answers if query.round == round_number]
        units = ", ".join(sorted({query.unit for query, _ in here}))
        verdicts = ", ".join(f"{n} {v}" for v, n in Counter(answer.verdict for _, answer in here).most_common())
        cost = card.cost_by_round.get(round_number, Cost())
        rows.append((str(round_number), units, str(len(here)), verdicts, str(cost.boxes), f"{cost.seconds / 60:.1f}"))
    return rows


def _given(card: Card) -> list[str]:
    images, boxes, whole = card.given
    if not images:
        return []
    return [
        f"Before the first question {images} images came with {boxes} boxes (origin `given`, round -1), {whole} of "
        "them as wholly labelled. They cost nothing here; who made them and by which rule, this project does not know."
    ]


def _people(card: Card) -> Counter[str]:
    return Counter(answer.who for _, answer in card.answers)


def _cost(card: Card) -> str:
    spent = card.cost_by_round.values()
    return (
        f"{sum(c.boxes for c in spent)} boxes, {sum(c.queries for c in spent)} queries, {sum(c.images for c in spent)} "
        f"whole images, {sum(c.seconds for c in spent) / 3600:.2f} hours. Second opinions count as queries and hours. "
        "Hours are measured where the tool measures them, else counted by the cost table of the run."
    )


def _beware(card: Card) -> str:
    skipped = sum(answer.verdict == "skipped" for _, answer in card.answers)
    lines = [
        "- The images were chosen by the rule above, not at random: their class counts are no estimate of how frequent "
        "a class is, and a score measured on them is none of the score on the whole pool.",
        "- Outside the `coverage` of an image nobody looked; treating that as background teaches a detector to miss "
        "objects.",
    ]
    if skipped:
        lines.append(f"- {skipped} queries were skipped: nothing is known there.")
    if "oracle" in _people(card):
        lines.append("- Answers by `oracle` are simulated from existing annotations, not given by a person.")
    return "\n".join(lines)


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    if not rows:
        return "Nothing."
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def _plain(text: str) -> str:
    """Text that stays in its cell and is no markup."""
    flat = " ".join(text.split())
    return "".join(f"\\{c}" if c in "|`*_[]<>\\" else c for c in flat)
