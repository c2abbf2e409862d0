"""A ledger on PostgreSQL: refuses what SQLite refuses, keeps its password to itself, and carries a whole run."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import sqlalchemy as sa

from labelwise import config, loop
from labelwise.ledger.ledger import Ledger
from labelwise.project import opening
from labelwise.queue.leases import Leases
from labelwise.types import Answer, Cost, LabelwiseError, Pool, Query

BOX = (1.0, 2.0, 40.0, 20.0)


@pytest.fixture
def url(postgres: Callable[[], str]) -> str:
    return postgres()


def filled(url: str, n: int) -> Ledger:
    sizes = np.full(1, 64, np.int64), np.full(1, 48, np.int64)
    ledger = Ledger.open(url, create=True)
    ledger.add_images(Pool(Path("data"), ("cat",), ("a.jpg",), *sizes))
    ledger.mark_started(1, "ask")
    ledger.add_queries(1, [Query(1, k, "a.jpg", "box", BOX, 0) for k in range(n)])
    return ledger


@pytest.mark.parametrize("table", ["annotations", "answers", "background"])
@pytest.mark.parametrize("sql", ["UPDATE {0} SET id = 9", "DELETE FROM {0}"])
def test_the_database_refuses_to_change_labels(url: str, table: str, sql: str) -> None:
    ledger = filled(url, 2)
    taken, rejected = ledger.queries(1)
    ledger.record(taken, Answer(taken.id or 0, "object", [BOX], [0]), Cost(), "oracle")
    ledger.record(rejected, Answer(rejected.id or 0, "background"), Cost(), "oracle")
    with pytest.raises(LabelwiseError, match=f"{table} is append-only"), ledger.write() as connection:
        connection.exec_driver_sql(sql.format(table))
    with ledger.read() as connection:
        assert connection.exec_driver_sql(f"SELECT count(*) FROM {table}").scalar() in (1, 2)
    ledger.close()


def test_what_is_read_is_of_one_instant(url: str) -> None:
    ledger, other = filled(url, 2), Ledger.open(url)
    first, second = ledger.queries(1)
    ledger.record(first, Answer(first.id or 0, "background"), Cost(queries=1), "oracle")
    with ledger.read() as connection:
        before = ledger.costs_within(connection)
        other.record(second, Answer(second.id or 0, "background"), Cost(queries=1), "oracle")
        assert ledger.costs_within(connection) == before
    assert ledger.cost().queries == 2
    ledger.close()
    other.close()


def test_two_servers_give_no_query_twice(url: str) -> None:
    ledgers = [filled(url, 60), Ledger.open(url)]
    answered: list[int] = []
    errors: list[Exception] = []

    def work(leases: Leases, who: str) -> None:
        try:
            while got := leases.take(who, f"tab-{who}", time.time(), most=2):
                for lease in got:
                    answer = Answer(lease.query.id or 0, "background", who=who)
                    assert leases.answer(answer, lease.secret, lambda _q, _a: Cost(queries=1), time.time()).counts
                    answered.append(answer.query)
        except Exception as error:
            errors.append(error)

    servers = [Leases(ledger) for ledger in ledgers]
    threads = [threading.Thread(target=work, args=(servers[k % 2], f"person{k}")) for k in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == [] and sorted(answered) == sorted(set(answered)) and len(answered) == 60
    for ledger in ledgers:
        ledger.close()


def test_what_another_server_gave_out_during_the_search_is_not_given_again(url: str) -> None:
    """The search of the slow server waits, after PostgreSQL has fixed what it sees, until the quick one has given out
    the same queries.
    """
    slow, quick = filled(url, 6), Ledger.open(url)
    waits: list[str] = []

    def wait(_connection: Any, _cursor: Any, sql: str, values: Any, *_: Any) -> tuple[str, Any]:
        if "SKIP LOCKED" in sql and not waits:
            waits.append(sql)
            sql = sql.replace("WHERE ", "WHERE (SELECT pg_advisory_lock(7)::text) IS NOT NULL AND ", 1)
        return sql, values

    given: list[int | None] = []
    with quick.engine.connect().execution_options(isolation_level="AUTOCOMMIT") as gate:
        gate.exec_driver_sql("SELECT pg_advisory_lock(7)")
        sa.event.listen(slow.engine, "before_cursor_execute", wait, retval=True)
        late = threading.Thread(
            target=lambda: given.extend(lease.query.id for lease in Leases(slow).take("Ada", "a", time.time(), most=2))
        )
        late.start()
        waiting = "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND NOT granted"
        while not gate.exec_driver_sql(waiting).scalar():
            time.sleep(0.01)
        first = [lease.query.id for lease in Leases(quick).take("Bo", "b", time.time(), most=2)]
        gate.exec_driver_sql("SELECT pg_advisory_unlock(7)")
        late.join()
    assert waits and len(first) == len(given) == 2 and not set(first) & set(given)
    slow.close()
    quick.close()


def test_a_run_keeps_its_ledger_there_and_goes_on(url: str, tmp_path: Path) -> None:
    settings = ["data.scenes={train=12, test=4, seed=3, size_px=96}", "budget.start_images=4", f'ledger="{url}"']
    folder = tmp_path / "run"
    opened = opening.start(folder, "demo", settings)
    with opened.project.lock():
        loop.begin(opened)
        for stage in ("predict", "score", "select", "ask"):
            assert loop.run_stage(opened, 0, stage)
    opened.project.close()
    again = opening.start(folder, None)
    assert config.load(folder / "run.toml").ledger == url and not (folder / "ledger.sqlite").exists()
    assert loop.next_stage(again) == (0, "label") and len(again.project.ledger.verdicts(0)) > 0
    again.project.close()
    with pytest.raises(LabelwiseError, match="is the ledger of another project; name an empty database"):
        opening.start(tmp_path / "other", "demo", settings)
    assert not (tmp_path / "other" / "run.toml").exists()


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ("postgresql+psycopg://me:hush@/nosuch?host={}", 'database "nosuch" does not exist'),
        ("postgresql+psycopg://me:hush@/x?host=/nowhere", "refused this step|cannot be reached"),
    ],
)
def test_an_error_tells_no_password(url: str, wrong: str, message: str) -> None:
    with pytest.raises(LabelwiseError, match=message) as error:
        Ledger.open(wrong.format(url.partition("host=")[2]))
    assert "hush" not in str(error.value) and "***" in str(error.value)


def test_a_url_in_the_settings(tmp_path: Path) -> None:
    recipe: Any = {"data": {"scenes": {"train": 4}}, "ledger": "cats.sqlite"}
    with pytest.raises(LabelwiseError, match="ledger"):
        config.parse(recipe, "run.toml")
