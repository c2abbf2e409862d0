"""Seconds learnt from a project's own answers: medians, pauses cut, people apart, the published table as the start."""

from __future__ import annotations

import itertools
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from labelwise.ask.cost import CostTable, actions, cost, expected_seconds
from labelwise.ask.learned_cost import ACTIONS, PAUSE, STRENGTH, Timing, _least_absolute, learn
from labelwise.ledger.ledger import Ledger
from labelwise.project.prices import Prices, lines
from labelwise.types import Answer, Cost, Pool, Query

TABLE = CostTable()
IMAGE = Query(round=0, rank=0, image="a.jpg", unit="image", id=1)


def test_actions_add_up_to_what_the_table_says():
    box = Query(round=1, rank=0, image="a.jpg", unit="box", box=(0, 0, 5, 5), label=0, id=1)
    cases = [
        (IMAGE, Answer(1, "all", boxes=[(0, 0, 2, 2)] * 3, labels=[0] * 3), {"inspect": 1, "draw": 3}),
        (IMAGE, Answer(1, "all"), {"inspect": 1, "draw": 0}),
        (box, Answer(1, "object", [(0, 0, 5, 5)], [0]), {"verify": 1}),
        (box, Answer(1, "object", [(0, 0, 4, 5)], [0]), {"verify": 1, "adjust": 1}),
        (box, Answer(1, "background"), {"reject": 1}),
    ]
    for query, answer, expected in cases:
        assert actions(query, answer) == expected
        assert cost(query, answer).seconds == pytest.approx(expected_seconds(expected, TABLE))
    assert actions(IMAGE, Answer(1, "all", [(0, 0, 2, 2)], [0]), one_class=True) == {"classify": 1}


@pytest.mark.parametrize("seed", range(4))
def test_least_absolute_errors_are_no_larger_than_on_a_grid(seed):
    rng = np.random.default_rng(seed)
    boxes = rng.integers(0, 6, 40)
    done = np.zeros((40, len(ACTIONS)))
    done[:, ACTIONS.index("inspect")], done[:, ACTIONS.index("draw")] = 1, boxes
    seconds = (3 + 9 * boxes) * np.exp(rng.normal(0, 0.6, 40))
    prior = np.array([getattr(TABLE, name) for name in ACTIONS])

    def loss(inspect, draw):
        scale = np.maximum(7.8 + 7 * boxes, 0.1)
        own = STRENGTH * (abs(inspect - 7.8) / 7.8 + abs(draw - 7) / 7)
        return float((np.abs(seconds - inspect - draw * boxes) / scale).sum()) + own

    found = _least_absolute(done, seconds, prior, STRENGTH)
    best = min(loss(a, b) for a, b in itertools.product(np.linspace(1, 16, 61), np.linspace(2, 18, 65)))
    assert loss(found[ACTIONS.index("inspect")], found[ACTIONS.index("draw")]) <= best * 1.005
    untouched = [name for name in ACTIONS if name not in ("inspect", "draw")]
    assert [found[ACTIONS.index(name)] for name in untouched] == pytest.approx([getattr(TABLE, n) for n in untouched])


def timings(rng, speeds, n, pauses=0.0):
    made = []
    for who, speed in speeds.items():
        for _ in range(n):
            taken = speed * 2 * float(np.exp(rng.normal(-0.045, 0.3)))
            made.append(Timing(who, {"reject": 1}, taken + (900 if rng.random() < pauses else 0)))
    return made


def test_people_have_tables_of_their_own_and_somebody_new_has_everybodys():
    found = learn(timings(np.random.default_rng(0), {"ann": 1.0, "ben": 3.0}, 200, pauses=0.05), TABLE)
    assert found.table("ann").reject == pytest.approx(2, rel=0.1) and found.table("ben").reject == pytest.approx(
        6, rel=0.1
    )
    assert found.table("ann").reject < found.table("new").reject < found.table("ben").reject
    assert found.table("ann").draw == TABLE.draw, "nobody has drawn"
    assert found.answers == {"ann": 200, "ben": 200}


def test_few_answers_stay_near_what_is_known_of_others():
    rng = np.random.default_rng(1)
    many, few = timings(rng, {"ann": 1.0, "ben": 1.1, "cem": 0.9}, 100), timings(rng, {"dan": 3.0}, 3)
    found = learn([*many, *few], TABLE)
    own = np.mean([one.seconds for one in few])
    assert found.table("ann").reject < found.table("dan").reject < own
    assert learn([], TABLE).table("ann") == TABLE


def test_a_pause_costs_what_the_answer_would_have():
    found = learn(timings(np.random.default_rng(2), {"ann": 2.0}, 100, pauses=0.1), TABLE)
    expected = found.table("ann").reject
    assert found.seconds("ann", {"reject": 1}, 900.0) == found.seconds("ann", {"reject": 1}) == expected
    assert found.seconds("ann", {"reject": 1}, 1.5) == 1.5
    assert found.seconds("ann", {"reject": 1}, PAUSE * expected) == PAUSE * expected


ANY = st.dictionaries(st.sampled_from(ACTIONS), st.integers(0, 30), min_size=1, max_size=3)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.sampled_from("abc"), ANY, st.floats(0.01, 1e5)), max_size=25))
def test_any_answers_give_tables_of_positive_seconds(rows):
    found = learn([Timing(*row) for row in rows], TABLE)
    for table in (found.everybody, *found.by_person.values()):
        assert all(0 < getattr(table, name) < 1e6 for name in ACTIONS)


def context(ledger: Ledger, learn_cost: bool) -> SimpleNamespace:
    run = SimpleNamespace(cost=TABLE, classifies=False, ask=SimpleNamespace(learn_cost=learn_cost))
    return SimpleNamespace(run=run, project=SimpleNamespace(ledger=ledger))


def test_a_project_learns_from_its_ledger_only_where_it_says_so(tmp_path: Path) -> None:
    ledger = Ledger.open(tmp_path / "ledger.sqlite", create=True)
    names = tuple(f"{k}.jpg" for k in range(60))
    size = np.full(60, 64, np.int64)
    ledger.add_images(Pool(Path("data"), ("cat",), names, size, size))
    ledger.add_queries(1, [Query(1, k, name, "image") for k, name in enumerate(names)])
    asked = ledger.queries(1)
    for k, query in enumerate(asked[:50]):
        who, seconds = ("ann", 4.0) if k % 2 else ("ben", 9.0)
        answer = Answer(query.id or 0, "all", (), (), who, 1800.0 if k == 7 else seconds)
        ledger.record_many([(query, answer, Cost(0, 1, 1, seconds))], f"person {who}")
    late, silent = (Answer(asked[55].id or 0, "all", (), (), "ann", seconds) for seconds in (1800.0, 0.0))
    plain, learning = Prices(context(ledger, False)), Prices(context(ledger, True))
    assert plain.of(asked[55], late).seconds == 1800 and plain.of(asked[55], silent).seconds == TABLE.inspect
    assert 3.5 < learning.of(asked[55], silent).seconds < 5.5
    assert learning.of(asked[55], late) == learning.of(asked[55], silent), "the pause is cut"
    told = lines(context(ledger, True))
    assert "table 7.8" in told[0] and "ann 25, ben 25" in told[0].replace("ben 25, ann 25", "ann 25, ben 25")
    assert lines(context(ledger, False)) == []
    ledger.close()
