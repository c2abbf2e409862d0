"""Queries for tools that know boxes with attributes and nothing else: CVAT, COCO, FiftyOne (machinery of those files).

Every query is a box: a candidate with its class, or the asked region (the whole image, for an image query) with the
label `labelwise_region`. Three attributes carry the rest. `query` is the reference. `answer` is `open` until somebody
says accept, reject, duplicate, skip or complete; `known` marks boxes annotated before, `new` is what a box is that a
person draws, and `suggested` what the model found: it is no object until somebody says `accept`. `fix_class` names
another class, for tools that drop attributes when the label of a box is changed.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import cast

from labelwise import units
from labelwise.exchange._geometry import BoxTuple, crop, inside
from labelwise.exchange._questions import (
    REGION,
    Suggested,
    asks_one,
    buttons,
    check_queries,
    has_rectangle,
    known_on,
    n_boxes,
    query_id,
    reference,
    size_of,
)
from labelwise.exchange._reader import AnswerReader, shown
from labelwise.types import Answer, Boxes, LabelwiseError, Pool, Problem, Query

OPEN, KNOWN, NEW, SUGGESTED = "open", "known", "new", "suggested"
ATTRIBUTES = ("query", "answer", "fix_class")


CANNOT_CARRY = (
    "classes of whole images (use Label Studio or JSON)",
    "who answered and in how many seconds: give --who; the cost table counts the time",
    "why something was skipped",
    "the score and its parts",
)
"""What a file of boxes with attributes does not hold, whatever the tool."""


@dataclass(frozen=True, slots=True)
class Shape:
    """A box of a file; `box` is as the file says it, so it may be anything when it comes back.

    `size`: width and height of the image by the file, None where it is silent.
    """

    image: str
    label: str
    box: object
    query: str = ""
    answer: str = NEW
    fix_class: str = ""
    where: str = ""
    size: tuple[object, object] | None = None

    @property
    def corners(self) -> BoxTuple:
        """The box of a shape that we made."""
        return cast(BoxTuple, self.box)

    @property
    def source(self) -> str:
        """Who made it, as CVAT says it."""
        return "auto" if self.answer == SUGGESTED else "manual"

    @property
    def attributes(self) -> dict[str, str]:
        return {name: getattr(self, name) for name in ATTRIBUTES}


def words(queries: Sequence[Query], *more: str) -> list[str]:
    """What the attribute `answer` may be: the buttons of every unit, those that stand for a skipped query last.

    >>> words([])
    ['new', 'open', 'accept', 'reject', 'duplicate', 'complete', 'skip', 'known']
    """
    every = [units.find(name).VERDICTS for name in dict.fromkeys([*units.names(), *(q.unit for q in queries)])]
    skips = [of[units.SKIPPED].button for of in every]
    answers = [meaning.button for of in every for verdict, meaning in of.items() if verdict != units.SKIPPED]
    return [*dict.fromkeys((NEW, OPEN, *answers, *skips, KNOWN, *more))]


def refuse_classes(one_class: bool, name: str) -> None:
    """An image that is asked for its class alone has no box, and these files hold nothing else."""
    if one_class:
        raise LabelwiseError(f"{name} files cannot carry the class of a whole image; take label_studio or json")


def shapes(queries: Sequence[Query], pool: Pool, known: Boxes | None, project: str, tool: str) -> list[Shape]:
    """What to show: boxes annotated before, then the questions; image by image in the order of the queries."""
    check_queries(queries, pool, tool)
    sizes, made, asked = size_of(pool), [], dict[str, list[Query]]()
    for query in queries:
        asked.setdefault(query.image, []).append(query)
    for image, boxes in known_on(pool, known, asked).items():
        made += [Shape(image, pool.classes[label], box, answer=KNOWN) for box, label in boxes]
        for query in asked[image]:
            label = pool.classes[query.label] if asks_one(query) and query.label is not None else REGION
            box = inside(query.box or (0, 0, *sizes[image]), sizes[image])
            made.append(Shape(image, label, box, reference(project, query, len(pool.classes)), OPEN))
    return made


def suggestions(queries: Sequence[Query], pool: Pool, suggested: Mapping[int, Suggested]) -> list[Shape]:
    """What the model found where everything is asked for, as boxes that are no objects yet."""
    return [
        Shape(query.image, pool.classes[label], box, answer=SUGGESTED)
        for query in queries
        for box, label, _ in suggested.get(query.id or 0, ())
    ]


def answers(
    given: Sequence[Shape], reader: AnswerReader, who: str, images: Collection[str], unanswered: Collection[int] | None
) -> tuple[list[Answer], list[Problem]]:
    """The answers that lie in the boxes of a file, and all that is wrong with them.

    `images`: those that the file shows. An unanswered query (its id is in `unanswered`) about one object on one of
    them, of a round that the file asks about, whose box is gone, was deleted: there is no object. Any other whose box
    is gone stays open, and is told.
    """
    found: list[Answer] = []
    new: dict[str, list[Shape]] = {}
    undecided: dict[str, list[Shape]] = {}
    areas: list[tuple[Query, Shape]] = []
    places: dict[int | None, str] = {}
    name_of = _names(given, reader, images)
    given = [replace(shape, image=name_of.get(shape.image, shape.image)) for shape in given]
    other = {shape.image: shape for shape in given if _of_another_size(reader, shape)}
    for image, shape in other.items():
        what = f"{image} was shown as {shown(shape.size)} pixels; it has {reader.sizes[image]}"
        reader.problem("another image", shape.where, what)
    for shape in given:
        if shape.image in other:
            continue
        if not shape.query:
            if shape.answer != KNOWN:
                (undecided if shape.answer == SUGGESTED else new).setdefault(shape.image, []).append(shape)
            continue
        query = reader.query(shape.query, shape.where)
        if query is None:
            continue
        if places.setdefault(query.id, shape.where) != shape.where:
            reader.problem("duplicate id", shape.where, f"query {query.id} stands in {places[query.id]} too")
            continue
        answer = _query_of(reader, query, shape, areas, who)
        found += [] if answer is None else [answer]
    for query, shape in sorted(areas, key=lambda pair: pair[0].id or 0):
        waiting = _left_suggested(reader, query, undecided.get(query.image, []))
        if waiting:
            what = f"{waiting} boxes of query {query.id} are still suggestions: accept or delete them"
            reader.unfinished(shape.where, what)
            new.pop(query.image, None)
            continue
        answer = _area(reader, query, shape, new.get(query.image, []), who)
        found += [] if answer is None else [answer]
    for shape in (one for left in new.values() for one in left):
        reader.problem(
            "not asked", shape.where, f"a box on {shape.image} where no answered query covers it", "left out"
        )
    showing = {name_of.get(image, image) for image in images} - other.keys()
    found += _deleted(reader, places, showing, unanswered or (), who)
    return found, reader.problems


def _left_suggested(reader: AnswerReader, query: Query, undecided: Sequence[Shape]) -> int:
    """How many suggestions of a query nobody has decided on."""
    boxes = [reader.box(shape.box, query.image, shape.where) for shape in undecided]
    area = reader.asked_box(query)
    return sum(box is not None and (not has_rectangle(query) or crop(box, area) is not None) for box in boxes)


def _names(given: Sequence[Shape], reader: AnswerReader, images: Collection[str]) -> dict[str, str]:
    """The image of the pool that a file means by another name: that of the queries which stand on it, where the last
    part of both names is the same (tools show images without their folders, or below one of their own).
    """
    found: dict[str, set[str]] = {}
    for shape in given:
        query = reader.queries.get(query_id(shape.query)) if shape.image not in reader.sizes else None
        if query is not None and query.image not in images and last_part(query.image) == last_part(shape.image):
            found.setdefault(shape.image, set()).add(query.image)
    return {name: meant.pop() for name, meant in found.items() if len(meant) == 1}


def last_part(name: str) -> str:
    """A name without its folders."""
    return name.replace("\\", "/").rpartition("/")[2]


def _deleted(
    reader: AnswerReader, there: Collection[int | None], images: Collection[str], unanswered: Collection[int], who: str
) -> list[Answer]:
    """The answers of the questions whose box was deleted."""
    rounds = {reader.queries[number].round for number in there if number is not None}
    sent = min(reader.n_classes.values(), default=len(reader.classes))
    found = []
    for number in sorted(set(unanswered) - set(there)):
        query = reader.queries.get(number)
        if query is None or query.round not in rounds or query.image not in images:
            continue
        verdict, where = reader.no_object(query) if asks_one(query) else None, f"image {query.image}"
        if verdict is None:
            reader.unfinished(where, f"the box that asks query {number} is gone")
            continue
        reader.n_classes[number] = sent
        reader.deleted(query, where)
        answer = reader.answer(query, verdict, where, who=who)
        found += [] if answer is None else [answer]
    return found


def _of_another_size(reader: AnswerReader, shape: Shape) -> bool:
    return shape.size is not None and reader.sizes.get(shape.image, shape.size) != shape.size


def _query_of(
    reader: AnswerReader, query: Query, shape: Shape, areas: list[tuple[Query, Shape]], who: str
) -> Answer | None:
    """The answer of a box that is a question; of an area that is complete, a note in `areas`."""
    words, where = buttons(query), shape.where
    if shape.image != query.image:
        reader.problem(
            "edited by hand", where, f"query {query.id} is on {query.image}; it stands on {shown(shape.image)}"
        )
        return None
    if shape.answer not in words:
        reader.unfinished(
            where, f"query {query.id}: answer is {shown(shape.answer)!r}; expected one of {', '.join(words)}"
        )
        return None
    if not asks_one(query):
        box = reader.box(shape.box, query.image, where)
        if box is None:
            return None
        if shape.label != REGION or not reader.unchanged(query, box):
            reader.problem("edited by hand", where, f"the region of query {query.id} was moved, or has another label")
            return None
    verdict = words[shape.answer]
    if n_boxes(query, verdict) == "any":
        areas.append((query, shape))
        return None
    if n_boxes(query, verdict) == "none":
        return reader.answer(query, verdict, where, who=who)
    box, label = reader.box(shape.box, query.image, where), reader.label(shape.fix_class or shape.label, where)
    return None if box is None or label is None else reader.one_object(query, verdict, box, label, where, who=who)


def _area(reader: AnswerReader, query: Query, area: Shape, new: list[Shape], who: str) -> Answer | None:
    """The answer of a completed region or image: the new boxes in it, which are taken out of `new`."""
    objects: list[tuple[BoxTuple, int, str]] = []
    sound = True
    for shape in list(new):
        box = reader.box(shape.box, query.image, shape.where)
        if box is not None and has_rectangle(query) and crop(box, reader.asked_box(query)) is None:
            continue
        new.remove(shape)
        label = reader.label(shape.fix_class or shape.label, shape.where)
        if box is None or label is None:
            sound = False
        else:
            objects.append((box, label, shape.where))
    return reader.all_objects(query, buttons(query)[area.answer], objects, area.where, who=who) if sound else None
