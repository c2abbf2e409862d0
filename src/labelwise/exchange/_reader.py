"""What comes back from a tool: each item is checked against queries and pool, and becomes an answer or a problem.

Nothing in a file is trusted. One problem that is `REFUSED` refuses the whole file; any other handling says what was
done about it. Where an option of `labelwise import` goes on, the problem names it.
"""

from __future__ import annotations

import difflib
import json
import re
import reprlib
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from labelwise import units
from labelwise.data import text_files
from labelwise.exchange._geometry import OUTSIDE_PX, ROUNDING_PX, BoxTuple, crop, fits, inside, is_number, near
from labelwise.exchange._questions import has_rectangle, reference, size_of
from labelwise.types import Answer, Pool, Problem, Query

REFUSED = "refused"
LEFT_OPEN = "left open"
MOST_SECONDS = 1e7
"""Four months: nobody looks at one question for longer."""
_REFERENCE = re.compile(r"([0-9a-f]{8,64})-([0-9]{1,18})-([0-9a-f]{12})")
_UNSPEAKABLE = re.compile("[\0\ud800-\udfff]")
"""What a database refuses in a text."""
_HINTS = 100
"""So many unknown classes are told with the class that is like them: looking for one takes a while."""
_REPR = reprlib.Repr()
_REPR.maxstring = _REPR.maxother = _REPR.maxlong = 80
_REPR.maxlevel = 3


def shown(value: object) -> str:
    """Any value as a short text, however long or deep it is.

    >>> shown("a"), shown([1, {"b": None}]), len(shown("x" * 9999)) <= 80
    ('a', "[1, {'b': None}]", True)
    """
    if isinstance(value, str):
        return value[:80]
    if isinstance(value, int) and not -(2**64) < value < 2**64:  # its digits may be more than Python prints
        return "a number of many digits"
    return _REPR.repr(value)[:80]


def text_of(value: object) -> str:
    """A text as it is, anything else as a short one."""
    return value if isinstance(value, str) else shown(value)


def begins(content: bytes, mark: bytes) -> bool:
    """Whether a file begins with this, after blanks and the mark of UTF-8."""
    return content.lstrip(b"\xef\xbb\xbf \t\r\n").startswith(mark)


def has_key(content: bytes, key: str, value: str | None = None) -> bool:
    """Whether this looks like a JSON object with this key, of a list or of a text.

    >>> has_key(b'{"a": 1, "rows": []}', "rows"), has_key(b'["rows"]', "rows"), has_key(b'{"a": "b"}', "a", "b")
    (True, False, True)
    """
    after = rb"\[" if value is None else re.escape(json.dumps(value).encode())
    return (
        begins(content, b"{") and re.search(rb'"%b"\s*:\s*%b' % (re.escape(key.encode()), after), content) is not None
    )


def parse(content: bytes, what: str) -> Any:
    """JSON from a file; NaN and a value twice under one key are errors."""
    how: dict[str, Any] = {"parse_constant": _no_number, "object_pairs_hook": _no_key_twice}
    return text_files.json_from(text_files.decode(content), what, **how)


def _no_number(text: str) -> float:
    raise ValueError(f"{text} is no number")


def _no_key_twice(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        ((twice, _),) = Counter(key for key, _ in pairs).most_common(1)
        raise ValueError(f"the key {shown(twice)!r} stands twice in one object")
    return found


@dataclass(frozen=True, slots=True)
class AnswerReader:
    """Reads what comes back, item by item; what is wrong goes to `problems`, and None is returned."""

    project: str
    queries: Mapping[int, Query]
    sizes: Mapping[str, tuple[int, int]]
    classes: tuple[str, ...]
    unfinished_handling: str = REFUSED
    rename: Mapping[str, str] = field(default_factory=dict)
    """The class of ours that a name in the file means."""
    problems: list[Problem] = field(default_factory=list)
    n_classes: dict[int, int] = field(default_factory=dict)
    """How many classes there were when a query was sent."""

    @staticmethod
    def of(
        queries: Sequence[Query],
        pool: Pool,
        project: str,
        unfinished: bool,
        rename: Mapping[str, str] | None = None,
    ) -> AnswerReader:
        by_id = {query.id: query for query in queries if query.id is not None}
        handling = LEFT_OPEN if unfinished else REFUSED
        return AnswerReader(project, by_id, size_of(pool), pool.classes, handling, rename or {})

    def problem(self, kind: str, where: str, what: str, handling: str = REFUSED) -> None:
        self.problems.append(Problem(kind, where, what, handling))

    def unfinished(self, where: str, what: str) -> None:
        option = "" if self.unfinished_handling == LEFT_OPEN else "; --unfinished leaves it open"
        self.problem("half-finished", where, what + option, self.unfinished_handling)

    def no_object(self, query: Query) -> str | None:
        """The verdict of a query about one object that says there is none; None where its unit has no such verdict."""
        verdicts = units.find(query.unit).VERDICTS
        return next((one for one, meaning in verdicts.items() if meaning.background and meaning.boxes == "none"), None)

    def deleted(self, query: Query, where: str, beside: str = "") -> None:
        """Tells that the candidate of a query was deleted in the tool."""
        what = f"the candidate of query {query.id} is gone and nothing was drawn in its place{beside}"
        self.problem("candidate deleted", where, what, "counts as no object")

    def query(self, text: object, where: str) -> Query | None:
        """The query of a reference."""
        match = _REFERENCE.fullmatch(text) if isinstance(text, str) else None
        if match is None:
            what = f"{shown(text)!r} is no reference of labelwise; expected PROJECT-QUERY-CHECKSUM"
            self.problem("no reference", where, what)
            return None
        query = self.queries.get(int(match[2]))
        if match[1] != self.project:
            self.problem("another project", where, f"it belongs to the project {match[1]}, this is {self.project}")
        elif query is None:
            self.problem("unknown query", where, f"there is no query {match[2]}: it was replaced by another pick")
        elif query.image not in self.sizes:
            self.problem("missing image", where, f"{query.image} is no longer in the pool; put it back")
        else:
            counts = range(len(self.classes), 0, -1)  # a class may have been added since it was sent
            sent = next((n for n in counts if reference(self.project, query, n) == text), None)
            if sent is not None:
                self.n_classes[int(match[2])] = sent
                return query
            self.problem("edited by hand", where, f"the check sum does not fit query {query.id} on {query.image}")
        return None

    def label(self, name: object, where: str) -> int | None:
        """The number of a class."""
        name = self.rename.get(name, name) if isinstance(name, str) else name
        if isinstance(name, str) and name in self.classes:
            return self.classes.index(name)
        like = difflib.get_close_matches(shown(name), self.classes, 1) if len(self.problems) < _HINTS else []
        hint = f"did you mean {like[0]!r}?" if like else f"known: {', '.join(self.classes[:50])}."
        what = f"{shown(name)!r} is not a class of this project; {hint} --rename 'NAME=CLASS' reads it as one of ours"
        self.problem("unknown class", where, what)
        return None

    def box(self, values: object, image: str, where: str) -> BoxTuple | None:
        """A box in pixels, cut to its image where it hangs over by rounding."""
        numbers = list(values) if isinstance(values, list | tuple) else []
        if len(numbers) != 4 or not all(is_number(v) for v in numbers):
            self.problem("no box", where, f"{shown(values)}; expected four finite numbers")
            return None
        width, height = self.sizes[image]
        if not fits(numbers, (width, height)):
            what = (
                f"{[round(float(v), 2) for v in numbers]}; expected x1 < x2, y1 < y2 inside {width} x {height} pixels"
            )
            self.problem("box outside the image", where, what)
            return None
        cut = inside(numbers, (width, height))
        if max(abs(a - b) for a, b in zip(cut, numbers, strict=True)) > ROUNDING_PX:
            self.problem(
                "box over the edge", where, f"{numbers} hangs over by up to {OUTSIDE_PX:g} px", "cut to the image"
            )
        return cut

    def asked_box(self, query: Query) -> BoxTuple:
        """The box of a query as it was sent: the candidate, the region, or the whole image."""
        size = self.sizes[query.image]
        return inside(query.box or (0, 0, *size), size)

    def unchanged(self, query: Query, box: BoxTuple | None) -> bool:
        return box is not None and near(box, self.asked_box(query))

    def one_object(
        self, query: Query, verdict: str, box: BoxTuple, label: int, where: str, **rest: Any
    ) -> Answer | None:
        """A verdict with one object. A candidate taken as it was is exactly the one of the query."""
        if query.box is not None and self.unchanged(query, box):
            x1, y1, x2, y2 = query.box
            box = (x1, y1, x2, y2)
        return self.answer(query, verdict, where, boxes=(box,), labels=(label,), **rest)

    def all_objects(
        self, query: Query, verdict: str, objects: Sequence[tuple[BoxTuple, int, str]], where: str, **rest: Any
    ) -> Answer | None:
        """A verdict with any number of objects, each with its class and place in the file.

        Where a query has a rectangle, an object must lie in it by more than `IN_REGION` of its own area, and is cropped
        to it, as the oracle does it; any other is left out, which is a problem that refuses nothing.
        """
        kept = []
        for box, label, place in objects:
            cut = crop(box, self.asked_box(query)) if has_rectangle(query) else box
            if cut is None:
                rounded, share = [round(v, 1) for v in box], f"{units.IN_REGION:g}"
                what = f"the box {rounded} lies in the region by less than {share} of its area"
                self.problem("outside the region", place, what, "left out")
            else:
                kept.append((cut, label))
        boxes, labels = tuple(box for box, _ in kept), tuple(label for _, label in kept)
        return self.answer(query, verdict, where, boxes=boxes, labels=labels, **rest)

    def answer(self, query: Query, verdict: str, where: str, **rest: Any) -> Answer | None:
        """The answer, unless it says "nothing else" and was sent before a class was added."""
        assert query.id is not None
        new = self.classes[self.n_classes.get(query.id, len(self.classes)) :]
        meaning = units.find(query.unit).VERDICTS[verdict]
        if new and (meaning.covers or meaning.background):
            what = f"query {query.id} was sent before the class {', '.join(new)} was added: ask it anew"
            self.unfinished(where, what)
            return None
        for key in rest.keys() & {"who", "note"}:
            rest[key] = _UNSPEAKABLE.sub("\ufffd", rest[key])
        if rest.get("seconds", 0.0) > MOST_SECONDS:
            self.problem("wrong seconds", where, f"{rest['seconds']:g} seconds for one question", "counted as none")
            rest["seconds"] = 0.0
        return Answer(query.id, verdict, **rest)
