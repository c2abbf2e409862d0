"""The labels of a project for its owner to look through: filtered, the doubtful ones first where that is wanted.

Where several people answered a question, its labels are shown as `ask.merge` has them, beside what it made of the first
answer; an object that only later answers have is not shown, nor one that was voted away.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import sqlalchemy as sa

from labelwise.ledger import labels_said, several_answers
from labelwise.ledger import schema as t
from labelwise.ledger.agreement import says_the_same
from labelwise.ledger.labels_said import Which
from labelwise.ledger.several_answers import Said
from labelwise.project import consensus, doubts
from labelwise.project.context import Context
from labelwise.project.round import Round
from labelwise.types import Answer
from labelwise.types.overlap import iou_matrix

Agreement = Literal["agree", "differ", "single"]
SAME_BOX = 0.5


@dataclass(frozen=True, slots=True)
class Wanted:
    """What is looked for; `verdict`: answers of that kind that left no label, in place of labels; `agreement`: whether
    the people who answered the same said the same; `doubtful`: what the newest model doubts, the worst first.
    """

    which: Which
    verdict: str | None = None
    agreement: Agreement | None = None
    doubtful: bool = False


@dataclass(frozen=True)
class _View:
    """What hangs on all answers: read once while nothing is added."""

    agreed: dict[int, bool]
    merged: dict[int, list[tuple[list[float], int]]]
    doubts: doubts.Doubts | None


class Browse:
    """The labels of one project."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self._lock = threading.Lock()
        self._last: tuple[tuple[Any, ...], _View] | None = None

    def page(self, wanted: Wanted, start: int, most: int) -> dict[str, Any]:
        """`items` from a place on, and how many there are in all (`total`)."""
        with self._context.project.ledger.read() as connection:
            if wanted.verdict is not None:
                rows = labels_said.without_label(connection, wanted.verdict, wanted.which)
                items = [self._item(row, None) for row in rows[start : start + most]]
                return {"total": len(rows), "items": items}
            ids = labels_said.label_ids(connection, wanted.which)
            view = self._view(connection)
            chosen = self._chosen(wanted, ids, view)
            some = chosen[start : start + most]
            rows_of = labels_said.label_rows(connection, [key for key, _ in some if key >= 0])
            items = [self._shown(key, doubt, rows_of, view) for key, doubt in some]
        return {"total": len(chosen), "items": items}

    def how_many(self) -> dict[str, Any]:
        """What there is to filter by: how many labels of each class, origin and round, answers of each verdict."""
        with self._context.project.ledger.read() as connection:
            found = labels_said.how_many(connection)
        return {name: [{"value": value, "many": many} for value, many in rows.items()] for name, rows in found.items()}

    def _chosen(self, wanted: Wanted, ids: list[tuple[int, int | None]], view: _View) -> list[tuple[int, int]]:
        """Annotation (-1: none) and row of the doubts (-1: none), in the order in which they are shown."""
        state: dict[Agreement, bool | None] = {"agree": True, "differ": False, "single": None}
        if wanted.agreement is not None:
            ids = [one for one in ids if view.agreed.get(one[1] or -1) is state[wanted.agreement]]
        place = {annotation: k for k, annotation in enumerate(view.doubts.annotation.tolist())} if view.doubts else {}
        if not wanted.doubtful:
            return [(annotation, place.get(annotation, -1)) for annotation, _ in ids]
        there = {annotation for annotation, _ in ids}
        return [] if view.doubts is None else list(self._doubtful(wanted, there, view.doubts))

    def _doubtful(self, wanted: Wanted, there: set[int], found: doubts.Doubts) -> Iterator[tuple[int, int]]:
        """What was overlooked has no class, person or round yet: it is there where neither of them is asked for."""
        which, names = wanted.which, self._context.pool.names
        anything = which.label is None and which.origin is None and which.round is None and wanted.agreement is None
        for k, annotation in enumerate(found.annotation.tolist()):
            if annotation in there:
                yield annotation, k
            elif annotation < 0 and anything and which.image in (None, names[int(found.image[k])]):
                yield -1, k

    def _shown(self, key: int, row: int, rows: dict[int, dict[str, Any]], view: _View) -> dict[str, Any]:
        found, names = view.doubts, self._context.pool.names
        if key < 0:
            assert found is not None
            said = {"image": names[int(found.image[row])], "box": found.xyxy[row].tolist(), "label": None}
            said |= {"origin": "", "round": None, "query_id": None}
        else:
            said = rows[key]
        query = said.pop("query_id")
        merged = _nearest(view.merged.get(query, []), said["box"]) if query in view.merged else None
        item = {"annotation": key if key >= 0 else None, "agree": view.agreed.get(query), "merged": merged}
        return self._item(said, None if found is None or row < 0 else _doubt(found, row)) | item

    def _item(self, said: dict[str, Any], doubt: dict[str, Any] | None) -> dict[str, Any]:
        pool = self._context.pool
        number = pool.number_of.get(said["image"], -1)
        size = [1, 1] if number < 0 else [int(pool.width_px[number]), int(pool.height_px[number])]
        return {**said, "image": {"number": number, "name": said["image"], "size": size}, "doubt": doubt}

    def _view(self, connection: sa.Connection) -> _View:
        run = self._context.run
        newest = [sa.select(sa.func.max(table.c.id)) for table in (t.answers, t.annotation_table)]
        newest += [
            sa.select(sa.func.count()).select_from(t.withdrawn),
            sa.select(sa.func.count()).select_from(t.unavailable),
        ]
        predicted = [k for k in range(run.rounds) if Round(self._context, k).model_looked]
        state = (*(connection.execute(one).scalar() for one in newest), tuple(predicted), len(self._context.pool))
        with self._lock:
            if self._last is None or self._last[0] != state:
                self._last = state, self._read(predicted)
            return self._last[1]

    def _read(self, predicted: list[int]) -> _View:
        context, run = self._context, self._context.run
        ledger, pool = context.project.ledger, context.pool
        merged: dict[int, list[tuple[list[float], int]]] = {}
        agreed = _agreed(several_answers.read(ledger))
        found = consensus.of_rule(context.project, pool, run.ask.merge, one_class=run.classifies)
        if found is not None:
            merged = {query.id or 0: [] for query in found.items.said.queries}
            rows = zip(
                found.merged.query.tolist(), found.merged.xyxy.tolist(), found.merged.label.tolist(), strict=True
            )
            for query, box, label in rows:
                merged[found.items.said.queries[query].id or 0].append((box, label))
        doubtful = None
        if predicted:
            said = Round(context, predicted[-1]).detections().of_classes(len(pool.classes))
            doubtful = doubts.doubts(
                ledger, pool, context.known(), said, one_class=run.classifies,
                merged=run.ask.merge.name != consensus.FIRST,
            )  # fmt: skip
        return _View(agreed, merged, doubtful)


def _doubt(found: doubts.Doubts, row: int) -> dict[str, Any]:
    kind, doubt = doubts.NAMES[int(found.kind[row])], round(float(found.doubt[row]), 3)
    return {"kind": kind, "doubt": doubt, "likely": int(found.likely[row])}


def _agreed(said: Said) -> dict[int, bool]:
    """Of every query that several people answered whether all of them said the same."""
    answers: dict[int, list[Answer]] = {}
    for k, (query, person) in enumerate(zip(said.query.tolist(), said.person.tolist(), strict=True)):
        if person < len(said.people):  # and not what is right of a known question
            rows = said.owner == k
            boxes = [(b[0], b[1], b[2], b[3]) for b in said.xyxy[rows].tolist()]
            answer = Answer(0, said.verdict[k], boxes, said.label[rows].tolist(), said.people[person])
            answers.setdefault(said.queries[query].id or 0, []).append(answer)
    return {query: all(says_the_same(some[0], one) for one in some[1:]) for query, some in answers.items()}


def _nearest(merged: list[tuple[list[float], int]], box: list[float]) -> int | None:
    """The merged class of the object in a box; None: there is none."""
    if not merged:
        return None
    iou = iou_matrix(np.array([box], np.float64), np.array([one for one, _ in merged], np.float64))[0]
    return merged[int(iou.argmax())][1] if iou.max() >= SAME_BOX else None
