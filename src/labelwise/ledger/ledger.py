"""The ledger: every image, query, answer and label of a project, and what each has cost (DESIGN sections 3 to 5).

Every method is one transaction: it happens whole or not at all, also under `kill -9`. Labels are append-only: a
correction is a new row that supersedes, and the database itself (SQLite, PostgreSQL) refuses to change an old one.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import sqlalchemy as sa

from labelwise.ledger import asked_again, known_questions, records, reviews, suggestions
from labelwise.ledger import schema as t
from labelwise.ledger.answers import answer_row, check_answers, check_objects, query_from_row, query_row
from labelwise.ledger.costs import costs
from labelwise.ledger.current_answers import CURRENT, UNANSWERED
from labelwise.ledger.current_labels import LastLabels, read_annotations
from labelwise.ledger.engine import one_instant, open_engine
from labelwise.ledger.instant import Instant
from labelwise.ledger.ledger_errors import readable_errors, readable_rows
from labelwise.ledger.pool_changes import refuse_other_classes
from labelwise.ledger.pool_images import add_new_images
from labelwise.types import Answer, Cost, Labels, LabelwiseError, Pool, Query

BoxTuple = tuple[float, float, float, float]

_ids: sa.BindParameter[Any] = sa.bindparam("ids", expanding=True)
_THESE = sa.select(t.queries).where(t.queries.c.id.in_(_ids)).with_for_update()
_RANKED = sa.select(t.queries).where(t.queries.c.rank >= 0).order_by(t.queries.c.round, t.queries.c.rank)
_SIZES = sa.select(t.images.c.name, t.images.c.width_px, t.images.c.height_px).where(t.images.c.name.in_(_ids))
_CLASSES = sa.select(t.meta.c.value).where(t.meta.c.key == "classes")
_valid = sa.func.count() - sa.func.count(t.withdrawn.c.answer_id)
_HOW_MANY = sa.select(t.answers.c.query_id, sa.func.count(), _valid).select_from(t.answers.outerjoin(t.withdrawn))
_HOW_MANY = _HOW_MANY.where(t.answers.c.query_id.in_(_ids)).group_by(t.answers.c.query_id)
_INSERT_ANSWERS = sa.insert(t.answers).returning(t.answers.c.id, sort_by_parameter_order=True)


def now() -> str:
    """The time in UTC, as the ledger writes it."""
    return datetime.now(UTC).isoformat()


class Ledger:
    """One project's ledger: an SQLite file, or any database by its SQLAlchemy URL."""

    def __init__(self, engine: sa.Engine, where: str) -> None:
        self.engine = engine
        self.where = where
        self._last = LastLabels()
        self._sizes: dict[str, tuple[int, int]] = {}  # kept until `see_sizes`: it hardly ever changes
        # SQLite writes one at a time, and whoever finds it busy sleeps and looks again: here its threads queue instead
        sqlite = engine.dialect.name == "sqlite"
        self._turn: AbstractContextManager[object] = threading.Lock() if sqlite else nullcontext()

    @staticmethod
    def open(url_or_path: str | Path, *, create: bool = False) -> Ledger:
        """Opens a ledger; `create` makes it where there is none."""
        engine = open_engine(url_or_path, create=create)
        where = engine.url.render_as_string(hide_password=True) if "://" in str(url_or_path) else str(url_or_path)
        return Ledger(engine, where)

    def close(self) -> None:
        self.engine.dispose()

    @contextmanager
    def write(self) -> Iterator[sa.Connection]:
        """A transaction: on leaving normally all of it is stored, and else nothing. An error of the database comes as a
        `LabelwiseError` that says what was kept and what to do.
        """
        with self._turn, readable_errors(self.where), self.engine.begin() as connection:
            yield connection

    @contextmanager
    def read(self) -> Iterator[sa.Connection]:
        """A transaction that only reads, all of it at one instant; errors are as those of `write`."""
        with readable_rows(self.where), self.engine.connect() as connection:
            yield connection.execution_options(**one_instant(self.engine))

    # ---- images ---------------------------------------------------------------------------------------------------

    def add_images(self, pool: Pool) -> None:
        """Adds the pool's images that are new; a changed class list is an error."""
        with self.write() as connection:
            before = connection.execute(_CLASSES).scalar()
            if before is None:
                connection.execute(sa.insert(t.meta), {"key": "classes", "value": list(pool.classes)})
                connection.execute(sa.insert(t.meta), {"key": "created", "value": now()})
            else:
                n_added = connection.execute(sa.select(sa.func.count()).select_from(t.added_classes)).scalar_one()
                same = list(pool.classes) == before[: len(before) - n_added]  # opened before a class was added
                refuse_other_classes(before, before if same else pool.classes, self.where)
            add_new_images(connection, pool)

    def classes(self) -> tuple[str, ...]:
        """The class list; empty before the first `add_images`."""
        with self.read() as connection:
            return tuple(connection.execute(_CLASSES).scalar() or ())

    def class_list(self, connection: sa.Connection, *, alone: bool = False) -> tuple[str, ...]:
        """`classes` as part of a larger transaction, until whose end nobody adds a class (`alone`: nor answers)."""
        return tuple(connection.execute(_CLASSES.with_for_update(read=not alone)).scalar() or ())

    def see_sizes(self) -> None:
        """The size of an image may have changed, here or by another process."""
        self._sizes = {}

    def sizes_within(self, connection: sa.Connection, names: set[str]) -> dict[str, tuple[int, int]]:
        """(width, height) in pixels of these images, as part of a larger transaction; all of them must be known."""
        sizes = self._sizes
        missing = sorted(name for name in names if name not in sizes)
        for k in range(0, len(missing), 900):  # SQLite takes no more than 999 in a statement
            rows = connection.execute(_SIZES, {"ids": missing[k : k + 900]})
            sizes.update({name: (width, height) for name, width, height in rows})
        if unknown := [name for name in missing if name not in sizes]:
            raise LabelwiseError(f"image {unknown[0]} is not in the ledger {self.where}: add the pool's images first")
        return sizes

    # ---- queries --------------------------------------------------------------------------------------------------

    def add_queries(self, round_number: int, queries: Sequence[Query]) -> None:
        """Adds picks to a round. A rank that was added before is replaced, unless it has been answered.

        The same query again changes nothing, so that a step that was interrupted can simply be done again.
        """
        rows = {int(query.rank): query_row(query, round_number) for query in queries}
        if len(rows) < len(queries):
            raise LabelwiseError(
                f"two of the {len(queries)} queries for round {round_number} have the same rank; expected one"
            )
        q = t.queries.c
        answered = sa.exists().where(t.answers.c.query_id == q.id).label("answered")
        with self.write() as connection:
            self.sizes_within(connection, {query.image for query in queries})
            near = (q.round == round_number) & q.rank.between(min(rows, default=0), max(rows, default=0))
            stored = connection.execute(sa.select(t.queries, answered).where(near)).mappings()
            replaced = []
            for row in stored:
                rank = row["rank"]
                if rank not in rows:
                    continue
                if query_row(query_from_row(row), round_number) == rows[rank]:
                    del rows[rank]
                elif row["answered"]:
                    raise LabelwiseError(
                        f"query {rank} of round {round_number} in {self.where} (image {row['image']}) is answered "
                        f"and cannot become another one (image {rows[rank]['image']}): new picks are for the next round"
                    )
                else:
                    replaced.append({"replaced": row["id"]})
            if replaced:
                connection.execute(sa.delete(t.queries).where(q.id == sa.bindparam("replaced")), replaced)
            if rows:
                connection.execute(sa.insert(t.queries), list(rows.values()))
                asked_again.note(connection, round_number, [query for query in queries if query.rank in rows])

    def queries(self, round_number: int | None = None) -> list[Query]:
        """All queries, or those of one round, by round and rank: those of the rankings, whose rank is 0 or more."""
        return self._queries(sa.true() if round_number is None else t.queries.c.round == round_number)

    def open_queries(self, round_number: int) -> list[Query]:
        """The queries of a round that nobody has answered, by rank."""
        return self._queries((t.queries.c.round == round_number) & UNANSWERED)

    def _queries(self, which: sa.ColumnElement[bool]) -> list[Query]:
        with self.read() as connection:
            return [query_from_row(row) for row in connection.execute(_RANKED.where(which)).mappings()]

    # ---- answers --------------------------------------------------------------------------------------------------

    def verdicts(self, round_number: int) -> dict[int, str]:
        """The verdict that counts of every answered query of a round, by the query's id."""
        a = t.answers.c
        select = sa.select(a.query_id, a.verdict).select_from(t.answers.join(t.queries)).order_by(t.queries.c.rank)
        with self.read() as connection:
            rows = connection.execute(select.where((t.queries.c.round == round_number) & CURRENT))
            return {row[0]: row[1] for row in rows}

    def record(self, query: Query, answer: Answer, cost: Cost, origin: str) -> None:
        """Stores an answer with all that follows from it: annotations, coverage or background mark, and cost.

        The first answer of a query counts. A later one is kept as a second opinion and adds no labels.
        """
        self.record_many([(query, answer, cost)], origin)

    def record_many(self, records: Sequence[tuple[Query, Answer, Cost]], origin: str) -> None:
        """`record` for many answers in one transaction: all of them are stored, or none."""
        if records:
            with self.write() as connection:
                self.record_within(connection, records, origin)

    def record_within(
        self, connection: sa.Connection, records: Sequence[tuple[Query, Answer, Cost]], origin: str | None = None
    ) -> list[tuple[int, bool]]:
        """`record_many` as part of a larger transaction; tells each answer's id and whether it counts.

        `origin` None: each answer's is whoever gave it. A question that is known or asked again leaves no labels.
        """
        created = now()
        classes = self.class_list(connection)
        sizes = self.sizes_within(connection, {query.image for query, _, _ in records})
        check_answers(records, sizes, classes)
        before = self._answers_before(connection, [query for query, _, _ in records])
        known = known_questions.right_answers(connection, before)
        rows, counts = [], []
        bare = set(known) | {answer.query for query, answer, _ in records if asked_again.AGAIN in query.reason}
        for _query, answer, cost in records:
            ordinal, counting = before[answer.query]
            before[answer.query] = (ordinal + 1, counting + 1)
            paid = known_questions.price(cost) if answer.query in bare else cost
            rows.append(answer_row(answer, paid, ordinal, created))
            counts.append(counting == 0)
        ids = connection.execute(_INSERT_ANSWERS, rows).scalars().all()
        made = zip(records, ids, counts, strict=True)
        first = [(query, said, k) for (query, said, _), k, is_first in made if is_first and said.query not in bare]
        for table, inserts in reviews.rows_of(connection, first, sizes, origin, created):
            if inserts:
                connection.execute(sa.insert(table), inserts)
        suggestions.record(connection, [answer for _, answer, _ in records], ids)
        return list(zip(map(int, ids), counts, strict=True))

    def _answers_before(self, connection: sa.Connection, queries: Sequence[Query]) -> dict[int, tuple[int, int]]:
        """How many answers each query has, and how many were not withdrawn; a query unlike the stored is an error."""
        ids = sorted({query.id for query in queries if query.id is not None})
        stored: dict[int, Query] = {}
        n_answers: dict[int, tuple[int, int]] = {}
        for start in range(0, len(ids), 1000):  # a database takes only so many values in one statement
            some = ids[start : start + 1000]
            stored |= {row["id"]: query_from_row(row) for row in connection.execute(_THESE, {"ids": some}).mappings()}
            n_answers |= {row[0]: (row[1], row[2]) for row in connection.execute(_HOW_MANY, {"ids": some})}
        for query in queries:
            same = stored.get(query.id) if query.id is not None else None
            if same is None or (same.image, same.unit, same.box) != (query.image, query.unit, query.box):
                raise LabelwiseError(
                    f"query {query.id} (round {query.round}, rank {query.rank}, image {query.image}) is not in the "
                    f"ledger {self.where}: it was replaced, or never added. Take the queries from `open_queries`"
                )
        return {query_id: n_answers.get(query_id, (0, 0)) for query_id in ids}

    def correct(self, annotation_id: int, box: BoxTuple, label: int | None, who: str) -> int:
        """Supersedes an annotation; `label` None withdraws it (there is no object). Returns the new row's id."""
        table = t.annotation_table
        n_classes = len(self.classes())
        with self.write() as connection:
            row = connection.execute(sa.select(table).where(table.c.id == annotation_id)).mappings().one_or_none()
            if row is None:
                raise LabelwiseError(f"there is no annotation {annotation_id} in the ledger {self.where}")
            newer = connection.execute(sa.select(table.c.id).where(table.c.supersedes == annotation_id)).scalar()
            if newer is not None:
                raise LabelwiseError(
                    f"annotation {annotation_id} of image {row['image']} has been corrected by annotation {newer}: "
                    "reload, and correct that one"
                )
            where = f"the correction of annotation {annotation_id}, image {row['image']}"
            size = self.sizes_within(connection, {row["image"]})[row["image"]]
            checked = [0 if label is None else label]
            check_objects(np.array([box], np.float64), np.array(checked), np.array([size]), n_classes, [where])
            x1, y1, x2, y2 = map(float, box)
            values = {"image": row["image"], "x1": x1, "y1": y1, "x2": x2, "y2": y2, "round": row["round"]}
            values |= {"label": None if label is None else int(label), "origin": f"person {who}"}
            values |= {"query_id": row["query_id"], "supersedes": annotation_id, "created": now()}
            return int(connection.execute(sa.insert(table).returning(table.c.id), values).scalar_one())

    # ---- what is known --------------------------------------------------------------------------------------------

    def labels(self, pool: Pool, seen: Instant | None = None, left: sa.Select[tuple[int]] | None = None) -> Labels:
        """All that is known of the pool (or was, at an instant), in its order; not of queries that `left` selects."""
        with self.read() as connection:
            return self._last.read(connection, pool, self.where, seen, left)

    def annotation_rows(self, until_round: int | None = None) -> dict[str, np.ndarray]:
        """The current annotations as columns `id`, `image` (names), `xyxy`, `label`, `round`, oldest first.

        With `until_round`, those of that round and the rounds before it.
        """
        with self.read() as connection:
            return read_annotations(connection, until_round)

    # ---- cost -----------------------------------------------------------------------------------------------------

    def cost_by_round(self, seen: Instant | None = None) -> dict[int, Cost]:
        """What each round has cost (or had, at an instant). A second opinion costs a query and time; it obtains no
        boxes and no image. An answer that was taken back has cost its time alone.
        """
        with self.read() as connection:
            return self.costs_within(connection, seen)

    def costs_within(self, connection: sa.Connection, seen: Instant | None = None) -> dict[int, Cost]:
        """`cost_by_round` as part of a larger transaction."""
        return costs(connection, seen)

    def cost(self, until_round: int | None = None) -> Cost:
        """What has been spent in all, or up to and with `until_round`."""
        spent = [cost for k, cost in self.cost_by_round().items() if until_round is None or k <= until_round]
        return Cost(
            boxes=sum(cost.boxes for cost in spent),
            queries=sum(cost.queries for cost in spent),
            images=sum(cost.images for cost in spent),
            seconds=float(sum(cost.seconds for cost in spent)),
        )

    # ---- stages ---------------------------------------------------------------------------------------------------

    def mark_started(self, round_number: int, stage: str) -> None:
        """Notes that a stage has begun; what it was before is forgotten."""
        self._set_stage({"round": round_number, "stage": stage, "state": "started", "started": now(), "info": {}})

    def mark_done(
        self, round_number: int, stage: str, info: dict[str, Any], wall_s: float, record: dict[str, Any] | None = None
    ) -> None:
        """Notes that a stage's results are complete, with what it says of itself; `record`: see `ledger.records`."""
        started = [row["started"] for row in self.stages() if (row["round"], row["stage"]) == (round_number, stage)]
        values = {"state": "done", "ended": now(), "wall_s": wall_s, "info": info}
        values |= {"round": round_number, "stage": stage, "started": started[0] if started else values["ended"]}
        self._set_stage(values, record)

    def _set_stage(self, values: dict[str, Any], record: dict[str, Any] | None = None) -> None:
        which = (t.stages.c.round == values["round"]) & (t.stages.c.stage == values["stage"])
        with self.write() as connection:
            connection.execute(sa.delete(t.stages).where(which))
            connection.execute(sa.insert(t.stages), values)
            if record is not None:
                records.keep(connection, records.key_of(values["round"], values["stage"]), record)

    def stage_done(self, round_number: int, stage: str) -> dict[str, Any] | None:
        """The info of a stage that is done, with its `wall_s`; None where it is not."""
        s = t.stages.c
        done = (s.round == round_number) & (s.stage == stage) & (s.state == "done")
        with self.read() as connection:
            row = connection.execute(sa.select(s.info, s.wall_s).where(done)).one_or_none()
        return None if row is None else {**row[0], "wall_s": row[1]}

    def stages(self) -> list[dict[str, Any]]:
        """Every stage that was ever started, in the order of its start (the columns of the table)."""
        select = sa.select(t.stages).order_by(t.stages.c.started, t.stages.c.round, t.stages.c.stage)
        with self.read() as connection:
            return [dict(row) for row in connection.execute(select).mappings()]
