"""JSON of our own: queries out, answers in, nothing lost; for tools that you write yourself, and for archives.

Queries: `{"format": "labelwise-queries", "version": 1, "project", "classes", "queries": [{"reference", "round", "rank",
"image", "width", "height", "unit", "box", "class", "score", "reason", "known": [{"box", "class"}]}]}`. Boxes are
`[x1, y1, x2, y2]` in pixels; `box` is the candidate, the region, or null.

Answers: `{"format": "labelwise-answers", "version": 1, "answers": [{"reference", "verdict", "objects": [{"box",
"class"}], "who", "seconds", "note"}]}`. `verdict`: "object" (one object), "background", "duplicate" or "skipped" for a
box; "all" (its objects, perhaps none) or "skipped" for a region or an image. An image that is asked for its class has
one object, the whole image.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from labelwise.exchange._geometry import BoxTuple, is_number
from labelwise.exchange._questions import buttons, check_queries, known_on, n_boxes, reference, size_of
from labelwise.exchange._reader import AnswerReader, has_key, parse, shown
from labelwise.types import Answer, Boxes, LabelwiseError, Pool, Problem, Query
from labelwise.types.disk import to_json

CANNOT_CARRY: tuple[str, ...] = ()
QUERIES, ANSWERS, VERSION = "labelwise-queries", "labelwise-answers", 1


def detect(content: bytes) -> bool:
    """Its `format` says so."""
    return has_key(content, "format", ANSWERS)


def write(queries: Sequence[Query], pool: Pool, project: str, known: Boxes | None = None) -> dict[str, bytes]:
    """One file with the queries."""
    check_queries(queries, pool, "a JSON file")
    context, sizes, made = known_on(pool, known, [q.image for q in queries]), size_of(pool), []
    for query in queries:
        width, height = sizes[query.image]
        row: dict[str, Any] = {
            "reference": reference(project, query, len(pool.classes)),
            "round": query.round,
            "rank": query.rank,
        }
        row |= {"image": query.image, "width": width, "height": height, "unit": query.unit}
        row |= {"box": None if query.box is None else list(query.box), "score": query.score}
        row |= {"class": None if query.label is None else pool.classes[query.label], "reason": dict(query.reason)}
        row["known"] = [{"box": list(box), "class": pool.classes[label]} for box, label in context[query.image]]
        made.append(row)
    head = {"format": QUERIES, "version": VERSION, "project": project, "classes": list(pool.classes)}
    return {"queries.json": to_json(head | {"queries": made}, 1).encode()}


def write_answers(given: Sequence[tuple[Query, Answer]], pool: Pool, project: str) -> bytes:
    """Answers in the form that `read` takes."""
    rows = []
    for query, answer in given:
        objects = [
            {"box": list(box), "class": pool.classes[label]}
            for box, label in zip(answer.boxes, answer.labels, strict=True)
        ]
        row = {"reference": reference(project, query, len(pool.classes)), "verdict": answer.verdict, "objects": objects}
        rows.append(row | {"who": answer.who, "seconds": answer.seconds, "note": answer.note})
    return to_json({"format": ANSWERS, "version": VERSION, "answers": rows}, 1).encode()


def read(
    content: bytes,
    queries: Sequence[Query],
    pool: Pool,
    project: str,
    *,
    who: str = "import",
    unfinished: bool = False,
    rename: Mapping[str, str] | None = None,
) -> tuple[list[Answer], list[Problem]]:
    """The answers of a file, and all that is wrong in it; `who` where an answer does not say."""
    raw = parse(content, "the answers")
    if not isinstance(raw, dict) or raw.get("format") != ANSWERS or not isinstance(raw.get("answers"), list):
        raise LabelwiseError(f'the answers: expected an object with "format": "{ANSWERS}" and the list `answers`')
    if raw.get("version") != VERSION:
        raise LabelwiseError(
            f"the answers: version {shown(raw.get('version'))}; this labelwise reads version {VERSION}"
        )
    reader = AnswerReader.of(queries, pool, project, unfinished, rename)
    found = []
    for k, row in enumerate(raw["answers"], start=1):
        where = f"answer {k}"
        if not isinstance(row, dict):
            reader.problem("no answer", where, f"{shown(row)}; expected an object with reference and verdict")
            continue
        query = reader.query(row.get("reference"), where)
        answer = None if query is None else _answer(reader, query, row, who, where)
        found += [] if answer is None else [answer]
    return found, reader.problems


def _answer(reader: AnswerReader, query: Query, row: dict[str, Any], who: str, where: str) -> Answer | None:
    verdicts, verdict = set(buttons(query).values()), row.get("verdict")
    if verdict is None:
        reader.unfinished(where, f"query {query.id} has no verdict")
        return None
    if not isinstance(verdict, str) or verdict not in verdicts:
        what = f"query {query.id}: verdict {shown(verdict)!r}; expected one of {', '.join(sorted(verdicts))}"
        reader.problem("wrong verdict", where, what)
        return None
    seconds, listed = row.get("seconds", 0.0), row.get("objects", [] if n_boxes(query, verdict) == "none" else None)
    if not is_number(seconds) or seconds < 0:
        reader.problem("wrong seconds", where, f"seconds is {shown(seconds)}; expected a number >= 0")
        return None
    expected = {"any": "a list"}.get(n_boxes(query, verdict), n_boxes(query, verdict))
    if not isinstance(listed, list) or len(listed) not in {"none": (0,), "one": (1,)}.get(expected, (len(listed),)):
        n = len(listed) if isinstance(listed, list) else shown(listed)
        reader.problem(
            "wrong objects", where, f"query {query.id}: verdict {verdict} with objects {n}; expected {expected}"
        )
        return None
    objects: list[tuple[BoxTuple, int, str]] = []
    for k, one in enumerate(listed, start=1):
        place = f"{where}, object {k}"
        raw = one if isinstance(one, dict) else {}
        box, label = reader.box(raw.get("box"), query.image, place), reader.label(raw.get("class"), place)
        if box is not None and label is not None:
            objects.append((box, label, place))
    if len(objects) < len(listed):
        return None
    by = row.get("who")
    rest: dict[str, Any] = {"who": by if isinstance(by, str) and by else who, "seconds": float(seconds)}
    rest["note"] = row["note"] if isinstance(row.get("note"), str) else ""
    if expected == "none":
        return reader.answer(query, verdict, where, **rest)
    if expected == "one":
        return reader.one_object(query, verdict, *objects[0][:2], where, **rest)
    return reader.all_objects(query, verdict, objects, where, **rest)
