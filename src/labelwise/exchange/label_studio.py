"""Label Studio: one task per query, answered by explicit choices (tested with the community server 1.23.2).

A *box* query is a task with the candidate and, read-only, the boxes that were annotated before; the answer is accept,
reject, duplicate or skip, and the class is that of the box. A *region* query darkens all but the region (a box over the
region itself would catch the mouse, and nothing could be drawn there). A region and an *image* are answered by the
choice "complete", without which nothing counts as looked at. A *classification* query is answered by the class. Label
Studio's own skip button skips.

Label Studio takes boxes outside the image and unknown classes without a word, so `tasks` checks before anything is
sent. Its coordinates are percentages of the image; they come back without drift (tests: below 0.01 px).

Fails when: tasks and configuration are of different units (one Label Studio project holds one unit), or the export is
JSON-MIN, CSV or COCO: those lose what ties a box to its query. Export as JSON.
"""

from __future__ import annotations

import xml.etree.ElementTree as ET
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any
from urllib.parse import quote

from labelwise.exchange._geometry import BoxTuple, inside
from labelwise.exchange._label_studio import Annotation, around
from labelwise.exchange._questions import (
    REGION,
    Suggested,
    asks_class,
    asks_one,
    asks_part,
    buttons,
    check_queries,
    known_on,
    reference,
    size_of,
)
from labelwise.exchange._reader import AnswerReader, begins, parse, shown
from labelwise.types import Answer, Boxes, LabelwiseError, Pool, Problem, Query
from labelwise.types.disk import to_json
from labelwise.units import SKIPPED

CANNOT_CARRY = (
    "the parts of a score: they stand in the task's data, but Label Studio cannot sort by them",
    "what people change in the labelling configuration: an import refuses answers that do not fit it",
    "suggestions of a confidence below 0.5: what is sent is submitted unless somebody deletes it",
)
LOCAL_FILES = "/data/local-files/?d={name}"

_CLASS = "class"
"""The kind of task that asks an image for its class alone; any other kind is the unit of its query."""
_HOTKEYS = {"accept": "a", "complete": "a", "reject": "x", "duplicate": "d", "skip": "s"}
_ASK = {
    "box": "Is this box one object? Mend its edges or its class if need be, then accept. The other boxes are done.",
    "region": "Draw every object of the bright part that has no box yet, then choose complete.",
    "image": "Draw every object of the image that has no box yet, then choose complete.",
    _CLASS: "Which class is this image of?",
}
"""The words above the image; a unit that has none here is asked by the words of its buttons."""
_COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#7f3c8d", "#5c4033", "#000000")


def detect(content: bytes) -> bool:
    """A JSON list."""
    return begins(content, b"[")


def write(
    queries: Sequence[Query],
    pool: Pool,
    project: str,
    known: Boxes | None = None,
    one_class: bool = False,
    suggested: Mapping[int, Suggested] | None = None,
    *,
    image_url: str = LOCAL_FILES,
) -> dict[str, bytes]:
    """The labelling configuration and the tasks to import; the parameters are those of `tasks`."""
    how = {"project": project, "image_url": image_url}
    made = tasks(queries, pool, known, one_class=one_class, suggested=suggested or {}, **how)
    view = config(queries, pool, one_class=one_class)
    return {"config.xml": view.encode(), "tasks.json": to_json(made, 1).encode()}


def config(queries: Sequence[Query], pool: Pool, *, one_class: bool = False) -> str:
    """The labelling configuration (XML) for queries of one unit; `one_class`: an image is asked for its class alone."""
    kind = _kind(queries, one_class)
    view = ET.Element("View")
    ET.SubElement(view, "Header", value="$ask", size="5")
    choice = {"toName": "image", "choice": "single", "showInline": "true"}
    if kind == _CLASS:
        classes = ET.SubElement(view, "Choices", {"name": "class", **choice})
        for number, name in enumerate(pool.classes):
            ET.SubElement(classes, "Choice", {"value": name, **_hotkey(number)})
    verdicts = ET.SubElement(view, "Choices", {"name": "verdict", **choice})
    for word in _words(queries, kind):
        ET.SubElement(verdicts, "Choice", {"value": word} | ({"hotkey": _HOTKEYS[word]} if word in _HOTKEYS else {}))
    if kind != _CLASS:
        labels = ET.SubElement(view, "RectangleLabels", name="object", toName="image", canRotate="false")
        for number, name in enumerate(pool.classes):
            colour = _COLOURS[number % len(_COLOURS)]
            ET.SubElement(labels, "Label", {"value": name, "background": colour, **_hotkey(number)})
    if any(map(asks_part, queries)):
        ET.SubElement(labels, "Label", value=REGION, background="#000000")
    ET.SubElement(view, "Image", name="image", value="$image", zoom="true", zoomControl="true", rotateControl="false")
    ET.SubElement(view, "TextArea", name="note", toName="image", placeholder="a remark; why, if skipped", rows="1")
    ET.indent(view)
    return ET.tostring(view, encoding="unicode")


def tasks(
    queries: Sequence[Query],
    pool: Pool,
    known: Boxes | None = None,
    *,
    project: str,
    one_class: bool = False,
    suggested: Mapping[int, Suggested] = MappingProxyType({}),
    image_url: str = LOCAL_FILES,
) -> list[dict[str, Any]]:
    """The tasks to import, in the order of the queries.

    Args:
        queries: questions of one unit, with their ids.
        pool: their images and classes.
        known: boxes annotated before, shown read-only.
        project: the project's id; it comes back with the answers.
        one_class: classification.
        suggested: per query id what the model found: it stands in the prediction, with its confidence, and an
            annotation begins with it.
        image_url: where Label Studio finds an image; `{name}` is its name in the pool, quoted for a URL.
    """
    check_queries(queries, pool, "Label Studio")
    kind = _kind(queries, one_class)
    if "{name}" not in image_url:
        raise LabelwiseError(f"image_url is {image_url!r}; expected {{name}} in it, for example {LOCAL_FILES}")
    context, sizes, made = known_on(pool, known, [q.image for q in queries]), size_of(pool), []
    for query in queries:
        before = [] if kind == _CLASS else context[query.image]
        data = _data(query, pool, project, kind) | {
            "image": image_url.replace("{name}", quote(query.image)),
            "ask": _ASK.get(kind) or f"Choose: {', '.join(_words(queries, kind))}.",
            "known": [[*box, pool.classes[label]] for box, label in before],
            "score": query.score,
            "rank": query.rank,
            "reason": dict(query.reason),
        }
        offered = [] if kind == _CLASS else list(suggested.get(query.id or 0, ()))
        if offered:
            data["suggested"] = [[*box, pool.classes[label], sure] for box, label, sure in offered]
        size = sizes[query.image]
        result = [_region(f"c-{k}", box, size, pool.classes[c], readonly=True) for k, (box, c) in enumerate(before)]
        if asks_part(query) and query.box is not None:
            for k, rest in enumerate(around(inside(query.box, size), size)):
                if rest is not None:
                    result.append(_region(f"r-{query.id}-{k}", rest, size, REGION, readonly=True))
        if asks_one(query) and query.box is not None and query.label is not None:
            result.append(_region(f"q-{query.id}", inside(query.box, size), size, pool.classes[query.label]))
        for k, (box, label, sure) in enumerate(offered):
            result.append(_region(f"s-{query.id}-{k}", box, size, pool.classes[label]) | {"score": sure})
        prediction: dict[str, Any] = {"model_version": version(query), "result": result}
        if offered:
            prediction["score"] = round(sum(sure for _, _, sure in offered) / len(offered), 3)
        made.append({"data": data, "predictions": [prediction] if result else []})
    return made


def version(query: Query) -> str:
    """The model that the predictions of a query come from, as Label Studio names it."""
    return f"labelwise, round {query.round}"


def read(
    content: bytes,
    queries: Sequence[Query],
    pool: Pool,
    project: str,
    one_class: bool = False,
    *,
    unfinished: bool = False,
    rename: Mapping[str, str] | None = None,
) -> tuple[list[Answer], list[Problem]]:
    """The answers in a JSON export (the task list of the REST interface is one, too), and all that is wrong in it.

    `unfinished`: queries without a finished answer stay open; else each is a problem that refuses the file.
    """
    listed = parse(content, "the Label Studio export")
    if not isinstance(listed, list):
        raise LabelwiseError(
            f"the Label Studio export is a {type(listed).__name__}; expected a list: export it as JSON"
        )
    reader = AnswerReader.of(queries, pool, project, unfinished, rename)
    found: list[Answer] = []
    places: dict[int, str] = {}
    for number, task in enumerate(listed, start=1):
        where = f"task {shown(task.get('id', '?'))} (entry {number})" if isinstance(task, dict) else f"entry {number}"
        query = _query_of(task, reader, pool, where, one_class)
        if query is None or query.id is None:
            continue
        if places.setdefault(query.id, where) != where:
            reader.problem("duplicate id", where, f"query {query.id} stands in {places[query.id]} too")
            continue
        given = task.get("annotations")
        if not isinstance(given, list) or not all(isinstance(one, dict) for one in given):
            reader.problem("no annotations", where, "expected the list `annotations`; export as JSON, not JSON-MIN")
        elif not given:
            draft = " (a draft is there: submit it)" if task.get("drafts") else ""
            reader.unfinished(where, f"nobody has answered query {query.id}{draft}")
        else:
            found += _answers(reader, query, task["data"], given, where, one_class)
    return found, reader.problems


def _answers(
    reader: AnswerReader, query: Query, data: dict[str, Any], given: list[dict[str, Any]], where: str, one_class: bool
) -> list[Answer]:
    """What everybody answered to one task. A skip beside somebody's annotation is no answer."""
    found, real = [], any(raw.get("was_cancelled") is not True for raw in given)
    for k, raw in enumerate(given, start=1):
        one = Annotation(reader, query, data, raw, where if len(given) == 1 else f"{where}, annotation {k}")
        if raw.get("was_cancelled") is not True:
            found.append(one.answer(one_class))
        elif real:
            what = f"query {query.id} was skipped, and annotated by somebody"
            reader.problem("skip beside an answer", one.where, what, "left out")
        else:
            found.append(one.skip())
    return [answer for answer in found if answer is not None]


def _kind(queries: Sequence[Query], one_class: bool) -> str:
    """What all these tasks ask."""
    kinds = sorted({_CLASS if asks_class(query, one_class) else query.unit for query in queries})
    if len(kinds) > 1:
        raise LabelwiseError(f"queries of {', '.join(kinds)} in one Label Studio project; send one unit at a time")
    return kinds[0] if kinds else ""


def _words(queries: Sequence[Query], kind: str) -> list[str]:
    """The buttons below an image; beside the classes there is but that to skip."""
    every = {word: verdict for query in queries for word, verdict in buttons(query).items()}
    return [word for word, verdict in every.items() if kind != _CLASS or verdict == SKIPPED]


def _hotkey(number: int) -> dict[str, str]:
    return {"hotkey": str(number + 1)} if number < 9 else {}


def _data(query: Query, pool: Pool, project: str, kind: str) -> dict[str, Any]:
    """What identifies the question; an import refuses a task in which it was changed."""
    box = None if query.box is None else [float(v) for v in query.box]
    return {"labelwise": reference(project, query, len(pool.classes)), "name": query.image, "unit": kind, "box": box}


def _region(name: str, box: BoxTuple, size: tuple[int, int], label: str, *, readonly: bool = False) -> dict[str, Any]:
    """A rectangle as Label Studio writes it: percentages of the image."""
    (x1, y1, x2, y2), (width, height) = box, size
    value = {"x": 100 * x1 / width, "y": 100 * y1 / height, "rotation": 0, "rectanglelabels": [label]}
    value |= {"width": 100 * (x2 - x1) / width, "height": 100 * (y2 - y1) / height}
    made: dict[str, Any] = {
        "id": name,
        "type": "rectanglelabels",
        "from_name": "object",
        "to_name": "image",
        "value": value,
    }
    made |= {"readonly": readonly, "image_rotation": 0}
    return made | {"original_width": width, "original_height": height}


def _query_of(task: Any, reader: AnswerReader, pool: Pool, where: str, one_class: bool) -> Query | None:
    """The query of a task whose data is as it was sent."""
    data = task.get("data") if isinstance(task, dict) else None
    if not isinstance(data, dict):
        reader.problem("no task", where, f"{shown(task)}; expected a task with `data`: export as JSON, not JSON-MIN")
        return None
    query = reader.query(data.get("labelwise"), where)
    if query is None:
        return None
    sent = _data(query, pool, reader.project, _CLASS if asks_class(query, one_class) else query.unit)
    for key, value in sent.items():
        if key != "labelwise" and data.get(key) != value:
            reader.problem("edited by hand", where, f"data.{key} is {shown(data.get(key))}; it was sent as {value}")
            return None
    return query
