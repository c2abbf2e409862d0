"""A team on one project: several opinions per query and how far they agree, shared transactions, sessions."""

from __future__ import annotations

import threading
import time
from typing import Any

import pytest
import sqlalchemy as sa
from test_leases import BOX, price, queries, say
from test_leases import ledger as ledger  # a fixture

from labelwise.ledger import schema as t
from labelwise.ledger.agreement import agreement, compare_answers
from labelwise.ledger.ledger import Ledger
from labelwise.ledger.progress import missing_classes
from labelwise.queue.accounts import Accounts
from labelwise.queue.group_commit import GroupCommit
from labelwise.queue.leases import Leases
from labelwise.types import Answer, LabelwiseError

# --------------------------------------------------------------------------------------------------- several opinions


def test_agreement_by_hand(ledger: Ledger) -> None:
    """Query 1: Ada and Bo agree on a cat, Bo has a dog more: 2 * 1 / 3. Query 2: dog against nothing: 0. Query 3: both
    say that there is nothing: 1. Query 4 was skipped by one of the two, query 5 has one answer: neither is compared.
    """
    cat, near, dog = (0.0, 0.0, 10.0, 10.0), (0.0, 0.0, 10.0, 8.0), (20.0, 20.0, 30.0, 30.0)
    found = compare_answers(
        [
            Answer(1, "all", [cat], [0], "Ada"),
            Answer(1, "all", [dog, near], [1, 0], "Bo"),
            Answer(2, "object", [dog], [1], "Ada"),
            Answer(2, "background", who="Bo"),
            Answer(3, "background", who="Ada"),
            Answer(3, "background", who="Cy"),
            Answer(5, "object", [dog], [1], "Ada"),
        ]
    )
    assert found["queries"] == 3
    assert found["by_class"] == [{"label": 0, "objects": 2, "share": 1.0}, {"label": 1, "objects": 2, "share": 0.0}]
    shares = {row["who"]: (row["pairs"], row["share"]) for row in found["by_person"]}
    assert shares == {"Ada": (3, pytest.approx(5 / 9)), "Bo": (2, pytest.approx(1 / 3)), "Cy": (1, 1.0)}

    ledger.add_queries(1, queries(2))
    leases = Leases(ledger, overlap=2)
    say(leases, "Ada", 0.0, "object", (BOX, 0))
    say(leases, "Ada", 1.0, "skipped")
    say(leases, "Bo", 2.0, "object", (BOX, 0))
    say(leases, "Bo", 3.0, "object", (BOX, 0))
    assert agreement(ledger) == {
        "queries": 1,
        "by_class": [{"label": 0, "objects": 2, "share": 1.0}],
        "by_person": [{"who": who, "pairs": 1, "share": 1.0} for who in ("Ada", "Bo")],
    }
    leases.undo("Bo", "tab-of-Bo", 4.0)
    leases.undo("Bo", "tab-of-Bo", 4.0)
    assert agreement(ledger)["queries"] == 0, "what was taken back is not compared"


# ---------------------------------------------------------------------------------------------- classes that are missed


def test_missing_classes_are_counted(ledger: Ledger) -> None:
    ledger.add_queries(1, queries(4))
    leases = Leases(ledger)
    for at, note in enumerate(("missing class: emu", "too dark", "missing class: gnu", "missing class: emu")):
        [lease] = leases.take("Ada", "tab-of-Ada", float(at))
        answer = Answer(lease.query.id or 0, "skipped", who="Ada", note=note)
        leases.answer(answer, lease.secret, price, float(at))
    assert missing_classes(ledger) == [{"name": "emu", "answers": 2}, {"name": "gnu", "answers": 1}]
    leases.undo("Ada", "tab-of-Ada", 9.0)
    assert missing_classes(ledger) == [{"name": "emu", "answers": 1}, {"name": "gnu", "answers": 1}]


# -------------------------------------------------------------------------------------------------- shared transactions


def meet(together: GroupCommit, steps: list[Any]) -> list[Any]:
    """Runs steps in threads so that they share a transaction: the first one holds the turn until all others wait."""
    outcomes: list[Any] = [None] * len(steps)

    begun = threading.Event()

    def first(_connection: sa.Connection) -> None:
        begun.set()
        until = time.time() + 30
        while len(together._waiting) < len(steps) and time.time() < until:
            time.sleep(0.005)

    def run(k: int) -> None:
        try:
            outcomes[k] = together.do(steps[k])
        except Exception as error:
            outcomes[k] = error

    head = threading.Thread(target=together.do, args=(first,))
    head.start()
    assert begun.wait(30), "else the others would share its transaction"
    threads = [threading.Thread(target=run, args=(k,)) for k in range(len(steps))]
    for thread in threads:
        thread.start()
    for thread in (head, *threads):
        thread.join()
    return outcomes


def test_steps_share_a_commit_and_one_that_fails_takes_back_its_own(ledger: Ledger) -> None:
    commits: list[int] = []
    sa.event.listen(ledger.engine, "commit", lambda _connection: commits.append(1))

    def put(key: str, fail: bool = False) -> Any:
        def step(connection: sa.Connection) -> str:
            connection.execute(sa.insert(t.meta), {"key": key, "value": 1})
            if fail:
                raise LabelwiseError(f"{key} does not fit")
            return key

        return step

    assert meet(GroupCommit(ledger), [put("d"), put("e")]) == ["d", "e"] and len(commits) == 2
    a, b, c = meet(GroupCommit(ledger), [put("a"), put("b", fail=True), put("c")])
    assert (a, c) == ("a", "c") and isinstance(b, LabelwiseError)
    with ledger.read() as connection:
        keys = connection.execute(sa.select(t.meta.c.key)).scalars().all()
    assert {"a", "c"} <= set(keys) and "b" not in keys


def test_an_error_of_the_database_fails_its_own_step(ledger: Ledger) -> None:
    def good(connection: sa.Connection) -> None:
        connection.execute(sa.insert(t.meta), {"key": "good", "value": 1})

    def twice(connection: sa.Connection) -> None:
        connection.execute(sa.insert(t.meta), [{"key": "twice", "value": 1}] * 2)

    outcomes = meet(GroupCommit(ledger), [twice, good])
    assert isinstance(outcomes[0], LabelwiseError) and outcomes[1] is None
    with ledger.read() as connection:
        keys = connection.execute(sa.select(t.meta.c.key)).scalars().all()
    assert "good" in keys and "twice" not in keys


# ------------------------------------------------------------------------------------------------------------ sessions


def test_a_session_is_remembered_for_a_moment_and_forgotten_at_once(ledger: Ledger) -> None:
    people = Accounts(ledger)
    entered = people.enter(people.invite("Ada", "annotator", 0.0), 0.0)
    assert entered is not None
    token = entered[0]
    assert people.person_of_session(token, 0.0) is None
    assert (
        people.session(token, 0.0) == people.person_of_session(token, 0.5)
        and people.person_of_session(token, 0.5) is not None
    )
    assert people.person_of_session(token, 1.5) is None and people.person_of_session(token, -1.0) is None
    people.revoke("Ada")
    assert people.person_of_session(token, 0.5) is None and people.session(token, 0.5) is None
