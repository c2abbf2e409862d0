"""Queries on their way to a tool: the reference that finds each again, the checks before sending, what is known.

A tool gets queries as its own kind of task, each with a *reference* that holds the project, the query's id and a check
sum of the question.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Sequence

from labelwise import units
from labelwise.exchange._geometry import BoxTuple, fits, inside
from labelwise.types import Boxes, LabelwiseError, Pool, Query

REGION = "labelwise_region"
"""The label of a box that is no object but the asked region (or the whole image)."""


Suggested = Sequence[tuple[BoxTuple, int, float]]
"""Boxes that a model suggests for a query, each with its class and the confidence."""


def has_rectangle(query: Query) -> bool:
    """Whether it asks about a rectangle of its image, not about all of it."""
    return units.find(query.unit).RECTANGLE


def asks_one(query: Query) -> bool:
    """Whether it asks about one object."""
    return units.find(query.unit).CLASS


def asks_part(query: Query) -> bool:
    """Whether it asks for everything in a part of its image."""
    return has_rectangle(query) and not asks_one(query)


def buttons(query: Query) -> dict[str, str]:
    """The words on a tool's buttons for this query, each with its verdict.

    >>> buttons(Query(round=1, rank=0, image="a.jpg", unit="image"))
    {'complete': 'all', 'skip': 'skipped'}
    """
    return {meaning.button: verdict for verdict, meaning in units.find(query.unit).VERDICTS.items()}


def n_boxes(query: Query, verdict: str) -> str:
    """How many objects go with a verdict: "none", "one" or "any"."""
    return units.find(query.unit).VERDICTS[verdict].boxes


def asks_class(query: Query, one_class: bool) -> bool:
    """Whether, where every image has one class (`one_class`), it asks for that."""
    return one_class and units.find(query.unit).CLASSIFIES


def reference(project: str, query: Query, n_classes: int) -> str:
    """What a task carries to find its query again, and to tell how many classes there were when it was sent.

    >>> ask = Query(round=1, rank=0, image="a.jpg", unit="image", id=7)
    >>> reference("0123abcd", ask, n_classes=3).rsplit("-", 1)[0]
    '0123abcd-7'
    """
    box = None if query.box is None else [float(v) for v in query.box]
    asked = json.dumps([project, query.id, query.round, query.image, query.unit, box, query.label, n_classes])
    return f"{project}-{query.id}-{hashlib.sha256(asked.encode()).hexdigest()[:12]}"


def query_id(text: str) -> int:
    """The id in a reference; -1 where it is none."""
    number = text.partition("-")[2].partition("-")[0]
    return int(number) if number.isascii() and number.isdigit() and len(number) <= 18 else -1


def size_of(pool: Pool) -> dict[str, tuple[int, int]]:
    """Width and height of every image, by name."""
    return dict(zip(pool.names, zip(pool.width_px.tolist(), pool.height_px.tolist(), strict=True), strict=True))


def known_on(pool: Pool, known: Boxes | None, images: Iterable[str]) -> dict[str, list[tuple[BoxTuple, int]]]:
    """The boxes that were annotated before on these images: context for who is asked."""
    found: dict[str, list[tuple[BoxTuple, int]]] = {name: [] for name in images}
    if known is None:
        return found
    sizes = size_of(pool)
    for number, name in enumerate(pool.names):
        if name in found:
            rows = slice(int(known.offsets[number]), int(known.offsets[number + 1]))
            for box, label in zip(known.xyxy[rows].tolist(), known.labels[rows].tolist(), strict=True):
                found[name].append((inside(box, sizes[name]), label))
    return found


def check_queries(queries: Sequence[Query], pool: Pool, tool: str) -> None:
    """Refuses to send what a tool would take without a word and show wrongly; every fault is named at once.

    Raises:
        LabelwiseError: one line per query without an id, twice in the list, on an image that is gone, with a box
            without area or outside its image, or of an unknown class; a class name that the file cannot hold.
    """
    sizes, seen, faults = size_of(pool), set(), list(_class_faults(pool.classes))
    for query in queries:
        where = f"query {query.id} (round {query.round}, rank {query.rank}, image {query.image})"
        if query.id is None:
            faults.append(f"{where}: it has no id; record it in the ledger first")
        elif query.id in seen:
            faults.append(f"{where}: it is listed twice; expected each query once")
        seen.add(query.id)
        if query.image not in sizes:
            faults.append(f"{where}: the image is no longer in the pool {pool.root}; put it back")
        elif has_rectangle(query) and (query.box is None or not fits(query.box, sizes[query.image])):
            width, height = sizes[query.image]
            faults.append(f"{where}: box {query.box}; expected x1 < x2, y1 < y2 inside {width} x {height} pixels")
        if _unprintable(query.image):
            faults.append(f"{where}: the file name has control characters; rename the file")
        if asks_one(query) and (query.label is None or not 0 <= query.label < len(pool.classes)):
            faults.append(f"{where}: class number {query.label}; expected 0 to {len(pool.classes) - 1}")
    if faults:
        raise LabelwiseError(f"{len(faults)} reasons not to send this to {tool}:\n  " + "\n  ".join(faults))


def _class_faults(classes: Sequence[str]) -> Iterable[str]:
    for name in classes:
        if _unprintable(name) or not name or name != name.strip() or name == REGION:
            yield f"class {name!r}: expected a name of printable characters, without blanks around it, not {REGION}"


def _unprintable(text: str) -> bool:
    return any(ord(c) < 32 or 0xD800 <= ord(c) <= 0xDFFF or c in "\x7f\ufffe\uffff" for c in text)
