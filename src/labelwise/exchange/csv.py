"""CSV: a table with one row per query, for spreadsheets; who answers fills in `verdict`, `x1` to `y2` and `class`.

Each further object of a query is a further row with the same reference.

Fails when: the spreadsheet rewrites numbers with a decimal comma (the import says so).
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Sequence

from labelwise.exchange._geometry import BoxTuple
from labelwise.exchange._questions import buttons, check_queries, n_boxes, reference
from labelwise.exchange._reader import AnswerReader, begins
from labelwise.types import Answer, LabelwiseError, Pool, Problem, Query

CANNOT_CARRY = (
    "boxes that were annotated before",
    "who answered and in how many seconds: give --who; the cost table counts the time",
    "the score and its parts",
)
COLUMNS = ("reference", "image", "unit", "candidate", "verdict", "x1", "y1", "x2", "y2", "class")


def detect(content: bytes) -> bool:
    """Its first line names the columns."""
    return begins(content, b"reference,")


def write(queries: Sequence[Query], pool: Pool, project: str) -> dict[str, bytes]:
    """One table."""
    check_queries(queries, pool, "a CSV file")
    return {"queries.csv": _table([*_head(query, pool, project)] for query in queries)}


def write_answers(given: Sequence[tuple[Query, Answer]], pool: Pool, project: str) -> bytes:
    """The table as it comes back with these answers."""
    rows: list[list[object]] = []
    for query, answer in given:
        objects = [[*box, pool.classes[label]] for box, label in zip(answer.boxes, answer.labels, strict=True)]
        rows += [[*_head(query, pool, project), answer.verdict, *one] for one in objects or [[]]]
    return _table(rows)


def read(
    content: bytes, queries: Sequence[Query], pool: Pool, project: str, *, who: str = "csv", unfinished: bool = False
) -> tuple[list[Answer], list[Problem]]:
    """The answers of a table that came back."""
    reader = AnswerReader.of(queries, pool, project, unfinished)
    try:
        rows = list(csv.DictReader(io.StringIO(content.decode("utf-8-sig"), newline=""), strict=True))
    except (csv.Error, UnicodeDecodeError) as error:
        raise LabelwiseError(f"the CSV file: broken table ({error}). Export it as CSV in UTF-8 again") from error
    if not rows or not set(COLUMNS) <= rows[0].keys():
        raise LabelwiseError(f"the CSV file: expected a table with the columns {', '.join(COLUMNS)}")
    of_query: dict[str, list[tuple[dict[str, str], str]]] = {}
    for k, row in enumerate(rows, start=2):
        of_query.setdefault(row["reference"], []).append((row, f"row {k}"))
    found = [_answer(reader, reference, group, who) for reference, group in of_query.items()]
    return [answer for answer in found if answer is not None], reader.problems


def _answer(reader: AnswerReader, text: str, group: list[tuple[dict[str, str], str]], who: str) -> Answer | None:
    (first, where) = group[0]
    query = reader.query(text, where)
    if query is None:
        return None
    verdict = first["verdict"] or ""
    if verdict not in buttons(query).values():
        expected = ", ".join(buttons(query).values())
        reader.unfinished(where, f"query {query.id}: verdict {verdict[:40]!r}; expected one of {expected}")
        return None
    objects: list[tuple[BoxTuple, int, str]] = []
    drawn = [(row, place) for row, place in group if row["class"]]
    for row, place in drawn:
        box, label = reader.box([_number(row[k]) for k in ("x1", "y1", "x2", "y2")], query.image, place), None
        label = reader.label(row["class"], place)
        if box is not None and label is not None:
            objects.append((box, label, place))
    if len(objects) < len(drawn):
        return None
    wanted = n_boxes(query, verdict)
    if wanted == "any":
        return reader.all_objects(query, verdict, objects, where, who=who)
    if len(objects) != (wanted == "one"):
        reader.problem("wrong objects", where, f"query {query.id}: {verdict} with {len(objects)} objects")
        return None
    if wanted == "one":
        return reader.one_object(query, verdict, *objects[0][:2], where, who=who)
    return reader.answer(query, verdict, where, who=who)


def _head(query: Query, pool: Pool, project: str) -> list[object]:
    candidate = "" if query.box is None else " ".join(map(repr, query.box))
    return [reference(project, query, len(pool.classes)), query.image, query.unit, candidate]


def _table(rows: Iterable[Sequence[object]]) -> bytes:
    made = io.StringIO(newline="")
    writer = csv.writer(made)
    writer.writerow(COLUMNS)
    writer.writerows([*row, *[""] * (len(COLUMNS) - len(row))] for row in rows)
    return made.getvalue().encode()


def _number(text: str | None) -> object:
    try:
        return float(text or "")
    except ValueError:
        return text
