"""What is known, read from the ledger into columns: the current annotations, coverage and background marks."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import sqlalchemy as sa
from jaxtyping import Float64, Int64

from labelwise import units
from labelwise.ledger import schema as t
from labelwise.ledger.current_answers import HELD_BACK, current_rows, unanswered
from labelwise.ledger.instant import Instant
from labelwise.ledger.pool_images import HOW_MANY, known_first
from labelwise.types import Boxes, Labels, LabelwiseError, Pool, Rects

_newer = t.annotation_table.alias()


def is_current_label(seen: Instant | None = None) -> sa.ColumnElement[bool]:
    """Of a row of annotations: it is not superseded (at that instant), and withdraws nothing."""
    superseded = _newer.c.supersedes == t.annotation_table.c.id
    if seen is not None:
        superseded &= _newer.c.id <= seen.annotations
    current = t.annotation_table.c.label.is_not(None) & ~sa.exists().where(superseded)
    current &= t.annotation_table.c.image.not_in(HELD_BACK)
    return current if seen is None else current & seen.rows(t.annotation_table, "annotations")


_NOTHING_BACK = sa.select(
    ~sa.exists(sa.select(t.withdrawn)) & ~sa.exists(sa.select(t.unavailable)) & ~sa.exists(sa.select(t.forgotten))
)
"""Whether no answer was taken back and no image held back: else what is known hangs on more than an instant's rows."""


@dataclass
class LastLabels:
    """What was read last of a ledger: a round's stages ask for the same instant several times."""

    labels: tuple[Pool, Instant, Labels] | None = None
    index: tuple[tuple[str, ...], Int64[np.ndarray, " numbers"]] | None = None

    def read(
        self,
        connection: sa.Connection,
        pool: Pool,
        where: str,
        seen: Instant | None,
        left: sa.Select[tuple[int]] | None = None,
    ) -> Labels:
        """`read_labels`, or what that gave last, unless something is `left` out; nobody may write into it."""
        if left is not None:
            return read_labels(connection, self._index_of(connection, pool, where), len(pool), seen, left)
        still = seen is not None and connection.dialect.name == "sqlite"  # elsewhere a lower id may come later
        still = still and bool(connection.execute(_NOTHING_BACK).scalar_one())
        key = replace(seen, time="") if seen is not None and still else None
        last = self.labels
        if last is not None and pool is last[0] and key == last[1]:
            return last[2]
        labels = read_labels(connection, self._index_of(connection, pool, where), len(pool), seen)
        if key is not None:
            boxes = labels.annotations
            for array in (labels.answered, boxes.xyxy, boxes.labels, boxes.offsets):
                array.flags.writeable = False
            self.labels = (pool, key, labels)  # in one step: threads share a ledger
        return labels

    def _index_of(self, connection: sa.Connection, pool: Pool, where: str) -> Int64[np.ndarray, " numbers"]:
        """`_pool_index`: an image keeps its name and number, so only how many they are can have changed."""
        many, last = connection.execute(HOW_MANY).scalar_one(), self.index
        if last is None or pool.names is not last[0] or len(last[1]) != many:
            last = self.index = (pool.names, _pool_index(connection, pool, where))
        return last[1]


def read_labels(
    connection: sa.Connection,
    index: np.ndarray,
    n: int,
    seen: Instant | None = None,
    left: sa.Select[tuple[int]] | None = None,
) -> Labels:
    """All that is known of the pool (or was, at an instant), in its order; rows of one image as they were made.

    `index`: the position in the pool of every image number of the ledger. `n`: the images of the pool. `left`: the ids
    of queries of which nothing is read.
    """

    def kept(table: sa.Table) -> sa.ColumnElement[bool]:
        return sa.true() if left is None else table.c.query_id.is_(None) | table.c.query_id.not_in(left)

    n_table = t.annotation_table
    current = is_current_label(seen) & kept(n_table)
    annotated = _fetch(connection, _select(n_table, n_table.c.label).where(current), 6)
    covers = current_rows(t.coverage, units.covering(), seen) & kept(t.coverage)
    covered = _fetch(connection, _select(t.coverage).where(covers), 5)
    marked = current_rows(t.background, units.marking(), seen) & kept(t.background)
    background = _fetch(connection, _select(t.background).where(marked), 5)
    select = sa.select(t.images.c.number).distinct().select_from(t.images.join(t.queries)).where(~unanswered(seen))
    select = select.where(t.images.c.name.not_in(HELD_BACK))
    answered = np.zeros(n, np.bool_)
    answered[_of(index, _fetch(connection, select, 1))] = True
    return Labels(
        annotations=Boxes.from_rows(_of(index, annotated), annotated[:, 1:5], annotated[:, 5], n),
        coverage=Rects.from_rows(_of(index, covered), covered[:, 1:], n),
        background=Rects.from_rows(_of(index, background), background[:, 1:], n),
        answered=answered,
    )


def read_annotations(connection: sa.Connection, until_round: int | None) -> dict[str, np.ndarray]:
    """The current annotations as columns, oldest first."""
    a = t.annotation_table.c
    select = sa.select(a.id, a.round, a.label, a.x1, a.y1, a.x2, a.y2, a.image).where(is_current_label()).order_by(a.id)
    if until_round is not None:
        select = select.where(a.round <= until_round)
    rows = connection.execute(select).all()
    numbers = np.array([tuple(row[:7]) for row in rows], np.float64).reshape(-1, 7)
    whole = numbers[:, :3].astype(np.int64)
    return {
        "id": whole[:, 0],
        "image": np.array([row[7] for row in rows], np.str_),
        "xyxy": numbers[:, 3:].astype(np.float32),
        "label": whole[:, 2],
        "round": whole[:, 1],
    }


def _pool_index(connection: sa.Connection, pool: Pool, where: str) -> Int64[np.ndarray, " numbers"]:
    """Position in the pool of every image number of the ledger."""
    if known_first(connection, pool.names) == len(pool):
        return np.arange(len(pool))
    position = {name: k for k, name in enumerate(pool.names)}
    stored = connection.execute(sa.select(t.images.c.name).order_by(t.images.c.number)).scalars()
    index = np.fromiter((position.get(name, -1) for name in stored), np.int64)
    if len(index) != len(position) or (index < 0).any():
        names = connection.execute(sa.select(t.images.c.name)).scalars().all()
        odd = sorted(position.keys() ^ set(names))
        raise LabelwiseError(
            f"the pool {pool.root} and the ledger {where} hold different images, {odd[0]} among {len(odd)}: "
            "add the pool's images to the ledger first"
        )
    return index


def _select(table: sa.Table, *extra: sa.ColumnElement[Any]) -> sa.Select[Any]:
    c = table.c
    return sa.select(t.images.c.number, c.x1, c.y1, c.x2, c.y2, *extra).select_from(table.join(t.images)).order_by(c.id)


def _fetch(connection: sa.Connection, select: sa.Select[Any], width: int) -> Float64[np.ndarray, "n width"]:
    cursor = connection.execute(select).cursor
    rows = [] if cursor is None else cursor.fetchall()  # plain tuples: twice as fast as SQLAlchemy's rows
    return np.array(rows, np.float64).reshape(-1, width)


def _of(index: np.ndarray, rows: np.ndarray) -> Int64[np.ndarray, " n"]:
    """The pool position of rows whose first column is the ledger's image number."""
    where: np.ndarray = index[rows[:, 0].astype(np.int64)]
    return where
