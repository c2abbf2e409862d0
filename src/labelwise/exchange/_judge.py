"""What every exchange with a labelling tool shares: references, checks before sending, checks of what comes back.

A tool gets queries as its own kind of task, each with a *reference* that holds the project, the query's id and a check
sum of the question. What comes back is never trusted: each item is judged against the queries and the pool, and what
is wrong becomes a `Problem`. One problem that is `REFUSED` refuses the whole file; any other handling says what was
done about it.
"""

from __future__ import annotations

import difflib
import hashlib
import json
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from labelwise.ask.oracle import IN_REGION
from labelwise.types import Answer, Boxes, LabelwiseError, Pool, Problem, Query, Verdict

BoxTuple = tuple[float, float, float, float]

REFUSED = "refused"
LEFT_OPEN = "left open"
_OF_BOX: Mapping[str, Verdict] = {
    "accept": "object",
    "reject": "background",
    "duplicate": "duplicate",
    "skip": "skipped",
}
_OF_AREA: Mapping[str, Verdict] = {"complete": "all", "skip": "skipped"}
VERDICTS: Mapping[str, Mapping[str, Verdict]] = {"box": _OF_BOX, "region": _OF_AREA, "image": _OF_AREA}
"""The words on a tool's buttons, by the unit of the query."""
REGION = "labelwise_region"
"""The label of a box that is no object but the asked region (or the whole image)."""

SAME_PX = 0.02
"""Up to which difference a box is the one that was sent: tools write pixels with two decimals."""
ROUNDING_PX = 0.05
"""An overhang over the image that is rounding."""
MIN_SIDE_PX = 0.01
"""A thinner box is a slip of the mouse, and none in float32."""
OUTSIDE_PX = 1.0
"""An overhang that the ledger takes; more is a mistake."""
_REFERENCE = re.compile(r"([0-9a-f]{8,64})-([0-9]{1,18})-([0-9a-f]{12})")


def reference(project: str, query: Query, n_classes: int) -> str:
    """What a task carries to find its query again, and to tell how many classes there were when it was sent.

    >>> ask = Query(round=1, rank=0, image="a.jpg", unit="image", id=7)
    >>> reference("0123abcd", ask, n_classes=3).rsplit("-", 1)[0]
    '0123abcd-7'
    """
    box = None if query.box is None else [float(v) for v in query.box]
    asked = json.dumps([project, query.id, query.round, query.image, query.unit, box, query.label, n_classes])
    return f"{project}-{query.id}-{hashlib.sha256(asked.encode()).hexdigest()[:12]}"


def size_of(pool: Pool) -> dict[str, tuple[int, int]]:
    """Width and height of every image, by name."""
    return dict(zip(pool.names, zip(pool.width_px.tolist(), pool.height_px.tolist(), strict=True), strict=True))


def inside(box: Sequence[float], size: tuple[int, int]) -> BoxTuple:
    """A box cut to its image."""
    (x1, y1, x2, y2), (width, height) = map(float, box), size
    return max(x1, 0.0), max(y1, 0.0), min(x2, float(width)), min(y2, float(height))


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
        elif query.unit != "image" and (query.box is None or not _fits(query.box, sizes[query.image])):
            width, height = sizes[query.image]
            faults.append(f"{where}: box {query.box}; expected x1 < x2, y1 < y2 inside {width} x {height} pixels")
        if _unprintable(query.image):
            faults.append(f"{where}: the file name has control characters; rename the file")
        if query.unit == "box" and (query.label is None or not 0 <= query.label < len(pool.classes)):
            faults.append(f"{where}: class number {query.label}; expected 0 to {len(pool.classes) - 1}")
    if faults:
        raise LabelwiseError(f"{len(faults)} reasons not to send this to {tool}:\n  " + "\n  ".join(faults))


def _fits(box: Sequence[float], size: tuple[int, int]) -> bool:
    x1, y1, x2, y2 = box
    most = size[0] + OUTSIDE_PX, size[1] + OUTSIDE_PX
    whole = all(map(math.isfinite, box)) and min(x1, y1) >= -OUTSIDE_PX and x2 <= most[0] and y2 <= most[1]
    cut = inside(box, size)
    return whole and min(cut[2] - cut[0], cut[3] - cut[1]) >= MIN_SIDE_PX


def _class_faults(classes: Sequence[str]) -> Iterable[str]:
    for name in classes:
        if _unprintable(name) or not name or name != name.strip() or name == REGION:
            yield f"class {name!r}: expected a name of printable characters, without blanks around it, not {REGION}"


def _unprintable(text: str) -> bool:
    return any(ord(c) < 32 or 0xD800 <= ord(c) <= 0xDFFF or c in "\x7f\ufffe\uffff" for c in text)


def parsed(content: bytes | str, what: str) -> Any:
    """JSON from a file; NaN and a value twice under one key are errors."""
    try:
        return json.loads(content, parse_constant=_no_number, object_pairs_hook=_no_key_twice)
    except (ValueError, RecursionError) as error:
        raise LabelwiseError(f"{what}: broken JSON ({error}). Export the file again") from error


def _no_number(text: str) -> float:
    raise ValueError(f"{text} is no number")


def _no_key_twice(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        twice = next(key for key, _ in pairs if sum(key == other for other, _ in pairs) > 1)
        raise ValueError(f"the key {twice!r} stands twice in one object")
    return found


@dataclass(frozen=True, slots=True)
class Judge:
    """Judges what comes back, item by item; what is wrong goes to `problems`. None means: it was told there."""

    project: str
    queries: Mapping[int, Query]
    sizes: Mapping[str, tuple[int, int]]
    classes: tuple[str, ...]
    unfinished_handling: str = REFUSED
    problems: list[Problem] = field(default_factory=list)
    places: dict[tuple[int, str], str] = field(default_factory=dict)
    n_classes: dict[int, int] = field(default_factory=dict)
    """How many classes there were when a query was sent."""

    @staticmethod
    def of(queries: Sequence[Query], pool: Pool, project: str, unfinished: bool) -> Judge:
        by_id = {query.id: query for query in queries if query.id is not None}
        return Judge(project, by_id, size_of(pool), pool.classes, LEFT_OPEN if unfinished else REFUSED)

    def tell(self, kind: str, where: str, what: str, handling: str = REFUSED) -> None:
        self.problems.append(Problem(kind, where, what, handling))

    def unfinished(self, where: str, what: str) -> None:
        self.tell("half-finished", where, what, self.unfinished_handling)

    def query(self, text: object, where: str) -> Query | None:
        """The query of a reference."""
        match = _REFERENCE.fullmatch(text) if isinstance(text, str) else None
        if match is None:
            shown = str(text)[:80]
            self.tell("no reference", where, f"{shown!r} is no reference of labelwise; expected PROJECT-QUERY-CHECKSUM")
            return None
        query = self.queries.get(int(match[2]))
        if match[1] != self.project:
            self.tell("another project", where, f"it belongs to the project {match[1]}, this is {self.project}")
        elif query is None:
            self.tell("unknown query", where, f"there is no query {match[2]}: it was replaced by another pick")
        elif query.image not in self.sizes:
            self.tell("missing image", where, f"{query.image} is no longer in the pool; put it back")
        else:
            counts = range(len(self.classes), 0, -1)  # a class may have been added since it was sent
            sent = next((n for n in counts if reference(self.project, query, n) == text), None)
            if sent is not None:
                self.n_classes[int(match[2])] = sent
                return query
            self.tell("edited by hand", where, f"the check sum does not fit query {query.id} on {query.image}")
        return None

    def label(self, name: object, where: str) -> int | None:
        """The number of a class."""
        if isinstance(name, str) and name in self.classes:
            return self.classes.index(name)
        near = difflib.get_close_matches(str(name), self.classes, 1)
        hint = f" Did you mean {near[0]!r}?" if near else f" Known: {', '.join(self.classes)}."
        self.tell("unknown class", where, f"{str(name)[:80]!r} is not a class of this project.{hint}")
        return None

    def box(self, values: object, image: str, where: str) -> BoxTuple | None:
        """A box in pixels, cut to its image where it hangs over by rounding."""
        numbers = list(values) if isinstance(values, list | tuple) else []
        if len(numbers) != 4 or not all(is_number(v) for v in numbers):
            self.tell("no box", where, f"{str(values)[:80]}; expected four finite numbers")
            return None
        width, height = self.sizes[image]
        if not _fits(numbers, (width, height)):
            shown = [round(float(v), 2) for v in numbers]
            what = f"{shown}; expected x1 < x2, y1 < y2 inside {width} x {height} pixels"
            self.tell("box outside the image", where, what)
            return None
        cut = inside(numbers, (width, height))
        if max(abs(a - b) for a, b in zip(cut, numbers, strict=True)) > ROUNDING_PX:
            self.tell(
                "box over the edge", where, f"{numbers} hangs over by up to {OUTSIDE_PX:g} px", "cut to the image"
            )
        return cut

    def asked_box(self, query: Query) -> BoxTuple:
        """The box of a query as it was sent: the candidate, the region, or the whole image."""
        size = self.sizes[query.image]
        return inside(query.box or (0, 0, *size), size)

    def unchanged(self, query: Query, box: BoxTuple | None) -> bool:
        return box is not None and near(box, self.asked_box(query))

    def one(self, query: Query, box: BoxTuple, label: int, where: str, **rest: Any) -> Answer | None:
        """The answer to a box query: this object. A candidate taken as it was is exactly the one of the query."""
        if query.box is not None and self.unchanged(query, box):
            x1, y1, x2, y2 = query.box
            box = (x1, y1, x2, y2)
        return self.given(query, "object", where, boxes=(box,), labels=(label,), **rest)

    def all(self, query: Query, objects: Sequence[tuple[BoxTuple, int, str]], where: str, **rest: Any) -> Answer | None:
        """The answer to a region or an image: these objects, each with its class and place in the file.

        An object of a region must lie in it by more than `IN_REGION` of its own area, and is cropped to it, as the
        oracle does it; any other is left out, and told.
        """
        kept = []
        for box, label, place in objects:
            cut = box if query.unit == "image" else crop(box, self.asked_box(query))
            if cut is None:
                what = f"the box {[round(v, 1) for v in box]} lies in the region by less than {IN_REGION:g} of its area"
                self.tell("outside the region", place, what, "left out")
            else:
                kept.append((cut, label))
        boxes, labels = tuple(box for box, _ in kept), tuple(label for _, label in kept)
        return self.given(query, "all", where, boxes=boxes, labels=labels, **rest)

    def given(self, query: Query, verdict: Verdict, where: str, **rest: Any) -> Answer | None:
        """The answer, unless the same person has answered this query in the same file, or it says "nothing else" and
        was sent before a class was added.
        """
        assert query.id is not None
        new = self.classes[self.n_classes.get(query.id, len(self.classes)) :]
        if new and verdict in ("all", "background"):
            self.unfinished(
                where, f"query {query.id} was sent before the class {', '.join(new)} was added: ask it anew"
            )
            return None
        answer = Answer(query.id, verdict, **rest)
        before = self.places.setdefault((query.id, answer.who), where)
        if before != where:
            self.tell("answered twice", where, f"{answer.who} has answered query {query.id} in {before} too")
            return None
        return answer


def near(a: Sequence[float], b: Sequence[float]) -> bool:
    """Whether two boxes are one, up to the rounding of tools."""
    return max(abs(v - w) for v, w in zip(a, b, strict=True)) <= SAME_PX


def is_number(value: object) -> bool:
    """Whether this is a finite number (True is none)."""
    if not isinstance(value, int | float) or isinstance(value, bool):
        return False
    try:
        return math.isfinite(value)
    except OverflowError:  # an integer of hundreds of digits
        return False


def crop(box: BoxTuple, region: BoxTuple) -> BoxTuple | None:
    """The part of a box that lies in a region; None unless that is more than `IN_REGION` of it.

    >>> crop((0.0, 0.0, 10.0, 10.0), (2.0, 0.0, 20.0, 20.0))  # 0.8 of it
    (2.0, 0.0, 10.0, 10.0)
    >>> crop((0.0, 0.0, 10.0, 10.0), (3.0, 0.0, 20.0, 20.0)) is None  # 0.7 of it
    True
    """
    x1, y1, x2, y2 = (max(box[0], region[0]), max(box[1], region[1]), min(box[2], region[2]), min(box[3], region[3]))
    area = (box[2] - box[0]) * (box[3] - box[1])
    return (x1, y1, x2, y2) if max(x2 - x1, 0.0) * max(y2 - y1, 0.0) > IN_REGION * area else None
