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

from collections.abc import Sequence
from typing import Any

from labelwise.exchange._judge import VERDICTS, BoxTuple, Judge, check_queries, is_number, known_on, parsed, reference
from labelwise.exchange._judge import size_of as sizes_of
from labelwise.types import Answer, Boxes, LabelwiseError, Pool, Problem, Query

CANNOT_CARRY: tuple[str, ...] = ()
QUERIES, ANSWERS, VERSION = "labelwise-queries", "labelwise-answers", 1


def tasks(queries: Sequence[Query], pool: Pool, known: Boxes | None = None, *, project: str) -> dict[str, Any]:
    """The queries as plain data."""
    check_queries(queries, pool, "a JSON file")
    context, sizes, made = known_on(pool, known, [q.image for q in queries]), sizes_of(pool), []
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
    return {"format": QUERIES, "version": VERSION, "project": project, "classes": list(pool.classes), "queries": made}


def written(given: Sequence[tuple[Query, Answer]], pool: Pool, *, project: str) -> dict[str, Any]:
    """Answers as plain data, in the form that `answers` reads."""
    rows = []
    for query, answer in given:
        objects = [
            {"box": list(box), "class": pool.classes[label]}
            for box, label in zip(answer.boxes, answer.labels, strict=True)
        ]
        row = {"reference": reference(project, query, len(pool.classes)), "verdict": answer.verdict, "objects": objects}
        rows.append(row | {"who": answer.who, "seconds": answer.seconds, "note": answer.note})
    return {"format": ANSWERS, "version": VERSION, "answers": rows}


def answers(
    content: bytes | str | dict[str, Any],
    queries: Sequence[Query],
    pool: Pool,
    *,
    project: str,
    who: str = "import",
    unfinished: bool = False,
) -> tuple[list[Answer], list[Problem]]:
    """The answers of a file, and all that is wrong in it; `who` where an answer does not say."""
    raw = parsed(content, "the answers") if isinstance(content, bytes | str) else content
    if not isinstance(raw, dict) or raw.get("format") != ANSWERS or not isinstance(raw.get("answers"), list):
        raise LabelwiseError(f'the answers: expected an object with "format": "{ANSWERS}" and the list `answers`')
    if raw.get("version") != VERSION:
        raise LabelwiseError(f"the answers: version {raw.get('version')}; this labelwise reads version {VERSION}")
    judge = Judge.of(queries, pool, project, unfinished)
    found = []
    for k, row in enumerate(raw["answers"], start=1):
        where = f"answer {k}"
        if not isinstance(row, dict):
            judge.tell("no answer", where, f"{str(row)[:80]}; expected an object with reference and verdict")
            continue
        query = judge.query(row.get("reference"), where)
        answer = None if query is None else _answer(judge, query, row, who, where)
        found += [] if answer is None else [answer]
    return found, judge.problems


def _answer(judge: Judge, query: Query, row: dict[str, Any], who: str, where: str) -> Answer | None:
    words, verdict = set(VERDICTS[query.unit].values()), row.get("verdict")
    if verdict is None:
        judge.unfinished(where, f"query {query.id} has no verdict")
        return None
    if not isinstance(verdict, str) or verdict not in words:
        what = f"query {query.id}: verdict {str(verdict)[:40]!r}; expected one of {', '.join(sorted(words))}"
        judge.tell("wrong verdict", where, what)
        return None
    seconds, listed = row.get("seconds", 0.0), row.get("objects", [])
    if not is_number(seconds) or seconds < 0:
        judge.tell("wrong seconds", where, f"seconds is {str(seconds)[:40]}; expected a number >= 0")
        return None
    if not isinstance(listed, list) or (len(listed) != 1 if verdict == "object" else listed and verdict != "all"):
        n = len(listed) if isinstance(listed, list) else str(listed)[:40]
        expected = {"object": "one", "all": "a list"}.get(verdict, "none")
        judge.tell("wrong objects", where, f"query {query.id}: verdict {verdict} with objects {n}; expected {expected}")
        return None
    objects: list[tuple[BoxTuple, int, str]] = []
    for k, one in enumerate(listed, start=1):
        place = f"{where}, object {k}"
        raw = one if isinstance(one, dict) else {}
        box, label = judge.box(raw.get("box"), query.image, place), judge.label(raw.get("class"), place)
        if box is not None and label is not None:
            objects.append((box, label, place))
    if len(objects) < len(listed):
        return None
    by = row.get("who")
    rest: dict[str, Any] = {"who": by if isinstance(by, str) and by else who, "seconds": float(seconds)}
    rest["note"] = row["note"] if isinstance(row.get("note"), str) else ""
    if verdict == "object":
        return judge.one(query, *objects[0][:2], where, **rest)
    if verdict == "all":
        return judge.all(query, objects, where, **rest)
    return judge.given(query, VERDICTS[query.unit][_word(query, verdict)], where, **rest)


def _word(query: Query, verdict: str) -> str:
    return next(word for word, meaning in VERDICTS[query.unit].items() if meaning == verdict)
