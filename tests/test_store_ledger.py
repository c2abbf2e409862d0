"""The ledger: what is written comes back, nothing is lost, nothing is overwritten, whatever happens in between."""

from __future__ import annotations

import os
import signal
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import sqlalchemy as sa
from hypothesis import given, settings
from hypothesis import strategies as st
from sqlalchemy.dialects import postgresql

from labelwise.ledger import pool_images, schema
from labelwise.ledger.ledger import Ledger
from labelwise.types import Answer, Cost, LabelwiseError, Pool, Query

NAMES = ("a.jpg", "b.jpg", "sub/c.jpg")


def pool(names: tuple[str, ...] = NAMES, classes: tuple[str, ...] = ("cat", "dog"), width: int = 64) -> Pool:
    n = len(names)
    return Pool(Path("data"), classes, names, np.full(n, width, np.int64), np.full(n, 48, np.int64))


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "ledger.sqlite"


@pytest.fixture
def ledger(path: Path) -> Iterator[Ledger]:
    opened = Ledger.open(path, create=True)
    opened.add_images(pool())
    yield opened
    opened.close()


def box_query(rank: int = 0, image: str = "a.jpg", box: Any = (1.5, 2.0, 10.0, 20.0), round_number: int = 1) -> Query:
    return Query(round_number, rank, image, "box", box, 1, 0.25, {"entropy": 0.1, "why": "rare"})


def asked(ledger: Ledger, *queries: Query) -> list[Query]:
    ledger.add_queries(queries[0].round, queries)
    return [query for query in ledger.queries(queries[0].round) if query.rank in {q.rank for q in queries}]


def rows(path: Path, sql: str) -> list[tuple[Any, ...]]:
    connection = sqlite3.connect(path)
    try:
        return connection.execute(sql).fetchall()
    finally:
        connection.close()


def test_nothing_known_yet(ledger: Ledger) -> None:
    labels = ledger.labels(pool())
    assert (len(labels.annotations), len(labels.coverage.xyxy), labels.answered.any()) == (0, 0, False)
    assert ledger.cost() == Cost()
    assert ledger.annotation_rows()["label"].dtype == np.int64
    assert ledger.stages() == []


def test_a_second_opinion_is_kept_but_adds_no_labels(ledger: Ledger, path: Path) -> None:
    (query,) = asked(ledger, box_query())
    first = Answer(query.id, "object", [(1.0, 1.0, 2.0, 2.0)], [0], who="Ada", seconds=3.0)
    ledger.record(query, first, Cost(1, 1, 0, 3.0), "person Ada")
    second = replace(first, labels=[1], who="Bo")
    ledger.record_many([(query, second, Cost(1, 1, 0, 2.0)), (query, second, Cost(1, 1, 0, 2.0))], "person Bo")
    assert ledger.labels(pool()).annotations.labels.tolist() == [0]
    assert rows(path, "select ordinal, who, labels from answers order by id") == [
        (0, "Ada", "[0]"),
        (1, "Bo", "[1]"),
        (2, "Bo", "[1]"),
    ]
    assert ledger.cost() == Cost(boxes=1, queries=3, images=0, seconds=7.0)
    assert ledger.open_queries(1) == []


def test_corrections_supersede(ledger: Ledger, path: Path) -> None:
    (query,) = asked(ledger, box_query())
    ledger.record(query, Answer(query.id, "object", [(1.0, 1.0, 2.0, 2.0)], [0]), Cost(), "oracle")
    newer = ledger.correct(1, (1.0, 1.0, 5.0, 5.0), 1, "Ada")
    labels = ledger.labels(pool())
    assert (labels.annotations.xyxy.tolist(), labels.annotations.labels.tolist()) == ([[1, 1, 5, 5]], [1])
    with pytest.raises(LabelwiseError, match=f"annotation 1 of image a.jpg has been corrected by annotation {newer}"):
        ledger.correct(1, (1.0, 1.0, 5.0, 5.0), 1, "Bo")
    with pytest.raises(LabelwiseError, match="no annotation 77"):
        ledger.correct(77, (1.0, 1.0, 5.0, 5.0), 1, "Bo")
    with pytest.raises(
        LabelwiseError, match=r"correction of annotation 2, image a\.jpg: class number 2; expected 0 to 1"
    ):
        ledger.correct(newer, (1.0, 1.0, 5.0, 5.0), 2, "Bo")
    ledger.correct(newer, (1.0, 1.0, 5.0, 5.0), None, "Bo")  # there is no object
    assert len(ledger.labels(pool()).annotations) == 0
    assert rows(path, "select id, label, origin, supersedes, query_id from annotations") == [
        (1, 0, "oracle", None, 1),
        (2, 1, "person Ada", 1, 1),
        (3, None, "person Bo", 2, 1),
    ]


@pytest.mark.parametrize("table", ["annotations", "answers", "coverage", "background"])
@pytest.mark.parametrize(
    "sql", ["UPDATE {0} SET id = 9", "DELETE FROM {0}", "INSERT OR REPLACE INTO {0} SELECT * FROM {0}"]
)
def test_the_database_refuses_to_change_labels(ledger: Ledger, path: Path, table: str, sql: str) -> None:
    rejected, taken = asked(ledger, box_query(0), box_query(1))
    (whole,) = asked(ledger, Query(2, 0, "b.jpg", "image"))
    ledger.record(rejected, Answer(rejected.id, "background"), Cost(), "oracle")
    ledger.record(taken, Answer(taken.id, "object", [(1.0, 1.0, 2.0, 2.0)], [0]), Cost(), "oracle")
    ledger.record(whole, Answer(whole.id, "all"), Cost(), "oracle")
    before = rows(path, f"select * from {table}")
    with pytest.raises(LabelwiseError, match=f"{table} is append-only"), ledger.write() as connection:
        connection.exec_driver_sql(sql.format(table))
    assert before and rows(path, f"select * from {table}") == before


def test_add_images_is_idempotent_and_takes_new_images(ledger: Ledger) -> None:
    ledger.add_images(pool())
    ledger.add_images(pool(("0.jpg", *NAMES)))
    assert ledger.classes() == ("cat", "dog")
    assert len(ledger.labels(pool(("0.jpg", *NAMES))).answered) == 4
    with pytest.raises(LabelwiseError, match=r"hold different images, 0\.jpg among 1"):
        ledger.labels(pool())


@pytest.mark.parametrize("names", [(*NAMES, "e", "d", "f"), ("e", *NAMES[::-1], "d", "f"), ("e", "d"), NAMES[1:]])
def test_an_image_keeps_its_number_wherever_it_stands(
    ledger: Ledger, path: Path, names: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pool_images, "AT_ONCE", 2)
    width = np.arange(1, len(names) + 1)
    ledger.add_images(replace(pool(names), width_px=width))
    new = [name for name in names if name not in NAMES]
    stored = rows(path, "select name, number, width_px from images order by number")
    of_name = dict(zip(names, width.tolist(), strict=True))
    expected = [*((name, 64) for name in NAMES), *((name, of_name[name]) for name in new)]
    assert stored == [(name, k, width) for k, (name, width) in enumerate(expected)]
    every = tuple(name for name, _, _ in stored)
    for rank, order in enumerate((every, every[::-1])):
        (query,) = asked(ledger, Query(1, rank, order[0], "image"))
        ledger.record(query, Answer(query.id, "all"), Cost(), "oracle")
        assert ledger.labels(pool(order)).answered.nonzero()[0].tolist() == ([0] if not rank else [0, len(order) - 1])
        ledger.add_images(pool(order))
    assert len(rows(path, "select * from images")) == len(every)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        (pool(classes=("cat", "cow")), r"class list has changed .*gone: dog; new: cow"),
        (pool(classes=("dog", "cat")), r"class list has changed .*moved: dog, cat"),
        (pool(classes=("cat", "dog", "cow")), r"class list has changed .*new: cow"),
    ],
)
def test_a_changed_data_set_is_refused(ledger: Ledger, changed: Pool, message: str) -> None:
    with pytest.raises(LabelwiseError, match=message):
        ledger.add_images(changed)
    ledger.add_images(pool())


def test_only_unanswered_queries_can_be_replaced(ledger: Ledger) -> None:
    first, second = asked(ledger, box_query(0), box_query(1))
    ledger.record(first, Answer(first.id, "duplicate"), Cost(), "oracle")
    (other,) = asked(ledger, box_query(1, image="b.jpg"))
    assert other.image == "b.jpg" and other.id not in (first.id, second.id)
    with pytest.raises(LabelwiseError, match=r"query 2 .*image a\.jpg\) is not in the ledger .*it was replaced"):
        ledger.record(replace(second, rank=1), Answer(second.id, "duplicate"), Cost(), "oracle")
    with pytest.raises(LabelwiseError, match=r"query 0 of round 1 .*image a\.jpg\) is answered"):
        ledger.add_queries(1, [box_query(2), box_query(0, image="b.jpg")])
    ledger.add_queries(1, [box_query(0), box_query(2)])
    assert [query.rank for query in ledger.open_queries(1)] == [1, 2]


# ---- whatever the order of events, labels() equals a slow plain model ------------------------------------------------

BOXES = [(0.0, 0.0, 5.0, 5.0), (1.25, 2.5, 30.0, 40.0), (0.1, 0.1, 64.0, 48.0)]
EVENTS = st.one_of(
    st.tuples(st.just("ask"), st.sampled_from(NAMES), st.sampled_from([None, *BOXES])),
    st.tuples(
        st.just("answer"), st.integers(0, 9), st.sampled_from(["yes", "no", "skipped", "duplicate"]), st.integers(0, 2)
    ),
    st.tuples(st.just("correct"), st.integers(0, 9), st.sampled_from(BOXES), st.sampled_from([None, 0, 1])),
)


def plain_answer(query: Query, kind: str, n: int) -> Answer:
    if query.unit == "image":
        return Answer(query.id, "skipped") if kind == "skipped" else Answer(query.id, "all", BOXES[:n], [1] * n)
    if kind == "yes":
        return Answer(query.id, "object", [BOXES[n]], [0])
    return Answer(query.id, "background" if kind == "no" else kind)  # type: ignore[arg-type]


class PlainLedger:
    """The rules of DESIGN section 3 as lists and loops."""

    def __init__(self) -> None:
        self.annotations: list[dict[str, Any]] = []
        self.covered: list[str] = []
        self.background: list[tuple[str, Any]] = []
        self.answered: set[int | None] = set()
        self.images: set[str] = set()

    def record(self, query: Query, answer: Answer) -> None:
        if query.id in self.answered:
            return
        self.answered.add(query.id)
        self.images.add(query.image)
        for box, label in zip(answer.boxes, answer.labels, strict=True):
            self.annotations.append({"image": query.image, "box": box, "label": label, "old": False})
        if answer.verdict == "all":
            self.covered.append(query.image)
        if answer.verdict == "background":
            self.background.append((query.image, query.box))

    def correct(self, number: int, box: Any, label: int | None) -> None:
        old = self.annotations[number]
        old["old"] = True
        self.annotations.append({"image": old["image"], "box": box, "label": label, "old": False})

    def current(self, image: str) -> list[tuple[Any, int]]:
        mine = [a for a in self.annotations if a["image"] == image and not a["old"]]
        return [(a["box"], a["label"]) for a in mine if a["label"] is not None]


@settings(max_examples=30, deadline=None)
@given(st.lists(EVENTS, max_size=25))
def test_any_order_of_events_equals_the_plain_model(events: list[tuple[Any, ...]]) -> None:
    ledger, plain, n_answers = Ledger.open("sqlite://", create=True), PlainLedger(), 0
    ledger.add_images(pool())
    for event in events:
        queries = ledger.queries()
        if event[0] == "ask":
            _, image, box = event
            ledger.add_queries(1, [Query(1, len(queries), image, "image" if box is None else "box", box)])
        elif event[0] == "answer" and queries:
            query = queries[event[1] % len(queries)]
            answer = plain_answer(query, *event[2:])
            ledger.record(query, answer, Cost(queries=1), "oracle")
            plain.record(query, answer)
            n_answers += 1
        elif event[0] == "correct" and plain.annotations:
            number = event[1] % len(plain.annotations)
            if plain.annotations[number]["old"]:
                with pytest.raises(LabelwiseError, match="has been corrected"):
                    ledger.correct(number + 1, event[2], event[3], "Ada")
            else:
                ledger.correct(number + 1, event[2], event[3], "Ada")
                plain.correct(number, event[2], event[3])
    labels = ledger.labels(pool())
    for k, image in enumerate(NAMES):
        rows = slice(labels.annotations.offsets[k], labels.annotations.offsets[k + 1])
        boxes = [tuple(box) for box in labels.annotations.xyxy[rows].tolist()]
        expected = [(tuple(np.array(box, np.float32).tolist()), label) for box, label in plain.current(image)]
        assert list(zip(boxes, labels.annotations.labels[rows].tolist(), strict=True)) == expected
        assert len(labels.coverage.of(k)) == plain.covered.count(image)
        marks = np.array([box for name, box in plain.background if name == image], np.float32).reshape(-1, 4)
        np.testing.assert_array_equal(labels.background.of(k), marks)
        assert labels.answered[k] == (image in plain.images)
    assert {query.id for query in ledger.open_queries(1)} == {query.id for query in ledger.queries()} - plain.answered
    assert ledger.cost().queries == n_answers
    with ledger.read() as connection:  # nothing is ever lost
        count = connection.execute(sa.select(sa.func.count()).select_from(schema.annotation_table)).scalar()
    assert count == len(plain.annotations)
    ledger.close()


# ---- bad ends --------------------------------------------------------------------------------------------------------

RECORD_FOR_EVER = """
import sys
from labelwise.ledger.ledger import Ledger
from labelwise.types import Answer, Cost
ledger = Ledger.open(sys.argv[1])
for query in ledger.open_queries(1):
    answer = Answer(query.id, "all", [(0.0, 0.0, 1.0, 1.0)] * 40, [0] * 40)
    ledger.record(query, answer, Cost(40, 1, 1, 1.0), "oracle")
    print(query.id, flush=True)
"""
DIE_AT_COVERAGE = """
import os, signal, sys
import sqlalchemy as sa
from labelwise.ledger.ledger import Ledger
from labelwise.types import Answer, Cost
ledger = Ledger.open(sys.argv[1])
def die(connection, cursor, statement, *rest):
    if statement.startswith("INSERT INTO coverage"):
        os.kill(os.getpid(), signal.SIGKILL)
sa.event.listen(ledger.engine, "after_cursor_execute", die)
query = ledger.open_queries(1)[0]
answer = Answer(query.id, "all", [(0.0, 0.0, 1.0, 1.0)] * 2000, [0] * 2000)
with ledger.read() as connection:
    connection.exec_driver_sql("PRAGMA cache_size = 5")  # so that pages reach the disk before the commit
ledger.record(query, answer, Cost(), "oracle")
"""


def child(script: str, path: Path) -> subprocess.Popen[str]:
    return subprocess.Popen([sys.executable, "-c", script, str(path)], stdout=subprocess.PIPE, text=True)


def test_killed_in_the_middle_of_a_transaction(ledger: Ledger, path: Path) -> None:
    ledger.add_queries(1, [Query(1, k, NAMES[k % 3], "image") for k in range(500)])
    with child(DIE_AT_COVERAGE, path) as process:
        assert process.wait(timeout=60) == -signal.SIGKILL
    assert len(ledger.open_queries(1)) == 500 and len(ledger.labels(pool()).annotations) == 0
    with child(RECORD_FOR_EVER, path) as process:
        assert process.stdout is not None
        acknowledged = [int(process.stdout.readline()) for _ in range(20)]
        os.kill(process.pid, signal.SIGKILL)
        acknowledged += [int(line) for line in process.stdout.read().splitlines(keepends=True) if line.endswith("\n")]
    assert rows(path, "pragma integrity_check") == [("ok",)]
    answered = {row[0] for row in rows(path, "select query_id from answers")}
    assert set(acknowledged) <= answered and len(answered) <= len(acknowledged) + 1 < 500
    per_answer = rows(path, "select count(*) from annotations group by answer_id")
    assert set(per_answer) == {(40,)} and len(per_answer) == len(answered)
    assert rows(path, "select count(*) from coverage") == [(len(answered),)]


def test_two_writers_wait_for_each_other(ledger: Ledger, path: Path) -> None:
    queries = asked(ledger, *(box_query(k) for k in range(60)))
    other = Ledger.open(path)

    def answer(mine: Ledger, some: list[Query]) -> None:
        for query in some:
            mine.record(query, Answer(query.id, "background"), Cost(queries=1), "oracle")

    threads = [threading.Thread(target=answer, args=args) for args in ((ledger, queries[:40]), (other, queries[20:]))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    other.close()
    assert ledger.open_queries(1) == []
    assert ledger.cost().queries == 80  # 20 were answered twice
    assert len(ledger.labels(pool()).background.xyxy) == 60


def test_disk_full_rolls_back_and_can_be_resumed(ledger: Ledger) -> None:
    kept, query = asked(ledger, Query(1, 0, "a.jpg", "image"), Query(1, 1, "b.jpg", "image"))
    ledger.record(kept, Answer(kept.id, "all", [(0.0, 0.0, 1.0, 1.0)], [0]), Cost(), "oracle")
    big = Answer(query.id, "all", [(0.0, 0.0, 1.0, 1.0)] * 5000, [0] * 5000)

    def limit(pages: int) -> None:
        with ledger.write() as connection:
            connection.exec_driver_sql(f"PRAGMA max_page_count = {pages}")

    limit(40)
    with pytest.raises(LabelwiseError, match=r"disk full while writing the ledger .* nothing was lost.* run the same"):
        ledger.record(query, big, Cost(), "oracle")
    assert len(ledger.labels(pool()).annotations) == 1 and ledger.open_queries(1) == [query]
    limit(1_000_000)
    ledger.record(query, big, Cost(), "oracle")
    assert len(ledger.labels(pool()).annotations) == 5001


def test_a_newer_ledger_is_refused(ledger: Ledger, path: Path) -> None:
    with ledger.write() as connection:
        connection.execute(sa.update(schema.meta).where(schema.meta.c.key == "schema_version").values(value=7))
    with pytest.raises(
        LabelwiseError, match=r"made by a newer labelwise \(schema 7, this one reads up to 1\): upgrade"
    ):
        Ledger.open(path)


@pytest.mark.parametrize("create", [False, True])
def test_files_that_are_no_ledger(tmp_path: Path, create: bool) -> None:
    text, other, cut = tmp_path / "text", tmp_path / "other", tmp_path / "cut"
    text.write_text("something else\n" * 100)
    connection = sqlite3.connect(other)
    connection.execute("create table t (x)")
    connection.commit()
    connection.close()
    full = Ledger.open(tmp_path / "full", create=True)
    full.close()
    cut.write_bytes((tmp_path / "full").read_bytes()[:10_000])
    for path, message in ((text, "not an SQLite file"), (other, "no schema version"), (cut, "is damaged")):
        with pytest.raises(LabelwiseError, match=message) as error:
            Ledger.open(path, create=create)
        assert str(path) in str(error.value)


def test_a_missing_ledger_and_one_that_was_never_finished(path: Path) -> None:
    with pytest.raises(LabelwiseError, match="there is no ledger at"):
        Ledger.open(path)
    path.touch()  # killed between making the file and its first transaction
    with pytest.raises(LabelwiseError, match="no schema version"):
        Ledger.open(path)
    ledger = Ledger.open(path, create=True)
    assert ledger.classes() == ()
    ledger.close()


def test_urls() -> None:
    with pytest.raises(LabelwiseError, match="cannot open the ledger nosuch://x"):
        Ledger.open("nosuch://x")
    dialect = postgresql.dialect()
    statements = [str(sa.schema.CreateTable(t).compile(dialect=dialect)) for t in schema.metadata.sorted_tables]
    assert len(statements) == 21 and any("DOUBLE PRECISION" in statement for statement in statements)


def test_stages(ledger: Ledger) -> None:
    assert ledger.stage_done(0, "train") is None
    ledger.mark_started(0, "train")
    assert ledger.stage_done(0, "train") is None
    (state,) = ledger.stages()
    assert (state["round"], state["stage"], state["state"]) == (0, "train", "started")
    ledger.mark_done(0, "train", {"loss": np.float32(0.5), "skipped": [("a.jpg", "broken")]}, 1.5)
    assert ledger.stage_done(0, "train") == {"loss": 0.5, "skipped": [["a.jpg", "broken"]], "wall_s": 1.5}
    ledger.mark_started(1, "train")
    assert [(s["round"], s["state"]) for s in ledger.stages()] == [(0, "done"), (1, "started")]
