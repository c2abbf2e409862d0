"""An answer to a query as engineers give it: boxes in any form, classes by number or name, the verdict that follows."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from labelwise import units
from labelwise.api.checks import class_number, corners, listed
from labelwise.types import Answer, LabelwiseError, Query

Corners = tuple[float, float, float, float]


def made(
    query: Query,
    classes: Sequence[str],
    verdict: str | None,
    *,
    boxes: Sequence[Corners] | np.ndarray,
    labels: Sequence[int | str] | np.ndarray,
    who: str,
    seconds: float,
    note: str,
) -> Answer:
    """The answer to a query.

    Raises:
        LabelwiseError: a class that does not exist, or no verdict where none follows from the boxes.
    """
    where = f"the answer to query {query.id}"
    found = corners(boxes, where)
    said = verdict or _verdict(query, bool(found))
    names = listed(labels, where, "labels")
    numbers = [class_number(label, classes, lambda k=k: f"{where}, label {k}") for k, label in enumerate(names)]
    return Answer(query.id or 0, said, found, numbers, who, seconds, note, len(classes))  # type: ignore[arg-type]


def _verdict(query: Query, has_boxes: bool) -> str:
    """What an answer says that names no verdict."""
    unit = units.find(query.unit)
    if unit.DEFAULT is not None and (has_boxes or unit.VERDICTS[unit.DEFAULT].boxes != "one"):
        return unit.DEFAULT
    *others, last = [verdict for verdict in unit.VERDICTS if verdict != unit.DEFAULT]
    ask = "" if unit.DEFAULT is None else "the object's box and label, or "
    raise LabelwiseError(f"query {query.id} is of a {query.unit}: give {ask}a verdict: {', '.join(others)} or {last}")
