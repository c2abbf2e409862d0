"""What an answer means: its checks, and the rows of labels that follow from it (DESIGN section 3)."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, assert_never

import numpy as np
import sqlalchemy as sa
from jaxtyping import Float64, Int64

from labelwise import units
from labelwise.ledger import schema as t
from labelwise.types import Answer, Cost, LabelwiseError, Query
from labelwise.types.disk import to_json

_OUTSIDE_PX = 1.0
"""How far an annotated box may lie outside its image: rounding at the edge, not a mistake."""


def _corners(box: Sequence[float] | None) -> dict[str, float | None]:
    values = (None,) * 4 if box is None else tuple(float(v) for v in box)
    return dict(zip(("x1", "y1", "x2", "y2"), values, strict=True))


def query_row(query: Query, round_number: int) -> dict[str, Any]:
    """The row of a query, in plain numbers; a query that cannot be asked is an error."""
    where = f"query {query.rank} of round {round_number}, image {query.image}"
    if query.round != round_number:
        raise LabelwiseError(f"{where}: it says round {query.round}. Add it to its own round")
    _check_unit(query, where)
    if not math.isfinite(query.score) or not all(map(math.isfinite, query.box or ())):
        raise LabelwiseError(f"{where}: score {query.score} and box {query.box}; expected finite numbers")
    label = None if query.label is None else int(query.label)
    row = {"round": int(round_number), "rank": int(query.rank), "image": str(query.image), "unit": query.unit}
    return row | _corners(query.box) | {"label": label, "score": float(query.score), "reason": _plain(query.reason)}


def _check_unit(query: Query, where: str) -> None:
    known = query.unit in units.names() or "." in query.unit
    if known and (query.box is not None) == units.find(query.unit).RECTANGLE:
        return
    with_box, without = (
        " or ".join(name for name in units.names() if units.find(name).RECTANGLE is wanted) for wanted in (True, False)
    )
    what = f"unit {query.unit!r} with box {query.box}"
    raise LabelwiseError(f"{where}: {what}; expected a {with_box} with its box, or an {without}")


def _plain(reason: Mapping[str, float | str]) -> dict[str, Any]:
    to_json(dict(reason))  # an error here names what cannot be stored
    return {key: value.item() if isinstance(value, np.generic) else value for key, value in reason.items()}


def query_from_row(row: Mapping[Any, Any]) -> Query:
    """A query as it was added, now with its id."""
    box = None if row["x1"] is None else (row["x1"], row["y1"], row["x2"], row["y2"])
    names = ("round", "rank", "image", "unit", "label", "score", "reason", "id")
    return Query(box=box, **{name: row[name] for name in names})


def check_objects(
    boxes: Float64[np.ndarray, "n 4"],
    labels: Int64[np.ndarray, " n"],
    sizes: Int64[np.ndarray, "n 2"],
    n_classes: int,
    where: Sequence[str],
) -> None:
    """Refuses an annotated object without area, outside its image or of an unknown class."""
    xyxy = boxes.astype(np.float32)
    bad = ~(np.isfinite(xyxy).all(axis=1) & (xyxy[:, :2] < xyxy[:, 2:]).all(axis=1))
    if bad.any():
        k = int(np.argmax(bad))
        raise LabelwiseError(f"{where[k]}: {boxes[k].tolist()} has no area; expected finite x1 < x2, y1 < y2 in pixels")
    bad = (xyxy[:, :2] < -_OUTSIDE_PX).any(axis=1) | (xyxy[:, 2:] > sizes + _OUTSIDE_PX).any(axis=1)
    if bad.any():
        k = int(np.argmax(bad))
        width, height = sizes[k].tolist()
        raise LabelwiseError(f"{where[k]}: {boxes[k].tolist()} lies outside the image of {width} x {height} pixels")
    bad = (labels < 0) | (labels >= n_classes)
    if bad.any():
        k = int(np.argmax(bad))
        raise LabelwiseError(f"{where[k]}: class number {labels[k]}; expected 0 to {n_classes - 1}")


def check_answers(
    records: Sequence[tuple[Query, Answer, Cost]], sizes: Mapping[str, tuple[int, int]], classes: Sequence[str]
) -> None:
    """Refuses an answer that does not fit its query, one of whose boxes cannot be an object, that knows of more classes
    than there are, or that says "nothing else in here" without knowing of a class that was added meanwhile.
    """
    boxes: list[Sequence[float]] = []
    labels: list[int] = []
    box_sizes: list[tuple[int, int]] = []
    where: list[str] = []
    for query, answer, _cost in records:
        about = f"the answer to query {query.id} (round {query.round}, image {query.image})"
        meaning = _check_form(query, answer, about)
        _check_suggestions(answer, len(classes), about)
        if answer.classes is not None and answer.classes > len(classes):
            raise LabelwiseError(
                f"{about}: it knows {answer.classes} classes, and the project has {len(classes)}. Reload the page"
            )
        nothing_else = meaning.covers or meaning.background
        if nothing_else and not (answer.classes is None or answer.classes >= len(classes)):
            new = ", ".join(classes[answer.classes :])
            raise LabelwiseError(f"{about}: the class {new} was added meanwhile; look for it, too, and answer again")
        boxes += answer.boxes
        labels += answer.labels
        box_sizes += [sizes[query.image]] * len(answer.boxes)
        where += [f"{about}, box {k}" for k in range(len(answer.boxes))]
    if boxes:
        shape = (len(boxes), 4)
        xyxy = np.array(boxes, np.float64).reshape(shape)
        check_objects(xyxy, np.array(labels, np.int64), np.array(box_sizes, np.int64), len(classes), where)


def _check_suggestions(answer: Answer, n_classes: int, where: str) -> None:
    """Refuses suggestions that name no box of the answer, or two that name the same, or whose own box is none."""
    numbers = [one.number for one in answer.suggested if one.number is not None]
    if len(set(numbers)) < len(numbers) or not all(0 <= number < len(answer.boxes) for number in numbers):
        raise LabelwiseError(f"{where}: suggestions became the boxes {numbers} of {len(answer.boxes)}; each names one")
    for one in answer.suggested:
        x1, y1, x2, y2 = one.box
        if not (all(map(math.isfinite, one.box)) and x1 < x2 and y1 < y2 and 0 <= one.label < n_classes):
            raise LabelwiseError(
                f"{where}: a suggestion has box {one.box} and class number {one.label}; "
                f"expected x1 < x2, y1 < y2 in pixels and 0 to {n_classes - 1}"
            )


def _check_form(query: Query, answer: Answer, where: str) -> units.Meaning:
    if answer.query != query.id:
        raise LabelwiseError(f"{where}: it says query {answer.query}")
    meaning, n = units.meaning(query, answer), len(answer.boxes)
    match meaning.boxes:
        case "none":
            fits, expected = n == 0, "no boxes"
        case "one":
            fits, expected = n == 1, "one box and its label"
        case "any":
            fits, expected = True, "as many labels as boxes"
        case _:
            assert_never(meaning.boxes)
    if not fits or len(answer.labels) != n:
        raise LabelwiseError(f"{where}: {n} boxes and {len(answer.labels)} labels; expected {expected}")
    return meaning


def answer_row(answer: Answer, cost: Cost, ordinal: int, created: str) -> dict[str, Any]:
    """The row of an answer with its cost."""
    return {
        "query_id": answer.query,
        "ordinal": ordinal,
        "verdict": answer.verdict,
        "boxes": [[float(v) for v in box] for box in answer.boxes],
        "labels": [int(label) for label in answer.labels],
        "who": answer.who,
        "created": created,
        "seconds": float(answer.seconds),
        "note": answer.note,
        "cost_boxes": int(cost.boxes),
        "cost_queries": int(cost.queries),
        "cost_images": int(cost.images),
        "cost_seconds": float(cost.seconds),
    }


def origin_of(who: str) -> str:
    """What an annotation says of where it comes from."""
    return who if who == "oracle" else f"person {who}"


def label_rows(
    counted: Sequence[tuple[Query, Answer, int]],
    sizes: Mapping[str, tuple[int, int]],
    origin: str | None,
    created: str,
) -> list[tuple[sa.Table, list[dict[str, Any]]]]:
    """The rows that follow from answers that count, each given as (query, answer, answer id).

    `origin` None: each answer's is whoever gave it.
    """
    annotations: list[dict[str, Any]] = []
    coverage: list[dict[str, Any]] = []
    background: list[dict[str, Any]] = []
    for query, answer, answer_id in counted:
        asked = {"image": query.image, "round": query.round, "query_id": query.id}
        made = asked | {"origin": origin or origin_of(answer.who), "answer_id": answer_id, "created": created}
        for box, label in zip(answer.boxes, answer.labels, strict=True):
            annotations.append(made | _corners(box) | {"label": int(label)})
        meaning = units.meaning(query, answer)
        for follows, rows in ((meaning.covers, coverage), (meaning.background, background)):
            if follows:
                rows.append(asked | _corners(query.box or (0, 0, *sizes[query.image])))
    return [(t.annotation_table, annotations), (t.coverage, coverage), (t.background, background)]
