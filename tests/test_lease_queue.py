"""Windows that are served together get and leave behind what they would one after the other: all answers come first."""

from __future__ import annotations

import threading
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import sqlalchemy as sa

from labelwise.ledger import schema as t
from labelwise.ledger.ledger import Ledger
from labelwise.queue.lease_queue import Lease, LeaseError, LeaseQueue, Request, Submission
from labelwise.queue.leases import Leases
from labelwise.types import Answer, Cost, LabelwiseError, Pool, Query

PEOPLE = ("Ada", "Bo", "Cy", "Di")
LEFT_OUT = ("created", "secret")
"""Columns that differ from run to run."""


def price(_query: Query, answer: Answer) -> Cost:
    return Cost(len(answer.boxes), 1, 0, answer.seconds)


def ledger_of(where: Path | str, n: int) -> Ledger:
    sizes = np.full(2, 64, np.int64), np.full(2, 48, np.int64)
    opened = Ledger.open(where, create=True)
    opened.add_images(Pool(Path("data"), ("cat", "dog"), ("a.jpg", "b.jpg"), *sizes))
    opened.mark_started(1, "ask")
    opened.add_queries(1, [Query(1, k, "ab"[k % 2] + ".jpg", "box", (1.0, 2.0, 40.0, 20.0), k % 2) for k in range(n)])
    return opened


class Site:
    """One ledger, and what its windows were given: leases by query and person, old ones too."""

    def __init__(self, ledger: Ledger, overlap: int) -> None:
        self.ledger = ledger
        self.turns = LeaseQueue(ledger, 10.0, overlap)
        self.given: dict[tuple[str, int], Lease] = {}

    def turn(self, who: str, tab: str, at: float, said: tuple[int, str] | None, **want: Any) -> Request:
        if said is None:
            return Request(who, tab, at, **want)
        boxes, labels = ([(2.0, 3.0, 20.0, 18.0)], [1]) if said[1] == "object" else ([], [])
        answer = Answer(said[0], said[1], boxes, labels, who, 1.0)  # type: ignore[arg-type]
        return Request(
            who, tab, at, submission=Submission(answer, self.given[who, said[0]].secret, price, None), **want
        )

    def serve(self, connection: sa.Connection, turns: list[Request], together: bool) -> list[Any]:
        """What the windows hear but for the secrets and what is known: together they may know more of an image."""
        served = self.turns.serve(connection, turns) if together else []
        for wave in [] if together else self.turns._waves(turns):
            done = [self.turns.serve(connection, [replace(turn, most=0)])[0][0] for turn in wave]
            then = [self.turns.serve(connection, [replace(turn, submission=None)])[0][1] for turn in wave]
            served += zip(done, then, strict=True)
        for turn, (_, leases) in zip(turns, served, strict=True):
            self.given |= {(turn.who, lease.query.id or 0): lease for lease in leases}
        return [(done, [(lease.query, lease.expires) for lease in leases]) for done, leases in served]


def content(connection: sa.Connection) -> dict[str, list[tuple[Any, ...]]]:
    tables = (t.answers, t.leases, t.annotation_table, t.background, t.coverage)
    rows = {}
    for table in tables:
        columns = [column for column in table.c if column.name not in LEFT_OUT]
        rows[table.name] = [tuple(row) for row in connection.execute(sa.select(*columns).order_by(table.c.id))]
    return rows


@pytest.mark.parametrize("overlap", [1, 2])
@pytest.mark.parametrize("seed", range(6))
def test_together_is_as_one_after_the_other(
    tmp_path: Path, request: pytest.FixtureRequest, seed: int, overlap: int
) -> None:
    """Reloaded pages, repeated and late answers, two windows of one person, expiry, grids, the end of the queue."""
    chance = np.random.default_rng(seed)
    places = [tmp_path / "a.sqlite", tmp_path / "b.sqlite"]
    if seed == 5:
        fresh = request.getfixturevalue("postgres")
        places = [fresh(), fresh()]
    sites = [Site(ledger_of(where, 40), overlap) for where in places]
    heard, at = 0, 0.0
    words: dict[str, str] = {}  # by lease: what it says, again and again
    with sites[0].ledger.write() as one, sites[1].ledger.write() as other:
        for _ in range(25):
            at += float(chance.choice([0.5, 4.0]))
            script = []
            for _ in range(int(chance.integers(1, 7))):
                who = str(chance.choice(PEOPLE))
                mine = [query for person, query in sites[0].given if person == who]
                said = None
                if mine and chance.random() < 0.7:
                    query, word = int(chance.choice(mine)), str(chance.choice(["object", "background", "duplicate"]))
                    said = (query, words.setdefault(sites[0].given[who, query].secret, word))
                holding = [int(q) for q in mine if chance.random() < 0.3 and (said is None or q != said[0])][:3]
                want = {"most": int(chance.integers(0, 5)), "holding": holding, "alike": bool(chance.random() < 0.2)}
                script.append((who, f"window-{chance.integers(2)}", at, said, want))
            outcomes = []
            for site, connection, together in zip(sites, (one, other), (True, False), strict=True):
                turns = [site.turn(*line[:4], **line[4]) for line in script]
                outcomes.append(site.serve(connection, turns, together))
            assert outcomes[0] == outcomes[1]
            heard += sum(done is not None for done, _ in outcomes[0])
        found = content(one)
        assert found == content(other)
    assert heard > 20 and len(found["answers"]) > 10 and found["annotations"]
    for site in sites:
        site.ledger.close()


def test_an_answer_that_fails_takes_no_place_in_the_queue(tmp_path: Path) -> None:
    """Of four windows at once one forges a lease and one sends a box without area: two are served as usual."""
    ledger = ledger_of(tmp_path / "ledger.sqlite", 12)
    leases = Leases(ledger)
    held = {who: leases.take(who, f"window-{who}", 0.0)[0] for who in PEOPLE}
    gate, at_it = threading.Event(), threading.Event()

    def wait(_connection: sa.Connection) -> None:
        at_it.set()
        gate.wait(30)

    blocked = threading.Thread(target=leases._commits.do, args=(wait,))
    blocked.start()
    assert at_it.wait(30)
    futures = []
    for who, lease in held.items():
        boxes = [(9.0, 9.0, 9.0, 9.0)] if who == "Cy" else [(2.0, 3.0, 20.0, 18.0)]
        answer = Answer(lease.query.id or 0, "object", boxes, [1], who)
        secret = "forged" if who == "Bo" else lease.secret
        futures.append(leases.answer_and_take(answer, secret, price, 1.0, tab=f"window-{who}"))
    assert len(leases._commits._waiting) == 4, "all of them wait for one transaction"
    gate.set()
    blocked.join()
    (ada, first), (di, second) = futures[0].result(30), futures[3].result(30)
    assert ada is not None and ada.counts and di is not None and di.counts
    assert [lease.query.rank for lease in (*first, *second)] == [4, 5], "nothing was passed over"
    with pytest.raises(LeaseError, match="no such lease of Bo"):
        futures[1].result(30)
    with pytest.raises(LabelwiseError, match="has no area"):
        futures[2].result(30)
    assert len(ledger.verdicts(1)) == 2
    ledger.close()


def test_a_window_that_came_before_the_questions_gets_the_first_of_them(tmp_path: Path) -> None:
    ledger = ledger_of(tmp_path / "ledger.sqlite", 0)
    leases = Leases(ledger, 10.0, 1)
    assert leases.take("Ada", "window-1", 0.0, most=3) == [], "the round asks, and its questions are not there yet"
    ledger.add_queries(1, [Query(1, k, "a.jpg", "box", (1.0, 2.0, 40.0, 20.0), 0) for k in range(4)])
    assert [one.query.rank for one in leases.take("Ada", "window-1", 0.5, most=3)] == [0, 1, 2]
    ledger.close()
